"""What bad input gets from the RoI operators: whole messages, the same from everyone."""

import inspect

import numpy as np
import pytest
from implementations import ENTRIES

DTYPES = "float16, float32 or float64"


def f4(*shape):
    return np.zeros(shape, np.float32)


def good():
    """deform_ps_roi_pool on 2 images, 3 RoIs, Cout = 4, 2x2 score maps, P = 2."""
    return {
        "x": f4(2, 16, 5, 6), "rois": f4(3, 5), "offset": f4(3, 4, 2, 3), "output_size": (2, 3),
        "group_size": 2, "bins": "align",
    }  # fmt: skip


def rois(r, column, value):
    a = f4(3, 5)
    a[r, column] = value
    return a


ROWS = [
    ({"x": f4(16, 5, 6)}, ValueError, "x has 3 dimensions, expected 4: N C H W"),
    ({"x": None}, TypeError, "x is None, expected an array"),
    ({"x": f4(2, 18, 5, 6)}, ValueError,
     "x has 18 channels, expected a multiple of gh * gw = 2 * 2"),
    ({"x": f4(2, 16, 0, 6)}, ValueError, "x has C = 16, H = 0, W = 6, expected 1 or more of each"),
    ({"rois": f4(3, 4)}, ValueError,
     "rois has shape (3, 4), expected (R, 5): batch index, x1, y1, x2, y2"),
    ({"rois": f4(5)}, ValueError, "rois has 1 dimensions, expected 2: R 5"),
    ({"rois": None}, TypeError, "rois is None, expected an array"),
    ({"rois": f4(3, 5).astype("f8")}, TypeError,
     "rois has dtype float64, expected float32, the dtype of x being float32"),
    ({"rois": rois(1, 3, np.nan)}, ValueError, "rois[1, 3] is nan, expected a finite number"),
    ({"rois": rois(2, 1, -np.inf)}, ValueError, "rois[2, 1] is -inf, expected a finite number"),
    ({"rois": rois(1, 0, 2)}, ValueError,
     "rois[1, 0] is 2, expected a batch index, a whole number from 0 to N - 1 = 1"),
    ({"rois": rois(1, 0, 0.5)}, ValueError,
     "rois[1, 0] is 0.5, expected a batch index, a whole number from 0 to N - 1 = 1"),
    ({"rois": rois(0, 0, -1)}, ValueError,
     "rois[0, 0] is -1, expected a batch index, a whole number from 0 to N - 1 = 1"),
    ({"offset": f4(3, 3, 2, 3)}, ValueError,
     "offset has 3 channels, expected 2 * P, dy and dx for each class group"),
    ({"offset": f4(3, 6, 2, 3)}, ValueError,
     "offset has 6 channels, P = 3 class groups, expected a divisor of the 4 channels of y"),
    ({"offset": f4(3, 4, 3, 2)}, ValueError,
     "offset has shape (3, 4, 3, 2), expected (R, 2 * P, part_h, part_w) = (3, 4, 2, 3)"),
    ({"offset": f4(2, 4, 2, 3)}, ValueError,
     "offset has shape (2, 4, 2, 3), expected (R, 2 * P, part_h, part_w) = (3, 4, 2, 3)"),
    ({"output_size": 0}, ValueError, "output_size is 0, expected 1 or more"),
    ({"output_size": 2.0}, TypeError,
     "output_size is 2.0, expected an int or a pair of ints (y, x)"),
    ({"group_size": -1}, ValueError, "group_size is -1, expected 1 or more"),
    ({"part_size": "2"}, TypeError, "part_size is '2', expected an int or a pair of ints (y, x)"),
    ({"bins": "max"}, ValueError, "bins is 'max', expected 'paper', 'mxnet' or 'align'"),
    ({"samples": 0}, ValueError, "samples is 0, expected 1 to 1000 along each axis of a bin"),
    ({"samples": 1.5}, TypeError, "samples is 1.5, expected an int"),
    ({"bins": "paper", "samples": 2}, ValueError,
     "samples is 2, expected None with bins='paper', which reads pixels"),
    ({"spatial_scale": 0}, ValueError, "spatial_scale is 0, expected a positive number"),
    ({"spatial_scale": "1/16"}, TypeError, "spatial_scale is '1/16', expected a number"),
    ({"gamma": float("nan")}, ValueError, "gamma is nan, expected a finite number"),
]  # fmt: skip
HAVING = {n: e for n, e in ENTRIES.items() if "deform_ps_roi_pool" in e.implementation.call}


def bracket(given):
    names = [n for n in ("x", "rois", "offset", "grad_output") if given.get(n) is not None]
    return f"  [{', '.join(f'{name} {given[name].shape}' for name in names)}]"


@pytest.mark.parametrize("entry", HAVING.values(), ids=HAVING)
@pytest.mark.parametrize(("changes", "error", "words"), ROWS, ids=[row[2][:40] for row in ROWS])
def test_deform_ps_roi_pool(entry, changes, error, words):
    given = {**good(), **changes}
    with pytest.raises(error) as raised:
        inspect.unwrap(entry.implementation.call["deform_ps_roi_pool"])(**given)
    assert type(raised.value) is error
    assert str(raised.value) == words + bracket(given)


@pytest.mark.parametrize("entry", HAVING.values(), ids=HAVING)
def test_backward(entry):
    backward = inspect.unwrap(entry.implementation.call["deform_ps_roi_pool_backward"])
    for grad, error, words in [
        (f4(3, 4, 3, 2), ValueError,
         "grad_output has shape (3, 4, 3, 2), expected (R, Cout, kh, kw) = (3, 4, 2, 3)"),
        (None, TypeError, "grad_output is None, expected an array"),
    ]:  # fmt: skip
        given = {**good(), "grad_output": grad}
        with pytest.raises(error) as raised:
            backward(**given)
        assert str(raised.value) == words + bracket(given)
    with pytest.raises(ValueError, match="side is 'both', expected 'right' or 'left'"):
        backward(**good(), grad_output=f4(3, 4, 2, 3), side="both")


def test_a_call_that_is_right_does_not_raise():
    for entry in HAVING.values():
        if not entry.missing():
            assert entry.implementation.deform_ps_roi_pool(**good()).shape == (3, 4, 2, 3)
