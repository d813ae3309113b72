"""ScaleWorld: pictures of shapes in all sizes, drawn by a program, for experiments of minutes.

A grey S x S picture holds one to three shapes that do not touch: a disk, a square, a triangle or a
plus of the same area pi r^2, with r log-uniform. A shape is 1 on a background of 0, and noise lies
over both, so inside a shape nothing tells its class: the class is in the boundary, and a network
has to see as far as the shape is large. Positions are (y, x) in pixels.
"""

from collections.abc import Callable
from math import pi, sqrt
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray as Array

CLASSES = ("background", "disk", "square", "triangle", "plus")
SQUARE = sqrt(pi) / 2  # half a side, in r
TRIANGLE = sqrt(4 * pi / (3 * sqrt(3)))  # from the centre to a corner
PLUS = sqrt(pi / 3)  # half an arm, which is twice as wide as that is half


class Thing(NamedTuple):
    """A shape: its class from 1 to 4, its centre, its r and how it is turned, in radians."""

    kind: int
    y: float
    x: float
    r: float
    turn: float

    def covers(self, y: Any, x: Any) -> Any:
        """Whether the shape covers these places."""
        c, s = np.cos(self.turn), np.sin(self.turn)
        v, u = c * (y - self.y) - s * (x - self.x), s * (y - self.y) + c * (x - self.x)
        if self.kind == 1:
            return v * v + u * u <= self.r**2
        if self.kind == 2:
            return np.maximum(abs(v), abs(u)) <= SQUARE * self.r
        if self.kind == 3:
            inner = TRIANGLE * self.r / 2  # from the centre to a side
            return np.maximum(v, abs(u) * sqrt(3) / 2 - v / 2) <= inner
        arm = PLUS * self.r
        return (np.maximum(abs(v), abs(u)) <= arm) & (np.minimum(abs(v), abs(u)) <= arm / 2)

    @property
    def reach(self) -> float:
        """No point of the shape is further from its centre."""
        return self.r * (1, SQUARE * sqrt(2), TRIANGLE, PLUS * sqrt(1.25))[self.kind - 1]


class Scene(NamedTuple):
    """A picture 1 S S in float32, and the shapes in it (or other things that have the same)."""

    image: Array
    things: tuple[Any, ...]

    def labels(self, stride: int) -> Array:
        """The class at the centre of each cell of `stride` pixels: S/stride S/stride, 0 to 4."""
        return self._at_cells(stride, [thing.kind for thing in self.things], 0)

    def radii(self, stride: int) -> Array:
        """r of the shape at the centre of each cell, NaN on the background."""
        return self._at_cells(stride, [thing.r for thing in self.things], np.nan)

    def boxes(self) -> Array:
        """R 4: x1, y1, x2, y2 of the pixels that a shape covers, x2 and y2 exclusive."""
        y, x = np.indices(self.image.shape[1:])
        found = []
        for thing in self.things:
            rows, columns = np.nonzero(thing.covers(y, x))
            found.append((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
        return np.array(found, float).reshape(-1, 4)

    def _at_cells(self, stride: int, values: list[float], background: float) -> Array:
        centre = (stride - 1) / 2
        cells = np.indices([n // stride for n in self.image.shape[1:]])
        y, x = stride * cells[0] + centre, stride * cells[1] + centre
        result = np.full(cells[0].shape, background)
        for thing, value in zip(self.things, values, strict=True):
            result[thing.covers(y, x)] = value
        return result if np.isnan(background) else result.astype(int)


def scene(
    rng: np.random.Generator, size: int = 64, *, radius: tuple[float, float] | None = None,
    noise: float = 0.3, turn: float = 0.35,
    background: Callable[[np.random.Generator, int], Array] | None = None,
) -> Scene:  # fmt: skip
    """A new picture.

    radius      the smallest and largest r; None: (4, 24) of 64 pixels, (6, 36) of 96 and so on
    noise       its standard deviation
    turn        shapes are turned by up to so many radians either way
    background  makes S x S numbers from 0 to 1 to be behind the shapes, each of which then has a
                rim of 0, as wide as 2 of 64 pixels; None: 0 everywhere
    Raises ValueError where no shape fits.
    """
    low, high = limits(size, radius or (4 * size / 64, 24 * size / 64))
    things = place(rng, size, lambda: _thing(rng, size, (low, high), turn))
    rows, columns = np.indices((size, size))
    image = np.zeros((size, size), bool) if background is None else background(rng, size)
    if background is not None:
        for thing in things:
            image[thing._replace(r=thing.r + 2 * size / 64).covers(rows, columns)] = 0
    for thing in things:
        image[thing.covers(rows, columns)] = 1
    return noisy(rng, image, things, noise)


def limits(size: int, radius: tuple[float, float]) -> tuple[float, float]:
    """The smallest and the largest r, if they are in order and the smallest fits the picture."""
    low, high = radius
    if not 0 < low <= high or 2 * low > size - 1:
        raise ValueError(
            f"radius is {(low, high)}, expected 0 < low <= high, and low to fit {size} pixels"
        )
    return low, high


def place(
    rng: np.random.Generator, size: int, draw: Callable[[], Any],
    apart: Callable[[Any, Any], bool] | None = None,
) -> tuple[Any, ...]:  # fmt: skip
    """One to three things that `draw` makes, put where they are inside and apart.

    A thing is a named tuple with y, x and a `reach`; one that finds no place in 20 trials is left
    out. `apart` says whether two are; None: their circles are, by more than a pixel.
    """
    things: list[Any] = []
    for _ in range(int(rng.integers(1, 4))):
        new = draw()
        for _ in range(20):
            y, x = map(float, rng.uniform(new.reach, size - 1 - new.reach, 2))
            new = new._replace(y=y, x=x)
            if all((apart or _apart)(new, thing) for thing in things):
                things.append(new)
                break
    return tuple(things)


def noisy(rng: np.random.Generator, image: Array, things: tuple[Any, ...], noise: float) -> Scene:
    """The scene of an image S x S and of what is in it, with noise over both."""
    image = image + noise * rng.standard_normal(image.shape)
    return Scene(image[None].astype(np.float32), things)


def _thing(rng: np.random.Generator, size: int, radius: tuple[float, float], turn: float) -> Thing:
    """A shape without a place, drawn again until there is room for it in the picture."""
    while True:
        r = float(np.exp(rng.uniform(*np.log(radius))))
        turned = float(rng.uniform(-turn, turn))
        new = Thing(int(rng.integers(1, 5)), 0.0, 0.0, r, turned)
        if new.reach <= (size - 1) / 2:
            return new


def _apart(a: Any, b: Any) -> bool:
    """Whether a pixel or more is between two shapes."""
    return bool(np.hypot(a.y - b.y, a.x - b.x) > a.reach + b.reach + 1)


def batch(
    rng: np.random.Generator, count: int, size: int = 64, *, stride: int = 4
) -> tuple[Array, Array, list[Scene]]:
    """Pictures N 1 S S, labels N S/stride S/stride, and the scenes they are of."""
    if count < 1:
        raise ValueError(f"count is {count}, expected 1 or more")
    scenes = [scene(rng, size) for _ in range(count)]
    labels = np.stack([s.labels(stride) for s in scenes])
    return np.stack([s.image for s in scenes]), labels, scenes
