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


def corners(rounded):
    """Corners rounded in another way than C's round, where the rule rounds them."""

    def change(rois, bins, **_):
        return {"rois": np.c_[rois[:, :1], rounded(rois[:, 1:])] if bins == "mxnet" else rois}

    return in_ps(change)


def grid(step):
    """RoIs rounded to a grid, as in fixed point."""

    def change(rois, **_):
        return {"rois": (np.round(rois / step) * step).astype(rois.dtype)}

    return in_ps(change)


def samples(wrong):
    def change(samples, bins, **_):
        return {} if bins == "paper" else {"samples": wrong(samples)}

    return in_ps(change)


def gamma(wrong):
    return in_ps(lambda gamma, **_: {"gamma": float(wrong(gamma))})


def ends_at_i_times_the_width(rois, output_size, spatial_scale, **_):
    """k (h / k), not (k h) / k: where it rounds to more than h, the RoI is made longer."""
    k, rois = np.array(output_size[::-1], rois.dtype), rois.copy()
    h = (rois[:, 3:] - rois[:, 1:3]) * rois.dtype.type(spatial_scale)
    rois[:, 3:] += np.where(h / k * k > h, 2.0**-12, 0).astype(rois.dtype)
    return {"rois": rois}


def as_if_contiguous(a):
    """What a kernel reads that takes any memory for that of an array in C order."""
    if a is None or a.size == 0:
        return a
    steps = np.cumprod([a.itemsize, *a.shape[:0:-1]])[::-1]
    return np.lib.stride_tricks.as_strided(a, a.shape, [int(n) for n in steps], writeable=False)


def in_memory(name):
    """An argument read as if it were contiguous."""
    return lambda **a: {name: as_if_contiguous(a[name])}


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
    Row("roi_forward_is_exact", "corners rounded half to even", corners(np.round), PS),
    Row("roi_forward_is_exact", "corners floored", corners(np.floor), PS),
    Row("roi_forward_is_exact", "RoIs rounded to eighths", grid(1 / 8), PS),
    Row("roi_forward_is_exact", "gamma at most 1", gamma(lambda gamma: min(gamma, 1)), PS),
    Row("roi_forward_is_exact", "gamma a power of two",
        gamma(lambda gamma: 2.0 ** np.floor(np.log2(gamma))), PS),
    Row("roi_forward_is_exact", "samples of None are 2", samples(lambda n: n or 2), PS),
    Row("roi_backward_is_exact", "samples of None are 2 in the gradients", on_arguments(
        lambda samples, bins, **_: {"samples": samples or 2 if bins != "paper" else None}, BACK),
        PS, "x"),
    *[Row("float_sums_stay_within_bounds", f"samples of None are {n}",
          samples(lambda given, n=n: given or n), PS) for n in (2, 3, 5)],
    *[Row("float_sums_stay_within_bounds", f"at most {n} samples",
          samples(lambda given, n=n: min(given or 4, n)), PS) for n in (4, 6)],
    Row("float_sums_stay_within_bounds", "samples rounded to even ones",
        samples(lambda n: None if n is None else n + n % 2), PS),
    Row("rounded_points_stay_within_bounds", "gamma of 0.1 is 1/8",
        gamma(lambda gamma: 1 / 8 if gamma == 0.1 else gamma), PS),
    Row("rounded_points_stay_within_bounds", "RoIs rounded to 64ths", grid(1 / 64), PS),
    Row("rounded_points_stay_within_bounds", "RoIs in half precision", in_ps(
        lambda rois, **_: {"rois": rois.astype(np.float16).astype(rois.dtype)}), PS),
    Row("rounded_points_stay_within_bounds", "the offset in half precision", in_ps(
        lambda offset, **_: {"offset": None if offset is None else
                             offset.astype(np.float16).astype(offset.dtype)}), PS),
    Row("rounded_points_stay_within_bounds", "coordinates of doubles in single precision", in_ps(
        lambda rois, spatial_scale, **_: {"rois": rois * np.float32(spatial_scale).astype("f8"),
                                          "spatial_scale": 1.0}), PS, dtype="float64"),
    Row("rounded_points_stay_within_bounds", "gradient of x of RoIs in eighths", on_arguments(
        lambda rois, **_: {"rois": (np.round(rois * 8) / 8).astype(rois.dtype)}, BACK), PS, "x"),
    Row("rounded_points_stay_within_bounds", "gradient of the offset off by a hundredth", on_grads(
        lambda grads, **_: offset_of(grads, lambda a: a * a.dtype.type(1.01)), PS),
        PS, "offset"),
    *[Row("bins_end_with_their_roi", f"bins end at i (h / k), {dtype}",
          in_ps(ends_at_i_times_the_width), PS, dtype=dtype) for dtype in ("float32", "float64")],
    Row("bins_end_with_their_roi", "bins end at i (h / k) in the gradients",
        on_arguments(ends_at_i_times_the_width, BACK), PS, "x"),
    *[Row("pooling_leaves_its_arguments_alone", f"{name} read as if contiguous",
          in_ps(in_memory(name)), PS) for name in ("x", "rois", "offset")],
    Row("pooling_leaves_its_arguments_alone", "grad_output read as if contiguous",
        on_arguments(in_memory("grad_output"), BACK), PS, "x"),
    *[Row(f"{op}_leaves_its_arguments_alone", f"{name} read as if contiguous",
          on_arguments(in_memory(name), op), op)
      for op, names in (("sample", "xp"), ("conv2d", ("x", "weight"))) for name in names],
    *[Row(f"{op}_leaves_its_arguments_alone", "grad_output read as if contiguous",
          on_arguments(in_memory("grad_output"), f"{op}_backward"), op, "x")
      for op in ("sample", "conv2d")],
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
