"""Deformable Convolutional Networks (Dai et al., ICCV 2017) in NumPy, equation by equation.

The letters, here once and used everywhere:

    N   images in the batch            G       offset groups (1 in the paper)
    C   channels of x                  groups  weight groups (1 in the paper)
    H W height and width of x          kh kw   height and width of the kernel
    O   channels of y                  K       taps, kh * kw; the paper's N = |R|
    Ho Wo  height and width of y

    x, y, w, p0, p_n, p, q, g, G  as in the paper; positions are (y, x), y first, in pixels of x

`equations.py` is the paper read aloud, with loops; start there. All arrays are NCHW.
"""

from . import equations
from .bilinear import G, SampleGrads, dG, g, sample, sample_backward
from .convolution import ConvGrads, conv2d, conv2d_backward
from .deform_conv import DeformConvGrads, deform_conv2d, deform_conv2d_backward
from .geometry import R
from .modules import (
    DeformConvModuleGrads,
    deform_conv_module,
    deform_conv_module_backward,
    zero_offset_branch,
)
from .offsets import Layout, effective_dilation, from_layout, sampling_points, to_layout

__all__ = [
    "ConvGrads",
    "DeformConvGrads",
    "DeformConvModuleGrads",
    "G",
    "Layout",
    "R",
    "SampleGrads",
    "conv2d",
    "conv2d_backward",
    "dG",
    "deform_conv2d",
    "deform_conv2d_backward",
    "deform_conv_module",
    "deform_conv_module_backward",
    "effective_dilation",
    "equations",
    "from_layout",
    "g",
    "sample",
    "sample_backward",
    "sampling_points",
    "to_layout",
    "zero_offset_branch",
]
