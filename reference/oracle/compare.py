"""Three assertions: the same bits, within a bound, between two values.

Each names the first element that differs, with both values and what was allowed.
"""

from typing import Any

import numpy as np
from numpy import ndarray as Array


def assert_same(what: str, actual: Any, expected: Array) -> None:
    """Same shape, dtype and values; NaN equals NaN, and -0.0 equals 0.0."""
    _assert_shape(what, actual, expected)
    if actual.dtype != expected.dtype:
        raise AssertionError(f"{what} has dtype {actual.dtype}, expected {expected.dtype}")
    equal = (actual == expected) | (np.isnan(actual) & np.isnan(expected))
    _assert_all(what, equal, actual, expected=expected)


def assert_within(what: str, actual: Any, expected: Array, bound: Array) -> None:
    """Same shape, and |actual - expected| <= bound for every element."""
    _assert_shape(what, actual, expected)
    error = np.abs(actual.astype(np.float64) - expected)
    _assert_all(what, error <= bound, actual, expected=expected, error=error, bound=bound)


def assert_between(what: str, actual: Any, low: Array, high: Array) -> None:
    """Same shape, and low <= actual <= high for every element: any derivative at a kink."""
    _assert_shape(what, actual, low)
    _assert_all(what, (low <= actual) & (actual <= high), actual, low=low, high=high)


def _assert_shape(what: str, actual: Any, expected: Array) -> None:
    if not isinstance(actual, np.ndarray):
        raise AssertionError(f"{what} is of type {type(actual).__name__}, expected a NumPy array")
    if actual.shape != expected.shape:
        raise AssertionError(f"{what} has shape {actual.shape}, expected {expected.shape}")


def _assert_all(what: str, right: Array, actual: Array, **allowed: Array) -> None:
    if not right.all():
        at = tuple(int(i) for i in np.argwhere(~right)[0])
        values = ", ".join(f"{name} {a[at]!r}" for name, a in allowed.items())
        raise AssertionError(
            f"{what}{list(at)} is {actual[at]!r}, {values};"
            f" {np.count_nonzero(~right)} of {right.size} elements differ"
        )
