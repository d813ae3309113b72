"""Kernels of odd forms and with odd ends: what `verify` makes of them."""

import os

import numpy as np
import pytest
from test_oracle_verify import FEW, right

from deformable_convnets import reference
from deformable_convnets.reference.oracle import check, problems, shapes, verify
from deformable_convnets.reference.oracle.failures import Failed
from deformable_convnets.reference.oracle.implementation import REFERENCE


def test_arguments_by_place_may_have_other_names():
    def renamed(image, moves, kernel, shift=None, *, stride=1, padding=0, dilation=1, mask=None):
        return reference.deform_conv2d(
            image,
            moves,
            kernel,
            shift,
            stride=stride,
            padding=padding,
            dilation=dilation,
            mask=mask,
        )

    report = verify(renamed, **FEW)
    assert report.ok, report
    assert report.lacks == ("the dcnv1 border",)


@pytest.mark.parametrize("op", ["sample", "conv2d"])
def test_writing_to_an_argument_is_seen_in_every_operator(op):
    def wrong(x, *args, **options):
        y = getattr(reference, op)(x, *args, **options)
        if x.flags.writeable:
            x += 1
        return y

    report = verify(wrong, op, **FEW)
    (failure,) = report.failures
    assert failure.law == f"{op}_leaves_its_arguments_alone"
    assert failure.diagnosis == "it writes to its argument x"


def test_a_law_that_compared_nothing_is_not_kept():
    def offset_alone(*args, **options):
        return {"offset": reference.deform_conv2d_backward(*args, **options).offset}

    lacks = [f"the gradient of {name}" for name in ("x", "weight", "bias", "mask")]
    report = verify(right, "deform_conv2d", offset_alone, lacks=lacks, **FEW)
    assert report.ok
    reasons = {entry.law: entry.reason for entry in report.not_checked}
    assert "the gradient of x" in reasons["gradients_are_adjoint"]


def test_refusing_nearly_everything_is_not_to_keep_a_law():
    def empty_alone(x, offset, weight, bias=None, **options):
        if x.size:
            raise NotImplementedError("pixels")
        return reference.deform_conv2d(x, offset, weight, bias, **options)

    report = verify(empty_alone, dtype="float32", laws="forward_is_exact", examples=20)
    assert not report.ok
    assert "the implementation refused" in str(report)


def test_more_of_everything_than_a_kernel_foresaw():
    def nine_taps(x, offset, weight, bias=None, **options):
        y = reference.deform_conv2d(x, offset, weight, bias, **options)
        return y if weight[0, 0].size <= 9 else 0 * y

    def sixteen_channels(x, offset, weight, bias=None, **options):
        kept = (np.arange(x.shape[1]) < 16).astype(x.dtype)
        return reference.deform_conv2d(x * kept[:, None, None], offset, weight, bias, **options)

    for wrong in (nine_taps, sixteen_channels):
        report = verify(wrong, dtype="float32", laws="forward_is_exact", shrink=False)
        assert report.failures, wrong


@pytest.mark.parametrize("kind", ["hung", "died"])
def test_one_end_of_the_process_is_enough(kind):
    ends = []

    def wrong(*args, **options):
        ends.append(1)
        raise Failed(kind, f"it {kind}")

    failure = verify(wrong, laws="forward_is_exact", dtype="float32", examples=50).failures[0]
    assert failure.kind == kind
    assert len(ends) <= 6  # two of the hunt, and those that the diagnosis asks for
    assert "isolated=True" in failure.example


def test_a_kernel_that_ends_python_is_only_reported():
    def exits(*args, **options):
        raise SystemExit(3)

    assert verify(exits, laws="forward_is_exact", **FEW).failures[0].kind == "raised"


def test_a_masked_array_is_no_result():
    def masked(*args, **options):
        return np.ma.array(right(*args, **options))

    failure = verify(masked, laws="forward_is_exact", **FEW).failures[0]
    assert failure.kind == "type"


def test_the_same_memory_for_every_result_is_no_bug():
    memory = np.zeros(10**5, np.float32)

    def again(*args, **options):
        y = right(*args, **options)
        view = memory[: y.size].reshape(y.shape)
        view[...] = y
        return view

    assert verify(again, **FEW).ok


def test_what_rounds_once_too_often_is_not_called_right():
    def next_up(*args, **options):
        return np.nextafter(right(*args, **options), np.float32(np.inf))

    failure = verify(next_up, laws="forward_is_exact", **FEW).failures[0]
    assert "a few units in the last place" in failure.diagnosis


def test_what_is_refused_is_counted():
    def no_groups(x, offset, weight, bias=None, **options):
        if weight.shape[1] != x.shape[1]:
            raise NotImplementedError("more than one group")
        return right(x, offset, weight, bias, **options)

    report = verify(no_groups, laws="forward_is_exact", dtype="float32", examples=30)
    assert report.ok
    assert report.kept[0].refused["more than one group"] > 0
    assert "problems more: more than one group" in str(report)


def test_the_end_of_a_process_is_told_first():
    def wrong(x, offset, weight, bias=None, *, mask=None, **options):
        if mask is not None and not mask.any():
            raise Failed("died", "the process ended with signal 11 (SIGSEGV)")
        return right(x, offset, weight, bias, mask=mask, **options) + 1

    report = verify(wrong, dtype="float32", laws=["forward_is_exact", "mask_multiplies"])
    kinds = [failures[0].kind for failures in report.causes()]
    assert kinds == sorted(kinds, key=lambda kind: kind != "died")


def test_an_implementation_has_its_own_backward():
    with pytest.raises(ValueError, match="an Implementation has its own"):
        verify(REFERENCE, "deform_conv2d", right, dtype="float32")


def test_check_names_a_wrong_operator_and_runs_in_a_child():
    problem = problems.make("base", shapes.Shape(kernel=(2, 2)), seed=1).cast("float32")
    with pytest.raises(ValueError, match="op is 'deform', expected one of sample"):
        check(right, "forward_is_exact", problem, "deform")

    def dies(*args, **options):
        os._exit(3)

    with pytest.raises(Failed, match="ended with status 3"):
        check(dies, "forward_is_exact", problem, isolated=True)
