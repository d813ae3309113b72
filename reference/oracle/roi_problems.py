"""Exact problems for RoI pooling: n_ij, gamma, the scale and the bins are powers of two.

A RoI is k bins of 2^a pixels long (or k + 1 pixels, whose overlapping bins have two points each),
or empty, or inverted. Positions are multiples of 1/16, so that G is one of 1/256. As for the
convolution, a certificate says that the operator on absolute values can be counted exactly.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray as Array

from deformable_convnets.reference import roi_layout
from deformable_convnets.reference.geometry import Pair, RoiGeometry
from deformable_convnets.reference.roi_bins import bins_of

from .problems import EVERYTHING, MANTISSA, SPARE, Scope, strange_numbers
from .shapes import brief

POSITION = 1 / 16
FAMILIES = ("odd", "kinks")  # offsets that keep every point off the kinks, or put it there
RULES = ("paper", "mxnet", "align")
WORDS = {
    "offset", "spatial_scale", "inverted or empty rois", "unequal axes", "score maps",
    "maps unlike bins", "parts unlike bins", "class groups", "no rois", "several rois",
    "several images",
}  # fmt: skip


@dataclass(frozen=True, repr=False)
class RoiShape:
    """The sizes of one call; channels are given per class group and score map."""

    N: int = 1
    size: Pair = (5, 6)
    rois: int = 2
    output: Pair = (2, 3)
    group: Pair = (1, 1)
    part: Pair = (2, 3)
    classes: int = 1
    channels: int = 2

    def __repr__(self) -> str:
        return brief(self)

    @property
    def Cout(self) -> int:
        return self.classes * self.channels

    def limited(self, **fields: Any) -> "RoiShape":
        return replace(self, **fields)

    def without(self, lacks: Collection[str]) -> "RoiShape":
        """The nearest shape that needs none of these words of `features.WORDS`."""
        shape = self
        if "unequal axes" in lacks:
            square: dict[str, Any] = {
                n: (getattr(self, n)[0],) * 2 for n in ("output", "group", "part")
            }
            shape = replace(shape, **square)
        if "score maps" in lacks:
            shape = replace(shape, group=(1, 1))
        elif "maps unlike bins" in lacks:
            shape = replace(shape, group=shape.output)
        if "parts unlike bins" in lacks:
            shape = replace(shape, part=shape.output)
        if "class groups" in lacks:
            shape = replace(shape, classes=1)
        if "no rois" in lacks or "several rois" in lacks:
            shape = replace(shape, rois=max(shape.rois, 1) if "several rois" not in lacks else 1)
        return replace(shape, N=1) if "several images" in lacks else shape


SHAPES = (
    RoiShape(),
    RoiShape(2, (4, 7), 3, (2, 2), (2, 1), (1, 2), 2, 1),
    RoiShape(1, (6, 3), 2, (3, 1), (1, 1), (3, 1), 1, 3),
    RoiShape(2, (3, 4), 3, (1, 2), (1, 2), (2, 2), 1, 1),
    RoiShape(1, (1, 1), 2, (2, 2), (2, 2), (2, 2), 1, 1),
    RoiShape(2, (5, 5), 0, (2, 3), (1, 1), (1, 1), 1, 1),
    RoiShape(1, (7, 5), 2, (1, 1), (1, 1), (1, 1), 2, 1),
    RoiShape(2, (6, 7), 3, (3, 4), (2, 3), (2, 3), 2, 2),
    RoiShape(1, (3, 1200), 6, (1, 2), (1, 1), (1, 2), 1, 1),  # coordinates beyond half precision
)


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
            self.samples or 1,
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
    scale = 1.0 if "spatial_scale" in without else float(rng.choice([1.0, 0.5, 0.25]))
    gamma, whole = float(rng.choice([1 / 4, 1 / 2, 1 / 8])), bins == "mxnet"
    (y, h), (x, w) = (_sides(rng, s, axis, bins) for axis in (0, 1))
    if "inverted or empty rois" in without:
        h, w = (np.where(sides > 0, sides, k) for sides, k in zip((h, w), s.output, strict=True))
    last = 1.0 if whole else 0.0  # "mxnet" counts the last row and column
    rois = np.stack([x / scale, y / scale, (x + w) / scale - last, (y + h) / scale - last], axis=1)
    n = rng.integers(0, max(s.N, 1), (s.rois, 1))
    maps = s.Cout * s.group[0] * s.group[1]
    counts = [1, 2, 4] if bins == "align" and family == "kinks" else [1, 2]
    problem = RoiProblem(
        family, s, seed, bins,
        x=rng.integers(-8, 9, (s.N, maps, *s.size)).astype(float),
        rois=np.concatenate([n, rois], axis=1),
        offset=_offsets(family, rng, s, np.stack([h, w], axis=1), gamma, without),
        grad_output=rng.integers(-4, 5, (s.rois, s.Cout, *s.output)).astype(float),
        spatial_scale=scale,
        gamma=gamma,
        samples=None if bins == "paper" else int(rng.choice(counts)),
        without=tuple(sorted(WORDS & set(without))),
    )  # fmt: skip
    while not certified(problem):
        keep = rng.integers(0, 2, problem.x.shape), rng.integers(0, 2, problem.grad_output.shape)
        problem = problem.with_(x=problem.x * keep[0], grad_output=problem.grad_output * keep[1])
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
    unit = POSITION**2 / most
    return bool(max(y, x) / unit < limit and offset / (unit * problem.gamma / 2) < limit)


def _powers_of_two(count: Array) -> bool:
    return bool((np.log2(count) == np.round(np.log2(count))).all())


def _sides(rng: np.random.Generator, s: RoiShape, axis: int, bins: str) -> tuple[Array, Array]:
    """Starts and lengths on one axis: some outside the map, one in eight empty or inverted."""
    k, n, whole = s.output[axis], s.size[axis], bins == "mxnet"
    start = rng.integers(-3, n + 2, s.rois) + (0 if whole else rng.integers(0, 4, s.rois) / 4)
    length = k * 2.0 ** rng.integers(0 if whole else -1, 3, s.rois)
    if bins == "paper":
        length = np.where(rng.random(s.rois) < 1 / 4, k + 1.0, length)
    if not whole:
        length = np.where(rng.random(s.rois) < 1 / 8, rng.choice([0.0, -k]), length)
    return start, length


def _offsets(
    family: str, rng: np.random.Generator, s: RoiShape, sizes: Array, gamma: float,
    without: Collection[str],
) -> Array | None:  # fmt: skip
    """Normalised offsets that move bins by whole (kinks) or odd (odd) sixteenths of a pixel."""
    if (rng.integers(0, 4) == 0 and family == "kinks") or "offset" in without:
        return None
    steps = rng.integers(-24, 25, (s.rois, s.classes, 2, *s.part))
    steps = 2 * steps + 1 if family == "odd" else 4 * steps
    lengths = np.abs(sizes).reshape(s.rois, 1, 2, 1, 1)
    exponents = [_twos(length) for length in np.where(lengths > 0, lengths, 1).ravel()]
    twos = 2.0 ** np.array(exponents).reshape(lengths.shape)
    return (steps * POSITION / (gamma * twos)).reshape(s.rois, 2 * s.classes, *s.part)


def _twos(value: float) -> int:
    """The exponent of the largest power of two that divides a dyadic number."""
    numerator, denominator = float(value).as_integer_ratio()
    return (numerator & -numerator).bit_length() - denominator.bit_length()


def not_finite(problem: RoiProblem) -> RoiProblem:
    """The problem with one offset in four infinite, huge or NaN."""
    if problem.offset is None:
        return problem
    return problem.with_(offset=strange_numbers(problem.seed, problem.offset))


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
