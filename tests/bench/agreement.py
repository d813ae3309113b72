"""Whether two implementations agree, and whether the cases that show it reach everything."""

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy import ndarray as Array

Features = dict[str, Callable[[Any], Any]]


def error(actual: Array | None, expected: Array | None) -> float:
    """The largest difference, relative to the largest entry of what was expected."""
    if actual is None or expected is None:
        return 0.0 if actual is expected else float("inf")
    if actual.shape != expected.shape or not np.isfinite(actual).all():
        return float("inf")
    if expected.size == 0:
        return 0.0
    scale = float(np.abs(expected).max())
    return float(np.abs(actual - expected).max()) / (scale or 1.0)


def agree(errors: dict[str, float], tolerance: float) -> None:
    """Raise where an error is too large, or is not a number."""
    wrong = {name: value for name, value in errors.items() if not value <= tolerance}
    if wrong:
        raise AssertionError(f"relative to the largest entry, expected {tolerance}: {wrong}")


def reaches_everything(
    cases: Sequence[Any], features: Features, lacking: frozenset[str] = frozenset()
) -> None:
    """Raise where a feature is in all or none of the cases and is not known to be lacking."""
    covered = {(name, bool(has(case))) for case, (name, has) in product(cases, features.items())}
    missing = set(product(features.keys() - lacking, (True, False))) - covered
    if missing:
        raise AssertionError(f"no case with (feature, present) in {sorted(missing)}")
