"""The door of the RoI operators: like `checks`, with the rules that only they have."""

from math import isfinite
from typing import Any

import numpy as np

from .checks import NOT_A_BACKWARD, SIDES, Call, one_of
from .geometry import Pair, RoiGeometry
from .roi_points import BINS

AXES = {"x": "N C H W", "rois": "R 5", "offset": "R 2*P part_h part_w"}


def check_roi_pool(
    x: Any, rois: Any, output_size: Any, *, spatial_scale: Any, bins: Any, samples: Any,
    offset: Any = None, gamma: Any = 0.1, group_size: Any = 1, part_size: Any = None,
    roi_values: Any = None, grad_output: Any = NOT_A_BACKWARD, side: Any = "right",
) -> RoiGeometry:  # fmt: skip
    """Any RoI operator and its backward; returns the geometry of the call.

    group_size  1 for plain pooling; None for output_size
    roi_values  rois as a NumPy array, where `rois` is only described
    """
    call = Call(("offset",), x=x, rois=rois, offset=offset, grad_output=grad_output)
    call.check_arrays(AXES, may_be_float32=("rois", "offset"))
    call.check_not_empty("x", dict(zip("CHW", x.shape[1:], strict=True)))
    output, group, part = _sizes(call, output_size, group_size, part_size)
    channels, maps = x.shape[1], group[0] * group[1]
    if channels % maps:
        call.fail(
            f"x has {channels} channels, expected a multiple of gh * gw = {group[0]} * {group[1]}"
        )
    if rois.shape[1] != 5:
        call.fail(
            f"rois has shape {tuple(rois.shape)}, expected (R, 5): batch index, x1, y1, x2, y2"
        )
    _check_values(call, rois if roi_values is None else roi_values, x.shape[0])
    classes = _classes(call, offset, rois.shape[0], channels // maps, part)
    call.check_shape("grad_output", "R, Cout, kh, kw", (rois.shape[0], channels // maps, *output))
    one_of(call, "side", side, SIDES)
    rule = check_rule(call, spatial_scale=spatial_scale, gamma=gamma, bins=bins, samples=samples)
    return RoiGeometry(output, channels // maps, group, part, classes, *rule)


def check_rule(
    call: Call, *, spatial_scale: Any, gamma: Any, bins: Any, samples: Any
) -> tuple[float, float, str, int]:
    """The settings that need no array, in the order of `RoiGeometry`."""
    one_of(call, "bins", bins, BINS)
    scale = _number(call, "spatial_scale", spatial_scale, positive=True)
    samples = _samples(call, samples, bins)
    return scale, _number(call, "gamma", gamma, positive=False), bins, samples


def _sizes(call: Call, output: Any, group: Any, part: Any) -> tuple[Pair, Pair, Pair]:
    output = call.pair("output_size", output, at_least=1)
    group = output if group is None else call.pair("group_size", group, at_least=1)
    part = output if part is None else call.pair("part_size", part, at_least=1)
    return output, group, part


def _check_values(call: Call, rois: Any, N: int) -> None:
    """Every RoI is finite and its batch index names an image."""
    rois = np.asarray(rois, np.float64)
    strange = np.argwhere(~np.isfinite(rois))
    if len(strange):
        r, column = map(int, strange[0])
        call.fail(f"rois[{r}, {column}] is {rois[r, column]}, expected a finite number")
    n = rois[:, 0]
    wrong = np.flatnonzero((n != np.floor(n)) | (n < 0) | (n >= N))
    if len(wrong):
        call.fail(
            f"rois[{wrong[0]}, 0] is {n[wrong[0]]:g}, expected a batch index, a whole number from 0"
            f" to N - 1 = {N - 1}"
        )


def _classes(call: Call, offset: Any, R: int, channels: int, part: Pair) -> int:
    if offset is None:
        return 1
    twice = offset.shape[1]
    if twice == 0 or twice % 2:
        call.fail(f"offset has {twice} channels, expected 2 * P, dy and dx for each class group")
    if channels % (twice // 2):
        call.fail(
            f"offset has {twice} channels, P = {twice // 2} class groups, expected a divisor of the"
            f" {channels} channels of y"
        )
    call.check_shape("offset", "R, 2 * P, part_h, part_w", (R, twice, *part))
    return twice // 2


def _samples(call: Call, samples: Any, bins: str) -> int:
    if bins == "paper":
        if samples is not None:
            call.fail(
                f"samples is {samples!r}, expected None with bins='paper', which reads pixels"
            )
        return 1
    if samples is None:
        return 4
    if isinstance(samples, bool) or not isinstance(samples, int | np.integer):
        call.fail(f"samples is {samples!r}, expected an int", TypeError)
    if not 1 <= samples <= 1000:
        call.fail(f"samples is {samples!r}, expected 1 to 1000 along each axis of a bin")
    return int(samples)


def _number(call: Call, name: str, value: Any, *, positive: bool) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        call.fail(f"{name} is {value!r}, expected a number", TypeError)
    if not isfinite(value) or (positive and value <= 0):
        call.fail(f"{name} is {value!r}, expected a {'positive' * positive or 'finite'} number")
    return float(value)


def check_fc(x: Any, rois: Any, fc_weight: Any, fc_bias: Any, output_size: Any) -> None:
    """The branch of `deform_roi_pool_module`; its operators check the rest."""
    call = Call(x=x, rois=rois, fc_weight=fc_weight, fc_bias=fc_bias)
    call.check_arrays(AXES, may_be_float32=("rois",))
    kh, kw = call.pair("output_size", output_size, at_least=1)
    bins = kh * kw
    call.check_shape("fc_weight", "2 * kh * kw, C * kh * kw", (2 * bins, x.shape[1] * bins))
    call.check_shape("fc_bias", "2 * kh * kw,", (2 * bins,))


def check_maps(
    x: Any, rois: Any, score_weight: Any, score_bias: Any, offset_weight: Any, offset_bias: Any,
    output_size: Any,
) -> None:  # fmt: skip
    """The branches of `deform_ps_roi_pool_module`; its operators check the rest."""
    call = Call(
        x=x, rois=rois, score_weight=score_weight, score_bias=score_bias,
        offset_weight=offset_weight, offset_bias=offset_bias,
    )  # fmt: skip
    call.check_arrays(AXES, may_be_float32=("rois",))
    kh, kw = call.pair("output_size", output_size, at_least=1)
    given = (("score", score_weight, kh * kw), ("offset", offset_weight, 2 * kh * kw))
    for branch, weight, each in given:
        maps = weight.shape[0] if len(weight.shape) else 0
        if maps == 0 or maps % each:
            call.fail(
                f"{branch}_weight makes {maps} maps, expected a multiple of"
                f" {'2 * ' * (branch == 'offset')}kh * kw = {each}"
            )
        call.check_shape(f"{branch}_weight", "maps, C, 1, 1", (maps, x.shape[1], 1, 1))
        call.check_shape(f"{branch}_bias", "maps,", (maps,))
