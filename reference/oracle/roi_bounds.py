"""How far an honest float result of RoI pooling may be from the exact one.

    |computed - exact| <= 2 (u (4 terms + 8) size + moved)

size is the sum of the absolute values of the terms, of which there are `terms`, each the sum over
the four corners of a cell. moved is what the same sum may change by when every point moves as far
as rounding moves it, `roi_coordinates`: at each of its corners g changes by no more than p does. It
is 0 where the points of a problem are exact, as in all families but "floats". There it takes a
problem that is `clear`. The bound is doubled, because the exact result is the reference's in
float64.

A slope is a difference of corners, each point's own: where they cancel, exactly in ours, others
have rounded twice. That of an offset is multiplied by gamma h, and h is rounded like a coordinate.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray as Array

from deformable_convnets.reference import roi_layout as layout
from deformable_convnets.reference.geometry import RoiGeometry
from deformable_convnets.reference.roi_points import span

from .roi_coordinates import points, weights
from .roi_problems import RoiProblem


class Axis(NamedTuple):
    """Of every bin: g of the pixels of an axis, their corners, and how far the points may move."""

    g: Array
    corners: Array
    moves: Array


def tolerances(problem: RoiProblem, u: float) -> tuple[Array, Array, Array]:
    """The bounds on y and on the gradients of x and offset, for unit roundoff u."""
    at, R, moved = problem.geometry, problem.shape.rois, u if problem.family == "floats" else 0.0
    both = points(at, problem.rois, problem.offset, problem.shape.size)
    axes = [Axis(*weights(one, moved), moved * one.moves) for one in both]
    count = both[0].number * both[1].number
    count = np.where(count > 0, count, 1)[:, None]
    r, p, i, j = layout.index(R, at)
    maps = layout.maps(problem.rois[r, 0].astype(int), p, i, j, at)
    pixels = layout.pixels(np.abs(problem.x), at)
    planes = pixels.reshape(layout.map_count(problem.shape.N, at), *problem.shape.size, -1)
    grad = layout.bins(np.abs(problem.grad_output), at) / count
    each, bins = int(count.max(initial=1)), max(len(count), 1)
    units = [u * (4 * terms + 8) for terms in (each, each * bins, each * bins * at.channels)]
    y = np.einsum("byx,byxc->bc", _samples(axes, units[0]), planes[maps]) / count
    x = np.zeros_like(planes)
    np.add.at(x, maps, _samples(axes, units[1])[..., None] * grad[:, None, None])
    seen = np.einsum("bc,byxc->byx", grad, planes[maps])
    slopes = [
        (_slopes(axes, d, units[2], size) * seen).sum(axis=(1, 2)) * problem.gamma
        for d, size in enumerate(sizes(problem)[r].T)
    ]
    return (
        2 * layout.from_bins(y, R, at),
        2 * layout.from_pixels(x.reshape(pixels.shape), problem.x.shape, at),
        2 * by_part(slopes, R, at),
    )


def by_part(slopes: list[Array], R: int, at: RoiGeometry) -> Array:
    """What the bins say of dy and of dx, added up in the shape of the offset."""
    r, p, i, j = layout.index(R, at)
    offset = np.zeros((R, at.classes, 2, *at.part))
    for d in (0, 1):
        where: Any = (r, p, d, *layout.parts(i, j, at))
        np.add.at(offset, where, slopes[d])
    return offset.reshape(R, 2 * at.classes, *at.part)


def _samples(axes: list[Axis], units: float) -> Array:
    """What rounding may change in the sum of G(q, p) over a bin, B H W: its terms, and its points.

    units  what rounding may change in a term of size 1
    """
    y, x = axes
    return (
        units * _outer(y.g, x.g)
        + _outer(y.moves[:, None] * y.corners, x.g + x.moves[:, None] * x.corners)
        + _outer(y.g, x.moves[:, None] * x.corners)
    )


def _slopes(axes: list[Axis], d: int, units: float, size: Array) -> Array:
    """As `_samples`, for h dG/dp along axis d: g moves on the other axis, dg/dp stays as it is."""
    own, other = axes[d], axes[1 - d]
    steady = (units * size + own.moves)[:, None] * other.g
    slopes = _outer(own.corners, steady + (size * other.moves)[:, None] * other.corners)
    return slopes if d == 0 else slopes.swapaxes(1, 2)


def _outer(a: Array, b: Array) -> Array:
    return a[:, :, None] * b[:, None, :]


def sizes(problem: RoiProblem) -> Array:
    """|h| and |w| of each RoI."""
    rois, scale = problem.rois.astype(np.float64), problem.spatial_scale
    both = [span(rois[:, d], rois[:, d + 2], scale, problem.bins).size for d in (2, 1)]
    return np.abs(np.stack(both, axis=1))
