"""Deformable convolution on the GPU (Numba), v2: every point is sampled once.

reference.deform_conv    here                          why it differs
samples, columns         `columns`, N C K Ho Wo        the mask is multiplied in as they are made
grad_samples             `grad_columns`, N C K Ho Wo   both in global memory, as there
one matrix G             weights in registers          one thread samples a p for all its channels
G^T grad_samples         atomic additions              many points read one pixel; order undefined

v1  in deform_conv: samples x again for each output channel
v2  stores the samples, so p and its weights are computed once per offset group and tap. It needs
    memory for N C K Ho Wo numbers, backward twice that. The gradient of x is not deterministic.
"""

# mypy: disable-error-code="no-untyped-def"

import math
from typing import Any

from deformable_convnets.reference.geometry import Geometry

from ..registry import Version
from . import convolution
from .bilinear import axis, is_nan, read, sample, scatter, slopes
from .deform_conv import grad_sample, location, modulation
from .launch import empty, grid_of, index, launch, optional, rounded, zero, zeros
from .shim import cuda


@cuda.jit
def sample_columns(x, offset, mask, has_mask, columns, kw, grid, offset_groups, dcnv1, zero):
    """Equation (3): columns[n, c, k, p0] = m x[n, c](p), one thread per p for all its channels."""
    f = type(zero)
    (N, C, K), Wo = columns.shape[:3], offset.shape[3]
    C_per_offset, P = C // offset_groups, offset.shape[2] * Wo
    for t in range(cuda.grid(1), N * offset_groups * K * P, cuda.gridsize(1)):
        n, group, k, p0 = index(t, (N, offset_groups, K, P))
        m, oy, ox = group * K + k, p0 // Wo, p0 % Wo
        py, px = location(offset, n, m, k, kw, oy, ox, grid, zero)
        low_y, gy, _ = axis(py, x.shape[2], dcnv1, True)
        low_x, gx, _ = axis(px, x.shape[3], dcnv1, True)
        modulated = modulation(mask, has_mask, n, m, oy, ox, zero)
        if is_nan(py, px):
            modulated = f(math.nan)
        for c in range(group * C_per_offset, (group + 1) * C_per_offset):
            value = read(x[n, c], low_y, f(1) - gy, gy, low_x, f(1) - gx, gx)
            columns[n, c, k, p0] = modulated * value


@cuda.jit
def product(columns, weight, bias, has_bias, y, zero):
    """Equation (2): y[n, o, p0] = sum over c, k of weight[o, c, k] columns[n, c, k, p0]."""
    f = type(zero)
    I, kw, Wo = weight.shape[1], weight.shape[3], y.shape[3]
    O_per_group = weight.shape[0] // (columns.shape[1] // I)
    for t in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        n, o, oy, ox = index(t, y.shape)
        value = f(bias[o]) if has_bias else zero
        for i in range(I):
            for k in range(columns.shape[2]):
                c = o // O_per_group * I + i
                value += f(weight[o, i, k // kw, k % kw]) * columns[n, c, k, oy * Wo + ox]
        y[n, o, oy, ox] = value


@cuda.jit
def grad_columns(grad_output, weight, grad_columns, zero):
    """Equation (2), its adjoint: grad_columns[n, c, k, p0] = sum over o of weight grad_output."""
    C, Wo = grad_columns.shape[1], grad_output.shape[3]
    for t in range(cuda.grid(1), grad_columns.size, cuda.gridsize(1)):
        n, c, k, p0 = index(t, grad_columns.shape)
        value = grad_sample(grad_output, weight, C, n, c, k, p0 // Wo, p0 % Wo, zero)
        grad_columns[n, c, k, p0] = value


@cuda.jit
def grad_x(grad_columns, offset, mask, has_mask, grad_x, kw, grid, offset_groups, dcnv1, zero):
    """Equation (3), its adjoint: each p adds G(q, p) m grad_columns to its four q, by atomics."""
    (N, C, K), Wo = grad_columns.shape[:3], offset.shape[3]
    C_per_offset, P = C // offset_groups, offset.shape[2] * Wo
    for t in range(cuda.grid(1), N * offset_groups * K * P, cuda.gridsize(1)):
        n, group, k, p0 = index(t, (N, offset_groups, K, P))
        m, oy, ox = group * K + k, p0 // Wo, p0 % Wo
        py, px = location(offset, n, m, k, kw, oy, ox, grid, zero)
        modulated = modulation(mask, has_mask, n, m, oy, ox, zero)
        for c in range(group * C_per_offset, (group + 1) * C_per_offset):
            scatter(grad_x[n, c], py, px, dcnv1, modulated * grad_columns[n, c, k, p0])


@cuda.jit
def grad_offset(
    grad_columns,
    x,
    offset,
    mask,
    has_mask,
    grad_offset,
    kw,
    grid,
    offset_groups,
    dcnv1,
    right,
    zero,
):
    """Equation (7): both numbers of offset[n, m, p0] gather m grad_columns dx(p)/dp over c."""
    (N, C, K), Wo = grad_columns.shape[:3], offset.shape[3]
    C_per_offset, P = C // offset_groups, offset.shape[2] * Wo
    for t in range(cuda.grid(1), N * offset_groups * K * P, cuda.gridsize(1)):
        n, group, k, p0 = index(t, (N, offset_groups, K, P))
        m, oy, ox = group * K + k, p0 // Wo, p0 % Wo
        py, px = location(offset, n, m, k, kw, oy, ox, grid, zero)
        modulated = modulation(mask, has_mask, n, m, oy, ox, zero)
        total_y, total_x = zero, zero
        for c in range(group * C_per_offset, (group + 1) * C_per_offset):
            by_y, by_x = slopes(x[n, c], py, px, dcnv1, right)
            total_y += modulated * grad_columns[n, c, k, p0] * by_y
            total_x += modulated * grad_columns[n, c, k, p0] * by_x
        grad_offset[n, 2 * m, oy, ox], grad_offset[n, 2 * m + 1, oy, ox] = total_y, total_x


@cuda.jit
def grad_mask(grad_columns, x, offset, grad_mask, kw, grid, offset_groups, dcnv1, zero):
    """The mask's gradient (DCNv2, not in this paper): grad_columns x(p), summed over c."""
    C_per_offset, K, Wo = x.shape[1] // offset_groups, grad_columns.shape[2], offset.shape[3]
    for t in range(cuda.grid(1), grad_mask.size, cuda.gridsize(1)):
        n, m, oy, ox = index(t, grad_mask.shape)
        group, k = m // K, m % K
        py, px = location(offset, n, m, k, kw, oy, ox, grid, zero)
        value = zero
        for c in range(group * C_per_offset, (group + 1) * C_per_offset):
            value += grad_columns[n, c, k, oy * Wo + ox] * sample(x[n, c], py, px, dcnv1)
        grad_mask[n, m, oy, ox] = value


@cuda.jit
def grad_weight(grad_output, columns, grad_weight, zero):
    """Equation (2): weight[o, i, k] gathers grad_output columns over every n and p0."""
    f = type(zero)
    I, kw, Wo = grad_weight.shape[1], grad_weight.shape[3], grad_output.shape[3]
    O_per_group = grad_weight.shape[0] // (columns.shape[1] // I)
    for t in range(cuda.grid(1), grad_weight.size, cuda.gridsize(1)):
        o, i, ky, kx = index(t, grad_weight.shape)
        c, k = o // O_per_group * I + i, ky * kw + kx
        value = zero
        for n in range(columns.shape[0]):
            for p0 in range(columns.shape[3]):
                value += f(grad_output[n, o, p0 // Wo, p0 % Wo]) * columns[n, c, k, p0]
        grad_weight[o, i, ky, kx] = value


def deform_conv2d(
    x: Any, offset: Any, weight: Any, bias: Any, mask: Any, *, geometry: Geometry, border: str
) -> Any:
    """Equation (2), v2."""
    y = empty((x.shape[0], weight.shape[0], *geometry.output), x.dtype)
    columns = _columns(x, offset, mask, geometry, border)
    b, has_bias = optional(bias, 1, x.dtype)
    launch(product, y.size, columns, weight, b, has_bias, y, zero(x.dtype))
    return y


def deform_conv2d_backward(
    grad_output: Any, x: Any, offset: Any, weight: Any, bias: Any, mask: Any, *,
    geometry: Geometry, border: str, side: str, wrt: tuple[str, ...],
) -> dict[str, Any]:  # fmt: skip
    """Equation (7) and the other gradients that `wrt` names, v2; x's is not deterministic."""
    given = {"x": x, "offset": offset, "weight": weight, "bias": bias, "mask": mask}
    grads = {name: empty(given[name].shape, given[name].dtype) for name in wrt if name != "x"}
    nought, m, points = zero(x.dtype), optional(mask, 4, x.dtype), offset.size // 2
    where = (geometry.kernel[1], grid_of(geometry), geometry.offset_groups, border == "dcnv1")
    if {"x", "offset", "mask"} & set(wrt):
        through = empty(_columns_shape(x, geometry), nought.dtype)
        launch(grad_columns, through.size, grad_output, weight, through, nought)
    if "x" in wrt:
        total = zeros(x.shape, nought.dtype)
        launch(grad_x, points, through, offset, *m, total, *where, nought)
        grads["x"] = rounded(total, x.dtype)
    if "offset" in wrt:
        right = side == "right"
        launch(grad_offset, points, through, x, offset, *m, grads["offset"], *where, right, nought)
    if "mask" in wrt:
        launch(grad_mask, points, through, x, offset, grads["mask"], *where, nought)
    if "weight" in wrt:
        columns = _columns(x, offset, mask, geometry, border)
        launch(grad_weight, weight.size, grad_output, columns, grads["weight"], nought)
    if "bias" in wrt:
        launch(convolution.grad_bias, bias.size, grad_output, grads["bias"], nought)
    return grads


def _columns(x: Any, offset: Any, mask: Any, geometry: Geometry, border: str) -> Any:
    nought = zero(x.dtype)
    columns = empty(_columns_shape(x, geometry), nought.dtype)
    launch(
        sample_columns, offset.size // 2, x, offset, *optional(mask, 4, x.dtype), columns,
        geometry.kernel[1], grid_of(geometry), geometry.offset_groups, border == "dcnv1", nought,
    )  # fmt: skip
    return columns


def _columns_shape(x: Any, geometry: Geometry) -> tuple[int, int, int, int]:
    (kh, kw), (Ho, Wo) = geometry.kernel, geometry.output
    return x.shape[0], x.shape[1], kh * kw, Ho * Wo


V2 = {
    "deform_conv2d": Version(deform_conv2d),
    "deform_conv2d_backward": Version(deform_conv2d_backward, deterministic=False),
}
