"""Receptive fields: where a stack of layers reads (Figures 5 and 6), how much, and how far apart.

A stack is a list of `ConvLayer`s in the order of the forward pass: layers[0] reads the input,
layers[-1] gives the output. Its points are found the other way, from an output location p down.
Equation (2) of the top layer reads K points of the map below. Where such a point falls between the
pixels of that map, the value there is the mixture (3) of four outputs of the next layer, each with
its own offsets; the offset at the point is the same mixture of theirs. So inside a map a point
found here is the mean, with the weights G(q, p), of the points of those four pixels.

Borders. No tap is ever left out, so index n is tap n everywhere. Beyond the edge of a map there is
no output and no offset. There eq. (3) is read literally for the field too: the offset fades to zero
over one pixel, and further out the points form the regular grid. What is read there is padding:
`stacked_shares` tells how much of each point counts.

Nothing here knows of activation functions: the stack is taken as linear in its input.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray as Array

from . import receptive_field_checks as checks
from .bilinear import computed, sample
from .convolution import conv2d_backward
from .deform_conv import deform_conv2d_backward
from .geometry import Geometry, Pair, R, Sides, pair
from .offsets import sampling_points
from .receptive_field_checks import Checked


@dataclass(frozen=True, slots=True, eq=False)
class ConvLayer:
    """A layer of a stack, on one image: equation (2), or (1) where it has no offset.

    kernel_size  int or (y, x)
    offset   1 2*G*K Ho Wo, as in `deform_conv2d`; None for a plain convolution
    weight   O C/groups kh kw; None for 1 / K at each tap of one channel
    stride, padding, dilation   as in `deform_conv2d`
    """

    kernel_size: int | Pair
    offset: Array | None = None
    weight: Array | None = None
    stride: int | Pair = 1
    padding: int | Pair | Sides = 0
    dilation: int | Pair = 1


class GridFit(NamedTuple):
    """The result of `grid_fit`, each N G Ho Wo: points = scale * turned grid + mean + rest."""

    scale: Array
    angle: Array
    scatter: Array


def stacked_points(
    p: Any, layers: Sequence[ConvLayer], *, offset_group: int | Sequence[int] = 0
) -> Array:
    """Figure 5 and Figure 6: the 9, 81 or 729 points that 1, 2 or 3 layers read for one output.

    p       ... 2: (y, x) in pixels of the output of layers[-1]; whole for an output pixel
    layers  from the input up; the offset fields of layers that follow each other must fit
    offset_group  which offset group's points, one for all layers or one for each
    Returns ... K_L ... K_1 2, (y, x) in pixels of the input of layers[0]: first the tap of the top
    layer, last that of layers[0]. In the dtype of the offsets (float32 for float16), or float64.
    Raises ValueError or TypeError.
    """
    stack = checks.check_stack(layers, offset_group=offset_group)
    points = checks.check_points(p, checks.dtype_of(stack))
    for layer in reversed(stack):
        points = _points_below(points, layer)
    return points


def stacked_shares(
    p: Any, layers: Sequence[ConvLayer], size: Pair, *, offset_group: int | Sequence[int] = 0
) -> Array:
    """How much of each of the `stacked_points` counts: the product of its sums over q of G(q, p).

    size  (H, W) of the input; other arguments as in `stacked_points`
    Returns ... K_L ... K_1, from 0 to 1: 1 where the point and all those above it lie on their
    maps, 0 where one of them is a pixel or more outside, and so reads only padding.
    """
    stack = checks.check_stack(layers, size, offset_group)
    points = checks.check_points(p, checks.dtype_of(stack))
    shares = _on_the_map(points, stack[-1].geometry.output)
    for layer in reversed(stack):
        points = _points_below(points, layer)
        assert layer.size is not None
        shares = shares[..., None] * _on_the_map(points, layer.size)
    return shares


def _points_below(p: Float[Array, "*points 2"], layer: Checked) -> Float[Array, "*points K 2"]:
    """p0 + p_n + Delta p_n, in pixels of the input of a layer, for any point p of its output."""
    to_centre = [
        d * ((k - 1) // 2) - before
        for k, d, (before, _) in zip(
            layer.geometry.kernel, layer.geometry.dilation, layer.geometry.padding, strict=True
        )
    ]
    p0 = p * np.array(layer.geometry.stride, p.dtype) + np.array(to_centre, p.dtype)
    pn = R(layer.geometry.kernel, dilation=layer.geometry.dilation).astype(p.dtype)
    points = p0[..., None, :] + pn
    if layer.offset is not None:
        field = np.split(layer.offset[0], layer.geometry.offset_groups)[layer.offset_group]
        offset = sample(field, p).reshape(len(pn), 2, *p.shape[:-1])
        points += np.moveaxis(offset, (0, 1), (-2, -1))
    return points


def _on_the_map(p: Float[Array, "*points 2"], size: Pair) -> Float[Array, "*points"]:
    """The sum over q of G(q, p): 1 on the map, 0 a pixel or more outside."""
    return sample(np.ones((1, *size), p.dtype), p).reshape(p.shape[:-1])


def effective_receptive_field(p: Any, layers: Sequence[ConvLayer], size: Pair) -> Array:
    """dy(p) / dx for every pixel of x, through `conv2d_backward` and `deform_conv2d_backward`.

    The effective receptive field of Luo et al. 2016 (1701.04128), not of this paper.

    p       (y, x), a pixel of the output
    layers  from the input up; layers[0] has no weight groups
    size    (H, W) of the input
    Returns C H W, the gradient of the sum of the output channels at p. The offsets are taken as
    given: what x does to them through an offset branch is not in it.
    """
    stack = checks.check_stack(layers, pair("size", size, at_least=1))
    dtype = checks.dtype_of(stack)
    y, x = checks.check_pixel(p, stack[-1].geometry.output)
    weights = _weights(stack, dtype)
    channels = [1 if stack[0].weight is None else weights[0].shape[1], *map(len, weights)]
    grad = np.zeros((1, channels[-1], *stack[-1].geometry.output), dtype)
    grad[0, :, y, x] = 1
    for layer, weight, C in zip(stack[::-1], weights[::-1], channels[-2::-1], strict=True):
        assert layer.size is not None
        grad = _influence_below(grad, np.zeros((1, C, *layer.size), dtype), weight, layer)
    return grad[0]


def _weights(stack: list[Checked], dtype: Any) -> list[Array]:
    """From the input up; without a weight a layer is the mean of its taps, each channel alone."""
    weights: list[Array] = []
    for i, layer in enumerate(stack):
        (kh, kw), weight = layer.geometry.kernel, layer.weight
        if weight is None:
            C = len(weights[-1]) if weights else 1
            weight = np.full((C, 1, kh, kw), 1 / (kh * kw), dtype)
        elif weights:
            checks.check_channels(i, weight, len(weights[-1]))
        weights.append(weight)
    return weights


def _influence_below(grad: Array, x: Array, weight: Array, layer: Checked) -> Array:
    """The gradient of a layer's input. As y is linear in x, any x of the right shape gives it."""
    shape: Geometry = layer.geometry
    options: Any = {
        "stride": shape.stride, "padding": shape.padding, "dilation": shape.dilation
    }  # fmt: skip
    if layer.offset is None:
        return conv2d_backward(grad, x, weight, **options).x
    return deform_conv2d_backward(grad, x, layer.offset, weight, **options).x


def influence_spread(influence: Array, *, power: int = 1) -> Array:
    """The standard deviation along y and x of an `effective_receptive_field`, in pixels.

    influence  ... H W; leading axes are added up
    power      the density is |influence| ** power, 1 or 2, divided by its sum
    Returns (sigma_y, sigma_x), float64; NaN where nothing has influence. For n plain layers of
    equal weights at each of k taps, far from the border, sigma ** 2 = n (k ** 2 - 1) / 12 exactly,
    with power=1 (Luo et al. 2016). For independent random weights of mean 0 the squared gradient
    has that expectation: power=2.
    """
    power = checks.check_influence(influence, power)
    with np.errstate(invalid="ignore"):  # 0 / 0
        size = np.abs(
            influence.astype(np.float64).reshape(prod(influence.shape[:-2]), *influence.shape[-2:])
        )
        density = ((size / size.max(initial=0)) ** power).sum(axis=0)
        spread = []
        for along in (density.sum(axis=1), density.sum(axis=0)):
            at, mass = np.arange(len(along)), along / along.sum()
            spread.append(np.sqrt((mass * (at - (mass * at).sum()) ** 2).sum()))
    return np.array(spread)


def disordered_offset(
    offset: Array,
    kernel_size: int | Pair,
    rng: np.random.Generator,
    *,
    keep: Literal["vectors", "lengths"] = "vectors",
) -> Array:
    """The random control of `effective_dilation`: displacements as large, without their order.

    offset  N 2*G*K Ho Wo
    keep    "vectors": each output pixel keeps its K displacements, dealt to the taps at random, so
            that a common shift stays; "lengths": each displacement is turned by a random angle
    Returns a new array like offset. The paper has no such control; without one a large effective
    dilation may be a large grid, or small disorder on any grid.
    """
    geometry = checks.check_control(offset, kernel_size, rng, keep)
    (N, _, Ho, Wo), G = offset.shape, geometry.offset_groups
    K = geometry.kernel[0] * geometry.kernel[1]
    field = computed(offset).reshape(N, G, K, 2, Ho, Wo)
    if keep == "vectors":
        order = rng.random((N, G, field.shape[2], 1, Ho, Wo)).argsort(axis=2)
        changed = np.take_along_axis(field, order, axis=2)
    else:
        angle = rng.uniform(0, 2 * np.pi, (N, G, field.shape[2], Ho, Wo))
        length = np.hypot(field[:, :, :, 0], field[:, :, :, 1])
        changed = np.stack([length * np.sin(angle), length * np.cos(angle)], axis=3)
    return np.ascontiguousarray(changed.reshape(offset.shape), offset.dtype)


def grid_fit(offset: Array, kernel_size: int | Pair, *, dilation: int | Pair = 1) -> GridFit:
    """The grid of dilation 1, scaled, turned and moved to lie nearest to the `sampling_points`.

    A Procrustes fit, least squares, without reflection. It is not in the paper: beside
    `effective_dilation` it tells scale from disorder.

    scale    of the grid: a plain filter of dilation d has d. Disorder without preference for any
             direction leaves the expected scaling and turning as they are, and adds little to scale
    angle    in radians, from -pi to pi; positive turns y towards x, anticlockwise as seen with y
             downwards
    scatter  root mean square distance of the points from the fitted grid, in pixels; a grid
             stretched along one axis has some too
    Not finite where an offset is not. Raises ValueError for a kernel of one tap.
    """
    geometry = checks.check_grid(offset, kernel_size, dilation)
    points = sampling_points(offset, geometry.kernel, dilation=geometry.dilation)
    with np.errstate(invalid="ignore"):  # infinity less infinity
        u = points[..., 0] + 1j * points[..., 1]
        u = u - u.mean(axis=2, keepdims=True)
        z = R(geometry.kernel).astype(points.dtype) @ np.array((1, 1j), u.dtype)
        z = (z - z.mean())[:, None, None]
        a = (z.conj() * u).sum(axis=2) / (np.abs(z) ** 2).sum()
        rest = np.abs(u - a[:, :, None] * z)
        return GridFit(np.abs(a), np.angle(a), np.sqrt((rest**2).mean(axis=2)))
