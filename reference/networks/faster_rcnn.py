"""Faster R-CNN (section 4.1): RoI pooling on top of conv5, and two fully connected layers of 1024.

The trunk's last convolution, 1x1, reduces 2048 channels to 256 (in the authors' code; 1024 in the
text). Pooling is plain, equation (5), or deformable, Figure 3: 2 k k offsets from a fully connected
layer, whose learning rate the paper multiplies with 0.01.

    net = faster_rcnn(rng, resnet.trunk(rng, 101, top=256), classes=21)
    net = deformable(net, ["head.pool"])
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import ndarray as Array

from ..roi_points import Rule
from . import settings
from .door import check_top, number_of
from .layers import Linear, linear
from .roi_layers import RoiPool
from .rpn import Rpn, small
from .tape import Tape
from .two_stage import TwoStage

PLAN = settings.VOC["Faster R-CNN"]
HEAD = settings.of_head(PLAN)
ROI_LAYERS = ("head.pool",)  # their paths, for `layers.deformable`
OFFSET_RATES = {"head.pool.branch.*": PLAN.beta_fc.value}  # for an optimiser's multipliers


@dataclass(eq=False)
class FasterHead:
    """RoI pooling, two hidden layers, scores R classes and deltas R D*4."""

    pool: RoiPool
    first: Linear
    second: Linear
    score: Linear
    box: Linear

    def __call__(self, tape: Tape, x: Array, rois: Array) -> tuple[Array, Array]:
        pooled = self.pool(tape, x, rois)
        R, C, kh, kw = pooled.shape
        hidden = tape.reshape(pooled, (R, C * kh * kw))
        for layer in (self.first, self.second):
            hidden = tape.relu(layer(tape, hidden))
        return self.score(tape, hidden), self.box(tape, hidden)

    @property
    def classes(self) -> int:
        """How many, with the background."""
        return self.score.weight.shape[0]


def faster_rcnn(
    rng: np.random.Generator, trunk: Any, classes: int = HEAD["classes"], *,
    rpn: Rpn | None = None, stride: int = HEAD["stride"], channels: int = HEAD["channels"],
    **options: Any,
) -> TwoStage:  # fmt: skip
    """A new Faster R-CNN on a trunk; options as of `faster_head`.

    trunk     is not copied
    rpn       on res4, for proposals that are trained jointly; None: proposals are given
    stride    of the trunk's maps
    channels  those of the trunk's top map; ValueError where its `top` has others
    """
    head = faster_head(rng, classes, stride=stride, channels=channels, **options)
    check_top(trunk, channels)
    return TwoStage(trunk, head, rpn, stride)


def faster_head(
    rng: np.random.Generator, classes: int = HEAD["classes"], *, channels: int = HEAD["channels"],
    hidden: int = HEAD["hidden"], agnostic: bool = HEAD["agnostic"], stride: int = HEAD["stride"],
    output_size: int = HEAD["output_size"], bins: Rule = HEAD["bins"],
    samples: int | None = HEAD["samples"], dtype: Any = np.float32,
) -> FasterHead:  # fmt: skip
    """A new head with random weights; `classes` counts the background.

    channels       those of the trunk's top map
    hidden         the width of the fully connected layers
    agnostic       one box for all classes; else each class has its own
    bins, samples  as of `roi_pool`
    Its last layers start small, so that the first losses are those of a guess.
    """
    classes = number_of(classes)
    outputs = 4 if agnostic else 4 * classes
    sizes = ((channels * output_size**2, hidden), (hidden, hidden), (hidden, classes),
             (hidden, outputs))  # fmt: skip
    first, second, score, box = (linear(rng, F, O, dtype=dtype) for F, O in sizes)
    pool = RoiPool(channels, output_size, 1 / stride, bins, samples)
    return FasterHead(pool, first, second, small(score), small(box))
