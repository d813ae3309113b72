"""What `gpu.onnx` refuses, and what it takes of modules of PyTorch."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="onnx is in the extra `test`")

from deformable_convnets.gpu import onnx as ours  # noqa: E402
from deformable_convnets.gpu.onnx import to_onnx  # noqa: E402
from deformable_convnets.reference.networks import layers  # noqa: E402

CONV = layers.Conv2d(np.zeros((18, 2, 3, 3)), np.zeros(18), padding=1)
LAYER = layers.DeformConv2d(np.ones((4, 2, 3, 3)), np.ones(4), padding=1)


@pytest.mark.parametrize(
    ("changes", "keywords", "error", "said"),
    [
        ({}, {"opset": 18}, ValueError, r"opset is 18, which has no DeformConv, expected 19 or mo"),
        ({}, {"opset": 99}, ValueError, r"opset is 99, expected \d+ or less, the newest of onnx 1"),
        ({}, {"opset": "22"}, TypeError, r"opset is '22', expected an int"),
        ({"border": "dcnv1"}, {}, ValueError, r"border is 'dcnv1', which DeformConv of ONNX does"),
        ({}, {"mask": 1}, TypeError, r"mask is 1, expected True or False"),
        ({}, {"branch": CONV, "offset_groups": 2}, ValueError, r"is 2, expected 1, that of the br"),
        ({}, {"offset_groups": 3}, ValueError, r"3 offset groups of .* expected a divisor of C ="),
        ({}, {"offset_groups": 0}, ValueError, r"offset_groups is 0, expected 1 or more"),
        ({"branch": CONV}, {"branch": CONV}, ValueError, r"branch is given and the layer has one"),
        ({}, {"offset_groups": (1, 1)}, TypeError, r"offset_groups is \(1, 1\), expected an int"),
        ({}, {"branch": LAYER}, TypeError, r"branch is of type DeformConv2d, expected a Conv2d"),
        ({"weight": np.ones((4, 2, 0, 3))}, {}, ValueError, r"weight has O = 4, .* kh = 0, kw = 3"),
        ({"branch": len}, {}, TypeError, r"branch is of type builtin.*, expected a Conv2d"),
        ({"groups": 3}, {}, ValueError, r"weight has 4 output channels, expected a multiple of g"),
        ({"bias": np.ones(3)}, {}, ValueError, r"bias has shape \(3,\), expected \(O,\) = \(4,\)"),
        ({"weight": np.ones((4, 2, 3))}, {}, ValueError, r"weight has 3 dimensions, expected 4"),
        ({"weight": np.ones((4, 2, 3, 3), int)}, {}, TypeError, r"weight has dtype int64, expect"),
        ({"bias": np.ones(4, "f")}, {}, TypeError, r"bias has dtype float32, expected float64"),
        ({"stride": 0}, {}, ValueError, r"stride is 0, expected 1 or more"),
        ({"padding": "same"}, {}, TypeError, r"padding is 'same', expected an int"),
    ],
)  # fmt: skip
def test_what_is_no_model(changes, keywords, error, said):
    with pytest.raises(error, match=said):
        to_onnx(replace(LAYER, **changes), **keywords)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"padding": 0}, r"branch has stride and padding - dilation .* \(\(1, 1\), \(0, 0\)\), so"),
        ({"stride": 2}, r"branch has stride and padding"),
        ({"weight": np.zeros((17, 2, 3, 3)), "bias": None}, r"offset has 17 channels, expected a"),
        ({"weight": np.zeros((18, 4, 3, 3))}, r"weight has 4 input channels, expected|channels"),
        ({"bias": np.zeros(17)}, r"bias has shape \(17,\), expected"),
    ],
)
def test_a_branch_that_does_not_fit(changes, said):
    with pytest.raises(ValueError, match=said):
        to_onnx(LAYER, branch=replace(CONV, **changes))


def test_what_is_no_layer():
    said = "layer is of type Conv2d, expected a DeformConv2d of reference.networks.layers, of gpu."
    with pytest.raises(TypeError, match=said):
        to_onnx(CONV)
    with pytest.raises(TypeError, match="layer is of type ndarray, expected a DeformConv2d"):
        to_onnx(np.ones(3))


def test_what_modules_of_torch_have():
    """By stand-ins; tests/pytorch has the modules."""

    class DeformConv2d(SimpleNamespace):
        """As in `gpu.torch`, whose border and precision are in `settings`."""

    class Conv2d(SimpleNamespace):
        """As in torch.nn, which pads in several ways."""

    DeformConv2d.__module__, Conv2d.__module__ = "torchvision.ops", "torch.nn"
    given = vars(LAYER) | {"settings": {"border": "zero", "precision": "exact", "backend": None}}
    del given["border"], given["branch"]
    assert to_onnx(DeformConv2d(**given)) == to_onnx(LAYER)
    for name, value in (("border", "dcnv1"), ("precision", "tf32")):
        wrong = DeformConv2d(**given | {"settings": given["settings"] | {name: value}})
        with pytest.raises(ValueError, match=f"{name} is '{value}', which .* ONNX does not"):
            to_onnx(wrong)
    branch = Conv2d(**vars(CONV), padding_mode="reflect")
    with pytest.raises(ValueError, match="branch has padding_mode 'reflect', expected 'zeros'"):
        to_onnx(LAYER, branch=branch)


def test_layers_that_only_look_like_it():
    """A name alone is no layer, nor is one that computes something else."""

    class Bounded(type(CONV)):
        def __call__(self, tape, x):
            return np.tanh(super().__call__(tape, x))

    class DeformConv2d(SimpleNamespace):
        """Of a library with other attributes, such as deform_groups."""

    with pytest.raises(TypeError, match="a Conv2d with a __call__ of its own, which the model"):
        to_onnx(LAYER, branch=Bounded(**vars(CONV)))
    with pytest.raises(TypeError, match="layer is of type DeformConv2d, expected a DeformConv2d"):
        to_onnx(DeformConv2d(**vars(LAYER)))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_branch_of_another_map(channels):
    """It would be a model that ONNX Runtime refuses."""
    branch = replace(CONV, weight=np.ones((18, channels, 3, 3)))
    with pytest.raises(
        ValueError, match=f"branch takes {channels} channels, expected 2, those of x"
    ):
        to_onnx(LAYER, branch=branch)


NEWEST = onnx.defs.onnx_opset_version()


@pytest.mark.parametrize("opset", [19, 20, 21, 22, NEWEST])
def test_bfloat16(opset):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    layer = replace(LAYER, weight=LAYER.weight.astype(ml_dtypes.bfloat16), bias=None)
    if opset < 22:
        said = f"dtype bfloat16, which DeformConv of opset {opset} does not take, expected opset 22"
        with pytest.raises(ValueError, match=said):
            to_onnx(layer, opset=opset)
        return
    model = to_onnx(layer, opset=opset)
    assert onnx.numpy_helper.to_array(model.graph.initializer[0]).dtype == layer.weight.dtype


IR = {19: 9, 20: 9, 21: 10, 22: 10, 23: 11}  # the oldest that has the opset: ONNX's Versioning.md


@pytest.mark.parametrize("opset", [n for n in IR if n <= NEWEST])
def test_the_ir_version_is_the_oldest_that_has_the_opset(opset):
    """A newer one would shut out older readers for nothing, an older one be no model."""
    assert to_onnx(LAYER, opset=opset).ir_version == IR[opset]


SPOILT = {
    "an attribute that does not exist": lambda a: {**a, "strydes": (1, 1)},
    "no group": lambda a: {**a, "group": "one"},
    "strides for three axes": lambda a: {**a, "strides": (1, 1, 1)},  # full_check alone sees it
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_a_model_that_onnx_refuses_is_not_written(spoil, tmp_path, monkeypatch):
    """What `to_onnx` makes is checked by ONNX itself before anyone gets it."""
    right = ours.Layer.attributes.fget
    monkeypatch.setattr(ours.Layer, "attributes", property(lambda self: spoil(right(self))))
    with pytest.raises((onnx.checker.ValidationError, onnx.shape_inference.InferenceError)):
        to_onnx(LAYER, tmp_path / "layer.onnx")
    assert not list(tmp_path.iterdir())


def test_the_model_says_the_shape_of_y_and_no_newer_opset():
    (y,) = to_onnx(LAYER).graph.output
    dims = [d.dim_param or d.dim_value for d in y.type.tensor_type.shape.dim]
    assert dims == ["N", 4, "Ho", "Wo"]
    to_onnx(LAYER, opset=NEWEST)
    with pytest.raises(ValueError, match=f"opset is {NEWEST + 1}, expected {NEWEST} or less"):
        to_onnx(LAYER, opset=NEWEST + 1)
