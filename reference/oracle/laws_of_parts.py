"""Laws of the parts: `sample`, equations (3) and (4), and `conv2d`, equation (1).

The points of `sample` are those of the problem's first image; the arguments of `conv2d` are the
problem's without its offsets.
"""

from typing import Any

import numpy as np
from numpy import ndarray as Array

from .compare import ABSENT, assert_between, assert_same
from .draws import FAMILIES
from .implementation import REFERENCE, Implementation
from .law import assert_same_grads, given, law
from .laws import EXACT, NEAR, strange_numbers, takes_sides
from .problems import Problem

ALL = ("float32", "float64", "float16")  # float16 is computed in float32 and rounded once
SAMPLE: dict[str, Any] = {"operator": "sample", "limits": {"N": 1}}
ONE_IMAGE = tuple(family for family in EXACT if family not in ("degenerate", "large"))
CONV2D: dict[str, Any] = {"operator": "conv2d"}


@law(families=ONE_IMAGE, dtypes=ALL, follows=False, **SAMPLE)
def sample_is_exact(i: Implementation, problem: Problem) -> None:
    """(3): the samples equal the reference in float64, bit for bit."""
    x, p, _ = sample_arguments(problem)
    exact = REFERENCE.sample(x.astype("f8"), p.astype("f8"), border=problem.border)
    assert_same("x(p)", i.sample(x, p, border=problem.border), exact.astype(x.dtype))


@law(families=ONE_IMAGE, dtypes=ALL, follows=False, gradients=True, **SAMPLE)
def sample_backward_is_exact(i: Implementation, problem: Problem) -> None:
    """The gradients of x and p equal the reference in float64, on both sides of kinks."""
    x, p, grad = sample_arguments(problem)
    _assert_right_grads(i, grad, x, p, problem.border)


def _assert_right_grads(i: Implementation, grad: Array, x: Array, p: Array, border: str) -> None:
    """As `laws.assert_right_grads`, for `sample`."""
    ends = []
    for side in ("right", "left"):
        options = {"border": border, "side": side}
        exact = REFERENCE.sample_backward(*(a.astype("f8") for a in (grad, x, p)), **options)
        ends.append(type(exact)(*(v.astype(x.dtype) for v in exact)))
        if takes_sides(i):
            assert_same_grads(i.sample_backward(grad, x, p, **options), ends[-1])
    if not takes_sides(i):
        grads = i.sample_backward(grad, x, p, border=border)
        assert_same_grads(grads, ends[0]._replace(p=ABSENT))
        for _, got in given(grads, "p"):
            low, high = np.minimum(ends[0].p, ends[1].p), np.maximum(ends[0].p, ends[1].p)
            assert_between("grads.p", got, low, high)


@law(families=NEAR, **SAMPLE)
def constant_map_samples_to_itself(i: Implementation, problem: Problem) -> None:
    """The weights of G add to 1 inside the map, so a constant map has no slope there."""
    x, p, grad = sample_arguments(problem)
    ones, (H, W) = np.ones_like(x), x.shape[1:]
    inside = ((p >= 0) & (p <= (H - 1, W - 1))).all(axis=-1)
    samples = i.sample(ones, p, border=problem.border)[:, inside]
    assert_same("x(p) of a map of ones", samples, np.ones_like(samples))
    if i.offers("sample_backward"):
        strictly = ((p > 0) & (p < (H - 1, W - 1))).all(axis=-1)
        for _, slope in given(i.sample_backward(grad, ones, p, border=problem.border), "p"):
            assert_same("grads.p of ones", slope[strictly], np.zeros_like(slope[strictly]))


@law(families=NEAR, **SAMPLE)
def whole_points_read_pixels(i: Implementation, problem: Problem) -> None:
    """At whole p on the map, x(p) is the pixel."""
    x = problem.x[0]
    q = np.moveaxis(np.indices(x.shape[1:]), 0, -1).astype(x.dtype)
    assert_same("x(q)", i.sample(x, q, border=problem.border), x)


@law(families=NEAR, **SAMPLE)
def ramps_are_followed(i: Implementation, problem: Problem) -> None:
    """On a map that rises by 2 a row and 3 a column, x(p) = 2 p_y + 3 p_x, with that slope."""
    rng, dtype = np.random.default_rng(problem.seed), problem.x.dtype
    rows, columns = np.indices((4, 5)).astype(dtype)
    ramp = np.stack([2 * rows + 3 * columns] * 2)
    p = (rng.integers((1, 1), (24, 32), (7, 2)) / 8).astype(dtype)  # inside, whole ones too
    expected = np.stack([2 * p[:, 0] + 3 * p[:, 1]] * 2)
    assert_same("x(p) of a ramp", i.sample(ramp, p, border=problem.border), expected)
    grad = rng.integers(-3, 4, expected.shape).astype(dtype)
    slope = grad.sum(axis=0)[:, None] * np.array([2, 3], dtype)
    if i.offers("sample_backward"):
        for _, got in given(i.sample_backward(grad, ramp, p, border=problem.border), "p"):
            assert_same("grads.p of a ramp", got, slope)


@law(families=NEAR, needs=("points not finite",), **SAMPLE)
def sample_points_not_finite(i: Implementation, problem: Problem) -> None:
    """Infinite and huge p read 0 with slope 0; NaN gives NaN there, and none reaches x."""
    x, p, grad = sample_arguments(problem)
    odd = strange_numbers(problem.seed, p)
    lost = (np.isinf(odd) | (np.abs(odd) > 1e20)).any(axis=-1) & ~np.isnan(odd).any(axis=-1)
    nan = np.isnan(odd).any(axis=-1)
    found = {"x(p)": i.sample(x, odd, border=problem.border)}
    if i.offers("sample_backward"):
        grads = i.sample_backward(grad, x, odd, border=problem.border)
        for name, g in given(grads, "p"):
            found[f"grads.{name}"] = np.moveaxis(g, -1, 0)
        kept = np.where((lost | nan)[..., None], p.dtype.type(1e30), p)
        expected = i.sample_backward(grad, x, kept, border=problem.border)
        for _, grad_x in given(grads, "x"):
            assert_same("grads.x", grad_x, expected.x)
    for what, a in found.items():
        assert_same(f"{what} where p is lost", a[:, lost], np.zeros_like(a[:, lost]))
        assert_same(f"{what} where p is NaN", a[:, nan], np.full_like(a[:, nan], np.nan))


@law(families=EXACT, dtypes=ALL, follows=False, **CONV2D)
def conv2d_is_exact(i: Implementation, problem: Problem) -> None:
    """(1): y and its gradients equal the reference in float64, bit for bit."""
    exact, dtype = problem.cast("float64"), problem.x.dtype
    assert_same("y", conv2d_forward(i, problem), conv2d_forward(REFERENCE, exact).astype(dtype))
    if i.offers("conv2d_backward"):
        grads = conv2d_gradients(REFERENCE, exact)
        cast = [v if v is None else v.astype(dtype) for v in grads]
        assert_same_grads(conv2d_gradients(i, problem), type(grads)(*cast))


@law(families=NEAR, gradients=True, **CONV2D)
def conv2d_is_adjoint(i: Implementation, problem: Problem) -> None:
    """Without a bias, <grad_output, y> = <grad_x, x> = <grad_weight, weight>."""
    problem = problem.with_(bias=None)
    total = np.vdot(problem.grad_output, conv2d_forward(i, problem)).reshape(1)
    for name, grad in given(conv2d_gradients(i, problem), "x", "weight"):
        product = np.vdot(grad, getattr(problem, name)).reshape(1)
        assert_same(f"<grad_{name}, {name}>", product, total)


def sample_arguments(problem: Problem) -> tuple[Array, Array, Array]:
    """x, p and a grad_output of whole numbers, so small that the few hundred points stay exact."""
    x, p = problem.x[0], problem.points.astype(problem.x.dtype)
    rng, limit = np.random.default_rng(problem.seed), min(FAMILIES[problem.family].grad, 511)
    grad = rng.integers(-limit, limit + 1, (x.shape[0], *p.shape[:-1]))
    return x, p, grad.astype(x.dtype)


def conv2d_forward(i: Implementation, problem: Problem) -> Array:
    return i.conv2d(problem.x, problem.weight, problem.bias, **problem.options)


def conv2d_gradients(i: Implementation, problem: Problem) -> Any:
    args = (problem.grad_output, problem.x, problem.weight, problem.bias)
    return i.conv2d_backward(*args, **problem.options)
