"""Equations (3) and (4) on whole arrays. `xp` is the array module, cupy or numpy.

reference.bilinear    here                      why it differs
G, a sparse matrix    four gathers, weighted    a GPU gathers well; no matrix is built
G_y, G_x              the same, weights dg      derivative and weight have the same pixels
G^T grad              `xp.add.at`               on a GPU by atomics, whose order is undefined
samples[nan] = nan    NaN added at the end      NaN must not become an index

Borders, kinks and points that are not finite are those of the reference; none of its code is used.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np


class Axis(NamedTuple):
    """Equation (4), one axis: two pixels per point, clipped to the map, and g and dg there."""

    q: tuple[Any, Any]
    g: tuple[Any, Any]
    dg: tuple[Any, Any]


def axis(xp: Any, p: Any, size: int, border: str, side: str) -> Axis:
    """Equation (4), one axis, of an array of coordinates; where there is no pixel, g = dg = 0."""
    nought = p.dtype.type(0)
    near = (p >= -1) & (p <= size) if border == "zero" else (p >= 0) & (p < size)
    p, slope = xp.where(near, p, nought), near.astype(p.dtype)  # NaN and infinity end here
    low = xp.floor(p) if side == "right" else xp.ceil(p) - 1
    if border == "dcnv1":
        low = xp.maximum(low, 0)
        repeated = low == size - 1
        p, slope = xp.where(repeated, low, p), xp.where(repeated, nought, slope)
    upper, q = p - low, low.astype("int64")
    inside = [(near & (i >= 0) & (i < size)).astype(p.dtype) for i in (q, q + 1)]
    return Axis(
        (xp.clip(q, 0, size - 1), xp.clip(q + 1, 0, size - 1)),
        ((1 - upper) * inside[0], upper * inside[1]),
        (-slope * inside[0], slope * inside[1]),
    )


class Cells:
    """The cells of points p, G points 2, in G stacks of maps of H W, one stack per offset group."""

    def __init__(self, xp: Any, p: Any, size: tuple[int, int], border: str, side: str = "right"):
        self.xp, self.width = xp, size[1]
        self.y = axis(xp, p[..., 0], size[0], border, side)
        self.x = axis(xp, p[..., 1], size[1], border, side)
        self.nan = xp.where(xp.isnan(p).any(axis=-1), float("nan"), 0.0).astype(p.dtype)

    def corners(self, g: int, of_y: Any, of_x: Any) -> Iterator[tuple[Any, Any]]:
        """The four (q, a(q_y) b(q_x)) of each point of group g, q as an index into H * W."""
        for i in (0, 1):
            for j in (0, 1):
                yield self.y.q[i][g] * self.width + self.x.q[j][g], of_y[i][g] * of_x[j][g]

    def read(self, x: Any, of_y: Any = None, of_x: Any = None) -> Any:
        """Equation (3): G C/G points, the sum over q of G(q, p) x(q), for x of G C/G H*W."""
        weights = of_y or self.y.g, of_x or self.x.g
        groups = [
            sum(weight * x[g][:, q] for q, weight in self.corners(g, *weights)) + self.nan[g]
            for g in range(x.shape[0])
        ]
        return self.xp.stack(groups)

    def slopes(self, x: Any, grad: Any) -> Any:
        """Equation (7): G points 2, grad dx(p)/dp summed over channels."""
        by_y, by_x = self.read(x, of_y=self.y.dg), self.read(x, of_x=self.x.dg)
        return self.xp.stack([(grad * by_y).sum(axis=1), (grad * by_x).sum(axis=1)], axis=-1)

    def scatter(self, grad: Any, grad_x: Any) -> None:
        """G^T: adds grad, G C/G points, to the pixels of grad_x, G C/G H*W, that they read."""
        for g in range(grad_x.shape[0]):
            for q, weight in self.corners(g, self.y.g, self.x.g):
                self.xp.add.at(grad_x[g], (slice(None), q), weight * grad[g])


def computed(a: Any) -> Any:
    """In the dtype of the arithmetic: float32 for float16, else as it is."""
    return a.astype(computed_dtype(a.dtype), copy=False)


def computed_dtype(dtype: Any) -> Any:
    """The dtype of the arithmetic on arrays of this one."""
    return np.dtype(np.float32) if dtype == np.float16 else dtype
