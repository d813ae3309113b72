"""What is refused, in the words of the reference and of `gpu`."""

import numpy as np
import pytest

jax = pytest.importorskip("jax", reason="JAX is in the extra `jax`; `make test-jax` installs it")

from operator_cases import (  # noqa: E402
    RIGHT,
    RIGHT_POOLING,
    RIGHT_VOLUMES,
    WRONG,
    WRONG_POOLING,
    WRONG_VOLUMES,
)

from deformable_convnets import gpu, reference  # noqa: E402
from deformable_convnets.gpu import jax as ours  # noqa: E402

compiled = pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])


def called(function, given, compiled=False):
    """With its arrays as JAX's; compiled, they are what is not known yet."""
    arrays = {n: jax.numpy.asarray(a) for n, a in given.items() if isinstance(a, np.ndarray)}
    others = {n: a for n, a in given.items() if n not in arrays}

    def call(arrays):
        return function(**arrays, **others)

    return jax.block_until_ready((jax.jit(call) if compiled else call)(arrays))


@pytest.mark.parametrize("changes", WRONG.values(), ids=WRONG)
@compiled
def test_the_errors_of_the_reference(changes, compiled):
    """Also of arrays that are not there yet, and of NumPy's."""
    given = RIGHT | changes
    with pytest.raises((TypeError, ValueError)) as expected:
        reference.deform_conv2d(**given)
    for refused in (
        lambda: called(ours.deform_conv2d, given, compiled),
        lambda: ours.deform_conv2d(**given),
        lambda: jax.vmap(lambda x: ours.deform_conv2d(**given | {"x": x}))(np.stack([given["x"]])),
    ):
        with pytest.raises(expected.type) as found:
            refused()
        assert str(found.value) == str(expected.value)


@pytest.mark.parametrize("changes", WRONG_VOLUMES, ids=str)
@compiled
def test_the_errors_of_the_reference_on_volumes(changes, compiled):
    reference.deform_conv3d(**RIGHT_VOLUMES)
    given = RIGHT_VOLUMES | changes
    with pytest.raises((TypeError, ValueError)) as expected:
        reference.deform_conv3d(**given)
    with pytest.raises(expected.type) as found:
        called(ours.deform_conv3d, given, compiled)
    assert str(found.value) == str(expected.value)


@pytest.mark.parametrize("changes", WRONG_POOLING, ids=str)
def test_the_errors_of_the_reference_in_pooling(changes):
    given = RIGHT_POOLING | changes
    with pytest.raises((TypeError, ValueError)) as expected:
        reference.deform_ps_roi_pool(**given)
    with pytest.raises(expected.type) as found:
        called(ours.deform_ps_roi_pool, given)
    assert str(found.value) == str(expected.value)


@pytest.mark.parametrize("changes", WRONG_POOLING[:2], ids=str)
def test_values_of_rois_are_known_when_it_runs(changes):
    """JAX's error, around ours."""
    given = RIGHT_POOLING | changes
    with pytest.raises(ValueError, match="rois") as expected:
        reference.deform_ps_roi_pool(**given)
    with pytest.raises(jax.errors.JaxRuntimeError) as found:
        called(ours.deform_ps_roi_pool, given, compiled=True)
    assert f"ValueError: {expected.value}" in str(found.value)


def test_rois_that_are_known_are_checked_at_once():
    given = RIGHT_POOLING | WRONG_POOLING[0]
    with pytest.raises(ValueError, match=r"rois\[0, 0\] is 1, expected a batch index"):
        jax.jit(lambda x: ours.deform_ps_roi_pool(**given | {"x": x}))(given["x"])


@pytest.mark.parametrize("x", [[[1.0]], 1.0, None, "x", np.float64(1), np.matrix([[1.0]])])
def test_what_is_no_array(x):
    with pytest.raises(TypeError) as expected:
        reference.deform_conv2d(**RIGHT | {"x": x})
    with pytest.raises(TypeError) as found:
        ours.deform_conv2d(**RIGHT | {"x": x})
    assert str(found.value) == str(expected.value)


def test_another_byte_order():
    with pytest.raises(TypeError, match="not in this machine's byte order"):
        ours.deform_conv2d(**RIGHT | {"x": RIGHT["x"].astype(RIGHT["x"].dtype.newbyteorder())})


@pytest.mark.parametrize(
    ("x", "weight", "said"),
    [
        ("bfloat16", "float32", "expected bfloat16, the dtype of x being bfloat16"),
        ("bfloat16", "float16", "weight has dtype float16, expected"),
        ("float16", "bfloat16", "weight has dtype bfloat16, expected"),
        ("float32", "bfloat16", "weight has dtype bfloat16, expected"),
        ("float8_e5m2", "float32", "x has dtype float8_e5m2, expected float16, float32 or"),
        ("bool", "float32", "x has dtype bool, expected"),
    ],
)
def test_other_dtypes(x, weight, said):
    given = {n: jax.numpy.asarray(a).astype(x) for n, a in RIGHT.items()}
    given["weight"] = given["weight"].astype(weight)
    with pytest.raises(TypeError, match=said):
        ours.deform_conv2d(**given)


@pytest.mark.parametrize(
    "keywords",
    [
        {"precision": "low"}, {"precision": "tf32"}, {"workspace_limit": 0},
        {"backend": "opencl"}, {"version": 3},
    ],
    ids=str,
)  # fmt: skip
@compiled
def test_keywords_of_gpu(keywords, compiled):
    with pytest.raises(ValueError, match="expected") as expected:
        gpu.deform_conv2d(**RIGHT, **keywords)
    with pytest.raises(ValueError, match="expected") as found:
        called(ours.deform_conv2d, RIGHT | keywords, compiled)
    assert str(found.value) == str(expected.value)


def test_keywords_that_do_not_exist():
    with pytest.raises(TypeError, match="unexpected keyword argument 'side'"):
        ours.deform_conv2d(**RIGHT, side="left")


def test_a_setting_that_is_an_array():
    """Settings are Python's: an array of JAX, traced or not, is none."""
    with pytest.raises(TypeError, match=r"stride is .*, expected an int or a pair of ints"):
        ours.deform_conv2d(**RIGHT, stride=jax.numpy.asarray(1))
    with pytest.raises(TypeError, match=r"stride is .*, expected an int or a pair of ints"):
        jax.jit(lambda stride: ours.deform_conv2d(**RIGHT, stride=stride))(1)
