"""Deformable convolution: equation (2) and its gradients, equation (7) among them.

Every sampling point p = p0 + p_n + Delta p_n of every image is a row of one sparse matrix G, so

    samples = G x                        equation (3)
    y       = samples W                  equation (2), a product over (p_n, channel)

and the backward pass is the same two lines read from the end. The offset groups of an image are
maps of their own: G has one diagonal block per image and offset group.

The mask multiplies samples: Deformable ConvNets v2 (Zhu et al. 2019), not this paper.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray as Array

from . import checks, layout
from .bilinear import Border, Side, as_given, cells, computed, read, slopes
from .geometry import AnyGeometry, Pair, Sides, centres, regular_grid


class DeformConvGrads(NamedTuple):
    """The gradients of `deform_conv2d`, each of the shape and dtype of its argument.

    `bias` and `mask` are None where the argument was.
    """

    x: Array
    offset: Array
    weight: Array
    bias: Array | None
    mask: Array | None


def deform_conv2d(
    x: Array,
    offset: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: int | Pair = 1,
    padding: int | Pair | Sides = 0,
    dilation: int | Pair = 1,
    mask: Array | None = None,
    border: Border = "zero",
) -> Array:
    """Equation (2): y(p0) = sum over p_n of w(p_n) x(p0 + p_n + Delta p_n).

    x        N C H W
    offset   N 2*G*K Ho Wo, in pixels of x; channel (g K + k) 2 is dy of tap k, the next one dx
    weight   O C/groups kh kw, with groups = C // weight.shape[1]
    bias     O
    stride, dilation   int or (y, x), at least 1
    padding  int, (y, x) or ((top, bottom), (left, right))
    mask     N G*K Ho Wo (DCNv2, Zhu et al. 2019; not in this paper)
    border   "zero", the paper's, or "dcnv1", the authors' code; see `bilinear`
    Returns N O Ho Wo in the dtype of x. float16 is computed in float32, and offset may be float32
    where x is float16. Raises ValueError or TypeError, see `checks`.
    Needs memory for G x: N * Ho * Wo * K * C numbers.
    """
    geometry = checks.check_deform_conv2d(
        x, offset, weight, bias, stride, padding, dilation, mask, border
    )
    p = locations(computed(offset), geometry)
    at = cells(p, x.shape[2:], border)
    return sampled_and_summed(at, geometry, x, weight, bias, mask)


def deform_conv2d_backward(
    grad_output: Array,
    x: Array,
    offset: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: int | Pair = 1,
    padding: int | Pair | Sides = 0,
    dilation: int | Pair = 1,
    mask: Array | None = None,
    border: Border = "zero",
    side: Side = "right",
) -> DeformConvGrads:
    """Equation (7), and the gradients of x, weight, bias and mask, given grad_output N O Ho Wo.

    grad_samples = W^T grad_output, and then, as y is linear in samples and samples in x,

        grad_weight = grad_output samples^T        grad_x      = G^T grad_samples
        grad_mask   = grad_samples . samples       grad_offset = grad_samples . (G_y x, G_x x)   (7)

    side  which derivative is returned at whole p: "right" or "left"; see `bilinear`
    Other arguments as in `deform_conv2d`. Nothing is kept from the forward pass: the samples are
    read again. Needs memory for three arrays of the size of G x.
    """
    geometry = checks.check_deform_conv2d(
        x, offset, weight, bias, stride, padding, dilation, mask, border,
        grad_output=grad_output, side=side,
    )  # fmt: skip
    p = locations(computed(offset), geometry)
    at = cells(p, x.shape[2:], border, side)
    return gradients(at, geometry, grad_output, x, offset, weight, bias, mask)


def sampled_and_summed(
    at: Any, geometry: AnyGeometry, x: Array, weight: Array, bias: Array | None, mask: Array | None
) -> Array:
    """Equation (2) of maps or volumes, once it is known where the points are: y = (G x) W.

    at  the `bilinear.Cells` of every sampling point, or the `trilinear.VolumeCells`
    """
    N, G, groups = x.shape[0], geometry.offset_groups, geometry.groups
    samples = read(at.G, at.nan, layout.pixels(computed(x), G))
    if mask is not None:
        samples *= layout.points(computed(mask), geometry).reshape(-1, 1)
    columns = layout.columns(samples, N, geometry)
    y = layout.weights(computed(weight), groups) @ columns.swapaxes(1, 2)
    if bias is not None:
        y += computed(bias).reshape(groups, -1, 1)
    return np.ascontiguousarray(layout.from_outputs(y, N, geometry), x.dtype)


def gradients(
    at: Any, geometry: AnyGeometry, grad_output: Array,
    x: Array, offset: Array, weight: Array, bias: Array | None, mask: Array | None,
) -> DeformConvGrads:  # fmt: skip
    """Equation (7) and the other gradients of `sampled_and_summed`, of maps or volumes."""
    N, G, groups = x.shape[0], geometry.offset_groups, geometry.groups
    pixels = layout.pixels(computed(x), G)
    grad_y = layout.outputs(computed(grad_output), groups)
    grad_samples = grad_y.swapaxes(1, 2) @ layout.weights(computed(weight), groups)
    grad_samples = layout.from_columns(grad_samples, N, geometry)
    samples, grad_mask = read(at.G, at.nan, pixels), None
    if mask is not None:
        m = layout.points(computed(mask), geometry).reshape(-1, 1)
        grad_m = np.einsum("pc,pc->p", grad_samples, samples)
        grad_mask = layout.from_points(grad_m, geometry, mask.shape)
        samples *= m
        grad_samples *= m
    grad_weight = grad_y @ layout.columns(samples, N, geometry)
    grad_x, grad_p = at.G.T @ grad_samples, slopes(at, pixels, grad_samples)
    return DeformConvGrads(
        as_given(layout.from_pixels(grad_x, G, x.shape), x),
        as_given(layout.from_points(grad_p, geometry, offset.shape), offset),
        as_given(layout.from_weights(grad_weight, weight.shape), weight),
        as_given(grad_y.sum(axis=2).ravel(), bias),
        as_given(grad_mask, mask),
    )


def locations(
    offset: Float[Array, "N GKd *output"], geometry: AnyGeometry
) -> Float[Array, "NG PK d"]:
    """p = p0 + p_n + Delta p_n, for every image and offset group, output pixel and tap."""
    d = len(geometry.kernel)
    p0 = centres(geometry).reshape(1, -1, 1, d)
    pn = regular_grid(geometry.kernel, geometry.dilation)
    grid = (p0 + pn).reshape(1, -1, d).astype(offset.dtype)
    return grid + layout.points(offset, geometry)
