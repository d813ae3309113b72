"""What a call asks of an implementation, in words: groups, a mask, padding that is uneven ...

An implementation that lacks one of these says so with the same word, and a diagnosis finds with
them what wrong results have in common.
"""

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from deformable_convnets.reference.geometry import both_sides, output_size, pair, per_axis

ANY = {
    "float16": "x in half precision",
    "float32": "x in single precision",
    "float64": "x in double precision",
    "mixed dtypes": "coordinates in another dtype than x",
    "strided arrays": "arguments that are not contiguous or cannot be written to",
    "several images": "N > 1",
    "no images": "N = 0",
    "points not finite": "coordinates that are infinite, NaN or beyond 1e20",
    "the left derivative": 'side="left" at kinks',
    "a wide map": "a map of more than 256 rows or columns",
    "a narrow map": "a map of one row or one column",
}
CONVOLUTION = ANY | {
    "bias": "a bias",
    "mask": "a mask (Deformable ConvNets v2)",
    "groups": "groups > 1",
    "offset groups": "G > 1",
    "several channels": "more than one channel in a group",
    "several outputs": "more than one output channel in a group",
    "a kernel of one tap": "kh = kw = 1",
    "stride": "a stride > 1",
    "dilation": "a dilation > 1",
    "padding": "padding",
    "uneven padding": "padding that differs between before and after",
    "unequal axes": "kernel, stride, padding or dilation that differ between the axes",
    "whole offsets": "offsets that are all whole numbers",
    "fractions": "offsets that are not whole",
    "far offsets": "offsets of more than 4 pixels",
    "the zero border": 'border="zero"',
    "the dcnv1 border": 'border="dcnv1"',
}
ROI = ANY | {
    "offset": "offsets",
    "no rois": "R = 0",
    "several rois": "R > 1",
    "inverted or empty rois": "x2 <= x1 or y2 <= y1",
    "class groups": "P > 1",
    "score maps": "group_size > 1",
    "parts unlike bins": "a part_size that differs from output_size",
    "maps unlike bins": "a group_size that differs from output_size",
    "unequal axes": "an output, group or part size that differs between y and x",
    "spatial_scale": "a spatial_scale other than 1",
    "samples": "samples other than 4",
    "gamma above 1": "gamma > 1",
    **{f"bins {rule}": f'bins="{rule}"' for rule in ("paper", "mxnet", "align")},
}
GRADIENTS = ("x", "p", "offset", "weight", "bias", "mask")
WORDS = CONVOLUTION | ROI | {
    f"the gradient of {name}": f"grads.{name}" for name in GRADIENTS
}  # fmt: skip


def meaning(operator: str, word: str) -> str:
    """What a word means in a call of this operator."""
    pools = operator.removesuffix("_backward").endswith("roi_pool")
    return (WORDS if pools else WORDS | CONVOLUTION)[word]


def of(operator: str, a: Mapping[str, Any]) -> set[str]:
    """The words that apply to a call, given by the names of its arguments."""
    x = a["x"]
    size = x.shape[2 if "weight" in a else -2 :]
    points = [a[name] for name in ("p", "offset") if a.get(name) is not None]
    found = {
        x.dtype.name: True,
        "mixed dtypes": any(v.dtype != x.dtype for v in _arrays(a)),
        "strided arrays": any(not (v.flags.c_contiguous and v.flags.writeable) for v in _arrays(a)),
        "points not finite": any((~(np.abs(p.astype("f8")) <= 1e20)).any() for p in points),
        "the left derivative": a.get("side") == "left",
        "a wide map": max(size) > 256,
        "a narrow map": min(size) == 1,
    }
    if operator.removesuffix("_backward") != "sample":
        found |= {"several images": len(x) > 1, "no images": len(x) == 0}
    if "rois" in a:
        found |= _of_roi(a)
    elif "weight" in a:
        found |= _of_convolution(a)
    if a.get("border"):
        found[f"the {a['border']} border"] = True
    return {word for word, there in found.items() if there}


def sizes(a: Mapping[str, Any]) -> dict[str, int]:
    """How many there are in a call: what a block, a warp or a fixed array may be short of."""
    x = a["x"]
    if "rois" in a:
        bins = prod(pair("output_size", a["output_size"], at_least=1))
        return {"images": len(x), "channels": x.shape[1], "RoIs": len(a["rois"]), "bins": bins}
    if "p" in a:
        return {"channels": len(x), "points": prod(a["p"].shape[:-1])}
    weight, d = a["weight"], x.ndim - 2
    stride, dilation = (per_axis(n, a[n], d, at_least=1) for n in ("stride", "dilation"))
    ends = both_sides("padding", a["padding"], d)
    output = map(output_size, x.shape[2:], weight.shape[2:], stride, ends, dilation)
    return {
        "images": len(x), "channels": x.shape[1], "output channels": len(weight),
        "taps": prod(weight.shape[2:]), "output pixels": prod(output),
    }  # fmt: skip


def _arrays(a: Mapping[str, Any]) -> list[Any]:
    return [v for v in a.values() if isinstance(v, np.ndarray)]


def _of_convolution(a: Mapping[str, Any]) -> dict[str, bool]:
    weight, kernel, d = a["weight"], a["weight"].shape[2:], a["weight"].ndim - 2
    padding = both_sides("padding", a["padding"], d)
    steps = [per_axis(name, a[name], d, at_least=1) for name in ("stride", "dilation")]
    groups = a["x"].shape[1] // weight.shape[1]
    found = {
        "bias": a["bias"] is not None,
        "groups": groups > 1,
        "several channels": weight.shape[1] > 1,
        "several outputs": weight.shape[0] > groups,
        "a kernel of one tap": max(kernel) == 1,
        "stride": max(steps[0]) > 1,
        "dilation": max(steps[1]) > 1,
        "padding": any(any(both) for both in padding),
        "uneven padding": any(before != after for before, after in padding),
        "unequal axes": any(len(set(each)) > 1 for each in (kernel, padding, *steps)),
    }
    if a.get("offset") is not None:
        offset = a["offset"]
        finite = offset[np.isfinite(offset)]
        found |= {
            "mask": a.get("mask") is not None,
            "offset groups": offset.shape[1] > d * prod(kernel),
            "whole offsets": bool((finite == np.floor(finite)).all()),
            "fractions": bool((finite != np.floor(finite)).any()),
            "far offsets": bool((np.abs(finite) > 4).any()),
        }
    return found


def _of_roi(a: Mapping[str, Any]) -> dict[str, bool]:
    rois, offset = a["rois"], a.get("offset")
    output = pair("output_size", a["output_size"], at_least=1)
    sizes = {"group_size": (1, 1), "part_size": output}
    for name in sizes:
        if name in a:
            sizes[name] = output if a[name] is None else pair(name, a[name], at_least=1)
    return {
        "offset": offset is not None,
        "no rois": len(rois) == 0,
        "several rois": len(rois) > 1,
        "inverted or empty rois": bool((rois[:, 3:] <= rois[:, 1:3]).any()),
        "class groups": offset is not None and offset.shape[1] > 2,
        "score maps": max(sizes["group_size"]) > 1,
        "parts unlike bins": offset is not None and sizes["part_size"] != output,
        "maps unlike bins": "group_size" in a and sizes["group_size"] != output,
        "unequal axes": any(y != x for y, x in (output, *sizes.values())),
        "spatial_scale": a["spatial_scale"] != 1,
        "samples": a["samples"] not in (None, 4),
        "gamma above 1": offset is not None and a["gamma"] > 1,
        f"bins {a['bins']}": True,
    }
