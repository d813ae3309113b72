"""Exact problems: every value is a small dyadic number, so any right implementation agrees.

All products and partial sums are exact in the dtype, in any order, atomics included; what is
compared is compared bit for bit. Every problem carries a certificate: the operator on absolute
values stays two bits below what the dtype can count, in units of its last place.

A problem is made from a family, a shape and a seed, so `Problem.code()` is a reproducer.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray as Array

from . import bounds
from .shapes import FAR, SHAPES, Shape, shapes

MANTISSA = {"float32": 24, "float64": 53, "float16": 24}  # float16 is computed in float32
SPARE = 2


class Family(NamedTuple):
    """The ranges of the values: integers up to so much, masks in quarters, offsets in `step`s."""

    x: int = 8
    weight: int = 4
    grad: int = 4
    mask: bool = True
    step: float = 1 / 8  # offsets are odd multiples of it, but for `kinks`
    reach: int = 3  # offsets go so many pixels in each direction
    odd: bool = True
    dtypes: tuple[str, ...] = ("float32", "float64", "float16")


FAMILIES = {
    "base": Family(),
    "kinks": Family(step=1 / 2, odd=False),
    "wide-x": Family(x=511, weight=1, grad=1, mask=False, dtypes=("float32", "float64")),
    "wide-w": Family(x=1, weight=4095, grad=1, mask=False, dtypes=("float32", "float64")),
    "f64": Family(x=2**19 - 1, weight=2**11 - 1, dtypes=("float64",)),
    "far": Family(),  # on the shapes FAR: coordinates up to 2060
}


@dataclass(frozen=True)
class Problem:
    """The arguments of one call to `deform_conv2d` and its backward, in float64 and exact."""

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
        return (
            f"problems.make({self.family!r}, shapes.{self.shape}, seed={self.seed},"
            f" border={self.border!r}).cast({self.x.dtype.name!r})"
        )

    @cached_property
    def points(self) -> Array:
        """Some sampling points for `sample`: those of the first image and offset group."""
        from deformable_convnets.reference import sampling_points

        s = self.shape
        return sampling_points(self.offset, s.kernel, **self.options)[0, 0]


def make(family: str, shape: Shape, seed: int, *, border: str = "zero") -> Problem:
    """The exact problem of a family, shape and seed; zeros are put in until it is certified."""
    f, rng = FAMILIES[family], np.random.default_rng(seed)
    s = FAR[seed % len(FAR)] if family == "far" else shape
    Ho, Wo = s.output

    def whole(limit: int, *size: int) -> Array:
        return rng.integers(-limit, limit + 1, size).astype(np.float64)

    problem = Problem(
        family, s, seed,
        x=whole(f.x, s.N, s.C, *s.size),
        offset=_offsets(f, rng, (s.N, 2 * s.fields, Ho, Wo), 4 + max(s.size)),
        weight=whole(f.weight, s.O, s.C // s.groups, *s.kernel),
        bias=whole(f.weight, s.O) if rng.integers(0, 2) else None,
        mask=_mask(f, rng, (s.N, s.fields, Ho, Wo)),
        grad_output=whole(f.grad, s.N, s.O, Ho, Wo),
        border=border,
    )  # fmt: skip
    while not certified(problem):
        problem = problem.with_(
            x=problem.x * rng.integers(0, 2, problem.x.shape),
            grad_output=problem.grad_output * rng.integers(0, 2, problem.grad_output.shape),
        )
    return problem


def certified(problem: Problem) -> bool:
    """Whether every result, on absolute values, leaves SPARE bits in the narrowest dtype."""
    f = FAMILIES[problem.family]
    m = 1 / 4 if problem.mask is not None else 1
    G, dG = f.step**2, f.step
    unit = {"y": m * G, "x": m * G, "weight": m * G, "offset": m * dG, "mask": G, "bias": 1}
    bits = min(MANTISSA[dtype] for dtype in f.dtypes) - SPARE
    largest = bounds.magnitudes(problem)
    return all(
        a is None or a.size == 0 or a.max() / unit[name] < 2**bits
        for name, a in largest._asdict().items()
    )


def _offsets(f: Family, rng: np.random.Generator, size: tuple[int, ...], outside: int) -> Array:
    """Within `reach` of the grid; in half of the problems one in eight is outside any map."""
    steps = int(f.reach / f.step)
    offset = rng.integers(-steps, steps + 1, size) * f.step
    if f.odd:
        offset = np.floor(offset / (2 * f.step)) * (2 * f.step) + f.step
    jump = rng.integers(-1, 2, size) * (rng.random(size) < 1 / 8)
    return offset + jump * outside * rng.integers(0, 2)


def _mask(f: Family, rng: np.random.Generator, size: tuple[int, ...]) -> Array | None:
    """Quarters from 0 to 1, in half of the problems of a family that has masks."""
    wanted = f.mask and rng.integers(0, 2) == 1
    return rng.integers(0, 5, size) / 4 if wanted else None


def _drawn(families: tuple[str, ...], dtype: str) -> list[str]:
    """The families that `dtype` can hold; ValueError for an unknown name, or if none is left."""
    unknown = [family for family in families if family not in FAMILIES]
    if unknown:
        raise ValueError(f"there is no family {unknown[0]!r}, only {', '.join(FAMILIES)}")
    drawn = [family for family in families if dtype in FAMILIES[family].dtypes]
    if not drawn:
        raise ValueError(f"no family of {families} holds dtype {dtype!r}")
    return drawn


class Recipe(NamedTuple):
    """What a problem is made from; Hypothesis draws this, and shrinks it."""

    family: str
    shape: Shape
    seed: int
    border: str

    def problem(self, dtype: str) -> Problem:
        return make(self.family, self.shape, self.seed, border=self.border).cast(dtype)


def recipes(*families: str, dtype: str, fixed_shapes: bool, **limits: Any) -> Any:
    """A Hypothesis strategy of recipes for problems of these families that `dtype` can hold.

    limits  fields of `Shape` that a law needs to have a certain value, such as groups=1
    """
    from hypothesis import strategies as st

    return st.builds(
        Recipe,
        family=st.sampled_from(_drawn(families, dtype)),
        shape=(st.sampled_from(SHAPES) if fixed_shapes else shapes()).map(
            lambda shape: shape.limited(**limits)
        ),
        seed=st.integers(0, 2**32 - 1),
        border=st.sampled_from(["zero", "dcnv1"]),
    )


def some(count: int, *families: str, dtype: str, **limits: Any) -> list[Problem]:
    """Problems without Hypothesis: each seed 0, 1, ... draws a family, shape and border."""
    drawn = _drawn(families, dtype)
    found = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        shape = SHAPES[rng.integers(len(SHAPES))].limited(**limits)
        border = ("zero", "dcnv1")[rng.integers(2)]
        found.append(make(drawn[rng.integers(len(drawn))], shape, seed, border=border).cast(dtype))
    return found
