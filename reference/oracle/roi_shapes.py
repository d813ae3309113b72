"""The sizes of RoI problems, and the words for what one of them need not have."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from deformable_convnets.reference.geometry import Pair

from .shapes import brief

WORDS = {
    "offset", "spatial_scale", "samples", "gamma above 1", "inverted or empty rois",
    "unequal axes", "score maps", "maps unlike bins", "parts unlike bins", "class groups",
    "no rois", "several rois", "several images",
}  # fmt: skip


@dataclass(frozen=True, repr=False)
class RoiShape:
    """The sizes of one call; channels are given per class group and score map."""

    N: int = 1
    size: Pair = (5, 6)
    rois: int = 2
    output: Pair = (2, 3)
    group: Pair = (1, 1)
    part: Pair = (2, 3)
    classes: int = 1
    channels: int = 2

    def __repr__(self) -> str:
        return brief(self)

    @property
    def Cout(self) -> int:
        return self.classes * self.channels

    def limited(self, **fields: Any) -> "RoiShape":
        return replace(self, **fields)

    def without(self, lacks: Collection[str]) -> "RoiShape":
        """The nearest shape that needs none of these words of `features.WORDS`."""
        shape = self
        if "unequal axes" in lacks:
            square: dict[str, Any] = {
                n: (getattr(self, n)[0],) * 2 for n in ("output", "group", "part")
            }
            shape = replace(shape, **square)
        if "score maps" in lacks:
            shape = replace(shape, group=(1, 1))
        elif "maps unlike bins" in lacks:
            shape = replace(shape, group=shape.output)
        if "parts unlike bins" in lacks:
            shape = replace(shape, part=shape.output)
        if "class groups" in lacks:
            shape = replace(shape, classes=1)
        if "no rois" in lacks or "several rois" in lacks:
            shape = replace(shape, rois=max(shape.rois, 1) if "several rois" not in lacks else 1)
        return replace(shape, N=1) if "several images" in lacks else shape


SHAPES = (
    RoiShape(),
    RoiShape(2, (4, 7), 3, (2, 2), (2, 1), (1, 2), 2, 1),
    RoiShape(1, (6, 3), 2, (3, 1), (1, 1), (3, 1), 1, 3),
    RoiShape(2, (3, 4), 3, (1, 2), (1, 2), (2, 2), 1, 1),
    RoiShape(1, (1, 1), 2, (2, 2), (2, 2), (2, 2), 1, 1),
    RoiShape(2, (5, 5), 0, (2, 3), (1, 1), (1, 1), 1, 1),
    RoiShape(1, (7, 5), 2, (1, 1), (1, 1), (1, 1), 2, 1),
    RoiShape(2, (6, 7), 3, (3, 4), (2, 3), (2, 3), 2, 2),
    RoiShape(1, (8, 9), 2, (2, 7), (1, 1), (1, 7), 1, 1),
    RoiShape(1, (36, 25), 2, (1, 1), (1, 1), (1, 1), 1, 1),  # bins of many points
    RoiShape(1, (3, 1200), 6, (1, 2), (1, 1), (1, 2), 1, 1),  # coordinates beyond half precision
)
