"""The points of a RoI bin: three rules, `bins="paper"`, "mxnet" and "align".

Equations (5) and (6) are one sentence: the mean of the bilinear sample over the points of a bin,
moved by the bin's offset. The points of every rule form a grid, and G of equation (4) is a product
over the axes. So a sum over the points of a bin is a product too: of a sum over their rows and a
sum over their columns. A rule therefore lays points on one axis only, and returns for each bin

    q      the pixels around its points, as many for every bin
    g      sum over its points y of g(q, y)
    dg     the derivative of that sum in y: what the offset's gradient needs
    number how many points the mean divides by

"paper"  equations (5) and (6): h = (y2 - y1) s, y2 exclusive, nothing rounded; bin i of k has all
         whole p with floor(i h / k) <= p < ceil((i + 1) h / k), at y1 s + p. Outside the map x is
         0, and n_ij counts those points too
"mxnet"  the authors' DeformablePSROIPooling: corners rounded, y2 inclusive, h at least 0.1;
         `samples` points at the starts of sub-bins. A point more than half a pixel outside the
         map is dropped, and not counted; else it is moved to the map's edge
"align"  RoIAlign (aligned=True): h = (y2 - y1) s from y1 s - 0.5; `samples` points at the centres
         of sub-bins, all counted. More than one pixel outside is 0; else it is moved to the edge

A point moved to the edge does not move with its bin: its derivative is 0.
"""

from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray as Array

from .bilinear import Side

Rule = Literal["paper", "mxnet", "align"]
BINS = ("paper", "mxnet", "align")


class Span(NamedTuple):
    """A RoI on one axis, in pixels of x: where it starts and how long it is, h or w."""

    start: Float[Array, " R"]
    size: Float[Array, " R"]


class Lines(NamedTuple):
    """The points of each bin on one axis, summed: see the head of this file."""

    q: Int[Array, "B width"]
    g: Float[Array, "B width"]
    dg: Float[Array, "B width"]
    number: Float[Array, " B"]


def span(first: Any, last: Any, scale: float, bins: str) -> Span:
    """The start and size of RoIs with these two coordinates on an axis, by the rule `bins`."""
    scale = first.dtype.type(scale)
    if bins == "paper":
        return Span(first * scale, (last - first) * scale)
    half = first.dtype.type(0.5)
    if bins == "align":
        return Span(first * scale - half, (last - first) * scale)
    start = _rounded(first) * scale - half
    end = (_rounded(last) + 1) * scale - half
    return Span(start, np.maximum(end - start, first.dtype.type(0.1)))


def lines(
    bins: str, at: Span, i: Any, k: int, move: Array, n: int, samples: int, side: Side
) -> Lines:
    """The points of bin i of k on an axis of n pixels, each moved by `move`.

    at, i and move have one entry per bin.
    """
    i = i.astype(at.size.dtype)  # whole numbers of 64 bits would make float32 coordinates float64
    if bins == "paper":
        return _whole_points(at, i, k, move, n, side)
    return _grid_points(bins, at, i, k, move, n, samples, side)


def _whole_points(at: Span, i: Any, k: int, move: Array, n: int, side: Side) -> Lines:
    """Equation (5): whole p, floor(i h / k) <= p < ceil((i + 1) h / k), at start + p + move.

    All of them have one fraction f, so pixel q gets 1 - f of the point p just above it and f of
    the one just below: points outside the map are never visited. An inverted RoI has no points.
    """
    size = np.maximum(at.size, 0)
    low, high = np.floor((i * size) / k), np.ceil(((i + 1) * size) / k)
    cell, f, finite = _cell(at.start + move, side)
    q = _window(cell + low, cell + high, n)
    p, f = q - cell[:, None], f[:, None]
    low_p, high_p, finite = low[:, None], high[:, None], finite[:, None]
    above = finite & (p >= low_p) & (p < high_p)
    below = finite & (p - 1 >= low_p) & (p - 1 < high_p)
    g = (1 - f) * above + f * below
    return Lines(q, g, below.astype(f.dtype) - above, np.maximum(high - low, 0))


def _grid_points(
    bins: str, at: Span, i: Any, k: int, move: Array, n: int, samples: int, side: Side
) -> Lines:
    """`samples` points per bin, one after another."""
    length, dtype = at.size / k, at.size.dtype
    where = np.arange(samples, dtype=dtype) + dtype.type(0.5 if bins == "align" else 0)
    points = [at.start + i * length + w * length / samples + move for w in where]
    ends = [_cell(np.clip(y, 0, n - 1), side)[0] for y in (points[0], points[-1])]
    q = _window(np.minimum(*ends), np.maximum(*ends) + 1, n)
    g, dg = np.zeros((2, *q.shape), dtype)
    count = np.zeros(len(move), dtype)
    for y in points:
        beyond = (y < -1) | (y > n) if bins == "align" else (y < -0.5) | (y > n - 0.5)
        kept = ~beyond & np.isfinite(y)
        count += 1 if bins == "align" else kept
        free = (y >= 0) & (y < n - 1) if side == "right" else (y > 0) & (y <= n - 1)
        cell, f, _ = _cell(np.clip(y, 0, n - 1), side)
        cell, f = np.where(free, cell, np.clip(y, 0, n - 1)), np.where(free, f, 0)
        for pixel, weight, slope in ((cell, 1 - f, -1), (cell + 1, f, 1)):
            hit = (q == pixel[:, None]) & kept[:, None]
            g += hit * weight[:, None]
            dg += hit * (free * dtype.type(slope))[:, None]
    return Lines(q, g, dg, count)


def _window(low: Array, high: Array, n: int) -> Int[Array, "B width"]:
    """The pixels of the map from low to high of each bin, and others beside them to be as many."""
    ends = np.nan_to_num([low, high])  # the size of a RoI may overflow
    first, last = np.clip(ends, 0, n - 1).astype(np.int64)
    width = int((last - first).max(initial=0)) + 1
    return np.minimum(first, n - width)[:, None] + np.arange(width)


def _cell(y: Array, side: Side) -> tuple[Array, Array, Array]:
    """The whole number below y (at a whole y, on the left, the one before), y's part above it."""
    finite = np.isfinite(y)
    y = np.where(finite, y, 0)
    low = np.floor(y) if side == "right" else np.ceil(y) - 1
    return low, y - low, finite


def _rounded(a: Array) -> Array:
    """Half away from zero, as C's round; NumPy's rounds half to even."""
    low = np.floor(np.abs(a))
    return np.copysign(low + (np.abs(a) - low >= 0.5), a)
