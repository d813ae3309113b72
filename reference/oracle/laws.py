"""The laws: what equations (1)-(4) and (7) promise of any implementation, on exact problems.

A law is a function of an implementation and a problem that raises AssertionError where the
promise is broken. It says which families and shapes it is about; `LAWS` holds them all by name.
Most are exact, in the dtype of the problem. `laws_of_structure` and `laws_of_parts` add theirs.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy import ndarray as Array

from .compare import assert_same
from .implementation import REFERENCE, Implementation
from .problems import Problem, some

EXACT = ("base", "kinks", "wide-x", "wide-w", "f64", "far")
NEAR = ("base", "kinks")
Check = Callable[[Implementation, Problem], None]


@dataclass(frozen=True)
class Law:
    """A promise: its name, what it says, of which operators and problems, and the check.

    follows  whether it follows, for every problem, from agreement with the reference
    """

    name: str
    says: str
    check: Check = field(repr=False)
    families: tuple[str, ...] = NEAR
    dtypes: tuple[str, ...] = ("float32", "float64")
    limits: dict[str, Any] = field(default_factory=dict)
    operators: tuple[str, ...] = ("deform_conv2d", "deform_conv2d_backward")
    follows: bool = True

    def problems(self, count: int, dtype: str) -> list[Problem]:
        """Problems that this law is about: `problems.some` with its families and limits."""
        return some(count, *self.families, dtype=dtype, **self.limits)


LAWS: dict[str, Law] = {}


def law(**about: Any) -> Callable[[Check], Check]:
    """Register a check under its name; its docstring's first line is what the law says."""

    def register(check: Check) -> Check:
        says = (check.__doc__ or "").splitlines()[0]
        LAWS[check.__name__] = Law(check.__name__, says, check, **about)
        return check

    return register


def forward(i: Implementation, problem: Problem, **changes: Any) -> Array:
    """y of a problem, some of its arguments changed."""
    p = problem.with_(**changes)
    return i.deform_conv2d(
        p.x, p.offset, p.weight, p.bias, mask=p.mask, border=p.border, **p.options
    )


def backward(i: Implementation, problem: Problem, *, side: str = "right", **changes: Any) -> Any:
    """All gradients of a problem, some of its arguments changed."""
    p = problem.with_(**changes)
    return i.deform_conv2d_backward(
        p.grad_output, p.x, p.offset, p.weight, p.bias,
        mask=p.mask, border=p.border, side=side, **p.options,
    )  # fmt: skip


def assert_same_grads(grads: Any, expected: Any) -> None:
    """Field by field, None where None is expected."""
    for name, value in expected._asdict().items():
        got = getattr(grads, name)
        if value is None or got is None:
            assert got is None and value is None, f"grads.{name} is {got}, expected {value}"  # noqa: PT018
        else:
            assert_same(f"grads.{name}", got, value)


@law(families=EXACT, follows=False, operators=("deform_conv2d",))
def forward_is_exact(i: Implementation, problem: Problem) -> None:
    """(2): y equals the reference in float64, bit for bit."""
    expected = forward(REFERENCE, problem.cast("float64")).astype(problem.x.dtype)
    assert_same("y", forward(i, problem), expected)


@law(families=EXACT, follows=False)
def backward_is_exact(i: Implementation, problem: Problem) -> None:
    """(7): every gradient equals the reference in float64, bit for bit, on both sides of kinks."""
    for side in ("right", "left"):
        expected = backward(REFERENCE, problem.cast("float64"), side=side)
        cast = [v if v is None else v.astype(problem.x.dtype) for v in expected]
        assert_same_grads(backward(i, problem, side=side), type(expected)(*cast))


@law()
def gradients_are_adjoint(i: Implementation, problem: Problem) -> None:
    """y is linear in x, weight and mask: <grad_output, y> = <grad_x, x> = ... without a bias."""
    problem = problem.with_(bias=None)
    grads, total = backward(i, problem), _dot(problem.grad_output, forward(i, problem))
    for name in ("x", "weight", "mask"):
        if getattr(problem, name) is not None:
            assert_same(
                f"<grad_{name}, {name}>", _dot(getattr(grads, name), getattr(problem, name)), total
            )


@law(families=("base",), dtypes=("float64",))
def gradients_are_central_differences(i: Implementation, problem: Problem) -> None:
    """Inside a cell y is linear along each axis: (y(a + h) - y(a - h)) / 2h is the derivative."""
    grads = backward(i, problem)
    for name, a in _arguments(problem).items():
        for at in _some_indices(a, problem.seed):
            up, down = (_total(i, problem, name, at, h) for h in (1 / 16, -1 / 16))
            assert_same(f"grads.{name}{list(at)}", getattr(grads, name)[at][None], (up - down) * 8)


@law(families=("kinks",), dtypes=("float64",))
def kinks_have_one_sided_derivatives(i: Implementation, problem: Problem) -> None:
    """At whole p, `side` is the derivative on that side: (y(p + h) - y(p)) / h with small h."""
    problem = problem.with_(border="zero")
    for side, h in (("right", 1 / 16), ("left", -1 / 16)):
        grad = backward(i, problem, side=side).offset
        for at in _some_indices(grad, problem.seed):
            change = _total(i, problem, "offset", at, h) - _total(i, problem, "offset", at, 0)
            assert_same(f"grads.offset{list(at)} from the {side}", grad[at][None], change / h)


@law()
def sides_differ_in_the_offset_alone(i: Implementation, problem: Problem) -> None:
    """`side` chooses a derivative at kinks: no gradient but that of the offset depends on it."""
    right, left = (backward(i, problem, side=side) for side in ("right", "left"))
    assert_same_grads(left._replace(offset=None), right._replace(offset=None))


@law(families=EXACT)
def zero_offset_is_convolution(i: Implementation, problem: Problem) -> None:
    """With zero offset (2) is (1), and so are the gradients of x, weight and bias."""
    flat = problem.with_(offset=0 * problem.offset, mask=None)
    args = (flat.x, flat.weight, flat.bias)
    assert_same("y", forward(i, flat), REFERENCE.conv2d(*args, **flat.options))
    grads = backward(i, flat)
    expected = REFERENCE.conv2d_backward(flat.grad_output, *args, **flat.options)
    assert_same_grads(
        grads._replace(offset=None), grads._replace(offset=None, **expected._asdict())
    )


@law(limits={"padding": ((2, 1), (1, 2))}, operators=("deform_conv2d",))
def whole_offset_is_shift(i: Implementation, problem: Problem) -> None:
    """One whole offset everywhere is (1) on a shifted map: only the padding changes hands."""
    rng = np.random.default_rng(problem.seed)
    (top, bottom), (left, right) = problem.shape.padding
    dy, dx = rng.integers(-bottom, top + 1), rng.integers(-right, left + 1)
    s, moved = problem.shape, np.reshape((dy, dx), (2, 1, 1))
    offset = np.broadcast_to(moved, (s.N, s.fields, 2, *s.output)).reshape(problem.offset.shape)
    offset = offset.astype(problem.x.dtype)
    sides = ((int(top - dy), int(bottom + dy)), (int(left - dx), int(right + dx)))
    expected = REFERENCE.conv2d(
        problem.x, problem.weight, problem.bias, **{**problem.options, "padding": sides}
    )
    assert_same("y", forward(i, problem, offset=offset, mask=None, border="zero"), expected)


@law(operators=("deform_conv2d",))
def linear_in_x_and_weight(i: Implementation, problem: Problem) -> None:
    """y(a + b) = y(a) + y(b) for x and for weight."""
    problem = problem.with_(bias=None)
    for name in ("x", "weight"):
        a = getattr(problem, name)
        b = np.roll(a, 1)
        parts = [forward(i, problem, **{name: part}) for part in (a, b)]
        assert_same(f"y({name})", forward(i, problem, **{name: a + b}), parts[0] + parts[1])


@law()
def bias_is_added(i: Implementation, problem: Problem) -> None:
    """The bias is added to every pixel, and its gradient is the sum of grad_output."""
    bias = np.arange(1, problem.weight.shape[0] + 1).astype(problem.x.dtype)
    without = forward(i, problem, bias=None)
    assert_same("y", forward(i, problem, bias=bias), without + bias[:, None, None])
    total = problem.grad_output.sum(axis=(0, 2, 3), dtype=problem.x.dtype)
    assert_same("grads.bias", backward(i, problem, bias=bias).bias, total)


@law()
def mask_multiplies(i: Implementation, problem: Problem) -> None:
    """A mask of ones is no mask; half the mask gives half of y and of the gradient of weight."""
    s = problem.shape
    ones = np.ones((s.N, s.fields, *s.output), problem.x.dtype)
    problem = problem.with_(bias=None, mask=None)
    whole, half = forward(i, problem), forward(i, problem, mask=ones / 2)
    assert_same("y with a mask of ones", forward(i, problem, mask=ones), whole)
    assert_same("y with half the mask", half, whole / 2)
    grads, halved = backward(i, problem), backward(i, problem, mask=ones / 2)
    for name in ("x", "offset", "weight"):
        assert_same(f"grads.{name}", getattr(halved, name), getattr(grads, name) / 2)


@law()
def axes_are_alike(i: Implementation, problem: Problem) -> None:
    """Exchanging y and x in every argument exchanges them in every result."""
    turned = transposed(problem)
    assert_same("y", forward(i, turned), forward(i, problem).swapaxes(2, 3))
    grads, expected = backward(i, turned), backward(i, problem)
    assert_same("grads.x", grads.x, expected.x.swapaxes(2, 3))
    assert_same("grads.weight", grads.weight, expected.weight.swapaxes(2, 3))
    assert_same("grads.offset", grads.offset, _turned_offset(expected.offset, problem))


def transposed(problem: Problem) -> Problem:
    """The problem with y and x exchanged."""
    s = problem.shape
    swapped = {
        name: getattr(s, name)[::-1] for name in ("kernel", "stride", "padding", "dilation")
    } | {"at_least": s.at_least[::-1], "rest": s.rest[::-1]}
    mask = problem.mask
    if mask is not None:
        by_tap = mask.reshape(s.N, s.G, *s.kernel, *s.output)
        mask = by_tap.transpose(0, 1, 3, 2, 5, 4).reshape(s.N, s.fields, *s.output[::-1])
    return problem.with_(
        shape=s.limited(**swapped),
        x=problem.x.swapaxes(2, 3),
        offset=_turned_offset(problem.offset, problem),
        weight=problem.weight.swapaxes(2, 3),
        mask=mask,
        grad_output=problem.grad_output.swapaxes(2, 3),
    )


def _turned_offset(offset: Array, problem: Problem) -> Array:
    s = problem.shape
    by_tap = offset.reshape(s.N, s.G, *s.kernel, 2, *s.output)[:, :, :, :, ::-1]
    return by_tap.transpose(0, 1, 3, 2, 4, 6, 5).reshape(s.N, 2 * s.fields, *s.output[::-1])


def strange_numbers(seed: int, a: Array) -> Array:
    """The array with one number in four infinite, huge or NaN."""
    rng = np.random.default_rng(seed)
    odd = rng.choice([np.inf, -np.inf, 1e30, -1e30, np.nan], a.shape).astype(a.dtype)
    return np.where(rng.random(a.shape) < 1 / 4, odd, a)


def _dot(a: Array, b: Array) -> Array:
    return np.sum(a.astype(np.float64) * b.astype(np.float64)).reshape(1)


def _arguments(problem: Problem) -> dict[str, Array]:
    names = ("x", "offset", "weight", "bias", "mask")
    return {n: getattr(problem, n) for n in names if getattr(problem, n) is not None}


def _some_indices(a: Array, seed: int, count: int = 4) -> list[tuple[int, ...]]:
    rng = np.random.default_rng(seed)
    return [tuple(map(int, rng.integers(0, a.shape))) for _ in range(count if a.size else 0)]


def _total(i: Implementation, problem: Problem, name: str, at: tuple[int, ...], h: float) -> Array:
    """<grad_output, y> with h added to one number of an argument."""
    moved = getattr(problem, name).copy()
    moved[at] += h
    return _dot(problem.grad_output, forward(i, problem, **{name: moved}))


# These register the rest of LAWS. They import this module, so they come last.
from . import laws_of_parts, laws_of_structure  # noqa: E402, F401
