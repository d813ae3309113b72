"""The laws of `deform_conv2d`: what equations (2) and (7) promise of any implementation.

They ask no more of a problem than its number of axes, so `laws_of_volumes` makes of each the law
of `deform_conv3d`.

Most are exact, on exact problems. What a law says of y is checked first, then what it says of the
gradients, if there are any. `laws_of_structure`, `laws_of_parts`, `laws_of_memory` and `roi_laws`
add theirs.
"""

from typing import Any

import numpy as np
from numpy import ndarray as Array

from .compare import ABSENT, assert_between, assert_same
from .implementation import REFERENCE, Implementation
from .law import LAWS, Law, assert_same_grads, given, law, laws_of
from .problems import Problem, strange_numbers

__all__ = ["LAWS", "Law", "laws_of", "strange_numbers"]

EXACT = (
    "base",
    "kinks",
    "wide-x",
    "wide-w",
    "wide-g",
    "f64",
    "far",
    "across",
    "edge",
    "huge",
    "degenerate",
    "large",
)
NEAR = ("base", "kinks")


def forward(i: Implementation, problem: Problem, **changes: Any) -> Array:
    """y of a problem, some of its arguments changed."""
    p = problem.with_(**changes)
    return i.call[p.operator](
        p.x, p.offset, p.weight, p.bias, mask=p.mask, border=p.border, **p.options
    )


def backward(i: Implementation, problem: Problem, *, side: str = "right", **changes: Any) -> Any:
    """All gradients of a problem, some of its arguments changed."""
    p = problem.with_(**changes)
    return i.call[f"{p.operator}_backward"](
        p.grad_output, p.x, p.offset, p.weight, p.bias,
        mask=p.mask, border=p.border, side=side, **p.options,
    )  # fmt: skip


def has_backward(i: Implementation, problem: Problem) -> bool:
    """Whether the gradients of the problem's operator can be asked for."""
    return i.offers(f"{problem.operator}_backward")


def plain(problem: Problem, end: str = "") -> Any:
    """The reference's convolution of equation (1), on maps or volumes, or its "_backward"."""
    return REFERENCE.call[f"conv{problem.shape.axes}d{end}"]


def takes_sides(i: Implementation) -> bool:
    """Whether it can be told which derivative to take at a kink; if not, any between is right."""
    return "the left derivative" not in i.lacks


def assert_right_grads(i: Implementation, problem: Problem, **dtypes: Any) -> None:
    """Every gradient equals the reference in float64, that of the offset on both sides of kinks.

    dtypes  of gradients that have another dtype than x
    """
    ends = [_expected_grads(problem, side, dtypes) for side in ("right", "left")]
    if takes_sides(i):
        for side, expected in zip(("right", "left"), ends, strict=True):
            assert_same_grads(backward(i, problem, side=side), expected)
        return
    grads = backward(i, problem)
    assert_same_grads(grads, ends[0]._replace(offset=ABSENT))
    for _, offset in given(grads, "offset"):
        low, high = np.minimum(*(e.offset for e in ends)), np.maximum(*(e.offset for e in ends))
        assert_between("grads.offset", offset, low, high)


def _expected_grads(problem: Problem, side: str, dtypes: dict[str, Any]) -> Any:
    exact = backward(REFERENCE, problem.cast("float64"), side=side)
    dtype = problem.x.dtype
    cast = {
        name: None if v is None else v.astype(dtypes.get(name, dtype))
        for name, v in exact._asdict().items()
    }
    return exact._replace(**cast)


@law(families=EXACT, follows=False)
def forward_is_exact(i: Implementation, problem: Problem) -> None:
    """(2): y equals the reference in float64, bit for bit."""
    expected = forward(REFERENCE, problem.cast("float64")).astype(problem.x.dtype)
    assert_same("y", forward(i, problem), expected)


@law(families=EXACT, follows=False, gradients=True)
def backward_is_exact(i: Implementation, problem: Problem) -> None:
    """(7): every gradient equals the reference in float64, bit for bit, on both sides of kinks."""
    assert_right_grads(i, problem)


@law(families=NEAR, gradients=True)
def gradients_are_adjoint(i: Implementation, problem: Problem) -> None:
    """y is linear in x, weight and mask: <grad_output, y> = <grad_x, x> = ... without a bias."""
    problem = problem.with_(bias=None)
    grads, total = backward(i, problem), dot(problem.grad_output, forward(i, problem))
    for name, grad in given(grads, "x", "weight", "mask"):
        assert_same(f"<grad_{name}, {name}>", dot(grad, getattr(problem, name)), total)


@law(families=("base",), dtypes=("float64",), gradients=True)
def gradients_are_central_differences(i: Implementation, problem: Problem) -> None:
    """Inside a cell y is linear along each axis: (y(a + h) - y(a - h)) / 2h is the derivative."""
    grads = backward(i, problem)
    for name, grad in given(grads, "x", "offset", "weight", "bias", "mask"):
        for at in some_indices(grad, problem.seed):
            up, down = (_total(i, problem, name, at, h) for h in (1 / 16, -1 / 16))
            assert_same(f"grads.{name}{list(at)}", grad[at][None], (up - down) * 8)


@law(families=("base",), dtypes=("float64",), gradients=True)
def gradients_are_directional_derivatives(i: Implementation, problem: Problem) -> None:
    """<grad_offset, d> = (Y(offset + h d) - Y(offset - h d)) / 2h in any direction d of one axis.

    y is linear in all dy together inside their cells, and so in all dx: no Jacobian is built.
    """
    s, rng = problem.shape, np.random.default_rng(problem.seed)
    for _, grad in given(backward(i, problem), "offset"):
        for axis in range(s.axes):
            d: Array = np.zeros((s.N, s.fields, s.axes, *s.output))
            d[:, :, axis] = rng.integers(-1, 2, d[:, :, axis].shape)
            d = d.reshape(problem.offset.shape)
            up, down = (_moved(i, problem, h * d) for h in (1 / 16, -1 / 16))
            along = f"<grad_offset, d> along {'zyx'[axis - s.axes]}"
            assert_same(along, dot(grad, d), (up - down) * 8)


@law(
    families=("kinks",), dtypes=("float64",), gradients=True,
    needs=("the left derivative", "the zero border"),
)  # fmt: skip
def kinks_have_one_sided_derivatives(i: Implementation, problem: Problem) -> None:
    """At whole p, `side` is the derivative on that side: (y(p + h) - y(p)) / h with small h."""
    problem = problem.with_(border="zero")
    for side, h in (("right", 1 / 16), ("left", -1 / 16)):
        for _, grad in given(backward(i, problem, side=side), "offset"):
            for at in some_indices(grad, problem.seed):
                change = _total(i, problem, "offset", at, h) - _total(i, problem, "offset", at, 0)
                assert_same(f"grads.offset{list(at)} from the {side}", grad[at][None], change / h)


@law(families=NEAR, gradients=True, needs=("the left derivative",))
def sides_differ_in_the_offset_alone(i: Implementation, problem: Problem) -> None:
    """`side` chooses a derivative at kinks: no gradient but that of the offset depends on it."""
    right, left = (backward(i, problem, side=side) for side in ("right", "left"))
    assert_same_grads(left, right._replace(offset=ABSENT))


@law(families=EXACT)
def zero_offset_is_convolution(i: Implementation, problem: Problem) -> None:
    """With zero offset (2) is (1), and so are the gradients of x, weight and bias."""
    flat = problem.with_(offset=0 * problem.offset, mask=None)
    args = (flat.x, flat.weight, flat.bias)
    assert_same("y", forward(i, flat), plain(flat)(*args, **flat.options))
    if has_backward(i, problem):
        expected = plain(flat, "_backward")(flat.grad_output, *args, **flat.options)
        assert_same_grads(backward(i, flat), expected)


@law(families=NEAR, limits={"padding": ((2, 1), (1, 2))}, needs=("padding",))
def whole_offset_is_shift(i: Implementation, problem: Problem) -> None:
    """One whole offset everywhere is (1) on a shifted map: only the padding changes hands."""
    rng, s = np.random.default_rng(problem.seed), problem.shape
    move = [int(rng.integers(-after, before + 1)) for before, after in s.padding]
    moved = np.reshape(move, (s.axes, *(1,) * s.axes))
    offset = np.broadcast_to(moved, (s.N, s.fields, s.axes, *s.output))
    offset = offset.reshape(problem.offset.shape).astype(problem.x.dtype)
    sides = tuple((b - d, a + d) for (b, a), d in zip(s.padding, move, strict=True))
    options = {**problem.options, "padding": sides}
    expected = plain(problem)(problem.x, problem.weight, problem.bias, **options)
    assert_same("y", forward(i, problem, offset=offset, mask=None), expected)


@law(families=NEAR)
def linear_in_x_and_weight(i: Implementation, problem: Problem) -> None:
    """y(a + b) = y(a) + y(b) for x and for weight."""
    problem = problem.with_(bias=None)
    for name in ("x", "weight"):
        a = getattr(problem, name)
        b = np.roll(a, 1)
        parts = [forward(i, problem, **{name: part}) for part in (a, b)]
        assert_same(f"y({name})", forward(i, problem, **{name: a + b}), parts[0] + parts[1])


@law(families=NEAR, needs=("bias",))
def bias_is_added(i: Implementation, problem: Problem) -> None:
    """The bias is added to every pixel, and its gradient is the sum of grad_output."""
    bias = np.arange(1, problem.weight.shape[0] + 1).astype(problem.x.dtype)
    without = forward(i, problem, bias=None)
    added = without + bias.reshape(-1, *(1,) * problem.shape.axes)
    assert_same("y", forward(i, problem, bias=bias), added)
    if has_backward(i, problem):
        others = (0, *range(2, without.ndim))
        total = problem.grad_output.sum(axis=others, dtype=problem.x.dtype)
        for _, grad in given(backward(i, problem, bias=bias), "bias"):
            assert_same("grads.bias", grad, total)


@law(families=NEAR, needs=("mask",))
def mask_multiplies(i: Implementation, problem: Problem) -> None:
    """A mask of ones is no mask; half the mask gives half of y and of the gradient of weight."""
    s = problem.shape
    ones = np.ones((s.N, s.fields, *s.output), problem.x.dtype)
    problem = problem.with_(bias=None, mask=None)
    whole, half = forward(i, problem), forward(i, problem, mask=ones / 2)
    assert_same("y with a mask of ones", forward(i, problem, mask=ones), whole)
    assert_same("y with half the mask", half, whole / 2)
    if has_backward(i, problem):
        grads, halved = backward(i, problem), backward(i, problem, mask=ones / 2)
        for name, grad in given(grads, "x", "offset", "weight"):
            assert_same(f"grads.{name}", getattr(halved, name), grad / 2)


def dot(a: Array, b: Array) -> Array:
    return np.sum(a.astype(np.float64) * b.astype(np.float64)).reshape(1)


def some_indices(a: Array, seed: int, count: int = 4) -> list[tuple[int, ...]]:
    rng = np.random.default_rng(seed)
    return [tuple(map(int, rng.integers(0, a.shape))) for _ in range(count if a.size else 0)]


def _total(i: Implementation, problem: Problem, name: str, at: tuple[int, ...], h: float) -> Array:
    """<grad_output, y> with h added to one number of an argument."""
    moved = getattr(problem, name).copy()
    moved[at] += h
    return dot(problem.grad_output, forward(i, problem, **{name: moved}))


def _moved(i: Implementation, problem: Problem, change: Array) -> Array:
    """<grad_output, y> with this added to the offset."""
    return dot(problem.grad_output, forward(i, problem, offset=problem.offset + change))


# These register the rest of LAWS. They import this module, so they come last.
from . import (  # noqa: E402
    laws_of_memory,  # noqa: F401
    laws_of_parts,  # noqa: F401
    laws_of_structure,  # noqa: F401
    laws_of_volumes,  # noqa: F401
    roi_laws,  # noqa: F401
    roi_laws_of_rounding,  # noqa: F401
)
