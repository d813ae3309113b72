"""Every law catches deliberate bugs, by name, and lets the right reference pass.

A law that no bug here can break would be a check that checks nothing. RoI pooling has a table of
its own, `test_roi_sabotage`.
"""

import numpy as np
import pytest
from bugs import (
    Row,
    bug,
    check_caught,
    computed_in,
    flaky,
    known,
    on_arguments,
    on_grads,
    on_result,
    unwritten,
)
from test_roi_sabotage import ROI_SABOTAGE

from deformable_convnets import reference
from deformable_convnets.reference.oracle import LAWS, verify
from deformable_convnets.reference.oracle.implementation import OPERATORS, REFERENCE
from deformable_convnets.reference.oracle.implementation import VOLUMES as OF_VOLUMES

BACK = "deform_conv2d_backward"


def written_to(x, **_):
    """Works in place on x, and puts most of it back."""
    if x.flags.writeable:
        x += 1
        x -= 1
        x[..., :1] += 1
    return {}


def dilation_forgotten(grads, *, dilation, padding, weight, **given):
    """The gradients of dilation 1, where its output has the same size."""
    (dy, dx), (kh, kw) = dilation, weight.shape[2:]
    (top, bottom), (left, right) = padding
    padding = ((top, bottom - (dy - 1) * (kh - 1)), (left, right - (dx - 1) * (kw - 1)))
    if min(padding[0][1], padding[1][1]) < 0:
        return {}
    return reference.deform_conv2d_backward(**given, weight=weight, padding=padding)._asdict()


def doubled_at_kinks(grads, offset, **_):
    return {"offset": np.where(offset == np.floor(offset), 2 * grads.offset, grads.offset)}


def left_loses_the_edge(grads, side, **_):
    return {"x": grads.x / 2} if side == "left" else {}


def dy_alone(grads, **_):
    """The gradients of dx lost."""
    there = np.arange(grads.offset.shape[1]) % 2 == 0
    return {"offset": grads.offset * there[:, None, None].astype(grads.offset.dtype)}


def one_stride(offset, stride, **_):
    """The grid laid with the stride of y on both axes: what is left over goes into the offset."""
    moved = offset.copy()
    moved[:, 1::2] += ((stride[0] - stride[1]) * np.arange(offset.shape[3])).astype(offset.dtype)
    return {"offset": moved}


def nan_as_zero(name):
    return lambda a, **_: (
        np.nan_to_num(a) if name == "y" else {name: np.nan_to_num(getattr(a, name))}
    )


def gradient(law, name, gradient, dtype=""):
    """A row for a known mistake in one gradient of deform_conv2d."""
    return Row(law, name, known(BACK, name), gradient=gradient, dtype=dtype)


DEFORM = [
    Row("forward_is_exact", "x-first", known("deform_conv2d", "the x-first channel order")),
    Row("forward_is_exact", "coordinates off by 1e-5",
        on_arguments(lambda offset, **_: {"offset": offset + offset.dtype.type(1e-5)})),
    Row("backward_is_exact", "dilation forgotten", on_grads(dilation_forgotten), gradient="x"),
    gradient("backward_is_exact", "the gradient of x added twice", "x"),
    gradient("backward_is_exact", "the stray sum of equation (7)", "offset"),
    gradient("backward_is_exact", "the weight gradient of the last image alone", "weight"),
    gradient("backward_is_exact", "the bias gradient averaged, not summed", "bias"),
    gradient("backward_is_exact", "the mask gradient without w(p_n)", "mask"),
    gradient("gradients_are_adjoint", "the mask forgotten in the gradient of x", "x"),
    gradient("gradients_are_adjoint", "the mask forgotten in the weight gradient", "weight"),
    gradient("gradients_are_adjoint", "the mask gradient added twice", "mask"),
    gradient("gradients_are_central_differences", "the stray sum of equation (7)", "offset"),
    gradient("gradients_are_central_differences",
             "the offset gradient with dy and dx swapped", "offset"),
    gradient("gradients_are_directional_derivatives",
             "the offset gradient of taps written column by column", "offset"),
    gradient("kinks_have_one_sided_derivatives",
             "the right-hand derivative, whatever the side", "offset"),
    Row("sides_differ_in_the_offset_alone", "the left weights lose half",
        on_grads(left_loses_the_edge), gradient="x"),
    Row("zero_offset_is_convolution", "kernel transposed in memory",
        known("deform_conv2d", "a kernel read column by column (transposed taps)")),
    gradient("zero_offset_is_convolution", "the bias gradient averaged, not summed", "bias"),
    Row("whole_offset_is_shift", "offset subtracted",
        known("deform_conv2d", "the opposite sign of the offset")),
    Row("linear_in_x_and_weight", "negative pixels cut off",
        on_arguments(lambda x, **_: {"x": np.maximum(x, 0)})),
    Row("bias_is_added", "bias forgotten", known("deform_conv2d", "the bias forgotten")),
    gradient("bias_is_added", "the bias gradient averaged, not summed", "bias"),
    Row("mask_multiplies", "mask twice", known("deform_conv2d", "the mask applied twice")),
    gradient("mask_multiplies", "the mask forgotten in the offset gradient", "offset"),
    Row("axes_are_alike", "stride in y used for both axes", on_arguments(one_stride)),
    Row("axes_are_alike", "the gradients of dx lost", on_grads(dy_alone), gradient="offset"),
    Row("images_are_independent", "all images use the first one's offsets",
        known("deform_conv2d", "the first image's offsets for all images")),
    gradient("images_are_independent", "the weight gradient of the last image alone", "weight"),
    Row("groups_are_blocks", "channels of groups interleaved",
        known("deform_conv2d", "groups of every other channel")),
    Row("offset_groups_split_channels", "all groups use the first one's offsets",
        known("deform_conv2d", "only the first offset group")),
    gradient("offset_groups_split_channels",
             "the offset gradient of the first offset group alone", "offset"),
    Row("channels_are_alike", "only the last channel counts",
        known("deform_conv2d", "the last channel of each group alone (assigned, not added)")),
    gradient("channels_are_alike",
             "the offset gradient of the first channel of a group alone", "offset"),
    Row("dcnv1_repeats_the_edge", "border ignored", known("deform_conv2d", "the zero border")),
    gradient("dcnv1_repeats_the_edge", "the zero border", "offset"),
    Row("points_not_finite", "NaN read as 0", on_result(nan_as_zero("y"))),
    Row("points_not_finite", "NaN turned to 0 in the gradient",
        on_grads(nan_as_zero("offset")), gradient="offset"),
    Row("halves_are_rounded_once", "coordinates in float16",
        known("deform_conv2d", "coordinates in half precision")),
    Row("halves_are_rounded_once", "coordinates in float16 in the backward",
        known(BACK, "coordinates in half precision"), gradient="x"),
    Row("the_same_call_gives_the_same", "every third call is wrong", flaky("deform_conv2d")),
    Row("the_same_call_gives_the_same", "one element of y is never written",
        unwritten("deform_conv2d")),
    Row("the_same_call_gives_the_same", "one element of grads.x is never written",
        unwritten(BACK, "x"), gradient="x"),
    Row("arguments_are_left_alone", "x written to", on_arguments(written_to)),
    Row("floats_stay_within_bounds", "computed in float16",
        bug(deform_conv2d=computed_in(np.float16))),
    Row("floats_stay_within_bounds", "a thousandth of a pixel aside",
        on_arguments(lambda offset, **_: {"offset": offset + offset.dtype.type(1e-3)},
                     ends=("_backward",)), gradient="x"),
    Row("kinks_give_a_one_sided_derivative", "doubled at kinks", on_grads(doubled_at_kinks),
        gradient="offset"),
]  # fmt: skip


def in_half(change):
    """A change that shows in float16 alone."""
    return lambda x, **given: change(x=x, **given) if x.dtype == np.float16 else {}


PARTS = [
    Row("sample_is_exact", "nearest pixel", known("sample", "the nearest pixel"), "sample"),
    Row("sample_is_exact", "float16 computed twice as large",
        on_arguments(in_half(lambda x, **_: {"x": 2 * x}), "sample"), "sample", dtype="float16"),
    Row("sample_backward_is_exact", "dy and dx exchanged",
        known("sample_backward", "the gradient of p with dy and dx swapped"), "sample", "p"),
    Row("sample_backward_is_exact", "overwrites instead of adding",
        known("sample_backward", "a gradient of x that overwrites instead of adding"),
        "sample", "x"),
    Row("constant_map_samples_to_itself", "last row never read",
        known("sample", "0 unless all four pixels are on the map (p < H - 1)"), "sample"),
    Row("constant_map_samples_to_itself", "slope 1 everywhere",
        on_grads(lambda grads, **_: {"p": grads.p + grads.p.dtype.type(1)}, "sample"),
        "sample", "p"),
    Row("whole_points_read_pixels", "half a pixel aside",
        known("sample", "a half-pixel shift"), "sample"),
    Row("ramps_are_followed", "nearest pixel", known("sample", "the nearest pixel"), "sample"),
    Row("ramps_are_followed", "averaged over the channels",
        known("sample_backward", "the gradient of p averaged over the channels"), "sample", "p"),
    Row("sample_points_not_finite", "NaN read as 0", on_result(nan_as_zero("y"), "sample"),
        "sample"),
    Row("sample_points_not_finite", "NaN turned to 0 in the gradient",
        on_grads(nan_as_zero("p"), "sample"), "sample", "p"),
    Row("conv2d_is_exact", "kernel flipped",
        known("conv2d", "a flipped kernel (true convolution)"), "conv2d"),
    Row("conv2d_is_exact", "the bias a quarter too large in float16",
        on_arguments(in_half(lambda bias, **_: {
            "bias": None if bias is None else bias * bias.dtype.type(1.25)}), "conv2d"),
        "conv2d", dtype="float16"),
    *[Row("conv2d_is_exact", name, known("conv2d_backward", name), "conv2d", grad)
      for name, grad in (
          ("the gradient of x added twice", "x"),
          ("the weight gradient flipped", "weight"),
          ("the bias gradient of the last image alone", "bias"))],
    Row("conv2d_is_adjoint", "kernel flipped in the gradient of x",
        known("conv2d_backward", "the gradient of x through a flipped kernel"), "conv2d", "x"),
    Row("conv2d_is_adjoint", "weight gradient added twice",
        known("conv2d_backward", "the weight gradient added twice"), "conv2d", "weight"),
]  # fmt: skip
V, V_BACK = "deform_conv3d", "deform_conv3d_backward"


def volume(law, name, wrong=None, gradient="", dtype=""):
    """A row of deform_conv3d, and a known mistake if no other."""
    wrong = wrong or known(V_BACK if gradient else V, name)
    return Row(f"volume_{law}", name, wrong, V, gradient, dtype)


VOLUMES = [
    volume("forward_is_exact", "the x-first channel order (dx, dy, dz)"),
    volume("backward_is_exact", "the gradient of x added twice", gradient="x"),
    volume("backward_is_exact", "the stray sum of equation (7)", gradient="offset"),
    volume("backward_is_exact", "the weight gradient of the last image alone", gradient="weight"),
    volume("backward_is_exact", "the bias gradient averaged, not summed", gradient="bias"),
    volume("backward_is_exact", "the mask gradient without w(p_n)", gradient="mask"),
    volume("gradients_are_adjoint", "the mask forgotten in the gradient of x", gradient="x"),
    volume("gradients_are_central_differences", "the offset gradient without dz",
           gradient="offset"),
    volume("gradients_are_directional_derivatives",
           "the offset gradient of taps numbered from the last axis", gradient="offset"),
    volume("kinks_have_one_sided_derivatives",
           "the right-hand derivative, whatever the side", gradient="offset"),
    volume("sides_differ_in_the_offset_alone", "the left weights lose half",
           on_grads(left_loses_the_edge, V), "x"),
    volume("zero_offset_is_convolution", "a flipped kernel (true convolution)"),
    volume("whole_offset_is_shift", "the opposite sign of the offset"),
    volume("linear_in_x_and_weight", "negative pixels cut off",
           on_arguments(lambda x, **_: {"x": np.maximum(x, 0)}, V)),
    volume("bias_is_added", "the bias forgotten"),
    volume("mask_multiplies", "the mask applied twice"),
    volume("axes_are_alike", "bilinear in the plane of floor(p_z), not trilinear"),
    volume("axes_are_alike", "the offset gradient without dz", gradient="offset"),
    volume("images_are_independent", "the first image's offsets for all images"),
    volume("groups_are_blocks", "groups of every other channel"),
    volume("offset_groups_split_channels", "only the first offset group"),
    volume("channels_are_alike", "the last channel of each group alone (assigned, not added)"),
    volume("dcnv1_repeats_the_edge", "the zero border"),
    volume("points_not_finite", "NaN read as 0", on_result(nan_as_zero("y"), V)),
    volume("halves_are_rounded_once", "coordinates in half precision"),
    volume("the_same_call_gives_the_same", "every third call is wrong", flaky(V)),
    volume("arguments_are_left_alone", "x written to", on_arguments(written_to, V)),
    volume("floats_stay_within_bounds", "computed in float16",
           bug(deform_conv3d=computed_in(np.float16, V))),
    volume("kinks_give_a_one_sided_derivative", "doubled at kinks", on_grads(doubled_at_kinks, V),
           "offset"),
]  # fmt: skip
SABOTAGE = DEFORM + PARTS + VOLUMES


@pytest.mark.parametrize("row", SABOTAGE, ids=[row.id for row in SABOTAGE])
def test_law_catches(row):
    check_caught(row)


@pytest.mark.parametrize("op", ["deform_conv2d", "conv2d", "sample"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_laws_let_the_reference_pass(op, dtype):
    report = verify(REFERENCE, op, dtype=dtype, border=("zero", "dcnv1"), examples=40)
    assert report.ok, report


def test_every_law_operator_and_gradient_has_its_bug():
    rows = SABOTAGE + ROI_SABOTAGE
    assert {row.law for row in rows} == set(LAWS)
    operators = {*OPERATORS, *OF_VOLUMES}
    assert {row.op for row in rows if not row.gradient} == operators
    expected = {
        (op, name)
        for op in operators
        for name in getattr(reference, f"{op}_backward").__annotations__["return"]._fields
    }
    assert {(row.op, row.gradient) for row in rows if row.gradient} == expected
    assert len(rows) >= 40
    assert len({(row.law, row.name, row.op) for row in rows}) == len(rows)
