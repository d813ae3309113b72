"""How the RoIs, offsets and numbers of samples of a RoI problem are drawn, family by family.

In the families "odd", "kinks" and "means" every point is exact, in any order of operations: a RoI
is k bins long, each of 2^a pixels or, in "means", of 2^a pixels for each of its samples; it starts
at a multiple of 1/16; and an offset moves its bins by a multiple of 1/32. For "mxnet" the corners
are what C's round takes to such numbers, halves included. In "paper" a RoI of k + 1 pixels, or in
"means" of any half pixels, will do too, for its points are whole.

In "floats" nothing is exact. `roi_coordinates` says how far a point may be off.
"""

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
from numpy import ndarray as Array

from .roi_shapes import RoiShape

POSITION = 1 / 32  # what every coordinate of an exact point is a multiple of
NARROW = 64  # pixels: float16 holds sixteenths up to here
WIDE = 20  # pixels: RoIs of "means" are as long as such a map


class Rule(NamedTuple):
    """What is drawn for all RoIs of a problem.

    samples  as the operators have it: None with "paper", and elsewhere for 4
    """

    family: str
    bins: str
    scale: float
    gamma: float
    samples: int | None
    without: frozenset[str]

    @property
    def points(self) -> int:
        """Samples of a bin along an axis, where a length must be a multiple of it."""
        return (self.samples or 4) if self.family == "means" and self.bins != "paper" else 1


def rule(rng: np.random.Generator, family: str, bins: str, without: Collection[str]) -> Rule:
    """The scale, gamma and number of samples; dyadic scales and gammas but for "floats"."""
    if family == "floats":
        scale = float(rng.choice([1.0, 0.0625, rng.uniform(0.1, 1)]))
        gammas = [0.1, 0.1, rng.uniform(0.05, 1), rng.uniform(1, 2)]
    else:
        scale = float(rng.choice([1.0, 0.5, 0.25]))
        gammas = [1 / 8, 1 / 4, 3 / 8, 1 / 2, 3 / 2, 2.0]
    gamma = float(rng.choice([g for g in gammas if g <= 1 or "gamma above 1" not in without]))
    scale = 1.0 if "spatial_scale" in without else scale
    samples = _samples(rng, family, bins, without)
    return Rule(family, bins, scale, gamma, samples, frozenset(without))


def _samples(
    rng: np.random.Generator, family: str, bins: str, without: Collection[str]
) -> int | None:
    """None is 4. "mxnet" may drop any of them: only of 1 or 2 each n_ij is a power of two, as exact
    problems need, also for those that have no `samples`, who refuse them.
    """
    exact = family in ("odd", "kinks")
    if bins == "paper" or ("samples" in without and not (exact and bins == "mxnet")):
        return None
    several: dict[str, list[int]] = {
        "odd": [1, 2] if bins == "mxnet" else [1, 2, 0],
        "kinks": [1, 2] if bins == "mxnet" else [1, 2, 4, 0],
        "means": [0, 3, 5, 7, 12, 33],
        "floats": [0, 1, 2, 3, 5],
    }
    return int(rng.choice(several[family])) or None


def exact_boxes(rng: np.random.Generator, s: RoiShape, at: Rule) -> tuple[Array, Array]:
    """x1, y1, x2, y2 of each RoI as the operators take them, R 4, and h, w in pixels, R 2."""
    (y, h), (x, w) = (_sides(rng, s, axis, at) for axis in (0, 1))
    last = 1.0 if at.bins == "mxnet" else 0.0  # "mxnet" counts the last row and column
    corners = [x / at.scale, y / at.scale, (x + w) / at.scale - last, (y + h) / at.scale - last]
    rois = np.stack(corners, axis=1)
    return _off_whole(rng, rois) if at.bins == "mxnet" else rois, np.stack([h, w], axis=1)


def _sides(rng: np.random.Generator, s: RoiShape, axis: int, at: Rule) -> tuple[Array, Array]:
    """Starts and lengths on one axis: some outside the map, one in eight empty or inverted."""
    k, n, whole = s.output[axis], s.size[axis], at.bins == "mxnet"
    fine = 16 if at.family != "kinks" and n <= NARROW else 4
    start = rng.integers(-3, n + 2, s.rois) + (0 if whole else rng.integers(0, fine, s.rois) / fine)
    if at.family == "means":
        least = int(np.log2(at.scale)) if whole else -2  # whole before the scale
        length = k * at.points * 2.0 ** rng.integers(least, 1, s.rois)
        if at.bins == "paper":
            most = 2 * n if n > WIDE else 6 * k + 1  # bins of many pixels, too
            length = rng.integers(most // 6, most + 1, s.rois) / 2
    else:
        length = k * 2.0 ** rng.integers(0 if whole else -1, 3, s.rois)
        if at.bins == "paper":
            length = np.where(rng.random(s.rois) < 1 / 4, k + 1.0, length)
    return start, length if whole else _some_inverted(rng, length, k, at)


def _some_inverted(rng: np.random.Generator, length: Array, k: int, at: Rule) -> Array:
    if "inverted or empty rois" in at.without:
        return length
    inverted = np.full(len(length), rng.choice([0.0, -k * at.points]))
    if at.bins == "paper":
        inverted[1::2] /= 4 * k * at.points  # a quarter: floor and ceil would count one
    return np.where(rng.random(len(length)) < 1 / 8, inverted, length)


def _off_whole(rng: np.random.Generator, corners: Array) -> Array:
    """Numbers that are rounded to these whole ones: at most half away, and halves from 0 on."""
    quarters = rng.integers(-2, 3, corners.shape) / 4
    return corners + np.where(np.abs(quarters) < 1 / 2, quarters, -np.sign(corners) / 2)


def exact_offsets(rng: np.random.Generator, s: RoiShape, sizes: Array, at: Rule) -> Array | None:
    """Normalised offsets that move bins by odd multiples of POSITION, or by quarters ("kinks")."""
    if (rng.integers(0, 4) == 0 and at.family == "kinks") or "offset" in at.without:
        return None
    wide = (s.rois, s.classes, 2, *s.part)
    if at.family == "kinks":
        moves: Array = rng.integers(-24, 25, wide) / 4
    else:
        moves = (2 * rng.integers(-48, 49, wide) + 1) * POSITION
    lengths = np.abs(sizes).reshape(s.rois, 1, 2, 1, 1)
    exponents = [twos(length) for length in np.where(lengths > 0, lengths, 1).ravel()]
    units = 2.0 ** (np.array(exponents).reshape(lengths.shape) + twos(at.gamma))
    return (moves / units).reshape(s.rois, 2 * s.classes, *s.part)


def twos(value: float) -> int:
    """The exponent of the largest power of two that divides a dyadic number."""
    numerator, denominator = float(value).as_integer_ratio()
    return (numerator & -numerator).bit_length() - denominator.bit_length()


def ordinary_boxes(rng: np.random.Generator, s: RoiShape, at: Rule) -> Array:
    """x1, y1, x2, y2 of RoIs that start near the map, as float32 has them; some are inverted."""
    start = rng.uniform(-3, 2, (s.rois, 2)) + rng.random((s.rois, 2)) * s.size[::-1]
    size = rng.uniform(1 / 8, 3, (s.rois, 2)) * s.output[::-1]
    if "inverted or empty rois" not in at.without:
        size *= np.where(rng.random((s.rois, 2)) < 1 / 8, -1, 1)
    corners = np.concatenate([start, start + size], axis=1) / at.scale
    return corners.astype(np.float32).astype(np.float64)


def ordinary_offsets(rng: np.random.Generator, s: RoiShape, at: Rule) -> Array | None:
    """Normally distributed offsets that move bins by some eighths of a RoI, as float32 has them."""
    drawn = rng.normal(size=(s.rois, 2 * s.classes, *s.part)) / (8 * at.gamma)
    return None if "offset" in at.without else drawn.astype(np.float32).astype(np.float64)
