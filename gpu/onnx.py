"""A deformable layer as an ONNX model: its operator DeformConv, of opset 19 on, which is eq (2).

    x N C H W ----------------------------+
        |                                 |
      Conv, the branch -> offset ---> DeformConv -> y N O Ho Wo        Figure 2

N, H and W stay open. No kernel of ours is in the model: what runs it, such as ONNX Runtime, has its
own: 1.32 runs it on the CPU in float16 and float32, and without a branch in float64. DeformConv
has our order of offsets and the border of (3) and (4), "zero"; in 16 bits offsets have 16 too. At
infinite offsets it reads 0, as `reference` does, and at those that are NaN as well.
Importing this module imports the package onnx, of the extra `onnx`; that of `gpu` does not.
"""

import os
from typing import Any, NamedTuple

import numpy as np

try:
    import onnx
    from onnx import helper, numpy_helper
except ImportError as error:
    raise ImportError(
        "deformable_convnets.gpu.onnx needs the package onnx; in a checkout, pip install '.[onnx]'"
    ) from error

from deformable_convnets.reference import checks, geometry

from . import arrays

FIRST = 19  # the opset with which DeformConv came
FIRST_BFLOAT16 = 22
LIBRARIES = ("deformable_convnets", "torch", "torchvision")
LAYERS = "a DeformConv2d of reference.networks.layers, of gpu.torch or of torchvision"


class Layer(NamedTuple):
    """A convolution's arrays, in host memory, and its settings."""

    weight: Any
    bias: Any
    stride: geometry.Pair
    padding: geometry.Sides
    dilation: geometry.Pair
    channels: int

    @property
    def settings(self) -> dict[str, Any]:
        return {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}

    @property
    def taps(self) -> int:
        return int(self.weight.shape[2] * self.weight.shape[3])

    @property
    def reach(self) -> tuple[Any, ...]:
        """What decides the size of the result, whatever that of x."""
        sizes = zip(self.padding, self.dilation, self.weight.shape[2:], strict=True)
        return self.stride, tuple(sum(sides) - d * (k - 1) for sides, d, k in sizes)

    @property
    def attributes(self) -> dict[str, Any]:
        """As ONNX has them."""
        (top, bottom), (left, right) = self.padding
        return {
            "kernel_shape": self.weight.shape[2:], "strides": self.stride,
            "pads": (top, left, bottom, right), "dilations": self.dilation,
            "group": self.channels // self.weight.shape[1],
        }  # fmt: skip

    def initializers(self, prefix: str = "") -> list[Any]:
        given = {"weight": self.weight, "bias": self.bias}
        return [
            numpy_helper.from_array(np.ascontiguousarray(a), prefix + name)
            for name, a in given.items()
            if a is not None
        ]


def to_onnx(
    layer: Any,
    path: str | os.PathLike[str] | None = None,
    *,
    opset: int = 22,
    branch: Any = None,
    offset_groups: int | None = None,
    mask: bool = False,
) -> Any:
    """Figure 2 as a model of ONNX with input x and result y, N O Ho Wo; written to `path` if given.

    layer          DeformConv2d of `reference.networks.layers`, of `gpu.torch` or of torchvision
    opset          19 or more, up to the newest that the package onnx knows
    branch         the Conv2d that predicts the offsets, for a layer without one; None there makes
                   `offset`, N 2*G*K Ho Wo, an input of the model
    offset_groups  G, where the offsets are an input, 1 unless given; a branch says it itself
    mask           whether `mask`, N G*K Ho Wo, is an input (DCNv2, Zhu et al. 2019)
    Returns the onnx.ModelProto. Raises TypeError or ValueError for what no DeformConv computes.
    """
    _check_opset(opset)
    if not isinstance(path, str | os.PathLike | None):
        raise TypeError(f"path is {path!r}, expected a path or None; opset is a keyword: opset=22")
    if not isinstance(mask, bool):
        raise TypeError(f"mask is {mask!r}, expected True or False")
    main = _layer("layer", layer, "DeformConv2d", LAYERS)
    _check_rules(layer)
    own = getattr(layer, "branch", None)
    if own is not None and branch is not None:
        raise ValueError("branch is given and the layer has one of its own, expected one of them")
    own = branch if own is None else own
    predicts = None if own is None else _layer("branch", own, "Conv2d", "a Conv2d")
    G = _checked(main, predicts, offset_groups, mask)
    if main.weight.dtype.name == "bfloat16" and opset < FIRST_BFLOAT16:
        raise ValueError(
            f"weight has dtype bfloat16, which DeformConv of opset {opset} does not take, expected"
            f" opset {FIRST_BFLOAT16} or more"
        )
    model = _model(main, predicts, G, mask, opset)
    if path is not None:
        onnx.save(model, os.fspath(path))
    return model


def _model(main: Layer, branch: Layer | None, G: int, mask: bool, opset: int) -> Any:
    element = helper.np_dtype_to_tensor_dtype(main.weight.dtype)
    O, taps = len(main.weight), main.taps

    def value(name: str, channels: int, height: str, width: str) -> Any:
        return helper.make_tensor_value_info(name, element, ["N", channels, height, width])

    inputs = [value("x", main.channels, "H", "W")]
    initializers = main.initializers()
    names = ["x", "weight", "offset", "bias" if main.bias is not None else "", "mask" * mask]
    while not names[-1]:
        names.pop()
    nodes = [
        helper.make_node("DeformConv", names, ["y"], "layer", offset_group=G, **main.attributes)
    ]
    if branch is None:
        inputs.append(value("offset", 2 * G * taps, "Ho", "Wo"))
    else:
        names = ["x", "offset_weight", "offset_bias"][: 2 + (branch.bias is not None)]
        nodes.insert(0, helper.make_node("Conv", names, ["offset"], "branch", **branch.attributes))
        initializers += branch.initializers("offset_")
    if mask:
        inputs.append(value("mask", G * taps, "Ho", "Wo"))
    y = value("y", O, "Ho", "Wo")
    graph = helper.make_graph(nodes, "deformable_convolution", inputs, [y], initializers)
    opsets = [helper.make_opsetid("", opset)]
    model = helper.make_model(
        graph, opset_imports=opsets, producer_name="deformable-convnets",
        ir_version=helper.find_min_ir_version_for(opsets),
    )  # fmt: skip
    onnx.checker.check_model(model, full_check=True)
    return model


def _layer(name: str, layer: Any, kind: str, expected: str) -> Layer:
    """What a layer of any library is made of, by the names that they share."""
    bases = {base.__name__: base for base in reversed(type(layer).__mro__)}
    base: Any = bases.get(kind)
    known = base is not None and base.__module__.partition(".")[0] in LIBRARIES
    if not known or (kind != "DeformConv2d" and "DeformConv2d" in bases):
        raise TypeError(f"{name} is of type {type(layer).__name__}, expected {expected}")
    for derived in type(layer).__mro__[: type(layer).__mro__.index(base)]:
        for call in {"__call__", "forward"} & set(vars(derived)):
            raise TypeError(
                f"{name} is of type {type(layer).__name__}, a {kind} with a {call} of its own,"
                " which the model would not have"
            )
    if getattr(layer, "padding_mode", "zeros") != "zeros":
        raise ValueError(f"{name} has padding_mode {layer.padding_mode!r}, expected 'zeros'")
    weight = arrays.to_numpy(layer.weight)
    bias = None if layer.bias is None else arrays.to_numpy(layer.bias)
    checks.Call(weight=_described(weight)).check_arrays({"weight": "O C/groups kh kw"})
    return Layer(
        weight, bias,
        geometry.pair("stride", layer.stride, at_least=1),
        geometry.sides("padding", layer.padding),
        geometry.pair("dilation", layer.dilation, at_least=1),
        geometry.pair("groups", layer.groups, at_least=1)[0] * weight.shape[1],
    )  # fmt: skip


def _check_rules(layer: Any) -> None:
    """What the layers of ours have and DeformConv has not."""
    settings = getattr(layer, "settings", {})
    settings = settings if isinstance(settings, dict) else {}  # those of `gpu.torch`
    border = getattr(layer, "border", settings.get("border", "zero"))
    if border != "zero":
        raise ValueError(
            f"border is {border!r}, which DeformConv of ONNX does not have, expected 'zero'"
        )
    precision = settings.get("precision", "exact")
    if precision != "exact":
        raise ValueError(
            f"precision is {precision!r}, which a model of ONNX does not say, expected 'exact'"
        )


def _check_int(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} is {value!r}, expected an int")


def _check_opset(opset: Any) -> None:
    _check_int("opset", opset)
    newest = onnx.defs.onnx_opset_version()
    if opset < FIRST:
        raise ValueError(f"opset is {opset}, which has no DeformConv, expected {FIRST} or more")
    if opset > newest:
        raise ValueError(
            f"opset is {opset}, expected {newest} or less, the newest of onnx {onnx.__version__}"
        )


def _checked(main: Layer, branch: Layer | None, offset_groups: Any, mask: bool) -> int:
    """G, by the checks of `reference` on the smallest map; any other size follows."""
    layers = [main] if branch is None else [main, branch]
    H, W = (
        max(each.dilation[axis] * max(each.weight.shape[2 + axis] - 1, 0) + 1 for each in layers)
        for axis in (0, 1)
    )
    x = checks.Described((1, main.channels, H, W), main.weight.dtype)
    weight, bias = map(_described, main[:2])
    output = checks.check_conv2d(x, weight, bias, **main.settings).output
    asked = 1 if offset_groups is None else offset_groups
    _check_int("offset_groups", asked)
    G = geometry.pair("offset_groups", asked, at_least=1)[0]
    offset = checks.Described((1, 2 * G * main.taps, *output), x.dtype)
    if branch is not None:
        if branch.channels != main.channels:
            raise ValueError(
                f"branch takes {branch.channels} channels, expected {main.channels}, those of x"
            )
        checks.check_conv2d(x, *map(_described, branch[:2]), **branch.settings)
        if branch.reach != main.reach:
            raise ValueError(
                f"branch has stride and padding - dilation * (k - 1) {branch.reach}, expected those"
                f" of the layer, {main.reach}, so that each pixel of y has its offsets"
            )
        offset = checks.Described((1, len(branch.weight), *output), branch.weight.dtype)
        G = len(branch.weight) // (2 * main.taps)
    masks = checks.Described((1, G * main.taps, *output), x.dtype) if mask else None
    rules = {"border": "zero", **main.settings}
    checks.check_deform_conv2d(x, offset, weight, bias, mask=masks, **rules)
    if offset_groups is not None and offset_groups != G:
        raise ValueError(f"offset_groups is {offset_groups}, expected {G}, that of the branch")
    return G


def _described(a: Any) -> Any:
    return a if a is None else checks.Described(a.shape, a.dtype)
