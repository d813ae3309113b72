"""RoI pooling on the GPU (Numba): plain, deformable, position-sensitive, in the same kernels.

reference.roi_bins       here                           why it differs
M, a sparse matrix       the points of a bin, in turn   one thread owns y[r, o, i, j]; M is not kept
M^T grad                 every bin asked for its line   one thread owns x[n, c, qy, qx]: no atomics
np.add.at over parts     the bins of a part, in turn    one thread owns offset[r, 2 p + d, a, b]
maps, reshaped           index arithmetic               nothing is copied

v1  one thread per number of the result, which gathers its whole sum; deterministic
v2  of the backward: the gradient of x by atomics, one thread per number of y; its order undefined

`bins` holds the whole numbers of a call: kh kw, gh gw, part_h part_w, P, the rule, samples.
"""

# mypy: disable-error-code="no-untyped-def"

import math
from typing import Any

from deformable_convnets.reference.geometry import RoiGeometry

from ..registry import Version
from .bilinear import read
from .launch import empty, index, launch, optional, rounded, zero, zeros
from .roi_points import RULES, bin_axis, line, point, span
from .shim import cuda


@cuda.jit(device=True)
def bin_of(rois, offset, has_offset, r, p, i, j, height, width, bins, scale, gamma, right):
    """Equation (6), bin (i, j): n_ij, its points on both axes, moved by gamma (h, w) offset, h, w.

    n_ij is 0 where the bin has no points, and NaN where its offset is NaN.
    """
    f = type(scale)
    kh, kw, _, _, part_h, part_w, _, rule, samples = bins
    y, h = span(f(rois[r, 2]), f(rois[r, 4]), scale, rule)
    x, w = span(f(rois[r, 1]), f(rois[r, 3]), scale, rule)
    dy, dx = f(0), f(0)
    if has_offset:
        a, b = i * part_h // kh, j * part_w // kw
        dy = gamma * f(offset[r, 2 * p, a, b]) * h
        dx = gamma * f(offset[r, 2 * p + 1, a, b]) * w
    rows = bin_axis(y, h, i, kh, dy, height, samples, rule, right)
    columns = bin_axis(x, w, j, kw, dx, width, samples, rule, right)
    count = rows[2] * columns[2]
    if math.isnan(dy) or math.isnan(dx):
        count = f(math.nan)
    return count, rows, columns, h, w


@cuda.jit(device=True)
def first_bin(a, groups, k):
    """The first bin i of k with floor(i groups / k) >= a: where group or part a begins."""
    return (a * k + groups - 1) // groups


@cuda.jit(device=True)
def map_of(o, i, j, bins):
    """The channel of x that bin (i, j) of output channel o reads, x_ij of Figure 4."""
    kh, kw, gh, gw = bins[:4]
    return (o * gh + i * gh // kh) * gw + j * gw // kw


@cuda.jit
def forward(x, rois, offset, has_offset, y, bins, scale, gamma):
    """Equations (5) and (6): y[r, o, i, j] = sum over the points of x(p) / n_ij."""
    f = type(scale)
    height, width, rule, samples = x.shape[2], x.shape[3], bins[7], bins[8]
    for t in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        r, o, i, j = index(t, y.shape)
        n, c, p = int(rois[r, 0]), map_of(o, i, j, bins), o // (y.shape[1] // bins[6])
        count, rows, columns, _, _ = bin_of(
            rois, offset, has_offset, r, p, i, j, height, width, bins, scale, gamma, True
        )
        value = f(0)
        for a in range(rows[0], rows[1]):
            low_y, gy, _ = point(a, rows, height, samples, rule, True)
            for b in range(columns[0], columns[1]):
                low_x, gx, _ = point(b, columns, width, samples, rule, True)
                value += read(x[n, c], low_y, f(1) - gy, gy, low_x, f(1) - gx, gx)
        if count != f(0):
            value /= count
        y[r, o, i, j] = value


@cuda.jit
def grad_x(grad_output, rois, offset, has_offset, grad_x, bins, scale, gamma):
    """Equation (6), its adjoint, v1: x[n, c, q] gathers sum of G(q, p) / n_ij from every bin."""
    f = type(scale)
    kh, kw, gh, gw, _, _, classes, rule, samples = bins
    _, C, height, width = grad_x.shape
    for t in range(cuda.grid(1), grad_x.size, cuda.gridsize(1)):
        n, c, qy, qx = index(t, grad_x.shape)
        o, a, b = c // (gh * gw), c // gw % gh, c % gw
        p = o // (C // (gh * gw) // classes)
        value = f(0)
        for r in range(rois.shape[0]):
            if int(rois[r, 0]) != n:
                continue
            for i in range(first_bin(a, gh, kh), first_bin(a + 1, gh, kh)):
                for j in range(first_bin(b, gw, kw), first_bin(b + 1, gw, kw)):
                    count, rows, columns, _, _ = bin_of(
                        rois, offset, has_offset, r, p, i, j, height, width,
                        bins, scale, gamma, True,
                    )  # fmt: skip
                    if count > f(0):
                        g = line(qy, rows, height, samples, rule)
                        if g != f(0):
                            g *= line(qx, columns, width, samples, rule)
                            value += g * (f(grad_output[r, o, i, j]) / count)
        grad_x[n, c, qy, qx] = value


@cuda.jit(device=True)
def scatter(grad_x, low_y, y0, y1, low_x, x0, x1, value):
    """Equation (3), its adjoint, for one point: adds a(q_y) b(q_x) value to the q of its cell.

    The arguments of `bilinear.read`. By atomic addition, since many points read one pixel.
    """
    for i in range(2):
        for j in range(2):
            qy, qx = low_y + i, low_x + j
            if qy >= 0 and qy < grad_x.shape[0] and qx >= 0 and qx < grad_x.shape[1]:
                a = y1 if i == 1 else y0
                b = x1 if j == 1 else x0
                cuda.atomic.add(grad_x, (qy, qx), a * b * value)


@cuda.jit
def grad_x_scattered(grad_output, rois, offset, has_offset, grad_x, bins, scale, gamma):
    """Equation (6), its adjoint, v2: each point of bin (i, j) adds to its four q, by atomics."""
    f = type(scale)
    height, width, rule, samples = grad_x.shape[2], grad_x.shape[3], bins[7], bins[8]
    for t in range(cuda.grid(1), grad_output.size, cuda.gridsize(1)):
        r, o, i, j = index(t, grad_output.shape)
        n, c, p = int(rois[r, 0]), map_of(o, i, j, bins), o // (grad_output.shape[1] // bins[6])
        count, rows, columns, _, _ = bin_of(
            rois, offset, has_offset, r, p, i, j, height, width, bins, scale, gamma, True
        )
        if count > f(0):
            share = f(grad_output[r, o, i, j]) / count
            for a in range(rows[0], rows[1]):
                low_y, gy, _ = point(a, rows, height, samples, rule, True)
                for b in range(columns[0], columns[1]):
                    low_x, gx, _ = point(b, columns, width, samples, rule, True)
                    scatter(grad_x[n, c], low_y, f(1) - gy, gy, low_x, f(1) - gx, gx, share)


@cuda.jit(device=True)
def slope(x, rows, columns, d, samples, rule, right, zero):
    """Equation (7'): the sum over the points of a bin of dx(p)/dp_y (d = 0) or dx(p)/dp_x."""
    f = type(zero)
    total = zero
    for a in range(rows[0], rows[1]):
        low_y, gy, dy = point(a, rows, x.shape[0], samples, rule, right)
        for b in range(columns[0], columns[1]):
            low_x, gx, dx = point(b, columns, x.shape[1], samples, rule, right)
            if d == 0:
                total += read(x, low_y, -dy, dy, low_x, f(1) - gx, gx)
            else:
                total += read(x, low_y, f(1) - gy, gy, low_x, -dx, dx)
    return total


@cuda.jit
def grad_offset(grad_output, x, rois, offset, grad_offset, bins, scale, gamma, right):
    """Equation (7'): offset[r, 2 p + d, a, b] moved the bins of its part in the channels of p."""
    f = type(scale)
    kh, kw, _, _, part_h, part_w, classes, rule, samples = bins
    channels = grad_output.shape[1] // classes
    for t in range(cuda.grid(1), grad_offset.size, cuda.gridsize(1)):
        r, channel, a, b = index(t, grad_offset.shape)
        n, p, d = int(rois[r, 0]), channel // 2, channel % 2
        value = f(0)
        for i in range(first_bin(a, part_h, kh), first_bin(a + 1, part_h, kh)):
            for j in range(first_bin(b, part_w, kw), first_bin(b + 1, part_w, kw)):
                count, rows, columns, h, w = bin_of(
                    rois, offset, True, r, p, i, j, x.shape[2], x.shape[3],
                    bins, scale, gamma, right,
                )  # fmt: skip
                total = f(0)
                if count != f(0):
                    for o in range(p * channels, (p + 1) * channels):
                        map_ij = x[n, map_of(o, i, j, bins)]
                        by_d = slope(map_ij, rows, columns, d, samples, rule, right, f(0))
                        total += f(grad_output[r, o, i, j]) / count * by_d
                value += total * (gamma * (h if d == 0 else w))
        grad_offset[r, channel, a, b] = value


def roi_pool(x: Any, rois: Any, offset: Any = None, *, geometry: RoiGeometry) -> Any:
    """Equations (5) and (6), v1."""
    y = empty((rois.shape[0], geometry.channels, *geometry.output), x.dtype)
    given = optional(offset, 4, x.dtype)
    launch(forward, y.size, x, rois, *given, y, *_settings(geometry, x.dtype))
    return y


def roi_pool_backward(
    grad_output: Any, x: Any, rois: Any, offset: Any = None, *,
    geometry: RoiGeometry, side: str = "right", wrt: tuple[str, ...],
) -> dict[str, Any]:  # fmt: skip
    """Equation (7') and the gradient of x, those that `wrt` names, v1; deterministic."""
    settings = _settings(geometry, x.dtype)
    grads = _grad_offset(grad_output, x, rois, offset, geometry, side) if "offset" in wrt else {}
    if "x" in wrt:
        grads["x"] = empty(x.shape, x.dtype)
        given = optional(offset, 4, x.dtype)
        launch(grad_x, x.size, grad_output, rois, *given, grads["x"], *settings)
    return grads


def roi_pool_backward_v2(
    grad_output: Any, x: Any, rois: Any, offset: Any = None, *,
    geometry: RoiGeometry, side: str = "right", wrt: tuple[str, ...],
) -> dict[str, Any]:  # fmt: skip
    """Equation (7') and the gradient of x, v2; that of x by atomics, not deterministic."""
    settings = _settings(geometry, x.dtype)
    grads = _grad_offset(grad_output, x, rois, offset, geometry, side) if "offset" in wrt else {}
    if "x" in wrt:
        total, given = zeros(x.shape, zero(x.dtype).dtype), optional(offset, 4, x.dtype)
        launch(grad_x_scattered, grad_output.size, grad_output, rois, *given, total, *settings)
        grads["x"] = rounded(total, x.dtype)
    return grads


def _grad_offset(
    grad_output: Any, x: Any, rois: Any, offset: Any, geometry: RoiGeometry, side: str
) -> dict[str, Any]:
    grad = empty(offset.shape, offset.dtype)
    settings = _settings(geometry, x.dtype)
    launch(
        grad_offset, grad.size, grad_output, x, rois, offset, grad, *settings, side == "right"
    )  # fmt: skip
    return {"offset": grad}


def _settings(at: RoiGeometry, dtype: Any) -> tuple[tuple[int, ...], Any, Any]:
    """What every kernel takes: `bins`, then the scale and gamma in the dtype of the arithmetic."""
    bins = (*at.output, *at.group, *at.part, at.classes, RULES[at.bins], at.samples)
    number = type(zero(dtype))
    return bins, number(at.scale), number(at.gamma)


NAMES = ("roi_pool", "deform_roi_pool", "ps_roi_pool", "deform_ps_roi_pool")
V1 = {name: Version(roi_pool) for name in NAMES}
V1 |= {f"{name}_backward": Version(roi_pool_backward) for name in NAMES}
V2 = {f"{name}_backward": Version(roi_pool_backward_v2, deterministic=False) for name in NAMES}
