"""The operators compute what the reference computes, and their derivatives; only those wanted."""

import numpy as np
import pytest

jax = pytest.importorskip("jax", reason="JAX is in the extra `jax`; `make test-jax` installs it")

from implementations import ENTRIES  # noqa: E402
from jax.test_util import check_grads  # noqa: E402

from deformable_convnets import gpu, reference  # noqa: E402
from deformable_convnets.gpu.jax import operators  # noqa: E402
from deformable_convnets.reference import oracle  # noqa: E402
from jax_arrays.cases import NAMES, assert_is, assert_same, cases, whole  # noqa: E402

DTYPES = ("float16", "float32", "float64")
EVERY = [(name, index) for name in NAMES for index in range(len(cases(name, "float32")))]
FILLED = [(name, index) for name, index in EVERY if cases(name, "float32")[index].is_filled()]
every_name = pytest.mark.parametrize("name", NAMES)
compiled = pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])


@pytest.mark.parametrize(("name", "index"), EVERY)
@pytest.mark.parametrize("dtype", DTYPES)
def test_equals_the_reference(name, index, dtype, device):
    case = cases(name, dtype)[index]
    given = case.given(device)
    assert_is(case, case.both(given), given)


@pytest.mark.parametrize(("name", "index"), EVERY)
def test_equals_the_reference_compiled(name, index, device):
    case = cases(name, DTYPES[index % 3])[index]
    given = case.given(device)
    assert_is(case, jax.jit(case.both)(given), given)


def test_the_problems_are_not_zero():
    for name in NAMES:
        y, grads = whole(name, "float64").expected()
        assert all(np.any(a != 0) for a in (y, *grads.values())), name


@compiled
def test_another_number_is_seen(compiled, monkeypatch):
    case, right = whole("roi_pool", "float64"), reference.roi_pool
    expected = case.expected()[0]
    monkeypatch.setattr(reference, "roi_pool", lambda **given: np.nextafter(right(**given), 9.0))
    call = jax.jit(case.call) if compiled else case.call
    with pytest.raises(AssertionError, match="not equal"):
        assert_same(call(case.given()), expected)


@every_name
@compiled
def test_equals_the_reference_in_the_simulator(name, compiled, runnable):
    """The way to `gpu`, which arrays on CUDA take, on Numba's kernels; here on the CPU."""
    runnable(ENTRIES["numba v1"])
    case = whole(name, "float32")
    given = case.given()
    both = jax.jit(case.both, static_argnames="backend") if compiled else case.both
    assert_is(case, both(given, backend="numba"), given)


@pytest.mark.parametrize(("name", "index"), FILLED)
def test_gradients_are_derivatives(name, index):
    """Of everything that has a gradient at once, by central differences in float64."""
    case = cases(name, "float64")[index]
    given = case.given()
    wanted = {n: a for n, a in given.items() if a is not None and n != "rois"}

    def call(changed):
        return case.call(given | changed)

    check_grads(call, (wanted,), order=1, modes=["rev"], eps=1e-5, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("wrong", ["x", "offset", "weight", "bias", "mask"])
def test_a_wrong_gradient_is_seen(wrong, monkeypatch):
    right = reference.deform_conv2d_backward

    def spoiled(**given):
        grads = right(**given)
        return grads._replace(**{wrong: getattr(grads, wrong) * (1 + 1e-4)})

    monkeypatch.setattr(reference, "deform_conv2d_backward", spoiled)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        test_gradients_are_derivatives("deform_conv2d", 0)


@every_name
@compiled
def test_only_what_is_wanted_is_computed(name, compiled, monkeypatch):
    """`gpu` is asked for the gradients that are asked for, one by one and all; spied upon."""
    case, asked = whole(name, "float64"), []

    def spy(**given):
        asked.append(set(given["wrt"]))
        for keyword in (*operators.CHOICE, "wrt"):
            del given[keyword]
        return getattr(reference, f"{name}_backward")(**given)

    monkeypatch.setattr(gpu, f"{name}_backward", spy)
    monkeypatch.setattr(gpu, name, lambda **given: case.expected()[0])
    given, grads = case.given(), case.expected()[1]
    for names in ({n} for n in grads), [set(grads)], [set(grads) - {"x"}]:
        for wanted in filter(None, names):

            def found(changed, wanted=wanted):
                def call(changed):
                    return case.call(given | changed, backend="numba")

                _, back = jax.vjp(call, changed)
                return back(jax.numpy.asarray(case.grad_output))[0]

            run = jax.jit(found) if compiled else found
            made = run({n: given[n] for n in wanted})
            for n in wanted:
                assert_same(made[n], grads[n])
            assert asked.pop() == wanted
    assert asked == []


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("roi_pool")])
def test_rois_have_no_gradient(name, monkeypatch):
    """Nothing is computed where they alone want one."""
    case = whole(name, "float64")
    monkeypatch.delattr(reference, f"{name}_backward")
    given = case.given()
    grad = jax.grad(lambda rois: case.call(given | {"rois": rois}).sum())(given["rois"])
    assert_same(grad, np.zeros_like(case.arrays["rois"]))


@every_name
def test_keeps_every_law(name):
    """As the oracle sees it: forward, and gradients by jax.vjp."""
    report = verified(name)
    assert report.ok, str(report)
    assert report.gradients


def test_a_broken_law_is_seen(monkeypatch):
    right = reference.deform_conv2d_backward

    def spoiled(**given):
        grads = right(**given)
        return grads._replace(offset=-grads.offset)

    monkeypatch.setattr(reference, "deform_conv2d_backward", spoiled)
    with pytest.raises(AssertionError):
        test_keeps_every_law("deform_conv2d")


def verified(name):
    import inspect

    from deformable_convnets.gpu import jax as ours

    signature = inspect.signature(getattr(reference, f"{name}_backward"))

    def backward(grad_output, *args, **settings):
        bound = signature.bind(grad_output, *args, **settings).arguments
        del bound["grad_output"]
        arrays = {n: a for n, a in bound.items() if isinstance(a, jax.Array)}
        others = {n: a for n, a in bound.items() if n not in arrays and n != "side"}
        _, back = jax.vjp(lambda arrays: getattr(ours, name)(**arrays, **others), arrays)
        return back(grad_output)[0]

    return oracle.verify(
        getattr(ours, name), name, backward, dtype=("float32", "float64"), arrays="jax",
        border=("zero", "dcnv1"), bins=("paper", "mxnet", "align"), examples=5, shrink=False,
        lacks=["the left derivative"],
    )  # fmt: skip
