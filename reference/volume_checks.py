"""What is rejected of volumes; see `checks`, whose rules and messages these are, for three axes."""

from dataclasses import replace
from typing import Any

from .checks import (
    BORDERS,
    NOT_A_BACKWARD,
    SIDES,
    Call,
    channel_groups,
    offset_groups,
    one_of,
    output_sizes,
)
from .geometry import VolumeGeometry, faces, triple


def check_conv3d(
    x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, *,
    grad_output: Any = NOT_A_BACKWARD,
) -> VolumeGeometry:  # fmt: skip
    """`conv3d` and its backward; returns the geometry of the call."""
    call = Call(("bias",), x=x, weight=weight, bias=bias, grad_output=grad_output)
    call.check_arrays({"x": "N C D H W", "weight": "O C/groups kd kh kw", "bias": "O"})
    geometry = _convolution(call, stride, padding, dilation)
    y = (x.shape[0], weight.shape[0], *geometry.output)
    call.check_shape("grad_output", "N, O, Do, Ho, Wo", y)
    return geometry


def check_deform_conv3d(
    x: Any, offset: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any,
    mask: Any, border: Any, *, grad_output: Any = NOT_A_BACKWARD, side: Any = "right",
) -> VolumeGeometry:  # fmt: skip
    """`deform_conv3d` and its backward; returns the geometry of the call."""
    arrays = {"x": x, "weight": weight, "offset": offset, "bias": bias, "mask": mask}
    call = Call(("bias", "mask"), **arrays, grad_output=grad_output)
    axes = {"x": "N C D H W", "weight": "O C/groups kd kh kw", "offset": "N 3*G*K Do Ho Wo"}
    call.check_arrays(axes | {"bias": "O"}, may_be_float32=("offset",))
    geometry = _convolution(call, stride, padding, dilation)
    G = offset_groups(call, geometry)
    one_of(call, "border", border, BORDERS)
    one_of(call, "side", side, SIDES)
    return replace(geometry, offset_groups=G)


def _convolution(call: Call, stride: Any, padding: Any, dilation: Any) -> VolumeGeometry:
    """The geometry of a convolution of volumes, with one offset group."""
    groups = channel_groups(call, "DHW")
    stride = call.told(triple, "stride", stride, at_least=1)
    padding = call.told(faces, "padding", padding)
    dilation = call.told(triple, "dilation", dilation, at_least=1)
    kernel, output = output_sizes(call, "DHW", stride, padding, dilation)
    return VolumeGeometry(kernel, stride, padding, dilation, output, groups, 1)
