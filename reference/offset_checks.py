"""What is rejected of an offset field alone; see `checks`, whose messages these are."""

from typing import Any

from .checks import Call
from .geometry import Geometry


def check_offset(
    offset: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any
) -> Geometry:
    """The functions of an offset field alone; its own Ho and Wo are taken as they are."""
    call = Call(offset=offset)
    call.check_arrays({"offset": "N 2*G*K Ho Wo"})
    kernel = call.pair("kernel_size", kernel_size, at_least=1)
    channels, taps = offset.shape[1], kernel[0] * kernel[1]
    if channels == 0 or channels % (2 * taps):
        call.fail(
            f"offset has {channels} channels, expected a multiple of 2 * kh * kw = {2 * taps}"
        )
    return Geometry(
        kernel=kernel,
        stride=call.pair("stride", stride, at_least=1),
        padding=call.sides("padding", padding),
        dilation=call.pair("dilation", dilation, at_least=1),
        output=(offset.shape[2], offset.shape[3]),
        groups=1,
        offset_groups=channels // (2 * taps),
    )


def check_layout(offset: Any, mask: Any) -> None:
    """The converters between layouts: real floating arrays of one dtype."""
    Call(("mask",), offset=offset, mask=mask).check_arrays({})
