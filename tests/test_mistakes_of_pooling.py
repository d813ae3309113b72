"""Every known mistake in RoI pooling is one, and `diagnose` calls it by its name."""

import numpy as np
import pytest

from deformable_convnets import reference
from deformable_convnets.reference.oracle.mistakes import MISTAKES, diagnose, same

FORWARD = ("roi_pool", "deform_roi_pool", "ps_roi_pool", "deform_ps_roi_pool")
OPERATORS = [op + end for op in FORWARD for end in ("", "_backward")]
EACH = [(op, m) for op in OPERATORS for m in MISTAKES[op]]
CALLS = [  # bins, output_size, spatial_scale, whether corners are whole, the largest offset
    ("paper", (3, 3), 1.0, True, 1),
    ("paper", (3, 3), 1.0, True, 0),  # at a kink, from the left
    ("paper", (3, 2), 1.0, True, 0),  # and from the right
    ("paper", (2, 3), 0.5, False, 1),
    ("mxnet", (3, 3), 1.0, False, 1),
    ("align", (2, 3), 0.5, False, 1),
    ("mxnet", (2, 3), 1.0, False, 1),  # a bin with a dropped sample and others
    ("align", (3, 2), 1.0, False, 1),
    ("paper", (2, 2), 1.0, False, np.nan),
]


def arguments(op, number):
    """A call of the operator: its arguments and its options."""
    bins, (kh, kw), scale, whole, largest = CALLS[number]
    rng = np.random.default_rng(number)
    maps = kh * kw if "ps_" in op else 1
    # The fourth RoI leaves the map, the last is inverted; corners of the third lie on halves.
    rois = np.array([[1, 1, 2, 8, 7], [0, 2, 0, 9, 9], [1, 0.5, 2.5, 6.5, 9], [0, -3, -2, 5, 6],
                     [0, 4, 6, 4.5, 3]])  # fmt: skip
    rois[:, 1:] = (np.round(rois[:, 1:]) if whole else rois[:, 1:]) / scale
    args = [rng.normal(size=(2, 4 * maps, 11, 13)), rois, (kh, kw)]
    options = {"spatial_scale": scale, "bins": bins} | ({} if bins == "paper" else {"samples": 2})
    if "deform" in op:
        part = (1, kw) if "ps_" in op and number % 2 else (kh, kw)
        args.insert(2, largest * rng.uniform(-1, 1, (len(rois), 4, *part)))
        options |= {"gamma": 0.25} if number % 2 else {}
        options |= {"part_size": part} if "ps_" in op else {}
    if "backward" in op:
        args.insert(0, rng.normal(size=(len(rois), 4, kh, kw)))
    if "deform" in op and "backward" in op and number % 2:
        options["side"] = "left"
    return args, options


@pytest.mark.parametrize(("op", "mistake"), EACH, ids=[f"{op}: {m.name}" for op, m in EACH])
def test_a_mistake_is_named(op, mistake):
    """In the first call that shows it."""
    for number in range(len(CALLS)):
        args, options = arguments(op, number)
        wrong = mistake.run(*args, **options)
        if not same(wrong, getattr(reference, op)(*args, **options)):
            assert mistake.name in diagnose(op, wrong, *args, **options)
            return
    pytest.fail("no call shows it")


@pytest.mark.parametrize("op", OPERATORS)
def test_a_right_result_has_no_name(op):
    for number in range(len(CALLS)):
        args, options = arguments(op, number)
        right = getattr(reference, op)(*args, **options)
        assert diagnose(op, right, *args, **options) is None


def test_offsets_may_be_missing():
    args, options = arguments("deform_roi_pool_backward", 0)
    args[3] = None
    for mistake in MISTAKES["deform_roi_pool_backward"]:
        assert mistake.run(*args, **options).offset is None


def test_a_maximum_is_told_from_another():
    """Box [0, 0, 3, 3] on 0 ... 63 has 4 x 4 pixels in torchvision, and 3 x 3 in equation (5)."""
    call = np.arange(64.0).reshape(1, 1, 8, 8), np.array([[0, 0, 0, 3.0, 3]]), 2
    inclusive, exclusive = np.array([[9.0, 11], [25, 27]]), np.array([[9.0, 10], [17, 18]])
    assert "torchvision" in diagnose("roi_pool", inclusive[None, None], *call)
    maximum = "equals the maximum over a bin, not the mean"
    assert diagnose("roi_pool", exclusive[None, None], *call) == maximum
