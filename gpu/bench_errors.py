"""What makes the times of `bench` worth reading: the results beside the reference's.

First each version must equal the reference bit for bit, on small exact problems in every precision:
sums are exact in any order, and a result is rounded once. One that does not is not timed. Tiles,
and so kernels, depend on the layer: there the fused version must equal the staged one. Then the
relative error of every contestant in every precision, ||found - expected|| / ||expected||, on one
layer; expected is the reference in float64, given the arrays as rounded to the precision. A NaN
anywhere makes it NaN, which meets no target.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np

from deformable_convnets import reference

from . import arrays, bench_cases
from .bench_arrays import cast, values
from .bench_cases import BACKWARD, FORWARD, Case, Named, RoiShape, Shape
from .bench_contestants import Contestant
from .clocks import at_most

EXACT: list[tuple[str, Shape | RoiShape]] = [
    ("deform_conv2d", bench_cases.TOY),
    ("deform_conv2d", bench_cases.FUSED_TOY),
    ("deform_roi_pool", bench_cases.ROI_TOY),
    ("deform_ps_roi_pool", bench_cases.PS_ROI_TOY),
]
PARTS = (FORWARD, BACKWARD)
problem = lru_cache(maxsize=1)(bench_cases.problem)  # the exact one of a layer


def expected(case: Case, given: Named) -> Named:
    """The results of the reference in float64."""
    call = bench_cases.call(reference, case, cast(given, np.float64))
    return {name: np.asarray(a) for name, a in call().items()}


def relative(found: Any, right: Any) -> float:
    """The error of one array; NaN where the shapes differ or a number is not finite."""
    if found.shape != right.shape or not np.isfinite(found).all():
        return float("nan")
    return float(np.linalg.norm(found - right) / np.linalg.norm(right))


def disagreement(contestant: Contestant) -> str | None:
    """The first result of an exact problem in which a version of ours is wrong, or None."""
    for operator, shape in EXACT:
        if shape is bench_cases.FUSED_TOY and contestant.equals is None:
            continue  # it has the channels that tiles want
        for precision, part in product(bench_cases.PRECISIONS, PARTS):
            case = Case(operator, part, shape, precision, exact=True)
            if contestant.lacks(case) is not None:
                continue
            dtype = bench_cases.dtype(precision)
            given = cast(bench_cases.problem(shape, exact=True), dtype)
            right = cast(expected(case, given), dtype)
            for name, a in _results(contestant, case, given).items():
                if not np.array_equal(a, right[name].astype(np.float64)):
                    return (f"{name} of {operator} differs from the reference on an exact problem"
                            f" in {precision}")  # fmt: skip
    return None


def difference(case: Case, contestant: Contestant, other: Contestant) -> str | None:
    """In which result two contestants differ on an exact problem of a case's layer, or None.

    Its sums are exact in every precision, in any order; each result is rounded once.
    """
    given = cast(problem(case.shape, exact=True), bench_cases.dtype(case.precision))
    found, right = (
        _results(c, case._replace(exact=True), given, arrays.to_numpy) for c in (contestant, other)
    )
    for name, a in found.items():
        if not np.array_equal(a, right[name]):
            return f"{name} differs from that of {other.name} on an exact problem"
    return None


def cases(*, toy: bool = False) -> list[Case]:
    """Where errors are measured."""
    where: dict[str, Shape | RoiShape] = {
        "deform_conv2d": bench_cases.TOY if toy else bench_cases.ERRORS,
        "deform_roi_pool": bench_cases.ROI_TOY if toy else bench_cases.ROI,
    }
    return [
        Case(operator, part, shape, precision)
        for operator, shape in where.items()
        for precision in bench_cases.PRECISIONS
        if operator == "deform_conv2d" or precision != "tf32"
        for part in PARTS
    ]


def errors(case: Case, contestants: dict[str, Contestant]) -> Iterator[dict[str, Any]]:
    """A row for every result of every contestant that is judged."""
    dtype = bench_cases.dtype(case.precision)
    if dtype is None:
        return
    given = cast(bench_cases.problem(case.shape), dtype)
    right = expected(case, given)
    for name, contestant in contestants.items():
        if not contestant.judged or contestant.lacks(case) is not None:
            continue
        row = described(case) | {"contestant": name, "default": contestant.default(case)}
        try:
            with at_most(60):
                found = _results(contestant, case, given)
        except Exception as error:  # what a contestant raises is a result
            yield row | {"failed": f"{type(error).__name__}: {error}"[:200]}
            continue
        for result, a in found.items():
            yield row | {"result": result, "relative_error": relative(a, right[result])}


def described(case: Case) -> dict[str, Any]:
    """A case as the columns of a row."""
    return {
        "operator": case.operator, "part": case.part, "shape": case.shape.name,
        "precision": case.precision,
    }  # fmt: skip


def _results(
    contestant: Contestant, case: Case, given: Named, read: Callable[[Any], Any] = values
) -> Named:
    """Of one call, in host memory; in float64 unless they are read otherwise."""
    taken = {name: contestant.arrays.take(a) for name, a in given.items()}
    return {name: read(a) for name, a in contestant.prepare(case, taken)().items()}
