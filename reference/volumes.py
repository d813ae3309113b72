"""Deformable convolution of volumes: equations (1), (2) and (7) with one axis more.

"Without loss of generality, the modules are described in 2D for notation clarity. Extension to 3D
is straightforward." (section 2). Positions are (z, y, x), z first, and an offset has three channels
for each tap. The points are then rows of a sparse matrix as in `deform_conv`, with eight entries
each, and all that follows is the same code.
"""

from math import prod

import numpy as np
from jaxtyping import Float
from numpy import ndarray as Array

from . import volume_checks as checks
from .bilinear import Border, Side, as_given, computed
from .convolution import ConvGrads
from .deform_conv import DeformConvGrads, gradients, locations, sampled_and_summed
from .geometry import Faces, Triple, VolumeGeometry
from .trilinear import cells


def conv3d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: int | Triple = 1,
    padding: int | Triple | Faces = 0,
    dilation: int | Triple = 1,
) -> Array:
    """Equation (1) on volumes: y(p0) = sum over p_n of w(p_n) x(p0 + p_n), a sum over the taps.

    x       N C D H W
    weight  O C/groups kd kh kw, with groups = C // weight.shape[1]
    bias    O
    stride, dilation   int or (z, y, x), at least 1
    padding  int, (z, y, x) or ((front, back), (top, bottom), (left, right))
    Returns N O Do Ho Wo in the dtype of x; float16 is computed in float32. The kernel is not
    flipped. Raises ValueError or TypeError, see `checks`.
    """
    geometry = checks.check_conv3d(x, weight, bias, stride, padding, dilation)
    w, padded = _by_tap(computed(weight), geometry), _padded(computed(x), geometry)
    y = np.zeros((len(x), *w.shape[1:3], prod(geometry.output)), w.dtype)
    for k in range(len(w)):
        y += w[k] @ _read(padded, k, geometry)
    if bias is not None:
        y += computed(bias).reshape(geometry.groups, -1, 1)
    return np.ascontiguousarray(y.reshape(len(x), len(weight), *geometry.output), x.dtype)


def conv3d_backward(
    grad_output: Array,
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: int | Triple = 1,
    padding: int | Triple | Faces = 0,
    dilation: int | Triple = 1,
) -> ConvGrads:
    """The gradients of `conv3d`, equation (1) on volumes, given grad_output N O Do Ho Wo.

    The term w(p_n) x(p0 + p_n) gives grad_output x(p0 + p_n) to w(p_n), and w(p_n) grad_output to
    the pixel it read.
    """
    geometry = checks.check_conv3d(
        x, weight, bias, stride, padding, dilation, grad_output=grad_output
    )
    w, padded = _by_tap(computed(weight), geometry), _padded(computed(x), geometry)
    grad_y = computed(grad_output).reshape(len(x), *w.shape[1:3], prod(geometry.output))
    grad_w, grad_padded = np.zeros_like(w), np.zeros_like(padded)
    for k in range(len(w)):
        grad_w[k] = (grad_y @ _read(padded, k, geometry).swapaxes(2, 3)).sum(axis=0)
        seen = grad_padded[_window(k, geometry)]
        seen += (w[k].swapaxes(1, 2) @ grad_y).reshape(seen.shape)
    inside = tuple(
        slice(before, before + n)
        for (before, _), n in zip(geometry.padding, x.shape[2:], strict=True)
    )
    return ConvGrads(
        as_given(grad_padded[:, :, *inside], x),
        as_given(np.moveaxis(grad_w, 0, -1).reshape(weight.shape), weight),
        as_given(grad_y.sum(axis=(0, 3)).ravel(), bias),
    )


def deform_conv3d(
    x: Array,
    offset: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: int | Triple = 1,
    padding: int | Triple | Faces = 0,
    dilation: int | Triple = 1,
    mask: Array | None = None,
    border: Border = "zero",
) -> Array:
    """Equation (2) on volumes: y(p0) = sum over p_n of w(p_n) x(p0 + p_n + Delta p_n).

    x        N C D H W
    offset   N 3*G*K Do Ho Wo, in pixels of x; channel (g K + k) 3 is dz of tap k, the next dy, then
             dx. The K = kd kh kw taps are in the order of the weight's last three axes
    weight   O C/groups kd kh kw, with groups = C // weight.shape[1]
    bias     O
    stride, dilation   int or (z, y, x), at least 1
    padding  int, (z, y, x) or ((front, back), (top, bottom), (left, right))
    mask     N G*K Do Ho Wo (DCNv2, Zhu et al. 2019; not in this paper)
    border   "zero", the paper's, or "dcnv1", the rule of the authors' 2-D code on every axis
    Returns N O Do Ho Wo in the dtype of x, with the dtypes, errors and memory of `deform_conv2d`.
    """
    geometry = checks.check_deform_conv3d(
        x, offset, weight, bias, stride, padding, dilation, mask, border
    )
    p = locations(computed(offset), geometry)
    at = cells(p, x.shape[2:], border)
    return sampled_and_summed(at, geometry, x, weight, bias, mask)


def deform_conv3d_backward(
    grad_output: Array,
    x: Array,
    offset: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: int | Triple = 1,
    padding: int | Triple | Faces = 0,
    dilation: int | Triple = 1,
    mask: Array | None = None,
    border: Border = "zero",
    side: Side = "right",
) -> DeformConvGrads:
    """Equation (7) on volumes, and the other gradients, given grad_output N O Do Ho Wo.

    As in `deform_conv2d_backward`, with grad_offset = grad_samples . (G_z x, G_y x, G_x x).
    """
    geometry = checks.check_deform_conv3d(
        x, offset, weight, bias, stride, padding, dilation, mask, border,
        grad_output=grad_output, side=side,
    )  # fmt: skip
    p = locations(computed(offset), geometry)
    at = cells(p, x.shape[2:], border, side)
    return gradients(at, geometry, grad_output, x, offset, weight, bias, mask)


def _by_tap(
    weight: Float[Array, "O I kd kh kw"], geometry: VolumeGeometry
) -> Float[Array, "K groups Og I"]:
    (O, I), groups = weight.shape[:2], geometry.groups
    return np.moveaxis(weight.reshape(groups, O // groups, I, -1), -1, 0).copy()


def _padded(x: Float[Array, "N C D H W"], geometry: VolumeGeometry) -> Array:
    return np.pad(x, ((0, 0), (0, 0), *geometry.padding))


def _read(
    padded: Float[Array, "N C Dp Hp Wp"], k: int, geometry: VolumeGeometry
) -> Float[Array, "N groups I P"]:
    """x(p0 + p_n) for every p0, with p_n the tap k."""
    (N, C), groups = padded.shape[:2], geometry.groups
    return padded[_window(k, geometry)].reshape(N, groups, C // groups, prod(geometry.output))


def _window(k: int, geometry: VolumeGeometry) -> tuple[slice, ...]:
    """The pixels p0 + p_n of the padded volume that tap k reads."""
    each = zip(
        np.unravel_index(k, geometry.kernel), geometry.dilation, geometry.stride, geometry.output,
        strict=True,
    )  # fmt: skip
    return (
        slice(None),
        slice(None),
        *(slice(i * d, i * d + s * (n - 1) + 1, s) for i, d, s, n in each),
    )
