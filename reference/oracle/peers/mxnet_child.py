"""The authors' operators in MXNet 1.9.1, on the CPU in float32.

    deform_conv2d        border "dcnv1": DeformableConvolution, with gradients
                         border "zero": ModulatedDeformableConvolution, forward only on a CPU
    deform_ps_roi_pool   DeformablePSROIPooling, with gradients
    PSROIPooling         by its own name: it lays bins by a rule that is none of ours

Needs Python 3.11 or older and NumPy 1.23, the last with `np.bool`, which MXNet wants.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import options

for _name, _builtin in {"bool": bool, "object": object, "int": int, "float": float}.items():
    setattr(np, _name, _builtin)

import mxnet  # noqa: E402

mxnet.util.set_np_shape(True)  # a size of 0 is 0, and not one that is to be found out
ops = mxnet.nd.contrib


def versions() -> dict[str, str]:
    return {"mxnet": mxnet.__version__}


def forward(call: Any, inputs: dict[str, Any], settings: dict[str, Any]) -> Any:
    given = [mxnet.nd.array(a, dtype=a.dtype) for a in inputs.values() if a is not None]
    y = call(*given, **settings)
    mxnet.nd.waitall()  # it works in other threads, and may fail there when a result is here
    return y.asnumpy()


def backward(call: Any, grad_output: Any, inputs: dict[str, Any], settings: dict[str, Any]) -> Any:
    given = {n: mxnet.nd.array(a, dtype=a.dtype) for n, a in inputs.items() if a is not None}
    wanted = {name: a for name, a in given.items() if name != "rois"}
    for a in wanted.values():
        a.attach_grad()
    with mxnet.autograd.record():
        y = call(*given.values(), **settings)
    y.backward(mxnet.nd.array(grad_output, dtype=grad_output.dtype))
    mxnet.nd.waitall()
    return {name: a.grad.asnumpy() for name, a in wanted.items()}


def convolution(
    x: Any, offset: Any, weight: Any, bias: Any = None, *,
    stride: Any = 1, padding: Any = 0, dilation: Any = 1, mask: Any = None, border: str = "zero",
) -> Any:  # fmt: skip
    """MXNet's operator, its arrays and its settings."""
    groups, offset_groups = options.groups(x, offset, weight)
    settings = {
        "kernel": weight.shape[2:], "stride": options.pair(stride), "pad": options.even(padding),
        "dilate": options.pair(dilation), "num_filter": weight.shape[0], "num_group": groups,
        "num_deformable_group": offset_groups, "no_bias": bias is None,
    }  # fmt: skip
    if border == "dcnv1":
        options.refuse(mask=mask is not None)
        inputs = {"x": x, "offset": offset, "weight": weight, "bias": bias}
        return ops.DeformableConvolution, inputs, settings
    options.refuse_outputs(weight, offset_groups)
    shape = (x.shape[0], offset.shape[1] // 2, *offset.shape[2:])
    ones = np.ones(shape, x.dtype) if mask is None else mask
    inputs = {"x": x, "offset": offset, "mask": ones, "weight": weight, "bias": bias}
    return ops.ModulatedDeformableConvolution, inputs, settings


def pooling(
    x: Any, rois: Any, offset: Any, output_size: Any, *, spatial_scale: float = 1.0,
    gamma: float = 0.1, group_size: Any = None, part_size: Any = None, bins: str = "paper",
    samples: Any = None,
) -> Any:  # fmt: skip
    sizes = options.squares(output_size, group_size, part_size)
    inputs = {"x": x, "rois": rois, "offset": options.planes(offset)}
    return ops.DeformablePSROIPooling, inputs, {
        "spatial_scale": spatial_scale, "output_dim": x.shape[1] // sizes["group_size"] ** 2,
        "group_size": sizes["group_size"], "pooled_size": sizes["output_size"],
        "part_size": sizes["part_size"], "trans_std": gamma, "no_trans": offset is None,
        "sample_per_part": options.rule(bins, samples, "mxnet"),
    }  # fmt: skip


def deform_conv2d(*args: Any, **keywords: Any) -> Any:
    return forward(*convolution(*args, **keywords))


def deform_conv2d_backward(grad: Any, *args: Any, side: str = "right", **keywords: Any) -> Any:
    options.only_right(side)
    options.only_border(keywords.get("border", "zero"), "dcnv1")
    call, inputs, settings = convolution(*args, **keywords)
    return backward(call, grad, inputs, settings)


def deform_ps_roi_pool(*args: Any, **keywords: Any) -> Any:
    return forward(*pooling(*args, **keywords))


def deform_ps_roi_pool_backward(grad: Any, *args: Any, side: str = "right", **keywords: Any) -> Any:
    options.only_right(side)
    call, inputs, settings = pooling(*args, **keywords)
    grads = backward(call, grad, inputs, settings)
    return {name: options.planes(a) if name == "offset" else a for name, a in grads.items()}


def psroi_pooling(x: Any, rois: Any, output_size: int) -> Any:
    settings = {"output_dim": x.shape[1] // output_size**2, "pooled_size": output_size}
    inputs = {"x": x, "rois": rois}
    return forward(ops.PSROIPooling, inputs, {"spatial_scale": 1.0, **settings})


def operators(variant: str) -> dict[str, Any]:
    return {
        "deform_conv2d": deform_conv2d,
        "deform_conv2d_backward": deform_conv2d_backward,
        "PSROIPooling": psroi_pooling,
        "deform_ps_roi_pool": deform_ps_roi_pool,
        "deform_ps_roi_pool_backward": deform_ps_roi_pool_backward,
    }
