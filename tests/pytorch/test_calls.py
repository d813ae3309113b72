"""A call from PyTorch: dtypes, under autocast too, strides, and what flows back."""

import inspect

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is in no extra; `make test-torch` installs it")

from implementations import ENTRIES  # noqa: E402
from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402

from deformable_convnets import gpu  # noqa: E402
from deformable_convnets.gpu import torch as ours  # noqa: E402
from deformable_convnets.gpu.torch import operators  # noqa: E402
from pytorch.cases import NAMES, assert_is, assert_laid_out, cases, whole  # noqa: E402

HALVES = (torch.float16, torch.bfloat16)
every_name = pytest.mark.parametrize("name", NAMES)
every_half = pytest.mark.parametrize("half", HALVES, ids=str)


def rounded(case, half):
    """What is right in 16 bits: the reference in float32, rounded once. The inputs fit."""
    y, grads = case.expected()
    y, grads = torch.from_numpy(y), {name: torch.from_numpy(a) for name, a in grads.items()}
    return y.to(half), {n: a if n == "offset" else a.to(half) for n, a in grads.items()}


def in_halves(case, half):
    """x and the like in 16 bits, the coordinates in float32."""
    given = {n: a.detach() for n, a in case.tensors().items()}
    given = {n: a if n in ("offset", "rois") else a.to(half) for n, a in given.items()}
    return {n: a if n == "rois" else a.requires_grad_() for n, a in given.items()}


@every_name
def test_signatures_are_those_of_gpu(name):
    def told(module):
        return [(p.name, p.kind, p.default)
                for p in inspect.signature(getattr(module, name)).parameters.values()]  # fmt: skip

    assert told(ours) == told(gpu)


@every_name
@every_half
def test_sixteen_bits(name, half):
    """Beside offsets and RoIs in float32: rounded once, each gradient in its argument's dtype."""
    case = whole(name, "float32")
    tensors = in_halves(case, half)
    y, grads = rounded(case, half)
    found = case.call(tensors)
    assert found.dtype == half
    assert torch.equal(found, y)
    for n, grad in case.backward(found, tensors).items():
        assert grad.dtype == tensors[n].dtype
        assert torch.equal(grad, grads[n])


@pytest.mark.parametrize("offered", [True, False], ids=["offered", "not offered"])
def test_bfloat16_of_gpu(offered, monkeypatch):
    """As it is where a version takes it, else through float32; what `gpu` gets is spied upon."""
    case, got = whole("deform_conv2d", "float32"), []

    def spy(**given):
        got.append(given["x"].dtype)
        return given["x"].new_zeros(case.expected()[0].shape)

    def choose(choice, operator):
        assert (choice.dtype, choice.backend, operator) == ("bfloat16", "cupy", "deform_conv2d")
        if not offered:
            raise ValueError

    monkeypatch.setattr(gpu, "deform_conv2d", spy)
    monkeypatch.setattr(operators.registry.frameworks, "bfloat16", lambda: np.dtype("V2"))
    monkeypatch.setattr(operators.registry, "choose", choose)
    y = case.call(in_halves(case, torch.bfloat16), backend="cupy")
    assert got == [torch.bfloat16 if offered else torch.float32]
    assert y.dtype == torch.bfloat16


@every_name
@every_half
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_autocast(name, half, compiled):
    """In the dtype of autocast, with gradients in the dtype of the tensors that were given."""
    case = whole(name, "float32")
    tensors = case.tensors()
    y, grads = rounded(case, half)
    torch._dynamo.reset()
    call = torch.compile(case.call, fullgraph=True, backend="aot_eager") if compiled else case.call
    with torch.autocast("cpu", dtype=half):
        found = call(tensors)
        direct = getattr(torch.ops.deformable_convnets, name)(*case.schema_arguments(tensors))
    assert found.dtype == direct.dtype == half
    assert torch.equal(found, y)
    assert torch.equal(direct, y)
    for n, grad in case.backward(found, tensors).items():
        assert grad.dtype == torch.float32
        assert torch.equal(grad, grads[n].float())


def test_autocast_keeps_coordinates():
    """An offset beyond what 16 bits can say moves nothing to another place."""
    x = torch.zeros(1, 1, 1, 3000)
    x[..., 2501] = 1.0
    offset = torch.tensor([0.0, 2501.0]).reshape(1, 2, 1, 1).expand(1, 2, 1, 3000).clone()
    weight = torch.ones(1, 1, 1, 1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = ours.deform_conv2d(x, offset, weight)
    assert y[0, 0, 0].nonzero().tolist() == [[0]]
    assert offset.bfloat16().max().item() == 2496


def test_autocast_leaves_float64():
    case = whole("deform_conv2d", "float64")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_is(case, case.tensors())


@pytest.mark.filterwarnings("ignore:User provided device_type of 'cuda'")
@every_name
def test_autocast_on_cuda(name):
    """By shapes and dtypes alone: tensors that say they are on a GPU, which need none."""
    case, before = whole(name, "float32"), torch.is_autocast_enabled("cuda")
    with FakeTensorMode(allow_non_fake_inputs=True):
        tensors = {n: torch.empty(a.shape, device="cuda") for n, a in case.arrays.items()}
        assert case.call(tensors).dtype == torch.float32
        torch.set_autocast_enabled("cuda", True)
        try:
            y = case.call(tensors)
        finally:
            torch.set_autocast_enabled("cuda", before)
    assert y.device.type == "cuda"
    assert y.dtype == torch.get_autocast_dtype("cuda") == torch.float16


@every_name
@pytest.mark.parametrize("i", [0, 1])
def test_any_strides(name, i):
    """channels_last, views with gaps, axes that were swapped."""
    case = cases(name, "float64")[i]
    for change in (
        lambda a: a.contiguous(memory_format=torch.channels_last) if a.ndim == 4 else a,
        lambda a: torch.stack([a, a * 7], dim=-1)[..., 0],
        lambda a: a.transpose(0, -1).contiguous().transpose(0, -1),
    ):
        tensors = {n: None if a is None else change(a.detach()) for n, a in case.tensors().items()}
        for n in tensors.keys() - {"rois"}:
            tensors[n] = None if tensors[n] is None else tensors[n].requires_grad_()
        assert_is(case, tensors)


def test_results_in_another_format_are_seen():
    plain = torch.zeros(1, 2, 3, 4)
    last = plain.contiguous(memory_format=torch.channels_last)
    assert_laid_out(plain, plain)
    assert_laid_out(last, last)
    for a, like in ((plain, last), (last, plain), (plain.mT, plain)):
        with pytest.raises(AssertionError):
            assert_laid_out(a, like)


@every_name
def test_expanded(name):
    """One number in memory for all of x, and for all of grad_output, as of a sum."""
    case = whole(name, "float64")
    one = case._replace(
        arrays=case.arrays | {"x": np.full_like(case.arrays["x"], 3.0)},
        grad_output=np.full_like(case.grad_output, 2.0),
    )
    tensors = one.tensors()
    tensors["x"] = torch.tensor(3.0, dtype=torch.float64).expand(case.arrays["x"].shape)
    tensors["x"] = tensors["x"].requires_grad_()
    y, grads = one.expected()
    found = one.call(tensors)
    assert torch.equal(found, torch.from_numpy(y))
    (2 * found).sum().backward()
    for n, grad in grads.items():
        assert torch.equal(tensors[n].grad, torch.from_numpy(grad))


def test_inputs_are_not_written():
    case = whole("deform_conv2d", "float64")
    tensors = case.tensors()
    case.backward(case.call(tensors), tensors)
    for n, a in tensors.items():
        assert torch.equal(a.detach(), torch.from_numpy(case.arrays[n]))


def test_without_gradients():
    case = whole("deform_conv2d", "float64")
    with torch.no_grad():
        assert not case.call(case.tensors()).requires_grad
    with torch.inference_mode():
        assert case.call(case.tensors()).is_inference()


def test_deterministic_is_what_torch_says(monkeypatch, runnable):
    """torch.use_deterministic_algorithms chooses the gradient of x that repeats."""
    runnable(ENTRIES["numba v1"])
    case, asked = whole("deform_conv2d", "float64"), []
    tensors = case.tensors()
    right = gpu.deform_conv2d_backward

    def spy(**given):
        asked.append(given["deterministic"])
        return right(**given | {"deterministic": False})

    monkeypatch.setattr(gpu, "deform_conv2d_backward", spy)
    before = torch.are_deterministic_algorithms_enabled()
    for wanted in (True, False):
        y = case.call(tensors, backend="numba")
        try:
            torch.use_deterministic_algorithms(wanted)
            case.backward(y, tensors)
        finally:
            torch.use_deterministic_algorithms(before)
    assert asked == [True, False]


@every_name
def test_second_derivatives_are_refused(name):
    case = whole(name, "float64")
    tensors = case.tensors()
    (grad,) = torch.autograd.grad(case.call(tensors).sum(), tensors["x"], create_graph=True)
    message = f"^the gradient of {name} was to be differentiated: second derivatives are not offer"
    with pytest.raises(RuntimeError, match=message):
        grad.sum().backward()
