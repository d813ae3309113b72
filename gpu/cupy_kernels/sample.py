"""Sampling at given points on the GPU (CUDA C++), v2: the columns of a convolution of one tap.

numba_kernels.sample     here                          why it differs
a loop over points       `deform_conv.cu`              a point is the offset of a tap at 0
p as (points, 2)         p as (2, points)              offsets are planes
grad_p, grad_x           `grad_points`                 the corners are read once for both
"""

from typing import Any

from deformable_convnets.reference.geometry import Geometry

from . import layout
from .deform_conv import Chunk, Convolution
from .deform_conv_backward import Backward


class Sampling(Convolution):
    """x C H W is one image; its output pixels are the points, p ... 2."""

    def __init__(self, device: Any, x: Any, p: Any, border: str, side: str = "right"):
        points, nothing = p.size // 2, (0, 0)
        offset = device.packed(p.reshape(points, 2).T).reshape(1, 2, 1, points)
        at = Geometry(kernel=(1, 1), stride=nothing, padding=(nothing, nothing), dilation=nothing,
                      output=(1, points), groups=1, offset_groups=1)  # fmt: skip
        super().__init__(device, x[None], offset, None, None, geometry=at, border=border, side=side)

    def forward_bytes(self) -> tuple[int, int, int]:
        """What is needed once, per image and per point: no weights, and no products."""
        _, image, pixel = super().forward_bytes()
        return 0, image, pixel

    def backward_bytes(self, deterministic: bool) -> tuple[int, int, int]:
        _, image, pixel = super().backward_bytes(deterministic)
        return 0, image, pixel

    def _chunk(self, x: Any, chunk: Chunk, bias: Any, y: Any) -> None:
        layout.put_rows(self.device, self.columns(x, chunk)[0], y, self.build, first=chunk.first)


class SamplingBackward(Backward):
    """The gradient of the samples is given: no matrix product comes before it."""

    def _chunk(self, chunk: Chunk, x: Any, grad_x: Any) -> None:
        given, at = self.grad_output, self.call.build
        rows = layout.rows_of(self.device, given, at, chunk.first, chunk.count, wide=True)
        self._through_points(chunk, x, grad_x, rows, None)


def sample(device: Any, x: Any, p: Any, *, border: str, precision: str = "exact",
           workspace_limit: int | None = None) -> Any:  # fmt: skip
    """Equation (3)."""
    y = Sampling(device, x, p, border).forward(None, workspace_limit)
    return y.reshape(x.shape[0], *p.shape[:-1])


def sample_backward(
    device: Any, grad_output: Any, x: Any, p: Any, *, border: str, side: str, wrt: tuple[str, ...],
    precision: str = "exact", deterministic: bool = False, workspace_limit: int | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The gradients of equation (3) that `wrt` names."""
    call = Sampling(device, x, p, border, side)
    grad = grad_output.reshape(1, call.C, 1, call.S)
    names = tuple("offset" if name == "p" else name for name in wrt)
    grads = SamplingBackward(call, grad, None, names, deterministic).run(workspace_limit)
    if "offset" in grads:
        planes = grads.pop("offset").reshape(2, call.S)
        grads["p"] = device.packed(planes.T).reshape(p.shape)
    if "x" in grads:
        grads["x"] = grads["x"][0]
    return grads
