"""Equation (1): the plain convolution, as one product: its weights, and the pixels of every tap.

It does not use `bilinear`: that a deformable convolution with zero offset equals it is a law the
tests can hold both to.
"""

from math import prod
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray as Array

from . import checks
from .bilinear import as_given, computed
from .geometry import Geometry, Pair, Sides


class ConvGrads(NamedTuple):
    """The gradients of `conv2d`, each of the shape and dtype of its argument."""

    x: Array
    weight: Array
    bias: Array | None


def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: int | Pair = 1,
    padding: int | Pair | Sides = 0,
    dilation: int | Pair = 1,
) -> Array:
    """Equation (1): y(p0) = sum over p_n of w(p_n) x(p0 + p_n).

    x       N C H W
    weight  O C/groups kh kw, with groups = C // weight.shape[1]
    bias    O
    stride, dilation   int or (y, x), at least 1
    padding  int, (y, x) or ((top, bottom), (left, right))
    Returns N O Ho Wo in the dtype of x; float16 is computed in float32. As everywhere in this
    field it is a cross-correlation: the kernel is not flipped. Raises ValueError or TypeError.
    """
    geometry = checks.check_conv2d(x, weight, bias, stride, padding, dilation)
    y = _by_group(computed(weight), geometry) @ _columns(computed(x), geometry)
    y = y.reshape(x.shape[0], weight.shape[0], *geometry.output)
    if bias is not None:
        y += computed(bias)[:, None, None]
    return np.ascontiguousarray(y, x.dtype)


def conv2d_backward(
    grad_output: Array,
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: int | Pair = 1,
    padding: int | Pair | Sides = 0,
    dilation: int | Pair = 1,
) -> ConvGrads:
    """The gradients of equation (1), given grad_output N O Ho Wo.

    The term w(p_n) x(p0 + p_n) gives grad_output x(p0 + p_n) to w(p_n), and w(p_n) grad_output to
    the pixel it read.
    """
    geometry = checks.check_conv2d(
        x, weight, bias, stride, padding, dilation, grad_output=grad_output
    )
    w, columns = _by_group(computed(weight), geometry), _columns(computed(x), geometry)
    grad_y = computed(grad_output).reshape(*columns.shape[:2], w.shape[1], columns.shape[3])
    grad_weight = (grad_y @ columns.swapaxes(2, 3)).sum(axis=0)
    grad_x = _columns_adjoint(w.swapaxes(1, 2) @ grad_y, x.shape, geometry)
    return ConvGrads(
        as_given(grad_x, x),
        as_given(grad_weight.reshape(weight.shape), weight),
        as_given(grad_y.sum(axis=(0, 3)).ravel(), bias),
    )


def _by_group(
    weight: Float[Array, "O I kh kw"], geometry: Geometry
) -> Float[Array, "groups Og IK"]:
    O, groups = len(weight), geometry.groups
    return weight.reshape(groups, O // groups, prod(weight.shape[1:]))


def _columns(x: Float[Array, "N C H W"], geometry: Geometry) -> Float[Array, "N groups IK P"]:
    """x(p0 + p_n): a row for every channel and tap p_n, a column for every p0."""
    if any(map(any, geometry.padding)):
        x = np.pad(x, ((0, 0), (0, 0), *geometry.padding))
    taps = [x[window] for window in _windows(geometry)]
    read = np.stack(taps, axis=2) if len(taps) > 1 else taps[0]
    N, C, groups = *x.shape[:2], geometry.groups
    return read.reshape(N, groups, C // groups * len(taps), prod(geometry.output))


def _columns_adjoint(
    grad_columns: Float[Array, "N groups IK P"], shape: tuple[int, ...], geometry: Geometry
) -> Float[Array, "N C H W"]:
    """x(p0 + p_n) again: each column gives to the pixels that it has read."""
    (top, bottom), (left, right) = geometry.padding
    N, C, H, W = shape
    grad_padded = np.zeros((N, C, top + H + bottom, left + W + right), grad_columns.dtype)
    by_tap = grad_columns.reshape(N, C, prod(geometry.kernel), *geometry.output)
    for k, window in enumerate(_windows(geometry)):
        grad_padded[window] += by_tap[:, :, k]
    return grad_padded[:, :, top : top + H, left : left + W]


def _windows(geometry: Geometry) -> list[tuple[slice, ...]]:
    """For each tap p_n, the pixels p0 + p_n of the padded map that it reads."""
    (kh, kw), (Ho, Wo), (sy, sx) = geometry.kernel, geometry.output, geometry.stride
    rows = [slice(y, y + sy * (Ho - 1) + 1, sy) for y in np.arange(kh) * geometry.dilation[0]]
    columns = [slice(x, x + sx * (Wo - 1) + 1, sx) for x in np.arange(kw) * geometry.dilation[1]]
    return [(slice(None), slice(None), y, x) for y in rows for x in columns]
