"""The grid R and the sizes of things, in whole numbers. No sampling happens here."""

from dataclasses import dataclass
from operator import index
from typing import Any

import numpy as np
from jaxtyping import Int
from numpy import ndarray as Array

Pair = tuple[int, int]
Sides = tuple[Pair, Pair]  # ((top, bottom), (left, right))


@dataclass(frozen=True, slots=True)
class Geometry:
    """What a checked call to a convolution means: every number derived once, by `checks`."""

    kernel: Pair
    stride: Pair
    padding: Sides
    dilation: Pair
    output: Pair
    groups: int
    offset_groups: int


def R(kernel_size: int | Pair, *, dilation: int | Pair = 1) -> Int[Array, "K 2"]:
    """The grid R of equation (1): the K taps (y, x) of a kernel around its centre, row by row.

    A 3x3 kernel gives (-1, -1), (-1, 0), ..., (1, 1), times the dilation. The centre of a kernel
    of even size is the tap before the middle: (k - 1) // 2.

    Raises ValueError or TypeError where kernel_size or dilation is not an int or two, all >= 1.
    """
    (kh, kw), (dy, dx) = (
        pair("kernel_size", kernel_size, at_least=1),
        pair("dilation", dilation, at_least=1),
    )
    taps = np.moveaxis(np.indices((kh, kw)), 0, -1).reshape(kh * kw, 2)
    return (taps - ((kh - 1) // 2, (kw - 1) // 2)) * (dy, dx)


def centres(geometry: Geometry) -> Int[Array, "Ho Wo 2"]:
    """p0 of equations (1) and (2): the pixel of x under the kernel's centre, per output pixel."""
    p0 = np.moveaxis(np.indices(geometry.output), 0, -1) * geometry.stride
    to_centre = [
        d * ((k - 1) // 2) - before
        for d, k, (before, _) in zip(
            geometry.dilation, geometry.kernel, geometry.padding, strict=True
        )
    ]
    return p0 + to_centre


def output_size(size: int, kernel: int, stride: int, padding: Pair, dilation: int) -> int:
    """Pixels of y along one axis; 0 or less where the kernel does not fit."""
    return (size + sum(padding) - dilation * (kernel - 1) - 1) // stride + 1


LARGEST = 2**31 - 1  # of a size, stride, padding or dilation, so that no sum of them overflows


def pair(name: str, value: Any, *, at_least: int) -> Pair:
    """An int, or two of them (y, x), as (y, x)."""
    y, x = value if isinstance(value, tuple | list) and len(value) == 2 else (value, value)
    if not (_is_int(y) and _is_int(x)):
        raise TypeError(f"{name} is {value!r}, expected an int or a pair of ints (y, x)")
    _check_range(name, value, (y, x), at_least)
    return index(y), index(x)


def sides(name: str, value: Any) -> Sides:
    """An int, (y, x) or ((top, bottom), (left, right)) as the last, all >= 0."""
    nested = isinstance(value, tuple | list) and any(isinstance(v, tuple | list) for v in value)
    if not nested:
        y, x = pair(name, value, at_least=0)
        return (y, y), (x, x)
    whole = len(value) == 2 and all(
        isinstance(v, tuple | list) and len(v) == 2 and all(map(_is_int, v)) for v in value
    )
    if not whole:
        raise TypeError(
            f"{name} is {value!r}, expected an int, (y, x) or ((top, bottom), (left, right))"
        )
    _check_range(name, value, (*value[0], *value[1]), 0)
    (top, bottom), (left, right) = value
    return (index(top), index(bottom)), (index(left), index(right))


def _check_range(name: str, value: Any, numbers: tuple[int, ...], at_least: int) -> None:
    if min(numbers) < at_least:
        raise ValueError(f"{name} is {value!r}, expected {at_least} or more")
    if max(numbers) > LARGEST:
        raise ValueError(f"{name} is {value!r}, expected {LARGEST} or less")


def _is_int(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
