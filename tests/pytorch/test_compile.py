"""What torch knows of the operators without running them: opcheck, torch.compile, export, meta."""

from functools import partial

import pytest

torch = pytest.importorskip("torch", reason="torch is in no extra; `make test-torch` installs it")

from torch import library  # noqa: E402

from deformable_convnets.gpu import torch as ours  # noqa: E402
from deformable_convnets.gpu.torch import operators  # noqa: E402
from pytorch.cases import NAMES, assert_same, cases, whole  # noqa: E402

OPS = torch.ops.deformable_convnets
every_name = pytest.mark.parametrize("name", NAMES)


@every_name
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # its own
def test_opcheck(name):
    """Schema, autograd's registration, shapes and strides of fakes, ahead-of-time tracing."""
    for case in (whole(name, "float32"), whole(name, "float64")):
        tensors = case.tensors()
        arguments = case.schema_arguments(tensors)
        library.opcheck(getattr(OPS, name).default, arguments)
        wrt = [n for n, a in tensors.items() if a.requires_grad]
        arguments = case.schema_arguments({n: a.detach() for n, a in tensors.items()})
        grad = torch.from_numpy(case.grad_output)
        backward = getattr(OPS, f"{name}_backward").default
        library.opcheck(backward, (grad, *arguments, wrt))
        library.opcheck(backward, (grad, *arguments, wrt[:1]))


def test_opcheck_sees_other_strides(monkeypatch):
    """A result that is not contiguous, as its fake is; and one that is, where its fake is not."""
    case, last = cases("deform_conv2d", "float64")[1], torch.channels_last
    arguments = case.schema_arguments(case.tensors())
    turned = (arguments[0].contiguous(memory_format=last), *arguments[1:])
    check = partial(library.opcheck, OPS.deform_conv2d.default, test_utils="test_faketensor")
    check(turned)
    for others, given in ((last, arguments), (torch.contiguous_format, turned)):
        with monkeypatch.context() as patch:
            patch.setattr(
                operators,
                "_result",
                lambda a, like, f=others: torch.from_numpy(a).to(memory_format=f),
            )
            with pytest.raises(Exception, match=r"opcheck.*[Ss]tride"):
                check(given)


@every_name
@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
def test_compiled(name, dynamic):
    """torch.compile without a break, forward and backward, gives the same bits."""
    torch._dynamo.reset()
    compiled = torch.compile(whole(name, "float32").call, fullgraph=True, dynamic=dynamic)
    case = whole(name, "float32")
    tensors = case.tensors()
    found = compiled(tensors)
    assert_same(found, case.expected()[0])
    for wanted, grad in case.backward(found, tensors).items():
        assert_same(grad, case.expected()[1][wanted])


def test_compiled_for_any_number_of_rois():
    """Compiled once, where shapes are dynamic."""
    torch._dynamo.reset()
    case, graphs = whole("deform_ps_roi_pool", "float32"), []

    def counted(graph, inputs):
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(case.call, fullgraph=True, dynamic=True, backend=counted)
    tensors = {name: a.detach() for name, a in case.tensors().items()}
    for times in (5, 6, 9):  # R equal to another size would be taken for it
        more = {n: a if n == "x" else torch.cat([a] * times) for n, a in tensors.items()}
        assert torch.equal(compiled(more), case.call(more))
    assert len(graphs) == 1


def test_exported():
    """torch.export takes a module of them."""
    case = whole("deform_conv2d", "float32")
    tensors = {name: a.detach() for name, a in case.tensors().items()}
    O, C, *kernel = case.arrays["weight"].shape
    options = {name: case.settings[name] for name in ("stride", "padding", "dilation")}
    layer = ours.DeformConv2d(C, O, tuple(kernel), **options)
    given = (tensors["x"], tensors["offset"], tensors["mask"])
    exported = torch.export.export(layer, given)
    assert "deformable_convnets.deform_conv2d" in str(exported.graph)
    assert torch.equal(exported.module()(*given), layer(*given))


@every_name
def test_meta(name):
    """Shapes alone."""
    case = whole(name, "float32")
    y = case.call(case.tensors("meta"))
    assert y.device.type == "meta"
    assert tuple(y.shape) == case.expected()[0].shape
