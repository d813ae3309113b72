"""The operators of `reference` on NVIDIA GPUs: the same names, arguments, results and errors.

Arrays of NumPy, CuPy, Numba, PyTorch and JAX go in, and arrays like x come out; see `arrays`. A
tensor of PyTorch's that requires a gradient is detached: `gpu.torch` has operators with autograd,
`gpu.jax` such for JAX, and `gpu.onnx` writes a layer as a model of ONNX.
The keywords that choose an implementation are in the head of `operators`.
Importing this package needs no GPU and imports neither Numba nor CuPy: the first call does, and
raises one RuntimeError where neither can run.
"""

from deformable_convnets.reference.bilinear import SampleGrads
from deformable_convnets.reference.convolution import ConvGrads
from deformable_convnets.reference.deform_conv import DeformConvGrads
from deformable_convnets.reference.deform_roi_pool import DeformRoiPoolGrads
from deformable_convnets.reference.roi_pool import RoiPoolGrads

from .operators import (
    conv2d,
    conv2d_backward,
    deform_conv2d,
    deform_conv2d_backward,
    sample,
    sample_backward,
)
from .roi_operators import (
    deform_ps_roi_pool,
    deform_ps_roi_pool_backward,
    deform_roi_pool,
    deform_roi_pool_backward,
    ps_roi_pool,
    ps_roi_pool_backward,
    roi_pool,
    roi_pool_backward,
)
from .volume_operators import deform_conv3d, deform_conv3d_backward

__all__ = [
    "ConvGrads",
    "DeformConvGrads",
    "DeformRoiPoolGrads",
    "RoiPoolGrads",
    "SampleGrads",
    "conv2d",
    "conv2d_backward",
    "deform_conv2d",
    "deform_conv2d_backward",
    "deform_conv3d",
    "deform_conv3d_backward",
    "deform_ps_roi_pool",
    "deform_ps_roi_pool_backward",
    "deform_roi_pool",
    "deform_roi_pool_backward",
    "ps_roi_pool",
    "ps_roi_pool_backward",
    "roi_pool",
    "roi_pool_backward",
    "sample",
    "sample_backward",
]
