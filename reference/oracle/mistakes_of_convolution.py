"""The known mistakes in (1), (2) and (7): a part of the table in `mistakes`.

What goes wrong in the same way forward and backward stands in both tables by the same name.
"""

import numpy as np

from ..geometry import R, centres
from . import wrong_calls as w
from . import wrong_gradients as wg
from . import wrong_sampling as ws
from .mistakes_of_sampling import BORDERS, CELLS, NAN, OUTSIDE, WEIGHTS
from .wrong_calls import Wrong, gathered, scaled, with_offset, with_points, yx
from .wrong_gradients import run_on, turned, twice
from .wrong_numbers import all_in, bfloat16, half, operands, single, tf32, tf32_cut

OPERANDS = {
    "operands in half precision": half,
    "operands in bfloat16": bfloat16,
    "operands in TF32": tf32,
    "operands cut to TF32, not rounded": tf32_cut,
}
CONVOLUTION: Wrong = {
    "a flipped kernel (true convolution)": lambda c: c(weight=c.weight[:, :, ::-1, ::-1].copy()),
    "a kernel read column by column (transposed taps)": lambda c: c(weight=w.weight_by_columns(c)),
    "a weight read as C O kh kw": lambda c: c(weight=w.weight_inside_out(c)),
    "the mean over the taps, not the sum": lambda c: c(
        weight=c.weight / c.weight.dtype.type(w.taps(c))
    ),
    "the last channel of each group alone (assigned, not added)": lambda c: w.only_channels(
        c, w.last_of(c.layer.groups, c.x.shape[1])
    ),
    "groups of every other channel": w.with_channels(w.every_other),
    "groups of every other output channel": w.strided_outputs,
    "the bias forgotten": lambda c: c(bias=None),
    "the bias added once per tap": w.with_bias(w.taps),
    "the bias added once per channel of a group": w.with_bias(lambda c: c.weight.shape[1]),
    "the output written column by column": lambda c: w.columns(c()),
    "everything in single precision": all_in(single),
}
PLAIN: Wrong = {
    **CONVOLUTION,
    "padding only at the end (p0 not moved back by it)": w.enlarged(
        padding=lambda layer: ((0, 0), (0, 0))
    ),
    "the edge pixels repeated as padding": lambda c: c(
        x=np.pad(c.x, ((0, 0), (0, 0), *c.layer.padding), mode="edge"), padding=0
    ),
    "the dilation forgotten": w.enlarged(dilation=lambda layer: (1, 1)),
    "the stride forgotten": w.enlarged(stride=lambda layer: (1, 1)),
    "the stride as (x, y)": w.enlarged(stride=lambda layer: layer.stride[::-1]),
    "the padding as (x, y)": w.enlarged(padding=lambda layer: layer.padding[::-1]),
    "the dilation as (x, y)": w.enlarged(dilation=lambda layer: layer.dilation[::-1]),
    **{name: operands(rounding) for name, rounding in OPERANDS.items()},
}
LAYOUTS: Wrong = {
    "the x-first channel order": gathered(lambda f, layer: f[:, :, :, ::-1]),
    "the split layout (all dy, then all dx)": gathered(lambda f, layer: w.split(f)),
    "the split layout, x first": gathered(lambda f, layer: w.split(f)[:, :, :, ::-1]),
    "offsets in the order (tap, offset group)": gathered(lambda f, layer: w.tap_by_tap(f)),
    "offsets of taps numbered column by column": gathered(w.by_columns),
    "offsets of pixels numbered column by column": gathered(lambda f, layer: w.columns(f)),
    "only the first offset group": gathered(lambda f, layer: w.repeated(f, 1)),
    "the first image's offsets for all images": gathered(lambda f, layer: w.repeated(f, 0)),
    "the opposite sign of the offset": scaled(lambda c: -1),
    "the offset in units of the dilation": scaled(lambda c: yx(c.layer.dilation)),
    "the offset in units of the stride": scaled(lambda c: yx(c.layer.stride)),
}


def x_first_sizes(order: str) -> Wrong:
    """A stride, padding or dilation read in the opposite order: "(x, y)" or "(x, y, z)"."""
    return {
        f"the padding as {order}": with_points(lambda p, c: p + w.first(c) - w.first(c)[::-1]),
        f"the dilation as {order}": with_points(
            lambda p, c: p + w.steps(c) * (yx(c.layer.dilation[::-1]) - yx(c.layer.dilation))
        ),
        f"the stride as {order}": with_points(
            lambda p, c: p + w.pixels(c) * (yx(c.layer.stride[::-1]) - yx(c.layer.stride))
        ),
    }


GRIDS: Wrong = {
    "the missing p_n": with_points(
        lambda p, c: p - R(c.layer.kernel, dilation=c.layer.dilation)[:, :, None, None]
    ),
    "the missing p0": with_points(lambda p, c: p - np.moveaxis(centres(c.layer), -1, 0)),
    "the padding forgotten (p0 not moved back by it)": with_points(lambda p, c: p + w.first(c)),
    "the padding of another kernel, d (k // 2), whatever was given": with_points(
        lambda p, c: p + w.first(c) - yx(c.layer.dilation) * (yx(c.layer.kernel) // 2)
    ),
    "the dilation forgotten": with_points(lambda p, c: p + w.steps(c) * (1 - yx(c.layer.dilation))),
    "the stride forgotten": with_points(lambda p, c: p + w.pixels(c) * (1 - yx(c.layer.stride))),
    **x_first_sizes("(x, y)"),
    "the stride and the dilation exchanged": with_points(
        lambda p, c: (
            p + (w.pixels(c) - w.steps(c)) * yx(np.subtract(c.layer.dilation, c.layer.stride))
        )
    ),
    "a half-pixel shift": with_points(lambda p, c: p - 0.5),
    "coordinates in half precision": with_points(lambda p, c: half(p)),
}
DEFORM: Wrong = {
    **LAYOUTS,
    **GRIDS,
    NAN: with_offset(lambda c: np.where(np.isnan(c.field), OUTSIDE, c.field)),
    "the offset forgotten": with_offset(lambda c: np.zeros_like(c.field)),
    "offsets cut to whole numbers": with_offset(lambda c: np.trunc(c.field)),
    "a clamped border": with_points(lambda p, c: np.clip(p, 0, w.size(c) - 1)),
    "a border clamped to the padded map": with_points(
        lambda p, c: np.clip(p, -w.first(c), w.size(c) - 1 + w.last(c))
    ),
    **BORDERS,
    "the nearest pixel": with_points(lambda p, c: np.floor(p + 0.5)),
    "the nearest pixel, halves rounded to even": with_points(lambda p, c: np.round(p)),
    "the pixel of floor(p), without interpolation": with_points(lambda p, c: np.floor(p)),
    "the near and far weights exchanged": with_points(lambda p, c: 2 * np.floor(p) + 1 - p),
    "grid_sample after p / (H - 1), with its align_corners=False": with_points(
        lambda p, c: p * w.size(c) / np.maximum(w.size(c) - 1, 1) - 0.5
    ),
    **{name: ws.deformed(rule) for name, rule in (CELLS | WEIGHTS).items()},
    "offset groups of every other channel": w.strided_offset_groups,
    "the channels of the last offset group alone (assigned, not added)": w.last_group,
    "the mask forgotten": lambda c: c(mask=None),
    "the mask applied twice": w.with_mask(lambda m, c: m * m),
    "the sigmoid of the mask": w.with_mask(lambda m, c: 1 / (1 + np.exp(-m))),
    "the softmax of the mask over the taps (DCNv3's)": w.with_mask(lambda m, c: w.softmax(m, 2)),
    "only the first offset group's mask": w.with_mask(lambda m, c: w.repeated(m, 1)),
    "the first image's mask for all images": w.with_mask(lambda m, c: w.repeated(m, 0)),
    "the mask of taps numbered column by column": w.with_mask(
        lambda m, c: w.by_columns(m, c.layer)
    ),
    **CONVOLUTION,
    **{name: ws.deformed(rounding=rounding) for name, rounding in OPERANDS.items()},
}
BACKWARD: Wrong = {
    "the weight gradient of the last image alone": turned(
        "weight", lambda a, c: wg.last_image(c).weight
    ),
    "the weight gradient averaged over the images": turned("weight", lambda a, c: a / wg.images(c)),
    "the weight gradient flipped": turned("weight", lambda a, c: a[:, :, ::-1, ::-1]),
    "the weight gradient written column by column": turned("weight", lambda a, c: w.columns(a)),
    "the weight gradient added twice": twice("weight"),
    "the gradient of x added twice": twice("x"),
    "the bias gradient added twice": twice("bias"),
    "the bias gradient averaged, not summed": turned(
        "bias", lambda a, c: a / max(c.grad_output[:, 0].size, 1)
    ),
    "the bias gradient of the last image alone": turned("bias", lambda a, c: wg.last_image(c).bias),
}
PLAIN_BACKWARD: Wrong = {
    **BACKWARD,
    "the gradient of x through a flipped kernel": run_on(
        "x", weight=lambda c: c.weight[:, :, ::-1, ::-1].copy()
    ),
    **{name: operands(rounding) for name, rounding in OPERANDS.items()},
}
OFFSET_BACKWARD: Wrong = {
    "the stray sum of equation (7)": turned(
        "offset",
        lambda a, c: 0 * c.field + w.by_tap(a, c.layer).sum(axis=2, keepdims=True),
    ),
    "the offset gradient with dy and dx swapped": turned(
        "offset", lambda a, c: w.by_tap(a, c.layer)[:, :, :, ::-1]
    ),
    "the offset gradient in the split layout (all dy, then all dx)": turned(
        "offset", lambda a, c: w.by_tap(a, c.layer).swapaxes(2, 3)
    ),
    "the offset gradient of taps written column by column": turned(
        "offset", lambda a, c: w.by_columns(w.by_tap(a, c.layer), c.layer)
    ),
    "the opposite sign of the offset gradient": turned("offset", lambda a, c: -a),
    "the offset gradient added twice": twice("offset"),
    "no offset gradient": turned("offset", lambda a, c: np.zeros_like(a)),
    "the offset gradient without w(p_n)": run_on("offset", weight=lambda c: np.ones_like(c.weight)),
    "the offset gradient through a flipped kernel": run_on(
        "offset", weight=lambda c: c.weight[:, :, ::-1, ::-1].copy()
    ),
    "the offset gradient without grad_output": run_on(
        "offset", grad_output=lambda c: np.ones_like(c.grad_output)
    ),
    "the offset gradient of the first channel of a group alone": turned(
        "offset", lambda a, c: wg.first_inputs(c).offset
    ),
    "the offset gradient of the last output channel alone": turned(
        "offset", lambda a, c: wg.last_outputs(c).offset
    ),
    "the offset gradient of the first offset group alone": turned("offset", wg.of_first_group),
    "the offset gradient at the regular grid": run_on(
        "offset", offset=lambda c: np.zeros_like(c.offset)
    ),
    **wg.sides("offset"),
    **wg.at_kinks("offset", lambda c: c.points),
    "the mask forgotten in the offset gradient": run_on("offset", mask=lambda c: None),
    "the mask applied twice in the offset gradient": run_on(
        "offset", mask=lambda c: None if c.mask is None else c.mask**2
    ),
}
DEFORM_BACKWARD: Wrong = {
    **OFFSET_BACKWARD,
    "the mask forgotten in the gradient of x": run_on("x", mask=lambda c: None),
    "the mask forgotten in the weight gradient": run_on("weight", mask=lambda c: None),
    "the mask gradient multiplied by the mask": turned("mask", lambda a, c: a * c.mask),
    "the mask gradient without w(p_n)": run_on("mask", weight=lambda c: np.ones_like(c.weight)),
    "the mask gradient of the first channel of a group alone": turned(
        "mask", lambda a, c: wg.first_inputs(c).mask
    ),
    "the mask gradient of the last output channel alone": turned(
        "mask", lambda a, c: wg.last_outputs(c).mask
    ),
    "the mask gradient added twice": twice("mask"),
    **BORDERS,
    "a gradient of x that overwrites instead of adding": wg.deform_last_written,
    "the weight gradient read at the regular grid": run_on(
        "weight", offset=lambda c: np.zeros_like(c.offset)
    ),
    **BACKWARD,
    **LAYOUTS,
    **GRIDS,
    **{name: ws.deformed(rule) for name, rule in CELLS.items()},
    "everything in single precision": all_in(single),
    **{name: ws.deformed(rounding=rounding) for name, rounding in OPERANDS.items()},
}
MODULE_BACKWARD: Wrong = {
    "the gradient of x without the branch term": turned("x", lambda a, c: a - wg.branch_term(c)),
    "the gradient of x without the sampling term": turned("x", lambda a, c: wg.branch_term(c)),
}
