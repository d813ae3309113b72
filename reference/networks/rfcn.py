"""R-FCN (section 4.1; Dai et al. 2016): k k score maps of each class, pooled bin by bin; a vote.

Maps are 1x1 convolutions of the trunk's top map of 1024 channels, so a RoI costs next to nothing.
Pooling is plain, or deformable, Figure 4: 2 k k (C + 1) maps of offsets for the scores, each class
with its own, and 2 k k for the boxes.

    net = rfcn(rng, resnet.trunk(rng, 101), classes=21)
    net = deformable(net, ["head.score", "head.box"])
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import ndarray as Array

from ..roi_points import Rule
from . import settings
from .door import check_top, number_of
from .layers import conv
from .roi_layers import PsRoiPool
from .rpn import Rpn, small
from .tape import Tape
from .two_stage import TwoStage

HEAD = settings.of_head(settings.VOC["R-FCN"])
ROI_LAYERS = ("head.score", "head.box")  # their paths, for `layers.deformable`


@dataclass(eq=False)
class RfcnHead:
    """Position-sensitive scores R classes and deltas R D*4; the bins vote with their mean."""

    score: PsRoiPool
    box: PsRoiPool | None

    def __call__(self, tape: Tape, x: Array, rois: Array) -> tuple[Array, Array | None]:
        scores = tape.mean(self.score(tape, x, rois))
        return scores, None if self.box is None else tape.mean(self.box(tape, x, rois))

    @property
    def classes(self) -> int:
        """How many, with the background: each has offsets of its own."""
        return self.score.class_groups


def rfcn(
    rng: np.random.Generator, trunk: Any, classes: int = HEAD["classes"], *,
    rpn: Rpn | None = None, stride: int = HEAD["stride"], channels: int = HEAD["channels"],
    **options: Any,
) -> TwoStage:  # fmt: skip
    """A new R-FCN on a trunk; options as of `rfcn_head`.

    trunk     is not copied
    rpn       on res4, for proposals that are trained jointly; None: proposals are given
    stride    of the trunk's maps
    channels  those of the trunk's top map; ValueError where its `top` has others
    """
    head = rfcn_head(rng, classes, stride=stride, channels=channels, **options)
    check_top(trunk, channels)
    return TwoStage(trunk, head, rpn, stride)


def rfcn_head(
    rng: np.random.Generator, classes: int = HEAD["classes"], *, channels: int = HEAD["channels"],
    box_sets: int = HEAD["box_sets"], stride: int = HEAD["stride"],
    output_size: int = HEAD["output_size"], bins: Rule = HEAD["bins"],
    samples: int | None = HEAD["samples"], dtype: Any = np.float32,
) -> RfcnHead:  # fmt: skip
    """A new head with random weights; `classes` counts the background.

    channels       those of the trunk's top map
    box_sets       D of `detections.Predicted`: 2 as released, 1, `classes`, or 0: no boxes, so
                   proposals stay where they are
    bins, samples  as of `ps_roi_pool`
    The maps start small, so that the first losses are those of a guess.
    """
    classes = number_of(classes)
    if box_sets not in (0, 1, 2, classes):
        raise ValueError(f"box_sets is {box_sets}, expected 0, 1, 2 or classes = {classes}")
    made = [
        PsRoiPool(
            small(conv(rng, channels, O * output_size**2, 1, dtype=dtype)), output_size, 1 / stride,
            bins, samples, class_groups=P,
        )
        for O, P in ((classes, classes), (4 * box_sets, 1)) if O
    ]  # fmt: skip
    return RfcnHead(made[0], made[1] if box_sets else None)
