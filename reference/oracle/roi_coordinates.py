"""Where the points of RoI bins lie, one by one, and how far rounding may move them.

A coordinate is a sum of y1 s, a part of h = y2 s - y1 s, gamma Delta h and a constant of at most 1.
In whatever order it is computed, a term goes through at most 12 roundings: s as a number of the
dtype, its product, half a pixel's and the other corner's difference, a product and a quotient each
for the bin and the sample, where a reciprocal is one more, and two or three sums. We allow 16, for
all terms. So with S = |y1 s| + |y2 s|

    |p computed - p| <= 16 u ((2 + |gamma Delta|) S + 1)

x(p) is continuous and follows. But where a point crosses the last coordinate that is read at all,
or i h / k a whole number, x(p) or n_ij jumps, and at a whole p its derivative does; `clear` says
which RoIs stay away from all of that, so that nothing jumps.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray as Array

from deformable_convnets.reference import roi_layout as layout
from deformable_convnets.reference.geometry import Pair, RoiGeometry
from deformable_convnets.reference.roi_points import span

ROUNDINGS = 16
SINGLE = 2.0**-24  # the unit roundoff of float32, the widest for which coordinates are computed


class Points(NamedTuple):
    """The points of every bin (r, p, i, j) on one axis, of n pixels.

    p      coordinates, moved to the map's edge where the rule says so, B points
    read   which of them there are, and are read
    raw    before they are moved to the edge
    ends   i h / k and (i + 1) h / k
    number the factor of n_ij
    moves  how far rounding may move them, in units of u
    n      pixels
    """

    p: Array
    read: Array
    raw: Array
    ends: Array
    number: Array
    moves: Array
    n: int


def points(at: RoiGeometry, rois: Array, offset: Array | None, size: Pair) -> tuple[Points, Points]:
    """Those of a call on a map of this size: on the y axis, and on the x axis."""
    r, p, i, j = layout.index(len(rois), at)
    field = np.zeros((len(rois), at.classes, 2, *at.part))
    if offset is not None:
        field = offset.astype(np.float64).reshape(field.shape)
    found, rois = [], rois.astype(np.float64)[r]
    for d, bin in enumerate((i, j)):
        first, last = rois[:, 2 - d], rois[:, 4 - d]
        start, h = span(first, last, at.scale, at.bins)
        move = at.gamma * field[(r, p, d, *layout.parts(i, j, at))]
        S = (np.abs(first) + np.abs(last) + 2 * (at.bins == "mxnet")) * at.scale
        moves = ROUNDINGS * ((2 + np.abs(move)) * S + 1)
        k = at.output[d]
        ends = np.stack([bin * h / k, (bin + 1) * h / k], axis=1)
        found.append(_laid(at, start + move * h, h / k, ends, moves, size[d]))
    return found[0], found[1]


def _laid(
    at: RoiGeometry, start: Array, length: Array, ends: Array, moves: Array, n: int
) -> Points:
    """The points by the rule, from where the first bin of a RoI begins."""
    if at.bins == "paper":
        low, high = np.floor(ends[:, 0]), np.ceil(ends[:, 1])
        number = np.where(length > 0, high - low, 0)
        m = np.arange(int(number.max(initial=0)))
        raw = (start + low)[:, None] + m
        return Points(raw, m < number[:, None], raw, ends, number, moves, n)
    where = np.arange(at.samples) + (0.5 if at.bins == "align" else 0)
    raw = (start + ends[:, 0])[:, None] + where * length[:, None] / at.samples
    first, last = outermost(at.bins, n)
    read = (raw >= first) & (raw <= last)
    number = np.full(len(raw), at.samples) if at.bins == "align" else read.sum(axis=1)
    return Points(np.clip(raw, 0, n - 1), read, raw, ends, number, moves, n)


def outermost(bins: str, n: int) -> tuple[float, float]:
    """Between which coordinates a point of "mxnet" or "align" is read."""
    return (-1.0, float(n)) if bins == "align" else (-0.5, n - 0.5)


def clear(problem: Any) -> Array:
    """Which RoIs have nothing that jumps within the rounding of float32."""
    right: Array = np.ones(len(problem.rois), bool)
    r, _, i, j = layout.index(len(right), problem.geometry)
    both = points(problem.geometry, problem.rois, problem.offset, problem.shape.size)
    for at, bin in zip(both, (i, j), strict=True):
        reach = SINGLE * at.moves[:, None]
        if problem.bins == "paper":  # 0 h / k is exact
            near = (bin[:, None] + [0, 1] > 0) & _near_whole(at.ends, reach)
        else:
            limits = outermost(problem.bins, at.n)
            near = np.minimum(*(np.abs(at.raw - limit) for limit in limits)) <= reach
        if problem.offset is not None:
            near = np.concatenate([near, _near_whole(at.raw, reach)], axis=1)
        np.logical_and.at(right, r, ~near.any(axis=1))
    return right


def _near_whole(a: Array, reach: Array) -> Array:
    return np.abs(a - np.round(a)) <= reach


def weights(at: Points, u: float) -> tuple[Array, Array]:
    """Per bin and pixel q of the axis: the sum of g(q, p), and how often q is a corner of a p.

    A point at the map's edge may have the pixel there as both corners. A corner is also what a
    point may have after it was rounded.
    """
    away = np.abs(np.arange(at.n) - at.p[:, :, None])
    g = (at.read[:, :, None] * np.maximum(1 - away, 0)).sum(axis=1)
    times = at.read[:, :, None] * np.where(at.p == at.raw, 1, 2)[:, :, None]
    near = away < 1 + u * at.moves[:, None, None]
    return g, (times * near).sum(axis=1)
