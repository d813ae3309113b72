"""Laws of the parts: `sample`, equations (3) and (4), and `conv2d`, equation (1).

The points of `sample` are those of the problem's first image; the arguments of `conv2d` are the
problem's without its offsets.
"""

from typing import Any

import numpy as np
from numpy import ndarray as Array

from .compare import assert_same
from .implementation import REFERENCE, Implementation
from .laws import EXACT, assert_same_grads, law, strange_numbers
from .problems import Problem

ALL = ("float32", "float64", "float16")  # float16 is computed in float32 and rounded once
SAMPLE: dict[str, Any] = {
    "operators": ("sample", "sample_backward"),
    "limits": {"N": 1},
}
CONV2D: dict[str, Any] = {"operators": ("conv2d", "conv2d_backward")}


@law(families=EXACT, dtypes=ALL, follows=False, **SAMPLE)
def sample_is_exact(i: Implementation, problem: Problem) -> None:
    """(3): the samples equal the reference in float64, bit for bit."""
    x, p, _ = _sample_arguments(problem)
    exact = REFERENCE.sample(x.astype("f8"), p.astype("f8"), border=problem.border)
    assert_same("x(p)", i.sample(x, p, border=problem.border), exact.astype(x.dtype))


@law(families=EXACT, dtypes=ALL, follows=False, **SAMPLE)
def sample_backward_is_exact(i: Implementation, problem: Problem) -> None:
    """The gradients of x and p equal the reference in float64, on both sides of kinks."""
    x, p, grad = _sample_arguments(problem)
    for side in ("right", "left"):
        options = {"border": problem.border, "side": side}
        exact = REFERENCE.sample_backward(*(a.astype("f8") for a in (grad, x, p)), **options)
        cast = type(exact)(*(v.astype(x.dtype) for v in exact))
        assert_same_grads(i.sample_backward(grad, x, p, **options), cast)


@law(**SAMPLE)
def constant_map_samples_to_itself(i: Implementation, problem: Problem) -> None:
    """The weights of G add to 1 inside the map, so a constant map has no slope there."""
    x, p, grad = _sample_arguments(problem)
    ones, (H, W) = np.ones_like(x), x.shape[1:]
    inside = ((p >= 0) & (p <= (H - 1, W - 1))).all(axis=-1)
    strictly = ((p >= 0) & (p < (H - 1, W - 1))).all(axis=-1)
    samples = i.sample(ones, p)[:, inside]
    assert_same("x(p) of a map of ones", samples, np.ones_like(samples))
    slope = i.sample_backward(grad, ones, p).p[strictly]
    assert_same("grads.p of a map of ones", slope, np.zeros_like(slope))


@law(**SAMPLE)
def whole_points_read_pixels(i: Implementation, problem: Problem) -> None:
    """At whole p on the map, x(p) is the pixel."""
    x = problem.x[0]
    q = np.moveaxis(np.indices(x.shape[1:]), 0, -1).astype(x.dtype)
    for border in ("zero", "dcnv1"):
        assert_same("x(q)", i.sample(x, q, border=border), x)


@law(**SAMPLE)
def ramps_are_followed(i: Implementation, problem: Problem) -> None:
    """On a map that rises by 2 a row and 3 a column, x(p) = 2 p_y + 3 p_x, with that slope."""
    rng, dtype = np.random.default_rng(problem.seed), problem.x.dtype
    rows, columns = np.indices((4, 5)).astype(dtype)
    ramp = np.stack([2 * rows + 3 * columns] * 2)
    p = (rng.integers((0, 0), (24, 32), (7, 2)) / 8).astype(dtype)  # inside, whole ones too
    expected = np.stack([2 * p[:, 0] + 3 * p[:, 1]] * 2)
    assert_same("x(p) of a ramp", i.sample(ramp, p, border=problem.border), expected)
    grad = rng.integers(-3, 4, expected.shape).astype(dtype)
    slope = grad.sum(axis=0)[:, None] * np.array([2, 3], dtype)
    got = i.sample_backward(grad, ramp, p, border=problem.border)
    assert_same("grads.p of a ramp", got.p, slope)


@law(**SAMPLE)
def sample_points_not_finite(i: Implementation, problem: Problem) -> None:
    """Infinite and huge p read 0 with slope 0; NaN gives NaN there, and none reaches x."""
    x, p, grad = _sample_arguments(problem)
    odd = strange_numbers(problem.seed, p)
    lost = (np.isinf(odd) | (np.abs(odd) > 1e20)).any(axis=-1) & ~np.isnan(odd).any(axis=-1)
    nan = np.isnan(odd).any(axis=-1)
    y = i.sample(x, odd, border=problem.border)
    grads = i.sample_backward(grad, x, odd, border=problem.border)
    for what, a in (("x(p)", y), ("grads.p", np.moveaxis(grads.p, -1, 0))):
        assert_same(f"{what} where p is lost", a[:, lost], np.zeros_like(a[:, lost]))
        assert_same(f"{what} where p is NaN", a[:, nan], np.full_like(a[:, nan], np.nan))
    kept = np.where((lost | nan)[..., None], p.dtype.type(1e30), p)
    expected = i.sample_backward(grad, x, kept, border=problem.border)
    assert_same("grads.x", grads.x, expected.x)


@law(families=EXACT, dtypes=ALL, follows=False, **CONV2D)
def conv2d_is_exact(i: Implementation, problem: Problem) -> None:
    """(1): y and its gradients equal the reference in float64, bit for bit."""
    y, grads = _conv2d(REFERENCE, problem.cast("float64"))
    got_y, got_grads = _conv2d(i, problem)
    assert_same("y", got_y, y.astype(problem.x.dtype))
    cast = [v if v is None else v.astype(problem.x.dtype) for v in grads]
    assert_same_grads(got_grads, type(grads)(*cast))


@law(**CONV2D)
def conv2d_is_adjoint(i: Implementation, problem: Problem) -> None:
    """Without a bias, <grad_output, y> = <grad_x, x> = <grad_weight, weight>."""
    y, grads = _conv2d(i, problem.with_(bias=None))
    total = np.vdot(problem.grad_output, y).reshape(1)
    for name in ("x", "weight"):
        product = np.vdot(getattr(grads, name), getattr(problem, name)).reshape(1)
        assert_same(f"<grad_{name}, {name}>", product, total)


def _sample_arguments(problem: Problem) -> tuple[Array, Array, Array]:
    """x, p and a grad_output of whole numbers."""
    x, p = problem.x[0], problem.points.astype(problem.x.dtype)
    rng = np.random.default_rng(problem.seed)
    return x, p, rng.integers(-1, 2, (x.shape[0], *p.shape[:-1])).astype(x.dtype)


def _conv2d(i: Implementation, problem: Problem) -> tuple[Array, Any]:
    args = (problem.x, problem.weight, problem.bias)
    return i.conv2d(*args, **problem.options), i.conv2d_backward(
        problem.grad_output, *args, **problem.options
    )
