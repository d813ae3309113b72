"""A call from JAX: dtypes, arrays of NumPy, devices of other kinds, and the way to `gpu`."""

import inspect
from typing import NamedTuple

import numpy as np
import pytest

jax = pytest.importorskip("jax", reason="JAX is in the extra `jax`; `make test-jax` installs it")

from deformable_convnets import gpu, reference  # noqa: E402
from deformable_convnets.gpu import jax as ours  # noqa: E402
from deformable_convnets.gpu.jax import operators  # noqa: E402
from jax_arrays.cases import NAMES, assert_is, assert_same, whole  # noqa: E402

COORDINATES = ("offset", "rois", "p")
every_name = pytest.mark.parametrize("name", NAMES)
every_half = pytest.mark.parametrize("half", ["float16", "bfloat16"])
compiled = pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])


def run(case, given, compiled=False, **more):
    def both(given):
        return case.both(given, **more)

    return (jax.jit(both) if compiled else both)(given)


@every_name
def test_signatures_are_those_of_gpu(name):
    def told(module):
        return [(p.name, p.kind, p.default)
                for p in inspect.signature(getattr(module, name)).parameters.values()]  # fmt: skip

    assert told(ours) == told(gpu)


def in_halves(case, half):
    """x and the like in 16 bits, the coordinates in float32."""
    given = case.given()
    return {n: a if n in COORDINATES else a.astype(half) for n, a in given.items()}


@every_name
@every_half
@compiled
def test_sixteen_bits(name, half, compiled):
    """Beside coordinates in float32: rounded once, each gradient in its argument's dtype."""
    case = whole(name, "float32")
    given = in_halves(case, half)
    expected, expected_grads = case.expected()
    y, grads = run(case, given, compiled)
    assert_same(y, expected.astype(given["x"].dtype))
    for n, grad in expected_grads.items():
        assert_same(grads[n], grad.astype(given[n].dtype))


@every_half
def test_coordinates_in_sixteen_bits(half):
    case = whole("deform_conv2d", "float32")
    given = {n: a.astype(half) for n, a in case.given().items()}
    y, grads = run(case, given)
    assert_same(y, case.expected()[0].astype(given["x"].dtype))
    assert grads["offset"].dtype == half


@compiled
def test_rois_in_sixteen_bits(compiled):
    """The RoIs are widened to float32, as x is; results are rounded once."""
    case = whole("deform_roi_pool", "float32")
    given = {n: a.astype("bfloat16") for n, a in case.given().items()}
    wide = {n: np.asarray(a).astype("float32") for n, a in given.items()}
    y, grads = run(case, given, compiled)
    expected = reference.deform_roi_pool(**wide, **case.settings)
    assert_same(y, expected.astype("bfloat16"))
    grad_output = np.asarray(jax.numpy.asarray(case.grad_output).astype("bfloat16"))
    exact = reference.deform_roi_pool_backward(
        grad_output.astype("float32"), **wide, **case.settings
    )
    assert_same(grads["x"], exact.x.astype("bfloat16"))
    assert_same(grads["offset"], exact.offset.astype("bfloat16"))


@pytest.mark.parametrize("offered", [True, False], ids=["offered", "not offered"])
@compiled
def test_bfloat16_of_gpu(offered, compiled, monkeypatch):
    """As it is where a version takes it, else through float32; what `gpu` gets is spied upon."""
    case, got = whole("deform_conv2d", "float32"), []

    def spy(**given):
        got.append(given["x"].dtype.name)
        return np.zeros(case.expected()[0].shape, given["x"].dtype)

    def choose(choice, operator):
        assert (choice.dtype, choice.backend, operator) == ("bfloat16", "cupy", "deform_conv2d")
        if not offered:
            raise ValueError

    monkeypatch.setattr(gpu, "deform_conv2d", spy)
    monkeypatch.setattr(operators.registry, "choose", choose)
    given = in_halves(case, "bfloat16")

    def call(given):
        return case.call(given, backend="cupy")

    y = (jax.jit(call) if compiled else call)(given).block_until_ready()
    assert got == ["bfloat16" if offered else "float32"]
    assert y.dtype == "bfloat16"


@every_name
@compiled
def test_arrays_of_numpy(name, compiled):
    """Read-only ones, with gaps, and of bfloat16; beside arrays of JAX."""
    case = whole(name, "float64")
    for change in (
        lambda a: np.broadcast_to(a, a.shape),
        lambda a: np.stack([a, a * 7], axis=-1)[..., 0],
        lambda a: np.asfortranarray(a),
    ):
        given = {n: change(a) for n, a in case.arrays.items()}
        assert_same(case.call(given), case.expected()[0])
        found = run(case, given | {"x": jax.numpy.asarray(given["x"])}, compiled)
        assert_is(case, found, case.given())


def test_bfloat16_of_numpy():
    case = whole("deform_conv2d", "float32")
    given = {n: np.asarray(a) for n, a in in_halves(case, "bfloat16").items()}
    assert_same(case.call(given), case.expected()[0].astype("bfloat16"))


@compiled
def test_without_x64(compiled):
    """As in all of JAX, NumPy's float64 becomes float32."""
    case, narrow = whole("deform_conv2d", "float64"), whole("deform_conv2d", "float32")
    with jax.enable_x64(False) if hasattr(jax, "enable_x64") else jax.experimental.disable_x64():
        y, grads = run(case, case.arrays, compiled)
        mixed = case.call(case.arrays | {"x": jax.numpy.asarray(narrow.arrays["x"])})
    expected, expected_grads = narrow.expected()
    assert_same(y, expected)
    assert_same(mixed, expected)
    for n, grad in expected_grads.items():
        assert_same(grads[n], grad)


def test_inputs_are_not_written():
    case = whole("deform_conv2d", "float64")
    given = case.given()
    for compiled in (False, True):
        run(case, given, compiled)
        for n, a in given.items():
            assert_same(a, case.arrays[n])


class Device(NamedTuple):
    platform: str
    id: int = 0


class Elsewhere:
    """Says that it is on a device of another kind."""

    committed, shape = True, (1, 1, 3, 4)

    def devices(self):
        return {Device("tpu", 3)}


def test_a_device_of_another_kind():
    with pytest.raises(ValueError, match="the arrays are on") as found:
        operators._placed({"x": Elsewhere()})
    assert str(found.value) == (
        "the arrays are on tpu:3, expected the CPU or a CUDA device  [x (1, 1, 3, 4)]"
    )
    traced = jax.jit(lambda x: ours.conv2d(x, x)).trace(np.ones((1, 1, 3, 4)))
    with pytest.raises(ValueError, match="not supported on tpu"):
        traced.lower(lowering_platforms=("tpu",))


@every_name
def test_the_way_to_a_gpu(name, monkeypatch):
    """Arrays that say they are on a GPU are given to `gpu` as they are, and so are its results."""
    case, got = whole(name, "float64"), []
    given, right = case.given(), operators._placed

    def spy(function):
        def called(wrt=(), **arguments):
            settings = {n: arguments.pop(n) for n in operators.CHOICE}
            assert settings == dict(zip(operators.CHOICE, (None, None, "exact", None), strict=True))
            arrays = {n: a for n, a in arguments.items() if isinstance(a, jax.Array)}
            got.append((function, tuple(wrt), set(arrays)))
            on_cpu = {n: np.asarray(a) for n, a in arrays.items()}
            made = getattr(reference, function)(**arguments | on_cpu)
            return jax.tree.map(jax.numpy.asarray, made)

        return called

    for function in (name, f"{name}_backward"):
        monkeypatch.setattr(gpu, function, spy(function))
    device = Device("gpu")
    monkeypatch.setattr(operators, "_placed", lambda arrays: (right(arrays)[0], device))
    assert_is(case, case.both(given), given)
    wanted = tuple(n for n in case.arrays if n != "rois")
    names = set(case.arrays)
    assert got == [
        (name, (), names), (f"{name}_backward", wanted, names | {"grad_output"}),
    ]  # fmt: skip


@pytest.mark.parametrize("choice", [{"backend": "numba"}, {"version": "v1"}, {}], ids=str)
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_a_named_backend_or_version_calls_gpu(choice, compiled, monkeypatch):
    """For arrays of the CPU too, with what was named; without, `reference` is called."""
    case, got = whole("conv2d", "float64"), []

    def spy(**arguments):
        chosen = {n: arguments.pop(n) for n in operators.CHOICE}
        got.append({n: value for n, value in chosen.items() if n in ("backend", "version")})
        return reference.conv2d(**arguments)

    monkeypatch.setattr(gpu, "conv2d", spy)

    def call(given):
        return case.call(given, **choice)

    jax.block_until_ready((jax.jit(call) if compiled else call)(case.given()))
    assert got == ([{"backend": None, "version": None} | choice] if choice else [])


@every_name
def test_the_way_to_a_gpu_inside_jit(name, monkeypatch):
    """What is computed there, through host memory; here on the CPU, whose `gpu` is a stand-in."""
    case, got = whole(name, "float64"), []
    given = case.given()

    def spy(function):
        def called(wrt=(), **arguments):
            for n in operators.CHOICE:
                del arguments[n]
            got.append(function)
            return getattr(reference, function)(**arguments)

        return called

    for function in (name, f"{name}_backward"):
        monkeypatch.setattr(gpu, function, spy(function))
    monkeypatch.setattr(operators, "_in_place", operators._through_host)
    operators._called_back.clear_cache()
    found = jax.block_until_ready(run(case, given, compiled=True))
    operators._called_back.clear_cache()
    assert_is(case, found, given)
    assert got == [name, f"{name}_backward"]
