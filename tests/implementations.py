"""The registry: every implementation of the operators that the tests hold to the laws."""

from collections.abc import Callable
from dataclasses import dataclass

from deformable_convnets.reference.oracle.implementation import REFERENCE, Implementation


@dataclass(frozen=True)
class Entry:
    """An implementation, the backend it needs, and why that cannot run here (or nothing)."""

    implementation: Implementation
    backend: str | None = None
    missing: Callable[[], str] = lambda: ""

    @property
    def name(self) -> str:
        return self.implementation.name


ENTRIES = {entry.name: entry for entry in [Entry(REFERENCE)]}
