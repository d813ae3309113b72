"""OpenVINO's operators on the CPU, forward only; needs openvino.

deform_conv2d        DeformableConvolution-8: bilinear_interpolation_pad is border="zero"
deform_ps_roi_pool   DeformablePSROIPooling-1
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import openvino
from openvino import opset8

from . import options

EXACT = {"INFERENCE_PRECISION_HINT": "f32"}  # or it computes in bfloat16 where the processor can
THREADS: dict[str, Any] = {}


def threads(count: int) -> None:
    THREADS["INFERENCE_NUM_THREADS"] = count


def versions() -> dict[str, str]:
    return {"openvino": openvino.__version__.split("-")[0]}


@lru_cache(maxsize=32)
def compiled(operator: str, shapes: tuple[Any, ...], attributes: tuple[Any, ...]) -> Any:
    """What computes calls of these shapes; a bias is added by a node of its own."""
    inputs = {name: opset8.parameter(shape, np.dtype(dtype)) for name, dtype, shape in shapes}
    named = {name: node for name, node in inputs.items() if name != "bias"}
    node = getattr(opset8, operator)(**named, **dict(attributes))
    if "bias" in inputs:
        node = opset8.add(node, inputs["bias"])
    model = openvino.Model([node], list(inputs.values()))
    return openvino.compile_model(model, "CPU", {**EXACT, **THREADS})


def run(operator: str, arrays: dict[str, Any], attributes: dict[str, Any]) -> Any:
    given = {name: np.ascontiguousarray(a) for name, a in arrays.items() if a is not None}
    shapes = tuple((name, a.dtype.name, a.shape) for name, a in given.items())
    return compiled(operator, shapes, tuple(attributes.items()))(list(given.values()))[0].copy()


def deform_conv2d(
    x: Any, offset: Any, weight: Any, bias: Any = None, *,
    stride: Any = 1, padding: Any = 0, dilation: Any = 1, mask: Any = None, border: str = "zero",
) -> Any:  # fmt: skip
    (top, bottom), (left, right) = options.sides(padding)
    groups, offset_groups = options.groups(x, offset, weight)
    arrays = {
        "data": x, "offsets": offset, "filters": weight, "mask": mask,
        "bias": None if bias is None else bias.reshape(1, -1, 1, 1),
    }  # fmt: skip
    return run("deformable_convolution", arrays, {
        "strides": options.pair(stride), "pads_begin": (top, left), "pads_end": (bottom, right),
        "dilations": options.pair(dilation), "group": groups, "deformable_group": offset_groups,
        "bilinear_interpolation_pad": border == "zero",
    })  # fmt: skip


def deform_ps_roi_pool(
    x: Any, rois: Any, offset: Any, output_size: Any, *, spatial_scale: float = 1.0,
    gamma: float = 0.1, group_size: Any = None, part_size: Any = None, bins: str = "paper",
    samples: Any = None,
) -> Any:  # fmt: skip
    """Its bins are its score maps: there is one size for both."""
    sizes = options.squares(output_size, group_size, part_size)
    options.refuse(maps_unlike_bins=sizes["group_size"] != sizes["output_size"])
    count = options.rule(bins, samples, "mxnet")
    arrays = {"feature_maps": x, "coords": rois, "offsets": options.planes(offset)}
    return run("deformable_psroi_pooling", arrays, {
        "output_dim": x.shape[1] // sizes["group_size"] ** 2, "spatial_scale": spatial_scale,
        "group_size": sizes["group_size"], "mode": "bilinear_deformable",
        "spatial_bins_x": count, "spatial_bins_y": count, "trans_std": gamma,
        "part_size": sizes["part_size"],
    })  # fmt: skip


def operators(variant: str) -> dict[str, Any]:
    return {"deform_conv2d": deform_conv2d, "deform_ps_roi_pool": deform_ps_roi_pool}
