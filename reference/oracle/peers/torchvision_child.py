"""torchvision's operators; needs torch and torchvision.

deform_conv2d   torchvision.ops.deform_conv2d
roi_pool        torchvision.ops.roi_align with aligned=True
ps_roi_pool     torchvision.ops.ps_roi_align, or roi_align where there is one score map
"""

from __future__ import annotations

from typing import Any

import torch
import torchvision
from torchvision.ops import deform_conv2d, ps_roi_align, roi_align

from . import options


def threads(count: int) -> None:
    torch.set_num_threads(count)


def versions() -> dict[str, str]:
    return {"torch": torch.__version__, "torchvision": torchvision.__version__}


def tensor(a: Any) -> Any:
    return torch.from_numpy(a if a.flags.writeable else a.copy())


def forward(call: Any, inputs: dict[str, Any], settings: dict[str, Any]) -> Any:
    given = {name: tensor(a) for name, a in inputs.items() if a is not None}
    with torch.no_grad():
        return call(**given, **settings).numpy()


def backward(call: Any, grad_output: Any, inputs: dict[str, Any], settings: dict[str, Any]) -> Any:
    """Forward, then the gradients of the inputs that have one."""
    given = {name: tensor(a) for name, a in inputs.items() if a is not None}
    wanted = {name: a.requires_grad_() for name, a in given.items() if name != "boxes"}
    call(**given, **settings).backward(tensor(grad_output))
    return {name: a.grad.numpy() for name, a in wanted.items()}


def convolution(
    x: Any, offset: Any, weight: Any, bias: Any = None, *,
    stride: Any = 1, padding: Any = 0, dilation: Any = 1, mask: Any = None, border: str = "zero",
) -> Any:  # fmt: skip
    options.only_border(border)
    inputs = {"input": x, "offset": offset, "weight": weight, "bias": bias, "mask": mask}
    return deform_conv2d, inputs, {
        "stride": options.pair(stride), "padding": options.even(padding),
        "dilation": options.pair(dilation),
    }  # fmt: skip


def pooling(
    x: Any, rois: Any, output_size: Any, *,
    spatial_scale: float = 1.0, group_size: Any = 1, bins: str = "paper", samples: Any = None,
) -> Any:  # fmt: skip
    output = options.pair(output_size)
    group = output if group_size is None else options.pair(group_size)
    settings: dict[str, Any] = {"output_size": output, "spatial_scale": spatial_scale}
    settings["sampling_ratio"] = options.rule(bins, samples, "align")
    if group == (1, 1):
        return roi_align, {"input": x, "boxes": rois}, {**settings, "aligned": True}
    options.refuse(maps_unlike_bins=group != output)
    return ps_roi_align, {"input": x, "boxes": rois}, settings


def score_maps(*args: Any, group_size: Any = None, **keywords: Any) -> Any:
    return pooling(*args, group_size=group_size, **keywords)


def named(grads: dict[str, Any]) -> dict[str, Any]:
    return {"x" if name == "input" else name: a for name, a in grads.items()}


def both(prepare: Any) -> tuple[Any, Any]:
    """An operator and its backward, from what makes our arguments torchvision's."""

    def run(*args: Any, **keywords: Any) -> Any:
        return forward(*prepare(*args, **keywords))

    def grads(grad_output: Any, *args: Any, side: str = "right", **keywords: Any) -> Any:
        options.only_right(side)
        call, inputs, settings = prepare(*args, **keywords)
        return named(backward(call, grad_output, inputs, settings))

    return run, grads


def operators(variant: str) -> dict[str, Any]:
    found = {}
    for name, prepare in (
        ("deform_conv2d", convolution), ("roi_pool", pooling), ("ps_roi_pool", score_maps)
    ):  # fmt: skip
        found[name], found[name + "_backward"] = both(prepare)
    return found
