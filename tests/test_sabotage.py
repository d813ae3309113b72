"""Every law catches its own deliberate bug, by name, and lets the right reference pass.

A law that no bug here can break would be a check that checks nothing.
"""

import numpy as np
import pytest
from bugs import (
    bug,
    computed_in,
    halved_coordinates,
    on_arguments,
    on_grads,
    rounded_points,
    swapped,
)

from deformable_convnets import reference
from deformable_convnets.reference.oracle import problems
from deformable_convnets.reference.oracle.implementation import REFERENCE
from deformable_convnets.reference.oracle.laws import LAWS


def written_to(x, offset, weight, bias=None, **options):
    """Works in place on x, and puts most of it back."""
    if x.flags.writeable:
        x += 1
        x -= 1
        x[..., :1] += 1
    return reference.deform_conv2d(x, offset, weight, bias, **options)


def first_images_offset(offset, **_):
    return {"offset": np.repeat(offset[:1], len(offset), axis=0)}


def first_groups_offset(x, offset, weight, **_):
    width = 2 * weight.shape[2] * weight.shape[3]
    return {"offset": np.tile(offset[:, :width], (1, offset.shape[1] // width, 1, 1))}


def interleaved_groups(x, weight, **_):
    """The channels of two groups dealt out like cards, not cut in two."""
    groups = x.shape[1] // weight.shape[1]
    order = np.arange(x.shape[1]).reshape(groups, -1).T.ravel()
    return {"x": x[:, order]}


def without_last_channel(grads, grad_output, x, offset, weight, bias=None, **options):
    last = np.arange(x.shape[1]) < x.shape[1] - 1
    args = (x * last[:, None, None].astype(x.dtype), offset, weight, bias)
    return {"offset": reference.deform_conv2d_backward(grad_output, *args, **options).offset}


def dilation_forgotten(grads, grad_output, *args, dilation=1, padding=0, **options):
    """The gradients of dilation 1, where its output has the same size."""
    (dy, dx), (kh, kw) = dilation, args[2].shape[2:]
    (top, bottom), (left, right) = padding
    padding = ((top, bottom - (dy - 1) * (kh - 1)), (left, right - (dx - 1) * (kw - 1)))
    if min(padding[0][1], padding[1][1]) < 0:
        return {}
    return reference.deform_conv2d_backward(
        grad_output, *args, padding=padding, **options
    )._asdict()


def stray_sum(grads, grad_output, x, offset, weight, bias=None, **options):
    """Equation (7) as printed: every tap gets the sum over all taps."""
    (N, channels, Ho, Wo), K = offset.shape, weight.shape[2] * weight.shape[3]
    by_tap = grads.offset.reshape(N, channels // (2 * K), K, 2, Ho, Wo)
    summed = np.broadcast_to(by_tap.sum(axis=2, keepdims=True), by_tap.shape)
    return {"offset": summed.reshape(offset.shape)}


def always_right(grads, grad_output, *args, side="right", **options):
    return reference.deform_conv2d_backward(grad_output, *args, **options)._asdict()


def doubled_at_kinks(grads, grad_output, x, offset, *args, **options):
    return {"offset": np.where(offset == np.floor(offset), 2 * grads.offset, grads.offset)}


def mask_forgotten_in_x(grads, grad_output, x, offset, weight, bias=None, *, mask=None, **options):
    return {"x": reference.deform_conv2d_backward(grad_output, x, offset, weight, **options).x}


def bias_averaged(grads, *args, **options):
    return {} if grads.bias is None else {"bias": grads.bias / 2}


def nan_as_zero(grads, *args, **options):
    return {"offset": np.nan_to_num(grads.offset), "weight": np.nan_to_num(grads.weight)}


def sampled(change):
    """A bug in sample, on the values it returns."""
    return bug(sample=lambda x, p, **options: change(reference.sample(x, p, **options), x, p))


def at_points(change):
    """A bug in sample and its backward, in the points."""
    return bug(
        sample=lambda x, p, **o: reference.sample(x, change(p), **o),
        sample_backward=lambda g, x, p, **o: reference.sample_backward(g, x, change(p), **o),
    )


def without_last_row(x, p, **options):
    return reference.sample(np.pad(x[:, :-1], ((0, 0), (0, 1), (0, 0))), p, **options)


def one_stride(x, offset, weight, bias=None, *, stride, dilation, **options):
    """The grid laid with the stride of y on both axes: what is left over goes into the offset."""
    off = (stride[0] - stride[1]) * np.arange(offset.shape[3])
    moved = offset.copy()
    moved[:, 1::2] += off.astype(offset.dtype)
    return reference.deform_conv2d(
        x, moved, weight, bias, stride=stride, dilation=dilation, **options
    )


def flipped_gradient(grads, grad_output, x, weight, bias=None, **options):
    turned = weight[:, :, ::-1, ::-1]
    return {"x": reference.conv2d_backward(grad_output, x, turned, bias, **options).x}


def flipped(x, weight, bias=None, **options):
    return reference.conv2d(x, weight[:, :, ::-1, ::-1], bias, **options)


def left_loses_the_edge(grads, *args, side="right", **options):
    return {"x": grads.x / 2} if side == "left" else {}


def doubled_in_half(x, p, **options):
    return reference.sample(x, p, **options) * (2 if x.dtype == np.float16 else 1)


def biased_in_half(x, weight, bias=None, **options):
    """The bias a quarter too large, in float16 alone."""
    if bias is not None and x.dtype == np.float16:
        bias = bias * x.dtype.type(1.25)
    return reference.conv2d(x, weight, bias, **options)


SABOTAGE = [
    ("forward_is_exact", "x-first channel order",
     on_arguments(lambda offset, **_: {"offset": swapped(offset)})),
    ("forward_is_exact", "coordinates off by 1e-5",
     on_arguments(lambda offset, **_: {"offset": offset + offset.dtype.type(1e-5)})),
    ("backward_is_exact", "dilation forgotten in the backward", on_grads(dilation_forgotten)),
    ("gradients_are_adjoint", "mask forgotten in the gradient of x", on_grads(mask_forgotten_in_x)),
    ("gradients_are_central_differences", "dy and dx exchanged in the gradient",
     on_grads(lambda grads, *a, **_: {"offset": swapped(grads.offset)})),
    ("gradients_are_central_differences", "the stray sum of equation (7)", on_grads(stray_sum)),
    ("kinks_have_one_sided_derivatives", "side ignored", on_grads(always_right)),
    ("zero_offset_is_convolution", "kernel transposed in memory",
     on_arguments(lambda weight, **_: {"weight": weight.swapaxes(2, 3).reshape(weight.shape)})),
    ("whole_offset_is_shift", "offset subtracted",
     on_arguments(lambda offset, **_: {"offset": -offset})),
    ("linear_in_x_and_weight", "negative pixels cut off",
     on_arguments(lambda x, **_: {"x": np.maximum(x, 0)})),
    ("bias_is_added", "bias forgotten", on_arguments(lambda **_: {"bias": None})),
    ("bias_is_added", "gradient of the bias averaged", on_grads(bias_averaged)),
    ("mask_multiplies", "mask applied twice",
     on_arguments(lambda mask, **_: {"mask": None if mask is None else mask * mask})),
    ("axes_are_alike", "stride in y used for both axes", bug(deform_conv2d=one_stride)),
    ("images_are_independent", "all images use the first one's offsets",
     on_arguments(first_images_offset)),
    ("groups_are_blocks", "channels of groups interleaved", on_arguments(interleaved_groups)),
    ("offset_groups_split_channels", "all groups use the first one's offsets",
     on_arguments(first_groups_offset)),
    ("channels_are_alike", "last channel forgotten in the gradient of the offset",
     on_grads(without_last_channel)),
    ("dcnv1_repeats_the_edge", "border ignored", on_arguments(lambda **_: {"border": "zero"})),
    ("points_not_finite", "NaN read as 0",
     on_arguments(lambda offset, **_: {"offset": np.nan_to_num(offset, nan=1e30)})),
    ("points_not_finite", "NaN turned to 0 in the gradients", on_grads(nan_as_zero)),
    ("halves_are_rounded_once", "coordinates in float16", bug(deform_conv2d=halved_coordinates)),
    ("arguments_are_left_alone", "x written to", bug(deform_conv2d=written_to)),
    ("floats_stay_within_bounds", "computed in float16",
     bug(deform_conv2d=computed_in(np.float16))),
    ("floats_stay_within_bounds", "a thousandth of a pixel aside",
     on_arguments(lambda offset, **_: {"offset": offset + offset.dtype.type(1e-3)}, backward=True)),
    ("kinks_give_a_one_sided_derivative", "doubled at kinks", on_grads(doubled_at_kinks)),
    ("sample_is_exact", "nearest pixel", at_points(rounded_points)),
    ("sample_backward_is_exact", "gradient of p with y and x exchanged",
     on_grads(lambda grads, *a, **_: {"p": grads.p[..., ::-1]}, "sample")),
    ("constant_map_samples_to_itself", "last row never read", bug(sample=without_last_row)),
    ("whole_points_read_pixels", "half a pixel aside", at_points(lambda p: p + p.dtype.type(0.5))),
    ("ramps_are_followed", "nearest pixel", at_points(rounded_points)),
    ("conv2d_is_exact", "kernel flipped", bug(conv2d=flipped)),
    ("conv2d_is_adjoint", "gradient of x with the kernel flipped",
     on_grads(flipped_gradient, "conv2d")),
    ("sides_differ_in_the_offset_alone", "the left weights of dcnv1 lose the last pixel",
     on_grads(left_loses_the_edge)),
    ("sample_points_not_finite", "NaN read as 0",
     at_points(lambda p: np.nan_to_num(p, nan=1e30, posinf=1e30, neginf=-1e30))),
    ("sample_is_exact", "float16 computed twice as large", bug(sample=doubled_in_half)),
    ("conv2d_is_exact", "the bias a quarter too large in float16", bug(conv2d=biased_in_half)),
    ("zero_offset_is_convolution", "gradient of the bias averaged", on_grads(bias_averaged)),
]  # fmt: skip


def verdicts(law, implementation):
    """What the law says of each of many problems: None, or the assertion that failed."""
    for dtype in law.dtypes:
        for problem in problems.some(48, *law.families, dtype=dtype, **law.limits):
            try:
                law.check(implementation, problem)
                yield None
            except AssertionError as error:
                yield error


@pytest.mark.parametrize(
    ("law", "name", "wrong"), SABOTAGE, ids=[f"{s[0]}: {s[1]}" for s in SABOTAGE]
)
def test_law_catches(law, name, wrong):
    errors = [error for error in verdicts(LAWS[law], wrong) if error is not None]
    assert errors, f"{law} did not notice: {name}"


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_law_lets_the_reference_pass(law):
    assert not any(verdicts(law, REFERENCE))


def test_every_law_has_its_bug():
    assert {row[0] for row in SABOTAGE} == set(LAWS)
