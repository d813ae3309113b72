"""From a protocol to the arguments of the networks' functions, by the names that they have there.

    plan = complete("R-FCN", "COCO")                        see `cited`
    trunk, proposing = resnet.trunk(rng, **of_trunk(plan)), rpn.rpn(rng, **of_rpn(plan))
    net = rfcn.rfcn(rng, trunk, rpn=proposing, **of_head(plan))
    net = deformed(net, plan, rfcn.ROI_LAYERS)
    value = two_stage.loss(net, tape, batch, **of_training(plan))
    optimiser = SGD(**of_sgd(plan))                         train(..., rate=plan.rate)
    found = two_stage.detect(net, images, **of_test(plan))

The defaults of those functions are these numbers too, of VOC: they stand in `protocols` and nowhere
else. Not built, so not here: anything that training images are resized with.
"""

from collections.abc import Sequence
from typing import Any

from .anchors import Anchors
from .cited import complete
from .layers import deformable, part
from .protocols import Protocol
from .resnet import layers3x3

Options = dict[str, Any]


def of_head(plan: Protocol) -> Options:
    """Of `deeplab.deeplab`, `rpn.category_aware_rpn`, `faster_rcnn.faster_rcnn` or `rfcn.rfcn`."""
    made: Options = {"classes": plan.need("classes"), "channels": plan.need("reduction")}
    if plan.network == "DeepLab":
        return made
    if plan.network == "category-aware RPN":
        return made | {"anchors": anchors(plan)}
    made |= {"stride": plan.need("stride"), "output_size": plan.need("bins")}
    made |= _points(plan.need("samples"))
    agnostic = plan.need("class_agnostic")
    if plan.network == "R-FCN":
        return made | {"box_sets": 2 if agnostic else made["classes"]}
    first, second = plan.need("hidden")
    if first != second:
        raise ValueError(f"hidden is {(first, second)}, expected two layers of one width")
    return made | {"hidden": first, "agnostic": agnostic}


def of_trunk(plan: Protocol) -> Options:
    """Of `resnet.trunk`, and of `aligned_inception.aligned_inception`."""
    return {
        "stride": plan.need("stride"), "dilation": plan.need("dilation"),
        "top": plan.need("reduction"),
    }  # fmt: skip


def deformed(net: Any, plan: Protocol, roi_layers: Sequence[str] = ()) -> Any:
    """`layers.deformable` with the blocks, groups, branches' dilation and gamma of a plan.

    roi_layers  `faster_rcnn.ROI_LAYERS` or `rfcn.ROI_LAYERS`; one that is left out stays plain
    """
    blocks, d = plan.need("deformable"), plan.need("offset_dilation")
    convolutions = [p for name, p in layers3x3(net).items() if name.partition("_")[0] in blocks]
    groups = plan.need("offset_groups")
    net = deformable(net, [*convolutions, *roi_layers], offset_groups=groups)
    for path in convolutions:
        branch = part(net, path).branch
        branch.dilation = branch.padding = d
    for path in roi_layers:
        part(net, path).gamma = plan.need("gamma")
    return net


def of_sgd(plan: Protocol) -> Options:
    """Of `optimisers.SGD`. A learning rate of some layers that nobody says is that of all."""
    told = {
        "*branch.*": plan.beta, "*branch.bias": plan.beta_bias,
        "head.pool.branch.*": plan.beta_fc, "*trunk.top.*": plan.reduction_rate,
    }  # fmt: skip
    multipliers = {name: fact.value for name, fact in told.items() if fact.value is not None}
    options = {name: plan.need(name) for name in ("momentum", "weight_decay")}
    return options | {"multipliers": multipliers}


def _points(samples: Any) -> Options:
    """The rule of `roi_points`: all pixels of a bin, or a grid as in the released code."""
    whole = samples == "all pixels"
    return {"bins": "paper" if whole else "mxnet", "samples": None if whole else samples}


def anchors(plan: Protocol) -> Anchors:
    """Their scales in pixels: a protocol counts strides of 16 pixels."""
    scales = tuple(16 * a for a in plan.need("anchor_scales"))
    return Anchors(scales, plan.need("anchor_ratios"), plan.need("stride"))


def of_rpn(plan: Protocol) -> Options:
    """Of `rpn.rpn`, on conv4."""
    return {"hidden": plan.need("rpn_hidden"), "anchors": anchors(plan)}


def of_rpn_loss(plan: Protocol) -> Options:
    """Of `rpn.rpn_loss`, and of `rpn.loss`."""
    negative, positive = plan.need("rpn_overlaps")
    return {
        "number": plan.need("rpn_rois"), "foreground": plan.need("rpn_positive"),
        "positive": positive, "negative": negative,
    }  # fmt: skip


def of_sample(plan: Protocol) -> Options:
    """Of `two_stage.sampled`, or of `two_stage.hardest_of`: RoIs to learn from."""
    lowest, threshold = plan.need("overlaps")
    made = {"number": plan.need("rois"), "threshold": threshold, "lowest": lowest}
    return made if plan.need("hardest") else made | {"foreground": plan.need("positive")}


def of_proposals(plan: Protocol, *, training: bool = False) -> Options:
    """Of `rpn.propose`."""
    overlap, before, after = plan.need("kept_training" if training else "kept")
    least = plan.need("least_side")
    return {"before": before, "after": after, "overlap": overlap, "least": least}


def of_training(plan: Protocol) -> Options:
    """Of `two_stage.loss`."""
    proposing = of_proposals(plan, training=True)
    hardest = plan.need("hardest")
    return of_sample(plan) | {
        "hardest": hardest, "proposing": proposing, "of_rpn": of_rpn_loss(plan)
    }  # fmt: skip


def of_detections(plan: Protocol) -> Options:
    """Of `detections.detections`, and of `rpn.detect`."""
    most = {} if plan.most.value is None else {"most": plan.most.value}
    return {"least": plan.need("least_score"), "overlap": plan.need("nms")} | most


def of_test(plan: Protocol, *, averaged: bool = False, scales: bool = False) -> Options:
    """Of `two_stage.detect`; with the iterative box average (B) or the scales (M) of Table 5."""
    made = of_detections(plan)
    if scales:
        made["short_sides"] = plan.need("multi_scale")
    if averaged:
        rounds, overlap = plan.need("box_average_settings")
        made |= {"again": rounds, "average": overlap}
    joint = plan.need("proposals") == "joint"
    return made | ({"proposing": of_proposals(plan)} if joint else {})


VOC = {name: complete(name, "VOC") for name in (
    "DeepLab", "category-aware RPN", "Faster R-CNN", "R-FCN")}  # fmt: skip
