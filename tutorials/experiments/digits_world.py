"""Real images: handwritten digits on pictures like those of ScaleWorld, from small to large.

The 1,797 digits of 8 x 8 pixels that are inside scikit-learn's wheel; nothing is downloaded. They
are the test part of "Optical Recognition of Handwritten Digits" of the UCI repository (E. Alpaydin
and C. Kaynak, 1998). A digit is enlarged by bilinear interpolation, equation (4), and its label is
where its ink is: there a cell has to see the whole digit to tell its class, as inside a shape,
whereas a filled box would call cells a digit that show nothing but noise. The ink of a digit is
what exceeds a quarter of full black, the stroke with its soft rim, wide enough for cells.
"""

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray as Array

from deformable_convnets.reference import g
from deformable_convnets.reference.networks.scale_world import Scene, limits, noisy, place

CLASSES = ("background", *"0123456789")
INK = 0.25  # of full black
SIDE = 8
SPLITS = {"train": slice(0, 1347), "test": slice(1347, 1797)}  # in the data's own order


@cache
def digits() -> tuple[Array, Array]:
    """The images 1797 8 8, from 0 to 1, and the digits that they are."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            'the digits are in scikit-learn: pip install "deformable-convnets[tutorials]", '
            "or pip install scikit-learn"
        ) from error
    data = load_digits()
    return data.images / 16, data.target


class Digit(NamedTuple):
    """A digit: its class from 1 ("0") to 10, its centre, half its side, and which of all it is."""

    kind: int
    y: float
    x: float
    r: float
    index: int

    @property
    def reach(self) -> float:
        """No ink is further from the centre, along an axis."""
        return self.r * (SIDE + 1) / SIDE

    def ink(self, y: Any, x: Any) -> Any:
        """Equation (3) at these places: from 0, where there is no paper either, to 1."""
        scale, middle, cells = 2 * self.r / SIDE, (SIDE - 1) / 2, np.arange(SIDE)
        rows = g(cells, ((y - self.y) / scale + middle)[..., None])
        columns = g(cells, ((x - self.x) / scale + middle)[..., None])
        return ((rows @ digits()[0][self.index]) * columns).sum(axis=-1)

    def covers(self, y: Any, x: Any) -> Any:
        """Whether the digit's ink covers these places."""
        y, x = np.broadcast_arrays(y, x)
        near = np.maximum(abs(y - self.y), abs(x - self.x)) <= self.reach
        found = np.zeros(near.shape, bool)
        found[near] = self.ink(y[near], x[near]) > INK
        return found


def scene(
    rng: np.random.Generator, size: int = 64, *, split: str = "train",
    radius: tuple[float, float] | None = None, noise: float = 0.1,
) -> Scene:  # fmt: skip
    """A new picture of digits of a split: "train" has 1,347 of them and "test" the other 450.

    radius  half the side of the smallest and of the largest digit; None: (6, 24) of 64 pixels, that
            is 1.5 to 6 times their own size
    noise   its standard deviation: a third of that of ScaleWorld, where nothing is grey
    Raises ValueError where no digit fits, ImportError without scikit-learn.
    """
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}, expected one of {', '.join(map(repr, SPLITS))}")
    bounds = limits(size, radius or (6 * size / 64, 24 * size / 64))
    chosen = np.arange(len(digits()[1]))[SPLITS[split]]
    things = place(rng, size, lambda: _digit(rng, size, bounds, chosen), _apart)
    image = np.zeros((size, size))
    for thing in things:
        first = [max(0, int(np.ceil(p - thing.reach))) for p in (thing.y, thing.x)]
        last = [min(size, int(p + thing.reach) + 1) for p in (thing.y, thing.x)]
        y, x = np.mgrid[first[0] : last[0], first[1] : last[1]]
        image[first[0] : last[0], first[1] : last[1]] += thing.ink(y, x)
    return noisy(rng, image, things, noise)


def _digit(
    rng: np.random.Generator, size: int, radius: tuple[float, float], chosen: Array
) -> Digit:
    """A digit without a place, drawn again until there is room for it in the picture."""
    while True:
        r = float(np.exp(rng.uniform(*np.log(radius))))
        index = int(rng.choice(chosen))
        new = Digit(int(digits()[1][index]) + 1, 0.0, 0.0, r, index)
        if new.reach <= (size - 1) / 2:
            return new


def _apart(a: Digit, b: Digit) -> bool:
    """Whether a pixel or more is between the squares of two digits."""
    return max(abs(a.y - b.y), abs(a.x - b.x)) > a.reach + b.reach + 1
