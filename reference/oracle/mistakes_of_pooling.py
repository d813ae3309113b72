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
from .wrong_calls import sides, turned
from .wrong_pooling import (
    Wrong,
    by_count,
    by_points,
    columns,
    every_other_channel,
    first_channels,
    floored,
    half_away,
    half_step,
    inside,
    maps_by_bin,
    maps_by_columns,
    moved,
    of_field,
    only,
    overwritten,
    torchvision,
    with_field,
    with_move,
    with_rois,
)

LAST = np.array([0, 0, 0, 1, 1])  # x2 and y2
RULES: Wrong = {
    'the points of bins="paper"': lambda c: c(bins="paper", samples=None),
    'the points of bins="mxnet"': lambda c: c(bins="mxnet"),
    'the points of bins="align"': lambda c: c(bins="align"),
}
PLAIN: Wrong = {
    "the sum over a bin, not the mean (1 / n_ij forgotten)": lambda c: c() * c.counts,
    "the maximum over a bin, not the mean": lambda c: by_points(c, np.max, inside),
    "the maximum over rounded and inclusive boxes (torchvision's and mmcv's roi_pool)": lambda c: (
        by_points(
            c.changed(
                rois=torchvision(c.rois, c.spatial_scale), spatial_scale=1.0,
                bins="paper", samples=None,
            ), np.max, inside,
        )
    ),
    "the mean over the points inside the map alone": lambda c: by_points(c, np.mean, inside),
    "bins that end at the floor, not the ceiling": lambda c: by_points(c, np.mean, floored),
    "bins read column by column (transposed)": lambda c: columns(c()),
    "an inclusive x2 and y2": with_rois(lambda rois: rois + LAST),
    "an exclusive x2 and y2": with_rois(lambda rois: rois - LAST),
    "corners rounded half to even": with_rois(np.round),
    "corners rounded half away from zero": with_rois(half_away),
    "corners rounded to pixels of x": lambda c: c(
        rois=np.where(np.arange(5) > 0, half_away(c.rois * c.spatial_scale), c.rois),
        spatial_scale=1.0,
    ),
    "RoIs read as y1, x1, y2, x2": with_rois(lambda rois: rois[:, [0, 2, 1, 4, 3]]),
    "RoIs read as x, y, width, height": with_rois(
        lambda rois: np.concatenate([rois[:, :3], rois[:, 1:3] + rois[:, 3:]], axis=1)
    ),
    "spatial_scale forgotten": lambda c: c(spatial_scale=1.0),
    "the batch index forgotten": with_rois(lambda rois: rois * (0, 1, 1, 1, 1)),
    "sub-bin centres, not starts": only(("mxnet",), with_move(lambda c: moved(c) + half_step(c))),
    "sub-bin starts, not centres": only(("align",), with_move(lambda c: moved(c) - half_step(c))),
    "a half-pixel shift of the corners": only(("paper",), with_move(lambda c: moved(c) - 0.5)),
    "the half-pixel shift of the corners forgotten": only(
        ("mxnet", "align"), with_move(lambda c: moved(c) + 0.5)
    ),
    **RULES,
}  # fmt: skip
DEFORM: Wrong = {
    "the x-first offset order (MXNet's)": with_field(lambda c: c.field[:, :, ::-1]),
    "the offset forgotten": with_field(lambda c: 0 * c.field),
    "the opposite sign of the offset": with_field(lambda c: -c.field),
    "gamma forgotten": with_move(lambda c: c.field * c.sizes),
    "an offset that is not normalised (gamma, but not (h, w))": with_move(
        lambda c: c.gamma * c.field + 0 * c.sizes
    ),
    "an offset in pixels (neither gamma nor (h, w))": with_move(lambda c: c.field + 0 * c.sizes),
    "h and w exchanged in gamma (h, w)": with_move(
        lambda c: c.gamma * c.field * c.sizes[:, :, ::-1]
    ),
    "parts of the offset read column by column": with_field(lambda c: columns(c.field)),
    "only the first class group's offset": with_field(lambda c: c.field[:, :1] + 0 * c.field),
    "class groups of every other channel": with_field(every_other_channel),
    **PLAIN,
}
MAPS: Wrong = {
    "score maps read column by column (a and b exchanged)": maps_by_columns,
    "score maps in the order (a, b, channel)": maps_by_bin,
}
PLAIN_BACKWARD: Wrong = {
    "the gradient of x without 1 / n_ij": turned("x", lambda a, c: by_count(c).x),
    "a gradient of x that overwrites instead of adding": overwritten,
    "the gradient of x from transposed bins": turned(
        "x", lambda a, c: c(grad_output=columns(c.grad_output)).x
    ),
    **RULES,
}
DEFORM_BACKWARD: Wrong = {
    **PLAIN_BACKWARD,
    "the gradient of x at the bins that were not moved": turned(
        "x", lambda a, c: c(offset=0 * c.offset).x
    ),
    "the offset gradient without 1 / n_ij": turned("offset", lambda a, c: by_count(c).offset),
    "the offset gradient with dy and dx swapped": of_field(lambda a, c: a[:, :, ::-1]),
    "the opposite sign of the offset gradient": of_field(lambda a, c: -a),
    "the offset gradient in pixels (gamma (h, w) forgotten)": of_field(
        lambda a, c: a / (c.gamma * c.sizes)
    ),
    "the offset gradient without gamma": of_field(lambda a, c: a / c.gamma),
    "the offset gradient without (h, w)": of_field(lambda a, c: a / c.sizes),
    "the offset gradient with h and w exchanged": of_field(
        lambda a, c: a / c.sizes * c.sizes[:, :, ::-1]
    ),
    "the offset gradient of the first channel alone": turned(
        "offset", lambda a, c: first_channels(c).offset
    ),
    **sides("offset"),
}
POOLING: dict[str, tuple[Callable[..., Any], Wrong]] = {
    "roi_pool": (roi_pool, PLAIN),
    "roi_pool_backward": (roi_pool_backward, PLAIN_BACKWARD),
    "deform_roi_pool": (deform_roi_pool, DEFORM),
    "deform_roi_pool_backward": (deform_roi_pool_backward, DEFORM_BACKWARD),
    "ps_roi_pool": (ps_roi_pool, {**MAPS, **PLAIN}),
    "ps_roi_pool_backward": (ps_roi_pool_backward, PLAIN_BACKWARD),
    "deform_ps_roi_pool": (deform_ps_roi_pool, {**MAPS, **DEFORM}),
    "deform_ps_roi_pool_backward": (deform_ps_roi_pool_backward, DEFORM_BACKWARD),
}
