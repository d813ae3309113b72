"""The known mistakes in `sample`, equations (3) and (4): a part of the table in `mistakes`."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import ndarray as Array

from ..bilinear import computed
from . import wrong_sampling as ws
from .wrong_calls import Call, Wrong, moved
from .wrong_gradients import at_kinks, run_on, sample_last_written, sides, turned, twice
from .wrong_numbers import half

BORDERS: Wrong = {
    "the dcnv1 border": lambda c: c(border="dcnv1"),
    "the zero border": lambda c: c(border="zero"),
}
CELLS = {  # these rules have the gradients that follow from them
    "int(p), which truncates towards zero, not floor(p)": ws.truncated,
    "the hard gate 0 <= p < H before zero-padded weights (TVM's border)": ws.hard_gate,
    "0 unless all four pixels are on the map (p < H - 1)": ws.whole_cells,
    "0 beyond W in y and beyond H in x (H and W swapped in the test)": ws.swapped_sizes,
}
WEIGHTS = {
    "the fractions of y and x exchanged": ws.exchanged,
    "the border of RoIAlign (clamped up to a pixel outside, then 0)": ws.roi_align,
}


def n(c: Call) -> Array:
    """(H, W), for points."""
    return np.array(c.x.shape[1:])


def at(change: Callable[[Array, Call], Array]) -> Callable[[Call], Any]:
    """Run at other points."""
    return lambda c: moved(c, "p", change(computed(c.p), c))


x_first = at(lambda p, c: p[..., ::-1])
POINTS: Wrong = {
    "a half-pixel shift": at(lambda p, c: p - 0.5),
    "the other half-pixel shift": at(lambda p, c: p + 0.5),
    "coordinates in half precision": at(lambda p, c: half(p)),
}
OUTSIDE = np.float32(1e30)  # of any map
NAN = "another convention, 0 where a coordinate is NaN"
SAMPLE: Wrong = {
    "the x-first order of p": x_first,
    "a clamped border": at(lambda p, c: np.clip(p, 0, n(c) - 1)),
    **BORDERS,
    "the nearest pixel": at(lambda p, c: np.floor(p + 0.5)),
    "the nearest pixel, halves rounded to even": at(lambda p, c: np.round(p)),
    "the pixel of floor(p), without interpolation": at(lambda p, c: np.floor(p)),
    "the near and far weights exchanged": at(lambda p, c: 2 * np.floor(p) + 1 - p),
    "grid_sample after p / (H - 1), with its align_corners=False": at(
        lambda p, c: p * n(c) / np.maximum(n(c) - 1, 1) - 0.5
    ),
    **POINTS,
    **{name: ws.sampled(rule) for name, rule in (CELLS | WEIGHTS).items()},
    NAN: at(lambda p, c: np.where(np.isnan(p), OUTSIDE, p)),
}
SAMPLE_BACKWARD: Wrong = {
    "the gradient of p with dy and dx swapped": turned("p", lambda a, c: a[..., ::-1]),
    "the opposite sign of the gradient of p": turned("p", lambda a, c: -a),
    "the gradient of p without grad_output": run_on(
        "p", grad_output=lambda c: np.ones_like(c.grad_output)
    ),
    "the gradient of p of the first channel alone": run_on(
        "p", x=lambda c: c.x * (np.arange(len(c.x)) == 0)[:, None, None].astype(c.x.dtype)
    ),
    "the gradient of p averaged over the channels": turned("p", lambda a, c: a / len(c.x)),
    "the gradient of p in units of half the map (grid_sample's)": turned(
        "p", lambda a, c: a * (n(c) - 1) / 2
    ),
    "no gradient of p": turned("p", lambda a, c: 0 * a),
    "the gradient of p added twice": twice("p"),
    "the gradient of x added twice": twice("x"),
    **sides("p"),
    **at_kinks("p", lambda c: c.p),
    **BORDERS,
    "a gradient of x that overwrites instead of adding": sample_last_written,
    "the gradient of x at the nearest pixel": turned("x", lambda a, c: c(p=np.floor(c.p + 0.5)).x),
    "the x-first order of p": turned(
        "p", lambda a, c: a[..., ::-1], of=SAMPLE["the x-first order of p"]
    ),
    **POINTS,
    **{name: ws.sampled(rule) for name, rule in CELLS.items()},
}
