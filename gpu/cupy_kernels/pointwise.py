"""Plain convolution with a 1 x 1 kernel: cuBLAS alone, without columns.

Two of three layers of a bottleneck are such: y = w x, for each image, pixels beside one another as
they are in memory. 16-bit numbers, groups, strides and padding go the way of all convolutions, by
columns (`deform_conv`).
"""

from typing import Any

from deformable_convnets.reference.geometry import Geometry

from . import layout


def fits(x: Any, geometry: Geometry) -> bool:
    """Whether a convolution is one product of matrices, in the numbers of x."""
    one = geometry.kernel == geometry.stride == (1, 1) and geometry.padding == ((0, 0), (0, 0))
    return one and geometry.groups == 1 and x.dtype.itemsize >= 4


def conv2d(device: Any, x: Any, weight: Any, bias: Any, *, geometry: Geometry,
           precision: str = "exact", workspace_limit: int | None = None) -> Any:  # fmt: skip
    """Equation (1) with one tap: y(p0) = w x(p0). It needs no workspace."""
    (O, C), N = weight.shape[:2], x.shape[0]
    Ho, Wo = geometry.output
    y = layout.empty_like(device, x, (N, O, Ho, Wo))
    w = device.packed(weight).reshape(1, O, C)
    if y.flags.c_contiguous:
        w = w if N == 1 else _again(w, N)
        out = y.reshape(N, O, Ho * Wo)
        device.multiply(w, device.packed(x).reshape(N, C, Ho * Wo), out, accumulate=False,
                        precision=precision)  # fmt: skip
    else:  # channels last: all images are rows of one product
        rows = device.packed(x.transpose(0, 2, 3, 1)).reshape(1, N * Ho * Wo, C)
        out = y.transpose(0, 2, 3, 1).reshape(1, N * Ho * Wo, O)
        device.multiply(rows, w.transpose(0, 2, 1), out, accumulate=False, precision=precision)
    if bias is not None:
        y += bias[:, None, None]
    return y


def _again(w: Any, N: int) -> Any:
    """The same matrix for each of N images: a view of stride 0, which cuBLAS reads."""
    from numpy.lib.stride_tricks import as_strided

    if hasattr(w, "__cuda_array_interface__"):
        from cupy.lib.stride_tricks import as_strided  # type: ignore[no-redef]
    return as_strided(w, (N, *w.shape[1:]), (0, *w.strides[1:]))
