"""RoI pooling on the GPU (CUDA C++), v2: a team of threads per bin, for all of its channels.

numba_kernels.roi_pool     here                         why it differs
x, N C H W                 channels last, map by map    wide loads: a bin reads one map
one launch                 chunks of RoIs               y and its gradient are rows for a while
grad_x_scattered (v2)      backward                     the offset's gradient at the same time
grad_x (v1)                `_gather`                    work for pixels that a bin touches

`roi_pool.cu` has the kernels; a `device` runs them. All operators are these two functions: without
offsets, with one map, or with both.
"""

from math import prod
from typing import Any

import numpy as np

from deformable_convnets.reference.geometry import RoiGeometry

from . import layout
from .build import Build, build, lanes_for
from .deform_conv import BACKWARD_WORKSPACE, LARGEST, WORKSPACE

RULES = {"paper": 0, "mxnet": 1, "align": 2}
WHOLE = ("rule", "samples", "right", "channels", "P", "kh", "kw", "gh", "gw", "part_h", "part_w",
         "H", "W")  # fmt: skip


class RoiPooling:
    """One call: its shape, its build of the kernels, and the steps of forward and backward."""

    def __init__(self, device: Any, x: Any, rois: Any, offset: Any, *, geometry: RoiGeometry,
                 side: str = "right"):  # fmt: skip
        self.device, self.at, self.x, self.offset = device, geometry, x, device.packed(offset)
        self.R, self.S = rois.shape[0], prod(geometry.output)
        self.maps, self.bins = prod(geometry.group), self.S * geometry.classes
        self.channels = geometry.channels // geometry.classes
        self.build = self._build()
        self.shape = self._shape(side)
        self.rois = device.packed(device.rounded(rois, self.build.arithmetic))

    def _build(self) -> Build:
        at, field = self.at, self.x if self.offset is None else self.offset
        made = build(self.x.dtype, field.dtype, self.channels)
        pooling = RULES[at.bins], at.samples, self.channels
        parts = max(self.R, 1) * 2 * at.classes * prod(at.part)
        largest = max(
            prod(self.x.shape), self.R * self.S * at.channels, parts, self.most_pixels(),
            *(k * max(groups) for k, *groups in zip(at.output, at.group, at.part, strict=True)),
        )  # fmt: skip
        return made._replace(
            lanes=lanes_for(self.channels // made.vec, self.device), wide=largest >= LARGEST,
            pooling=pooling if self.device.specialises else None,
        )  # fmt: skip

    def most_pixels(self) -> int:
        """Of all bins of a RoI, counted for each class group."""
        points = self.x.shape[2:] if self.at.bins == "paper" else (2 * self.at.samples,) * 2
        pixels = [min(n, m) for n, m in zip(self.x.shape[2:], points, strict=True)]
        return self.bins * prod(pixels)

    def _shape(self, side: str) -> Any:
        at, A = self.at, self.build.arithmetic
        types = [(name, np.int32) for name in WHOLE] + [("scale", A), ("gamma", A)]
        values = (
            RULES[at.bins], at.samples, side == "right", self.channels, at.classes, *at.output,
            *at.group, *at.part, *self.x.shape[2:], at.scale, at.gamma,
        )  # fmt: skip
        with np.errstate(over="ignore"):
            return np.array(values, np.dtype(types, align=True))

    def run(self, kernel: str, size: int, *arguments: Any) -> None:
        self.device.run("roi_pool.cu", kernel, self.build, size, *arguments)

    def number(self, value: int) -> Any:
        return self.build.index(value)

    def rows(self) -> Any:
        """x, channels last, the channels of a map side by side."""
        return layout.rows(self.device, self.x, self.build, groups=self.maps)

    def copied(self) -> int:
        """The bytes of x, channels last, where it is not so."""
        own = self.maps == 1 and layout.is_rows(self.x)
        return 0 if own else prod(self.x.shape) * int(self.x.dtype.itemsize)

    def chunks(self, limit: int, per_roi: int) -> Any:
        """The first RoI and the number of RoIs of chunks that need `limit` bytes; at least one."""
        most = min(max(limit // per_roi, 1), max(self.R, 1))
        if not self.build.wide:
            most = max(min(most, LARGEST // (self.bins * self.channels)), 1)
        return ((first, min(most, self.R - first)) for first in range(0, self.R, most))

    def forward(self, limit: int | None) -> Any:
        """Equations (5) and (6)."""
        d, at, A = self.device, self.at, self.build.arithmetic
        y = layout.empty_like(d, self.x, (self.R, at.channels, *at.output))
        if self.R == 0:
            return y
        x, row = self.rows(), self.S * at.channels * A.itemsize
        room = WORKSPACE if limit is None else limit - self.copied()
        for first, count in self.chunks(room, row):
            rows = d.empty((count * self.S, at.channels), A)
            self.run("forward", count * self.bins * self.build.lanes, x, self.rois, self.offset,
                     rows, self.shape, self.number(first), self.number(count))  # fmt: skip
            layout.put_rows(d, rows, y, self.build, first=first * self.S)
        return y


class Backward:
    """One call: the gradients that are wanted, added up over its chunks."""

    def __init__(self, call: RoiPooling, grad_output: Any, wrt: tuple[str, ...],
                 deterministic: bool):  # fmt: skip
        self.call, self.device = call, call.device
        self.grad_output = layout.turnable(self.device, grad_output)
        self.wrt, self.deterministic = wrt, deterministic and "x" in wrt
        d, (N, C, H, W) = self.device, call.x.shape
        self.x: Any = d.zeros((N * H * W, C), call.build.arithmetic) if "x" in wrt else None
        self.offset: Any = None
        if "offset" in wrt and call.offset is not None:
            self.offset = d.empty(call.offset.shape, call.offset.dtype)

    def run(self, limit: int | None) -> dict[str, Any]:
        """The gradients by name."""
        call, d = self.call, self.device
        limit = BACKWARD_WORKSPACE if limit is None else max(limit - self._copied(), 0)
        x = call.rows() if self.offset is not None and call.R else None
        for first, count in call.chunks(limit, self._bytes()):
            grad = layout.rows_of(d, self.grad_output, call.build, first * call.S, count * call.S)
            if self.deterministic:
                self._gather(grad, first, count, limit)
            self._backward(grad, x, first, count)
        made = {"x": self._rounded(), "offset": self.offset}
        return {name: made[name] for name in self.wrt}

    def _copied(self) -> int:
        """Of x, and of its gradient as it is added up."""
        A, of_x = self.call.build.arithmetic.itemsize, self.call.copied()
        sums = 0 if self.x is None else prod(self.call.x.shape) * A
        return sums + (0 if self.offset is None else of_x)

    def _bytes(self) -> int:
        """For each RoI: its rows, and the sizes of its bins and their sums."""
        rows = self.call.S * self.call.at.channels * self.grad_output.dtype.itemsize
        return rows + 2 * 8 * self.call.bins * self.deterministic

    def _backward(self, grad: Any, x: Any, first: int, count: int) -> None:
        """Equation (7'), and the gradient of x by atomics."""
        call = self.call
        grad_x = None if self.deterministic else self.x
        if grad_x is None and self.offset is None:
            return
        parts = count * prod(call.at.part) * call.at.classes
        call.run("backward", parts * call.build.lanes, grad, x, call.rois, call.offset, grad_x,
                 self.offset, call.shape, call.number(first), call.number(count))  # fmt: skip

    def _gather(self, grad: Any, first: int, count: int, limit: int) -> None:
        """Equation (6), its adjoint: what bins add to pixels, sorted by the pixel."""
        call, d = self.call, self.device
        sizes = d.empty((count * call.bins,), "int64")
        call.run("sizes", len(sizes), call.rois, call.offset, sizes, call.shape,
                 call.number(first), call.number(count))  # fmt: skip
        ends = d.cumulated(sizes)
        of_rois = d.numbers(ends[call.bins - 1 :: call.bins])
        each = 3 * 8 + call.build.arithmetic.itemsize + call.build.index_bytes
        most = limit // each if call.build.wide else min(limit // each, LARGEST)
        for begin, end, before, entries in runs(of_rois, most):
            keys = d.empty((entries,), "int64")
            weights = d.empty((entries,), call.build.arithmetic)
            bins, shift = d.empty((entries,), call.build.index), np.int32(entries.bit_length())
            call.run("destinations", (end - begin) * call.bins * call.build.lanes, call.rois,
                     call.offset, ends, keys, weights, bins, call.shape,
                     *map(call.number, (first, begin, end - begin)), np.int64(before),
                     shift)  # fmt: skip
            call.run("grad_x_gathered", entries * call.build.lanes, grad, d.sorted(keys), weights,
                     bins, self.x, call.shape, call.number(entries), shift)  # fmt: skip

    def _rounded(self) -> Any:
        """The gradient of x as x is laid out, rounded once."""
        call = self.call
        if self.x is None:
            return None
        if prod(call.x.shape) == 0:
            return self.device.zeros(call.x.shape, call.x.dtype)
        result = layout.empty_like(self.device, call.x, call.x.shape)
        layout.put_rows(self.device, self.x, result, call.build, groups=call.maps)
        return result


def runs(ends: Any, most: int) -> Any:
    """RoIs begin to end whose entries are at most `most`, or one RoI; the entries before; theirs.

    ends  the entries of each RoI and of all before it; RoIs without any are left out
    """
    begin, before = 0, 0
    while begin < len(ends):
        end = max(int(np.searchsorted(ends, before + most, "right")), begin + 1)
        entries = int(ends[end - 1]) - before
        if entries:
            yield begin, end, before, entries
        begin, before = end, before + entries


def roi_pool(device: Any, x: Any, rois: Any, offset: Any = None, *, geometry: RoiGeometry,
             workspace_limit: int | None = None, precision: str = "exact") -> Any:  # fmt: skip
    """Equations (5) and (6); there are no products, which `precision` is about."""
    return RoiPooling(device, x, rois, offset, geometry=geometry).forward(workspace_limit)


def roi_pool_backward(
    device: Any, grad_output: Any, x: Any, rois: Any, offset: Any = None, *,
    geometry: RoiGeometry, side: str = "right", wrt: tuple[str, ...], deterministic: bool = False,
    workspace_limit: int | None = None, precision: str = "exact",
) -> dict[str, Any]:  # fmt: skip
    """Equation (7') and the gradient of x, those that `wrt` names."""
    call = RoiPooling(device, x, rois, offset, geometry=geometry, side=side)
    return Backward(call, grad_output, wrt, deterministic).run(workspace_limit)
