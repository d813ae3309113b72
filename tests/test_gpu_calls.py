"""What goes into a call of `gpu` and what comes out: kinds of arrays, gradients, messages."""

import numpy as np
import pytest
from implementations import ENTRIES

from deformable_convnets import gpu, reference

OPERATORS = ["sample", "conv2d", "deform_conv2d"]
SHAPES = {
    "sample": {"x": (2, 4, 5), "p": (3, 2, 2)},
    "conv2d": {"x": (1, 2, 4, 5), "weight": (2, 2, 2, 2), "bias": (2,)},
    "deform_conv2d": {
        "x": (1, 2, 4, 5),
        "offset": (1, 8, 3, 4),
        "weight": (2, 2, 2, 2),
        "bias": (2,),
        "mask": (1, 4, 3, 4),
    },
}
OUTPUTS = {"sample": (2, 3, 2), "conv2d": (1, 2, 3, 4), "deform_conv2d": (1, 2, 3, 4)}


@pytest.fixture(params=["numba", "numpy"])
def backend(request, runnable):
    """Numba, and the array program on NumPy, in the place of CuPy."""
    runnable(ENTRIES[f"{request.param} v1"])
    return request.param


def drawn(shapes, dtype=np.float32):
    """Dyadic numbers, so that any correct implementation agrees bit for bit."""
    rng = np.random.default_rng(0)
    return {name: (rng.integers(-8, 9, s) / 4).astype(dtype) for name, s in shapes.items()}


def problem(name, dtype=np.float32):
    return drawn(SHAPES[name], dtype), drawn({"grad_output": OUTPUTS[name]}, dtype)["grad_output"]


def both(name, given, grad_output, module=gpu, **choice):
    """The result of an operator and of its backward."""
    y = getattr(module, name)(**given, **choice)
    return y, getattr(module, f"{name}_backward")(grad_output, **given, **choice)


def assert_equal(found, expected):
    y, grads = found
    np.testing.assert_array_equal(y, expected[0], strict=True)
    assert type(grads) is type(expected[1])
    for name in grads._fields:
        np.testing.assert_array_equal(
            getattr(grads, name), getattr(expected[1], name), name, strict=True
        )


@pytest.mark.parametrize("name", OPERATORS)
def test_numpy_arrays_come_back(name, backend):
    given, grad_output = problem(name)
    found = both(name, given, grad_output, backend=backend)
    assert_equal(found, both(name, given, grad_output, reference))
    assert all(type(a) is np.ndarray for a in (found[0], *found[1]))


@pytest.mark.parametrize("name", OPERATORS)
def test_any_order_of_memory_and_read_only(name, backend):
    given, grad_output = problem(name)
    expected = both(name, given, grad_output, reference)
    for changed in (np.asfortranarray, every_second, read_only):
        other = {key: changed(a) for key, a in given.items()}
        assert_equal(both(name, other, changed(grad_output), backend=backend), expected)


def every_second(a):
    """A view with gaps, equal to a."""
    wide = np.repeat(a, 2, axis=-1)
    return wide[..., ::2]


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


@pytest.mark.parametrize("name", OPERATORS)
def test_nothing_to_do(name, backend):
    """No image, or no point: empty results, and gradients of parameters that are 0."""
    shapes = {
        key: (0, *s[1:]) if len(s) == 4 and key != "weight" else s
        for key, s in SHAPES[name].items()
    }
    output = (0, *OUTPUTS[name][1:])
    if name == "sample":
        shapes["p"], output = (0, 2, 2), (2, 0, 2)
    given, grad_output = drawn(shapes), np.zeros(output, np.float32)
    found = both(name, given, grad_output, backend=backend)
    assert_equal(found, both(name, given, grad_output, reference))


@pytest.mark.parametrize("name", OPERATORS)
def test_numba_arrays_come_back(name, runnable):
    """Device arrays in, device arrays out; views with gaps too."""
    runnable(ENTRIES["numba v1"])
    from numba import cuda

    given, grad_output = problem(name)
    expected = both(name, given, grad_output, reference)
    for order in (lambda a: a, np.asfortranarray):
        taken = {key: cuda.to_device(order(a)) for key, a in given.items()}
        y, grads = both(name, taken, cuda.to_device(order(grad_output)), backend="numba")
        assert all(type(a) is type(taken["x"]) for a in (y, *grads))
        host = [a.copy_to_host() for a in grads]
        assert_equal((y.copy_to_host(), type(grads)(*host)), expected)


@pytest.mark.parametrize("name", OPERATORS)
def test_wrt(name, backend):
    """Only the gradients wanted are there, and they are those of the whole call."""
    given, grad_output = problem(name)
    backward = getattr(gpu, f"{name}_backward")
    expected = getattr(reference, f"{name}_backward")(grad_output, **given)
    for field in expected._fields:
        for wrt in (field, [field]):
            grads = backward(grad_output, **given, backend=backend, wrt=wrt)
            assert [f for f in grads._fields if getattr(grads, f) is not None] == [field]
            np.testing.assert_array_equal(getattr(grads, field), getattr(expected, field))
    assert set(backward(grad_output, **given, backend=backend, wrt=())) == {None}


def test_wrt_of_what_is_not_given_is_none():
    given, grad_output = problem("conv2d")
    del given["bias"]
    assert gpu.conv2d_backward(grad_output, **given, backend="numpy", wrt="bias").bias is None


def test_wrt_unknown():
    given, grad_output = problem("conv2d")
    with pytest.raises(ValueError, match="wrt has 'offset', expected names among 'x', 'weight' or"):
        gpu.conv2d_backward(grad_output, **given, backend="numpy", wrt=("x", "offset"))


@pytest.mark.parametrize("wrt", [5, np.float32])
def test_wrt_that_is_no_names(wrt):
    given, grad_output = problem("conv2d")
    with pytest.raises(TypeError) as found:
        gpu.conv2d_backward(grad_output, **given, backend="numpy", wrt=wrt)
    assert str(found.value) == (
        f"wrt is {wrt!r}, expected None or an iterable of names among 'x', 'weight' or 'bias'"
    )


BAD = [
    ("conv2d", {"x": [1.0]}),
    ("conv2d", {"x": None}),
    ("conv2d", {"weight": np.ones((2, 3, 2, 2), np.float32)}),
    ("conv2d", {"bias": np.ones(3, np.float32)}),
    ("conv2d", {"stride": 0}),
    ("conv2d", {"padding": -1}),
    ("conv2d", {"x": np.ones((1, 2, 4, 5), ">f4")}),
    ("conv2d", {"x": np.ones((1, 2, 4, 5), np.int64)}),
    ("conv2d", {"weight": None}),
    ("sample", {"x": None}),
    ("sample", {"p": None}),
    ("deform_conv2d", {"offset": None}),
    ("deform_conv2d", {"offset": np.ones((1, 7, 3, 4), np.float32)}),
    ("deform_conv2d", {"offset": np.ones((1, 8, 3, 4), np.float64)}),
    ("deform_conv2d", {"mask": np.ones((1, 5, 3, 4), np.float32)}),
    ("deform_conv2d", {"border": "clamp"}),
    ("sample", {"p": np.ones((3, 3), np.float32)}),
    ("sample", {"x": np.float32(1)}),
]


@pytest.mark.parametrize(("name", "change"), BAD)
@pytest.mark.parametrize("backend", [None, "numpy"])
def test_messages_are_those_of_the_reference(name, change, backend):
    given, grad_output = problem(name)
    given |= change
    calls = [("", ()), ("_backward", (grad_output,))]
    for suffix, before in calls:
        with pytest.raises((ValueError, TypeError)) as expected:
            getattr(reference, name + suffix)(*before, **given)
        with pytest.raises(expected.type) as found:
            getattr(gpu, name + suffix)(*before, **given, backend=backend)
        assert str(found.value) == str(expected.value)


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("wrt", [None, ()])
def test_no_grad_output(name, wrt):
    given, _ = problem(name)
    with pytest.raises(
        TypeError, match=r"grad_output is None, expected an array  \[x "
    ) as expected:
        getattr(reference, f"{name}_backward")(None, **given)
    with pytest.raises(TypeError) as found:
        getattr(gpu, f"{name}_backward")(None, **given, backend="numpy", wrt=wrt)
    assert str(found.value) == str(expected.value)


def test_float16_with_offsets_in_float32(backend):
    """Each gradient is in the dtype of its argument; the arithmetic is in float32."""
    given, grad_output = problem("deform_conv2d", np.float16)
    given["offset"] = given["offset"].astype(np.float32) * 1.25
    found = both("deform_conv2d", given, grad_output, backend=backend)
    assert_equal(found, both("deform_conv2d", given, grad_output, reference))
