"""What the paper leaves open, from the papers that it follows: whole protocols for the networks.

    plan = complete("Faster R-CNN", "VOC")     PAPER's, and what is open there is filled
    plan.need("kept")                          (0.7, 6000, 300)
    plan.kept.source                           'Ren et al. 2015: ...'

Section 4.1 says that its detectors follow Faster R-CNN (Ren et al. 2015) and R-FCN (Dai et al.
2016), and repeats few of their settings. They are here, from memory, with those of the code of
Faster R-CNN; where they are silent too, the authors' released code is asked. What none of them
says stays open.
"""

from dataclasses import fields, replace
from functools import partial
from typing import Any

from .protocols import PAPER, Fact, Protocol
from .released_code import RELEASED

_ren = partial(Fact, known="memory")

CITED: dict[str, Fact] = {
    "anchor_scales": _ren((8, 16, 32), "Ren et al. 2015: 128, 256 and 512 pixels"),
    "anchor_ratios": _ren((0.5, 1, 2), "Ren et al. 2015"),
    "rpn_hidden": _ren(512, "Ren et al. 2015: of VGG; its code has the same on ResNet"),
    "rpn_positive": _ren(0.5, "Ren et al. 2015: a ratio of up to 1:1"),
    "rpn_overlaps": _ren((0.3, 0.7), "Ren et al. 2015"),
    "kept": _ren((0.7, 6000, 300), "Ren et al. 2015: 0.7 and 300; 6000 in its code"),
    "kept_training": _ren((0.7, 12_000, 2000), "Ren et al. 2015: 0.7 and 2000; 12000 in its code"),
    "least_side": _ren(
        16, "the code of Ren et al. 2015, in pixels before the image is resized; here after"
    ),
    "positive": _ren(0.25, "Girshick 2015"),
    "overlaps": _ren((0.0, 0.5), "the code of Ren et al. 2015, trained end to end"),
    "nms": _ren(0.3, "the code of Ren et al. 2015"),
    "least_score": _ren(0.05, "the code of Ren et al. 2015"),
    "box_average_settings": _ren((1, 0.5), "Gidaris and Komodakis 2015"),
}
_COCO = {
    "anchor_scales": _ren((4, 8, 16, 32), "Ren et al. 2015 on COCO: 64 pixels too; released code"),
}
_RPN_ALONE = {  # which no released code trains
    "momentum": _ren(0.9, "Ren et al. 2015"),
    "weight_decay": _ren(5e-4, "Ren et al. 2015"),
}
_AGNOSTIC = {
    "Faster R-CNN": _ren(False, "Girshick 2015: each class has its box"),
    "R-FCN": _ren(True, "Dai et al. 2016"),
}


def complete(network: str, data: str) -> Protocol:
    """A protocol of `PAPER`; what is open there is of the papers it follows, or released code."""
    if (network, data) not in PAPER:
        pairs = "; ".join(f"{a} on {b}" for a, b in PAPER)
        raise ValueError(f"{network!r} on {data!r} is not in the paper, expected one of {pairs}")
    plan, released = PAPER[network, data], RELEASED.get((network, data))
    found: dict[str, Any] = {}
    for name in (f.name for f in fields(plan) if f.type is Fact):
        if getattr(plan, name).known == "open":
            own = {"class_agnostic": _AGNOSTIC[network]} if network in _AGNOSTIC else {}
            own |= _COCO if data == "COCO" else {}
            own |= _RPN_ALONE if network == "category-aware RPN" else {}
            for fact in ((CITED | own).get(name), getattr(released, name, None)):
                if fact is not None and fact.value is not None:
                    found.setdefault(name, fact)
    return replace(plan, **found)
