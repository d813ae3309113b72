"""Every law of RoI pooling catches deliberate bugs, by name, in all four operators."""

import numpy as np
import pytest
from bugs import Row, bug, check_caught, flaky, known, on_arguments, on_grads, unwritten
from bugs import on_result as result_of

from deformable_convnets import reference
from deformable_convnets.reference.oracle import verify
from deformable_convnets.reference.oracle.implementation import REFERENCE

PS, BACK = "deform_ps_roi_pool", "deform_ps_roi_pool_backward"
RULES = ("paper", "mxnet", "align")


def offset_of(grads, change):
    return {} if grads.offset is None else {"offset": change(grads.offset)}


def in_ps(change):
    """Arguments changed, forward and backward."""
    return on_arguments(change, PS, ends=("", "_backward"))


def one_map(x, group_size, **_):
    """The first score map read by every bin."""
    gh, gw = (group_size, group_size) if isinstance(group_size, int) else group_size
    maps = x.reshape(x.shape[0], x.shape[1] // (gh * gw), gh * gw, *x.shape[2:])
    return {"x": np.repeat(maps[:, :, :1], gh * gw, axis=2).reshape(x.shape)}


def without_edge(grads, **_):
    cut = grads.x.copy()
    cut[:, :, -1] = 0
    return {"x": cut}


def written_to(x, rois, offset, size, **options):
    y = reference.deform_ps_roi_pool(x, rois, offset, size, **options)
    if len(rois):
        rois[:, 1] += 1
    return y


def by_position(y, rois, **_):
    """A result that depends on where the RoI is on the map."""
    return y + rois[:, 1, None, None, None].astype(y.dtype)


def left_loses_half(grads, side, **_):
    return {"x": grads.x / 2} if side == "left" else {}


def first_roi(rois, **_):
    return {"rois": np.repeat(rois[:1], len(rois), axis=0)}


def last_columns_lost(x, **_):
    return {"x": x * (np.arange(x.shape[-1]) < 5).astype(x.dtype)}


def nan_to_zero(offset, **_):
    return {"offset": None if offset is None else np.nan_to_num(offset)}


PLAIN = "the sum over a bin, not the mean (1 / n_ij forgotten)"
ROI_SABOTAGE = [
    Row("roi_forward_is_exact", "x-first", known(PS, "the x-first offset order (MXNet's)"), PS),
    *[Row("roi_forward_is_exact", "corners inclusive", known(op, "an inclusive x2 and y2"), op)
      for op in ("roi_pool", "deform_roi_pool", "ps_roi_pool", PS)],
    Row("roi_forward_is_exact", "twice as large in float16", on_arguments(
        lambda x, **_: {"x": 2 * x} if x.dtype == np.float16 else {}, PS), PS, dtype="float16"),
    *[Row("roi_backward_is_exact", "not divided by n_ij",
          known(f"{op}_backward", "the gradient of x without 1 / n_ij"), op, "x")
      for op in ("roi_pool", "deform_roi_pool", "ps_roi_pool", PS)],
    *[Row("roi_backward_is_exact", "gradient of the offset x first",
          known(f"{op}_backward", "the offset gradient with dy and dx swapped"), op, "offset")
      for op in ("deform_roi_pool", PS)],
    Row("plain_operators_are_group_one", "bins summed", known("roi_pool", PLAIN), PS),
    Row("plain_operators_are_group_one", "gamma of 0.1",
        known("deform_roi_pool", "gamma of 0.1, whatever was given"), PS),
    Row("zero_offset_is_plain_pooling", "corners inclusive", known(PS, "an inclusive x2 and y2"),
        PS),
    Row("zero_offset_is_plain_pooling", "gradient of x not divided by n_ij",
        known(BACK, "the gradient of x without 1 / n_ij"), PS, "x"),
    Row("pooling_is_adjoint", "gradient of x not divided by n_ij",
        known(BACK, "the gradient of x without 1 / n_ij"), PS, "x"),
    Row("pooling_is_adjoint", "gradient of x of the last RoI", known(
        "roi_pool_backward", "the gradient of x of the last RoI alone"), "roi_pool", "x"),
    Row("offset_gradients_are_central_differences", "gamma forgotten",
        known(BACK, "the offset gradient without gamma"), PS, "offset"),
    Row("offset_gradients_are_central_differences", "x first",
        known(BACK, "the offset gradient with dy and dx swapped"), PS, "offset"),
    Row("means_lie_between", "bins summed", known(PS, PLAIN), PS),
    Row("constant_map_pools_to_itself", "last columns never read", in_ps(last_columns_lost), PS),
    Row("constant_map_pools_to_itself", "a slope everywhere", on_grads(
        lambda grads, **_: offset_of(grads, lambda a: a + a.dtype.type(1)), PS), PS, "offset"),
    Row("map_and_rois_move_together", "y depends on where the RoI is", result_of(by_position, PS),
        PS),
    Row("gamma_scales_the_offset", "gamma ignored",
        known(PS, "gamma of 0.1, whatever was given"), PS),
    Row("gamma_scales_the_offset", "gradient without gamma",
        known(BACK, "the offset gradient without gamma"), PS, "offset"),
    Row("each_bin_reads_its_score_map", "all bins read the first map", in_ps(one_map), PS),
    Row("rois_are_independent", "all RoIs are the first", in_ps(first_roi), PS),
    Row("rois_are_independent", "gradient of x overwritten", known(
        BACK, "a gradient of x that overwrites instead of adding"), PS, "x"),
    Row("the_last_row_and_column_are_read", "gradient of the last row lost",
        on_grads(without_edge, PS), PS, "x"),
    Row("offsets_not_finite", "NaN read as 0", in_ps(nan_to_zero), PS),
    Row("offsets_not_finite", "NaN turned to 0 in the gradient", on_grads(
        lambda grads, **_: offset_of(grads, np.nan_to_num), PS), PS, "offset"),
    Row("sides_of_bins_differ_in_the_offset_alone", "the left side loses half",
        on_grads(left_loses_half, PS), PS, "x"),
    Row("float_sums_stay_within_bounds", "x rounded to half precision",
        in_ps(lambda x, **_: {"x": x.astype(np.float16).astype(x.dtype)}), PS),
    Row("float_sums_stay_within_bounds", "gradient of the offset off by a thousandth", on_grads(
        lambda grads, **_: offset_of(grads, lambda a: a * a.dtype.type(1.001)), PS),
        PS, "offset"),
    Row("pooling_leaves_its_arguments_alone", "rois written to", bug(**{PS: written_to}), PS),
    Row("pooling_gives_the_same_again", "every third call is wrong", flaky(PS), PS),
    Row("pooling_gives_the_same_again", "one element of y is never written",
        unwritten(PS), PS),
    Row("pooling_gives_the_same_again", "one element of grads.x is never written",
        unwritten(BACK, "x"), PS, "x"),
]  # fmt: skip


@pytest.mark.parametrize("row", ROI_SABOTAGE, ids=[row.id for row in ROI_SABOTAGE])
def test_law_catches(row):
    check_caught(row)


@pytest.mark.parametrize("op", ["roi_pool", "deform_roi_pool", "ps_roi_pool", PS])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_laws_let_the_reference_pass(op, dtype):
    report = verify(REFERENCE, op, dtype=dtype, bins=RULES, examples=40)
    assert report.ok, report
