"""The known mistakes: every wrong version of an operator that people really write, once each.

Each runs with the public signature of its operator, so it serves twice: `diagnose` finds which of
them explains a wrong result, and a suite of tests can be asked to reject them all.

    diagnose("deform_conv2d", result, x, offset, weight)  ->  "equals the x-first channel order"

A mistake may be invisible in a given call (a forgotten stride of 1 is no mistake); `diagnose` never
names one that gives the right answer there. How each is made wrong is in `wrong_calls`.
"""

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .. import bilinear, convolution, deform_conv, modules
from ..geometry import R, centres
from .wrong_calls import (
    Call,
    Wrong,
    branch_term,
    by_columns,
    by_tap,
    deform_last_written,
    last_image,
    sample_last_written,
    sides,
    split,
    strided_groups,
    strided_offset_groups,
    turned,
    weight_by_columns,
    with_offset,
    with_points,
    yx,
)


class Mistake(NamedTuple):
    """A wrong operator: `run` takes the arguments of the right one. The name follows "equals"."""

    name: str
    run: Callable[..., Any]


BORDERS: Wrong = {
    "the dcnv1 border": lambda c: c(border="dcnv1"),
    "the zero border": lambda c: c(border="zero"),
}
CONVOLUTION: Wrong = {
    "a flipped kernel (true convolution)": lambda c: c(weight=c.weight[:, :, ::-1, ::-1].copy()),
    "a kernel read column by column (transposed taps)": lambda c: c(weight=weight_by_columns(c)),
    "the mean over the taps, not the sum": lambda c: c(weight=c.weight / c.weight[0, 0].size),
    "groups of every other channel": strided_groups,
    "the bias forgotten": lambda c: c(bias=None),
}
PLAIN: Wrong = {
    **CONVOLUTION,
    "padding only at the end (p0 not moved back by it)": lambda c: c(
        padding=tuple((0, sum(both)) for both in c.layer.padding)
    ),
    "the edge pixels repeated as padding": lambda c: c(
        x=np.pad(c.x, ((0, 0), (0, 0), *c.layer.padding), mode="edge"), padding=0
    ),
    "the dilation forgotten": lambda c: c(dilation=1)[(..., *map(slice, c.layer.output))],
    "the stride forgotten": lambda c: c(stride=1)[(..., *map(slice, c.layer.output))],
}
SAMPLE: Wrong = {
    "the x-first order of p": lambda c: c(p=c.p[..., ::-1].copy()),
    "a clamped border": lambda c: c(
        p=np.clip(c.p, 0, np.subtract(c.x.shape[1:], 1).astype(c.p.dtype))
    ),
    **BORDERS,
    "the nearest pixel": lambda c: c(p=np.floor(c.p + 0.5)),
    "the pixel of floor(p), without interpolation": lambda c: c(p=np.floor(c.p)),
    "a half-pixel shift": lambda c: c(p=c.p - 0.5),
    "the near and far weights exchanged": lambda c: c(p=2 * np.floor(c.p) + 1 - c.p),
}
DEFORM: Wrong = {
    "the x-first channel order": with_offset(lambda c: c.field[:, :, :, ::-1]),
    "the split layout (all dy, then all dx)": with_offset(lambda c: split(c.field)),
    "the split layout, x first": with_offset(lambda c: split(c.field)[:, :, :, ::-1]),
    "offsets of taps numbered column by column": with_offset(
        lambda c: by_columns(c.field, c.layer)
    ),
    "the missing p_n": with_points(
        lambda p, c: p - R(c.layer.kernel, dilation=c.layer.dilation)[:, :, None, None]
    ),
    "the missing p0": with_points(lambda p, c: p - np.moveaxis(centres(c.layer), -1, 0)),
    "the padding forgotten (p0 not moved back by it)": with_points(
        lambda p, c: p + yx([before for before, _ in c.layer.padding])
    ),
    "the opposite sign of the offset": with_offset(lambda c: -c.field),
    "the offset forgotten": with_offset(lambda c: np.zeros_like(c.field)),
    "the offset in units of the dilation": with_offset(lambda c: c.field * yx(c.layer.dilation)),
    "the offset in units of the stride": with_offset(lambda c: c.field * yx(c.layer.stride)),
    "a clamped border": with_points(lambda p, c: np.clip(p, 0, yx(c.x.shape[2:]) - 1)),
    **BORDERS,
    "the nearest pixel": with_points(lambda p, c: np.floor(p + 0.5)),
    "only the first offset group": with_offset(lambda c: 0 * c.field + c.field[:, :1]),
    "offset groups of every other channel": strided_offset_groups,
    "the mask forgotten": lambda c: c(mask=None),
    "the mask applied twice": lambda c: c(mask=None if c.mask is None else c.mask**2),
    **CONVOLUTION,
}
BACKWARD: Wrong = {
    "the weight gradient of the last image alone": turned("weight", lambda a, c: last_image(c)),
    "the bias gradient averaged, not summed": turned(
        "bias", lambda a, c: a / c.grad_output[:, 0].size
    ),
}
PLAIN_BACKWARD: Wrong = {
    **BACKWARD,
    "the gradient of x through a flipped kernel": turned(
        "x", lambda a, c: c(weight=c.weight[:, :, ::-1, ::-1].copy()).x
    ),
}
SAMPLE_BACKWARD: Wrong = {
    "the gradient of p with dy and dx swapped": turned("p", lambda a, c: a[..., ::-1]),
    "the opposite sign of the gradient of p": turned("p", lambda a, c: -a),
    **sides("p"),
    **BORDERS,
    "a gradient of x that overwrites instead of adding": sample_last_written,
    "the gradient of x at the nearest pixel": turned("x", lambda a, c: c(p=np.floor(c.p + 0.5)).x),
}
DEFORM_BACKWARD: Wrong = {
    "the stray sum of equation (7)": turned(
        "offset", lambda a, c: 0 * c.field + by_tap(a, c.layer).sum(axis=2, keepdims=True)
    ),
    "the offset gradient with dy and dx swapped": turned(
        "offset", lambda a, c: by_tap(a, c.layer)[:, :, :, ::-1]
    ),
    "the offset gradient in the split layout (all dy, then all dx)": turned(
        "offset", lambda a, c: by_tap(a, c.layer).swapaxes(2, 3)
    ),
    "the opposite sign of the offset gradient": turned("offset", lambda a, c: -a),
    "the offset gradient without w(p_n)": turned(
        "offset", lambda a, c: c(weight=np.ones_like(c.weight)).offset
    ),
    **sides("offset"),
    "the mask forgotten in the offset gradient": turned("offset", lambda a, c: c(mask=None).offset),
    "the mask forgotten in the gradient of x": turned("x", lambda a, c: c(mask=None).x),
    "the mask forgotten in the weight gradient": turned("weight", lambda a, c: c(mask=None).weight),
    "the mask gradient multiplied by the mask": turned("mask", lambda a, c: a * c.mask),
    **BORDERS,
    "a gradient of x that overwrites instead of adding": deform_last_written,
    "the weight gradient read at the regular grid": turned(
        "weight", lambda a, c: c(offset=np.zeros_like(c.offset)).weight
    ),
    **BACKWARD,
}
MODULE_BACKWARD: Wrong = {
    "the gradient of x without the branch term": turned("x", lambda a, c: a - branch_term(c)),
    "the gradient of x without the sampling term": turned("x", lambda a, c: branch_term(c)),
}
OPERATORS: dict[str, tuple[Callable[..., Any], Wrong]] = {
    "conv2d": (convolution.conv2d, PLAIN),
    "conv2d_backward": (convolution.conv2d_backward, PLAIN_BACKWARD),
    "sample": (bilinear.sample, SAMPLE),
    "sample_backward": (bilinear.sample_backward, SAMPLE_BACKWARD),
    "deform_conv2d": (deform_conv.deform_conv2d, DEFORM),
    "deform_conv2d_backward": (deform_conv.deform_conv2d_backward, DEFORM_BACKWARD),
    "deform_conv_module_backward": (modules.deform_conv_module_backward, MODULE_BACKWARD),
}


def mistake(op: Callable[..., Any], name: str, wrong: Callable[[Call], Any]) -> Mistake:
    return Mistake(name, lambda *args, **options: wrong(Call(op, args, options)))


MISTAKES: dict[str, tuple[Mistake, ...]] = {
    name: tuple(mistake(op, *wrong) for wrong in table.items())
    for name, (op, table) in OPERATORS.items()
}


def diagnose(op: str, result: Any, *args: Any, **options: Any) -> str | None:
    """Which known mistakes give `result` on these arguments: "equals the ...", or None.

    op  a key of `MISTAKES`, or of one gradient alone: "deform_conv2d_backward.offset"
    """
    name, _, field = op.partition(".")
    right = OPERATORS[name][0](*args, **options)
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
