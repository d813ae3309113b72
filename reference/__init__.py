"""Deformable Convolutional Networks (Dai et al., ICCV 2017) in NumPy, equation by equation.

The letters, here once and used everywhere:

    N   images in the batch            G       offset groups (1 in the paper)
    C   channels of x                  groups  weight groups (1 in the paper)
    H W height and width of x          kh kw   height and width of the kernel
    O   channels of y                  K       taps, kh * kw; the paper's N = |R|
    Ho Wo  height and width of y

    x, y, w, p0, p_n, p, q, g, G  as in the paper; positions are (y, x), y first, in pixels of x

`equations.py` is the paper read aloud, with loops; start there. All arrays are NCHW; those of
`conv3d` and `deform_conv3d` are NCDHW, with positions (z, y, x).
"""

from . import equations
from .bilinear import G, SampleGrads, dG, g, sample, sample_backward
from .convolution import ConvGrads, conv2d, conv2d_backward
from .deform_conv import DeformConvGrads, deform_conv2d, deform_conv2d_backward
from .deform_roi_pool import DeformRoiPoolGrads, deform_roi_pool, deform_roi_pool_backward
from .geometry import R
from .modules import (
    DeformConvModuleGrads,
    deform_conv_module,
    deform_conv_module_backward,
    zero_offset_branch,
)
from .offsets import Layout, effective_dilation, from_layout, sampling_points, to_layout
from .ps_roi_pool import (
    deform_ps_roi_pool,
    deform_ps_roi_pool_backward,
    ps_roi_pool,
    ps_roi_pool_backward,
)
from .receptive_fields import (
    ConvLayer,
    GridFit,
    disordered_offset,
    effective_receptive_field,
    grid_fit,
    influence_spread,
    stacked_points,
    stacked_shares,
)
from .roi_modules import (
    DeformPsRoiPoolModuleGrads,
    DeformRoiPoolModuleGrads,
    deform_ps_roi_pool_module,
    deform_ps_roi_pool_module_backward,
    deform_roi_pool_module,
    deform_roi_pool_module_backward,
)
from .roi_pool import RoiPoolGrads, roi_pool, roi_pool_backward
from .volumes import conv3d, conv3d_backward, deform_conv3d, deform_conv3d_backward

__all__ = [
    "ConvGrads",
    "ConvLayer",
    "DeformConvGrads",
    "DeformConvModuleGrads",
    "DeformPsRoiPoolModuleGrads",
    "DeformRoiPoolGrads",
    "DeformRoiPoolModuleGrads",
    "G",
    "GridFit",
    "Layout",
    "R",
    "RoiPoolGrads",
    "SampleGrads",
    "conv2d",
    "conv2d_backward",
    "conv3d",
    "conv3d_backward",
    "dG",
    "deform_conv2d",
    "deform_conv2d_backward",
    "deform_conv3d",
    "deform_conv3d_backward",
    "deform_conv_module",
    "deform_conv_module_backward",
    "deform_ps_roi_pool",
    "deform_ps_roi_pool_backward",
    "deform_ps_roi_pool_module",
    "deform_ps_roi_pool_module_backward",
    "deform_roi_pool",
    "deform_roi_pool_backward",
    "deform_roi_pool_module",
    "deform_roi_pool_module_backward",
    "disordered_offset",
    "effective_dilation",
    "effective_receptive_field",
    "equations",
    "from_layout",
    "g",
    "grid_fit",
    "influence_spread",
    "ps_roi_pool",
    "ps_roi_pool_backward",
    "roi_pool",
    "roi_pool_backward",
    "sample",
    "sample_backward",
    "sampling_points",
    "stacked_points",
    "stacked_shares",
    "to_layout",
    "zero_offset_branch",
]
