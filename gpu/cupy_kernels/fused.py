"""Deformable convolution on the GPU (CUDA C++), v3: one kernel on tensor cores, no columns.

deform_conv.py (v2)                here                         why it differs
chunks of columns in memory        tiles in shared memory       the columns are never written
cuBLAS                             mma of tensor cores          it has no gather
float32 products                   two numbers of TF32 each     "exact": 22 bits of each operand
a chunk, then the next             parts of the sum at once     a small map fills the device too

`fused.cu` has the kernels. What does not fit their tiles goes to v2: float64, channels that are no
multiple of 32 bytes, maps of one row or column, arrays that 32 bits do not count, and more taps
than shared memory holds.

A factor a is hi + lo, the nearest number of TF32 and 11 bits of the rest, so that hi + lo = a for
integers of 22 bits, else to 1 / 2**22; lo lo is left out. A product is within 3 / 2**22 of the
exact one; on an exact problem it is that one, since the certificate leaves no product of two
factors of more than 11 bits.
"""

import math
from typing import Any

import numpy as np

from deformable_convnets.reference.geometry import Geometry

from . import deform_conv, layout, tiles
from .build import Build
from .choices import LOGGER
from .deform_conv import WORKSPACE, Convolution
from .tiles import Plan

WORK = np.dtype([(name, np.int32) for name in ("pixels", "S", "O", "sums", "by_rows")])


def fits(device: Any, x: Any, offset: Any, weight: Any, mask: Any = None, *, geometry: Geometry,
         precision: str = "exact") -> bool:  # fmt: skip
    """Whether the kernel takes arrays of these shapes and dtypes; else v2 does."""
    return plan(device, x, offset, weight, geometry, precision, WORKSPACE) is not None


def deform_conv2d(device: Any, x: Any, offset: Any, weight: Any, bias: Any, mask: Any, *,
                  geometry: Geometry, border: str, precision: str = "exact",
                  workspace_limit: int | None = None) -> Any:  # fmt: skip
    """Equation (2)."""
    how: dict[str, Any] = {"geometry": geometry, "border": border, "precision": precision}
    limit = WORKSPACE if workspace_limit is None else workspace_limit
    of = plan(device, x, offset, weight, geometry, precision, limit)
    if of is None:
        LOGGER.debug("deform_conv2d of x %s, weight %s, %s: v2; v3's tiles do not fit", x.shape,
                     weight.shape, x.dtype)  # fmt: skip
        call = Convolution(device, x, offset, weight, mask, **how)
        return call.forward(bias, workspace_limit)
    return Fused(Convolution(device, x, offset, None, mask, **how), weight, of).forward(bias)


def conv2d(device: Any, x: Any, weight: Any, bias: Any, *, geometry: Geometry,
           **options: Any) -> Any:  # fmt: skip
    """Equation (1)."""
    return deform_conv2d(device, x, None, weight, bias, None, geometry=geometry, border="zero",
                         **options)  # fmt: skip


def plan(device: Any, x: Any, offset: Any, weight: Any, geometry: Geometry, precision: str,
         limit: int) -> Plan | None:  # fmt: skip
    """How the kernel does a call, in `limit` bytes if possible; None if it does not fit it."""
    (N, C, H, W), (O, I, *kernel), at = x.shape, weight.shape, geometry
    K, S, dtype = math.prod(kernel), math.prod(at.output), np.dtype(x.dtype)
    padded = O + at.groups * max(tile.columns for tile in device.tiles[1])
    largest = max(N * C * H * W, N * S * max(O, 2 * at.offset_groups * K), padded * I * K)
    if dtype == np.float64 or min(H, W) < 2 or largest >= deform_conv.LARGEST:
        return None
    task = tiles.Task(
        itemsize=dtype.itemsize, operands=operands(dtype, precision), N=N, S=S, I=I,
        O=O // at.groups, K=K, groups=at.groups, per_offset_group=C // at.offset_groups,
        image_bytes=0 if layout.is_read_as_it_is(device, x) else C * H * W * dtype.itemsize,
    )  # fmt: skip
    return tiles.plan(device, task, limit)


def operands(dtype: Any, precision: str) -> int:
    """The numbers that a product has for each of its two factors."""
    return 2 if dtype == np.float32 and precision == "exact" else 1


class Fused:
    """One call: its build of the kernels, and their launches."""

    def __init__(self, call: Convolution, weight: Any, of: Plan):
        self.call, self.device, self.plan = call, call.device, of
        self.O, self.groups = weight.shape[0], call.at.groups
        self.build = self._build()
        self.across = -(-self.O // self.groups // of.tile.columns)  # tiles of a group
        self.weight = self._packed(weight)

    def _build(self) -> Build:
        call, tile, size = self.call, self.plan.tile, self.call.x.dtype.itemsize
        parts = operands(call.x.dtype, call.precision)
        macros = {
            "ROWS": tile.rows, "COLUMNS": tile.columns, "DEPTH": self.plan.depth_bytes // size,
            "WARPS_DOWN": tile.down, "WARPS_ACROSS": tile.across, "RESIDENT": tile.resident,
            "STAGES": tiles.STAGES, "PARTS": parts,
        }  # fmt: skip
        return Build(
            call.build.dtype, call.build.positions, 16 // size, fixed=call.build.fixed,
            more=tuple(macros.items()),
            block_bytes=tile.block_bytes(call.K, self.plan.depth_bytes),
        )  # fmt: skip

    def _packed(self, weight: Any) -> Any:
        """In the order in which blocks add up: a tile of output channels after the other."""
        call, planes = self.call, weight.reshape(self.O, self.call.I, self.call.K)
        by_rows = layout.is_rows(planes)
        count = self.groups * self.across
        size = count, self.plan.tile.columns * call.K * call.I
        made, of = self.device.empty(size, call.x.dtype), self._work(0, by_rows)
        self.device.run("fused.cu", "pack", self.build, made.size,
                        planes if by_rows else self.device.packed(planes), made, call.shape, of,
                        np.int32(count))  # fmt: skip
        return made

    def _work(self, pixels: int, by_rows: bool) -> Any:
        values = pixels, self.call.S, self.O // self.groups, self.plan.sums, by_rows
        return np.array(values, WORK)

    def forward(self, bias: Any) -> Any:
        """Equation (2)."""
        call, most = self.call, self.plan.images
        y = layout.empty_like(self.device, call.x, (call.N, self.O, *call.at.output))
        bias = self.device.packed(bias)
        for first in range(0, call.N, most):
            self._images(slice(first, min(first + most, call.N)), bias, y)
        return y

    def _images(self, images: slice, bias: Any, y: Any) -> None:
        """What is made here is freed before the next images."""
        call, tile = self.call, self.plan.tile
        x = layout.rows(self.device, call.x[images], call.build)
        offset, mask = (None if a is None else a[images] for a in (call.offset, call.mask))
        pixels, y = (images.stop - images.start) * call.S, y[images]
        blocks = -(-pixels // tile.rows) * self.across * self.groups * self.plan.sums
        of = self._work(pixels, not y.flags.c_contiguous)
        sums = None
        if self.plan.sums > 1:
            sums = self.device.empty((self.plan.sums, pixels, self.O), np.float32)
        self.device.run_blocks(
            "fused.cu", "fused", self.build, blocks, (tile.threads,), x, offset, mask, self.weight,
            bias, y, sums, call.shape, of, np.int32(blocks),
        )  # fmt: skip
        if sums is not None:
            size = pixels * self.O
            self.device.run("fused.cu", "add_sums", self.build, size, sums, bias, y,
                            call.shape, of)  # fmt: skip
