"""The RoI layers of Figures 3 and 4, plain and deformable: called with a tape, x and rois.

    x     N C H W, and rois R 5: batch index, x1, y1, x2, y2, as in `roi_pool`; they get no gradient
    bins  which points a bin has, see `roi_points`. The default here is "align" with 3 x 3 samples
          at the centres of sub-bins: on a small map its bins are never without points

`layers.deformable` turns a plain layer into its deformable form, whose branch is zero at first.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

from numpy import ndarray as Array

from .. import checks
from ..geometry import Pair, pair
from ..roi_points import Rule
from .door import described, namespace
from .layers import Conv2d, Linear
from .protocols import PAPER
from .tape import Tape

GAMMA: float = PAPER["R-FCN", "VOC"].gamma.value  # section 2.2


@dataclass(eq=False)
class RoiPool:
    """Equation (5): x N channels H W to R channels kh kw."""

    channels: int
    output_size: int | Pair = 3
    spatial_scale: float = 1.0
    bins: Rule = "align"
    samples: int | None = 3

    def __call__(self, tape: Tape, x: Array, rois: Array) -> Array:
        return tape.roi_pool(self.fitting(x), rois, self.output_size, **self.settings())

    def settings(self) -> dict[str, Any]:
        """The keywords of its operator."""
        return {"spatial_scale": self.spatial_scale, "bins": self.bins, "samples": self.samples}

    def fitting(self, x: Array) -> Array:
        """x, if it has the channels of this layer."""
        if x.ndim == 4 and x.shape[1] != self.channels:
            checks.Call(x=described(x)).fail(
                f"x has {x.shape[1]} channels, expected those of the layer: {self.channels}"
            )
        return x

    def deformed(self, offset_groups: int, like: Array) -> "DeformRoiPool":
        """Figure 3, with a branch of zeros: all bins share its offsets over the channels."""
        kh, kw = pair("output_size", self.output_size, at_least=1)
        zeros = partial(namespace(like).zeros, dtype=like.dtype)
        branch = Linear(zeros((2 * kh * kw, self.channels * kh * kw)), zeros(2 * kh * kw))
        return DeformRoiPool(**vars(self), branch=branch)


@dataclass(eq=False)
class DeformRoiPool(RoiPool):
    """Figure 3: equation (6), with the offsets that `branch` makes of the plainly pooled RoI."""

    branch: Any = None
    gamma: float = GAMMA

    def offset(self, tape: Tape, x: Array, rois: Array) -> Array:
        """The normalised offsets R 2 kh kw."""
        pooled = super().__call__(tape, x, rois)
        R, bins = pooled.shape[0], pooled.shape[2:]
        flat = tape.reshape(pooled, (R, self.channels * bins[0] * bins[1]))
        return tape.reshape(self.branch(tape, flat), (R, 2, *bins))

    def __call__(self, tape: Tape, x: Array, rois: Array) -> Array:
        offset = self.offset(tape, x, rois)
        return tape.deform_roi_pool(
            x, rois, offset, self.output_size, gamma=self.gamma, **self.settings()
        )


@dataclass(eq=False)
class PsRoiPool:
    """Figure 4 without offsets: `score`, a 1x1 convolution of x, makes k k maps for each output.

    Returns R outputs kh kw. class_groups is that of its deformable form: how many groups of
    outputs have offsets of their own; it divides the outputs.
    """

    score: Conv2d
    output_size: int | Pair = 3
    spatial_scale: float = 1.0
    bins: Rule = "align"
    samples: int | None = 3
    class_groups: int = 1

    def __call__(self, tape: Tape, x: Array, rois: Array) -> Array:
        scores = self.score(tape, x)
        return tape.ps_roi_pool(scores, rois, self.output_size, **self.settings())

    def settings(self) -> dict[str, Any]:
        """The keywords of its operators."""
        return {"spatial_scale": self.spatial_scale, "bins": self.bins, "samples": self.samples}

    def deformed(self, offset_groups: int, like: Array) -> "DeformPsRoiPool":
        """Figure 4, with a branch of zeros, where the weights are."""
        kh, kw = pair("output_size", self.output_size, at_least=1)
        weight = self.score.weight
        maps, P = weight.shape[0], self.class_groups
        if P < 1 or maps % (P * kh * kw):
            checks.Call(weight=described(weight)).fail(
                f"score makes {maps} maps, expected a multiple of class_groups * kh * kw ="
                f" {P} * {kh} * {kw}"
            )
        zeros = partial(namespace(weight).zeros, dtype=weight.dtype)
        C = self.score.groups * weight.shape[1]
        branch = Conv2d(zeros((2 * P * kh * kw, C, 1, 1)), zeros(2 * P * kh * kw))
        return DeformPsRoiPool(**vars(self), branch=branch)


@dataclass(eq=False)
class DeformPsRoiPool(PsRoiPool):
    """Figure 4: `branch`, a 1x1 convolution of x too, makes maps that are pooled to the offsets.

    It makes 2 k k maps for each class group: R-FCN has one for each class, so 2 k k (C + 1).
    """

    branch: Any = None
    gamma: float = GAMMA

    def offset(self, tape: Tape, x: Array, rois: Array) -> Array:
        """The normalised offsets R 2*P kh kw of P class groups."""
        maps = self.branch(tape, x)
        return tape.ps_roi_pool(maps, rois, self.output_size, **self.settings())

    def __call__(self, tape: Tape, x: Array, rois: Array) -> Array:
        scores, offset = self.score(tape, x), self.offset(tape, x, rois)
        return tape.deform_ps_roi_pool(
            scores, rois, offset, self.output_size, gamma=self.gamma, **self.settings()
        )
