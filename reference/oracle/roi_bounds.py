"""How far an honest float result of RoI pooling may be from the exact one, at exact points.

Where the points of a problem are exact, as in `roi_problems`, only sums of ordinary numbers round:

    |computed - exact| <= u (4 terms + 8) size

size is the sum of the absolute values of the terms, of which there are `terms`, each the sum over
the four corners of a cell. It is doubled, because the exact result is the reference's in float64. A
slope is a difference of corners, each point's its own: where they cancel, exactly in ours, others
have rounded twice.
"""

from typing import Any

import numpy as np
from numpy import ndarray as Array

from deformable_convnets.reference import roi_layout as layout
from deformable_convnets.reference.roi_bins import bins_of
from deformable_convnets.reference.roi_points import Lines

from .roi_problems import RoiProblem


def tolerances(problem: RoiProblem, u: float) -> tuple[Array, Array, Array]:
    """The bounds on y and on the gradients of x and offset, for unit roundoff u."""
    geometry, shape = problem.geometry, problem.x.shape
    at = bins_of(shape, problem.rois, problem.offset, geometry)
    pixels = layout.pixels(np.abs(problem.x), geometry)
    grad = layout.bins(np.abs(problem.grad_output), geometry) / at.count
    points, bins = int(at.count.max(initial=1)), max(len(at.count), 1)
    y = layout.from_bins(abs(at.M) @ pixels / at.count, problem.shape.rois, geometry)
    x = layout.from_pixels(abs(at.M).T @ grad, shape, geometry)
    differences = (at.matrix(_steps(at.y), at.x.g), at.matrix(at.y.g, _steps(at.x)))
    slopes = [np.einsum("bc,bc->b", grad, m @ pixels) for m in differences]
    grad_p = np.stack(slopes, axis=1) * np.abs(at.sizes) * problem.gamma
    r, p, i, j = layout.index(problem.shape.rois, geometry)
    a, b = layout.parts(i, j, geometry)
    offset = np.zeros((problem.shape.rois, geometry.classes, 2, *geometry.part))
    for d in (0, 1):
        where: Any = (r, p, d, a, b)
        np.add.at(offset, where, grad_p[:, d])
    flat = offset.reshape(problem.shape.rois, 2 * geometry.classes, *geometry.part)
    terms = (points, points * bins, points * bins * problem.shape.Cout)
    scaled = [2 * u * (4 * t + 8) * size for t, size in zip(terms, (y, x, flat), strict=True)]
    return scaled[0], scaled[1], scaled[2]


def _steps(lines: Lines) -> Array:
    """At least how often a pixel is a corner of a point of the bin, along one axis."""
    near = np.pad((lines.g != 0) | (lines.dg != 0), ((0, 0), (1, 1)))
    near = near[:, :-2] | near[:, 1:-1] | near[:, 2:]
    return 2 * near * lines.number[:, None]
