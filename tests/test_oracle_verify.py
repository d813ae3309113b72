"""`verify` and its report: what is asked for, what is listed, and that bad input is told."""

import json
import sys

import numpy as np
import pytest

from deformable_convnets import reference
from deformable_convnets.reference.oracle import (
    Implementation,
    check,
    features,
    problems,
    shapes,
    verify,
)
from deformable_convnets.reference.oracle.failures import NotSupported
from deformable_convnets.reference.oracle.implementation import OPERATORS, REFERENCE
from deformable_convnets.reference.oracle.laws import LAWS

FEW = {"dtype": "float32", "examples": 10}


def right(x, offset, weight, bias=None, **options):
    return reference.deform_conv2d(x, offset, weight, bias, **options)


def x_first(x, offset, weight, bias=None, **options):
    N, channels, Ho, Wo = offset.shape
    turned = offset.reshape(N, channels // 2, 2, Ho, Wo)[:, :, ::-1].reshape(offset.shape)
    return reference.deform_conv2d(x, turned, weight, bias, **options)


def plain(x, offset, weight):
    """No bias, mask, stride, padding, dilation or border."""
    if weight.shape[1] != x.shape[1]:
        raise NotImplementedError("groups")
    return reference.deform_conv2d(x, offset, weight)


@pytest.mark.parametrize("op", OPERATORS)
def test_the_reference_keeps_every_law_of_every_operator(op):
    report = verify(REFERENCE, op, dtype=("float32", "float64", "float16"), examples=5,
                    border=("zero", "dcnv1"), bins=("paper", "mxnet", "align"))  # fmt: skip
    report.assert_ok()
    needs = [entry for entry in report.not_checked if not entry.reason.startswith("is about")]
    assert all(entry.reason.startswith("needs") for entry in needs)
    assert {entry.law for entry in needs} <= {
        "each_bin_reads_its_score_map", "zero_offset_is_plain_pooling", "offsets_not_finite",
        "offset_gradients_are_central_differences", "gamma_scales_the_offset",
    }  # fmt: skip


def test_a_forward_alone_is_held_to_what_the_laws_say_of_it():
    report = verify(right, **FEW)
    assert report.ok
    assert not report.gradients
    assert {kept.law for kept in report.kept} == {
        law.name for law in LAWS.values()
        if law.operator == "deform_conv2d" and not law.gradients and "float32" in law.dtypes
    }  # fmt: skip


def test_what_a_signature_lacks_is_listed_and_never_tried():
    report = verify(plain, **FEW)
    assert report.ok, report
    assert set(report.lacks) == {
        "bias", "mask", "stride", "padding", "uneven padding", "dilation", "the dcnv1 border",
    }  # fmt: skip
    reasons = {entry.law: entry.reason for entry in report.not_checked}
    assert reasons["mask_multiplies"] == "needs mask"
    assert reasons["groups_are_blocks"] == "needs groups"  # by NotImplementedError
    assert "not checked (needs mask):\n  mask_multiplies" in str(report)


def test_what_is_declared_is_not_tried():
    def strict(x, offset, weight, bias=None, *, mask=None, **options):
        assert mask is None
        assert len(x) == 1
        return reference.deform_conv2d(x, offset, weight, bias, **options)

    assert verify(strict, lacks=["mask", "several images", "no images"], **FEW).ok
    report = verify(strict, **FEW)
    assert {failure.kind for failure in report.failures} == {"raised"}


def test_gradients_may_be_a_dict_or_in_order_and_some_may_lack():
    def by_name(*args, **options):
        return {"x": reference.deform_conv2d_backward(*args, **options).x}

    def in_order(*args, **options):
        return tuple(reference.deform_conv2d_backward(*args, **options))

    lacks = [f"the gradient of {name}" for name in ("offset", "weight", "bias", "mask")]
    assert verify(right, "deform_conv2d", by_name, lacks=lacks, **FEW).ok
    assert verify(right, "deform_conv2d", in_order, **FEW).ok
    report = verify(right, "deform_conv2d", by_name, laws="backward_is_exact", **FEW)
    assert report.failures[0].message == (
        "grads.offset is missing; if it is not given, say lacks=['the gradient of offset']"
    )


def test_a_broken_law_is_told_in_full():
    report = verify(x_first, **FEW)
    failure = report.failures[0]
    assert failure.law == "forward_is_exact"
    assert failure.diagnosis == "y equals the x-first channel order"
    assert failure.message.startswith("y[0, 0,")
    text = str(report)
    assert "BROKEN  forward_is_exact  (float32)" in text
    assert "with the same diagnosis" in text
    with pytest.raises(AssertionError, match="x-first channel order"):
        report.assert_ok()


def test_the_example_of_a_failure_shows_it_again():
    failure = verify(x_first, laws="forward_is_exact", **FEW).failures[0]
    lines = [line for line in failure.example.splitlines() if not line.startswith("from test_")]
    names = {"x_first": x_first}
    with pytest.raises(AssertionError) as raised:
        exec("\n".join(lines), names)
    assert str(raised.value) == failure.message


def test_the_smallest_example_is_found():
    report = verify(x_first, dtype="float32", laws="forward_is_exact", examples=50)
    problem = report.failures[0].problem
    assert problem.x.shape[:2] == (1, 1)
    assert problem.weight.size <= 3


def test_the_same_seed_gives_the_same_report():
    def one(seed):
        found = json.loads(verify(x_first, seed=seed, **FEW).json())
        return found | {"seconds": 0}

    assert one(0) == one(0)
    assert one(0) != one(1)


def test_json_has_all_that_the_text_has():
    found = json.loads(verify(x_first, **FEW).json())
    assert not found["ok"]
    assert found["failures"][0]["diagnosis"] == "y equals the x-first channel order"
    assert {"law", "dtype", "examples", "refused"} == set(found["kept"][0])
    assert {"law", "dtype", "reason"} == set(found["not_checked"][0])


def test_nothing_checked_is_not_ok():
    report = verify(right, laws="backward_is_exact", **FEW)
    assert not report.ok
    assert not report.failures
    assert "NOTHING CHECKED" in str(report)
    with pytest.raises(AssertionError, match="NOTHING CHECKED"):
        report.assert_ok()


def test_progress_is_told():
    told = []
    verify(right, laws=["forward_is_exact", "axes_are_alike"], **FEW,
           progress=lambda *about: told.append(about))  # fmt: skip
    assert told == [
        (0, 2, "forward_is_exact float32"), (1, 2, "axes_are_alike float32"), (2, 2, ""),
    ]  # fmt: skip


def test_check_is_one_law_on_one_problem():
    shape = shapes.Shape(kernel=(2, 2), at_least=(2, 3))
    problem = problems.make("base", shape, seed=1).cast("float32")
    assert check(right, "forward_is_exact", problem) is None
    with pytest.raises(AssertionError, match=r"y\[0, 0, "):
        check(x_first, "forward_is_exact", problem)
    with pytest.raises(NotSupported, match="bias"):
        check(plain, "forward_is_exact", problem.with_(bias=np.ones(1, "f4")))


def test_without_hypothesis_it_says_what_to_install(monkeypatch):
    def asked(*_, **__):
        raise SystemError("the kernel was called")

    monkeypatch.setitem(sys.modules, "hypothesis", None)
    words = "verify needs Hypothesis: in a checkout, pip install '.\\[oracle\\]'"
    with pytest.raises(ImportError, match=words):
        verify(asked, **FEW)


def test_the_words_of_a_diagnosis_suit_volumes():
    for operator in ("deform_conv2d", "deform_conv3d"):
        assert features.meaning(operator, "unequal axes").endswith("differ between the axes")
    assert features.meaning("roi_pool", "unequal axes").endswith("differs between y and x")


def wrong_grads(*_, **__):
    return None


MISUSE = [
    ({"op": "deform"}, ValueError, "op is 'deform', expected one of sample, conv2d"),
    ({"dtype": "f4"}, ValueError, "dtype is 'f4', expected one of float16"),
    ({"dtype": ()}, ValueError, "dtype is .*, expected one or more of float16"),
    ({"border": "clamp"}, ValueError, "border is 'clamp', expected one of zero, dcnv1"),
    ({"bins": "max"}, ValueError, "bins is 'max', expected one of paper"),
    ({"laws": "is_right"}, ValueError, "laws is 'is_right', expected one of forward_is_exact"),
    ({"laws": "sample_is_exact"}, ValueError, "laws is 'sample_is_exact', expected one of"),
    ({"lacks": "masks"}, ValueError, "lacks is 'masks', expected one of float16"),
    ({"time_limit": float("nan")}, ValueError, "time_limit is nan, expected a number of seconds"),
    ({"dtype": None}, ValueError, "dtype is None, expected one or more of float16"),
    ({"seed": "abc"}, ValueError, "seed is 'abc', expected an int of at least 0"),
    ({"examples": 0}, ValueError, "examples is 0, expected an int of at least 1"),
    ({"arrays": "tensorflow"}, ValueError, "tensorflow"),
    ({"backward": "mine"}, TypeError, "deform_conv2d_backward is 'mine', expected a callable"),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "error", "words"), MISUSE)
def test_misuse_is_told(wrong, error, words):
    with pytest.raises(error, match=words):
        verify(right, **{"dtype": "float32", **wrong})


def test_an_implementation_without_the_operator_is_told():
    mine = Implementation("mine", {"sample": reference.sample})
    with pytest.raises(ValueError, match="mine has no operator 'conv2d', only sample"):
        verify(mine, "conv2d", dtype="float32")
    only = Implementation("mine", {"deform_conv2d": right}, lacks=frozenset(["the zero border"]))
    with pytest.raises(ValueError, match="mine lacks the zero border"):
        verify(only, dtype="float32")
