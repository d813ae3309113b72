"""Readable kernels in Python for NVIDIA GPUs, compiled by Numba, from naive to fast.

`VERSIONS` is what the package offers, by name of version and operator. Importing this package
imports Numba.
"""

from . import convolution, deform_conv, deform_conv_columns, roi_pool, sample, volumes

VERSIONS = {
    "v1": sample.V1 | convolution.V1 | deform_conv.V1 | roi_pool.V1 | volumes.V1,
    "v2": sample.V2 | deform_conv_columns.V2 | roi_pool.V2,
}
