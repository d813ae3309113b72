"""What bad input gets: the same words from every implementation, and nothing is written.

Each row changes one argument of a good call. The words are whole messages, so that what a person
reads is what is tested.
"""

import inspect

import numpy as np
import pytest
from implementations import ENTRIES

from deformable_convnets import reference

DTYPES = "float16, float32 or float64"
OPTIONS = {"stride": 1, "padding": ((1, 0), (0, 0)), "dilation": 1}


def f4(*shape):
    return np.zeros(shape, np.float32)


def good():
    """A call to deform_conv2d with groups = 2 and G = 2, K = 6."""
    return {
        "x": f4(1, 4, 6, 7), "offset": f4(1, 24, 5, 6), "weight": f4(2, 2, 3, 2),
        "bias": f4(2), "mask": f4(1, 12, 5, 6), **OPTIONS,
    }  # fmt: skip


ROWS = [
    ({"x": f4(4, 6, 7)}, ValueError, "x has 3 dimensions, expected 4: N C H W"),
    ({"x": f4(1, 4, 0, 7)}, ValueError, "x has C = 4, H = 0, W = 7, expected 1 or more of each"),
    ({"weight": f4(2, 2, 3)}, ValueError, "weight has 3 dimensions, expected 4: O C/groups kh kw"),
    ({"weight": f4(2, 2, 0, 2)}, ValueError,
     "weight has O = 2, C/groups = 2, kh = 0, kw = 2, expected 1 or more of each"),
    ({"weight": f4(2, 3, 3, 2)}, ValueError,
     "weight has 3 input channels, expected a divisor of C = 4"),
    ({"weight": f4(3, 2, 3, 2)}, ValueError,
     "weight has 3 output channels, expected a multiple of groups = C // (C/groups) = 4 // 2 = 2"),
    ({"offset": f4(1, 16, 5, 6)}, ValueError,
     "offset has 16 channels, expected a multiple of 2 * kh * kw = 12"),
    ({"offset": f4(1, 0, 5, 6)}, ValueError,
     "offset has 0 channels, expected a multiple of 2 * kh * kw = 12"),
    ({"offset": f4(1, 36, 5, 6)}, ValueError,
     "offset has 36 channels, 3 offset groups of 2 * kh * kw = 12, expected a divisor of "
     "C = 4 groups"),
    ({"offset": f4(2, 24, 5, 6)}, ValueError,
     "offset has shape (2, 24, 5, 6), expected (N, 2 * G * kh * kw, Ho, Wo) = (1, 24, 5, 6)"),
    ({"offset": f4(1, 24, 6, 5)}, ValueError,
     "offset has shape (1, 24, 6, 5), expected (N, 2 * G * kh * kw, Ho, Wo) = (1, 24, 5, 6)"),
    ({"offset": f4(24, 5, 6)}, ValueError, "offset has 3 dimensions, expected 4: N 2*G*K Ho Wo"),
    ({"offset": None}, TypeError, "offset is None, expected an array"),
    ({"x": None}, TypeError, "x is None, expected an array"),
    ({"weight": None}, TypeError, "weight is None, expected an array"),
    ({"x": np.ma.masked_array(f4(1, 4, 6, 7))}, TypeError,
     f"x is of type MaskedArray, expected an array of {DTYPES}"),
    ({"stride": 2**40}, ValueError, "stride is 1099511627776, expected 2147483647 or less"),
    ({"padding": ((2**31, 0), (0, 0))}, ValueError,
     "padding is ((2147483648, 0), (0, 0)), expected 2147483647 or less"),
    ({"bias": f4(3)}, ValueError, "bias has shape (3,), expected (O,) = (2,)"),
    ({"bias": f4(2, 1)}, ValueError, "bias has 2 dimensions, expected 1: O"),
    ({"mask": f4(1, 6, 5, 6)}, ValueError,
     "mask has shape (1, 6, 5, 6), expected (N, G * kh * kw, Ho, Wo) = (1, 12, 5, 6)"),
    ({"stride": 0}, ValueError, "stride is 0, expected 1 or more"),
    ({"stride": (1, -2)}, ValueError, "stride is (1, -2), expected 1 or more"),
    ({"stride": 1.5}, TypeError, "stride is 1.5, expected an int or a pair of ints (y, x)"),
    ({"stride": (1, 2, 3)}, TypeError,
     "stride is (1, 2, 3), expected an int or a pair of ints (y, x)"),
    ({"dilation": 0}, ValueError, "dilation is 0, expected 1 or more"),
    ({"dilation": True}, TypeError, "dilation is True, expected an int or a pair of ints (y, x)"),
    ({"padding": -1}, ValueError, "padding is -1, expected 0 or more"),
    ({"padding": ((0, 0), (0, -1))}, ValueError,
     "padding is ((0, 0), (0, -1)), expected 0 or more"),
    ({"padding": "same"}, TypeError,
     "padding is 'same', expected an int, (y, x) or ((top, bottom), (left, right))"),
    ({"padding": ((1, 0), 2)}, TypeError,
     "padding is ((1, 0), 2), expected an int, (y, x) or ((top, bottom), (left, right))"),
    ({"dilation": 9}, ValueError,
     "y would have -11 x -2 pixels, expected 1 x 1 or more: along H it has (size + padding -"
     " dilation * (k - 1) - 1) // stride + 1 = (6 + 1 + 0 - 9 * (3 - 1) - 1) // 1 + 1"),
    ({"dilation": (1, 7)}, ValueError,
     "y would have 5 x 0 pixels, expected 1 x 1 or more: along W it has (size + padding -"
     " dilation * (k - 1) - 1) // stride + 1 = (7 + 0 + 0 - 7 * (2 - 1) - 1) // 1 + 1"),
    ({"border": "clamp"}, ValueError, "border is 'clamp', expected 'zero' or 'dcnv1'"),
    ({"border": None}, ValueError, "border is None, expected 'zero' or 'dcnv1'"),
    ({"x": f4(1, 4, 6, 7).astype(int)}, TypeError, f"x has dtype int64, expected {DTYPES}"),
    ({"x": f4(1, 4, 6, 7).astype(complex)}, TypeError,
     f"x has dtype complex128, expected {DTYPES}"),
    ({"x": f4(1, 4, 6, 7).astype(">f4")}, TypeError,
     "x has dtype >f4, not in this machine's byte order, expected float32"),
    ({"weight": f4(2, 2, 3, 2).astype("f8")}, TypeError,
     "weight has dtype float64, expected float32, the dtype of x being float32"),
    ({"offset": f4(1, 24, 5, 6).astype("f8")}, TypeError,
     "offset has dtype float64, expected float32, the dtype of x being float32"),
    ({"mask": f4(1, 12, 5, 6).astype("f2")}, TypeError,
     "mask has dtype float16, expected float32, the dtype of x being float32"),
    ({"weight": "kernel"}, TypeError, f"weight is of type str, expected an array of {DTYPES}"),
    ({"x": [[1.0]]}, TypeError, f"x is of type list, expected an array of {DTYPES}"),
    ({"bias": 0.0}, TypeError, f"bias is of type float, expected an array of {DTYPES}"),
]  # fmt: skip
BACKWARD_ROWS = [
    ({"grad_output": None}, TypeError, "grad_output is None, expected an array"),
    ({"grad_output": f4(1, 2, 6, 5)}, ValueError,
     "grad_output has shape (1, 2, 6, 5), expected (N, O, Ho, Wo) = (1, 2, 5, 6)"),
    ({"grad_output": f4(1, 2, 5, 6).astype("f8")}, TypeError,
     "grad_output has dtype float64, expected float32, the dtype of x being float32"),
    ({"side": "up"}, ValueError, "side is 'up', expected 'right' or 'left'"),
]  # fmt: skip
SAMPLE_ROWS = [
    ({"x": None}, TypeError, "x is None, expected an array  [p (3, 2)]"),
    ({"p": None}, TypeError, "p is None, expected an array  [x (4, 6, 7)]"),
    ({"x": f4(6, 7)}, ValueError, "x has 2 dimensions, expected 3: C H W  [x (6, 7), p (3, 2)]"),
    ({"x": f4(4, 6, 0)}, ValueError,
     "x has C = 4, H = 6, W = 0, expected 1 or more of each  [x (4, 6, 0), p (3, 2)]"),
    ({"p": f4(3, 3)}, ValueError,
     "p has shape (3, 3), expected (..., 2): y and x  [x (4, 6, 7), p (3, 3)]"),
    ({"p": f4(2).astype("f8")}, TypeError,
     "p has dtype float64, expected float32, the dtype of x being float32  [x (4, 6, 7), p (2,)]"),
    ({"border": "reflect"}, ValueError,
     "border is 'reflect', expected 'zero' or 'dcnv1'  [x (4, 6, 7), p (3, 2)]"),
]  # fmt: skip
CONV_ROWS = [
    ({"weight": None}, TypeError, "weight is None, expected an array  [x (1, 4, 6, 7)]"),
    ({"weight": f4(2, 3, 1, 1)}, ValueError,
     "weight has 3 input channels, expected a divisor of C = 4  [x (1, 4, 6, 7), weight "
     "(2, 3, 1, 1)]"),
    ({"stride": 0}, ValueError,
     "stride is 0, expected 1 or more  [x (1, 4, 6, 7), weight (2, 4, 3, 3)]"),
]  # fmt: skip


def door(entry, operator):
    """The callable as a user gets it, without the type checks of the test run."""
    return inspect.unwrap(entry.implementation.call[operator])


def message(call, changes, error):
    """What the call says, when it raises this error; its arguments must be left as they were."""
    arrays = {n: a for n, a in {**call.keywords, **changes}.items() if isinstance(a, np.ndarray)}
    before = {name: a.copy() for name, a in arrays.items()}
    with pytest.raises(error) as raised:
        call(**changes)
    assert all((arrays[name] == before[name]).all() for name in arrays)
    assert type(raised.value) is error
    return str(raised.value)


def calling(entry, operator, arguments):
    def call(**changes):
        return door(entry, operator)(**{**arguments, **changes})

    call.keywords = arguments
    return call


def bracket(changes):
    """The end of a message: the shapes of the call."""
    given, order = {**good(), **changes}, ("x", "weight", "offset", "bias", "mask", "grad_output")
    arrays = {name: given[name] for name in order if given.get(name) is not None}
    words = [f"{name} {getattr(a, 'shape', type(a).__name__)}" for name, a in arrays.items()]
    return f"  [{', '.join(words)}]"


def offering(operator):
    """The entries that have this operator, as parameters."""
    having = {name: e for name, e in ENTRIES.items() if operator in e.implementation.call}
    return pytest.mark.parametrize("entry", having.values(), ids=having)


@offering("deform_conv2d")
@pytest.mark.parametrize(("changes", "error", "words"), ROWS, ids=[r[2][:40] for r in ROWS])
def test_deform_conv2d(entry, changes, error, words):
    call = calling(entry, "deform_conv2d", good())
    assert message(call, changes, error) == words + bracket(changes)


@offering("deform_conv2d_backward")
@pytest.mark.parametrize(("changes", "error", "words"), ROWS[:1] + ROWS[6:7] + BACKWARD_ROWS)
def test_deform_conv2d_backward(entry, changes, error, words):
    given = {"grad_output": f4(1, 2, 5, 6), **changes}
    call = calling(entry, "deform_conv2d_backward", {**good(), "grad_output": f4(1, 2, 5, 6)})
    assert message(call, changes, error) == words + bracket(given)


@offering("sample")
@pytest.mark.parametrize(
    ("changes", "error", "words"), SAMPLE_ROWS, ids=[r[2][:40] for r in SAMPLE_ROWS]
)
def test_sample(entry, changes, error, words):
    call = calling(entry, "sample", {"x": f4(4, 6, 7), "p": f4(3, 2)})
    assert message(call, changes, error) == words


@offering("conv2d")
@pytest.mark.parametrize(
    ("changes", "error", "words"), CONV_ROWS, ids=[r[2][:40] for r in CONV_ROWS]
)
def test_conv2d(entry, changes, error, words):
    call = calling(entry, "conv2d", {"x": f4(1, 4, 6, 7), "weight": f4(2, 4, 3, 3)})
    assert message(call, changes, error) == words


def test_a_call_that_is_right_does_not_raise():
    for entry in ENTRIES.values():
        if not entry.missing():
            assert door(entry, "deform_conv2d")(**good()).shape == (1, 2, 5, 6)


def test_matrices_check_their_points():
    for function in map(inspect.unwrap, (reference.G, reference.dG)):
        with pytest.raises(ValueError, match=r"p has shape \(3,\), expected \(..., 2\)"):
            function(f4(3), (4, 5))
        with pytest.raises(
            ValueError, match=r"size is \(4, 0\), expected 1 or more  \[p \(3, 2\)\]"
        ):
            function(f4(3, 2), (4, 0))
        with pytest.raises(TypeError, match="p is None, expected an array"):
            function(None, (4, 5))


MODULE = {
    "x": f4(1, 4, 6, 7), "offset_weight": f4(24, 4, 3, 2), "offset_bias": f4(24),
    "weight": f4(2, 2, 3, 2), "bias": f4(2),
}  # fmt: skip
MODULE_ROWS = [
    ({"offset_bias": None}, TypeError, "offset_bias is None, expected an array"),
    ({"offset_bias": f4(12)}, ValueError,
     "offset_bias has shape (12,), expected (2 * G * kh * kw,) = (24,)"),
    ({"offset_weight": f4(24, 4, 3, 3)}, ValueError,
     "offset_weight has shape (24, 4, 3, 3), expected (2 * G * kh * kw, C, kh, kw) ="
     " (24, 4, 3, 2)"),
    ({"offset_weight": f4(24, 2, 3, 2)}, ValueError,
     "offset_weight has shape (24, 2, 3, 2), expected (2 * G * kh * kw, C, kh, kw) ="
     " (24, 4, 3, 2)"),
    ({"offset_weight": f4(36, 4, 3, 2)}, ValueError,
     "offset_weight has 36 output channels, expected a multiple of 2 * kh * kw = 12 by a divisor of"
     " C = 4"),
    ({"border": "edge"}, ValueError, "border is 'edge', expected 'zero' or 'dcnv1'"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "error", "words"), MODULE_ROWS, ids=[r[2][:40] for r in MODULE_ROWS]
)
def test_deform_conv_module(changes, error, words):
    arguments = {**MODULE, **changes}
    y = f4(1, 2, 4, 6)
    for door, more in (
        ("deform_conv_module", {}),
        ("deform_conv_module_backward", {"grad_output": y}),
    ):
        with pytest.raises(error) as raised:
            inspect.unwrap(getattr(reference, door))(**more, **arguments)
        assert str(raised.value).startswith(f"{words}  [x ")


def test_zero_offset_branch():
    branch = inspect.unwrap(reference.zero_offset_branch)
    with pytest.raises(ValueError, match="weight has 2 dimensions, expected 4"):
        branch(f4(3, 3), 2)
    with pytest.raises(TypeError, match="weight is of type list"):
        branch([1.0], 2)
    with pytest.raises(TypeError, match="expected an int or a pair of ints"):
        branch(f4(2, 2, 3, 3), (2, 7))
    with pytest.raises(ValueError, match="kh = 0, kw = 3, expected 1 or more"):
        branch(f4(2, 2, 0, 3), 2)
