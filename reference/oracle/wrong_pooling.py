"""How a right call of a RoI operator becomes a wrong one, as `wrong_calls` does for the others.

Each operator is a special case of `deform_ps_roi_pool`, and so are its wrong versions: a `Call` of
any of the four runs that one, with the arguments of plain pooling filled in.
"""

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from numpy import ndarray as Array

from .. import bilinear, equations, roi_bins, roi_layout
from ..geometry import RoiGeometry
from ..ps_roi_pool import deform_ps_roi_pool, deform_ps_roi_pool_backward
from ..roi_checks import check_roi_pool
from ..roi_points import span
from ..roi_pool import RoiPoolGrads
from . import wrong_calls
from .wrong_calls import gathered_back
from .wrong_gradients import last_written, turned

Wrong = dict[str, Callable[[Any], Any]]  # of a Call
UP = np.array([-1, 1]).reshape(2, 1, 1)  # of dy and dx, where y points up


class Call(wrong_calls.Call):
    """One call of a RoI operator. `call(x=...)` runs it, changed; `call.offset` is never None."""

    def __init__(self, op: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]):
        super().__init__(op, args, options)
        a = self.arguments
        self.plain, a["group_size"] = "offset" not in a, a.get("group_size", 1)
        a["gamma"] = 1.0 if self.plain else a["gamma"]
        self.moves = a.get("offset") is not None
        geometry = self.geometry
        a["group_size"], a["part_size"] = geometry.group, geometry.part
        if not self.moves:
            a["offset"] = np.zeros((len(self.rois), 2, *geometry.part), self.x.dtype)

    @cached_property
    def geometry(self) -> RoiGeometry:
        forward = {n: v for n, v in self.arguments.items() if n not in ("grad_output", "side")}
        return check_roi_pool(**forward)

    def changed(self, **changes: Any) -> "Call":
        """Another call of a forward; its offset may be the zeros of none."""
        return Call(deform_ps_roi_pool, (), {**self.arguments, **changes})

    def __call__(self, **changes: Any) -> Any:
        arguments = {**self.arguments, **changes}
        if "grad_output" not in arguments:
            return deform_ps_roi_pool(**arguments)
        grads = deform_ps_roi_pool_backward(**arguments)
        if self.plain:
            return RoiPoolGrads(grads.x)
        return grads if self.moves else grads._replace(offset=None)

    @cached_property
    def field(self) -> Array:
        """The offset as R P 2 part_h part_w."""
        return by_class(self.offset)

    @property
    def sizes(self) -> Array:
        """h and w of each RoI, R 1 2 1 1: what a field is multiplied by."""
        at, rois = self.geometry, bilinear.computed(self.rois)
        both = [span(rois[:, d], rois[:, d + 2], at.scale, at.bins).size for d in (2, 1)]
        return np.stack(both, axis=1)[:, None, :, None, None]

    @property
    def starts(self) -> Array:
        """Where each RoI begins, R 1 2 1 1, in pixels of x."""
        at, rois = self.geometry, bilinear.computed(self.rois)
        both = [span(rois[:, d], rois[:, d + 2], at.scale, at.bins).start for d in (2, 1)]
        return np.stack(both, axis=1)[:, None, :, None, None]

    @property
    def bins(self) -> roi_bins.Bins:
        return roi_bins.bins_of(self.x.shape, self.rois, self.offset, self.geometry)

    @property
    def counts(self) -> Array:
        """n_ij, in the shape of y."""
        at, count = self.geometry, self.bins.count
        wide = np.broadcast_to(count, (len(count), at.channels // at.classes))
        return roi_layout.from_bins(wide, len(self.rois), at).astype(self.x.dtype)


def by_class(offset: Array) -> Array:
    """An offset as R P 2 part_h part_w."""
    R, channels, *part = offset.shape
    return offset.reshape(R, channels // 2, 2, *part)


def by_channel(field: Array) -> Array:
    """R P 2 part_h part_w as an offset again."""
    return field.reshape(len(field), 2 * field.shape[1], *field.shape[3:])


def gathered(change: Callable[[Array, Call], Array]) -> Callable[[Call], Any]:
    """Run on the numbers of the offset in another order; its gradient follows."""

    def wrong(c: Call) -> Any:
        offset = np.ascontiguousarray(by_channel(change(c.field, c)))
        if not (c.backward and c.moves):
            return c(offset=offset)
        index = by_class(np.arange(c.offset.size).reshape(c.offset.shape))
        return gathered_back(c(offset=offset), c.offset, change(index, c))

    return wrong


def with_move(
    change: Callable[[Call], Array], slope: Callable[[Call], Array] | None = None
) -> Callable[[Call], Any]:
    """Run with bins moved by so many pixels, given as R P 2 part_h part_w.

    slope  how far a bin moves by each unit of the offset, gamma (h, w) unless given
    """

    def wrong(c: Call) -> Any:
        move, sizes = np.broadcast_arrays(change(c), c.sizes)
        field = divided(move, sizes)
        found = c(offset=by_channel(field).astype(c.offset.dtype), gamma=1.0)
        if not (c.backward and c.moves):
            return found
        by = np.broadcast_to((slope or (lambda c: c.gamma * c.sizes))(c), sizes.shape)
        grad = by_channel(by_class(found.offset) * divided(by, sizes))
        return found._replace(offset=grad.astype(c.offset.dtype))

    return wrong


def in_units(slope: Callable[[Call], Array]) -> Callable[[Call], Any]:
    """Run with bins moved by the offset times this, not gamma (h, w)."""
    return with_move(lambda c: slope(c) * c.field, slope)


def with_rois(change: Callable[[Array, Call], Array]) -> Callable[[Call], Any]:
    return lambda c: c(rois=change(c.rois, c).astype(c.rois.dtype))


def only(bins: tuple[str, ...], wrong: Callable[[Call], Any]) -> Callable[[Call], Any]:
    """A mistake that only these rules can have."""
    return lambda c: wrong(c) if c.geometry.bins in bins else c()


def half_step(c: Call) -> Array:
    """Half the distance of two samples, in pixels."""
    k = np.reshape(c.geometry.output, (2, 1, 1))
    return c.sizes / k / (2 * c.geometry.samples)


def moved(c: Call) -> Array:
    """How far the bins move, in pixels."""
    return c.gamma * c.field * c.sizes


def divided(a: Array, b: Array) -> Array:
    """a / b, and 0 where b is."""
    a, b = np.broadcast_arrays(a, b)
    return np.divide(a, b, out=np.zeros(a.shape, a.dtype), where=b != 0)


def by_area(c: Call) -> Array:
    """n_ij over the area of a bin, in the shape of y."""
    area = (c.sizes / np.reshape(c.geometry.output, (2, 1, 1))).prod(axis=2)
    return divided(c.counts, area)


def clipped(rois: Array, c: Call) -> Array:
    """Corners moved to the map, where its last pixel ends for "paper"."""
    H, W = np.subtract(c.x.shape[2:], 1 if c.geometry.bins == "mxnet" else 0) / c.spatial_scale
    return np.concatenate([rois[:, :1], np.clip(rois[:, 1:], 0, (W, H, W, H))], axis=1)


def at_least_one(rois: Array, c: Call) -> Array:
    last = np.maximum(rois[:, 3:], rois[:, 1:3] + 1 / c.spatial_scale)
    return np.concatenate([rois[:, :3], last], axis=1)


def half_away(a: Array) -> Array:
    return np.trunc(a + np.copysign(0.5, a))


def torchvision(rois: Array, scale: float) -> Array:
    """RoIs of whole pixels of x, both ends inclusive and no smaller than one pixel."""
    rois = np.where(np.arange(5) > 0, half_away(rois * scale), rois)
    last = np.maximum(rois[:, 3:], rois[:, 1:3]) + 1
    return np.concatenate([rois[:, :3], last], axis=1)


def by_points(c: Call, reduce: Callable[..., Array], kept: Callable[..., Any]) -> Any:
    """Equation (6) bin by bin; `kept` chooses from a bin's points, h w 2, those that count."""
    at, (N, _, H, W) = c.geometry, c.x.shape
    if at.bins != "paper":
        return c()
    (kh, kw), (gh, gw), P = at.output, at.group, at.classes
    maps = c.x.reshape(N, P, at.channels // P, gh, gw, H, W)
    pooling = equations.Pooling(
        c.x, c.rois, c.offset, at.output,
        scale=at.scale, gamma=c.gamma, group=at.group, part=at.part,
    )  # fmt: skip
    dtype = np.result_type(c.x.dtype, np.float32)
    y = np.zeros((len(c.rois), P, at.channels // P, kh, kw), dtype)
    for r, p, i, j in np.ndindex(len(y), P, kh, kw):
        h, w = pooling.size(r)
        shape = [len(equations.bin_range(b, k, s)) for b, k, s in ((i, kh, h), (j, kw, w))]
        points = pooling.points(r, p * (at.channels // P), i, j)
        grid = np.reshape(np.array(points, dtype), (*shape, 2))
        chosen = kept(grid, (H, W), (i, j), at.output, (h, w)).reshape(-1, 2)
        if len(chosen):
            x = maps[int(c.rois[r, 0]), p, :, i * gh // kh, j * gw // kw]
            y[r, p, :, i, j] = reduce(bilinear.sample(x, chosen), axis=1)
    return y.reshape(len(y), at.channels, kh, kw).astype(c.x.dtype)


def inside(grid: Array, size: Any, *_: Any) -> Array:
    return grid[((grid >= 0) & (grid <= np.subtract(size, 1))).all(axis=-1)]


def clamped(grid: Array, size: Any, *_: Any) -> Array:
    return np.clip(grid, 0, np.subtract(size, 1)).astype(grid.dtype)


def nearest(grid: Array, *_: Any) -> Array:
    return np.floor(grid + grid.dtype.type(0.5))


def floored(grid: Array, _: Any, bin: Any, k: Any, size: Any) -> Array:
    """Bins that end before floor((i + 1) h / k), where the next one begins."""
    rows, cols = (int((b + 1) * s // n) - int(b * s // n)
                  for b, n, s in zip(bin, k, size, strict=True))  # fmt: skip
    return grid[:rows, :cols]


def every_other_channel(field: Array, c: Call) -> Array:
    """The field as one class group per channel, channel o reading group o mod P."""
    return field[:, np.arange(c.geometry.channels) % c.geometry.classes]


def maps(c: Call, *shape: int) -> Array:
    """The numbers of the channels of x, in such an array; -1 is Cout."""
    return np.arange(c.x.shape[1]).reshape([c.geometry.channels if n < 0 else n for n in shape])


def maps_by_columns(c: Call) -> Array:
    return maps(c, -1, *c.group_size[::-1]).swapaxes(1, 2)


def maps_by_bin(c: Call) -> Array:
    return np.moveaxis(maps(c, *c.group_size, -1), 2, 0)


def first_map(c: Call) -> Array:
    return wrong_calls.repeated(maps(c, -1, math.prod(c.group_size)), 1)


def overwritten(c: Call) -> Any:
    at = c.geometry
    grad = roi_layout.bins(bilinear.computed(c.grad_output), at) / c.bins.count
    lost = roi_layout.from_pixels(last_written(c.bins.M, grad.T).T, c.x.shape, at)
    return c()._replace(x=lost.astype(c.x.dtype))


def by_count(c: Any) -> Any:
    return c(grad_output=c.grad_output * c.counts)


def first_channels(c: Any) -> Any:
    """The gradients of the first channel of each class group alone."""
    at = c.geometry
    first = np.arange(at.channels) % (at.channels // at.classes) == 0
    return c(grad_output=c.grad_output * first[:, None, None].astype(c.x.dtype))


def last_roi(c: Call) -> Any:
    """The gradients of the last RoI alone."""
    kept = np.arange(len(c.rois)) == len(c.rois) - 1
    return c(grad_output=c.grad_output * kept[:, None, None, None].astype(c.x.dtype))


def last_bins(c: Call) -> Any:
    """The gradients of the last bin of each part alone."""
    ends: Any = [
        [(i + 1) * part // k > i * part // k for i in range(k)]
        for part, k in zip(c.geometry.part, c.geometry.output, strict=True)
    ]
    return c(grad_output=c.grad_output * np.outer(*ends).astype(c.x.dtype))


def of_field(change: Callable[[Array, Any], Array]) -> Callable[[Call], Any]:
    """The right gradients but for that of the offset, changed as R P 2 part_h part_w."""
    return turned("offset", lambda a, c: change(a.reshape(c.field.shape), c))
