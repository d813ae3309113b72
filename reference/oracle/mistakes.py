"""The known mistakes: every wrong version of an operator that people really write, once each.

Each runs with the public signature of its operator, so it serves twice: `diagnose` finds which of
them explains a wrong result, and a suite of tests can be asked to reject them all.

    diagnose("deform_conv2d", result, x, offset, weight)  ->  "equals the x-first channel order"

A mistake may be invisible in a given call (a forgotten stride of 1 is no mistake); `diagnose` never
names one that gives the right answer there. The tables are in `mistakes_of_sampling`,
`mistakes_of_convolution`, `mistakes_of_volumes` and `mistakes_of_pooling`; how each is made wrong
is in `wrong_calls`, `wrong_gradients`, `wrong_sampling`, `wrong_numbers` and `wrong_pooling`.
"""

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .. import bilinear, convolution, deform_conv, modules, volumes
from . import wrong_pooling
from .mistakes_of_convolution import (
    DEFORM,
    DEFORM_BACKWARD,
    MODULE_BACKWARD,
    PLAIN,
    PLAIN_BACKWARD,
)
from .mistakes_of_pooling import POOLING
from .mistakes_of_sampling import SAMPLE, SAMPLE_BACKWARD
from .mistakes_of_volumes import VOLUME, VOLUME_BACKWARD
from .wrong_calls import Call, Wrong


class Mistake(NamedTuple):
    """A wrong operator: `run` takes the arguments of the right one. The name follows "equals"."""

    name: str
    run: Callable[..., Any]


OPERATORS: dict[str, tuple[Callable[..., Any], Wrong]] = {
    "conv2d": (convolution.conv2d, PLAIN),
    "conv2d_backward": (convolution.conv2d_backward, PLAIN_BACKWARD),
    "sample": (bilinear.sample, SAMPLE),
    "sample_backward": (bilinear.sample_backward, SAMPLE_BACKWARD),
    "deform_conv2d": (deform_conv.deform_conv2d, DEFORM),
    "deform_conv2d_backward": (deform_conv.deform_conv2d_backward, DEFORM_BACKWARD),
    "deform_conv3d": (volumes.deform_conv3d, VOLUME),
    "deform_conv3d_backward": (volumes.deform_conv3d_backward, VOLUME_BACKWARD),
    "deform_conv_module_backward": (modules.deform_conv_module_backward, MODULE_BACKWARD),
}


def mistake(op: Callable[..., Any], name: str, wrong: Callable[[Call], Any]) -> Mistake:
    return Mistake(name, quiet(lambda *args, **options: wrong(Call(op, args, options))))


def pooling_mistake(
    op: Callable[..., Any], name: str, wrong: Callable[[wrong_pooling.Call], Any]
) -> Mistake:
    run = quiet(lambda *args, **options: wrong(wrong_pooling.Call(op, args, options)))
    return Mistake(name, run)


def quiet(run: Callable[..., Any]) -> Callable[..., Any]:
    """Without warnings: a mistake may well overflow."""

    def quietly(*args: Any, **options: Any) -> Any:
        with np.errstate(all="ignore"):
            return run(*args, **options)

    return quietly


MISTAKES: dict[str, tuple[Mistake, ...]] = {
    name: tuple(mistake(op, *wrong) for wrong in table.items())
    for name, (op, table) in OPERATORS.items()
} | {
    name: tuple(pooling_mistake(op, *wrong) for wrong in table.items())
    for name, (op, table) in POOLING.items()
}


def diagnose(op: str, result: Any, *args: Any, **options: Any) -> str | None:
    """Which known mistakes give `result` on these arguments: "equals the ...", or None.

    op  a key of `MISTAKES`, or of one gradient alone: "deform_conv2d_backward.offset"
    """
    name, _, field = op.partition(".")
    right = (OPERATORS | POOLING)[name][0](*args, **options)
    pick = operator.attrgetter(field) if field else lambda grads: grads
    names = (m.name for m in MISTAKES[name] if explains(m, result, right, pick, args, options))
    return " or ".join(f"equals {n}" if i == 0 else n for i, n in enumerate(names)) or None


def explains(
    mistake: Mistake, result: Any, right: Any, pick: Callable[[Any], Any], args: Any, options: Any
) -> bool:
    """Whether the mistake gives `result` on these arguments, and the right operator does not."""
    wrong = pick(mistake.run(*args, **options))
    return same(result, wrong) and not same(pick(right), wrong)


def same(a: Any, b: Any) -> bool:
    """Equal arrays, or tuples of arrays, up to a few units in the last place of the largest."""
    if isinstance(b, tuple):
        return isinstance(a, tuple) and len(a) == len(b) and all(map(same, a, b))
    if a is None or b is None or np.shape(a) != np.shape(b):
        return a is b
    a, b = np.asarray(a), np.asarray(b)
    largest = np.abs(b[np.isfinite(b)]).max(initial=0)
    few = 64 * max(np.finfo(v.dtype).eps for v in (a, b) if v.dtype.kind == "f")
    return np.allclose(a, b, rtol=0, atol=few * largest, equal_nan=True)
