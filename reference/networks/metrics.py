"""How good a network is: mean intersection over union, and average precision.

Boxes are x1, y1, x2, y2 with x2 and y2 exclusive, so an area is (x2 - x1) (y2 - y1).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray as Array

from .. import checks

COCO_THRESHOLDS = np.arange(50, 100, 5) / 100


def confusion(predicted: Array, labels: Array, classes: int, *, ignored: int = -1) -> Array:
    """classes x classes: how many places of a class (row) were predicted as another (column).

    predicted, labels  of one shape, whole numbers from 0 to classes - 1; a place whose label is
                       `ignored` does not count
    Raises ValueError for another shape or another class.
    """
    call = checks.Call(predicted=predicted, labels=labels)
    call.check_shape("predicted", "as labels", labels.shape)
    counted = labels != ignored
    for name, given in (("labels", labels[counted]), ("predicted", predicted[counted])):
        wrong = given[(given < 0) | (given >= classes)]
        if wrong.size:
            call.fail(f"a class in {name} is {int(wrong[0])}, expected 0 to {classes - 1}")
    pairs = classes * labels[counted] + predicted[counted]
    return np.bincount(pairs.ravel(), minlength=classes**2).reshape(classes, classes)


def mean_iou(matrix: Array) -> float:
    """mIoU of a confusion matrix: the mean over classes of intersection / union.

    A class that is neither there nor predicted has no union and is left out; NaN if all are.
    """
    both = np.diag(matrix).astype(float)
    union = matrix.sum(axis=0) + matrix.sum(axis=1) - both
    there = union > 0
    return float((both[there] / union[there]).mean()) if there.any() else float("nan")


def overlaps(a: Array, b: Array) -> Array:
    """Intersection over union of boxes, A 4 and B 4: A B; 0 where a box is empty or inverted."""
    call = checks.Call(a=a, b=b)
    for name, given in (("a", a), ("b", b)):
        call.check_shape(name, "boxes, 4", (len(given), 4))
    low, high = np.maximum(a[:, None, :2], b[:, :2]), np.minimum(a[:, None, 2:], b[:, 2:])
    both = np.maximum(high - low, 0).prod(axis=-1)
    sizes = [np.maximum(c[:, 2:] - c[:, :2], 0).prod(axis=-1) for c in (a, b)]
    union = sizes[0][:, None] + sizes[1] - both
    return np.divide(both, union, out=np.zeros_like(both), where=union > 0)


class Detections(NamedTuple):
    """Boxes R 4 of one class in one image, with scores R."""

    boxes: Array
    scores: Array


def average_precision(
    detections: Sequence[Detections], truths: Sequence[Array], threshold: float, *,
    points: str = "all", area: tuple[float, float] | None = None,
) -> float:  # fmt: skip
    """Average precision of one class at an overlap threshold, over images.

    detections, truths  one for each image; truths are boxes T 4
    points              "all": the area under the precision made decreasing (VOC from 2010 on);
                        "11": its mean at the recalls 0, 0.1 ... 1 (VOC 2007); "101": at 0, 0.01 ...
                        1 (COCO)
    Detections are taken from the highest score down; each is right if its overlap with a box not
    taken yet reaches the threshold. VOC (points "all" and "11") looks at the box of the largest
    overlap alone, COCO ("101") at the best of those not taken. NaN where there is no truth.
    area                as in COCO, only truths of such areas count, from the first number to the
                        second; neither right nor wrong are the detections of another truth, and
                        those of no truth whose own area is another. For points "101" alone
    """
    if points not in ("all", "11", "101"):
        raise ValueError(f"points is {points!r}, expected 'all', '11' or '101'")
    if area is not None and points != "101":
        raise ValueError(f"area is {area} and points {points!r}, expected '101', COCO's rule")
    total = sum(int(_within(boxes, area).sum()) for boxes in truths)
    if total == 0:
        return float("nan")
    if len(detections) != len(truths) or not 0 < threshold <= 1:
        raise ValueError(
            f"there are {len(detections)} detections, {len(truths)} truths, threshold {threshold};"
            " expected as many of both, one for each image, and a threshold from 0 to 1"
        )
    pairs = list(zip(detections, truths, strict=True))
    for i, d in enumerate(detections):
        call = checks.Call(boxes=d.boxes, scores=d.scores)
        if d.boxes.shape != (len(d.scores), 4) or not np.isfinite(d.scores).all():
            call.fail(f"image {i} has other boxes than scores, or scores that are not finite")
    right = np.concatenate([_right(d, t, threshold, points, area) for d, t in pairs])
    scores = np.concatenate([d.scores for d in detections])[right >= 0]
    order = np.argsort(-scores, kind="stable")
    found = np.cumsum(right[right >= 0][order])
    precision = found / np.arange(1, len(found) + 1)
    return _area(precision, found / total, points)


def _right(found: Detections, truth: Array, threshold: float, points: str, area: Any) -> Array:
    """1 for each detection of an image that is right, 0 for a wrong one, -1 where none counts."""
    right = np.where(_within(found.boxes, area), 0, -1)
    taken, counts = np.zeros(len(truth), bool), _within(truth, area)
    if len(truth) == 0:
        return right
    table = overlaps(found.boxes, truth)
    for i in np.argsort(-found.scores, kind="stable"):
        free = np.where(taken, -1, table[i]) if points == "101" else table[i]
        reached = free >= threshold
        best = int(np.argmax(np.where(reached, free + 2 * counts, -1)))
        if reached[best] and not taken[best]:
            right[i], taken[best] = (1 if counts[best] else -1), True
    return right


def _within(boxes: Array, area: tuple[float, float] | None) -> Array:
    """Whether the area of each box counts."""
    low, high = area or (-np.inf, np.inf)
    size = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return (low <= size) & (size <= high)


def _area(precision: Array, recall: Array, points: str) -> float:
    """The area under the precision, which is first made to decrease with the recall."""
    highest = np.maximum.accumulate(precision[::-1])[::-1]
    if points == "all":
        steps = np.diff(recall, prepend=0.0)
        return float((highest * steps).sum())
    at = np.arange(int(points)) / (int(points) - 1)
    first = np.searchsorted(recall, at, side="left")
    return float(np.append(highest, 0)[first].mean())
