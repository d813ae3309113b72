"""From what a network predicts to detections, class by class: suppression, box average, joining.

Table 5 tests at several scales (M), whose predictions are `joined` (see `scales`), and with the
iterative box average (B) of Gidaris and Komodakis 2015: `averaged`, and `again` of
`two_stage.predict`.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray as Array

from ..geometry import Pair, pair
from . import boxes, settings
from .cited import complete
from .metrics import Detections, overlaps

TEST = settings.of_detections(settings.VOC["Faster R-CNN"])
VOTES: float = complete("R-FCN", "COCO").box_average_settings.value[1]


class Predicted(NamedTuple):
    """Of one image: probabilities R classes, and boxes R D 4, of which class k has `of_class`.

    D  1: one box for all classes. 2: one for the background, which nobody reads, and one for all
       others, as in the authors' R-FCN. classes: each has its own, as in Faster R-CNN
    """

    scores: Array
    boxes: Array

    def of_class(self, kind: Any) -> Array:
        """The boxes R 4 of a class, or of a class for each row."""
        rows = np.arange(len(self.boxes))
        return self.boxes[rows, np.minimum(kind, self.boxes.shape[1] - 1)]


def probabilities(scores: Array) -> Array:
    """Softmax of scores R classes."""
    power = np.exp(scores - scores.max(axis=1, keepdims=True))
    return power / power.sum(axis=1, keepdims=True)


def detections(
    predicted: Predicted, *, least: float = TEST["least"], overlap: float = TEST["overlap"],
    average: float | None = None, most: int | None = None,
) -> dict[int, Detections]:  # fmt: skip
    """For each class from 1 on, its boxes of a score of `least` or more, after suppression.

    overlap  the threshold of suppression
    average  the threshold of `averaged`, which follows it; None: boxes stay as they are
    most     how many of an image are kept, those of the highest scores; None: all
    """
    found = {}
    for kind in range(1, predicted.scores.shape[1]):
        scores = predicted.scores[:, kind]
        near = predicted.of_class(kind)
        rows = np.flatnonzero(~(scores < least) & ~_empty(near))  # NaN stays, and is refused
        every = Detections(near[rows], scores[rows])
        kept = boxes.suppress(every.boxes, every.scores, overlap)
        found[kind] = Detections(every.boxes[kept], every.scores[kept])
        if average is not None:
            found[kind] = averaged(found[kind], every, average)
    return found if most is None else _best(found, most)


def _empty(boxes: Array) -> Array:
    """Whether each box has no area: one that has left the image has none."""
    return np.any(boxes[:, 2:] <= boxes[:, :2], axis=1)


def _best(found: dict[int, Detections], most: int) -> dict[int, Detections]:
    """The detections of the highest scores, over classes."""
    if most < 0:
        raise ValueError(f"most is {most}, expected 0 or more")
    scores = np.concatenate([np.zeros(0), *(each.scores for each in found.values())])
    kept = np.zeros(len(scores), bool)
    kept[np.argsort(-scores, kind="stable")[:most]] = True
    ends = np.cumsum([len(each.scores) for each in found.values()])[:-1]
    parts = zip(found.items(), np.split(kept, ends), strict=True)
    return {kind: Detections(d.boxes[rows], d.scores[rows]) for (kind, d), rows in parts}


def averaged(kept: Detections, every: Detections, threshold: float = VOTES) -> Detections:
    """Box voting: each kept box becomes the mean of all that overlap it by the threshold or more.

    The mean is weighted with the scores of `every`, the boxes of this class before suppression;
    the scores of the kept boxes stay.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold is {threshold}, expected more than 0, and 1 or less")
    votes = (overlaps(kept.boxes, every.boxes) >= threshold) * every.scores
    total = votes.sum(axis=1, keepdims=True)
    mean = np.divide(votes @ every.boxes, total, out=kept.boxes.astype(float), where=total > 0)
    return Detections(mean, kept.scores)


def joined(
    parts: Sequence[Predicted], sizes: Sequence[int | Pair] | None = None,
    size: int | Pair | None = None,
) -> Predicted:  # fmt: skip
    """Several predictions of one image as one: those of several rounds, or of several scales.

    sizes  (H, W) of the image for each of them, from which boxes are brought to `size`
    """
    if not parts:
        raise ValueError("there are no predictions to join")
    scores = np.concatenate([part.scores for part in parts])
    if sizes is None:
        return Predicted(scores, np.concatenate([part.boxes for part in parts]))
    if size is None or len(sizes) != len(parts):
        raise ValueError(
            f"sizes are {sizes} and size is {size}, expected one for each of {len(parts)}, and one"
        )
    H, W = pair("size", size, at_least=1)
    made = []
    for part, given in zip(parts, sizes, strict=True):
        h, w = pair("sizes", given, at_least=1)
        made.append(part.boxes * np.array([W / w, H / h, W / w, H / h]))
    return Predicted(scores, np.concatenate(made))
