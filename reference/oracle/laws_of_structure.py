"""Laws about axes, groups, batches, borders, points not finite, and ordinary floats."""

from typing import Any

import numpy as np
from numpy import ndarray as Array

from deformable_convnets.reference import layout
from deformable_convnets.reference.deform_conv import locations

from . import bounds
from .compare import assert_between, assert_same, assert_true, assert_within
from .implementation import REFERENCE, Implementation
from .law import assert_same_grads, given, law
from .laws import (
    EXACT,
    NEAR,
    assert_right_grads,
    backward,
    forward,
    has_backward,
    strange_numbers,
    takes_sides,
)
from .problems import Problem

TURNED = {2: (1, 0), 3: (2, 0, 1)}  # y and x exchanged; z, y, x -> x, z, y
NAMES = ("x", "offset", "weight", "bias", "mask", "grad_output")


@law(families=NEAR)
def axes_are_alike(i: Implementation, problem: Problem) -> None:
    """Exchanging y and x in every argument exchanges them in every result."""
    turned = transposed(problem)
    assert_same("y", forward(i, turned), _turned(forward(i, problem)))
    if has_backward(i, problem):
        grads, expected = backward(i, turned), backward(i, problem)
        for name, grad in given(expected, "x", "weight"):
            assert_same(f"grads.{name}", getattr(grads, name), _turned(grad))
        if takes_sides(i) or problem.family == "base":
            for name, grad in given(expected, "offset"):
                assert_same(f"grads.{name}", grads.offset, _turned_field(grad, problem))


def transposed(problem: Problem) -> Problem:
    """The problem with y and x exchanged; of a volume, with x, z, y in place of z, y, x."""
    s, order = problem.shape, TURNED[problem.shape.axes]
    names = ("kernel", "stride", "padding", "dilation", "at_least", "rest")
    swapped = {name: tuple(getattr(s, name)[axis] for axis in order) for name in names}
    mask = problem.mask
    return problem.with_(
        shape=s.limited(**swapped),
        x=_turned(problem.x),
        offset=_turned_field(problem.offset, problem),
        weight=_turned(problem.weight),
        mask=None if mask is None else _turned_field(mask, problem),
        grad_output=_turned(problem.grad_output),
    )


def _turned(a: Array) -> Array:
    return a.transpose(0, 1, *(2 + axis for axis in TURNED[a.ndim - 2]))


def _turned_field(field: Array, problem: Problem) -> Array:
    """An offset, whose coordinates are turned too, or a mask."""
    s, order = problem.shape, list(TURNED[problem.shape.axes])
    of = field.shape[1] // s.fields  # the numbers of a tap
    by_tap = field.reshape(s.N, s.G, *s.kernel, of, *s.output)
    d, taps = s.axes, [2 + axis for axis in order]
    if of == d:
        by_tap = np.take(by_tap, order, axis=2 + d)
    turned = by_tap.transpose(0, 1, *taps, 2 + d, *(d + 1 + axis for axis in taps))
    return turned.reshape(s.N, field.shape[1], *(s.output[axis] for axis in order))


@law(families=NEAR, needs=("several images",))
def images_are_independent(i: Implementation, problem: Problem) -> None:
    """Each image of a batch gives what it gives alone; their weight gradients add up."""
    images = ("x", "offset", "mask", "grad_output")
    alone = [
        problem.with_(**{name: _image(problem, name, n) for name in images})
        for n in range(problem.x.shape[0])
    ]
    y = forward(i, problem)
    for n, image in enumerate(alone):
        assert_same(f"y[{n}]", forward(i, image), y[n : n + 1])
    if has_backward(i, problem):
        grads, each = backward(i, problem), [backward(i, image) for image in alone]
        for n, one in enumerate(each):
            for name, grad in given(grads, "x", "offset", "mask"):
                assert_same(f"grads.{name}[{n}]", getattr(one, name), grad[n : n + 1])
        for _, grad in given(grads, "weight"):
            total = sum((one.weight for one in each), np.zeros_like(grad))
            assert_same("the sum of grads.weight", total, grad)


@law(families=NEAR, limits={"groups": 2}, needs=("groups",))
def groups_are_blocks(i: Implementation, problem: Problem) -> None:
    """Weight groups are one group with a block-diagonal weight."""
    O, C_per_group, *kernel = problem.weight.shape
    whole = np.zeros((O, 2 * C_per_group, *kernel), problem.weight.dtype)
    blocks = [slice(0, C_per_group), slice(C_per_group, None)]
    for half, block in zip(np.split(np.arange(O), 2), blocks, strict=True):
        whole[half, block] = problem.weight[half]
    one = problem.with_(weight=whole, shape=problem.shape.limited(groups=1))
    assert_same("y", forward(i, problem), forward(i, one))
    if has_backward(i, problem):
        split, joint = backward(i, problem), backward(i, one)
        for name, grad in given(joint, "x", "offset", "mask"):
            assert_same(f"grads.{name}", getattr(split, name), grad)


@law(families=NEAR, limits={"groups": 1, "G": 2}, needs=("offset groups",))
def offset_groups_split_channels(i: Implementation, problem: Problem) -> None:
    """y is the sum over offset groups, each on its own channels with its own offsets and mask."""
    problem = problem.with_(bias=None)
    halves = [_half(problem, g) for g in range(2)]
    first, second = (forward(i, half) for half in halves)
    assert_same("y", forward(i, problem), first + second)
    if has_backward(i, problem):
        grads, parts = backward(i, problem), [backward(i, half) for half in halves]
        for name, grad in given(grads, "x", "offset", "weight", "mask"):
            joined = np.concatenate([getattr(part, name) for part in parts], axis=1)
            assert_same(f"grads.{name}", grad, joined)


@law(families=NEAR, limits={"groups": 1, "G": 1, "channels": 3}, needs=("several channels",))
def channels_are_alike(i: Implementation, problem: Problem) -> None:
    """Channels of x may be listed in any order, together with those of the weight."""
    turned = problem.with_(x=problem.x[:, [2, 0, 1]], weight=problem.weight[:, [2, 0, 1]])
    assert_same("y", forward(i, turned), forward(i, problem))
    if has_backward(i, problem):
        grads, expected = backward(i, turned), backward(i, problem)
        for _, grad in given(expected, "x"):
            assert_same("grads.x", grads.x, grad[:, [2, 0, 1]])
        for name, grad in given(expected, "offset", "mask"):
            assert_same(f"grads.{name}", getattr(grads, name), grad)


@law(
    families=NEAR, limits={"padding": ((1, 1), (2, 1))},
    needs=(
        "the dcnv1 border", "the zero border", "padding", "uneven padding", "points not finite",
    ),
)  # fmt: skip
def dcnv1_repeats_the_edge(i: Implementation, problem: Problem) -> None:
    """border="dcnv1" is "zero" on a map with its last row and column repeated, and 0 outside."""
    s, on = problem.shape, (1,) * problem.shape.axes
    maps = (s.N, s.fields, s.axes, *s.output)
    p = layout.from_points(locations(problem.offset, s.geometry), s.geometry, problem.offset.shape)
    inside = (p.reshape(maps) >= 0) & (p.reshape(maps) < np.reshape(s.size, (s.axes, *on)))
    offset = problem.offset.reshape(maps)
    gated = np.where(inside.all(axis=2, keepdims=True), offset, np.inf)
    larger = problem.with_(
        x=np.pad(problem.x, ((0, 0), (0, 0), *((0, 1) for _ in on)), mode="edge"),
        offset=gated.reshape(problem.offset.shape).astype(problem.offset.dtype),
        border="zero",
        shape=s.limited(padding=tuple((before, after - 1) for before, after in s.padding)),
    )
    repeated = problem.with_(border="dcnv1")
    assert_same("y", forward(i, repeated), forward(i, larger))
    if has_backward(i, problem):
        grads, expected = backward(i, repeated), backward(i, larger)
        if takes_sides(i) or problem.family == "base":
            for _, grad in given(expected, "offset"):
                assert_same("grads.offset", grads.offset, grad)
        for _, grad in given(expected, "x"):
            for axis in range(2, grad.ndim):
                last = grad.shape[axis] - 1
                inner, edge, repeats = np.split(grad, [last - 1, last], axis)
                grad = np.concatenate([inner, edge + repeats], axis)
            assert_same("grads.x", grads.x, grad)


def not_finite(problem: Problem) -> Problem:
    """The problem with one offset in four infinite, huge or NaN."""
    return problem.with_(offset=strange_numbers(problem.seed, problem.offset))


@law(families=EXACT, needs=("points not finite",), prepare=not_finite)
def points_not_finite(i: Implementation, problem: Problem) -> None:
    """Infinite and huge p read 0 with derivative 0; NaN stays NaN, and none reaches x."""
    strange = not_finite(problem)
    assert_same("y", forward(i, strange), forward(REFERENCE, strange))
    if has_backward(i, problem):
        assert_right_grads(i, strange)
        for _, grad in given(backward(i, strange), "x"):
            said = "grads.x is not finite, though x, weight and mask are"
            assert_true(said, np.isfinite(grad).all())


@law(families=("base", "kinks", "far"), dtypes=("float16",), follows=False, needs=("float16",))
def halves_are_rounded_once(i: Implementation, problem: Problem) -> None:
    """float16 is computed in float32, with float32 offsets too, and rounded once at the end."""
    for offset in (problem.offset, problem.offset.astype(np.float32)):
        if offset.dtype != problem.x.dtype and "mixed dtypes" in i.lacks:
            continue
        mixed = problem.with_(offset=offset)
        exact = forward(REFERENCE, mixed.cast("float64"))
        assert_same("y", forward(i, mixed), exact.astype(np.float16))
        if has_backward(i, problem):
            assert_right_grads(i, mixed, offset=offset.dtype)


@law(families=EXACT, follows=False)
def the_same_call_gives_the_same(i: Implementation, problem: Problem) -> None:
    """The same exact problem gives the same bits again, whatever the memory held before."""
    assert_same("y, the second time", forward(i, problem), forward(i, problem))
    if has_backward(i, problem):
        assert_same_grads(backward(i, problem), backward(i, problem))


def ordinary(problem: Problem) -> Problem:
    """The problem with normally distributed numbers in place of its exact ones."""
    rng, dtype = np.random.default_rng(problem.seed), problem.x.dtype

    def normal(a: Any) -> Any:
        return None if a is None else rng.normal(size=a.shape).astype(dtype)

    changed = {name: normal(getattr(problem, name)) for name in NAMES}
    changed["offset"] = changed["offset"] * dtype.type(2)
    return problem.with_(**changed)


@law(families=NEAR, follows=False, prepare=ordinary)
def floats_stay_within_bounds(i: Implementation, problem: Problem) -> None:
    """On ordinary floats every result is within the bound derived in `bounds`."""
    problem = ordinary(problem)
    exact, tolerance = problem.cast("float64"), bounds.tolerances(problem, problem.x.dtype.name)
    assert_within("y", forward(i, problem), forward(REFERENCE, exact), tolerance.y)
    if has_backward(i, problem):
        expected = backward(REFERENCE, exact)
        for name, grad in given(backward(i, problem), *expected._fields):
            allowed = getattr(tolerance, name)
            assert_within(f"grads.{name}", grad, getattr(expected, name), allowed)


@law(families=("kinks",), gradients=True)
def kinks_give_a_one_sided_derivative(i: Implementation, problem: Problem) -> None:
    """Whatever the convention, at whole p the derivative lies between the two one-sided ones."""
    ends = [backward(REFERENCE, problem, side=side).offset for side in ("right", "left")]
    for _, offset in given(backward(i, problem), "offset"):
        assert_between("grads.offset", offset, np.minimum(*ends), np.maximum(*ends))


def _image(problem: Problem, name: str, n: int) -> Array | None:
    a = getattr(problem, name)
    return None if a is None else a[n : n + 1]


def _half(problem: Problem, g: int) -> Problem:
    """Offset group g of two, with its channels."""
    names = ("x", "offset", "mask", "weight")
    parts = {n: getattr(problem, n) for n in names if getattr(problem, n) is not None}
    cut = {name: np.split(a, 2, axis=1)[g] for name, a in parts.items()}
    return problem.with_(**cut, shape=problem.shape.limited(G=1))
