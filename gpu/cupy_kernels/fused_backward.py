"""The gradients of deformable convolution with products on tensor cores, v3.

deform_conv_backward            here          why it differs
columns, then cuBLAS            GradWeight    columns are gathered into shared memory, tile by tile
cuBLAS, points, grad_points     GradPoints    one kernel: the gradient of the columns stays in it
destinations, grad_x_gathered   the same      deterministic=True needs that gradient in memory

"exact" is three products of TF32 for each one of float32 (Ootomo and Yokota 2022), with relative
errors of 2^-22. All sums but the gradient of x have a fixed order, whatever the device is.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from . import layout
from .build import Build
from .choices import LOGGER
from .deform_conv import BACKWARD_WORKSPACE, Chunk, Convolution
from .deform_conv_backward import Backward, as_weight

DEPTH = 16  # words of a step: numbers of float32, pairs of 16 bits
BLOCKS = 528  # that keep a device busy: four for each multiprocessor of an H100
LEAST_STEPS = 8  # of a block
SIZES = np.dtype([(name, np.int32) for name in ("C", "I", "G", "K", "W", "O", "count", "splits")])
WORK = np.dtype([(name, np.int32) for name in ("O", "segment", "count", "first", "image")])


class Tiles(NamedTuple):
    """What a block works on at once: outputs or pixels, channels, and its warps along both."""

    rows: int
    channels: int
    warps: tuple[int, int]

    @property
    def threads(self) -> int:
        return 32 * self.warps[0] * self.warps[1]


# Where all loads are of 16 bytes; the first is for three products of TF32
OF_WEIGHT = Tiles(128, 64, (4, 2)), Tiles(128, 128, (2, 4))
OF_POINTS = Tiles(64, 128, (2, 4)), Tiles(64, 128, (2, 4))
NARROW = Tiles(32, 32, (2, 2))


def tiled(call: Convolution, wide: tuple[Tiles, Tiles], rows: str) -> tuple[Tiles, Build]:
    """The tiles of a call, and the build of a kernel whose macros name the rows by this letter."""
    widest = 16 // call.x.dtype.itemsize
    exact = call.build.dtype == "float32" and call.precision == "exact"
    vec_o = math.gcd(call.O // call.at.groups, widest)
    tiles = (wide[0] if exact else wide[1]) if call.build.vec == vec_o == widest else NARROW
    most = 4 if tiles is NARROW else widest
    more = {
        f"TILE_{rows}": tiles.rows, "TILE_C": tiles.channels, f"WARPS_{rows}": tiles.warps[0],
        "WARPS_C": tiles.warps[1], "VEC_O": min(vec_o, most), "EXACT": int(exact),
    }  # fmt: skip
    vec = min(call.build.vec, most)
    return tiles, Build(call.build.dtype, call.build.positions, vec, more=tuple(more.items()))


def deform_conv2d_backward(
    device: Any, grad_output: Any, x: Any, offset: Any, weight: Any, bias: Any, mask: Any, *,
    geometry: Any, border: str, side: str, wrt: tuple[str, ...], precision: str = "exact",
    deterministic: bool = False, workspace_limit: int | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Equation (7), and the other gradients that `wrt` names; what does not fit is staged."""
    call = Convolution(device, x, offset, weight, mask, geometry=geometry, border=border,
                       side=side, precision=precision)  # fmt: skip
    if not fits(call):
        LOGGER.debug("deform_conv2d_backward of x %s, %s: v2; v3 does not fit", x.shape, x.dtype)
        return Backward(call, grad_output, weight, wrt, deterministic).run(workspace_limit)
    rest, grads = tuple(name for name in wrt if name != "weight"), {}
    if rest:
        kind = Backward if deterministic and "x" in rest else GradPoints
        grads = kind(call, grad_output, weight, rest, deterministic).run(workspace_limit)
    if "weight" in wrt:
        grads["weight"] = GradWeight(call, grad_output, weight).run(workspace_limit)
    return {name: grads[name] for name in wrt}


def fits(call: Convolution) -> bool:
    """Whether there are kernels for a call: not in float64, nor for what 32 bits do not count."""
    return call.build.dtype != "float64" and not call.build.wide


class GradPoints(Backward):
    """The gradients of x, offset, mask and bias of one call."""

    def sizes(self) -> tuple[int, int, int]:
        """The bytes that are needed once, per image and per pixel."""
        call = self.call
        once, image, _ = call.forward_bytes()
        if self.x is not None:
            image += call.C * call.H * call.W * call.build.arithmetic.itemsize
        return once, image, call.O * call.x.dtype.itemsize

    def _points(self, chunk: Chunk, x: Any, grad_x: Any, rows: Any) -> None:
        call, at = self.call, self.call.at
        if self.x is None and self.offset is None and self.mask is None:
            return
        tiles, build = tiled(call, OF_POINTS, "P")
        segment = math.gcd(call.C // at.offset_groups, call.I)
        work = np.array((call.O, segment, chunk.count, chunk.first, chunk.image), WORK)
        parts = -(-chunk.count // tiles.rows) * call.fields
        self.device.run_blocks(
            "fused_grad_points.cu", "grad_of_points", build, parts, (tiles.threads,), rows,
            call.weight, x, call.offset, call.mask, grad_x, self.offset, self.mask, call.shape,
            work, np.int32(parts),
        )  # fmt: skip


class GradWeight:
    """The weight gradient of one call: sums over its chunks of pixels, in order."""

    def __init__(self, call: Convolution, grad_output: Any, weight: Any):
        self.call, self.device, self.given_weight = call, call.device, weight
        self.grad_output = layout.turnable(self.device, grad_output)
        self.tiles, self.build = tiled(call, OF_WEIGHT, "O")

    def run(self, limit: int | None) -> Any:
        """O x I x kh x kw."""
        call, d = self.call, self.device
        total = d.zeros(call.weights().shape, call.build.arithmetic)
        share = (BACKWARD_WORKSPACE if limit is None else limit) // 2
        most = max(share // total.nbytes, 1)
        for image, end, chunks in call.chunks(
            limit, BACKWARD_WORKSPACE, *self._sizes(total.nbytes, most)
        ):
            x = layout.rows(d, call.x[image:end], call.build)
            for chunk in chunks:
                self._chunk(chunk, x, total, most)
        return as_weight(call, total, self.given_weight)

    def _sizes(self, total: int, most: int) -> tuple[int, int, int]:
        """The bytes that are needed once, per image and per pixel."""
        call = self.call
        once, image, _ = call.forward_bytes()
        A, T = call.build.arithmetic.itemsize, call.x.dtype.itemsize
        pixel = call.O * T + call.fields * (4 * A + 2 * call.build.index_bytes)
        return once + total * (1 + min(most, self._wanted(2**30))), image, pixel

    def _blocks(self) -> int:
        """Blocks of one sum."""
        call, groups = self.call, self.call.at.groups
        down = -(-(call.O // groups) // self.tiles.rows)
        return groups * down * call.K * -(-call.I // self.tiles.channels)

    def _wanted(self, count: int) -> int:
        """How many sums over so many pixels make blocks enough."""
        steps = -(-count // (DEPTH * 4 // self.call.x.dtype.itemsize))
        return max(min(-(-BLOCKS // self._blocks()), steps // LEAST_STEPS), 1)

    def _chunk(self, chunk: Chunk, x: Any, total: Any, most: int) -> None:
        """What is made here is freed before the next chunk."""
        call, d, source = self.call, self.device, "fused_grad_weight.cu"
        rows = layout.rows_of(d, self.grad_output, call.build, chunk.first, chunk.count)
        g, _, pixels = call.points(chunk, backward=False)
        splits = min(self._wanted(chunk.count), most)
        partial = d.empty((splits, *total.shape), total.dtype)
        sizes = np.array(
            (call.C, call.I, call.at.offset_groups, call.K, call.W, call.O, chunk.count, splits),
            SIZES,
        )
        parts = splits * self._blocks()
        d.run_blocks(source, "grad_weight", self.build, parts, (self.tiles.threads,), rows, x, g,
                     pixels, partial, sizes, np.int32(parts))  # fmt: skip
        d.run(source, "add_partials", self.build, total.size, partial, total,
              np.int32(total.size), np.int32(splits))  # fmt: skip
