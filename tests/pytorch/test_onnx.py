"""`gpu.onnx` on modules of PyTorch: the model is that of the same layer on NumPy arrays."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is in no extra; `make test-torch` installs it")
pytest.importorskip("onnx", reason="onnx is in the extra `onnx`; `make test-torch` installs it")

from deformable_convnets.gpu import torch as ours  # noqa: E402
from deformable_convnets.gpu.onnx import to_onnx  # noqa: E402
from deformable_convnets.reference.networks import layers  # noqa: E402

OPTIONS = {"stride": (1, 2), "padding": (2, 1), "dilation": (2, 1)}


def as_layer(kind, module, **more):
    """A module of PyTorch as a layer of ours."""
    weight, bias = (None if a is None else a.detach().numpy() for a in (module.weight, module.bias))
    return kind(weight, bias, groups=module.groups, **OPTIONS, **more)


def modules(library, bias=True):
    torch.manual_seed(0)
    layer = library.DeformConv2d(4, 6, (3, 2), groups=2, bias=bias, **OPTIONS)
    return layer, torch.nn.Conv2d(4, 2 * 2 * 6, (3, 2), **OPTIONS)


def libraries():
    yield ours
    torchvision = pytest.importorskip("torchvision", reason="torchvision is in no extra")
    yield torchvision.ops


@pytest.mark.parametrize("bias", [True, False])
def test_modules_are_layers(bias):
    for library in libraries():
        layer, branch = modules(library, bias)
        expected = to_onnx(as_layer(layers.DeformConv2d, layer,
                                    branch=as_layer(layers.Conv2d, branch)))  # fmt: skip
        assert to_onnx(layer, branch=branch) == expected
        layer.weight.data += 1
        assert to_onnx(layer, branch=branch) != expected


def test_offsets_and_mask_as_inputs():
    for library in libraries():
        layer, _ = modules(library)
        model = to_onnx(layer, offset_groups=2, mask=True, opset=19)
        assert [i.name for i in model.graph.input] == ["x", "offset", "mask"]
        assert model == to_onnx(as_layer(layers.DeformConv2d, layer), offset_groups=2, mask=True,
                                opset=19)  # fmt: skip


def test_bfloat16():
    layer, _ = modules(ours)
    model = to_onnx(layer.bfloat16())
    with pytest.raises(ValueError, match="dtype bfloat16, which DeformConv of opset 19 does not"):
        to_onnx(layer, opset=19)
    from onnx import numpy_helper

    found = numpy_helper.to_array(model.graph.initializer[0]).astype(np.float32)
    np.testing.assert_array_equal(found, layer.weight.detach().float().numpy())


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"border": "dcnv1"}, "border is 'dcnv1'"), ({"precision": "tf32"}, "precision is 'tf32'")],
)
def test_what_onnx_does_not_have(settings, said):
    with pytest.raises(ValueError, match=said):
        to_onnx(ours.DeformConv2d(2, 4, 3, **settings))
