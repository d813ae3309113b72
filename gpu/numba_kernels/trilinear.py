"""Equations (3) and (4) with one axis more, as device functions: trilinear sampling of volumes.

reference.trilinear      here                             why it differs
eight corners            two planes of `bilinear.read`    a plane of a volume is a map

Each plane counts by its g along z. One axis, the borders, the kinks and the points that are not
finite are those of `bilinear`; a point with a NaN has no cell.
"""

# mypy: disable-error-code="no-untyped-def"

import math

from . import bilinear
from .bilinear import axis
from .shim import cuda


@cuda.jit(device=True)
def is_nan(pz, py, px):
    """True where the sample and its derivatives are NaN."""
    return math.isnan(pz) or bilinear.is_nan(py, px)


@cuda.jit(device=True)
def read(x, low_z, z0, z1, low_y, y0, y1, low_x, x0, x1):
    """The sum over q of the cell of a(q_z) b(q_y) c(q_x) x(q), for a volume x of D H W."""
    total = type(z0)(0)
    for i in range(2):
        qz = low_z + i
        if qz >= 0 and qz < x.shape[0]:
            a = z1 if i == 1 else z0
            total += a * bilinear.read(x[qz], low_y, y0, y1, low_x, x0, x1)
    return total


@cuda.jit(device=True)
def sample(x, pz, py, px, dcnv1):
    """Equation (3): x(p) = sum over q of G(q, p) x(q), for a volume x of D H W."""
    f = type(pz)
    if is_nan(pz, py, px):
        return f(math.nan)
    low_z, gz, _ = axis(pz, x.shape[0], dcnv1, True)
    low_y, gy, _ = axis(py, x.shape[1], dcnv1, True)
    low_x, gx, _ = axis(px, x.shape[2], dcnv1, True)
    return read(x, low_z, f(1) - gz, gz, low_y, f(1) - gy, gy, low_x, f(1) - gx, gx)


@cuda.jit(device=True)
def slopes(x, pz, py, px, dcnv1, right):
    """dx(p)/dp_z, dx(p)/dp_y and dx(p)/dp_x: the inner sums of equation (7)."""
    f = type(pz)
    if is_nan(pz, py, px):
        return f(math.nan), f(math.nan), f(math.nan)
    low_z, gz, dz = axis(pz, x.shape[0], dcnv1, right)
    low_y, gy, dy = axis(py, x.shape[1], dcnv1, right)
    low_x, gx, dx = axis(px, x.shape[2], dcnv1, right)
    by_z = read(x, low_z, -dz, dz, low_y, f(1) - gy, gy, low_x, f(1) - gx, gx)
    by_y = read(x, low_z, f(1) - gz, gz, low_y, -dy, dy, low_x, f(1) - gx, gx)
    by_x = read(x, low_z, f(1) - gz, gz, low_y, f(1) - gy, gy, low_x, -dx, dx)
    return by_z, by_y, by_x


@cuda.jit(device=True)
def G(qz, qy, qx, pz, py, px, depth, height, width, dcnv1):
    """Equation (4): G(q, p) = g(q_z, p_z) g(q_y, p_y) g(q_x, p_x), for one pixel q."""
    f = type(pz)
    low_z, gz, _ = axis(pz, depth, dcnv1, True)
    if qz < low_z or qz > low_z + 1:
        return f(0)
    a = gz if qz > low_z else f(1) - gz
    return a * bilinear.G(qy, qx, py, px, height, width, dcnv1)
