"""Exact problems: every value is a small dyadic number, so any right implementation agrees.

All products and partial sums are exact in the dtype, in any order, atomics included; what is
compared is compared bit for bit. Every problem carries a certificate: the operator on absolute
values stays two bits below what the dtype can count, in units of its last place.

A problem is made from a family, a shape and a seed, so `Problem.code()` is a reproducer.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray as Array

from . import bounds, draws
from .draws import FAMILIES
from .shapes import WORDS, Shape, shapes
from .volume_shapes import FIXED, LISTED

MANTISSA = {"float32": 24, "float64": 53, "float16": 24}  # float16 is computed in float32
SPARE = 2


class Scope(NamedTuple):
    """Which problems are drawn: what an implementation supports.

    without  words of `features.WORDS` that no problem may need
    borders, bins  the rules at the edge, and for the points of RoI bins
    fixed_shapes   only those of LISTED, for kernels that are compiled for each shape
    """

    without: frozenset[str] = frozenset()
    borders: tuple[str, ...] = ("zero", "dcnv1")
    bins: tuple[str, ...] = ("paper", "mxnet", "align")
    fixed_shapes: bool = False


EVERYTHING = Scope()


@dataclass(frozen=True)
class Problem:
    """The arguments of one call to `deform_conv2d` and its backward, in float64 and exact.

    Those of a shape with three axes are of `deform_conv3d`.
    """

    family: str
    shape: Shape
    seed: int
    x: Array
    offset: Array
    weight: Array
    bias: Array | None
    mask: Array | None
    grad_output: Array
    border: str = "zero"
    without: tuple[str, ...] = ()

    @property
    def operator(self) -> str:
        """Whose arguments they are."""
        return f"deform_conv{self.shape.axes}d"

    @property
    def options(self) -> dict[str, Any]:
        """stride, padding and dilation."""
        s = self.shape
        return {"stride": s.stride, "padding": s.padding, "dilation": s.dilation}

    def cast(self, dtype: str) -> "Problem":
        """The same problem in another dtype; the values fit, so nothing changes."""
        a = {n: getattr(self, n) for n in ("x", "offset", "weight", "bias", "mask", "grad_output")}
        cast: dict[str, Any] = {k: v if v is None else v.astype(dtype) for k, v in a.items()}
        return replace(self, **cast)

    def with_(self, **changes: Any) -> "Problem":
        return replace(self, **changes)

    def code(self) -> str:
        """Python that makes this problem again (before any law changed it)."""
        without = f", without={self.without}" if self.without else ""
        return (
            f"problems.make({self.family!r}, shapes.{self.shape}, seed={self.seed},"
            f" border={self.border!r}{without}).cast({self.x.dtype.name!r})"
        )

    @cached_property
    def points(self) -> Array:
        """Some sampling points for `sample`: those of the first image and offset group."""
        from deformable_convnets.reference import sampling_points

        kernel: Any = self.shape.kernel
        return sampling_points(self.offset, kernel, **self.options)[0, 0]


def make(
    family: str, shape: Shape, seed: int, *, border: str = "zero", without: Collection[str] = ()
) -> Problem:
    """The exact problem of a family, shape and seed; zeros are put in until it is certified.

    without  what it must not need, such as "mask" or "groups", in the words of `features.WORDS`
    """
    f, rng = FAMILIES[family], np.random.default_rng(seed)
    fixed = FIXED[shape.axes].get(family, (shape,))
    s = fixed[seed % len(fixed)].without(without)

    def whole(limit: int, *size: int) -> Array:
        return rng.integers(-limit, limit + 1, size).astype(np.float64)

    problem = Problem(
        family, s, seed,
        x=whole(f.x, s.N, s.C, *s.size),
        offset=draws.offsets(family, rng, s),
        weight=whole(f.weight, s.O, s.C // s.groups, *s.kernel),
        bias=_unless("bias" in without, whole(f.weight, s.O) if rng.integers(0, 2) else None),
        mask=_unless("mask" in without, draws.mask(f, rng, (s.N, s.fields, *s.output))),
        grad_output=whole(f.grad, s.N, s.O, *s.output),
        border=border, without=tuple(sorted({"bias", "mask", *WORDS} & set(without))),
    )  # fmt: skip
    while not certified(problem):
        problem = problem.with_(
            x=problem.x * rng.integers(0, 2, problem.x.shape),
            grad_output=problem.grad_output * rng.integers(0, 2, problem.grad_output.shape),
        )
    return problem


def certified(problem: Problem) -> bool:
    """Whether every result, on absolute values, leaves SPARE bits in the narrowest dtype."""
    f, axes = FAMILIES[problem.family], problem.shape.axes
    m = 1 / 4 if problem.mask is not None else 1
    G, dG = f.step**axes, f.step ** (axes - 1)
    unit = {"y": m * G, "x": m * G, "weight": m * G, "offset": m * dG, "mask": G, "bias": 1}
    bits = min(MANTISSA[dtype] for dtype in f.dtypes) - SPARE
    largest = bounds.magnitudes(problem)
    return all(
        a is None or a.size == 0 or a.max() / unit[name] < 2**bits
        for name, a in largest._asdict().items()
    )


def _unless(lacking: bool, a: Array | None) -> Array | None:
    return None if lacking else a


def strange_numbers(seed: int, a: Array) -> Array:
    """The array with one number in four infinite, huge or NaN."""
    rng = np.random.default_rng(seed)
    with np.errstate(over="ignore"):  # 1e30 is infinite in float16
        odd = rng.choice([np.inf, -np.inf, 1e30, -1e30, np.nan], a.shape).astype(a.dtype)
    return np.where(rng.random(a.shape) < 1 / 4, odd, a)


def _drawn(families: tuple[str, ...], dtype: str, scope: Scope = EVERYTHING) -> list[str]:
    """The families that `dtype` can hold; ValueError for an unknown name, or if none is left."""
    unknown = [family for family in families if family not in FAMILIES]
    if unknown:
        raise ValueError(f"there is no family {unknown[0]!r}, only {', '.join(FAMILIES)}")
    drawn = [family for family in families if dtype in FAMILIES[family].dtypes]
    if not drawn:
        raise ValueError(f"no family of {families} holds dtype {dtype!r}")
    if scope.without & {"stride", "unequal axes"}:  # the far shapes have large strides on one axis
        drawn = [family for family in drawn if family not in ("far", "across")]
    if scope.fixed_shapes:  # each would have to be compiled
        drawn = [family for family in drawn if family != "large"]
    return drawn


class Recipe(NamedTuple):
    """What a problem is made from; Hypothesis draws this, and shrinks it."""

    family: str
    shape: Shape
    seed: int
    border: str
    without: frozenset[str] = frozenset()

    def problem(self, dtype: str) -> Problem:
        made = make(self.family, self.shape, self.seed, border=self.border, without=self.without)
        return made.cast(dtype)


def recipes(
    *families: str, dtype: str, scope: Scope = EVERYTHING, axes: int = 2, **limits: Any
) -> Any:
    """A Hypothesis strategy of recipes for problems of these families that `dtype` can hold.

    axes    2 for maps, 3 for volumes
    limits  fields of `Shape` that a law needs to have a certain value, such as groups=1
    """
    from hypothesis import strategies as st

    listed = st.sampled_from(LISTED[axes])
    drawn = listed if scope.fixed_shapes else st.one_of(listed, shapes(axes))
    return st.builds(
        Recipe,
        family=st.sampled_from(_drawn(families, dtype, scope)),
        shape=drawn.map(lambda shape: shape.limited(**limits)),
        seed=st.integers(0, 2**32 - 1),
        border=st.sampled_from(scope.borders),
        without=st.just(scope.without),
    )


def of_each(
    seed: int, families: tuple[str, ...], dtype: str, scope: Scope, axes: int = 2, **limits: Any
) -> list[Problem]:
    """A problem of each of these families that `dtype` can hold."""
    shape, border = LISTED[axes][seed % len(LISTED[axes])], scope.borders[seed % len(scope.borders)]
    return [
        Recipe(family, shape.limited(**limits), seed, border, scope.without).problem(dtype)
        for family in _drawn(families, dtype, scope)
    ]


def some(
    count: int, *families: str, dtype: str, scope: Scope = EVERYTHING, axes: int = 2, **limits: Any
) -> list[Problem]:
    """Problems without Hypothesis: each seed 0, 1, ... draws a family, shape and border."""
    drawn, listed = _drawn(families, dtype, scope), LISTED[axes]
    found = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        shape = listed[rng.integers(len(listed))].limited(**limits)
        border = scope.borders[rng.integers(len(scope.borders))]
        family = drawn[rng.integers(len(drawn))]
        made = make(family, shape, seed, border=border, without=scope.without)
        found.append(made.cast(dtype))
    return found
