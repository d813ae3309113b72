"""Laws about memory: arguments are read in any order of it, and are not written to."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import ndarray as Array

from . import laws, roi_laws
from . import laws_of_parts as parts
from .compare import assert_same
from .implementation import Implementation
from .law import assert_same_grads, law
from .laws import NEAR
from .problems import Problem
from .roi_problems import FAMILIES, RoiProblem

Given = dict[str, Any]  # arrays by the names of the arguments, or None
Call = Callable[..., Any]  # of them by name


@law(families=NEAR, follows=False, bare=True)
def arguments_are_left_alone(i: Implementation, problem: Problem) -> None:
    """No argument is written to, whatever its memory order, read-only ones included."""
    names = ("x", "offset", "weight", "bias", "mask", "grad_output")
    _assert_left_alone(
        i, problem.operator, {name: getattr(problem, name) for name in names},
        lambda **a: laws.forward(i, problem, **a), lambda **a: laws.backward(i, problem, **a),
    )  # fmt: skip


@law(operator=roi_laws.Y, families=FAMILIES, follows=False, bare=True)
def pooling_leaves_its_arguments_alone(i: Implementation, problem: RoiProblem) -> None:
    """No argument is written to, whatever its memory order, read-only ones included."""
    names = ("x", "rois", "offset", "grad_output")
    _assert_left_alone(
        i, roi_laws.Y, {name: getattr(problem, name) for name in names},
        lambda **a: roi_laws.forward(i, problem, **a),
        lambda **a: roi_laws.backward(i, problem, **a),
    )  # fmt: skip


@law(families=NEAR, follows=False, bare=True, **parts.SAMPLE)
def sample_leaves_its_arguments_alone(i: Implementation, problem: Problem) -> None:
    """No argument is written to, whatever its memory order, read-only ones included."""
    names, border = ("x", "p", "grad_output"), problem.border
    _assert_left_alone(
        i, "sample", dict(zip(names, parts.sample_arguments(problem), strict=True)),
        lambda x, p, grad_output: i.sample(x, p, border=border),
        lambda x, p, grad_output: i.sample_backward(grad_output, x, p, border=border),
    )  # fmt: skip


@law(families=NEAR, follows=False, bare=True, **parts.CONV2D)
def conv2d_leaves_its_arguments_alone(i: Implementation, problem: Problem) -> None:
    """No argument is written to, whatever its memory order, read-only ones included."""
    names = ("x", "weight", "bias", "grad_output")
    _assert_left_alone(
        i, "conv2d", {name: getattr(problem, name) for name in names},
        lambda **a: parts.conv2d_forward(i, problem.with_(**a)),
        lambda **a: parts.conv2d_gradients(i, problem.with_(**a)),
    )  # fmt: skip


def _assert_left_alone(
    i: Implementation, operator: str, arrays: Given, forward: Call, backward: Call
) -> None:
    """It writes to none of them, and gives the same for the same numbers in all LAYOUTS."""
    kept = {name: None if a is None else a.copy() for name, a in arrays.items()}
    y = forward(**arrays)
    grads = backward(**arrays) if i.offers(f"{operator}_backward") else None
    for name, a in kept.items():
        if a is not None:
            assert_same(f"{name} after the call", arrays[name], a)
    if "strided arrays" in i.lacks:
        return
    for how, laid in LAYOUTS.items():
        others = {name: None if a is None else laid(a) for name, a in arrays.items()}
        assert_same(f"y of {how}, read-only arguments", forward(**others), y)
        if grads is not None:
            assert_same_grads(backward(**others), grads)


def _strided(a: Array) -> Array:
    """The same numbers, neither contiguous nor writable; what lies between them is NaN."""
    spread = np.full((*a.shape[:-1], 2 * a.shape[-1]), np.nan, a.dtype)
    spread[..., ::2] = a
    spread.flags.writeable = False
    return spread[..., ::2]


def _fortran(a: Array) -> Array:
    """The same numbers, the first axis innermost, not writable."""
    turned = np.array(a, order="F")
    turned.flags.writeable = False
    return turned


LAYOUTS = {"strided": _strided, "Fortran-ordered": _fortran}
