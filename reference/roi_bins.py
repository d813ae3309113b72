"""Equations (5) and (6) as a matrix: every bin of every RoI is a row, with the weights of a mean.

    y       = M x / n_ij                     the mean over the points of a bin
    dL/dx   = M^T (dL/dy / n_ij)             its adjoint
    dy/dp_y = M_y x / n_ij                   (7'): moving the bin moves all its points

A map of x is one image and one of the groups of channels that a bin may read: `roi_layout` says
which. The row of a bin is the product of its lines on the two axes, from `roi_points`.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray as Array
from scipy.sparse import csr_array

from . import roi_layout as layout
from .bilinear import Matrix, Side, as_given, computed
from .geometry import RoiGeometry
from .roi_points import Lines, lines, span


class Bins(NamedTuple):
    """M, its derivatives in y and x, n_ij (1 where it is 0), the bins moved by NaN, and h, w."""

    M: Matrix
    M_y: Matrix
    M_x: Matrix
    count: Float[Array, "B 1"]
    nan: Bool[Array, " B"]
    sizes: Float[Array, "B 2"]


def pool(x: Array, rois: Array, offset: Array | None, geometry: RoiGeometry) -> Array:
    """Equations (5) and (6) for checked arguments: R Cout kh kw."""
    at = bins_of(x.shape, rois, offset, geometry)
    y = at.M @ layout.pixels(computed(x), geometry) / at.count
    y[at.nan] = np.nan
    return np.ascontiguousarray(layout.from_bins(y, len(rois), geometry), x.dtype)


def pool_backward(
    grad_output: Array,
    x: Array,
    rois: Array,
    offset: Array | None,
    geometry: RoiGeometry,
    side: Side,
) -> tuple[Array, Array | None]:
    """The gradients of x and of the normalised offset, (7'), for checked arguments."""
    at = bins_of(x.shape, rois, offset, geometry, side)
    grad = layout.bins(computed(grad_output), geometry) / at.count
    grad_x = layout.from_pixels(at.M.T @ grad, x.shape, geometry)
    if offset is None:
        return as_given(grad_x, x), None
    pixels = layout.pixels(computed(x), geometry)
    slopes = [np.einsum("bc,bc->b", grad, m @ pixels) for m in (at.M_y, at.M_x)]
    grad_p = np.stack(slopes, axis=1) * (at.sizes * at.sizes.dtype.type(geometry.gamma))
    grad_p[at.nan] = np.nan
    r, p, i, j = layout.index(len(rois), geometry)
    a, b = layout.parts(i, j, geometry)
    grad_offset = np.zeros((len(rois), geometry.classes, 2, *geometry.part), grad.dtype)
    for d in (0, 1):
        np.add.at(grad_offset, (r, p, d, a, b), grad_p[:, d])
    return as_given(grad_x, x), as_given(grad_offset.reshape(offset.shape), offset)


def bins_of(
    shape: layout.Shape,
    rois: Array,
    offset: Array | None,
    geometry: RoiGeometry,
    side: Side = "right",
) -> Bins:
    """The matrix of all bins (r, p, i, j), p the class group, in this order."""
    r, p, i, j = layout.index(len(rois), geometry)
    rois, (H, W), (kh, kw) = computed(rois)[r], shape[2:], geometry.output
    y_at, x_at = (
        span(rois[:, first], rois[:, first + 2], geometry.scale, geometry.bins) for first in (2, 1)
    )
    sizes, gamma = np.stack([y_at.size, x_at.size], axis=1), rois.dtype.type(geometry.gamma)
    move = np.zeros_like(sizes)
    if offset is not None:
        field = computed(offset).reshape(-1, geometry.classes, 2, *geometry.part)
        a, b = layout.parts(i, j, geometry)
        move = gamma * field[r, p, :, a, b] * sizes
    y = lines(geometry.bins, y_at, i, kh, move[:, 0], H, geometry.samples, side)
    x = lines(geometry.bins, x_at, j, kw, move[:, 1], W, geometry.samples, side)
    maps = layout.maps(rois[:, 0].astype(np.int64), p, i, j, geometry)
    count = y.count * x.count
    return Bins(
        *_matrices(y, x, maps * (H * W), W, layout.map_count(shape[0], geometry) * H * W),
        np.where(count > 0, count, 1)[:, None],
        np.isnan(move).any(axis=1),
        sizes,
    )


def _matrices(
    y: Lines, x: Lines, first: Int[Array, " B"], W: int, columns: int
) -> tuple[Matrix, Matrix, Matrix]:
    """The products of lines as sparse rows: of (g, g), (dg, g) and (g, dg)."""
    (rows, y_g, y_dg), (cols, x_g, x_dg) = _window(y), _window(x)
    column = first[:, None, None] + rows[:, :, None] * W + cols[:, None, :]
    index = np.int32 if max(column.size, columns) < 2**31 else np.int64
    row_start = np.arange(len(first) + 1, dtype=index) * (rows.shape[1] * cols.shape[1])
    column = column.ravel().astype(index)

    def matrix(of_y: Array, of_x: Array) -> Matrix:
        value = (of_y[:, :, None] * of_x[:, None, :]).ravel()
        return csr_array((value, column, row_start), shape=(len(first), columns))

    return matrix(y_g, x_g), matrix(y_dg, x_g), matrix(y_g, x_dg)


def _window(line: Lines) -> tuple[Array, Array, Array]:
    """The pixels that each bin touches, as many for every bin, with g and dg there."""
    touched = (line.g != 0) | (line.dg != 0)
    n = touched.shape[1]
    first = touched.argmax(axis=1) if n else np.zeros(len(touched), int)
    last = n - 1 - touched[:, ::-1].argmax(axis=1)
    width = int(np.where(touched.any(axis=1), last - first + 1, 0).max(initial=1))
    q = np.minimum(first, n - width)[:, None] + np.arange(width)
    take = np.arange(len(touched))[:, None]
    return q, line.g[take, q], line.dg[take, q]
