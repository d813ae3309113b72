"""What networks need beside the operators of the paper, each with its backward directly below it.

Every backward takes (grad_output, the same arguments) and recomputes what it needs, as all of the
reference do. They compute where their arrays are, in NumPy or CuPy.
"""

from functools import reduce
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray as Array

from .. import checks
from ..bilinear import g
from ..geometry import Pair, output_size, pair
from .door import entered, namespace


class XGrads(NamedTuple):
    """The gradient of an operator of x alone."""

    x: Array


class AddGrads(NamedTuple):
    """The gradients of `add`."""

    x: Array
    z: Array


class LinearGrads(NamedTuple):
    """The gradients of `linear`, each of the shape of its argument."""

    x: Array
    weight: Array
    bias: Array | None


class BatchNormGrads(NamedTuple):
    """The gradients of `batch_norm`, each of the shape of its argument."""

    x: Array
    scale: Array
    shift: Array


def add(x: Array, z: Array) -> Array:
    """x + z, of one shape: where a shortcut ends (He et al. 2016)."""
    entered({}, x=x, z=z).check_shape("z", "as x", x.shape)
    return namespace(x).asarray(x + z)  # of two arrays of shape (), NumPy makes a number


def add_backward(grad_output: Array, x: Array, z: Array) -> AddGrads:
    """Both get all of it."""
    return AddGrads(grad_output, grad_output)


def reshape(x: Array, shape: tuple[int, ...]) -> Array:
    """The same numbers in another shape."""
    entered({}, x=x)
    return x.reshape(shape)


def reshape_backward(grad_output: Array, x: Array, shape: tuple[int, ...]) -> XGrads:
    """Back again."""
    return XGrads(grad_output.reshape(x.shape))


def relu(x: Array) -> Array:
    """max(x, 0); NaN stays NaN."""
    entered({}, x=x)
    return namespace(x).maximum(x, x.dtype.type(0))


def relu_backward(grad_output: Array, x: Array) -> XGrads:
    """grad_output where x > 0: at 0 the left-hand derivative, 0."""
    return XGrads(grad_output * (x > 0))


def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """A fully connected layer: x N F, weight O F, bias O; returns N O."""
    ranks = {"x": "N F", "weight": "O F", "bias": "O"}
    call = entered(ranks, ("bias",), x=x, weight=weight, bias=bias)
    call.check_shape("weight", "O, F", (weight.shape[0], x.shape[1]))
    call.check_shape("bias", "O,", (weight.shape[0],))
    y = x @ weight.T
    return y if bias is None else y + bias


def linear_backward(
    grad_output: Array, x: Array, weight: Array, bias: Array | None = None
) -> LinearGrads:
    """The products of `linear`, transposed."""
    grad_bias = None if bias is None else grad_output.sum(axis=0)
    return LinearGrads(grad_output @ weight, grad_output.T @ x, grad_bias)


def batch_norm(
    x: Array, scale: Array, shift: Array, mean: Array | None = None, variance: Array | None = None,
    *, epsilon: float = 1e-5,
) -> Array:  # fmt: skip
    """scale (x - mean) / sqrt(variance + epsilon) + shift, per channel (Ioffe and Szegedy 2015).

    x               N C H W; scale and shift C
    mean, variance  C: those of training, kept fixed; both None: those of this batch
    """
    each = {"scale": scale, "shift": shift, "mean": mean, "variance": variance}
    call = entered({"x": "N C H W"}, ("mean", "variance"), x=x, **each)
    for name in each:
        call.check_shape(name, "C,", (x.shape[1],))
    if (mean is None) != (variance is None):
        call.fail("one of mean and variance is None, expected both or none")
    fixed = mean is not None
    mean, deviation = _statistics(x, mean, variance, epsilon)
    slope = scale / deviation
    if fixed:  # one pass less
        y, shift = x * slope[:, None, None], shift - mean * slope
    else:
        y = x - mean[:, None, None]
        y *= slope[:, None, None]
    y += shift[:, None, None]
    return y


def batch_norm_backward(
    grad_output: Array, x: Array, scale: Array, shift: Array, mean: Array | None = None,
    variance: Array | None = None, *, epsilon: float = 1e-5,
) -> BatchNormGrads:  # fmt: skip
    """With statistics of the batch, the gradient of x loses its mean and its part along x."""
    axes, fixed = (0, 2, 3), mean is not None
    mean, deviation = _statistics(x, mean, variance, epsilon)
    normal = (x - mean[:, None, None]) / deviation[:, None, None]
    grad_scale, grad_shift = (grad_output * normal).sum(axis=axes), grad_output.sum(axis=axes)
    grad = grad_output
    if not fixed:
        count = x.size // x.shape[1]
        along = grad_shift[:, None, None] + normal * grad_scale[:, None, None]
        grad = grad - along / x.dtype.type(count)
    return BatchNormGrads(grad * (scale / deviation)[:, None, None], grad_scale, grad_shift)


def _statistics(x: Array, mean: Any, variance: Any, epsilon: float) -> tuple[Array, Array]:
    """The mean and the deviation of each channel: those given, or those of this batch."""
    if mean is None:
        mean, variance = x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3))
    return mean, namespace(x).sqrt(variance + x.dtype.type(epsilon))


def max_pool2d(
    x: Array, kernel_size: int | Pair, stride: int | Pair, padding: int | Pair = 0
) -> Array:
    """The largest of each window of x N C H W; padding never wins."""
    entered({"x": "N C H W"}, x=x)
    windows = _windows(x, kernel_size, stride, padding)
    return reduce(namespace(x).maximum, windows, next(windows).copy())


def max_pool2d_backward(
    grad_output: Array, x: Array, kernel_size: int | Pair, stride: int | Pair,
    padding: int | Pair = 0,
) -> XGrads:  # fmt: skip
    """grad_output goes to the pixel that won; of equal ones the first, in the order of taps."""
    y, xp = max_pool2d(x, kernel_size, stride, padding), namespace(x)
    (top, left), (H, W) = pair("padding", padding, at_least=0), x.shape[2:]
    padded = xp.zeros((*x.shape[:2], H + 2 * top, W + 2 * left), grad_output.dtype)
    left_over = xp.ones(y.shape, bool)
    within = _windows(xp.ones((1, 1, H, W), x.dtype), kernel_size, stride, padding)
    places = _windows(padded, kernel_size, stride, 0)
    windows = _windows(x, kernel_size, stride, padding)
    for window, inside, place in zip(windows, within, places, strict=True):
        won = left_over & (window == y) & (inside == 1)
        place += grad_output * won
        left_over &= ~won
    return XGrads(padded[:, :, top : top + H, left : left + W])


def _windows(x: Array, kernel_size: int | Pair, stride: int | Pair, padding: int | Pair) -> Any:
    """For each tap, the pixels that it reads: views of x, or of x with a rim of -inf."""
    (kh, kw), (sy, sx) = (
        pair("kernel_size", kernel_size, at_least=1),
        pair("stride", stride, at_least=1),
    )
    top, left = pair("padding", padding, at_least=0)
    Ho = output_size(x.shape[2], kh, sy, (top, top), 1)
    Wo = output_size(x.shape[3], kw, sx, (left, left), 1)
    if min(Ho, Wo) < 1 or top >= kh or left >= kw:
        checks.Call(x=x).fail(
            f"kernel_size is {(kh, kw)} and padding {(top, left)}, expected a window that fits, and"
            " none of padding alone"
        )
    if top or left:
        rim = ((0, 0), (0, 0), (top, top), (left, left))
        x = namespace(x).pad(x, rim, constant_values=-np.inf)
    for i in range(kh):
        for j in range(kw):
            yield x[:, :, i : i + sy * (Ho - 1) + 1 : sy, j : j + sx * (Wo - 1) + 1 : sx]


def mean(x: Array) -> Array:
    """The mean of each map of x N C H W: N C; of position-sensitive bins it is R-FCN's vote."""
    call = entered({"x": "N C H W"}, x=x)
    call.check_not_empty("x", {"H": x.shape[2], "W": x.shape[3]})
    return x.mean(axis=(2, 3))


def mean_backward(grad_output: Array, x: Array) -> XGrads:
    """Each of H W pixels gets its share."""
    share = grad_output / x.dtype.type(x.shape[2] * x.shape[3])
    return XGrads(namespace(x).broadcast_to(share[:, :, None, None], x.shape).copy())


def upsample(x: Array, size: Pair) -> Array:
    """Equation (3) at Ho x Wo points that lie evenly from corner to corner of x N C H W.

    Equation (4) is a product of two factors, so two small matrices do it: y = A x B^T.
    """
    entered({"x": "N C H W"}, x=x)
    A, B = _between(x, size)
    return A @ x @ B.T


def upsample_backward(grad_output: Array, x: Array, size: Pair) -> XGrads:
    """The adjoint of equation (3): A^T grad_output B."""
    A, B = _between(x, size)
    return XGrads(A.T @ grad_output @ B)


def _between(x: Array, size: Pair) -> tuple[Array, Array]:
    """g(q, p) of equation (4) for the rows and for the columns: Ho H and Wo W."""
    made = []
    for length, points in zip(x.shape[2:], pair("size", size, at_least=1), strict=True):
        p = np.arange(points) * ((length - 1) / max(points - 1, 1))
        made.append(namespace(x).asarray(g(np.arange(length), p[:, None]), x.dtype))
    return made[0], made[1]
