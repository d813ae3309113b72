"""Problems for RoI pooling. Most are exact: n_ij, the scale and the bins are powers of two.

How RoIs and offsets are drawn is in `roi_draws`: positions are multiples of 1/32, so that G is one
of 1/1024. As for the convolution, a certificate says that the operator on absolute values can be
counted exactly. Two families are judged by bounds: "means", whose points are exact but whose n_ij
is any number, and "floats", where all numbers are ordinary ones.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray as Array

from deformable_convnets.reference import roi_layout
from deformable_convnets.reference.geometry import RoiGeometry
from deformable_convnets.reference.roi_bins import bins_of

from . import roi_draws as draws
from .problems import EVERYTHING, MANTISSA, SPARE, Scope, strange_numbers
from .roi_coordinates import clear
from .roi_draws import NARROW, POSITION
from .roi_shapes import SHAPES, WORDS, RoiShape

__all__ = ["FAMILIES", "RULES", "SHAPES", "RoiProblem", "RoiRecipe", "RoiShape", "make"]

FAMILIES = ("odd", "kinks")  # exact; offsets keep every point off the kinks, or put it there
RULES = ("paper", "mxnet", "align")


@dataclass(frozen=True)
class RoiProblem:
    """The arguments of one call to `deform_ps_roi_pool` and its backward, in float64 and exact."""

    family: str
    shape: RoiShape
    seed: int
    bins: str
    x: Array
    rois: Array
    offset: Array | None
    grad_output: Array
    spatial_scale: float
    gamma: float
    samples: int | None
    without: tuple[str, ...] = ()

    @property
    def rule(self) -> dict[str, Any]:
        """The keywords that every RoI operator has."""
        return {"spatial_scale": self.spatial_scale, "bins": self.bins, "samples": self.samples}

    @property
    def geometry(self) -> RoiGeometry:
        s, P = self.shape, 1 if self.offset is None else self.shape.classes
        return RoiGeometry(
            s.output, s.Cout, s.group, s.part, P, self.spatial_scale, self.gamma, self.bins,
            1 if self.bins == "paper" else self.samples or 4,
        )  # fmt: skip

    def cast(self, dtype: str) -> "RoiProblem":
        """The same problem in another dtype; the values fit, so nothing changes."""
        arrays = {n: getattr(self, n) for n in ("x", "rois", "offset", "grad_output")}
        cast: dict[str, Any] = {
            k: None if a is None else a.astype(dtype) for k, a in arrays.items()
        }
        return replace(self, **cast)

    def with_(self, **changes: Any) -> "RoiProblem":
        return replace(self, **changes)

    def code(self) -> str:
        """Python that makes this problem again."""
        without = f", {self.without}" if self.without else ""
        return (
            f"roi_problems.make({self.family!r}, roi_problems.{self.shape}, {self.seed},"
            f" {self.bins!r}{without}).cast({self.x.dtype.name!r})"
        )


def make(
    family: str, shape: RoiShape, seed: int, bins: str, without: Collection[str] = ()
) -> RoiProblem:
    """The exact problem of a family, shape, seed and rule; zeros go in until it is certified.

    without  what it must not need, such as "offset", in the words of `features.WORDS`
    """
    rng, s = np.random.default_rng(seed), shape.without(without)
    if family not in FAMILIES:  # far from 0, rounding would explain nearly everything
        s = s.limited(size=tuple(min(n, NARROW) for n in s.size))
    at = draws.rule(rng, family, bins, without)
    n = rng.integers(0, max(s.N, 1), (s.rois, 1))
    maps = s.Cout * s.group[0] * s.group[1]
    rois, sizes = draws.exact_boxes(rng, s, at)
    problem = RoiProblem(
        family, s, seed, bins,
        x=rng.integers(-8, 9, (s.N, maps, *s.size)).astype(float),
        rois=np.concatenate([n, rois], axis=1),
        offset=draws.exact_offsets(rng, s, sizes, at),
        grad_output=rng.integers(-4, 5, (s.rois, s.Cout, *s.output)).astype(float),
        spatial_scale=at.scale, gamma=at.gamma, samples=at.samples,
        without=tuple(sorted(WORDS & set(without))),
    )  # fmt: skip
    if family == "floats":
        return _cleared(rng, problem, at)
    return _counted(rng, problem) if family in FAMILIES else problem


def _counted(rng: np.random.Generator, problem: RoiProblem) -> RoiProblem:
    """With zeros put in until it is certified."""
    while not certified(problem):
        keep = rng.integers(0, 2, problem.x.shape), rng.integers(0, 2, problem.grad_output.shape)
        problem = problem.with_(x=problem.x * keep[0], grad_output=problem.grad_output * keep[1])
    return problem


def _cleared(rng: np.random.Generator, problem: RoiProblem, at: draws.Rule) -> RoiProblem:
    """With ordinary RoIs and offsets, each drawn again until nothing jumps where it rounds."""
    s, drawn = problem.shape, np.ones(problem.shape.rois, bool)
    while drawn.any():
        rois = np.array(problem.rois)
        rois[drawn, 1:] = draws.ordinary_boxes(rng, s, at)[drawn]
        offset = draws.ordinary_offsets(rng, s, at)
        if offset is not None and problem.offset is not None:
            offset = np.where(drawn[:, None, None, None], offset, problem.offset)
        problem = problem.with_(rois=rois, offset=offset)
        drawn = ~clear(problem)
    return problem


def certified(problem: RoiProblem) -> bool:
    """Whether every result, on absolute values, leaves SPARE bits of float32."""
    at = bins_of(problem.x.shape, problem.rois, problem.offset, problem.geometry)
    most = float(at.count.max(initial=1))
    assert _powers_of_two(at.count), "n_ij must be a power of two"
    pixels = roi_layout.pixels(np.abs(problem.x), problem.geometry)
    grad = roi_layout.bins(np.abs(problem.grad_output), problem.geometry)
    y = (abs(at.M) @ pixels / at.count).max(initial=0)
    x = (abs(at.M).T @ (grad / at.count)).max(initial=0)
    slopes = [np.einsum("bc,bc->b", grad, abs(m) @ pixels / at.count) for m in (at.M_y, at.M_x)]
    offset = (np.stack(slopes, axis=1) * problem.gamma * np.abs(at.sizes)).sum(initial=0)
    limit = 2.0 ** (MANTISSA["float32"] - SPARE)
    unit, step = POSITION**2 / most, POSITION / most  # of G, and of dG/dp
    slope = step * 2.0 ** draws.twos(problem.gamma) / 2  # sizes are multiples of 1/2
    return bool(max(y, x) / unit < limit and offset / slope < limit)


def _powers_of_two(count: Array) -> bool:
    return bool((np.log2(count) == np.round(np.log2(count))).all())


def not_finite(problem: RoiProblem) -> RoiProblem:
    """The problem with one offset in four infinite, huge or NaN.

    Those of empty and inverted RoIs stay as they are: bins without points read nothing, so that 0
    is right there, and NaN, which the reference gives, is not wrong.
    """
    if problem.offset is None:
        return problem
    empty = np.any(problem.rois[:, 3:] <= problem.rois[:, 1:3], axis=1)
    strange = strange_numbers(problem.seed, problem.offset)
    strange[empty] = problem.offset[empty]
    return problem.with_(offset=strange)


def ordinary(problem: RoiProblem) -> RoiProblem:
    """The problem with normally distributed x and grad_output, at the same exact points."""
    rng, dtype = np.random.default_rng(problem.seed), problem.x.dtype
    x, grad = (rng.normal(size=a.shape).astype(dtype) for a in (problem.x, problem.grad_output))
    return problem.with_(x=x, grad_output=grad)


class RoiRecipe(NamedTuple):
    """What a problem is made from; Hypothesis draws this, and shrinks it."""

    family: str
    shape: RoiShape
    seed: int
    bins: str
    without: frozenset[str] = frozenset()

    def problem(self, dtype: str) -> RoiProblem:
        return make(*self).cast(dtype)


def recipes(
    *families: str, rules: tuple[str, ...] = RULES, scope: Scope = EVERYTHING, **limits: Any
) -> Any:
    """A Hypothesis strategy of recipes on the shapes above."""
    from hypothesis import strategies as st

    return st.builds(
        RoiRecipe,
        family=st.sampled_from(families),
        shape=st.sampled_from(SHAPES).map(lambda shape: shape.limited(**limits)),
        seed=st.integers(0, 2**32 - 1),
        bins=st.sampled_from(rules),
        without=st.just(scope.without),
    )


def of_each(
    seed: int, families: tuple[str, ...], rules: tuple[str, ...], dtype: str, scope: Scope,
    **limits: Any,
) -> list[RoiProblem]:  # fmt: skip
    """A problem of each of these families by each of these rules."""
    shape = SHAPES[seed % len(SHAPES)].limited(**limits)
    return [
        RoiRecipe(family, shape, seed, rule, scope.without).problem(dtype)
        for family in families
        for rule in rules
    ]


def some(
    count: int, *families: str, dtype: str, rules: tuple[str, ...] = RULES,
    scope: Scope = EVERYTHING, **limits: Any,
) -> list[RoiProblem]:  # fmt: skip
    """Problems without Hypothesis: each seed 0, 1, ... draws a family, shape and rule."""
    found = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        shape = SHAPES[rng.integers(len(SHAPES))].limited(**limits)
        family, rule = families[rng.integers(len(families))], rules[rng.integers(len(rules))]
        found.append(make(family, shape, seed, rule, scope.without).cast(dtype))
    return found
