"""The names of other libraries' entries, where they go, and what is exchanged on the way.

Sources: torchvision's state_dict(); github.com/msracver/Deformable-ConvNets, */symbols/
resnet_v1_101_*_dcn.py, and lib/rpn for the order of anchors; mmdetection's resnet.py,
convfc_bbox_head.py and rpn_head.py, and mmcv's DeformConv2dPack. Called by `imported`.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray as Array

from ..geometry import pair
from .boxes import DEVIATIONS
from .layers import DeformConv2d
from .resnet import STAGES, Block, Trunk, Unit
from .rpn import Rpn

KINDS = ("weight", "bias")
NORM = ("scale", "shift", "mean", "variance")
OF_TORCH = dict(zip(NORM, ("weight", "bias", "running_mean", "running_var"), strict=True))
OF_MXNET = dict(zip(NORM, ("gamma", "beta", "moving_mean", "moving_var"), strict=True))
PARTS = ("branch1", "branch2a", "branch2b", "branch2c")


class Entry(NamedTuple):
    """Where an entry of a state dict goes: the path of our array, how it becomes that, and what
    shape it has to have, None for that of ours."""

    ours: str
    change: Callable[[Array], Array] = np.asarray
    shape: tuple[int, ...] | None = None


Table = dict[str, Entry]


class Place(NamedTuple):
    """A unit of a trunk: its path, itself, and its block, with the number and part in it."""

    path: str
    unit: Unit
    stage: str
    i: int
    block: Block | None
    part: str


def places(trunk: Trunk, home: str) -> Iterator[Place]:
    """The units of a ResNet in order; home is the path of the trunk, "" or "trunk."."""
    yield Place(f"{home}conv1", trunk.conv1, "conv1", 0, None, "")
    for stage in STAGES:
        for i, block in enumerate(getattr(trunk, stage)):
            if not isinstance(block, Block):
                raise ValueError(f"{block.name} is no block of a ResNet: such weights are unknown")
            for part in PARTS:
                if (unit := getattr(block, part)) is not None:
                    yield Place(f"{home}{stage}.{i}.{part}", unit, stage, i, block, part)


def deformed(trunk: Trunk, home: str) -> list[DeformConv2d]:
    """The deformable convolutions of a trunk."""
    found = (place.unit.conv for place in places(trunk, home))
    return [layer for layer in found if isinstance(layer, DeformConv2d)]


def layer(theirs: str, ours: str, change: Callable[[Array], Array] = np.asarray) -> Table:
    """Weight and bias of a layer, put where theirs has {}."""
    return {theirs.format(kind): Entry(f"{ours}.{kind}", change) for kind in KINDS}


def torchvision_trunk(trunk: Trunk, home: str) -> Table:
    """ "layer4.0.conv2.weight", "layer4.0.bn2.bias", "layer4.0.downsample.0.weight" ...; and
    mmcv's "layer4.0.conv2.conv_offset.weight", if that layer is deformable."""
    table: Table = {}
    for place in places(trunk, home):
        conv, norm = "conv1", "bn1"
        if place.block is not None:
            n = PARTS.index(place.part)
            inside = f"layer{STAGES.index(place.stage) + 1}.{place.i}"
            ends = (f"conv{n}", f"bn{n}") if n else ("downsample.0", "downsample.1")
            conv, norm = (f"{inside}.{end}" for end in ends)
        table[f"{conv}.weight"] = Entry(f"{place.path}.conv.weight")
        for ours, theirs in OF_TORCH.items():
            table[f"{norm}.{theirs}"] = Entry(f"{place.path}.norm.{ours}")
        if isinstance(place.unit.conv, DeformConv2d):
            table |= layer(f"{conv}.conv_offset.{{}}", f"{place.path}.conv.branch")
    return table


def mmdetection_heads(net: Any) -> Table:
    """ "roi_head.bbox_head." and "rpn_head.": of a Faster R-CNN, class by class or agnostic."""
    bbox, head = "roi_head.bbox_head.", net.head
    table = layer(bbox + "shared_fcs.0.{}", "head.first")
    table |= layer(bbox + "shared_fcs.1.{}", "head.second")
    table |= layer(bbox + "fc_cls.{}", "head.score", background_first)
    agnostic = head.box.weight.shape[0] == 4
    for kind in KINDS:
        rest = getattr(head.box, kind).shape[1:]
        entry = Entry(f"head.box.{kind}", without_background, (4 * (head.classes - 1), *rest))
        table[f"{bbox}fc_reg.{kind}"] = Entry(f"head.box.{kind}") if agnostic else entry
    if net.rpn is not None:
        table |= layer("rpn_head.rpn_conv.{}", "rpn.hidden")
        table |= layer("rpn_head.rpn_reg.{}", "rpn.box", lambda a: rpn_deltas(a, net.rpn))
        for kind in KINDS:
            shape = (net.rpn.anchors.number, *getattr(net.rpn.score, kind).shape[1:])
            table[f"rpn_head.rpn_cls.{kind}"] = Entry(
                f"rpn.score.{kind}", lambda a: rpn_scores(against_0(a), net.rpn), shape
            )
    return table


def mxnet_trunk(trunk: Trunk, home: str) -> Table:
    """ "res5c_branch2b_weight", "bn5c_branch2b_gamma", "res5c_branch2b_offset_weight" ..."""
    table: Table = {}
    for place in places(trunk, home):
        conv, norm = "conv1", "bn_conv1"
        if place.block is not None:
            conv = f"{place.block.name}_{place.part}"
            norm = conv.replace("res", "bn")
        table[f"{conv}_weight"] = Entry(f"{place.path}.conv.weight")
        for ours, theirs in OF_MXNET.items():
            table[f"{norm}_{theirs}"] = Entry(f"{place.path}.norm.{ours}")
        if isinstance(place.unit.conv, DeformConv2d):
            table |= layer(f"{conv}_offset_{{}}", f"{place.path}.conv.branch")
    return table


def mxnet_heads(net: Any) -> Table:
    """Of Faster R-CNN: fc_new_1, fc_new_2, cls_score, bbox_pred, and offset. Of R-FCN: rfcn_cls,
    rfcn_bbox, and these with _offset_t. Of their proposal network: rpn_conv_3x3, rpn_cls_score and
    rpn_bbox_pred."""
    table: Table = {}
    head = net.head
    if hasattr(head, "pool"):
        names = {"fc_new_1": "first", "fc_new_2": "second", "cls_score": "score",
                 "bbox_pred": "box"}  # fmt: skip
        pools = {"offset": "pool"}
    else:
        names = {"rfcn_cls": "score.score", "rfcn_bbox": "box.score"}
        pools = {"rfcn_cls_offset_t": "score", "rfcn_bbox_offset_t": "box"}
        if head.box is None:
            del names["rfcn_bbox"], pools["rfcn_bbox_offset_t"]
    for theirs, ours in names.items():
        table |= layer(f"{theirs}_{{}}", f"head.{ours}")
    for theirs, ours in pools.items():
        pool = getattr(head, ours)
        if hasattr(pool, "branch"):
            kh, kw = pair("output_size", pool.output_size, at_least=1)
            table |= layer(f"{theirs}_{{}}", f"head.{ours}.branch",
                           lambda a, bins=kh * kw: dy_first(a, bins))  # type: ignore[misc]  # fmt: skip
    if net.rpn is not None:
        table |= layer("rpn_conv_3x3_{}", "rpn.hidden")
        table |= layer("rpn_cls_score_{}", "rpn.score", lambda a: rpn_scores(a, net.rpn))
        table |= layer("rpn_bbox_pred_{}", "rpn.box", lambda a: rpn_deltas(a, net.rpn))
    return table


def dy_first(a: Array, bins: int) -> Array:
    """Rows of offsets, for each class group dx of all bins and then dy, with dy first."""
    return a.reshape(-1, 2, bins, *a.shape[1:])[:, ::-1].reshape(a.shape)


def rpn_scores(a: Array, rpn: Rpn) -> Array:
    """Rows class by class and, within, anchors by ratio and scale: to ours, see `rpn.Rpn`."""
    ratios, scales = len(rpn.anchors.ratios), len(rpn.anchors.scales)
    return np.moveaxis(a.reshape(-1, ratios, scales, *a.shape[1:]), (0, 1, 2), (2, 1, 0)).reshape(
        a.shape
    )


def rpn_deltas(a: Array, rpn: Rpn) -> Array:
    """Rows by ratio, scale and delta: to ours, by scale and ratio, divided by DEVIATIONS."""
    ratios, scales = len(rpn.anchors.ratios), len(rpn.anchors.scales)
    rest = a.shape[1:]
    laid = a.reshape(ratios, scales, 4, *rest).swapaxes(0, 1)
    return (laid / DEVIATIONS.reshape(4, *[1] * len(rest))).reshape(a.shape)


def against_0(a: Array) -> Array:
    """sigmoid(s) is the softmax of 0 and s: rows of zeros, for background, and then these."""
    return np.concatenate([np.zeros_like(a), a])


def background_first(a: Array) -> Array:
    """The last row is that of the background."""
    return np.roll(a, 1, axis=0)


def without_background(a: Array) -> Array:
    """Four rows of zeros, for boxes of the background, which nobody reads, and then these."""
    return np.concatenate([np.zeros_like(a[:4]), a])
