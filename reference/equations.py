"""Equations (1) to (7') of the paper, read aloud.

Every sum is a loop, over p0, over p_n and over *all* q; nothing is skipped because it is zero. The
numbers may be of any kind Python can add and multiply. On `fractions.Fraction` (in NumPy arrays
of dtype object) the arithmetic is exact, so this file is what all others are compared with, bit
for bit. It is slow, has no checks, and is for maps of a few pixels.

Positions are (y, x). Arrays: x N C H W, weight O C/groups kh kw, bias O, offset N 2GK Ho Wo with dy
of tap k in channel (g K + k) 2 and dx in the next; mask N GK Ho Wo (of Deformable ConvNets v2, Zhu
et al. 2019, not of this paper).
"""

from itertools import product
from typing import Any

import numpy as np
from numpy import ndarray as Array

Point = Any  # (y, x)


def g(a: Any, b: Any) -> Any:
    """(4), one axis: g(a, b) = max(0, 1 - |a - b|)."""
    return max(0, 1 - abs(a - b))


def dg(a: Any, b: Any, side: str = "right") -> int:
    """dg(a, b)/db. At the kinks b = a - 1, a, a + 1 it is the derivative of that side."""
    if side == "right":
        return 1 if a - 1 <= b < a else -1 if a <= b < a + 1 else 0
    return 1 if a - 1 < b <= a else -1 if a < b <= a + 1 else 0


def G(q: Point, p: Point) -> Any:
    """(4): G(q, p) = g(q_y, p_y) g(q_x, p_x)."""
    return g(q[0], p[0]) * g(q[1], p[1])


def dG(q: Point, p: Point, side: str = "right") -> Point:
    """dG(q, p)/dp, as (y, x): what equation (7) calls dG/d(Delta p_n), since p moves with it."""
    return dg(q[0], p[0], side) * g(q[1], p[1]), g(q[0], p[0]) * dg(q[1], p[1], side)


def sample(x: Array, p: Point) -> Any:
    """(3): x(p) = sum over q of G(q, p) x(q); q runs over every pixel of one channel x."""
    return sum(G(q, p) * x[q] for q in np.ndindex(x.shape))


def sample_slope(x: Array, p: Point, side: str = "right") -> Point:
    """sum over q of dG(q, p)/dp x(q): the inner sum of equation (7)."""
    slopes = [(dG(q, p, side), x[q]) for q in np.ndindex(x.shape)]
    return sum(s[0] * v for s, v in slopes), sum(s[1] * v for s, v in slopes)


class Layer:
    """One convolution: where its taps read. `offset=None` is equation (1), else (2)."""

    def __init__(
        self, x: Array, offset: Array | None, weight: Array, *,
        stride: Point = (1, 1), padding: Any = ((0, 0), (0, 0)), dilation: Point = (1, 1),
        mask: Array | None = None,
    ):  # fmt: skip
        self.x, self.offset, self.weight, self.mask = x, offset, weight, mask
        self.stride, self.padding, self.dilation = stride, padding, dilation
        (N, C, H, W), (O, Cg, kh, kw) = x.shape, weight.shape
        (top, bottom), (left, right) = padding
        self.K, self.kw, self.C_per_group, self.O_per_group = kh * kw, kw, Cg, O * Cg // C
        self.C_per_offset = C if offset is None else 2 * self.K * C // offset.shape[1]
        Ho = (H + top + bottom - dilation[0] * (kh - 1) - 1) // stride[0] + 1
        Wo = (W + left + right - dilation[1] * (kw - 1) - 1) // stride[1] + 1
        self.y_shape = (N, O, Ho, Wo)

    def p(self, n: int, c: int, k: int, p0: Point) -> Point:
        """p0 + p_n + Delta p_n for tap k, as channel c sees it; the window's corner is p0 + p_0."""
        y = p0[0] * self.stride[0] - self.padding[0][0] + k // self.kw * self.dilation[0]
        x = p0[1] * self.stride[1] - self.padding[1][0] + k % self.kw * self.dilation[1]
        if self.offset is None:
            return y, x
        first = 2 * self.m_index(c, k)
        return y + self.offset[n, first, *p0], x + self.offset[n, first + 1, *p0]

    def m_index(self, c: int, k: int) -> int:
        """The channel of the mask (and half that of the offset) which tap k of channel c uses."""
        return c // self.C_per_offset * self.K + k

    def m(self, n: int, c: int, k: int, p0: Point) -> Any:
        return 1 if self.mask is None else self.mask[n, self.m_index(c, k), *p0]

    def terms(self, n: int, o: int) -> Any:
        """Every (c, k, w(p_n)) in the sum that makes y[n, o, p0]."""
        for i, k in product(range(self.C_per_group), range(self.K)):
            yield o // self.O_per_group * self.C_per_group + i, k, self.weight[o, i].flat[k]


def deform_conv2d(layer: Layer, bias: Array | None = None) -> Array:
    """(1) and (2): y(p0) = sum over p_n of w(p_n) x(p0 + p_n + Delta p_n)."""
    y = np.zeros(layer.y_shape, dtype=object)
    for n, o, *p0 in np.ndindex(y.shape):
        y[n, o, *p0] = (0 if bias is None else bias[o]) + sum(
            w * layer.m(n, c, k, p0) * sample(layer.x[n, c], layer.p(n, c, k, p0))
            for c, k, w in layer.terms(n, o)
        )
    return y


def offset_gradient(layer: Layer, n: int, o: int, p0: Point, k: int, side: str = "right") -> Any:
    """(7) without its stray sum: dy(p0)/d(Delta p_n) = w(p_n) sum_q dG/d(Delta p_n) x(q).

    It is summed over the channels c that read one offset field; the result is keyed by field.
    """
    field: dict[int, Point] = {}
    for c, tap, w in layer.terms(n, o):
        if tap == k:
            y, x = sample_slope(layer.x[n, c], layer.p(n, c, k, p0), side)
            m, f = layer.m(n, c, k, p0), layer.m_index(c, k)
            field[f] = (field.get(f, (0, 0))[0] + w * m * y, field.get(f, (0, 0))[1] + w * m * x)
    return field


def offset_gradient_as_printed(layer: Layer, n: int, o: int, p0: Point, side: str = "right") -> Any:
    """(7) as printed, with the sum over p_n on its right: not the derivative of anything."""
    terms = [t for k in range(layer.K) for t in offset_gradient(layer, n, o, p0, k, side).values()]
    return sum(t[0] for t in terms), sum(t[1] for t in terms)


def deform_conv2d_backward(
    grad_output: Array, layer: Layer, side: str = "right"
) -> dict[str, Array]:
    """The chain rule through (2) and (7): the gradients of x, offset, weight, bias and mask."""
    shapes = {"x": layer.x.shape, "weight": layer.weight.shape, "bias": layer.weight.shape[:1]}
    N, _, Ho, Wo = layer.y_shape
    fields = layer.x.shape[1] // layer.C_per_offset * layer.K
    shapes |= {"offset": (N, 2 * fields, Ho, Wo), "mask": (N, fields, Ho, Wo)}
    grads = {name: np.zeros(shape, dtype=object) for name, shape in shapes.items()}
    for n, o, *p0 in np.ndindex(layer.y_shape):
        gy = grad_output[n, o, *p0]
        grads["bias"][o] += gy
        for c, k, w in layer.terms(n, o):
            p, m, x = layer.p(n, c, k, p0), layer.m(n, c, k, p0), layer.x[n, c]
            value = sample(x, p)
            i = c % layer.C_per_group
            grads["weight"][o, i, k // layer.kw, k % layer.kw] += gy * m * value
            grads["mask"][n, layer.m_index(c, k), *p0] += gy * w * value
            for q in np.ndindex(x.shape):
                grads["x"][n, c, *q] += gy * w * m * G(q, p)
        for k in range(layer.K):
            for f, (dy, dx) in offset_gradient(layer, n, o, p0, k, side).items():
                grads["offset"][n, 2 * f, *p0] += gy * dy
                grads["offset"][n, 2 * f + 1, *p0] += gy * dx
    return grads


class Pooling:
    """Deformable RoI pooling of one call: x N Cout*gh*gw H W, rois R 5 with (n, x1, y1, x2, y2),
    offset R 2P part_h part_w (or None), for kh x kw bins. Plain pooling has a group of (1, 1)."""

    def __init__(
        self, x: Array, rois: Array, offset: Array | None, output: Point, *,
        scale: Any = 1, gamma: Any = 0, group: Point = (1, 1), part: Point = (1, 1),
    ):  # fmt: skip
        self.x, self.rois, self.offset, self.output = x, rois, offset, output
        self.scale, self.gamma, self.group, self.part = scale, gamma, group, part
        self.y_shape = (len(rois), x.shape[1] // (group[0] * group[1]), *output)

    def size(self, r: int) -> Point:
        """(h, w) of a RoI; its last row and column are exclusive."""
        _, x1, y1, x2, y2 = self.rois[r]
        return (y2 - y1) * self.scale, (x2 - x1) * self.scale

    def index(self, r: int, o: int, i: int, j: int) -> tuple[int, int, int, int]:
        """Where dy of bin (i, j) stands in offset: the class group of o, and the bin's part."""
        classes = 1 if self.offset is None else self.offset.shape[1] // 2
        (kh, kw), (ph, pw) = self.output, self.part
        return r, 2 * (o // (self.y_shape[1] // classes)), i * ph // kh, j * pw // kw

    def map(self, r: int, o: int, i: int, j: int) -> tuple[int, int]:
        """(image, channel) of x_ij, the score map of bin (i, j)."""
        (gh, gw), (kh, kw) = self.group, self.output
        return int(self.rois[r][0]), (o * gh + i * gh // kh) * gw + j * gw // kw

    def points(self, r: int, o: int, i: int, j: int) -> list[Point]:
        """p0 + p + Delta p_ij for every p in bin(i, j), with Delta p_ij = gamma (h, w) offset."""
        (h, w), (kh, kw) = self.size(r), self.output
        dy, dx = 0, 0
        if self.offset is not None:
            _, first, a, b = self.index(r, o, i, j)
            dy = self.gamma * h * self.offset[r, first, a, b]
            dx = self.gamma * w * self.offset[r, first + 1, a, b]
        y, x = self.rois[r][2] * self.scale + dy, self.rois[r][1] * self.scale + dx
        return [(y + a, x + b) for a, b in product(bin_range(i, kh, h), bin_range(j, kw, w))]


def bin_range(i: int, k: int, h: Any) -> range:
    """(5): the whole p with floor(i h / k) <= p < ceil((i + 1) h / k); none if h is negative."""
    h = max(h, 0)
    return range(int(i * h // k), int(-(-(i + 1) * h // k)))


def roi_pool(pooling: Pooling) -> Array:
    """(5) and (6): y(i, j) = sum over p in bin(i, j) of x(p0 + p + Delta p_ij) / n_ij."""
    y = np.zeros(pooling.y_shape, dtype=object)
    for at in np.ndindex(y.shape):
        points, x = pooling.points(*at), pooling.x[pooling.map(*at)]
        y[at] = sum(sample(x, p) for p in points) / len(points) if points else 0
    return y


def roi_pool_backward(
    grad_output: Array, pooling: Pooling, side: str = "right"
) -> tuple[Array, Array | None]:
    """(7') and the adjoint of (6): the gradients of x and of the normalised offset."""
    grad_x = np.zeros(pooling.x.shape, dtype=object)
    grad_offset = None if pooling.offset is None else np.zeros(pooling.offset.shape, dtype=object)
    for at in np.ndindex(pooling.y_shape):
        points, where = pooling.points(*at), pooling.map(*at)
        for p in points:
            share = grad_output[at] / len(points)
            for q in np.ndindex(pooling.x.shape[2:]):
                grad_x[*where, *q] += share * G(q, p)
            if grad_offset is not None:
                r, dy, a, b = pooling.index(*at)
                slopes = sample_slope(pooling.x[where], p, side)
                for d, (slope, length) in enumerate(zip(slopes, pooling.size(r), strict=True)):
                    grad_offset[r, dy + d, a, b] += share * pooling.gamma * length * slope
    return grad_x, grad_offset
