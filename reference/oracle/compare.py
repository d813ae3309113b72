"""Three assertions: the same bits, within a bound, between two values.

Each names the first element that differs, with both values and what was allowed.
"""

from typing import Any

import numpy as np
from numpy import ndarray as Array

ABSENT: Any = type("Absent", (), {"__repr__": lambda _: "ABSENT"})()
"""In place of a gradient that an implementation lacks, or that a law does not compare."""


class Count:
    """How many comparisons were made, so that a law that compared nothing is not called kept."""

    made = 0


class Mismatch(AssertionError):
    """Arrays that differ: the first index where they do, both values and what was allowed there.

    what     the name of the result, such as "grads.offset"
    at       the index
    actual   the value there
    allowed  "expected", or "low" and "high", with "error" and "bound" where there are some
    wrong, of  how many elements differ, of how many
    """

    def __init__(
        self, what: str, at: tuple[int, ...], actual: Any, allowed: dict[str, Any],
        wrong: int, of: int,
    ):  # fmt: skip
        values = ", ".join(f"{name} {value!s}" for name, value in allowed.items())
        if of == 1 and at == (0,):  # a number, made an array to be compared
            super().__init__(f"{what} is {actual!s}, {values}")
        else:
            super().__init__(
                f"{what}{list(at)} is {actual!s}, {values}; {wrong} of {of} elements differ"
            )
        self.what, self.at, self.actual, self.allowed = what, at, actual, allowed
        self.wrong, self.of = wrong, of


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
    """Same shape, and low <= actual <= high or NaN in all: any derivative at a kink."""
    _assert_shape(what, actual, low)
    nan = np.isnan(actual) & np.isnan(low)
    _assert_all(what, (low <= actual) & (actual <= high) | nan, actual, low=low, high=high)


def assert_true(what: str, right: Any) -> None:
    """A comparison that says for itself what it found."""
    Count.made += 1
    if not right:
        raise AssertionError(what)


def _assert_shape(what: str, actual: Any, expected: Array) -> None:
    Count.made += 1
    if not isinstance(actual, np.ndarray):
        raise AssertionError(f"{what} is of type {type(actual).__name__}, expected a NumPy array")
    if actual.shape != expected.shape:
        raise AssertionError(f"{what} has shape {actual.shape}, expected {expected.shape}")


def _assert_all(what: str, right: Array, actual: Array, **allowed: Array) -> None:
    if not right.all():
        at = tuple(int(i) for i in np.argwhere(~right)[0])
        values = {name: a[at] for name, a in allowed.items()}
        if "low" in values and values["low"] == values["high"]:
            values = {"expected": values["low"]}
        raise Mismatch(what, at, actual[at], values, int(np.count_nonzero(~right)), right.size)
