"""Sampling at given points on the GPU (CUDA C++), v2: the columns of a convolution of one tap.

numba_kernels.sample     here                          why it differs
a loop over points       `deform_conv.cu`              a point is the offset of a tap at 0
p as (points, 2)         p as (2, points)              offsets are planes
grad_p, grad_x           `grad_points`                 the corners are read once for both
"""

from typing import Any

from deformable_convnets.reference.geometry import Geometry

from . import layout
from .deform_conv import WORKSPACE, Chunk, Convolution
from .deform_conv_backward import Backward


def _convolution(device: Any, x: Any, p: Any, border: str, side: str = "right") -> Convolution:
    """x C H W as one image; its output pixels are the points."""
    points = p.size // 2
    offset = device.packed(p.reshape(points, 2).T).reshape(1, 2, 1, points)
    nothing = (0, 0)
    at = Geometry(kernel=(1, 1), stride=nothing, padding=(nothing, nothing), dilation=nothing,
                  output=(1, points), groups=1, offset_groups=1)  # fmt: skip
    return Convolution(device, x[None], offset, None, None, geometry=at, border=border, side=side)


def sample(device: Any, x: Any, p: Any, *, border: str, precision: str = "exact",
           workspace_limit: int | None = None) -> Any:  # fmt: skip
    """Equation (3)."""
    call = _convolution(device, x, p, border)
    y = device.empty((1, call.C, 1, call.S), x.dtype)
    sizes = call.sample_bytes(backward=False)
    for image, end, chunks in call.chunks(workspace_limit or WORKSPACE, *sizes):
        rows = layout.rows(device, call.x[image:end], call.build)
        for chunk in chunks:
            values = device.rounded(call.columns(rows, chunk)[0], call.build.arithmetic)
            layout.put_rows(device, values, y, call.build, first=chunk.first)
    return y.reshape(call.C, *p.shape[:-1])


def sample_backward(
    device: Any, grad_output: Any, x: Any, p: Any, *, border: str, side: str, wrt: tuple[str, ...],
    precision: str = "exact", deterministic: bool = False, workspace_limit: int | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The gradients of equation (3) that `wrt` names."""
    call = _convolution(device, x, p, border, side)
    grad = grad_output.reshape(1, call.C, 1, call.S)
    names = tuple("offset" if name == "p" else name for name in wrt)
    grads = _Backward(call, grad, None, names, deterministic).run(workspace_limit)
    if "offset" in grads:
        planes = grads.pop("offset").reshape(2, call.S)
        grads["p"] = device.packed(planes.T).reshape(p.shape)
    if "x" in grads:
        grads["x"] = grads["x"][0]
    return grads


class _Backward(Backward):
    """The gradient of the samples is given: no matrix product comes before it."""

    def _sizes(self) -> tuple[int, int, int]:
        return self.call.sample_bytes(backward=True, deterministic=self.deterministic)

    def _chunk(self, chunk: Chunk, x: Any, grad_x: Any) -> None:
        rows = layout.rows_of(
            self.device, self.grad_output, self.call.build, chunk.first, chunk.count
        )
        grad = self.device.rounded(rows, self.call.build.arithmetic)
        self._through_points(chunk, x, grad_x, grad, None)
