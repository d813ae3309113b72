"""The operators as an array program: gather, then matmul. `xp` is the array module, cupy or numpy.

reference                here                        why it differs
samples of all images    one image at a time         memory for C K Ho Wo numbers, not N times it
points, taps, channels   channels, taps, points      columns of C K rows need no transpose
one weight per tap       columns for (1) as for (2)  both are the same product

float16 is computed in float32, results are rounded once. Products are `xp.matmul`: on a GPU cuBLAS,
in float32 unless the environment variable CUPY_TF32 asks CuPy for less.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from deformable_convnets.reference.geometry import Geometry

from ..registry import Version
from . import roi_program
from .bilinear import Cells, computed, computed_dtype

Grads = dict[str, Any]


def sample(xp: Any, x: Any, p: Any, *, border: str) -> Any:
    """Equation (3), with all points in one row."""
    cells = Cells(xp, computed(p).reshape(1, -1, 2), x.shape[1:], border)
    samples = cells.read(computed(x).reshape(1, x.shape[0], -1))
    return samples.reshape(x.shape[0], *p.shape[:-1]).astype(x.dtype)


def sample_backward(
    xp: Any, grad_output: Any, x: Any, p: Any, *, border: str, side: str, wrt: tuple[str, ...]
) -> Grads:
    """The gradients of equation (3) that `wrt` names; on a GPU that of x is not deterministic."""
    cells = Cells(xp, computed(p).reshape(1, -1, 2), x.shape[1:], border, side)
    pixels, grad = (computed(a).reshape(1, x.shape[0], -1) for a in (x, grad_output))
    grads = {}
    if "x" in wrt:
        total = xp.zeros_like(pixels)
        cells.scatter(grad, total)
        grads["x"] = total.reshape(x.shape).astype(x.dtype)
    if "p" in wrt:
        grads["p"] = cells.slopes(pixels, grad).reshape(p.shape).astype(p.dtype)
    return grads


def conv2d(xp: Any, x: Any, weight: Any, bias: Any, *, geometry: Geometry) -> Any:
    """Equation (1): the windows that the taps see, as columns, times the weights."""
    y = xp.empty((x.shape[0], weight.shape[0], *geometry.output), x.dtype)
    for n in range(x.shape[0]):
        y[n] = output(xp, window_columns(xp, x[n], geometry), weight, bias, geometry)
    return y


def conv2d_backward(
    xp: Any, grad_output: Any, x: Any, weight: Any, bias: Any, *,
    geometry: Geometry, wrt: tuple[str, ...],
) -> Grads:  # fmt: skip
    """The gradients of equation (1) that `wrt` names; deterministic."""
    given = {"x": x, "weight": weight, "bias": bias}
    grads = {name: xp.zeros(given[name].shape, computed_dtype(x.dtype)) for name in wrt}
    (top, _), (left, _) = geometry.padding
    for n in range(x.shape[0]):
        grad_y = computed(grad_output[n])
        if "weight" in wrt:
            add_weight(xp, grads["weight"], grad_y, window_columns(xp, x[n], geometry), geometry)
        if "bias" in wrt:
            grads["bias"] += grad_y.sum(axis=(1, 2))
        if "x" in wrt:
            grad_columns = adjoint(xp, grad_y, weight, geometry)
            total = padded(xp, grads["x"][n], geometry)
            for k, seen in windows(total, geometry):
                seen += grad_columns[:, k].reshape(seen.shape)
            grads["x"][n] = total[:, top : top + x.shape[2], left : left + x.shape[3]]
    return {name: grads[name].astype(given[name].dtype) for name in wrt}


def deform_conv2d(
    xp: Any, x: Any, offset: Any, weight: Any, bias: Any, mask: Any, *,
    geometry: Geometry, border: str,
) -> Any:  # fmt: skip
    """Equation (2): x at the points p0 + p_n + Delta p_n, as columns, times the weights."""
    y = xp.empty((x.shape[0], weight.shape[0], *geometry.output), x.dtype)
    for n in range(x.shape[0]):
        cells = Cells(xp, locations(xp, offset[n], geometry), x.shape[2:], border)
        columns = cells.read(by_group(x[n], geometry)) * modulation(mask, n, geometry)
        y[n] = output(xp, columns, weight, bias, geometry)
    return y


def deform_conv2d_backward(
    xp: Any, grad_output: Any, x: Any, offset: Any, weight: Any, bias: Any, mask: Any, *,
    geometry: Geometry, border: str, side: str, wrt: tuple[str, ...],
) -> Grads:  # fmt: skip
    """Equation (7) and the others that `wrt` names; on a GPU that of x is not deterministic."""
    given = {"x": x, "offset": offset, "weight": weight, "bias": bias, "mask": mask}
    grads = {name: xp.zeros(given[name].shape, computed_dtype(x.dtype)) for name in wrt}
    for n in range(x.shape[0]):
        cells = Cells(xp, locations(xp, offset[n], geometry), x.shape[2:], border, side)
        x_n, grad_y = by_group(x[n], geometry), computed(grad_output[n])
        m = modulation(mask, n, geometry)
        if "weight" in wrt or "mask" in wrt:
            samples = cells.read(x_n)
        if "weight" in wrt:
            add_weight(xp, grads["weight"], grad_y, samples * m, geometry)
        if "bias" in wrt:
            grads["bias"] += grad_y.sum(axis=(1, 2))
        if set(wrt) <= {"weight", "bias"}:
            continue
        grad_samples = adjoint(xp, grad_y, weight, geometry).reshape(*x_n.shape[:2], -1)
        if "mask" in wrt:
            grads["mask"][n] = (grad_samples * samples).sum(axis=1).reshape(mask.shape[1:])
        if "offset" in wrt:
            grad_p = cells.slopes(x_n, grad_samples * m)
            grads["offset"][n] = from_locations(grad_p, geometry)
        if "x" in wrt:
            cells.scatter(grad_samples * m, by_group(grads["x"][n], geometry))
    return {name: grads[name].astype(given[name].dtype) for name in wrt}


def output(xp: Any, columns: Any, weight: Any, bias: Any, geometry: Geometry) -> Any:
    """Equation (2) for one image: O Ho Wo, the product of weight and columns of C*K P numbers."""
    groups, O = geometry.groups, weight.shape[0]
    w = computed(weight).reshape(groups, O // groups, -1)
    y = xp.matmul(w, columns.reshape(groups, w.shape[2], -1)).reshape(O, *geometry.output)
    return y if bias is None else y + computed(bias)[:, None, None]


def adjoint(xp: Any, grad_y: Any, weight: Any, geometry: Geometry) -> Any:
    """Equation (2), its adjoint for one image: the gradient of the columns, C K P."""
    groups, K = geometry.groups, weight.shape[2] * weight.shape[3]
    w = computed(weight).reshape(groups, weight.shape[0] // groups, -1)
    columns = xp.matmul(w.swapaxes(1, 2), grad_y.reshape(groups, w.shape[1], -1))
    return columns.reshape(weight.shape[1] * groups, K, -1)


def add_weight(xp: Any, grad_weight: Any, grad_y: Any, columns: Any, geometry: Geometry) -> None:
    """Adds one image, its columns of C*K P numbers, to the gradient of the weight."""
    groups = geometry.groups
    grad = grad_y.reshape(groups, grad_weight.shape[0] // groups, -1)
    rows = columns.reshape(groups, -1, grad.shape[2])
    grad_weight += xp.matmul(grad, rows.swapaxes(1, 2)).reshape(grad_weight.shape)


def locations(xp: Any, offset: Any, geometry: Geometry) -> Any:
    """p0 + p_n + Delta p_n of one image, G K*P 2; the whole-number part is rounded once."""
    G, K = geometry.offset_groups, geometry.kernel[0] * geometry.kernel[1]
    y, x = (
        np.arange(k)[:, None] * d + np.arange(size) * s - before
        for k, d, size, s, (before, _) in zip(
            geometry.kernel, geometry.dilation, geometry.output, geometry.stride, geometry.padding,
            strict=True,
        )
    )  # fmt: skip
    y, x = np.broadcast_arrays(y[:, None, :, None], x[None, :, None, :])
    offset = computed(offset).reshape(G, K, 2, -1).swapaxes(2, 3)
    grid = np.stack([y, x], axis=-1).reshape(K, -1, 2)
    return (xp.asarray(grid.astype(offset.dtype)) + offset).reshape(G, -1, 2)


def from_locations(grad_p: Any, geometry: Geometry) -> Any:
    """The gradient of p, G K*P 2, as that of the offset of one image, 2*G*K Ho Wo."""
    P = geometry.output[0] * geometry.output[1]
    return grad_p.reshape(-1, P, 2).swapaxes(1, 2).reshape(-1, *geometry.output)


def modulation(mask: Any, n: int, geometry: Geometry) -> Any:
    """The mask of one image, G 1 K*P (DCNv2, Zhu et al. 2019; not in this paper), 1 without one."""
    return 1 if mask is None else computed(mask[n]).reshape(geometry.offset_groups, 1, -1)


def padded(xp: Any, x: Any, geometry: Geometry) -> Any:
    """One image, C H W, with its padding around it."""
    return xp.pad(computed(x), ((0, 0), *geometry.padding))


def window_columns(xp: Any, x: Any, geometry: Geometry) -> Any:
    """The columns of equation (1) for one image, C K Ho Wo."""
    seen = [window for _, window in windows(padded(xp, x, geometry), geometry)]
    return xp.stack(seen).swapaxes(0, 1)


def windows(x: Any, geometry: Geometry) -> Iterator[tuple[int, Any]]:
    """Views of a padded image, C Ho Wo: the pixels p0 + p_n that each tap k sees."""
    (kh, kw), (Ho, Wo) = geometry.kernel, geometry.output
    (sy, sx), (dy, dx) = geometry.stride, geometry.dilation
    for k in range(kh * kw):
        y, left = k // kw * dy, k % kw * dx
        yield k, x[:, y : y + sy * (Ho - 1) + 1 : sy, left : left + sx * (Wo - 1) + 1 : sx]


def by_group(x: Any, geometry: Geometry) -> Any:
    """One image, C H W, as G C/G H*W; a view where x is contiguous and not float16."""
    return computed(x).reshape(geometry.offset_groups, x.shape[0] // geometry.offset_groups, -1)


def operators(xp: Any) -> dict[str, Version]:
    """The program on one array module, as a version of a backend."""
    return {
        "sample": Version(partial(sample, xp)),
        "sample_backward": Version(partial(sample_backward, xp), deterministic=False),
        "conv2d": Version(partial(conv2d, xp)),
        "conv2d_backward": Version(partial(conv2d_backward, xp)),
        "deform_conv2d": Version(partial(deform_conv2d, xp)),
        "deform_conv2d_backward": Version(partial(deform_conv2d_backward, xp), deterministic=False),
    } | roi_program.operators(xp)
