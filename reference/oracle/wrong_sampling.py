"""Wrong versions of G, equation (4): other cells, other weights, and operands with fewer bits.

Equation (2) is then the samples laid side by side, and (1) with the kernel as its stride. The
wrong cells are versions of border="zero".
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import ndarray as Array

from .. import bilinear, layout
from ..bilinear import Axis, Cells, SampleGrads
from ..convolution import conv2d, conv2d_backward
from ..deform_conv import DeformConvGrads, locations
from .wrong_calls import Call
from .wrong_numbers import Rounding

Rule = Callable[[Array, Array], tuple[Array, Array, Array]]
"""Points and (H, W) -> the pixel before each coordinate, the part above it, whether it counts."""


def right(p: Array, n: Array) -> tuple[Array, Array, Array]:
    low = np.floor(p)
    return low, p - low, (p > -1) & (p < n)


def truncated(p: Array, n: Array) -> tuple[Array, Array, Array]:
    """int(p), which is 0 and not -1 between -1 and 0."""
    low = np.trunc(p)
    return low, p - low, (p > -1) & (p < n)


def exchanged(p: Array, n: Array) -> tuple[Array, Array, Array]:
    low, part, near = right(p, n)
    return low, part[..., ::-1], near


def hard_gate(p: Array, n: Array) -> tuple[Array, Array, Array]:
    return *right(p, n)[:2], (p >= 0) & (p < n)


def whole_cells(p: Array, n: Array) -> tuple[Array, Array, Array]:
    return *right(p, n)[:2], (p >= 0) & (p < n - 1)


def swapped_sizes(p: Array, n: Array) -> tuple[Array, Array, Array]:
    return *right(p, n)[:2], (p > -1) & (p < n[::-1])


def roi_align(p: Array, n: Array) -> tuple[Array, Array, Array]:
    near, p = (p >= -1) & (p <= n), np.clip(p, 0, n - 1)
    return *right(p, n)[:2], near


def cells(rule: Rule, p: Array, size: Any) -> Cells:
    """As `bilinear.cells`, for points maps P 2."""
    n, nan = np.array(size, p.dtype), np.isnan(p).any(axis=-1).ravel()
    low, part, near = rule(p, n)
    low, part = np.where(near, low, 0), np.where(near, part, 0)
    q = low[..., None].astype(np.int64) + np.arange(2)
    counts = near[..., None] & (q >= 0) & (q < n[:, None])
    g = np.stack([1 - part, part], axis=-1) * counts
    q = np.clip(q, 0, np.array(size)[:, None] - 1)
    y, x = (
        Axis(q[..., d, :], g[..., d, :], counts[..., d, :] * np.array([-1, 1], p.dtype))
        for d in (0, 1)
    )
    start = np.arange(len(p))[:, None, None, None] * (size[0] * size[1])
    column = start + y.q[..., :, None] * size[1] + x.q[..., None, :]
    return Cells(y, x, column, len(p) * size[0] * size[1], nan)


def sampled(rule: Rule) -> Callable[[Call], Any]:
    """`sample`, or its backward, by this rule."""

    def wrong(c: Call) -> Any:
        p, x = bilinear.computed(c.p), bilinear.computed(c.x).reshape(len(c.x), -1).T
        at = cells(rule, p.reshape(1, -1, 2), c.x.shape[1:])
        if not c.backward:
            y = bilinear.read(at.G, at.nan, x).T.reshape(len(c.x), *c.p.shape[:-1])
            return np.ascontiguousarray(y, c.x.dtype)
        grad = bilinear.computed(c.grad_output).reshape(len(c.x), -1).T
        grad_x = (at.G.T @ grad).T.reshape(c.x.shape)
        grad_p = bilinear.slopes(at, x, grad).reshape(c.p.shape)
        return SampleGrads(grad_x.astype(c.x.dtype), grad_p.astype(c.p.dtype))

    return wrong


class Laid:
    """The samples of a call, as rows, and as the map on which (2) is (1)."""

    def __init__(self, c: Call, at: Cells):
        self.c, self.layer, self.at = c, c.layer, at
        self.pixels = layout.pixels(bilinear.computed(c.x), self.layer.offset_groups)
        self.rows = bilinear.read(at.G, at.nan, self.pixels)
        m = c.arguments["mask"]
        ones = np.ones((len(self.rows), 1), self.rows.dtype)
        m = ones if m is None else layout.points(bilinear.computed(m), self.layer).reshape(-1, 1)
        self.mask = m

    @property
    def shape(self) -> tuple[int, ...]:
        """N Ho Wo kh kw of the samples, with G and C / G."""
        G = self.layer.offset_groups
        return (len(self.c.x), G, *self.layer.output, *self.layer.kernel, self.c.x.shape[1] // G)

    def map(self) -> Array:
        """N C Ho kh Wo kw, as N C Ho*kh Wo*kw."""
        N, G, Ho, Wo, kh, kw, C = self.shape
        spread = (self.rows * self.mask).reshape(self.shape).transpose(0, 1, 6, 2, 4, 3, 5)
        return np.ascontiguousarray(spread).reshape(N, G * C, Ho * kh, Wo * kw)

    def back(self, grad: Array) -> Array:
        """The gradient of the map as that of the rows."""
        N, G, Ho, Wo, kh, kw, C = self.shape
        spread = grad.reshape(N, G, C, Ho, kh, Wo, kw).transpose(0, 1, 3, 5, 4, 6, 2)
        return spread.reshape(self.rows.shape)


def deformed(rule: Rule | None = None, rounding: Rounding = lambda a: a) -> Callable[[Call], Any]:
    """`deform_conv2d`, or its backward, by this rule; the operands of its products rounded."""

    def wrong(c: Call) -> Any:
        p, size = locations(bilinear.computed(c.offset), c.layer), c.x.shape[2:]
        side = c.arguments.get("side", "right")
        at = cells(rule, p, size) if rule else bilinear.cells(p, size, c.border, side)
        laid = Laid(c, at)
        weight = rounding(bilinear.computed(c.weight))
        bias = None if c.bias is None else bilinear.computed(c.bias)
        args, stride = (rounding(laid.map()), weight, bias), c.layer.kernel
        if not c.backward:
            return conv2d(*args, stride=stride).astype(c.x.dtype)
        grad = rounding(bilinear.computed(c.grad_output))
        return _gradients(laid, conv2d_backward(grad, *args, stride=stride))

    return wrong


def _gradients(laid: Laid, plain: Any) -> DeformConvGrads:
    """The gradients from those of the convolution of the map."""
    c, layer, at = laid.c, laid.layer, laid.at
    back = laid.back(plain.x)
    grad_mask, back = (back * laid.rows).sum(axis=1, keepdims=True), back * laid.mask
    slopes = bilinear.slopes(at, laid.pixels, back)
    grad_x = layout.from_pixels(at.G.T @ back, layer.offset_groups, c.x.shape)
    found = (grad_x, layout.from_points(slopes, layer, c.offset.shape), plain.weight, plain.bias)
    mask = c.arguments["mask"]
    moved = None if mask is None else layout.from_points(grad_mask, layer, mask.shape)
    given = (c.x, c.offset, c.weight, c.bias, mask)
    return DeformConvGrads(*map(bilinear.as_given, (*found, moved), given))
