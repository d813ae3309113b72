"""The known mistakes in RoI pooling, (5), (6) and (7'): a part of the table in `mistakes`.

How each is made wrong is in `wrong_pooling`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..deform_roi_pool import deform_roi_pool, deform_roi_pool_backward
from ..ps_roi_pool import (
    deform_ps_roi_pool,
    deform_ps_roi_pool_backward,
    ps_roi_pool,
    ps_roi_pool_backward,
)
from ..roi_pool import roi_pool, roi_pool_backward
from . import wrong_kinks
from . import wrong_pooling as w
from .mistakes_of_sampling import NAN, OUTSIDE
from .wrong_calls import columns, repeated, with_channels
from .wrong_gradients import run_on, sides, turned, twice
from .wrong_pooling import Wrong, by_points, gathered, in_units, only, with_move, with_rois

LAST = np.array([0, 0, 0, 1, 1])  # x2 and y2
RULES: Wrong = {
    'the points of bins="paper"': lambda c: c(bins="paper", samples=None),
    'the points of bins="mxnet"': lambda c: c(bins="mxnet"),
    'the points of bins="align"': lambda c: c(bins="align"),
}
BOXES: Wrong = {
    "an inclusive x2 and y2": with_rois(lambda rois, c: rois + LAST),
    "an exclusive x2 and y2": with_rois(lambda rois, c: rois - LAST),
    "corners rounded half to even": with_rois(lambda rois, c: np.round(rois)),
    "corners rounded half away from zero": with_rois(lambda rois, c: w.half_away(rois)),
    "corners rounded to pixels of x": lambda c: c(
        rois=np.where(np.arange(5) > 0, w.half_away(c.rois * c.spatial_scale), c.rois).astype(
            c.rois.dtype
        ),
        spatial_scale=1.0,
    ),
    "corners clipped to the map": with_rois(w.clipped),
    "RoIs of at least one pixel": with_rois(w.at_least_one),
    "RoIs read as y1, x1, y2, x2": with_rois(lambda rois, c: rois[:, [0, 2, 1, 4, 3]]),
    "RoIs read as x, y, width, height": with_rois(
        lambda rois, c: np.concatenate([rois[:, :3], rois[:, 1:3] + rois[:, 3:]], axis=1)
    ),
    "RoIs read as centre, width, height": with_rois(
        lambda rois, c: np.concatenate(
            [rois[:, :1], rois[:, 1:3] - rois[:, 3:] / 2, rois[:, 1:3] + rois[:, 3:] / 2], axis=1
        )
    ),
    "spatial_scale forgotten": lambda c: c(spatial_scale=1.0),
    "the batch index forgotten": with_rois(lambda rois, c: rois * (0, 1, 1, 1, 1)),
    "samples forgotten (always 4)": lambda c: c(samples=None),
    "sub-bin centres, not starts": only(
        ("mxnet",), with_move(lambda c: w.moved(c) + w.half_step(c))
    ),
    "sub-bin starts, not centres": only(
        ("align",), with_move(lambda c: w.moved(c) - w.half_step(c))
    ),
    "a half-pixel shift of the corners": only(("paper",), with_move(lambda c: w.moved(c) - 0.5)),
    "the half-pixel shift of the corners forgotten": only(
        ("mxnet", "align"), with_move(lambda c: w.moved(c) + 0.5)
    ),
    **RULES,
}
PLAIN: Wrong = {
    "the sum over a bin, not the mean (1 / n_ij forgotten)": lambda c: c() * c.counts,
    "the sum over h w / k^2, not over n_ij": only(("paper",), lambda c: c() * w.by_area(c)),
    "the sum over all samples, the dropped ones too": only(
        ("mxnet",), lambda c: c() * c.counts / c.x.dtype.type(c.geometry.samples**2)
    ),
    "the maximum over a bin, not the mean": lambda c: by_points(c, np.max, w.inside),
    "the maximum over rounded and inclusive boxes (torchvision's and mmcv's roi_pool)": lambda c: (
        by_points(
            c.changed(
                rois=w.torchvision(c.rois, c.spatial_scale), spatial_scale=1.0,
                bins="paper", samples=None,
            ), np.max, w.inside,
        )
    ),
    "the mean over the points inside the map alone": lambda c: by_points(c, np.mean, w.inside),
    "points clamped to the map": lambda c: by_points(c, np.mean, w.clamped),
    "the nearest pixel of every point": lambda c: by_points(c, np.mean, w.nearest),
    "bins that end at the floor, not the ceiling": lambda c: by_points(c, np.mean, w.floored),
    "bins read column by column (transposed)": lambda c: columns(c()),
    **BOXES,
}  # fmt: skip
MOVES: Wrong = {
    "the x-first offset order (MXNet's)": gathered(lambda f, c: f[:, :, ::-1]),
    "the opposite sign of the offset": in_units(lambda c: -c.gamma * c.sizes),
    "gamma forgotten": in_units(lambda c: c.sizes),
    "gamma of 0.1, whatever was given": lambda c: c(gamma=0.1),
    "an offset that is not normalised (gamma, but not (h, w))": in_units(
        lambda c: c.gamma + 0 * c.sizes
    ),
    "an offset in pixels (neither gamma nor (h, w))": in_units(lambda c: 1 + 0 * c.sizes),
    "h and w exchanged in gamma (h, w)": in_units(lambda c: c.gamma * c.sizes[:, :, ::-1]),
    "the opposite sign of dy in the offset (y up)": in_units(lambda c: c.gamma * c.sizes * w.UP),
    "(h, w) before the scale in gamma (h, w)": in_units(
        lambda c: c.gamma * c.sizes / c.spatial_scale
    ),
    "(h, w) of a bin, not of the RoI, in gamma (h, w)": in_units(
        lambda c: c.gamma * c.sizes / np.reshape(c.geometry.output, (2, 1, 1))
    ),
    "parts of the offset read column by column": gathered(lambda f, c: columns(f)),
    "only the first class group's offset": gathered(lambda f, c: repeated(f, 1)),
    "the first RoI's offset for all RoIs": gathered(lambda f, c: repeated(f, 0)),
    "class groups of every other channel": gathered(w.every_other_channel),
}
DEFORM: Wrong = {
    NAN: lambda c: c(offset=np.where(np.isnan(c.offset), OUTSIDE, c.offset).astype(c.offset.dtype)),
    "the offset forgotten": with_move(lambda c: 0 * w.moved(c)),
    **MOVES,
    **PLAIN,
}
MAPS: Wrong = {
    "score maps read column by column (a and b exchanged)": with_channels(w.maps_by_columns),
    "score maps in the order (a, b, channel)": with_channels(w.maps_by_bin),
    "the first score map for every bin": with_channels(w.first_map),
}
PLAIN_BACKWARD: Wrong = {
    "the gradient of x without 1 / n_ij": turned("x", lambda a, c: w.by_count(c).x),
    "a gradient of x that overwrites instead of adding": w.overwritten,
    "the gradient of x from transposed bins": run_on(
        "x", grad_output=lambda c: columns(c.grad_output)
    ),
    "the gradient of x of the last RoI alone": turned("x", lambda a, c: w.last_roi(c).x),
    "the gradient of x added twice": twice("x"),
    **BOXES,
}
DEFORM_BACKWARD: Wrong = {
    **PLAIN_BACKWARD,
    **MOVES,
    "the gradient of x at the bins that were not moved": run_on("x", offset=lambda c: 0 * c.offset),
    "the offset gradient at the bins that were not moved": run_on(
        "offset", offset=lambda c: 0 * c.offset
    ),
    "the offset gradient without 1 / n_ij": turned("offset", lambda a, c: w.by_count(c).offset),
    "the offset gradient without grad_output": run_on(
        "offset", grad_output=lambda c: np.ones_like(c.grad_output)
    ),
    "the offset gradient with dy and dx swapped": w.of_field(lambda a, c: a[:, :, ::-1]),
    "the opposite sign of the offset gradient": w.of_field(lambda a, c: -a),
    "the opposite sign of dy in the offset gradient": w.of_field(lambda a, c: a * w.UP),
    "a derivative of 0 at whole coordinates (MXNet's)": wrong_kinks.flat,
    "the offset gradient in pixels (gamma (h, w) forgotten)": w.of_field(
        lambda a, c: w.divided(a, c.gamma * c.sizes)
    ),
    "the offset gradient without gamma": w.of_field(lambda a, c: a / c.gamma),
    "the offset gradient without (h, w)": w.of_field(lambda a, c: w.divided(a, c.sizes)),
    "the offset gradient with h and w exchanged": w.of_field(
        lambda a, c: w.divided(a, c.sizes) * c.sizes[:, :, ::-1]
    ),
    "the offset gradient of the first channel alone": turned(
        "offset", lambda a, c: w.first_channels(c).offset
    ),
    "no offset gradient": turned("offset", lambda a, c: np.zeros_like(a)),
    "the offset gradient added twice": twice("offset"),
    **sides("offset"),
}
PARTS_BACKWARD: Wrong = {
    "the offset gradient of the last bin of a part alone": turned(
        "offset", lambda a, c: w.last_bins(c).offset
    ),
}
POOLING: dict[str, tuple[Callable[..., Any], Wrong]] = {
    "roi_pool": (roi_pool, PLAIN),
    "roi_pool_backward": (roi_pool_backward, PLAIN_BACKWARD),
    "deform_roi_pool": (deform_roi_pool, DEFORM),
    "deform_roi_pool_backward": (deform_roi_pool_backward, DEFORM_BACKWARD),
    "ps_roi_pool": (ps_roi_pool, {**MAPS, **PLAIN}),
    "ps_roi_pool_backward": (ps_roi_pool_backward, {**MAPS, **PLAIN_BACKWARD}),
    "deform_ps_roi_pool": (deform_ps_roi_pool, {**MAPS, **DEFORM}),
    "deform_ps_roi_pool_backward": (
        deform_ps_roi_pool_backward,
        {**MAPS, **DEFORM_BACKWARD, **PARTS_BACKWARD},
    ),
}
