"""Deformable convolution on the GPU (Numba), v1: the equations, transliterated.

reference.deform_conv    here                          why it differs
locations                `location`, in the kernel     p is never stored: 2 K floats per output
G x, a sparse product    `sample`, in the kernel       samples are never stored
product over (p_n, c)    loops in registers            one thread owns y[n, o, oy, ox]
G^T grad_samples         every p asked for G(q, p)     one thread owns x[n, c, qy, qx]: no atomics

v1  one thread per number of the result, which gathers its whole sum; deterministic
v2  in deform_conv_columns
"""

# mypy: disable-error-code="no-untyped-def"

from typing import Any

from deformable_convnets.reference.geometry import Geometry

from ..registry import Version
from . import convolution
from .bilinear import G, sample, slopes
from .launch import empty, grid_of, index, launch, optional, zero
from .shim import cuda


@cuda.jit(device=True)
def location(offset, n, m, k, kw, oy, ox, grid, zero):
    """p = p0 + p_n + Delta p_n of equation (2): the grid, rounded once, plus the offset.

    m = g K + k is the channel of the mask; dy is channel 2 m of the offset, and dx the next.
    """
    f = type(zero)
    sy, sx, top, left, dy, dx = grid
    py = f(oy * sy - top + k // kw * dy) + f(offset[n, 2 * m, oy, ox])
    px = f(ox * sx - left + k % kw * dx) + f(offset[n, 2 * m + 1, oy, ox])
    return py, px


@cuda.jit(device=True)
def modulation(mask, has_mask, n, m, oy, ox, zero):
    """The mask of tap m = g K + k (DCNv2, Zhu et al. 2019; not in this paper), 1 without one."""
    f = type(zero)
    return f(mask[n, m, oy, ox]) if has_mask else f(1)


@cuda.jit(device=True)
def grad_sample(grad_output, weight, C, n, c, k, oy, ox, zero):
    """Equation (2): dL/d(m x(p)) for channel c and tap k, from every o of the group of c."""
    f = type(zero)
    I, kw = weight.shape[1], weight.shape[3]
    O_per_group = weight.shape[0] // (C // I)
    first = c // I * O_per_group
    value = zero
    for o in range(first, first + O_per_group):
        value += f(weight[o, c % I, k // kw, k % kw]) * f(grad_output[n, o, oy, ox])
    return value


@cuda.jit
def forward(x, offset, weight, bias, has_bias, mask, has_mask, y, grid, offset_groups, dcnv1, zero):
    """Equation (2): y[n, o, p0] = sum over c, k of weight[o, c, k] x[n, c](p)."""
    f = type(zero)
    I, kw = weight.shape[1], weight.shape[3]
    K, O_per_group = weight.shape[2] * kw, weight.shape[0] // (x.shape[1] // I)
    for t in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        n, o, oy, ox = index(t, y.shape)
        value = f(bias[o]) if has_bias else zero
        for i in range(I):
            c = o // O_per_group * I + i
            for k in range(K):
                m = c // (x.shape[1] // offset_groups) * K + k
                py, px = location(offset, n, m, k, kw, oy, ox, grid, zero)
                w = f(weight[o, i, k // kw, k % kw])
                modulated = w * modulation(mask, has_mask, n, m, oy, ox, zero)
                value += modulated * sample(x[n, c], py, px, dcnv1)
        y[n, o, oy, ox] = value


@cuda.jit
def grad_x(grad_output, offset, weight, mask, has_mask, grad_x, grid, offset_groups, dcnv1, zero):
    """Equation (2), its adjoint: x[n, c, q] gathers G(q, p) grad_sample from every p0 and p_n."""
    C, kw, K = grad_x.shape[1], weight.shape[3], weight.shape[2] * weight.shape[3]
    for t in range(cuda.grid(1), grad_x.size, cuda.gridsize(1)):
        n, c, qy, qx = index(t, grad_x.shape)
        value = zero
        for oy in range(offset.shape[2]):
            for ox in range(offset.shape[3]):
                for k in range(K):
                    m = c // (C // offset_groups) * K + k
                    py, px = location(offset, n, m, k, kw, oy, ox, grid, zero)
                    g = G(qy, qx, py, px, grad_x.shape[2], grad_x.shape[3], dcnv1)
                    if g != zero:
                        g *= modulation(mask, has_mask, n, m, oy, ox, zero)
                        value += g * grad_sample(grad_output, weight, C, n, c, k, oy, ox, zero)
        grad_x[n, c, qy, qx] = value


@cuda.jit
def grad_offset(
    grad_output, x, offset, weight, mask, has_mask, grad_offset, grid, dcnv1, right, zero
):
    """Equation (7): offset[n, 2 m + d] moved p in every channel c of its offset group."""
    C, kw, K = x.shape[1], weight.shape[3], weight.shape[2] * weight.shape[3]
    C_per_offset = C * 2 * K // offset.shape[1]
    for t in range(cuda.grid(1), grad_offset.size, cuda.gridsize(1)):
        n, channel, oy, ox = index(t, grad_offset.shape)
        m, k, first = channel // 2, channel // 2 % K, channel // (2 * K) * C_per_offset
        py, px = location(offset, n, m, k, kw, oy, ox, grid, zero)
        modulated = modulation(mask, has_mask, n, m, oy, ox, zero)
        value = zero
        for c in range(first, first + C_per_offset):
            by_y, by_x = slopes(x[n, c], py, px, dcnv1, right)
            slope = by_y if channel % 2 == 0 else by_x
            grad = grad_sample(grad_output, weight, C, n, c, k, oy, ox, zero)
            value += grad * modulated * slope
        grad_offset[n, channel, oy, ox] = value


@cuda.jit
def grad_mask(grad_output, x, offset, weight, grad_mask, grid, dcnv1, zero):
    """The mask's gradient (DCNv2, not in this paper): mask[n, m] multiplied x(p) of its c."""
    C, kw, K = x.shape[1], weight.shape[3], weight.shape[2] * weight.shape[3]
    C_per_offset = C * K // grad_mask.shape[1]
    for t in range(cuda.grid(1), grad_mask.size, cuda.gridsize(1)):
        n, m, oy, ox = index(t, grad_mask.shape)
        k, first = m % K, m // K * C_per_offset
        py, px = location(offset, n, m, k, kw, oy, ox, grid, zero)
        value = zero
        for c in range(first, first + C_per_offset):
            grad = grad_sample(grad_output, weight, C, n, c, k, oy, ox, zero)
            value += grad * sample(x[n, c], py, px, dcnv1)
        grad_mask[n, m, oy, ox] = value


@cuda.jit
def grad_weight(
    grad_output, x, offset, mask, has_mask, grad_weight, grid, offset_groups, dcnv1, zero
):
    """Equation (2): weight[o, i, k] multiplied x[n, c](p) for every n and p0."""
    f = type(zero)
    I, kw = grad_weight.shape[1], grad_weight.shape[3]
    K, O_per_group = grad_weight.shape[2] * kw, grad_weight.shape[0] // (x.shape[1] // I)
    for t in range(cuda.grid(1), grad_weight.size, cuda.gridsize(1)):
        o, i, ky, kx = index(t, grad_weight.shape)
        c, k = o // O_per_group * I + i, ky * kw + kx
        m = c // (x.shape[1] // offset_groups) * K + k
        value = zero
        for n in range(x.shape[0]):
            for oy in range(grad_output.shape[2]):
                for ox in range(grad_output.shape[3]):
                    py, px = location(offset, n, m, k, kw, oy, ox, grid, zero)
                    grad = f(grad_output[n, o, oy, ox])
                    grad *= modulation(mask, has_mask, n, m, oy, ox, zero)
                    value += grad * sample(x[n, c], py, px, dcnv1)
        grad_weight[o, i, ky, kx] = value


def deform_conv2d(
    x: Any, offset: Any, weight: Any, bias: Any, mask: Any, *, geometry: Geometry, border: str
) -> Any:
    """Equation (2), v1."""
    y = empty((x.shape[0], weight.shape[0], *geometry.output), x.dtype)
    launch(
        forward, y.size, x, offset, weight, *optional(bias, 1, x.dtype),
        *optional(mask, 4, x.dtype), y, grid_of(geometry), geometry.offset_groups,
        border == "dcnv1", zero(x.dtype),
    )  # fmt: skip
    return y


def deform_conv2d_backward(
    grad_output: Any, x: Any, offset: Any, weight: Any, bias: Any, mask: Any, *,
    geometry: Geometry, border: str, side: str, wrt: tuple[str, ...],
) -> dict[str, Any]:  # fmt: skip
    """Equation (7) and the other gradients that `wrt` names, v1; deterministic."""
    given = {"x": x, "offset": offset, "weight": weight, "bias": bias, "mask": mask}
    grads = {name: empty(given[name].shape, given[name].dtype) for name in wrt}
    m, grid, groups = optional(mask, 4, x.dtype), grid_of(geometry), geometry.offset_groups
    dcnv1, right, nought = border == "dcnv1", side == "right", zero(x.dtype)
    arguments = {
        "x": (grad_x, offset, weight, *m, grads.get("x"), grid, groups, dcnv1),
        "offset": (grad_offset, x, offset, weight, *m, grads.get("offset"), grid, dcnv1, right),
        "weight": (grad_weight, x, offset, *m, grads.get("weight"), grid, groups, dcnv1),
        "bias": (convolution.grad_bias, grads.get("bias")),
        "mask": (grad_mask, x, offset, weight, grads.get("mask"), grid, dcnv1),
    }
    for name in wrt:
        kernel, *rest = arguments[name]
        launch(kernel, given[name].size, grad_output, *rest, nought)
    return grads


V1 = {
    "deform_conv2d": Version(deform_conv2d),
    "deform_conv2d_backward": Version(deform_conv2d_backward),
}
