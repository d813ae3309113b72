"""Laws about groups, batches, borders, memory, points that are not finite, and ordinary floats."""

from typing import Any

import numpy as np
from numpy import ndarray as Array

from deformable_convnets.reference import sampling_points

from . import bounds
from .compare import assert_between, assert_same, assert_within
from .implementation import REFERENCE, Implementation
from .laws import EXACT, assert_same_grads, backward, forward, law, strange_numbers
from .problems import Problem

NAMES = ("x", "offset", "weight", "bias", "mask", "grad_output")


@law()
def images_are_independent(i: Implementation, problem: Problem) -> None:
    """Each image of a batch gives what it gives alone; their weight gradients add up."""
    y, grads = forward(i, problem), backward(i, problem)
    total = np.zeros_like(grads.weight)
    for n in range(problem.x.shape[0]):
        alone = problem.with_(**{
            name: _image(problem, name, n) for name in ("x", "offset", "mask", "grad_output")
        })  # fmt: skip
        assert_same(f"y[{n}]", forward(i, alone), y[n : n + 1])
        grads_n = backward(i, alone)
        assert_same(f"grads.x[{n}]", grads_n.x, grads.x[n : n + 1])
        assert_same(f"grads.offset[{n}]", grads_n.offset, grads.offset[n : n + 1])
        total += grads_n.weight
    assert_same("the sum of grads.weight", total, grads.weight)


@law(limits={"groups": 2})
def groups_are_blocks(i: Implementation, problem: Problem) -> None:
    """Weight groups are one group with a block-diagonal weight."""
    O, C_per_group, *kernel = problem.weight.shape
    whole = np.zeros((O, 2 * C_per_group, *kernel), problem.weight.dtype)
    blocks = [slice(0, C_per_group), slice(C_per_group, None)]
    for half, block in zip(np.split(np.arange(O), 2), blocks, strict=True):
        whole[half, block] = problem.weight[half]
    one = problem.with_(weight=whole, shape=problem.shape.limited(groups=1))
    assert_same("y", forward(i, problem), forward(i, one))
    split, joint = backward(i, problem), backward(i, one)
    for name in ("x", "offset"):
        assert_same(f"grads.{name}", getattr(split, name), getattr(joint, name))


@law(limits={"groups": 1, "G": 2})
def offset_groups_split_channels(i: Implementation, problem: Problem) -> None:
    """y is the sum over offset groups, each on its own channels with its own offsets and mask."""
    problem = problem.with_(bias=None)
    halves = [_half(problem, g) for g in range(2)]
    first, second = (forward(i, half) for half in halves)
    assert_same("y", forward(i, problem), first + second)
    grads, parts = backward(i, problem), [backward(i, half) for half in halves]
    for name in ("x", "offset", "weight"):
        joined = np.concatenate([getattr(part, name) for part in parts], axis=1)
        assert_same(f"grads.{name}", getattr(grads, name), joined)


@law(limits={"groups": 1, "G": 1, "channels": 3})
def channels_are_alike(i: Implementation, problem: Problem) -> None:
    """Channels of x may be listed in any order, together with those of the weight."""
    turned = problem.with_(x=problem.x[:, [2, 0, 1]], weight=problem.weight[:, [2, 0, 1]])
    assert_same("y", forward(i, turned), forward(i, problem))
    grads, expected = backward(i, turned), backward(i, problem)
    assert_same("grads.x", grads.x, expected.x[:, [2, 0, 1]])
    assert_same("grads.offset", grads.offset, expected.offset)


@law(limits={"padding": ((1, 1), (2, 1))})
def dcnv1_repeats_the_edge(i: Implementation, problem: Problem) -> None:
    """border="dcnv1" is "zero" on a map with its last row and column repeated, and 0 outside."""
    s = problem.shape
    p = sampling_points(problem.offset, s.kernel, **problem.options)
    inside = ((p >= 0) & (p < s.size)).all(axis=-1).reshape(s.N, s.fields, 1, *s.output)
    offset = problem.offset.reshape(s.N, s.fields, 2, *s.output)
    gated = np.where(inside, offset, np.inf).reshape(problem.offset.shape).astype(offset.dtype)
    larger = problem.with_(
        x=np.pad(problem.x, ((0, 0), (0, 0), (0, 1), (0, 1)), mode="edge"),
        offset=gated,
        border="zero",
        shape=problem.shape.limited(padding=((1, 0), (2, 0))),
    )
    given = problem.with_(border="dcnv1")
    assert_same("y", forward(i, given), forward(i, larger))
    grads, expected = backward(i, given), backward(i, larger)
    assert_same("grads.offset", grads.offset, expected.offset)
    folded = expected.x[:, :, :-1].copy()
    folded[:, :, -1] += expected.x[:, :, -1]
    folded[:, :, :, -2] += folded[:, :, :, -1]
    assert_same("grads.x", grads.x, folded[:, :, :, :-1])


@law(families=EXACT)
def points_not_finite(i: Implementation, problem: Problem) -> None:
    """Infinite and huge p read 0 with derivative 0; NaN stays NaN, and none reaches x."""
    strange = problem.with_(offset=strange_numbers(problem.seed, problem.offset))
    assert_same("y", forward(i, strange), forward(REFERENCE, strange))
    grads = backward(i, strange)
    assert_same_grads(grads, backward(REFERENCE, strange))
    assert np.isfinite(grads.x).all(), "grads.x is not finite, though x, weight and mask are"


@law(families=("base", "kinks", "far"), dtypes=("float16",), follows=False)
def halves_are_rounded_once(i: Implementation, problem: Problem) -> None:
    """float16 is computed in float32, with float32 offsets too, and rounded once at the end."""
    for offset in (problem.offset, problem.offset.astype(np.float32)):
        given = problem.with_(offset=offset)
        exact = given.cast("float64")
        assert_same("y", forward(i, given), forward(REFERENCE, exact).astype(np.float16))
        grads = backward(REFERENCE, exact)
        as_given = [
            None if v is None else v.astype(offset.dtype if name == "offset" else np.float16)
            for name, v in grads._asdict().items()
        ]
        assert_same_grads(backward(i, given), type(grads)(*as_given))


@law(follows=False)
def arguments_are_left_alone(i: Implementation, problem: Problem) -> None:
    """No argument is written to, whatever its memory order, read-only ones included."""
    given = {name: getattr(problem, name) for name in NAMES}
    kept = {name: None if a is None else a.copy() for name, a in given.items()}
    y, grads = forward(i, problem), backward(i, problem)
    for name, a in kept.items():
        if a is not None:
            assert_same(f"{name} after the call", given[name], a)
    strided = problem.with_(**{n: a if a is None else _strided(a) for n, a in given.items()})
    assert_same("y of strided, read-only arguments", forward(i, strided), y)
    assert_same_grads(backward(i, strided), grads)


@law(follows=False)
def floats_stay_within_bounds(i: Implementation, problem: Problem) -> None:
    """On ordinary floats every result is within the bound derived in `bounds`."""
    problem = ordinary(problem)
    exact, tolerance = problem.cast("float64"), bounds.tolerances(problem, problem.x.dtype.name)
    assert_within("y", forward(i, problem), forward(REFERENCE, exact), tolerance.y)
    grads = backward(i, problem)
    for name, expected in backward(REFERENCE, exact)._asdict().items():
        if expected is not None:
            got, allowed = getattr(grads, name), getattr(tolerance, name)
            assert_within(f"grads.{name}", got, expected, allowed)


@law(families=("kinks",))
def kinks_give_a_one_sided_derivative(i: Implementation, problem: Problem) -> None:
    """Whatever the convention, at whole p the derivative lies between the two one-sided ones."""
    ends = [backward(REFERENCE, problem, side=side).offset for side in ("right", "left")]
    got = backward(i, problem).offset
    assert_between("grads.offset", got, np.minimum(*ends), np.maximum(*ends))


def ordinary(problem: Problem) -> Problem:
    """The problem with normally distributed numbers in place of its exact ones."""
    rng, dtype = np.random.default_rng(problem.seed), problem.x.dtype

    def normal(a: Any) -> Any:
        return None if a is None else rng.normal(size=a.shape).astype(dtype)

    changed = {name: normal(getattr(problem, name)) for name in NAMES}
    changed["offset"] = changed["offset"] * dtype.type(2)
    return problem.with_(**changed)


def _image(problem: Problem, name: str, n: int) -> Array | None:
    a = getattr(problem, name)
    return None if a is None else a[n : n + 1]


def _half(problem: Problem, g: int) -> Problem:
    """Offset group g of two, with its channels."""
    names = ("x", "offset", "mask", "weight")
    parts = {n: getattr(problem, n) for n in names if getattr(problem, n) is not None}
    cut = {name: np.split(a, 2, axis=1)[g] for name, a in parts.items()}
    return problem.with_(**cut, shape=problem.shape.limited(G=1))


def _strided(a: Array) -> Array:
    """The same numbers, neither contiguous nor writable."""
    spread = np.zeros((*a.shape[:-1], 2 * a.shape[-1]), a.dtype)
    spread[..., ::2] = a
    spread.flags.writeable = False
    return spread[..., ::2]
