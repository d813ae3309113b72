"""Equations (3) and (4) with one axis more: trilinear sampling of volumes.

"Without loss of generality, the modules are described in 2D for notation clarity. Extension to 3D
is straightforward." (section 2). G is a product with one factor per axis, so in a volume it is

    G(q, p) = g(q_z, p_z) g(q_y, p_y) g(q_x, p_x)

and a row of the matrix G has eight entries, the corners of the cell of p. One axis of it, the
borders, the kinks and the points that are not finite are those of `bilinear`.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray as Array

from .bilinear import Axis, Border, Matrix, Side, axis, rows
from .geometry import Triple


@dataclass(frozen=True)
class VolumeCells:
    """Where points lie in a volume: the corners of their cells, as columns of the matrix G."""

    z: Axis
    y: Axis
    x: Axis
    column: Int[Array, "maps points 2 2 2"]
    columns: int
    nan: Bool[Array, " rows"]

    @property
    def G(self) -> Matrix:
        """G(q, p) = g(q_z, p_z) g(q_y, p_y) g(q_x, p_x): equation (4) in a volume."""
        return self.matrix(self.z.g, self.y.g, self.x.g)

    @property
    def dG(self) -> tuple[Matrix, Matrix, Matrix]:
        """dG/dp_z, dG/dp_y and dG/dp_x."""
        z, y, x = self.z, self.y, self.x
        return self.matrix(z.dg, y.g, x.g), self.matrix(z.g, y.dg, x.g), self.matrix(z.g, y.g, x.dg)

    @property
    def axes(self) -> tuple[Axis, Axis, Axis]:
        """z, y and x."""
        return self.z, self.y, self.x

    def matrix(self, of_z: Array, of_y: Array, of_x: Array) -> Matrix:
        """The sparse matrix of the products of_z of_y of_x: a row per point, its eight corners."""
        of_zy = of_z[..., :, None] * of_y[..., None, :]
        return rows(of_zy[..., None] * of_x[..., None, None, :], self.column, self.columns)


def cells(
    p: Float[Array, "maps points 3"], size: Triple, border: Border, side: Side = "right"
) -> VolumeCells:
    """The cells of points (z, y, x) in several volumes at once: a diagonal block of G for each."""
    z, y, x = (axis(p[..., i], size[i], border, side) for i in range(3))
    D, H, W = size
    first = np.arange(p.shape[0])[:, None, None, None, None] * (D * H * W)
    plane = z.q[..., :, None, None] * (H * W)
    column = first + plane + y.q[..., None, :, None] * W + x.q[..., None, None, :]
    return VolumeCells(z, y, x, column, p.shape[0] * D * H * W, np.isnan(p).any(axis=-1).ravel())
