"""The points of a RoI bin on one axis, as device functions: the rules "paper", "mxnet", "align".

reference.roi_points      here                        why it differs
lines, dense on an axis   `point`, one at a time      a thread samples its points, in registers
sums over points, at q    `line`                      a thread can own a pixel and ask every bin
nan, kept as a mask       n_ij is NaN                 then the mean is NaN, and it is not above 0

The points of a bin are a grid. On one axis they are a tuple `axis`, which `bin_axis` makes:

    first, end   the points m in range(first, end) are all that can read the map
    count        the factor of n_ij
    begin, length, move   where they are; see `point`

Everything is in the dtype of the arguments, constants too: `f = type(start)`, then `f(1)`. A number
that is not finite, or too large, is never converted to an index or to the bound of a loop.
"""

# mypy: disable-error-code="no-untyped-def"

import math

from .shim import cuda

PAPER, MXNET, ALIGN = 0, 1, 2
RULES = {"paper": PAPER, "mxnet": MXNET, "align": ALIGN}


@cuda.jit(device=True)
def nearest(a):
    """The whole number next to a, half away from zero, as C's round."""
    f = type(a)
    size = a if a >= f(0) else -a
    whole = f(math.floor(size))
    if size - whole >= f(0.5):
        whole += f(1)
    return whole if a >= f(0) else -whole


@cuda.jit(device=True)
def span(first, last, scale, rule):
    """Where a RoI starts and how long it is on an axis, y1 s and h in equation (5), by the rule."""
    f = type(scale)
    if rule == MXNET:
        start = nearest(first) * scale - f(0.5)
        end = (nearest(last) + f(1)) * scale - f(0.5)
        return start, max(end - start, f(0.1))
    size = (last - first) * scale
    if rule == ALIGN:
        return first * scale - f(0.5), size
    return first * scale, size


@cuda.jit(device=True)
def bin_axis(start, size, i, k, move, n, samples, rule, right):
    """The points of bin i of k, equation (5), each moved by `move`, on an axis of n pixels."""
    f = type(start)
    if rule == PAPER:
        size = max(size, f(0))  # an inverted RoI has no points
        return whole_points(start + move, f(i) * size / f(k), f(i + 1) * size / f(k), n, right)
    length = size / f(k)
    axis = 0, samples, f(samples), start + f(i) * length, length, move
    if rule == ALIGN:
        return axis
    count = f(0)
    for m in range(samples):
        if near(grid_point(m, axis, samples, rule), n, rule):
            count += f(1)
    return axis[0], axis[1], count, axis[3], axis[4], axis[5]


@cuda.jit(device=True)
def whole_points(begin, lower, upper, n, right):
    """Equation (5): begin + p for whole p, floor(lower) <= p < ceil(upper).

    They are numbered by the pixel below them. Points outside the map are counted, not visited.
    """
    f = type(begin)
    nought = f(0)
    if not (math.isfinite(lower) and math.isfinite(upper)):
        return 0, 0, nought, nought, nought, nought
    low, high = f(math.floor(lower)), f(math.ceil(upper))
    count = max(high - low, nought)
    if not math.isfinite(begin) or count == nought:
        return 0, 0, count, nought, nought, nought
    cell = below(begin, right)
    first = int(min(max(cell + low, f(-1)), f(n)))
    end = int(min(max(cell + high, f(-1)), f(n)))
    return first, end, count, begin, nought, nought


@cuda.jit(device=True)
def point(m, axis, n, samples, rule, right):
    """Equation (4), one axis, at point m: the pixel below it, g of the pixel above, |dg/dp|.

    As in `bilinear.axis`. A point that reads nothing has the cell (-2, -1), outside every map; one
    that is moved to the edge of the map does not move with its bin.
    """
    p = axis[3]
    f = type(p)
    if rule == PAPER:  # all points of a bin have the same fraction
        return m, p - below(p, right), f(1)
    p = grid_point(m, axis, samples, rule)
    if not near(p, n, rule):
        return -2, f(0), f(0)
    last = f(n - 1)
    if p < f(0) or (p == f(0) and not right):
        return 0, f(0), f(0)
    if p > last or (p == last and right):
        return n - 1, f(0), f(0)
    low = below(p, right)
    return int(low), p - low, f(1)


@cuda.jit(device=True)
def grid_point(m, axis, samples, rule):
    """The coordinate of point m of `samples`: a sub-bin's start ("mxnet") or centre ("align")."""
    begin, length, move = axis[3], axis[4], axis[5]
    f = type(begin)
    where = f(m) + f(0.5) if rule == ALIGN else f(m)
    return begin + where * length / f(samples) + move


@cuda.jit(device=True)
def near(p, n, rule):
    """Whether a point of "mxnet" or "align" reads the map: False for NaN and infinity too."""
    f = type(p)
    if rule == ALIGN:
        return p >= f(-1) and p <= f(n)
    return p >= f(-0.5) and p <= f(n) - f(0.5)


@cuda.jit(device=True)
def below(p, right):
    """The whole number below p, as a float; at a whole p, on the left, the one before."""
    f = type(p)
    if right:
        return f(math.floor(p))
    return f(math.ceil(p)) - f(1)


@cuda.jit(device=True)
def line(q, axis, n, samples, rule):
    """Equation (4), one axis, summed over the points of a bin: sum of g(q, p), for one pixel q."""
    first, end = axis[0], axis[1]
    f = type(axis[3])
    if rule == PAPER:
        first, end = max(first, q - 1), min(end, q + 1)
    total = f(0)
    for m in range(first, end):
        low, upper, _ = point(m, axis, n, samples, rule, True)
        if low == q:
            total += f(1) - upper
        elif low + 1 == q:
            total += upper
    return total
