"""Problems that are large enough to be looked at, like the one on which a law is broken."""

import inspect
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

import deformable_convnets.reference as reference

from . import problems, roi_problems, shapes
from .calls import Record
from .diagnosis import Evidence
from .problems import Problem

SEEDS = range(12)
NEAR = 3 / 8  # of the offsets, so that arrows do not cross
SEEN = (4, 12)  # pixels of a map, along an axis, that need no larger one


def too_small(record: Record) -> bool:
    """Whether the map, or the kernel, of a call shows too little; or the map is too large."""
    a = record.arguments
    sizes = a["x"].shape[-2:]
    taps = a["weight"][0, 0].size if "weight" in a else 4
    return taps < 4 or min(sizes) < SEEN[0] or max(sizes) > SEEN[1]


def stages(evidence: Evidence, wrong: Record) -> Iterator[tuple[str, dict[str, Any]]]:
    """Python of larger problems, and the arguments of the operator's call on them."""
    for made, by in (_pools if evidence.law.pools else _convolutions)(evidence, wrong):
        problem = made.cast(evidence.dtype)
        code = f"problem = {problem.code()}"
        if by != 1 and problem.offset is not None:
            code += f"\nproblem = problem.with_(offset=problem.offset * {by})"
            problem = problem.with_(offset=problem.offset * problem.x.dtype.type(by))
        yield code, arguments(wrong, problem)


def arguments(wrong: Record, problem: Any) -> dict[str, Any]:
    """The arguments by name of a call of the same operator on a problem."""
    named = _of_pool(problem) if hasattr(problem, "rois") else _of_convolution(problem)
    if "p" in wrong.arguments:
        p = np.ascontiguousarray(problem.points.reshape(-1, 2)[:: problem.weight[0, 0].size])
        named |= {"x": problem.x[0], "p": p.astype(problem.x.dtype)}
        named["grad_output"] = np.resize(problem.grad_output, (len(problem.x[0]), len(p)))
    named |= {n: wrong.arguments[n] for n in ("side",) if n in wrong.arguments}
    takes = inspect.signature(getattr(reference, wrong.operator)).parameters
    return {name: named[name] for name in takes}


def _of_convolution(p: Problem) -> dict[str, Any]:
    names = ("x", "offset", "weight", "bias", "mask", "grad_output", "border")
    return {name: getattr(p, name) for name in names} | p.options


def _of_pool(p: Any) -> dict[str, Any]:
    names = ("x", "rois", "offset", "grad_output", "gamma")
    sizes = {"output_size": p.shape.output, "group_size": p.shape.group}
    part = None if p.offset is None else p.shape.part
    return {name: getattr(p, name) for name in names} | sizes | {"part_size": part} | p.rule


def _convolutions(e: Evidence, wrong: Record) -> Iterator[tuple[Problem, float]]:
    """Problems, and what their offsets are multiplied by."""
    small, border = e.found.problem, wrong.arguments.get("border", e.found.problem.border)
    sizes = shapes.SHAPES if e.scope.fixed_shapes else (_larger(small.shape),)
    for family, by in (("base", NEAR), ("base", 1.0), (small.family, 1.0)):
        for shape, seed in product(sizes, SEEDS):
            made = problems.make(family, shape, seed, border=border, without=e.scope.without)
            yield made, by


def _larger(s: shapes.Shape) -> shapes.Shape:
    """With 3x3 taps and a map of some 5x6 pixels; strides that fit a picture."""
    padding = s.padding if any(map(any, s.padding)) else ((1, 1), (1, 1))
    stride = tuple(min(n, 2) for n in s.stride)
    at_least = tuple(n // step for n, step in zip((5, 6), stride, strict=True))
    return s.limited(
        N=max(s.N, 1), kernel=(3, 3), stride=stride, padding=padding, at_least=at_least
    )


def _pools(e: Evidence, wrong: Record) -> Iterator[tuple[Any, float]]:
    """As `_convolutions`."""
    small = e.found.problem
    bins, shape = wrong.arguments["bins"], small.shape
    one = shape.limited(N=max(shape.N, 1), size=(6, 7), rois=max(shape.rois, 2))
    sizes = roi_problems.SHAPES if e.scope.fixed_shapes else (one,)
    for by, each, seed in product((NEAR, 1.0), sizes, SEEDS):
        yield roi_problems.make(small.family, each, seed, bins, e.scope.without), by
