"""Figure 2: an offset branch and the deformable convolution it steers, as one layer.

    offset = conv2d(x, offset_weight, offset_bias)      the branch, 2 G K output channels
    y      = deform_conv2d(x, offset, weight, bias)

The branch has the kernel, stride, padding and dilation of the layer, so that there is one offset
per tap and output pixel, and starts at zero. The gradient of x has two terms: x is read twice.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray as Array

from . import checks
from .bilinear import Border, Side, as_given, computed
from .convolution import conv2d, conv2d_backward
from .deform_conv import deform_conv2d, deform_conv2d_backward
from .geometry import Pair, Sides


class DeformConvModuleGrads(NamedTuple):
    """The gradients of `deform_conv_module`, each of the shape and dtype of its argument."""

    x: Array
    offset_weight: Array
    offset_bias: Array
    weight: Array
    bias: Array | None


def zero_offset_branch(
    weight: Array, in_channels: int, *, offset_groups: int = 1
) -> tuple[Array, Array]:
    """The offset branch before training (section 2.3): all zeros, so that y is a plain convolution.

    weight       O C/groups kh kw, of the layer that the branch belongs to
    in_channels  C of x
    Returns offset_weight, 2*G*K C kh kw, and offset_bias, 2*G*K. Raises ValueError or TypeError.
    """
    C, G = checks.check_branch(weight, in_channels, offset_groups)
    kh, kw = weight.shape[2:]
    channels = 2 * G * kh * kw
    return np.zeros((channels, C, kh, kw), weight.dtype), np.zeros(channels, weight.dtype)


def deform_conv_module(
    x: Array,
    offset_weight: Array,
    offset_bias: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: int | Pair = 1,
    padding: int | Pair | Sides = 0,
    dilation: int | Pair = 1,
    border: Border = "zero",
) -> Array:
    """Figure 2: equation (2) with the offsets that a convolution of the same x predicts.

    x              N C H W
    offset_weight  2*G*K C kh kw, and offset_bias 2*G*K: the branch
    weight         O C/groups kh kw, and bias O: the layer; both kernels are of one size
    Returns N O Ho Wo in the dtype of x; float16 is computed in float32, the offsets too. The other
    arguments are those of `deform_conv2d`. Raises ValueError or TypeError, see `checks`.
    """
    checks.check_module(
        x, offset_weight, offset_bias, weight, bias, stride, padding, dilation, border
    )
    options: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation}
    x_c, w_c, b_c = computed(x), computed(weight), None if bias is None else computed(bias)
    offset = conv2d(x_c, computed(offset_weight), computed(offset_bias), **options)
    y = deform_conv2d(x_c, offset, w_c, b_c, border=border, **options)
    return as_given(y, x)


def deform_conv_module_backward(
    grad_output: Array,
    x: Array,
    offset_weight: Array,
    offset_bias: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: int | Pair = 1,
    padding: int | Pair | Sides = 0,
    dilation: int | Pair = 1,
    border: Border = "zero",
    side: Side = "right",
) -> DeformConvModuleGrads:
    """The chain rule through Figure 2: x is sampled, and x also decides where.

    grad_x = the sampling term, G^T of equation (3), + the branch term, through offset and (7).
    With a branch of zeros the branch term is 0, while the branch's own gradient is not.
    """
    checks.check_module(
        x, offset_weight, offset_bias, weight, bias, stride, padding, dilation, border,
        grad_output=grad_output, side=side,
    )  # fmt: skip
    options: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation}
    x_c, w_c, b_c = computed(x), computed(weight), None if bias is None else computed(bias)
    branch_of_x = (x_c, computed(offset_weight), computed(offset_bias))
    offset = conv2d(*branch_of_x, **options)
    sampling = deform_conv2d_backward(
        computed(grad_output), x_c, offset, w_c, b_c, border=border, side=side, **options
    )
    branch = conv2d_backward(sampling.offset, *branch_of_x, **options)
    return DeformConvModuleGrads(
        as_given(sampling.x + branch.x, x),
        as_given(branch.weight, offset_weight),
        as_given(branch.bias, offset_bias),
        as_given(sampling.weight, weight),
        as_given(sampling.bias, bias),
    )
