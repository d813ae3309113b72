"""Where an element of a result reads: its sampling points, by equation (2), (3), (5) or (6)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray as Array

import deformable_convnets.reference as reference
from deformable_convnets.reference import bilinear, roi_layout
from deformable_convnets.reference.geometry import Pair, centres
from deformable_convnets.reference.roi_points import span

from . import wrong_calls, wrong_pooling

Box = tuple[float, float, float, float]  # top, left, bottom, right


class Site(NamedTuple):
    """The sampling points (y, x) of an element, and what is around them.

    size    H, W
    plane   of x: image and channel
    points  p
    grid    p0 + p_n, or the bin's points before it is moved; None where nothing is moved
    marked  the one point that the element is about
    pixel   p0, or the pixel that the element is about
    boxes   the RoI, and the bin
    kernel, filter   of a convolution, and the filter (o, c) that meets the plane
    """

    size: Pair
    plane: tuple[int, ...]
    points: Array
    grid: Array | None = None
    border: bilinear.Border = "zero"
    marked: int | None = None
    pixel: tuple[int, ...] | None = None
    boxes: tuple[Box, ...] = ()
    kernel: Pair | None = None
    filter: Pair = (0, 0)

    def inside(self) -> float:
        """The share of the points, moved and not, that are on the map."""
        p = self.points if self.grid is None else np.concatenate([self.points, self.grid])
        on = (p >= 0) & (p <= np.subtract(self.size, 1))
        return float(on.all(axis=1).mean()) if len(p) else 0.0


def site(operator: str, a: dict[str, Any], name: str, at: tuple[int, ...]) -> Site | None:
    """The site of result[at], `name` being "y" or the argument of a gradient."""
    operator = operator.removesuffix("_backward")
    a = {n: v for n, v in a.items() if n not in ("grad_output", "side")}
    if name in ("weight", "bias"):
        return None
    if operator == "sample":
        return _of_sample(a, name, at)
    return (_of_bin if "rois" in a else _of_taps)(operator, a, name, at)


def _of_sample(a: dict[str, Any], name: str, at: tuple[int, ...]) -> Site:
    size, flat = a["x"].shape[1:], a["p"].reshape(-1, 2).astype("f8")
    if name == "x":
        return Site(size, at[:1], _near(flat, at[1:]), border=a["border"], pixel=at[1:])
    where, plane = (at[:-1], (0,)) if name == "p" else (at[1:], at[:1])
    return Site(size, plane, a["p"][where].reshape(1, 2).astype("f8"), border=a["border"])


def _of_taps(operator: str, a: dict[str, Any], name: str, at: tuple[int, ...]) -> Site:
    """Equation (2): p0 + p_n + Delta p_n."""
    c = wrong_calls.Call(getattr(reference, operator), (), a)
    layer, (C, H, W), channels = c.layer, a["x"].shape[1:], a["weight"].shape[1]
    plain, K = wrong_calls.grid(layer).astype("f8"), layer.kernel[0] * layer.kernel[1]
    field = c.field.astype("f8") if "offset" in a else np.zeros((len(a["x"]), 1, *plain.shape))
    border = a.get("border", "zero")
    if name == "x":
        p = plain + field[at[0], at[1] * field.shape[1] // C]
        points = np.moveaxis(p, 1, -1).reshape(-1, 2)
        return Site((H, W), at[:2], _near(points, at[2:]), border=border, pixel=at[2:])
    n, channel, i, j = at
    first = channel // (len(a["weight"]) // (C // channels)) * channels  # of the filter's group
    g, marked = first * field.shape[1] // C, None
    if name in ("offset", "mask"):
        g, marked = divmod(channel // (2 if name == "offset" else 1), K)
        first = g * C // field.shape[1]
    grid = plain[:, :, i, j]
    return Site(
        (H, W), (n, first), grid + field[n, g, :, :, i, j], grid if "offset" in a else None, border,
        marked, tuple(map(int, centres(layer)[i, j])), kernel=layer.kernel, filter=(channel, 0),
    )  # fmt: skip


def _near(points: Array, pixel: tuple[int, ...]) -> Array:
    """The points that read a pixel: those less than 1 from it, on both axes."""
    return points[(np.abs(points - pixel) < 1).all(axis=1)]


def _of_bin(operator: str, a: dict[str, Any], name: str, at: tuple[int, ...]) -> Site:
    """Equations (5) and (6): the points of bin (i, j), moved by gamma (h, w) times its offset."""
    c = wrong_pooling.Call(getattr(reference, operator), (), a)
    geometry, size = c.geometry, a["x"].shape[2:]
    if name == "x":
        return Site(size, at[:2], np.zeros((0, 2)), pixel=at[2:])
    r, channel, i, j = at
    p = channel // (geometry.channels // geometry.classes)
    if name == "offset":
        rows, columns = np.indices(geometry.output)
        a_, b_ = roi_layout.parts(rows, columns, geometry)
        first = np.argwhere((a_ == i) & (b_ == j))[0]
        p, i, j = channel // 2, int(first[0]), int(first[1])
        channel = p * (geometry.channels // geometry.classes)
    part = roi_layout.parts(np.array(i), np.array(j), geometry)
    lines, box, bin_ = [], [], []
    for d, number in enumerate((i, j)):
        along = span(a["rois"][r, 2 - d], a["rois"][r, 4 - d], geometry.scale, geometry.bins)
        start, length, k = float(along.start), float(along.size), geometry.output[d]
        lines.append(start + _line(geometry, number, length, k))
        box.append((start, start + length))
        bin_.append((start + number * length / k, start + (number + 1) * length / k))
    grid = np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1).reshape(-1, 2)
    move = geometry.gamma * c.field[r, p, :, part[0], part[1]] * c.sizes[r, 0, :, 0, 0]
    (gh, gw), (kh, kw) = geometry.group, geometry.output
    plane = int(a["rois"][r, 0]), (channel * gh + i * gh // kh) * gw + j * gw // kw
    boxes = tuple((y[0], x[0], y[1], x[1]) for y, x in (box, bin_))
    return Site(size, plane, grid + move, grid if c.moves else None, boxes=boxes)


def _line(geometry: Any, i: int, length: float, k: int) -> Array:
    """The points of bin i of k on one axis, from the start of the RoI: see `roi_points`."""
    if geometry.bins == "paper":
        length = max(length, 0)  # an inverted RoI has no points
        return np.arange(np.floor(i * length / k), np.ceil((i + 1) * length / k))
    half = 0.5 if geometry.bins == "align" else 0.0
    return i * length / k + (np.arange(geometry.samples) + half) * length / k / geometry.samples


def slopes(a: dict[str, Any], grad: Array, at: tuple[int, ...]) -> Array:
    """The gradient (dy, dx) of each point of the site: of every tap, or of one point or bin."""
    if "p" in a:
        return grad[at[:-1]].reshape(1, 2)
    if "rois" in a:
        field = grad.reshape(len(grad), -1, 2, *grad.shape[2:])
        return field[at[0], at[1] // 2, :, at[2], at[3]][None]
    return _taps(grad, a["weight"].shape[2:], 2, at).reshape(-1, 2)


Grid = tuple[str, str, Callable[[Array], Array]]


def grids(a: dict[str, Any], name: str, at: tuple[int, ...]) -> list[Grid]:
    """What is shown of a gradient around one of its elements: a title, cells and the choice."""
    if name == "p":
        dydx = f"grads.p[{_list(at[:-1])}]"
        return [(dydx, "axis", lambda v: v[at[:-1]].reshape(1, 2))]
    if name == "bias":
        return [("grads.bias", "output", lambda v: v.reshape(1, -1))]
    if name == "weight":
        return [(f"grads.weight[{_list(at[:2])}] by tap", "tap", lambda v: v[at[:2]])]
    if "rois" in a:
        r, p = at[0], at[1] // 2
        title = f"grads.offset of RoI {r} by part"
        return [(f"{title}, {('dy', 'dx')[d]}", "part", _channel(r, 2 * p + d)) for d in (0, 1)]
    kernel = a["weight"].shape[2:]
    where = f"by tap, at pixel ({_list(at[2:])}) of y"
    if name == "mask":
        return [(f"grads.mask {where}", "tap", lambda v: _taps(v, kernel, 1, at)[:, :, 0])]
    return [(f"grads.offset {where}, {word}", "tap", _direction(kernel, d, at))
            for d, word in enumerate(("dy", "dx"))]  # fmt: skip


def _channel(r: int, channel: int) -> Callable[[Array], Array]:
    return lambda v: v[r, channel]


def _direction(kernel: Pair, d: int, at: tuple[int, ...]) -> Callable[[Array], Array]:
    return lambda v: _taps(v, kernel, 2, at)[:, :, d]


def _taps(v: Array, kernel: Pair, numbers: int, at: tuple[int, ...]) -> Array:
    """kh kw numbers: a field of numbers by tap, at one output pixel."""
    field = v.reshape(len(v), -1, *kernel, numbers, *v.shape[2:])
    group = at[1] // (kernel[0] * kernel[1] * numbers)
    _, _, i, j = at
    return field[at[0], group, ..., i, j]


def _list(at: tuple[int, ...]) -> str:
    return ", ".join(map(str, at))
