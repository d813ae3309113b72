"""Equations (3) and (4) as device functions, shared by all kernels that sample.

reference.bilinear       here                          why it differs
G, a sparse matrix       `axis`, four weights          a thread samples one point, in registers
G_y, G_x                 the same with `slope`         derivative and weight have the same pixels
G^T grad                 `G`: G(q, p) for one q        a thread can own a pixel and ask every p
samples[nan] = nan       `is_nan` before the cell      NaN must not become an index

Everything is in the dtype of p, constants too: `f = type(p)`, then `f(1)`. Borders, kinks and
points that are not finite are those of the reference; none of its code is used here.
"""

# mypy: disable-error-code="no-untyped-def"

import math

from .shim import cuda


@cuda.jit(device=True)
def axis(p, size, dcnv1, right):
    """Equation (4), one axis: the lower pixel of the cell of p, g of the upper pixel, |dg/dp|.

    g of the lower pixel is one minus that of the upper, and dg/dp is minus and plus the last
    number. A p that reads nothing, because it is NaN, infinite or too far, has the cell (-2, -1),
    outside every map: it is never converted to an index.
    """
    f = type(p)
    if dcnv1:
        near = p >= f(0) and p < f(size)
    else:
        near = p >= f(-1) and p <= f(size)
    if not near:
        return -2, f(0), f(0)
    low = int(math.floor(p)) if right else int(math.ceil(p)) - 1
    if dcnv1:
        low = max(low, 0)
        if low == size - 1:  # the last pixel is repeated: its weight is 1 and stays so
            return low, f(0), f(0)
    return low, p - f(low), f(1)


@cuda.jit(device=True)
def is_nan(py, px):
    """True where the sample and its derivatives are NaN."""
    return math.isnan(py) or math.isnan(px)


@cuda.jit(device=True)
def read(x, low_y, y0, y1, low_x, x0, x1):
    """The sum over q of the cell of a(q_y) b(q_x) x(q): equation (3) if a and b are g.

    x is H W; (y0, y1) are a at rows low_y and low_y + 1, and (x0, x1) are b. The map is 0 outside.
    """
    f = type(y0)
    total = f(0)
    for i in range(2):
        for j in range(2):
            qy, qx = low_y + i, low_x + j
            if qy >= 0 and qy < x.shape[0] and qx >= 0 and qx < x.shape[1]:
                a = y1 if i == 1 else y0
                b = x1 if j == 1 else x0
                total += a * b * f(x[qy, qx])
    return total


@cuda.jit(device=True)
def sample(x, py, px, dcnv1):
    """Equation (3): x(p) = sum over q of G(q, p) x(q), for a map x of H W."""
    f = type(py)
    if is_nan(py, px):
        return f(math.nan)
    low_y, gy, _ = axis(py, x.shape[0], dcnv1, True)
    low_x, gx, _ = axis(px, x.shape[1], dcnv1, True)
    return read(x, low_y, f(1) - gy, gy, low_x, f(1) - gx, gx)


@cuda.jit(device=True)
def slopes(x, py, px, dcnv1, right):
    """dx(p)/dp_y and dx(p)/dp_x, the inner sums of equation (7), for a map x of H W."""
    f = type(py)
    if is_nan(py, px):
        return f(math.nan), f(math.nan)
    low_y, gy, dy = axis(py, x.shape[0], dcnv1, right)
    low_x, gx, dx = axis(px, x.shape[1], dcnv1, right)
    by_y = read(x, low_y, -dy, dy, low_x, f(1) - gx, gx)
    by_x = read(x, low_y, f(1) - gy, gy, low_x, -dx, dx)
    return by_y, by_x


@cuda.jit(device=True)
def G(qy, qx, py, px, height, width, dcnv1):
    """Equation (4): G(q, p) = g(q_y, p_y) g(q_x, p_x), for one pixel q of a height x width map."""
    f = type(py)
    low_y, gy, _ = axis(py, height, dcnv1, True)
    low_x, gx, _ = axis(px, width, dcnv1, True)
    if qy < low_y or qy > low_y + 1 or qx < low_x or qx > low_x + 1:
        return f(0)
    a = gy if qy > low_y else f(1) - gy
    b = gx if qx > low_x else f(1) - gx
    return a * b


@cuda.jit(device=True)
def scatter(grad_x, py, px, dcnv1, value):
    """G^T for one point: adds G(q, p) value to each of the four pixels q of a map of H W.

    By atomic addition, since many points read one pixel. Their order is not defined, so on numbers
    that round, the last bits of grad_x differ from run to run.
    """
    f = type(py)
    low_y, gy, _ = axis(py, grad_x.shape[0], dcnv1, True)
    low_x, gx, _ = axis(px, grad_x.shape[1], dcnv1, True)
    for i in range(2):
        for j in range(2):
            qy, qx = low_y + i, low_x + j
            if qy >= 0 and qy < grad_x.shape[0] and qx >= 0 and qx < grad_x.shape[1]:
                a = gy if i == 1 else f(1) - gy
                b = gx if j == 1 else f(1) - gx
                cuda.atomic.add(grad_x, (qy, qx), a * b * value)
