"""The plain convolution on the GPU (Numba).

reference.convolution     here                       why it differs
np.pad, then windows      pixels outside skipped     nothing is copied
matmul per tap            loops in registers         one thread owns y[n, o, oy, ox]
grad_padded[...] += ...   the taps that read q       one thread owns x[n, c, qy, qx]: no atomics

v1  one thread per number of the result, which gathers its whole sum
"""

# mypy: disable-error-code="no-untyped-def"

from typing import Any

from deformable_convnets.reference.geometry import Geometry

from ..registry import Version
from .launch import empty, grid_of, index, launch, optional, zero
from .shim import cuda


@cuda.jit
def forward(x, weight, bias, has_bias, y, grid, zero):
    """Equation (1): y[n, o, oy, ox] = sum over i, k of weight[o, i, k] x[n, c, p0 + p_n]."""
    f = type(zero)
    O_per_group = weight.shape[0] // (x.shape[1] // weight.shape[1])
    sy, sx, top, left, dy, dx = grid
    for t in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        n, o, oy, ox = index(t, y.shape)
        value = f(bias[o]) if has_bias else zero
        for i in range(weight.shape[1]):
            c = o // O_per_group * weight.shape[1] + i
            for ky in range(weight.shape[2]):
                qy = oy * sy - top + ky * dy
                for kx in range(weight.shape[3]):
                    qx = ox * sx - left + kx * dx
                    if qy >= 0 and qy < x.shape[2] and qx >= 0 and qx < x.shape[3]:
                        value += f(weight[o, i, ky, kx]) * f(x[n, c, qy, qx])
        y[n, o, oy, ox] = value


@cuda.jit
def grad_x(grad_output, weight, grad_x, grid, zero):
    """Equation (1), its adjoint: x[n, c, q] was read where p0 + p_n = q, by each o of its group."""
    f = type(zero)
    O_per_group = weight.shape[0] // (grad_x.shape[1] // weight.shape[1])
    sy, sx, top, left, dy, dx = grid
    for t in range(cuda.grid(1), grad_x.size, cuda.gridsize(1)):
        n, c, qy, qx = index(t, grad_x.shape)
        i, first = c % weight.shape[1], c // weight.shape[1] * O_per_group
        value = zero
        for ky in range(weight.shape[2]):
            y = qy + top - ky * dy  # oy * sy, if there is such an oy
            for kx in range(weight.shape[3]):
                x = qx + left - kx * dx
                if y >= 0 and y % sy == 0 and x >= 0 and x % sx == 0:
                    oy, ox = y // sy, x // sx
                    if oy < grad_output.shape[2] and ox < grad_output.shape[3]:
                        for o in range(first, first + O_per_group):
                            value += f(weight[o, i, ky, kx]) * f(grad_output[n, o, oy, ox])
        grad_x[n, c, qy, qx] = value


@cuda.jit
def grad_weight(grad_output, x, grad_weight, grid, zero):
    """Equation (1): weight[o, i, k] multiplied x[n, c, p0 + p_n] for every n and p0."""
    f = type(zero)
    O_per_group = grad_weight.shape[0] // (x.shape[1] // grad_weight.shape[1])
    sy, sx, top, left, dy, dx = grid
    for t in range(cuda.grid(1), grad_weight.size, cuda.gridsize(1)):
        o, i, ky, kx = index(t, grad_weight.shape)
        c = o // O_per_group * grad_weight.shape[1] + i
        value = zero
        for n in range(x.shape[0]):
            for oy in range(grad_output.shape[2]):
                qy = oy * sy - top + ky * dy
                for ox in range(grad_output.shape[3]):
                    qx = ox * sx - left + kx * dx
                    if qy >= 0 and qy < x.shape[2] and qx >= 0 and qx < x.shape[3]:
                        value += f(grad_output[n, o, oy, ox]) * f(x[n, c, qy, qx])
        grad_weight[o, i, ky, kx] = value


@cuda.jit
def grad_bias(grad_output, grad_bias, zero):
    """Equations (1) and (2): bias[o] was added to every y[n, o, oy, ox]."""
    f = type(zero)
    for o in range(cuda.grid(1), grad_bias.size, cuda.gridsize(1)):
        value = zero
        for n in range(grad_output.shape[0]):
            for oy in range(grad_output.shape[2]):
                for ox in range(grad_output.shape[3]):
                    value += f(grad_output[n, o, oy, ox])
        grad_bias[o] = value


def conv2d(x: Any, weight: Any, bias: Any, *, geometry: Geometry) -> Any:
    """Equation (1), v1."""
    y = empty((x.shape[0], weight.shape[0], *geometry.output), x.dtype)
    b, has_bias = optional(bias, 1, x.dtype)
    launch(forward, y.size, x, weight, b, has_bias, y, grid_of(geometry), zero(x.dtype))
    return y


def conv2d_backward(
    grad_output: Any, x: Any, weight: Any, bias: Any, *, geometry: Geometry, wrt: tuple[str, ...]
) -> dict[str, Any]:
    """The gradients of equation (1) that `wrt` names, v1; deterministic."""
    grid, nought = grid_of(geometry), zero(x.dtype)
    given = {"x": x, "weight": weight, "bias": bias}
    grads = {name: empty(given[name].shape, given[name].dtype) for name in wrt}
    if "x" in grads:
        launch(grad_x, x.size, grad_output, weight, grads["x"], grid, nought)
    if "weight" in grads:
        launch(grad_weight, weight.size, grad_output, x, grads["weight"], grid, nought)
    if "bias" in grads:
        launch(grad_bias, bias.size, grad_output, grads["bias"], nought)
    return grads


V1 = {"conv2d": Version(conv2d), "conv2d_backward": Version(conv2d_backward)}
