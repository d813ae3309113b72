"""Equation (1): the plain convolution, as a sum over the taps of the grid R.

It does not use `bilinear`: that a deformable convolution with zero offset equals it is a law the
tests can hold both to.
"""

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
    padding int, (y, x) or ((top, bottom), (left, right))
    Returns N O Ho Wo in the dtype of x; float16 is computed in float32. As everywhere in this
    field it is a cross-correlation: the kernel is not flipped. Raises ValueError or TypeError.
    """
    geometry = checks.check_conv2d(x, weight, bias, stride, padding, dilation)
    w, padded = _by_tap(computed(weight), geometry), _padded(computed(x), geometry)
    y = sum(w[k] @ _read(padded, k, geometry) for k in range(len(w)))
    y = np.asarray(y).reshape(x.shape[0], weight.shape[0], *geometry.output)
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

    Each tap's term w(p_n) x(p0 + p_n) gives grad_output x(p0 + p_n) to w(p_n), and
    w(p_n) grad_output to the pixel it read.
    """
    geometry = checks.check_conv2d(
        x, weight, bias, stride, padding, dilation, grad_output=grad_output
    )
    w, padded = _by_tap(computed(weight), geometry), _padded(computed(x), geometry)
    N, P = x.shape[0], geometry.output[0] * geometry.output[1]
    grad_y = computed(grad_output).reshape(N, geometry.groups, w.shape[2], P)
    grad_w, grad_padded = np.empty_like(w), np.zeros_like(padded)
    for k in range(len(w)):
        grad_w[k] = (grad_y @ _read(padded, k, geometry).swapaxes(2, 3)).sum(axis=0)
        seen = grad_padded[_window(k, geometry)]
        seen += (w[k].swapaxes(1, 2) @ grad_y).reshape(seen.shape)
    (top, _), (left, _) = geometry.padding
    grad_x = grad_padded[:, :, top : top + x.shape[2], left : left + x.shape[3]]
    grad_weight = np.moveaxis(grad_w, 0, -1).reshape(weight.shape)
    return ConvGrads(
        as_given(grad_x, x),
        as_given(grad_weight, weight),
        as_given(grad_y.sum(axis=(0, 3)).ravel(), bias),
    )


def _by_tap(weight: Float[Array, "O I kh kw"], geometry: Geometry) -> Float[Array, "K groups Og I"]:
    O, I, kh, kw = weight.shape
    groups = geometry.groups
    return np.moveaxis(weight.reshape(groups, O // groups, I, kh * kw), -1, 0).copy()


def _padded(x: Float[Array, "N C H W"], geometry: Geometry) -> Float[Array, "N C Hp Wp"]:
    return np.pad(x, ((0, 0), (0, 0), *geometry.padding))


def _read(
    padded: Float[Array, "N C Hp Wp"], k: int, geometry: Geometry
) -> Float[Array, "N groups I P"]:
    """x(p0 + p_n) for every p0, with p_n the tap k."""
    N, C = padded.shape[:2]
    groups, (Ho, Wo) = geometry.groups, geometry.output
    return padded[_window(k, geometry)].reshape(N, groups, C // groups, Ho * Wo)


def _window(k: int, geometry: Geometry) -> tuple[slice, ...]:
    """The pixels p0 + p_n of the padded map that tap k reads."""
    (Ho, Wo), (sy, sx), (dy, dx) = geometry.output, geometry.stride, geometry.dilation
    y, x = k // geometry.kernel[1] * dy, k % geometry.kernel[1] * dx
    rows = slice(y, y + sy * (Ho - 1) + 1, sy)
    return slice(None), slice(None), rows, slice(x, x + sx * (Wo - 1) + 1, sx)
