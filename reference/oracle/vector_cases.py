"""A case of the test vectors: arguments, results and bounds of one call and its backward.

An exact case has results that any right implementation reaches bit for bit; an ordinary one has
results in float64 and, for every element of them, the bound that is derived in `bounds` or
`roi_bounds`. `vector_list` says which cases there are, and `vectors` writes them to files.
"""

from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray as Array

from . import bounds, problems, roi_bounds, roi_problems
from .implementation import REFERENCE
from .laws_of_structure import ordinary
from .problems import Problem
from .roi_problems import RoiProblem, RoiShape
from .shapes import Shape

TWO_SIDED = ("p", "offset")  # what has a gradient of each side at kinks
Arrays = dict[str, Array]


class Case(NamedTuple):
    """One call and its backward. An argument that is not given is not there.

    bounds  by the name of a result and "_bound"; that of a gradient with two sides has no side
    """

    options: dict[str, Any]
    inputs: Arrays
    results: Arrays
    bounds: Arrays


@dataclass(frozen=True)
class Recipe:
    """What a case is made from: a problem, and whether ordinary numbers take its values' place.

    rule  the border of `sample` and the deformable convolutions; the bins of RoI pooling
    """

    operator: str
    family: str
    shape: Any
    rule: str
    seed: int
    dtype: str = "float32"
    ordinary: bool = False

    def code(self) -> str:
        """Python that makes the case again."""
        module = "roi_problems" if isinstance(self.shape, RoiShape) else "shapes"
        return (
            f"vector_cases.Recipe({self.operator!r}, {self.family!r}, {module}.{self.shape},"
            f" {self.rule!r}, {self.seed}, {self.dtype!r}, ordinary={self.ordinary}).case()"
        )

    def case(self) -> Case:
        """The arguments as they are, exact results in their dtype, ordinary ones in float64."""
        made = {
            "sample": _sample, "conv2d": _conv2d,
            "deform_conv2d": _deform_conv, "deform_conv3d": _deform_conv,
        }  # fmt: skip
        options, inputs, limits = made.get(self.operator, _roi_pool)(self)
        inputs = _tidy(inputs)
        wide = {name: a.astype(np.float64) for name, a in inputs.items()}
        found = results(self.operator, wide, options)
        if self.ordinary:
            return Case(options, inputs, _tidy(found), _tidy(limits()))
        return Case(options, inputs, _tidy(found, self.dtype), {})


def results(operator: str, inputs: Arrays, options: dict[str, Any]) -> dict[str, Any]:
    """y and all gradients by the reference, of the inputs and options of a case."""
    keywords: dict[str, Any] = {**inputs, **options}
    grad_output = keywords.pop("grad_output")
    for derived in ("groups", "offset_groups"):
        keywords.pop(derived, None)
    if "padding" in keywords:
        ends = keywords["padding"]
        keywords["padding"] = tuple(zip(ends[::2], ends[1::2], strict=True))
    if "samples" in keywords:
        keywords["samples"] = keywords["samples"] or None
    found = {"y": REFERENCE.call[operator](**keywords)}
    backward = REFERENCE.call[f"{operator}_backward"]
    grads = on_the_left = backward(grad_output, **keywords)
    if "side" in _parameters(f"{operator}_backward"):
        on_the_left = backward(grad_output, **keywords, side="left")
    for name, grad in grads._asdict().items():
        if name in TWO_SIDED:
            found |= {f"grad_{name}_right": grad, f"grad_{name}_left": getattr(on_the_left, name)}
        else:
            found[f"grad_{name}"] = grad
    return found


def _parameters(operator: str) -> list[str]:
    return list(signature(REFERENCE.call[operator]).parameters)


def _tidy(arrays: dict[str, Any], dtype: str | None = None) -> Arrays:
    """Without those that are None, in C order, and with 0 in place of -0."""
    given = {name: a for name, a in arrays.items() if a is not None}
    return {name: np.ascontiguousarray(a, dtype) + 0 for name, a in given.items()}


Made = tuple[dict[str, Any], dict[str, Any], Callable[[], dict[str, Any]]]
"""Options, inputs, and how to find the bounds."""


def _deform_conv(recipe: Recipe) -> Made:
    problem = _problem(recipe)
    names = ("x", "offset", "weight", "bias", "mask", "grad_output")
    options = _window(problem.shape) | {
        "border": problem.border,
        "groups": problem.shape.groups,
        "offset_groups": problem.shape.G,
    }
    inputs = {name: getattr(problem, name) for name in names}
    return options, inputs, lambda: _bounds(problem, recipe.dtype)


def _conv2d(recipe: Recipe) -> Made:
    """(1) is (2) with zero offset, so it has the bounds of that."""
    made = _problem(recipe)
    problem = made.with_(offset=0 * made.offset, mask=None)
    assert recipe.ordinary or problems.certified(problem)
    names = ("x", "weight", "bias", "grad_output")
    options = _window(problem.shape) | {"groups": problem.shape.groups}
    inputs = {name: getattr(problem, name) for name in names}
    return options, inputs, lambda: _bounds(problem, recipe.dtype) | {"grad_offset_bound": None}


def _sample(recipe: Recipe) -> Made:
    """(3) is (2) with one tap of weight 1 and a group per channel, so it has the bounds of that.

    The ordinary offsets are rounded, so that the points p0 + Delta p are exact in the dtype.
    """
    made = _problem(recipe)
    step = 2.0**-18 if recipe.dtype == "float32" else 2.0**-44
    problem = made.with_(
        weight=np.ones_like(made.weight), bias=None, mask=None,
        offset=(np.round(made.offset / step) * step).astype(recipe.dtype),
    )  # fmt: skip
    assert recipe.ordinary or problems.certified(problem)
    x, p, grad = problem.x[0], problem.points[0], problem.grad_output[0]

    def limits() -> dict[str, Any]:
        y, of_x, of_p, *_ = bounds.tolerances(problem, recipe.dtype)
        return {
            "y_bound": y[0], "grad_x_bound": of_x[0], "grad_p_bound": np.moveaxis(of_p[0], 0, -1)
        }  # fmt: skip

    return {"border": recipe.rule}, {"x": x, "p": p, "grad_output": grad}, limits


def _problem(recipe: Recipe) -> Problem:
    made = problems.make(recipe.family, recipe.shape, recipe.seed, border=recipe.rule)
    return ordinary(made.cast(recipe.dtype)) if recipe.ordinary else made.cast(recipe.dtype)


def _window(shape: Shape) -> dict[str, Any]:
    padding = [n for axis in shape.padding for n in axis]
    return {
        "stride": list(shape.stride), "padding": padding, "dilation": list(shape.dilation)
    }  # fmt: skip


def _bounds(problem: Problem, dtype: str) -> dict[str, Any]:
    fields = bounds.tolerances(problem, dtype)._asdict()
    return {("y" if name == "y" else f"grad_{name}") + "_bound": a for name, a in fields.items()}


def _roi_pool(recipe: Recipe) -> Made:
    """Any operator of RoI pooling; an offset that the problem has not is zero."""
    parameters = _parameters(recipe.operator)
    without = () if "offset" in parameters else ("offset",)
    problem = roi_problems.make(recipe.family, recipe.shape, recipe.seed, recipe.rule, without)
    s = problem.shape
    if "offset" in parameters and problem.offset is None:
        problem = problem.with_(offset=np.zeros((s.rois, 2 * s.classes, *s.part)))
    assert roi_problems.certified(problem)
    if recipe.ordinary:
        rng = np.random.default_rng(recipe.seed)
        x, grad = (rng.normal(size=a.shape) for a in (problem.x, problem.grad_output))
        problem = problem.with_(x=x, grad_output=grad)
    problem = problem.cast(recipe.dtype)
    options = {
        "output_size": list(s.output), "spatial_scale": problem.spatial_scale,
        "gamma": problem.gamma, "group_size": list(s.group), "part_size": list(s.part),
        "bins": problem.bins, "samples": problem.samples or 0,
    }  # fmt: skip
    options = {name: value for name, value in options.items() if name in parameters}
    inputs = {name: getattr(problem, name) for name in ("x", "rois", "offset", "grad_output")}
    return options, inputs, lambda: _roi_bounds(problem, recipe.dtype)


def _roi_bounds(problem: RoiProblem, dtype: str) -> dict[str, Any]:
    u = float(np.finfo(dtype).eps) / 2
    y, x, offset = roi_bounds.tolerances(problem.cast("float64"), u)
    of_offset = None if problem.offset is None else offset
    return {"y_bound": y, "grad_x_bound": x, "grad_offset_bound": of_offset}
