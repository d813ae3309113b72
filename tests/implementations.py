"""The registry: every implementation of the operators that the tests hold to the laws.

An entry is the reference in each dtype, a version of a GPU backend, or the CuPy array program on
NumPy arrays. All enter the same tests, by name.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import devices
import numpy as np

from deformable_convnets import gpu
from deformable_convnets.reference.oracle.implementation import NAMES, REFERENCE, Implementation


@dataclass(frozen=True)
class Entry:
    """An implementation, the backend it needs, and why that cannot run here (or nothing)."""

    implementation: Implementation
    backend: str | None = None
    missing: Callable[[], str] = lambda: ""

    @property
    def name(self) -> str:
        return self.implementation.name
