"""Deformable convolution of volumes on the GPU (Numba): `deform_conv` with one axis more.

reference.volumes        here                          why it differs
locations                `location`, in the kernel     p is never stored: 3 K floats per output
G x, a sparse product    `sample`, in the kernel       samples are never stored
product over (p_n, c)    loops in registers            one thread owns y[n, o, i]
G^T grad_samples         every p asked for G(q, p)     one thread owns x[n, c, q]: no atomics

What is only counted has one axis in place of three: output pixel i of Do Ho Wo, tap k of kd kh kw,
pixel q of D H W. So offset is N 3GK P, mask N GK P, weight O I K and y N O P; x is N C D H W.

v1  one thread per number of the result, which gathers its whole sum; deterministic
"""

# mypy: disable-error-code="no-untyped-def"

from math import prod
from typing import Any

from deformable_convnets.reference.geometry import VolumeGeometry

from ..registry import Version
from . import convolution
from .launch import empty, grid_of, launch, optional, reshaped, zero
from .shim import cuda
from .trilinear import G, sample, slopes


@cuda.jit(device=True)
def index(t, shape):
    """The three indices of number t of an array of that shape, in C order."""
    return t // shape[2] // shape[1], t // shape[2] % shape[1], t % shape[2]


@cuda.jit(device=True)
def place(i, height, width):
    """(z, y, x) of number i of a box with such planes, in C order."""
    return i // width // height, i // width % height, i % width


@cuda.jit(device=True)
def location(offset, n, m, k, i, grid, zero):
    """p = p0 + p_n + Delta p_n of equation (2): the grid, rounded once, plus the offset.

    m = g K + k is the channel of the mask; dz is channel 3 m of the offset, then dy, then dx.
    """
    f = type(zero)
    sz, sy, sx, front, top, left, dz, dy, dx, kh, kw, Ho, Wo = grid
    oz, oy, ox = place(i, Ho, Wo)
    kz, ky, kx = place(k, kh, kw)
    pz = f(oz * sz - front + kz * dz) + f(offset[n, 3 * m, i])
    py = f(oy * sy - top + ky * dy) + f(offset[n, 3 * m + 1, i])
    px = f(ox * sx - left + kx * dx) + f(offset[n, 3 * m + 2, i])
    return pz, py, px


@cuda.jit(device=True)
def modulation(mask, has_mask, n, m, i, zero):
    """The mask of tap m = g K + k (DCNv2, Zhu et al. 2019; not in this paper), 1 without one."""
    f = type(zero)
    return f(mask[n, m, i]) if has_mask else f(1)


@cuda.jit(device=True)
def grad_sample(grad_output, weight, C, n, c, k, i, zero):
    """Equation (2): dL/d(m x(p)) for channel c and tap k, from every o of the group of c."""
    f = type(zero)
    I = weight.shape[1]
    O_per_group = weight.shape[0] // (C // I)
    first = c // I * O_per_group
    value = zero
    for o in range(first, first + O_per_group):
        value += f(weight[o, c % I, k]) * f(grad_output[n, o, i])
    return value


@cuda.jit
def forward(x, offset, weight, bias, has_bias, mask, has_mask, y, grid, offset_groups, dcnv1, zero):
    """Equation (2): y[n, o, p0] = sum over c, k of weight[o, c, k] x[n, c](p)."""
    f = type(zero)
    I, K = weight.shape[1], weight.shape[2]
    O_per_group = weight.shape[0] // (x.shape[1] // I)
    for t in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        n, o, i = index(t, y.shape)
        value = f(bias[o]) if has_bias else zero
        for j in range(I):
            c = o // O_per_group * I + j
            for k in range(K):
                m = c // (x.shape[1] // offset_groups) * K + k
                pz, py, px = location(offset, n, m, k, i, grid, zero)
                w = f(weight[o, j, k]) * modulation(mask, has_mask, n, m, i, zero)
                value += w * sample(x[n, c], pz, py, px, dcnv1)
        y[n, o, i] = value


@cuda.jit
def grad_x(
    grad_output, offset, weight, mask, has_mask, grad_x, size, grid, offset_groups, dcnv1, zero
):
    """Equation (2), its adjoint: x[n, c, q] gathers G(q, p) grad_sample from every p0 and p_n."""
    C, K, (D, H, W) = grad_x.shape[1], weight.shape[2], size
    for t in range(cuda.grid(1), grad_x.size, cuda.gridsize(1)):
        n, c, q = index(t, grad_x.shape)
        qz, qy, qx = place(q, H, W)
        value = zero
        for i in range(offset.shape[2]):
            for k in range(K):
                m = c // (C // offset_groups) * K + k
                pz, py, px = location(offset, n, m, k, i, grid, zero)
                g = G(qz, qy, qx, pz, py, px, D, H, W, dcnv1)
                if g != zero:
                    g *= modulation(mask, has_mask, n, m, i, zero)
                    value += g * grad_sample(grad_output, weight, C, n, c, k, i, zero)
        grad_x[n, c, q] = value


@cuda.jit
def grad_offset(
    grad_output, x, offset, weight, mask, has_mask, grad_offset, grid, dcnv1, right, zero
):
    """Equation (7): offset[n, 3 m + d] moved p in every channel c of its offset group."""
    C, K = x.shape[1], weight.shape[2]
    C_per_offset = C * 3 * K // offset.shape[1]
    for t in range(cuda.grid(1), grad_offset.size, cuda.gridsize(1)):
        n, channel, i = index(t, grad_offset.shape)
        m, k, first = channel // 3, channel // 3 % K, channel // (3 * K) * C_per_offset
        pz, py, px = location(offset, n, m, k, i, grid, zero)
        modulated = modulation(mask, has_mask, n, m, i, zero)
        value = zero
        for c in range(first, first + C_per_offset):
            by_z, by_y, by_x = slopes(x[n, c], pz, py, px, dcnv1, right)
            slope = by_z if channel % 3 == 0 else by_y if channel % 3 == 1 else by_x
            grad = grad_sample(grad_output, weight, C, n, c, k, i, zero)
            value += grad * modulated * slope
        grad_offset[n, channel, i] = value


@cuda.jit
def grad_mask(grad_output, x, offset, weight, grad_mask, grid, dcnv1, zero):
    """The mask's gradient (DCNv2, not in this paper): mask[n, m] multiplied x(p) of its c."""
    C, K = x.shape[1], weight.shape[2]
    C_per_offset = C * K // grad_mask.shape[1]
    for t in range(cuda.grid(1), grad_mask.size, cuda.gridsize(1)):
        n, m, i = index(t, grad_mask.shape)
        k, first = m % K, m // K * C_per_offset
        pz, py, px = location(offset, n, m, k, i, grid, zero)
        value = zero
        for c in range(first, first + C_per_offset):
            grad = grad_sample(grad_output, weight, C, n, c, k, i, zero)
            value += grad * sample(x[n, c], pz, py, px, dcnv1)
        grad_mask[n, m, i] = value


@cuda.jit
def grad_weight(
    grad_output, x, offset, mask, has_mask, grad_weight, grid, offset_groups, dcnv1, zero
):
    """Equation (2): weight[o, c, k] multiplied x[n, c](p) for every n and p0."""
    f = type(zero)
    I, K = grad_weight.shape[1], grad_weight.shape[2]
    O_per_group = grad_weight.shape[0] // (x.shape[1] // I)
    for t in range(cuda.grid(1), grad_weight.size, cuda.gridsize(1)):
        o, j, k = index(t, grad_weight.shape)
        c = o // O_per_group * I + j
        m = c // (x.shape[1] // offset_groups) * K + k
        value = zero
        for n in range(x.shape[0]):
            for i in range(grad_output.shape[2]):
                pz, py, px = location(offset, n, m, k, i, grid, zero)
                grad = f(grad_output[n, o, i]) * modulation(mask, has_mask, n, m, i, zero)
                value += grad * sample(x[n, c], pz, py, px, dcnv1)
        grad_weight[o, j, k] = value


def deform_conv3d(
    x: Any, offset: Any, weight: Any, bias: Any, mask: Any, *,
    geometry: VolumeGeometry, border: str,
) -> Any:  # fmt: skip
    """Equation (2) on volumes, v1."""
    y = empty((x.shape[0], weight.shape[0], *geometry.output), x.dtype)
    launch(
        forward, y.size, x, flat(offset), flat(weight), *optional(bias, 1, x.dtype),
        *optional(flat(mask), 3, x.dtype), flat(y), whole_grid(geometry), geometry.offset_groups,
        border == "dcnv1", zero(x.dtype),
    )  # fmt: skip
    return y


def deform_conv3d_backward(
    grad_output: Any, x: Any, offset: Any, weight: Any, bias: Any, mask: Any, *,
    geometry: VolumeGeometry, border: str, side: str, wrt: tuple[str, ...],
) -> dict[str, Any]:  # fmt: skip
    """Equation (7) on volumes and the other gradients that `wrt` names, v1; deterministic."""
    given = {"x": x, "offset": offset, "weight": weight, "bias": bias, "mask": mask}
    grads = {name: empty(given[name].shape, given[name].dtype) for name in wrt}
    out = {name: grad if name == "bias" else flat(grad) for name, grad in grads.items()}
    m, grid, groups = optional(flat(mask), 3, x.dtype), whole_grid(geometry), geometry.offset_groups
    dcnv1, right, nought = border == "dcnv1", side == "right", zero(x.dtype)
    offset, weight, grad_y = flat(offset), flat(weight), flat(grad_output)
    arguments = {
        "x": (grad_x, offset, weight, *m, out.get("x"), x.shape[2:], grid, groups, dcnv1),
        "offset": (grad_offset, x, offset, weight, *m, out.get("offset"), grid, dcnv1, right),
        "weight": (grad_weight, x, offset, *m, out.get("weight"), grid, groups, dcnv1),
        "mask": (grad_mask, x, offset, weight, out.get("mask"), grid, dcnv1),
        "bias": (convolution.grad_bias, out.get("bias")),
    }
    for name in wrt:
        kernel, *rest = arguments[name]
        of = reshaped(grad_y, (*grad_y.shape, 1)) if name == "bias" else grad_y
        launch(kernel, given[name].size, of, *rest, nought)
    return grads


def flat(a: Any) -> Any:
    """N C and three axes as N C and one; None stays None."""
    return None if a is None else reshaped(a, (*a.shape[:2], prod(a.shape[2:])))


def whole_grid(geometry: VolumeGeometry) -> tuple[int, ...]:
    """What `location` needs: `grid_of`, and the planes in which taps and output pixels count."""
    return (*grid_of(geometry), *geometry.kernel[1:], *geometry.output[1:])


V1 = {
    "deform_conv3d": Version(deform_conv3d),
    "deform_conv3d_backward": Version(deform_conv3d_backward),
}
