"""The public face of the operators on volumes: see `operators`, whose keywords they share.

Only the backend "numba" has them.
"""

from collections.abc import Iterable
from typing import Any

from deformable_convnets.reference import volume_checks as checks
from deformable_convnets.reference.bilinear import Border, Side
from deformable_convnets.reference.deform_conv import DeformConvGrads
from deformable_convnets.reference.geometry import Faces, Triple

from .calls import Call
from .registry import Choice

Array = Any


def deform_conv3d(
    x: Array,
    offset: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: int | Triple = 1,
    padding: int | Triple | Faces = 0,
    dilation: int | Triple = 1,
    mask: Array | None = None,
    border: Border = "zero",
    backend: str | None = None,
    version: str | None = None,
    precision: str = "exact",
    workspace_limit: int | None = None,
) -> Array:
    """Equation (2) on volumes: y(p0) = sum over p_n of w(p_n) x(p0 + p_n + Delta p_n).

    The arrays are those of `reference.deform_conv3d`, the mask (DCNv2, Zhu et al. 2019; not in this
    paper) among them; returns N O Do Ho Wo. Keywords: see the head of `operators`.
    """
    call = Call(
        "deform_conv3d", Choice(backend, version, precision, workspace_limit=workspace_limit),
        x=x, offset=offset, weight=weight, bias=bias, mask=mask,
    )  # fmt: skip
    geometry = checks.check_deform_conv3d(
        call.x, call.offset, call.weight, call.bias, stride, padding, dilation, call.mask, border
    )
    return call.forward(call.output_shape(geometry), geometry=geometry, border=border)


def deform_conv3d_backward(
    grad_output: Array,
    x: Array,
    offset: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: int | Triple = 1,
    padding: int | Triple | Faces = 0,
    dilation: int | Triple = 1,
    mask: Array | None = None,
    border: Border = "zero",
    side: Side = "right",
    backend: str | None = None,
    version: str | None = None,
    precision: str = "exact",
    workspace_limit: int | None = None,
    wrt: Iterable[str] | None = None,
    deterministic: bool = False,
) -> DeformConvGrads:
    """Equation (7) on volumes, and the other gradients, given grad_output N O Do Ho Wo.

    The arrays are those of `reference.deform_conv3d_backward`. All gradients are deterministic.
    """
    choice = Choice(backend, version, precision, deterministic, workspace_limit)
    call = Call(
        "deform_conv3d_backward", choice,
        grad_output=grad_output, x=x, offset=offset, weight=weight, bias=bias, mask=mask,
    )  # fmt: skip
    geometry = checks.check_deform_conv3d(
        call.x, call.offset, call.weight, call.bias, stride, padding, dilation, call.mask, border,
        grad_output=call.grad_output, side=side,
    )  # fmt: skip
    settings = {"geometry": geometry, "border": border, "side": side}
    return DeformConvGrads(**call.backward(DeformConvGrads, wrt, **settings))
