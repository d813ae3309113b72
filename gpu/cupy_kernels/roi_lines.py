"""Equation (4), one axis, summed over the points of RoI bins, on whole arrays.

reference.roi_points    here                     why it differs
one entry per bin       RoIs, parts and bins     arrays that broadcast: no index per bin
cells, compared to q    g and dg of every q      equation (4) as it is printed, on a dense axis
nan, kept as a mask     NaN in the count         it is carried into the mean by arithmetic

`xp` is the array module, cupy or numpy. The rules "paper", "mxnet" and "align", and points that are
not finite, are those of the reference; none of its code is used.
"""

from typing import Any, NamedTuple

Array = Any


class Span(NamedTuple):
    """A RoI on one axis in pixels of x: its start, y1 s in equation (5), and its size, h."""

    start: Array
    size: Array


class Lines(NamedTuple):
    """Per bin: sum of g(q, p) over its points p for each q, that of dg/dp, and a factor of n_ij."""

    g: Array
    dg: Array
    count: Array


def span(xp: Any, first: Array, last: Array, scale: float, rule: str) -> Span:
    """Where RoIs start and how long they are on an axis, by the rule, in their dtype."""
    f = first.dtype.type
    if rule == "mxnet":
        start, end = (xp_round(xp, a) for a in (first, last))
        start, end = start * f(scale) - f(0.5), (end + f(1)) * f(scale) - f(0.5)
        return Span(start, xp.maximum(end - start, f(0.1)))
    size = (last - first) * f(scale)
    return Span(first * f(scale) - f(0.5 if rule == "align" else 0), size)


def xp_round(xp: Any, a: Array) -> Array:
    """The whole number next to a, half away from zero, as C's round."""
    size = abs(a)
    whole = xp.floor(size)
    return xp.copysign(whole + (size - whole >= 0.5), a).astype(a.dtype)


def lines(
    xp: Any, rule: str, at: Span, i: Array, k: int, move: Array, n: int, samples: int, side: str
) -> Lines:
    """The points of bin i of k, each moved by `move`, on an axis of n pixels, which is the last."""
    q = xp.arange(n, dtype=move.dtype)
    if rule == "paper":
        return whole_points(xp, at, i, k, move, q, side)
    return grid_points(xp, rule, at, i, k, move, q, samples, side)


def whole_points(
    xp: Any, at: Span, i: Array, k: int, move: Array, q: Array, side: str
) -> Lines:  # fmt: skip
    """Equation (5): start + p + move for whole p, floor(i h / k) <= p < ceil((i + 1) h / k).

    All have the same fraction: q is read by the p of q, just below it, and by the one before.
    """
    size = xp.maximum(at.size, 0)  # an inverted RoI has no points
    low, high = xp.floor(i * size / k), xp.ceil((i + 1) * size / k)
    begin = at.start + move
    finite, nought = xp.isfinite(begin), q.dtype.type(0)
    begin = xp.where(finite, begin, nought)
    cell = xp.floor(begin) if side == "right" else xp.ceil(begin) - 1
    upper, p = (begin - cell)[..., None], q - cell[..., None]
    lower_p, upper_p, reads = low[..., None], high[..., None], finite[..., None]
    at_p = (reads & (lower_p <= p) & (p < upper_p)).astype(q.dtype)
    before = (reads & (lower_p <= p - 1) & (p - 1 < upper_p)).astype(q.dtype)
    count = xp.where(high > low, high - low, nought) + xp.where(xp.isnan(move), move, nought)
    return Lines((1 - upper) * at_p + upper * before, before - at_p, count.astype(q.dtype))


def grid_points(
    xp: Any, rule: str, at: Span, i: Array, k: int, move: Array, q: Array, samples: int, side: str
) -> Lines:
    """`samples` points, at the starts ("mxnet") or centres ("align") of as many sub-bins.

    A point moved to the edge of the map does not move with its bin: its derivative is 0.
    """
    f, n, align = move.dtype.type, len(q), rule == "align"
    margin = f(1 if align else 0.5)
    length = at.size / f(k)
    begin, g, dg = at.start + i * length, f(0), f(0)
    count = xp.where(xp.isnan(move), move, f(0))
    for s in range(samples):
        p = begin + length * f(s + 0.5 if align else s) / f(samples) + move
        near = (p >= -margin) & (p <= f(n - 1) + margin)  # NaN and infinity end here
        count = count + (1 if align else near)
        p = xp.where(near, p, f(0))[..., None]
        free = (p >= 0) & (p < n - 1) if side == "right" else (p > 0) & (p <= n - 1)
        edge = xp.clip(p, 0, n - 1)
        g = near[..., None] * xp.maximum(0, 1 - abs(q - edge)) + g
        if side == "right":
            rises, falls = (q - 1 <= p) & (p < q), (q <= p) & (p < q + 1)
        else:
            rises, falls = (q - 1 < p) & (p <= q), (q < p) & (p <= q + 1)
        slope = rises.astype(q.dtype) - falls.astype(q.dtype)
        dg = (near[..., None] & free) * slope + dg
    return Lines(g.astype(q.dtype), dg.astype(q.dtype), count.astype(q.dtype))
