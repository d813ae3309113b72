"""How the offsets and masks of a problem are drawn, family by family."""

from typing import NamedTuple

import numpy as np
from numpy import ndarray as Array

from deformable_convnets.reference import layout
from deformable_convnets.reference.deform_conv import locations

from .shapes import Shape


class Family(NamedTuple):
    """The ranges of the values: integers up to so much, masks in quarters, offsets in `step`s."""

    x: int = 8
    weight: int = 4
    grad: int = 4
    mask: bool = True
    step: float = 1 / 8  # offsets are odd multiples of it, but for `kinks`
    reach: int = 3  # offsets go so many pixels in each direction
    odd: bool = True
    dtypes: tuple[str, ...] = ("float32", "float64", "float16")


FAMILIES = {
    "base": Family(),
    "kinks": Family(step=1 / 2, odd=False),
    "wide-x": Family(x=511, weight=1, grad=1, mask=False, dtypes=("float32", "float64")),
    "wide-w": Family(x=1, weight=4095, grad=1, mask=False, dtypes=("float32", "float64")),
    "wide-g": Family(x=1, weight=1, grad=4095, mask=False, dtypes=("float32", "float64")),
    "narrow": Family(x=1, mask=False),  # samples fit the 8 bits of bfloat16's mantissa
    "f64": Family(x=2**19 - 1, weight=2**11 - 1, grad=2**8 - 1, dtypes=("float64",)),
    "far": Family(),  # on the shapes FAR: coordinates up to 2060
    "across": Family(dtypes=("float32", "float64")),  # there too, with offsets as large
    "edge": Family(),  # points within a pixel of the edges of the map, and on them
    "huge": Family(dtypes=("float32", "float64")),  # one offset in four far beyond any index
    "degenerate": Family(),  # on the shapes DEGENERATE
    "large": Family(),  # on the shapes LARGE
    "long": Family(),  # on the shapes LONG, each once: no law draws them
}
HUGE = (2.0**16, 2.0**31, 3e9, 2.0**63, 1e30)


def offsets(family: str, rng: np.random.Generator, s: Shape) -> Array:
    """Within `reach` of the grid; in half of the problems one in eight is outside any map."""
    f, size = FAMILIES[family], (s.N, s.axes * s.fields, *s.output)
    steps = int(f.reach / f.step)
    offset = rng.integers(-steps, steps + 1, size) * f.step
    if f.odd:
        offset = np.floor(offset / (2 * f.step)) * (2 * f.step) + f.step
    if family == "edge":
        return _to_the_edges(rng, s)
    if family == "huge":
        far = rng.choice(HUGE, size) * rng.choice([-1, 1], size)
        return np.where(rng.random(size) < 1 / 4, far, offset)
    jump = rng.integers(-1, 2, size) * (rng.random(size) < 1 / 8)
    offset = offset + jump * (4 + max(s.size)) * rng.integers(0, 2)
    return _across_the_map(rng, s, offset) if family == "across" else offset


def _across_the_map(rng: np.random.Generator, s: Shape, offset: Array) -> Array:
    """The offsets, half of which go anywhere on the map: they may be of any size."""
    last, grid = _last_and_grid(s)
    there = np.floor(rng.random(offset.shape) * last) + offset % 1 - grid
    few = rng.random((s.N, s.fields, 1, *s.output)) < 1 / 2
    return np.where(np.repeat(few, s.axes, axis=2).reshape(offset.shape), there, offset)


def _to_the_edges(rng: np.random.Generator, s: Shape) -> Array:
    """Offsets that put every coordinate at most a pixel from the first or the last one."""
    last, grid = _last_and_grid(s)
    edge = rng.integers(0, 2, grid.shape) * last
    return edge + rng.integers(-8, 9, grid.shape) / 8 - grid


def _last_and_grid(s: Shape) -> tuple[Array, Array]:
    """As offsets are laid out: the last row and column of the map, and each tap's p0 + pn."""
    size = (s.N, s.axes * s.fields, *s.output)
    grid = layout.from_points(locations(np.zeros(size), s.geometry), s.geometry, size)
    ends = np.reshape(s.size, (s.axes, *(1,) * s.axes)) - 1
    last = np.broadcast_to(ends, (s.N, s.fields, s.axes, *s.output)).reshape(size)
    return last, grid


def mask(f: Family, rng: np.random.Generator, size: tuple[int, ...]) -> Array | None:
    """Quarters from 0 to 1, in half of the problems of a family that has masks."""
    wanted = f.mask and rng.integers(0, 2) == 1
    return rng.integers(0, 5, size) / 4 if wanted else None
