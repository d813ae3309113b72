"""Equations (3) and (4): bilinear sampling, as the sparse matrix it is.

Equation (3), x(p) = sum over q of G(q, p) x(q), is linear in x. So G is a matrix with one row per
point p and one column per pixel q, and at most four entries a row: the corners of the cell of p.

    x(p)          = G x              (3)
    dL/dx         = G^T dL/dx(p)     its adjoint
    dx(p)/dp_y    = G_y x            the inner sum of (7), with the same four entries a row

Borders. "zero" is (3) and (4) read literally: the map is 0 outside, and a sample fades out over
one pixel. "dcnv1" is what the authors' 2017 code computes: 0 unless 0 <= y < H and 0 <= x < W, and
inside that the last row and column are repeated.

Kinks. At whole p the derivative of g does not exist; `side` chooses the one-sided derivative. Under
"dcnv1" it is 0 along a repeated axis, and at p = 0 both sides return the inner derivative.

Points that are not finite. An infinite p reads 0 and has derivative 0. A NaN in p gives NaN for the
sample and both derivatives, and nothing of it reaches the gradient of x.
"""

from dataclasses import dataclass
from math import prod
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray as Array
from scipy.sparse import csr_array

from . import checks
from .geometry import Pair

Border = Literal["zero", "dcnv1"]
Side = Literal["right", "left"]
Matrix = Any  # scipy.sparse.csr_array, float; SciPy ships no types


class SampleGrads(NamedTuple):
    """The gradients of `sample`, each of the shape and dtype of its argument."""

    x: Array
    p: Array


class Axis(NamedTuple):
    """The two pixels next to p on one axis; where there is no pixel, g and dg are 0."""

    q: Int[Array, "*points 2"]
    g: Float[Array, "*points 2"]
    dg: Float[Array, "*points 2"]


@dataclass(frozen=True)
class Cells:
    """Where points lie on a map: the corners of their cells, as columns of the matrix G."""

    y: Axis
    x: Axis
    column: Int[Array, "maps points 2 2"]
    columns: int
    nan: Bool[Array, " rows"]

    @property
    def G(self) -> Matrix:
        """G(q, p) = g(q_y, p_y) g(q_x, p_x): equation (4)."""
        return self.matrix(self.y.g, self.x.g)

    @property
    def G_y(self) -> Matrix:
        """dG/dp_y."""
        return self.matrix(self.y.dg, self.x.g)

    @property
    def G_x(self) -> Matrix:
        """dG/dp_x."""
        return self.matrix(self.y.g, self.x.dg)

    @property
    def dG(self) -> tuple[Matrix, Matrix]:
        """dG/dp_y and dG/dp_x."""
        return self.G_y, self.G_x

    @property
    def axes(self) -> tuple[Axis, Axis]:
        """y and x."""
        return self.y, self.x

    def matrix(self, of_y: Array, of_x: Array) -> Matrix:
        """The sparse matrix of the products of_y of_x: a row per point, its four corners."""
        return rows(of_y[..., :, None] * of_x[..., None, :], self.column, self.columns)


def rows(
    value: Float[Array, "maps points *corners"],
    column: Int[Array, "maps points *corners"],
    columns: int,
) -> Matrix:
    """A sparse matrix with a row per point, whose entries are the corners of its cell."""
    corners = prod(value.shape[2:])
    index = np.int32 if max(value.size, columns) < 2**31 else np.int64
    row_start = np.arange(0, value.size + 1, corners, dtype=index)
    entries = (value.ravel(), column.ravel().astype(index), row_start)
    return csr_array(entries, shape=(value.size // corners, columns))


def g(a: Any, b: Any) -> Any:
    """Equation (4), one axis: g(a, b) = max(0, 1 - |a - b|), element by element."""
    return np.maximum(0, 1 - np.abs(np.subtract(a, b)))


def G(p: Array, size: Pair, *, border: Border = "zero") -> Matrix:
    """Equation (4) as a matrix: G(q, p) = g(q_y, p_y) g(q_x, p_x).

    p     ... 2: the points, (y, x) in pixels; float32 or float64 (float16 gives float32)
    size  (H, W) of the map
    Returns a csr_array of shape (points, H * W); row i belongs to p.reshape(-1, 2)[i]. The row of a
    point with a NaN is all zeros.
    """
    size = checks.check_matrix(p, size, border)
    return cells(computed(p).reshape(1, -1, 2), size, border).G


def dG(
    p: Array, size: Pair, *, border: Border = "zero", side: Side = "right"
) -> tuple[Matrix, Matrix]:
    """dG/dp_y and dG/dp_x, the derivatives in equation (7), as matrices like `G`."""
    size = checks.check_matrix(p, size, border, side)
    at = cells(computed(p).reshape(1, -1, 2), size, border, side)
    return at.G_y, at.G_x


def sample(x: Array, p: Array, *, border: Border = "zero") -> Array:
    """Equation (3): x(p) = sum over q of G(q, p) x(q).

    x       C H W
    p       ... 2: (y, x) in pixels of x; float32 too where x is float16
    border  "zero", the paper's, or "dcnv1", the authors' code (see the head of this file)
    Returns C ..., in the dtype of x. Raises ValueError or TypeError, see `checks`.
    """
    checks.check_sample(x, p, border)
    C, points = x.shape[0], p.shape[:-1]
    at = cells(computed(p).reshape(1, -1, 2), x.shape[1:], border)
    samples = read(at.G, at.nan, _pixels(x)).T.reshape(C, *points)
    return np.ascontiguousarray(samples, x.dtype)


def sample_backward(
    grad_output: Array, x: Array, p: Array, *, border: Border = "zero", side: Side = "right"
) -> SampleGrads:
    """The gradients of `sample`: G^T grad_output for x, and grad_output . (G_y x, G_x x) for p.

    grad_output  C ..., as the output of `sample`
    side         which derivative is returned at whole p: "right" or "left"
    """
    checks.check_sample(x, p, border, grad_output=grad_output, side=side)
    at = cells(computed(p).reshape(1, -1, 2), x.shape[1:], border, side)
    grad_samples = _pixels(grad_output)
    grad_x = (at.G.T @ grad_samples).T.reshape(x.shape)
    grad_p = slopes(at, _pixels(x), grad_samples).reshape(p.shape)
    return SampleGrads(as_given(grad_x, x), as_given(grad_p, p))


def cells(
    p: Float[Array, "maps points 2"], size: Pair, border: Border, side: Side = "right"
) -> Cells:
    """The cells of points on several maps at once: G gets one diagonal block per map."""
    y, x = axis(p[..., 0], size[0], border, side), axis(p[..., 1], size[1], border, side)
    pixels = size[0] * size[1]
    first = np.arange(p.shape[0])[:, None, None, None] * pixels
    column = first + y.q[..., :, None] * size[1] + x.q[..., None, :]
    return Cells(y, x, column, p.shape[0] * pixels, np.isnan(p).any(axis=-1).ravel())


def axis(p: Float[Array, "*points"], size: int, border: Border, side: Side) -> Axis:
    """Equation (4) along one axis: the pixels q on both sides of p, g(q, p) and dg/dp."""
    near = (p >= -1) & (p <= size) if border == "zero" else (p >= 0) & (p < size)
    p = np.where(near, p, 0)  # so that NaN, infinity and 1e30 never become an index
    low = np.floor(p) if side == "right" else np.ceil(p) - 1
    if border == "dcnv1":
        low = np.maximum(low, 0)
    above = p - low
    q = low.astype(np.int64)[..., None] + (0, 1)
    g = np.stack([1 - above, above], axis=-1)
    dg = np.stack([-np.ones_like(p), np.ones_like(p)], axis=-1)
    if border == "dcnv1":
        repeated = q[..., 1:] == size
        g = np.where(repeated, (g.dtype.type(1), g.dtype.type(0)), g)
        dg = np.where(repeated, g.dtype.type(0), dg)
    is_pixel = near[..., None] & (q >= 0) & (q < size)
    return Axis(np.clip(q, 0, size - 1), g * is_pixel, dg * is_pixel)


def read(
    G: Matrix, nan: Bool[Array, " points"], pixels: Float[Array, "pixels C"]
) -> Float[Array, "points C"]:
    """Equation (3) for every point and channel: G x, and NaN where p is NaN."""
    samples = G @ pixels
    if nan.any():
        samples[nan] = np.nan
    return samples


def slopes(
    at: Any, pixels: Float[Array, "pixels C"], grad_samples: Float[Array, "points C"]
) -> Float[Array, "points axes"]:
    """The gradient of p: grad_samples . (G_y x, G_x x), summed over channels.

    at  the `Cells` of the points, or those of a volume
    """
    each = [np.einsum("pc,pc->p", grad_samples, read(matrix, at.nan, pixels)) for matrix in at.dG]
    return np.stack(each, axis=-1)


def computed(a: Array) -> Array:
    """In the dtype of the arithmetic: float32 for float16, else as it is."""
    return a.astype(np.float32) if a.dtype == np.float16 else a


def as_given(grad: Any, argument: Array | None) -> Any:
    """A gradient in the dtype of its argument; None for an argument that was not given."""
    return None if argument is None else np.ascontiguousarray(grad, argument.dtype)


def _pixels(x: Array) -> Float[Array, "pixels C"]:
    """C ..., as in x or its samples, with one row per pixel or point."""
    return np.ascontiguousarray(computed(x).reshape(x.shape[0], -1).T)
