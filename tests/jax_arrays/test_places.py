"""Where the arrays of a call are: on one device of several, or on two."""

import numpy as np
import pytest

jax = pytest.importorskip("jax", reason="JAX is in the extra `jax`; `make test-jax` installs it")

from deformable_convnets.gpu import jax as ours  # noqa: E402
from jax_arrays.cases import assert_same, whole  # noqa: E402

compiled = pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])


def run(case, given, compiled=False):
    return (jax.jit(case.both) if compiled else case.both)(given)


@compiled
def test_results_are_where_the_arrays_are(compiled):
    """Where one was put, the others go, and what comes out stays."""
    case, (first, second) = whole("deform_conv2d", "float64"), jax.devices("cpu")[:2]
    loose = {n: jax.numpy.asarray(a) for n, a in case.arrays.items()}
    for name in ("x", "weight"):
        given = loose | {name: jax.device_put(loose[name], second)}
        y, grads = run(case, given, compiled)
        assert {y.devices().pop(), *(a.devices().pop() for a in grads.values())} == {second}
        assert y.committed
        assert_same(y, case.expected()[0])
    y = run(case, loose, compiled)[0]
    assert (y.devices(), y.committed) == ({first}, False)
    assert case.call({n: jax.device_put(a, first) for n, a in loose.items()}).committed


def test_arrays_in_two_places():
    case, (first, second) = whole("conv2d", "float64"), jax.devices("cpu")[:2]
    given = {n: jax.device_put(a, first) for n, a in case.arrays.items()}
    given["weight"] = jax.device_put(given["weight"], second)
    for call in (case.call, lambda given: case.both(given)[0]):
        with pytest.raises(ValueError, match="different places") as found:
            call(given)
        shapes = ", ".join(f"{n} {a.shape}" for n, a in given.items())
        assert str(found.value) == (
            "the arrays are in different places, x on cpu:0, weight on cpu:1, bias on cpu:0,"
            " expected all in one: jax.device_put; jax.jit takes arrays that are spread over the"
            f" same devices  [{shapes}]"
        )

    with pytest.raises(ValueError, match="Received incompatible devices"):
        jax.jit(case.call)(given)  # so that is no way out, and this is:
    assert_same(case.call(jax.device_put(given, second)), case.expected()[0])


def test_an_array_on_two_devices():
    """Not at once; jax.jit takes it."""
    mesh = jax.sharding.Mesh(np.array(jax.devices("cpu")[:2]), ("rows",))
    spread = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("rows"))
    x = jax.device_put(np.arange(24.0).reshape(2, 1, 3, 4), spread)
    with pytest.raises(ValueError, match=r"different places, x on cpu:0 and cpu:1, expected"):
        ours.conv2d(x, np.ones((1, 1, 1, 1)))
    y = jax.jit(ours.conv2d)(x, np.ones((1, 1, 1, 1)))
    assert y.devices() == x.devices()
    assert_same(y, np.asarray(x))


def test_a_call_cannot_be_exported():
    """As the package says; the day JAX can, that sentence goes."""
    with pytest.raises(NotImplementedError, match="callback"):
        jax.export.export(jax.jit(ours.conv2d))(*[jax.ShapeDtypeStruct((1,) * 4, "float32")] * 2)
