"""The grid R and the sizes of things, in whole numbers. No sampling happens here."""

from dataclasses import dataclass
from operator import index
from typing import Any

import numpy as np
from jaxtyping import Int
from numpy import ndarray as Array

Pair = tuple[int, int]
Sides = tuple[Pair, Pair]  # ((top, bottom), (left, right))
Triple = tuple[int, int, int]
Faces = tuple[Pair, Pair, Pair]  # ((front, back), (top, bottom), (left, right))


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


@dataclass(frozen=True, slots=True)
class VolumeGeometry:
    """What a checked call to a convolution of volumes means: `Geometry` with one axis more."""

    kernel: Triple
    stride: Triple
    padding: Faces
    dilation: Triple
    output: Triple
    groups: int
    offset_groups: int


AnyGeometry = Geometry | VolumeGeometry


@dataclass(frozen=True, slots=True)
class RoiGeometry:
    """What a checked call to a RoI operator means."""

    output: Pair
    channels: int
    group: Pair
    part: Pair
    classes: int
    scale: float
    gamma: float
    bins: str
    samples: int


def R(kernel_size: int | Pair, *, dilation: int | Pair = 1) -> Int[Array, "K 2"]:
    """The grid R of equation (1): the K taps (y, x) of a kernel around its centre, row by row.

    A 3x3 kernel gives (-1, -1), (-1, 0), ..., (1, 1), times the dilation. The centre of a kernel
    of even size is the tap before the middle: (k - 1) // 2.

    Raises ValueError or TypeError where kernel_size or dilation is not an int or two, all >= 1.
    """
    kernel = pair("kernel_size", kernel_size, at_least=1)
    return regular_grid(kernel, pair("dilation", dilation, at_least=1))


def regular_grid(kernel: tuple[int, ...], dilation: tuple[int, ...]) -> Int[Array, "K axes"]:
    """The grid R of a kernel with any number of axes."""
    taps = np.moveaxis(np.indices(kernel), 0, -1).reshape(-1, len(kernel))
    return (taps - [(k - 1) // 2 for k in kernel]) * dilation


def centres(geometry: AnyGeometry) -> Int[Array, "*output axes"]:
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
    y, x = per_axis(name, value, 2, at_least=at_least)
    return y, x


def triple(name: str, value: Any, *, at_least: int) -> Triple:
    """An int, or three of them (z, y, x), as (z, y, x)."""
    z, y, x = per_axis(name, value, 3, at_least=at_least)
    return z, y, x


def sides(name: str, value: Any) -> Sides:
    """An int, (y, x) or ((top, bottom), (left, right)) as the last, all >= 0."""
    y, x = both_sides(name, value, 2)
    return y, x


def faces(name: str, value: Any) -> Faces:
    """An int, (z, y, x) or ((front, back), (top, bottom), (left, right)) as the last, all >= 0."""
    z, y, x = both_sides(name, value, 3)
    return z, y, x


INTS = {2: "a pair of ints (y, x)", 3: "three ints (z, y, x)"}
PAIRS = {
    2: "(y, x) or ((top, bottom), (left, right))",
    3: "(z, y, x) or ((front, back), (top, bottom), (left, right))",
}


def per_axis(
    name: str, value: Any, axes: int, *, at_least: int, expected: str = ""
) -> tuple[int, ...]:
    """An int, or one for each axis, as the latter; `expected` is what an error says of others."""
    each = value if isinstance(value, tuple | list) and len(value) == axes else (value,) * axes
    if not all(map(_is_int, each)):
        expected = expected or f"an int or {INTS[axes]}"
        raise TypeError(f"{name} is {value!r}, expected {expected}")
    _check_range(name, value, each, at_least)
    return tuple([index(one) for one in each])


def both_sides(name: str, value: Any, axes: int) -> tuple[Pair, ...]:
    """An int, one for each axis, or a pair for each axis, as the last."""
    expected = f"an int, {PAIRS[axes]}"
    nested = isinstance(value, tuple | list) and any(isinstance(v, tuple | list) for v in value)
    if not nested:
        return tuple((n, n) for n in per_axis(name, value, axes, at_least=0, expected=expected))
    whole = len(value) == axes and all(
        isinstance(v, tuple | list) and len(v) == 2 and all(map(_is_int, v)) for v in value
    )
    if not whole:
        raise TypeError(f"{name} is {value!r}, expected {expected}")
    _check_range(name, value, tuple(n for v in value for n in v), 0)
    return tuple((index(before), index(after)) for before, after in value)


def _check_range(name: str, value: Any, numbers: Any, at_least: int) -> None:
    if min(numbers) < at_least:
        raise ValueError(f"{name} is {value!r}, expected {at_least} or more")
    if max(numbers) > LARGEST:
        raise ValueError(f"{name} is {value!r}, expected {LARGEST} or less")


def _is_int(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
