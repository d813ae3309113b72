"""What is refused, in the words of the reference and of `gpu`."""

import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is in no extra; `make test-torch` installs it")

from operator_cases import (  # noqa: E402
    RIGHT,
    RIGHT_POOLING,
    RIGHT_VOLUMES,
    WRONG,
    WRONG_POOLING,
    WRONG_VOLUMES,
)
from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402

from deformable_convnets import reference  # noqa: E402
from deformable_convnets.gpu import torch as ours  # noqa: E402
from pytorch.cases import whole  # noqa: E402


def tensors(given):
    return {n: torch.from_numpy(a) if isinstance(a, np.ndarray) else a for n, a in given.items()}


@pytest.mark.parametrize("changes", WRONG.values(), ids=WRONG)
def test_the_errors_of_the_reference(changes):
    given = RIGHT | changes
    with pytest.raises((TypeError, ValueError)) as expected:
        reference.deform_conv2d(**given)
    with pytest.raises(expected.type) as found:
        ours.deform_conv2d(**tensors(given))
    assert str(found.value) == str(expected.value)


@pytest.mark.parametrize("changes", WRONG_VOLUMES, ids=str)
def test_the_errors_of_the_reference_on_volumes(changes):
    reference.deform_conv3d(**RIGHT_VOLUMES)
    given = RIGHT_VOLUMES | changes
    with pytest.raises((TypeError, ValueError)) as expected:
        reference.deform_conv3d(**given)
    with pytest.raises(expected.type) as found:
        ours.deform_conv3d(**tensors(given))
    assert str(found.value) == str(expected.value)


@pytest.mark.parametrize("changes", WRONG_POOLING, ids=str)
def test_the_errors_of_the_reference_in_pooling(changes):
    given = RIGHT_POOLING | changes
    with pytest.raises((TypeError, ValueError)) as expected:
        reference.deform_ps_roi_pool(**given)
    with pytest.raises(expected.type) as found:
        ours.deform_ps_roi_pool(**tensors(given))
    assert str(found.value) == str(expected.value)


def test_arrays_of_numpy_are_refused():
    given = tensors(RIGHT) | {"weight": RIGHT["weight"]}
    with pytest.raises(TypeError) as found:
        ours.deform_conv2d(**given)
    assert str(found.value) == (
        "weight is of type ndarray, expected a torch.Tensor  [x (1, 2, 5, 6), offset (1, 18, 3, 4),"
        " weight (4, 2, 3, 3), bias (4,), mask (1, 9, 3, 4)]"
    )


@pytest.mark.parametrize(
    ("x", "weight", "said"),
    [
        ("bfloat16", "float32", "expected bfloat16, the dtype of x being bfloat16"),
        ("bfloat16", "float16", "weight has dtype float16, expected"),
        ("float16", "bfloat16", "weight has dtype bfloat16, expected"),
        ("float32", "bfloat16", "weight has dtype bfloat16, expected"),
    ],
)
def test_two_dtypes_of_sixteen_bits(x, weight, said):
    given = {n: a.to(getattr(torch, x)) for n, a in tensors(RIGHT).items()}
    given["weight"] = given["weight"].to(getattr(torch, weight))
    with pytest.raises(TypeError, match=said):
        ours.deform_conv2d(**given)


@pytest.mark.parametrize(
    ("weight", "said"),
    [
        ("cuda:0", "the arrays are in different places, x on the CPU, offset on the CPU, weight on"
         " cuda:0, bias on the CPU, mask on the CPU, expected all in one  [x (1, 2, 5, 6), "),
        ("meta", "the arrays are on cpu, meta, expected the CPU or a CUDA device  [x (1, 2, 5, 6)"),
        ("xpu:0", "the arrays are on cpu, xpu:0, expected the CPU or a CUDA device"),
    ],
)  # fmt: skip
def test_two_places(weight, said):
    """The message of `gpu.arrays`, on tensors that only say where they are."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        given = {n: torch.empty(a.shape, dtype=torch.float64) for n, a in RIGHT.items()}
        given["weight"] = torch.empty(RIGHT["weight"].shape, dtype=torch.float64, device=weight)
        with pytest.raises(ValueError, match="the arrays are") as found:
            ours.deform_conv2d(**given)
    assert str(found.value).startswith(said)


@pytest.mark.parametrize(
    ("keywords", "error", "said"),
    [
        ({"precision": "low"}, ValueError, "precision is 'low', expected"),
        (
            {"precision": "tf32"},
            ValueError,
            "precision is 'tf32' and x has dtype float64",
        ),
        ({"workspace_limit": 0}, ValueError, "workspace_limit is 0, expected"),
        ({"backend": "opencl"}, ValueError, "backend is 'opencl', expected"),
        ({"backend": "numba", "version": "v99"}, ValueError, "version is 'v99', expected"),
        ({"version": 3}, ValueError, "version is 3, expected"),
        ({"side": "left"}, TypeError, "unexpected keyword argument 'side'"),
    ],
    ids=str,
)
def test_keywords_of_gpu(keywords, error, said):
    with pytest.raises(error, match=said):
        ours.deform_conv2d(**tensors(RIGHT), **keywords)


@pytest.mark.parametrize("changes", [WRONG["channels"], WRONG["dtype"], WRONG["stride"]])
def test_the_errors_under_compile(changes):
    """Inside the error of torch.compile."""
    given = RIGHT | changes
    with pytest.raises((TypeError, ValueError)) as expected:
        reference.deform_conv2d(**given)
    torch._dynamo.reset()
    compiled = torch.compile(ours.deform_conv2d, fullgraph=True, backend="eager")
    with pytest.raises(Exception) as found:  # noqa: PT011
        compiled(**tensors(given))
    said = str(expected.value).split("  [")[0]
    assert said in str(found.value)


def test_an_operator_checks_what_it_is_given():
    """Called past the functions."""
    case = whole("deform_conv2d", "float64")
    x, *others = case.schema_arguments(case.tensors())
    with pytest.raises(ValueError, match="x has 3 dimensions, expected 4: N C H W"):
        torch.ops.deformable_convnets.deform_conv2d(x[0], *others)


def test_gpu_does_not_import_torch():
    code = "import sys; from deformable_convnets import gpu; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    seen = code.replace("import gpu", "import gpu; import deformable_convnets.gpu.torch")
    assert subprocess.run([sys.executable, "-c", seen], capture_output=True, check=False).returncode


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # by PyTorch's own jvp
@pytest.mark.parametrize("argument", ["x", "offset", "weight", "mask"])
def test_forward_mode_is_refused(argument):
    """PyTorch takes the forward derivative of an operator that has none for 0."""
    case = whole("deform_conv2d", "float64")
    given = {n: None if a is None else a.detach() for n, a in case.tensors().items()}

    def call(a):
        return case.call(given | {argument: a})

    a = given[argument]
    said = f"deform_conv2d was to be differentiated in forward mode, by {argument}: only reverse"
    with pytest.raises(RuntimeError, match=said):
        torch.func.jvp(call, (a,), (torch.ones_like(a),))
    with torch.autograd.forward_ad.dual_level():
        call(a)  # nothing is differentiated
        with pytest.raises(RuntimeError, match=said):
            call(torch.autograd.forward_ad.make_dual(a, torch.ones_like(a)))


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_each_example_of_a_vmap():
    case = whole("deform_conv2d", "float64")
    given = {n: None if a is None else a.detach() for n, a in case.tensors().items()}
    two = torch.stack([given["x"], 2 * given["x"]])
    found = torch.vmap(lambda x: case.call(given | {"x": x}))(two)
    for n in range(2):
        assert torch.equal(found[n], case.call(given | {"x": two[n]}))
