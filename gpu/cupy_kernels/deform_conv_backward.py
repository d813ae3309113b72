"""The gradients of deformable convolution on the GPU (CUDA C++), v2: equation (7) and its like.

For each chunk of output pixels

    grad_columns = grad_output weight              (2), its adjoint: cuBLAS
    grad_x, grad_offset, grad_mask, columns        (3) and (7): one kernel, `grad_points`
    grad_weight += grad_output^T columns           (2): cuBLAS, chunks in order

The gradient of x is added up by atomics, in no order; or, with deterministic=True, in the order of
sorted destinations. Atomics of float32 take a number below 2^-126 for zero. All other sums have a
fixed order.
"""

from typing import Any

from . import layout
from .deform_conv import BACKWARD_WORKSPACE, Chunk, Convolution


class Backward:
    """One call: the gradients that are wanted, added up over its chunks."""

    def __init__(self, call: Convolution, grad_output: Any, weight: Any,
                 wrt: tuple[str, ...], deterministic: bool):  # fmt: skip
        self.call, self.device = call, call.device
        self.grad_output = layout.turnable(self.device, grad_output)
        self.wrt, self.deterministic = wrt, deterministic
        self.given_weight = weight
        d, A = self.device, call.build.arithmetic
        self.x = layout.empty_like(d, call.x, call.x.shape) if "x" in wrt else None
        self.offset = d.empty(call.offset.shape, call.offset.dtype) if "offset" in wrt else None
        self.mask = d.empty(call.mask.shape, call.mask.dtype) if "mask" in wrt else None
        self.weight = d.zeros(call.weights().shape, A) if "weight" in wrt else None
        self.bias = d.zeros((call.O,), A) if "bias" in wrt else None

    def run(self, limit: int | None) -> dict[str, Any]:
        """The gradients by name."""
        for image, end, chunks in self.call.chunks(limit, BACKWARD_WORKSPACE, *self.sizes()):
            self._images(image, end, chunks)
        made = {"x": self.x, "offset": self.offset, "mask": self.mask}
        made |= {"weight": self._weight(), "bias": self._bias()}
        return {name: made[name] for name in self.wrt}

    def sizes(self) -> tuple[int, int, int]:
        """The bytes that are needed once, per image and per pixel."""
        return self.call.backward_bytes(self.deterministic)

    def _images(self, image: int, end: int, chunks: list[Chunk]) -> None:
        """What is made here is freed before the next images, and so it is with chunks."""
        call, d = self.call, self.device
        x = layout.rows(d, call.x[image:end], call.build)
        grad_x = d.zeros(x.shape, call.build.arithmetic) if "x" in self.wrt else None
        for chunk in chunks:
            self._chunk(chunk, x, grad_x)
        if grad_x is not None:
            layout.put_rows(d, grad_x, self.x, call.build, first=image * call.H * call.W)

    def _chunk(self, chunk: Chunk, x: Any, grad_x: Any) -> None:
        call = self.call
        rows = layout.rows_of(self.device, self.grad_output, call.build, chunk.first, chunk.count)
        columns = None
        if {"x", "offset", "mask", "weight"} & set(self.wrt):
            columns = self._points(chunk, x, grad_x, rows)
        if self.weight is not None:
            call.multiply(
                call.by_group(rows).transpose(0, 2, 1), columns, self.weight, accumulate=True
            )
        if self.bias is not None:
            layout.add_rows(self.device, rows, self.bias, call.build)

    def _points(self, chunk: Chunk, x: Any, grad_x: Any, rows: Any) -> Any:
        """All that follows from the gradient of the columns; returns the columns."""
        call = self.call
        if not {"x", "offset", "mask"} & set(self.wrt):
            return call.columns(x, chunk)
        grad = call.empty_columns(chunk, call.build.arithmetic)
        call.multiply(call.by_group(rows), call.weights(), grad)
        columns = None
        if self.weight is not None:
            same = grad.dtype == call.x.dtype
            columns = grad if same else call.empty_columns(chunk, call.x.dtype)
        self._through_points(chunk, x, grad_x, grad, columns)
        return columns

    def _through_points(self, chunk: Chunk, x: Any, grad_x: Any, grad: Any, columns: Any) -> None:
        """From the gradient of the columns to those of x, offset and mask; fills `columns`."""
        call = self.call
        g, dg, pixels = call.points(chunk, backward=True)
        if grad_x is not None and self.deterministic:
            self._gather(chunk, grad, g, pixels, grad_x)
            grad_x = None
        call.run(
            "grad_points", chunk.count * call.fields * call.build.lanes,
            grad, x, call.offset, call.mask, g, dg, pixels, grad_x, self.offset, self.mask, columns,
            call.shape, call.number(chunk.first), call.number(chunk.count),
        )  # fmt: skip

    def _gather(self, chunk: Chunk, grad: Any, g: Any, pixels: Any, grad_x: Any) -> None:
        """Equation (3), its adjoint: the corners of all points, sorted by the pixel they are."""
        call, groups = self.call, self.call.at.offset_groups
        corners = chunk.count * call.K * 4
        keys = self.device.empty((groups, corners), "int64")
        where = call.number(chunk.first), call.number(chunk.count)
        call.run("destinations", groups * corners, call.mask, g, pixels, keys, call.shape, *where)
        keys = self.device.sorted(keys)
        count = len(grad_x)
        call.run(
            "grad_x_gathered", count * groups * call.build.lanes,
            grad, call.mask, g, keys, grad_x, call.shape, call.number(count), *where,
        )  # fmt: skip

    def _weight(self) -> Any:
        return None if self.weight is None else as_weight(self.call, self.weight, self.given_weight)

    def _bias(self) -> Any:
        if self.bias is None:
            return None
        result = self.device.empty((self.call.O,), self.call.x.dtype)
        planes = result.reshape(1, self.call.O, 1)
        layout.put_rows(self.device, self.bias.reshape(1, -1), planes, self.call.build)
        return result


def as_weight(call: Convolution, sums: Any, like: Any) -> Any:
    """O x (K I) as O x I x kh x kw, rounded once."""
    result = call.device.empty(like.shape, like.dtype)
    planes = result.reshape(call.O, call.I, call.K)
    layout.put_rows(call.device, sums.reshape(-1, call.I), planes, call.build)
    return result
