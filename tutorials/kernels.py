"""The kernels of notebook 13 whose sources one does not have. Its exercises ask what they do.

Do not read on before you have solved them: `verify` is enough.
"""

import numpy as np

from deformable_convnets.reference import deform_conv2d, from_layout


def first(x, offset, weight, bias=None, *, stride=1, padding=0, dilation=1):
    """A deformable convolution, compiled by somebody else."""
    field = from_layout(offset, "chainer", weight.shape[2:]).offset
    options = {"stride": stride, "padding": padding, "dilation": dilation}
    return deform_conv2d(x, field, weight, bias, **options)


def second(x, offset, weight, bias=None, *, stride=1, padding=0, dilation=1):
    """Another one."""
    flipped = np.ascontiguousarray(weight[:, :, ::-1, ::-1])
    options = {"stride": stride, "padding": padding, "dilation": dilation}
    return deform_conv2d(x, -offset, flipped, bias, **options)
