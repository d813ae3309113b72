"""Sampling at given points on the GPU (Numba).

reference.bilinear.sample    here                         why it differs
G x, a sparse product        a loop over points           G is never stored
p of any shape (..., 2)      p as (points, 2)             the launcher reshapes
G^T grad_output              v1 gathers, v2 scatters      to own a pixel, or to visit it once

v1  one thread per number of the result, which gathers its whole sum; deterministic
v2  one thread per point, for all its channels            the cell of p is found once; atomics
"""

# mypy: disable-error-code="no-untyped-def"

import math
from typing import Any

from ..registry import Version
from .bilinear import G, axis, is_nan, read, sample, scatter, slopes
from .launch import empty, launch, reshaped, rounded, zero, zeros
from .shim import cuda


@cuda.jit
def forward(x, p, samples, dcnv1, zero):
    """Equation (3), v1: samples[c, t] = x[c](p[t])."""
    f = type(zero)
    points = p.shape[0]
    for t in range(cuda.grid(1), samples.size, cuda.gridsize(1)):
        c, i = t // points, t % points
        samples[c, i] = sample(x[c], f(p[i, 0]), f(p[i, 1]), dcnv1)


@cuda.jit
def forward_shared(x, p, samples, dcnv1, zero):
    """Equation (3), v2: the four weights of p[t] serve all channels."""
    f = type(zero)
    for i in range(cuda.grid(1), p.shape[0], cuda.gridsize(1)):
        py, px = f(p[i, 0]), f(p[i, 1])
        low_y, gy, _ = axis(py, x.shape[1], dcnv1, True)
        low_x, gx, _ = axis(px, x.shape[2], dcnv1, True)
        for c in range(x.shape[0]):
            value = read(x[c], low_y, f(1) - gy, gy, low_x, f(1) - gx, gx)
            samples[c, i] = f(math.nan) if is_nan(py, px) else value


@cuda.jit
def grad_x(grad_output, p, grad_x, dcnv1, zero):
    """Equation (3), its adjoint, v1: x[c, q] gathers G(q, p) grad_output from every point p."""
    f = type(zero)
    height, width = grad_x.shape[1], grad_x.shape[2]
    for t in range(cuda.grid(1), grad_x.size, cuda.gridsize(1)):
        c, qy, qx = t // (height * width), t // width % height, t % width
        value = zero
        for i in range(p.shape[0]):
            g = G(qy, qx, f(p[i, 0]), f(p[i, 1]), height, width, dcnv1)
            value += g * f(grad_output[c, i])
        grad_x[c, qy, qx] = value


@cuda.jit
def grad_x_scattered(grad_output, p, grad_x, dcnv1, zero):
    """Equation (3), its adjoint, v2: each point adds to its four pixels, by atomics."""
    f = type(zero)
    for i in range(cuda.grid(1), p.shape[0], cuda.gridsize(1)):
        for c in range(grad_x.shape[0]):
            scatter(grad_x[c], f(p[i, 0]), f(p[i, 1]), dcnv1, f(grad_output[c, i]))


@cuda.jit
def grad_p(grad_output, x, p, grad_p, dcnv1, right, zero):
    """Equation (7), its inner sum: p[t] gathers grad_output dx(p)/dp from every channel."""
    f = type(zero)
    for i in range(cuda.grid(1), p.shape[0], cuda.gridsize(1)):
        total_y, total_x = zero, zero
        for c in range(x.shape[0]):
            by_y, by_x = slopes(x[c], f(p[i, 0]), f(p[i, 1]), dcnv1, right)
            total_y += f(grad_output[c, i]) * by_y
            total_x += f(grad_output[c, i]) * by_x
        grad_p[i, 0], grad_p[i, 1] = total_y, total_x


def sample_v1(x: Any, p: Any, *, border: str) -> Any:
    """Equation (3), one thread per channel and point."""
    points, samples = _points(p), _samples(x, p)
    launch(forward, samples.size, x, points, samples, border == "dcnv1", zero(x.dtype))
    return reshaped(samples, (x.shape[0], *p.shape[:-1]))


def sample_v2(x: Any, p: Any, *, border: str) -> Any:
    """Equation (3), one thread per point."""
    points, samples = _points(p), _samples(x, p)
    launch(forward_shared, points.shape[0], x, points, samples, border == "dcnv1", zero(x.dtype))
    return reshaped(samples, (x.shape[0], *p.shape[:-1]))


def sample_backward_v1(
    grad_output: Any, x: Any, p: Any, *, border: str, side: str, wrt: tuple[str, ...]
) -> dict[str, Any]:
    """The gradients of equation (3) that `wrt` names; deterministic."""
    points, grad = _points(p), _columns(grad_output)
    grads = _grad_p(grad, x, points, border, side, p.shape) if "p" in wrt else {}
    if "x" in wrt:
        grads["x"] = empty(x.shape, x.dtype)
        launch(grad_x, x.size, grad, points, grads["x"], border == "dcnv1", zero(x.dtype))
    return grads


def sample_backward_v2(
    grad_output: Any, x: Any, p: Any, *, border: str, side: str, wrt: tuple[str, ...]
) -> dict[str, Any]:
    """The gradients of equation (3) that `wrt` names; that of x by atomics, not deterministic."""
    points, grad, nought = _points(p), _columns(grad_output), zero(x.dtype)
    grads = _grad_p(grad, x, points, border, side, p.shape) if "p" in wrt else {}
    if "x" in wrt:
        total = zeros(x.shape, nought.dtype)
        launch(grad_x_scattered, points.shape[0], grad, points, total, border == "dcnv1", nought)
        grads["x"] = rounded(total, x.dtype)
    return grads


def _grad_p(
    grad: Any, x: Any, points: Any, border: str, side: str, shape: tuple[int, ...]
) -> dict[str, Any]:
    grad_points, dcnv1, right = (
        empty(points.shape, points.dtype),
        border == "dcnv1",
        side == "right",
    )
    launch(grad_p, points.shape[0], grad, x, points, grad_points, dcnv1, right, zero(x.dtype))
    return {"p": reshaped(grad_points, shape)}


def _points(p: Any) -> Any:
    return reshaped(p, (p.size // 2, 2))


def _samples(x: Any, p: Any) -> Any:
    return empty((x.shape[0], p.size // 2), x.dtype)


def _columns(grad_output: Any) -> Any:
    C = grad_output.shape[0]
    return reshaped(grad_output, (C, grad_output.size // C))


V1 = {"sample": Version(sample_v1), "sample_backward": Version(sample_backward_v1)}
V2 = {
    "sample": Version(sample_v2),
    "sample_backward": Version(sample_backward_v2, deterministic=False),
}
