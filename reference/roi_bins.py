"""Equations (5) and (6) as a matrix: every bin of every RoI is a row, with the weights of a mean.

    y       = M x / n_ij                     the mean over the points of a bin
    dL/dx   = M^T (dL/dy / n_ij)             its adjoint
    dy/dp_y = M_y x / n_ij                   (7'): moving the bin moves all its points

A map of x is one image and one of the groups of channels that a bin may read: `roi_layout` says
which. The row of a bin is the product of its lines on the two axes, from `roi_points`.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray as Array
from scipy.sparse import csr_array

from . import roi_layout as layout
from .bilinear import Matrix, Side, as_given, computed
from .geometry import RoiGeometry
from .layout import Shape
from .roi_points import Lines, lines, span


@dataclass(frozen=True)
class Bins:
    """The points of all bins on the two axes, and the pixels around them, as columns of M.

    count  n_ij, or 1 where it is 0
    nan    the bins that a NaN moves
    sizes  h, w
    """

    y: Lines
    x: Lines
    column: Int[Array, "B height width"]
    columns: int
    count: Float[Array, "B 1"]
    nan: Bool[Array, " B"]
    sizes: Float[Array, "B 2"]

    @property
    def M(self) -> Matrix:
        """The sum of G(q, p) over the points p of a bin."""
        return self.matrix(self.y.g, self.x.g)

    @property
    def M_y(self) -> Matrix:
        """dM/dp_y."""
        return self.matrix(self.y.dg, self.x.g)

    @property
    def M_x(self) -> Matrix:
        """dM/dp_x."""
        return self.matrix(self.y.g, self.x.dg)

    def matrix(self, of_y: Array, of_x: Array) -> Matrix:
        """The sparse matrix of the products of_y of_x: a row per bin, without its zeros."""
        value = of_y[:, :, None] * of_x[:, None, :]
        index = np.int32 if max(value.size, self.columns) < 2**31 else np.int64
        row_start = np.arange(len(value) + 1, dtype=index) * value[:1].size
        column = self.column.ravel().astype(index)
        rows = csr_array((value.ravel(), column, row_start), shape=(len(value), self.columns))
        rows.eliminate_zeros()
        return rows


def pool(x: Array, rois: Array, offset: Array | None, geometry: RoiGeometry) -> Array:
    """Equations (5) and (6) for checked arguments: R Cout kh kw."""
    at = bins_of(x.shape, rois, offset, geometry)
    y = at.M @ layout.pixels(computed(x), geometry)
    y /= at.count
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
        where: Any = (r, p, d, a, b)
        np.add.at(grad_offset, where, grad_p[:, d])
    return as_given(grad_x, x), as_given(grad_offset.reshape(offset.shape), offset)


def bins_of(
    shape: Shape,
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
        with np.errstate(invalid="ignore", over="ignore"):  # an infinite offset, an empty RoI
            move = gamma * field[r, p, :, a, b] * sizes
    y = lines(geometry.bins, y_at, i, kh, move[:, 0], H, geometry.samples, side)
    x = lines(geometry.bins, x_at, j, kw, move[:, 1], W, geometry.samples, side)
    maps = layout.maps(rois[:, 0].astype(np.int64), p, i, j, geometry)
    count = y.number * x.number
    return Bins(
        y,
        x,
        (maps[:, None, None] * H + y.q[:, :, None]) * W + x.q[:, None, :],
        layout.map_count(shape[0], geometry) * H * W,
        np.where(count > 0, count, 1)[:, None],
        np.isnan(move).any(axis=1),
        sizes,
    )
