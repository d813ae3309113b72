"""The operators of `reference` on NVIDIA GPUs: the same names, arguments, results and errors.

Arrays of NumPy, CuPy, Numba, PyTorch and JAX go in, and arrays like x come out; see `arrays`.
Importing this package needs no GPU and imports neither Numba nor CuPy: the first call does, and
raises one RuntimeError where neither can run.
"""

from deformable_convnets.reference.bilinear import SampleGrads
from deformable_convnets.reference.convolution import ConvGrads
from deformable_convnets.reference.deform_conv import DeformConvGrads

from .operators import (
    conv2d,
    conv2d_backward,
    deform_conv2d,
    deform_conv2d_backward,
    sample,
    sample_backward,
)

__all__ = [
    "ConvGrads",
    "DeformConvGrads",
    "SampleGrads",
    "conv2d",
    "conv2d_backward",
    "deform_conv2d",
    "deform_conv2d_backward",
    "sample",
    "sample_backward",
]
