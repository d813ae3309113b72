"""Deformable convolution on the GPU (CUDA C++), v2: chunks of columns, and matrix products.

numba_kernels.deform_conv_columns   here                        why it differs
columns of the whole batch          a chunk, then its product   a chunk stays in the L2 cache
N C K Ho Wo                         pixels x K x C              channels last: wide loads
product, grad_weight, grad_columns  cuBLAS, batched by group    its business
one kernel per gradient             grad_points for three       corners and columns are read once

`deform_conv.cu` has the kernels; a `device` runs them (`device.py`; the tests have one that runs
them on the CPU). conv2d and sample are the same steps: without offsets, and with one tap.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from deformable_convnets.reference.geometry import Geometry

from . import layout
from .build import Build, build, lanes_for

WORKSPACE = 24 * 2**20  # bytes of a call: the columns of a chunk stay in the L2 cache of an H100
BACKWARD_WORKSPACE = 64 * 2**20
LARGEST = 2**30  # numbers of an array that 32 bits count, with room for a step beyond the end
ENOUGH = 512  # pixels of a chunk that give the matrix products rows for most of a device
SMALLEST_CHUNK = 128  # the same where the caller limits memory

SHAPE = np.dtype(
    [(name, np.int32) for name in (
        "C", "I", "G", "K", "H", "W", "Ho", "Wo", "kw", "stride_y", "stride_x", "top", "left",
        "dilation_y", "dilation_x", "dcnv1", "right",
    )]
)  # fmt: skip


@dataclass(frozen=True)
class Chunk:
    """Output pixels first to first + count, the first image that is at hand, and their points."""

    first: int
    count: int
    image: int


class Convolution:
    """One call: its shape, its build of the kernels, and the steps of forward and backward."""

    def __init__(self, device: Any, x: Any, offset: Any, weight: Any, mask: Any, *,
                 geometry: Geometry, border: str, side: str = "right",
                 precision: str = "exact"):  # fmt: skip
        self.device, self.at, self.precision = device, geometry, precision
        self.x, self.offset, self.mask = x, device.packed(offset), device.packed(mask)
        self.N, self.C, self.H, self.W = x.shape
        self.O = self.C if weight is None else weight.shape[0]
        self.K, self.S = geometry.kernel[0] * geometry.kernel[1], math.prod(geometry.output)
        self.I, self.fields = self.C // geometry.groups, geometry.offset_groups * self.K
        self.build = self._build(device, x, offset)
        self.shape = self._shape(border, side)
        self.weight: Any = None
        if weight is not None:
            self.weight = layout.rows(device, weight.reshape(self.O, self.I, self.K), self.build)

    def _build(self, device: Any, x: Any, offset: Any) -> Build:
        per_group = self.C // self.at.offset_groups
        vector = math.gcd(per_group, self.I)
        at = build(x.dtype, x.dtype if offset is None else offset.dtype, vector)
        fixed = (self.C, self.I, self.at.offset_groups, self.K) if device.specialises else None
        lanes = lanes_for(per_group // at.vec, device)
        per_pixel = max(self.O, 2 * self.fields)
        largest = max(
            self.N * self.C * self.H * self.W, self.N * per_pixel * self.S, self.O * self.I * self.K
        )
        return at._replace(lanes=lanes, fixed=fixed, wide=largest >= LARGEST)

    def _shape(self, border: str, side: str) -> Any:
        at, ((top, _), (left, _)) = self.at, self.at.padding
        values = (
            self.C, self.I, at.offset_groups, self.K, self.H, self.W, *at.output, at.kernel[1],
            *at.stride, top, left, *at.dilation, border == "dcnv1", side == "right",
        )  # fmt: skip
        return np.array(values, SHAPE)

    def run(self, kernel: str, size: int, *arguments: Any) -> None:
        self.device.run("deform_conv.cu", kernel, self.build, size, *arguments)

    def number(self, value: int) -> Any:
        return self.build.index(value)

    # memory -----------------------------------------------------------------------------------
    def chunks(self, limit: int | None, usual: int, fixed: int, per_image: int,
               per_pixel: int) -> Any:  # fmt: skip
        """Groups of images, each with its chunks of pixels.

        All that lives at once needs `limit` bytes, or the `usual` ones, if one image and a chunk
        of SMALLEST_CHUNK pixels do, or one of ENOUGH pixels without a limit.
        """
        smallest = ENOUGH if limit is None else SMALLEST_CHUNK
        rest = max((usual if limit is None else limit) - fixed, 0)
        images = min(max(rest // 2 // max(per_image, 1), 1), self.N)
        pixels = max((rest - images * per_image) // per_pixel, smallest)
        most = 2**31 if self.build.wide else LARGEST  # a corner of a point has 32 bits in a key
        across = 4 * self.K if self.build.wide else max(self.K * self.C, 8 * self.fields)
        pixels = max(min(pixels, most // across), 1)
        for image in range(0, self.N, images):
            end = min(image + images, self.N)
            first, last = image * self.S, end * self.S
            turns = -(-(last - first) // pixels)
            size = -(-(last - first) // turns)  # chunks of one size
            yield image, end, [
                Chunk(p, min(size, last - p), image) for p in range(first, last, size)
            ]  # fmt: skip

    def forward_bytes(self) -> tuple[int, int, int]:
        """What is needed once, per image and per pixel."""
        T, A, points = self.x.dtype.itemsize, self.build.arithmetic.itemsize, self.fields
        image = 0 if layout.is_read_as_it_is(self.device, self.x) else self.C * self.H * self.W * T
        pixel = self.K * self.C * T + self.O * A + points * (4 * A + 2 * self.build.index_bytes)
        return self.O * self.I * self.K * T, image, pixel

    def backward_bytes(self, deterministic: bool) -> tuple[int, int, int]:
        once, image, _ = self.forward_bytes()
        T, A, points = self.x.dtype.itemsize, self.build.arithmetic.itemsize, self.fields
        own = 0 if T == A else T  # columns beside their gradient, or in its place
        pixel = self.K * self.C * (A + own) + self.O * T
        pixel += points * (8 * A + 2 * self.build.index_bytes + 4 * 8 * 2 * deterministic)
        return once + self.O * self.I * self.K * A, image + self.C * self.H * self.W * A, pixel

    # steps ------------------------------------------------------------------------------------
    def points(self, chunk: Chunk, *, backward: bool) -> tuple[Any, Any, Any]:
        """g, dg and pixels of the points of a chunk, equation (4)."""
        size, d = chunk.count * self.fields, self.device
        g = d.empty((size, 4), self.build.arithmetic)
        dg = d.empty((size, 4), self.build.arithmetic) if backward else None
        pixels = d.empty((size, 2), self.build.index)
        self.run("points", size, self.offset, self.mask, g, dg, pixels, self.shape,
                 *map(self.number, (chunk.first, chunk.image, chunk.count)))  # fmt: skip
        return g, dg, pixels

    def columns(self, x: Any, chunk: Chunk) -> Any:
        """groups x pixels x (K I): m x(p), equation (3)."""
        g, _, pixels = self.points(chunk, backward=False)
        columns = self.empty_columns(chunk, self.x.dtype)
        size = chunk.count * self.K * self.C // self.build.vec
        self.run("columns", size, x, g, pixels, columns, self.shape, self.number(chunk.count))
        return columns

    def empty_columns(self, chunk: Chunk, dtype: Any) -> Any:
        return self.device.empty((self.at.groups, chunk.count, self.K * self.I), dtype)

    def weights(self) -> Any:
        """groups x O/groups x (K I)."""
        return self.weight.reshape(self.at.groups, self.O // self.at.groups, self.K * self.I)

    def by_group(self, rows: Any) -> Any:
        """pixels x O as groups x pixels x O/groups, a view."""
        return rows.reshape(len(rows), self.at.groups, -1).transpose(1, 0, 2)

    def multiply(self, a: Any, b: Any, out: Any, *, accumulate: bool = False) -> None:
        self.device.multiply(a, b, out, accumulate=accumulate, precision=self.precision)

    def forward(self, bias: Any, limit: int | None) -> Any:
        """Equation (2)."""
        y = layout.empty_like(self.device, self.x, (self.N, self.O, *self.at.output))
        for image, end, chunks in self.chunks(limit, WORKSPACE, *self.forward_bytes()):
            self._images(image, end, chunks, bias, y)
        return y

    def _images(self, image: int, end: int, chunks: list[Chunk], bias: Any, y: Any) -> None:
        x = layout.rows(self.device, self.x[image:end], self.build)
        for chunk in chunks:
            self._chunk(x, chunk, bias, y)

    def _chunk(self, x: Any, chunk: Chunk, bias: Any, y: Any) -> None:
        """What is made here is freed before the next chunk."""
        out = self.device.empty((chunk.count, self.O), self.build.arithmetic)
        columns = self.columns(x, chunk)
        self.multiply(columns, self.weights().transpose(0, 2, 1), self.by_group(out))
        layout.put_rows(self.device, out, y, self.build, bias=bias, first=chunk.first)
