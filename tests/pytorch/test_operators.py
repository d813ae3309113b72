"""The operators compute what the reference computes, and their derivatives; only those wanted."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is in no extra; `make test-torch` installs it")

from implementations import ENTRIES  # noqa: E402

from deformable_convnets import gpu, reference  # noqa: E402
from deformable_convnets.gpu.torch import operators  # noqa: E402
from pytorch.cases import NAMES, assert_is, assert_same, cases, whole  # noqa: E402

DTYPES = ("float16", "float32", "float64")
EVERY = [(name, index) for name in NAMES for index in range(len(cases(name, "float32")))]
FILLED = [(name, index) for name, index in EVERY if cases(name, "float32")[index].is_filled()]
every_name = pytest.mark.parametrize("name", NAMES)


@pytest.mark.parametrize(("name", "index"), EVERY)
@pytest.mark.parametrize("dtype", DTYPES)
def test_equals_the_reference(name, index, dtype, device):
    case = cases(name, dtype)[index]
    assert_is(case, case.tensors(device))


def test_the_problems_are_not_zero():
    for name in NAMES:
        y, grads = whole(name, "float64").expected()
        assert all(np.any(a != 0) for a in (y, *grads.values())), name


def test_another_number_is_seen(monkeypatch):
    case, right = whole("roi_pool", "float64"), reference.roi_pool
    tensors = case.tensors()
    expected = case.expected()[0]
    assert_same(case.call(tensors), expected)
    monkeypatch.setattr(reference, "roi_pool", lambda **given: np.nextafter(right(**given), 9.0))
    with pytest.raises(AssertionError, match="not equal"):
        assert_same(case.call(tensors), expected)


@every_name
def test_equals_the_reference_in_the_simulator(name, runnable):
    """The way to `gpu`, which tensors on CUDA take, on Numba's kernels; here on the CPU."""
    runnable(ENTRIES["numba v1"])
    case = whole(name, "float32")
    assert_is(case, case.tensors(), backend="numba")


@pytest.mark.parametrize(("name", "index"), FILLED)
def test_gradients_are_derivatives(name, index):
    """Of everything that has a gradient at once, by central differences in float64."""
    case = cases(name, "float64")[index]
    tensors = case.tensors()
    wanted = {n: a for n, a in tensors.items() if a is not None and a.requires_grad}

    def call(*changed):
        return case.call(tensors | dict(zip(wanted, changed, strict=True)))

    assert torch.autograd.gradcheck(call, tuple(wanted.values()), eps=1e-5, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("wrong", ["x", "offset", "weight", "bias", "mask"])
def test_a_wrong_gradient_is_seen(wrong, monkeypatch):
    right = reference.deform_conv2d_backward

    def spoiled(**given):
        grads = right(**given)
        return grads._replace(**{wrong: getattr(grads, wrong) * (1 + 1e-4)})

    monkeypatch.setattr(reference, "deform_conv2d_backward", spoiled)
    with pytest.raises(RuntimeError, match="Jacobian mismatch"):
        test_gradients_are_derivatives("deform_conv2d", 0)


@every_name
def test_only_what_is_wanted_is_computed(name, monkeypatch):
    """`gpu` is asked for the gradients of what is not frozen, one by one and all; spied upon."""
    case, asked = whole(name, "float64"), []

    def spy(**given):
        asked.append(given["wrt"])
        for keyword in (*operators.CHOICE, "wrt", "deterministic"):
            del given[keyword]
        given = {n: a.numpy() if isinstance(a, torch.Tensor) else a for n, a in given.items()}
        return getattr(reference, f"{name}_backward")(**given)

    monkeypatch.setattr(gpu, f"{name}_backward", spy)
    monkeypatch.setattr(gpu, name, lambda **given: torch.from_numpy(case.expected()[0]))
    can = [n for n in case.arrays if n != "rois"]
    for wanted in ({n} for n in can), [set(can)], [set(can[1:])]:
        for names in filter(None, wanted):
            tensors = {n: a.detach() for n, a in case.tensors().items()}
            for n in names:
                tensors[n].requires_grad_()
            y = case.call(tensors, backend="numba")
            y.backward(torch.from_numpy(case.grad_output))
            assert set(asked.pop()) == names
            assert {n for n, a in tensors.items() if a.grad is not None} == names
    frozen = {n: a.detach() for n, a in case.tensors().items()}
    assert not case.call(frozen, backend="numba").requires_grad
    assert asked == []


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("roi_pool")])
def test_rois_have_no_gradient(name, monkeypatch):
    """Nothing is computed where they alone want one."""
    case = whole(name, "float64")
    monkeypatch.delattr(reference, f"{name}_backward")
    tensors = {n: a.detach() for n, a in case.tensors().items()}
    tensors["rois"].requires_grad_()
    case.call(tensors).sum().backward()
    assert tensors["rois"].grad is None
