"""ONNX's operator DeformConv, opset 22: by ONNX Runtime on the CPU, or by ONNX's own reference.

variant "onnxruntime"   needs onnx and onnxruntime
        "reference"     needs onnx; loops in Python, for a few small calls
"""

from __future__ import annotations

import importlib
from functools import lru_cache
from typing import Any

import numpy as np
import onnx
from onnx import helper

from . import options

NAMES = ("x", "weight", "offset", "bias", "mask")  # in ONNX's order
THREADS = [0]  # 0: as many as there are


def threads(count: int) -> None:
    THREADS[0] = count


def versions() -> dict[str, str]:
    found = {"onnx": onnx.__version__}
    if RUNTIME:
        found["onnxruntime"] = RUNTIME[0].__version__
    return found


RUNTIME: list[Any] = []  # the module onnxruntime, where it is what is tested


@lru_cache(maxsize=32)
def runner(shapes: tuple[Any, ...], attributes: tuple[Any, ...]) -> Any:
    """What computes calls of these shapes: a function of the named arrays."""
    given = [name for name, _, _ in shapes]
    node = helper.make_node(
        "DeformConv", [name if name in given else "" for name in NAMES], ["y"], **dict(attributes)
    )
    arrays = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)
        for n, dtype, shape in shapes
    ]
    element = arrays[0].type.tensor_type.elem_type
    y = helper.make_tensor_value_info("y", element, None)
    graph = helper.make_graph([node], "deform_conv", arrays, [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    if not RUNTIME:
        from onnx.reference import ReferenceEvaluator

        evaluator = ReferenceEvaluator(model)
        return lambda arrays: evaluator.run(None, arrays)[0]
    settings = RUNTIME[0].SessionOptions()
    settings.intra_op_num_threads, settings.log_severity_level = THREADS[0], 3
    session = RUNTIME[0].InferenceSession(
        model.SerializeToString(), settings, providers=["CPUExecutionProvider"]
    )
    return lambda arrays: session.run(None, arrays)[0]


def deform_conv2d(
    x: Any, offset: Any, weight: Any, bias: Any = None, *,
    stride: Any = 1, padding: Any = 0, dilation: Any = 1, mask: Any = None, border: str = "zero",
) -> Any:  # fmt: skip
    options.only_border(border)
    (top, bottom), (left, right) = options.sides(padding)
    groups, offset_groups = options.groups(x, offset, weight)
    arrays = dict(zip(NAMES, (x, weight, offset, bias, mask), strict=True))
    given = {name: a for name, a in arrays.items() if a is not None}
    attributes = {
        "kernel_shape": weight.shape[2:], "pads": (top, left, bottom, right),
        "strides": options.pair(stride), "dilations": options.pair(dilation),
        "group": groups, "offset_group": offset_groups,
    }  # fmt: skip
    shapes = tuple((name, a.dtype.name, a.shape) for name, a in given.items())
    return runner(shapes, tuple(attributes.items()))(given)


def operators(variant: str) -> dict[str, Any]:
    if variant == "onnxruntime":
        RUNTIME[:] = [importlib.import_module("onnxruntime")]
    return {"deform_conv2d": deform_conv2d}
