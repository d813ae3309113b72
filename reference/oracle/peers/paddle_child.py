"""Paddle's paddle.vision.ops.deform_conv2d on the CPU, with gradients; needs paddlepaddle."""

from __future__ import annotations

from typing import Any

import paddle
from paddle.vision.ops import deform_conv2d

from . import options


def versions() -> dict[str, str]:
    return {"paddle": paddle.__version__}


def prepared(
    x: Any, offset: Any, weight: Any, bias: Any = None, *,
    stride: Any = 1, padding: Any = 0, dilation: Any = 1, mask: Any = None, border: str = "zero",
) -> Any:  # fmt: skip
    """Tensors by name, and the settings."""
    options.only_border(border)
    groups, offset_groups = options.groups(x, offset, weight)
    options.refuse_outputs(weight, offset_groups)
    arrays = {"x": x, "offset": offset, "weight": weight, "bias": bias, "mask": mask}
    given = {name: paddle.to_tensor(a) for name, a in arrays.items() if a is not None}
    return given, {
        "stride": options.pair(stride), "padding": options.even(padding),
        "dilation": options.pair(dilation), "groups": groups, "deformable_groups": offset_groups,
    }  # fmt: skip


def forward(*args: Any, **keywords: Any) -> Any:
    given, settings = prepared(*args, **keywords)
    with paddle.no_grad():
        return deform_conv2d(**given, **settings).numpy()


def backward(grad_output: Any, *args: Any, side: str = "right", **keywords: Any) -> Any:
    options.only_right(side)
    given, settings = prepared(*args, **keywords)
    for a in given.values():
        a.stop_gradient = False
    y = deform_conv2d(**given, **settings)
    grads = paddle.grad([y], list(given.values()), [paddle.to_tensor(grad_output)])
    return {name: grad.numpy() for name, grad in zip(given, grads, strict=True)}


def operators(variant: str) -> dict[str, Any]:
    return {"deform_conv2d": forward, "deform_conv2d_backward": backward}
