"""Equations (1) to (4) and (7) with one axis more, read aloud: `equations` for volumes.

"Without loss of generality, the modules are described in 2D for notation clarity. Extension to 3D
is straightforward." (section 2). As in `equations` every sum is a loop, over p0, over p_n and over
*all* q, the numbers may be of any kind, and there are no checks.

Positions are (z, y, x). Arrays: x N C D H W, weight O C/groups kd kh kw, bias O, offset
N 3GK Do Ho Wo with dz, dy and dx of tap k from channel (g K + k) 3 on; mask N GK Do Ho Wo (of
Deformable ConvNets v2, Zhu et al. 2019, not of this paper).
"""

from itertools import product
from typing import Any

import numpy as np
from numpy import ndarray as Array

from .equations import dg, g

Point = Any  # (z, y, x)


def G(q: Point, p: Point) -> Any:
    """(4) in a volume: G(q, p) = g(q_z, p_z) g(q_y, p_y) g(q_x, p_x)."""
    return g(q[0], p[0]) * g(q[1], p[1]) * g(q[2], p[2])


def dG(q: Point, p: Point, side: str = "right") -> Point:
    """dG(q, p)/dp, as (z, y, x)."""
    (gz, gy, gx), (dz, dy, dx) = map(g, q, p), (dg(a, b, side) for a, b in zip(q, p, strict=True))
    return dz * gy * gx, gz * dy * gx, gz * gy * dx


def sample(x: Array, p: Point) -> Any:
    """(3): x(p) = sum over q of G(q, p) x(q); q runs over every pixel of one channel x."""
    return sum(G(q, p) * x[q] for q in np.ndindex(x.shape))


def sample_slope(x: Array, p: Point, side: str = "right") -> Point:
    """sum over q of dG(q, p)/dp x(q): the inner sum of equation (7)."""
    slopes = [(dG(q, p, side), x[q]) for q in np.ndindex(x.shape)]
    return tuple(sum(s[axis] * v for s, v in slopes) for axis in range(3))


class Layer:
    """One convolution: where its taps read. `offset=None` is equation (1), else (2)."""

    def __init__(
        self, x: Array, offset: Array | None, weight: Array, *,
        stride: Point = (1, 1, 1), padding: Any = ((0, 0),) * 3, dilation: Point = (1, 1, 1),
        mask: Array | None = None,
    ):  # fmt: skip
        self.x, self.offset, self.weight, self.mask = x, offset, weight, mask
        self.stride, self.padding, self.dilation = stride, padding, dilation
        (N, C, *size), (O, Cg, kd, kh, kw) = x.shape, weight.shape
        self.taps = list(product(range(kd), range(kh), range(kw)))
        self.K, self.C_per_group, self.O_per_group = kd * kh * kw, Cg, O * Cg // C
        self.C_per_offset = C if offset is None else 3 * self.K * C // offset.shape[1]
        self.y_shape = N, O, *(
            (n + sum(padding[i]) - dilation[i] * (weight.shape[2 + i] - 1) - 1) // stride[i] + 1
            for i, n in enumerate(size)
        )  # fmt: skip

    def p(self, n: int, c: int, k: int, p0: Point) -> Point:
        """p0 + p_n + Delta p_n for tap k, as channel c sees it; the window's corner is p0 + p_0."""
        z, y, x = (
            p0[i] * self.stride[i] - self.padding[i][0] + self.taps[k][i] * self.dilation[i]
            for i in range(3)
        )
        if self.offset is None:
            return z, y, x
        dz, dy, dx = (self.offset[n, 3 * self.m_index(c, k) + i, *p0] for i in range(3))
        return z + dz, y + dy, x + dx

    def m_index(self, c: int, k: int) -> int:
        """The channel of the mask (a third of that of the offset) which tap k of channel c uses."""
        return c // self.C_per_offset * self.K + k

    def m(self, n: int, c: int, k: int, p0: Point) -> Any:
        return 1 if self.mask is None else self.mask[n, self.m_index(c, k), *p0]

    def terms(self, n: int, o: int) -> Any:
        """Every (c, k, w(p_n)) in the sum that makes y[n, o, p0]."""
        for i, k in product(range(self.C_per_group), range(self.K)):
            c = o // self.O_per_group * self.C_per_group + i
            yield c, k, self.weight[o, i, *self.taps[k]]


def deform_conv3d(layer: Layer, bias: Array | None = None) -> Array:
    """(1) and (2): y(p0) = sum over p_n of w(p_n) x(p0 + p_n + Delta p_n)."""
    y = np.zeros(layer.y_shape, dtype=object)
    for n, o, *p0 in np.ndindex(y.shape):
        y[n, o, *p0] = (0 if bias is None else bias[o]) + sum(
            w * layer.m(n, c, k, p0) * sample(layer.x[n, c], layer.p(n, c, k, p0))
            for c, k, w in layer.terms(n, o)
        )
    return y


def deform_conv3d_backward(
    grad_output: Array, layer: Layer, side: str = "right"
) -> dict[str, Array]:
    """The chain rule through (2), and (7): the gradients of x, offset, weight, bias and mask."""
    shapes = {"x": layer.x.shape, "weight": layer.weight.shape, "bias": layer.weight.shape[:1]}
    N, _, *output = layer.y_shape
    fields = layer.x.shape[1] // layer.C_per_offset * layer.K
    shapes |= {"offset": (N, 3 * fields, *output), "mask": (N, fields, *output)}
    grads = {name: np.zeros(shape, dtype=object) for name, shape in shapes.items()}
    for n, o, *p0 in np.ndindex(layer.y_shape):
        gy = grad_output[n, o, *p0]
        grads["bias"][o] += gy
        for c, k, w in layer.terms(n, o):
            p, m, x = layer.p(n, c, k, p0), layer.m(n, c, k, p0), layer.x[n, c]
            value, field = sample(x, p), layer.m_index(c, k)
            grads["weight"][o, c % layer.C_per_group, *layer.taps[k]] += gy * m * value
            grads["mask"][n, field, *p0] += gy * w * value
            for q in np.ndindex(x.shape):
                grads["x"][n, c, *q] += gy * w * m * G(q, p)
            for axis, slope in enumerate(sample_slope(x, p, side)):
                grads["offset"][n, 3 * field + axis, *p0] += gy * w * m * slope
    return grads
