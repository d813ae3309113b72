"""How good a network is: mean intersection over union, and average precision.

Boxes are x1, y1, x2, y2 with x2 and y2 exclusive, so an area is (x2 - x1) (y2 - y1).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy import ndarray as Array

from .. import checks

COCO_THRESHOLDS = np.arange(50, 100, 5) / 100


def confusion(predicted: Array, labels: Array, classes: int, *, ignored: int = -1) -> Array:
    """classes x classes: how many places of a class (row) were predicted as another (column)."""
    checks.Call(predicted=predicted, labels=labels).check_shape(
        "predicted", "as labels", labels.shape
    )
    counted = labels != ignored
    pairs = classes * labels[counted] + predicted[counted]
    return np.bincount(pairs.ravel(), minlength=classes**2).reshape(classes, classes)


def mean_iou(matrix: Array) -> float:
    """mIoU of a confusion matrix: the mean over classes of intersection / union.

    A class that is neither there nor predicted has no union and is left out.
    """
    both = np.diag(matrix).astype(float)
    union = matrix.sum(axis=0) + matrix.sum(axis=1) - both
    return float((both[union > 0] / union[union > 0]).mean())


def overlaps(a: Array, b: Array) -> Array:
    """Intersection over union of boxes, A 4 and B 4: A B; 0 where a box is empty or inverted."""
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
    points: str = "all",
) -> float:  # fmt: skip
    """Average precision of one class at an overlap threshold, over images.

    detections, truths  one for each image; truths are boxes T 4
    points              "all": the area under the precision made decreasing (VOC from 2010 on);
                        "11": its mean at the recalls 0, 0.1 ... 1 (VOC 2007); "101": at 0, 0.01 ...
                        1 (COCO)
    Detections are taken from the highest score down; each is right if its overlap with a box not
    taken yet reaches the threshold. VOC (points "all" and "11") looks at the box of the largest
    overlap alone, COCO ("101") at the best of those not taken. NaN where there is no truth.
    """
    if points not in ("all", "11", "101"):
        raise ValueError(f"points is {points!r}, expected 'all', '11' or '101'")
    total = sum(len(boxes) for boxes in truths)
    if total == 0:
        return float("nan")
    scores = np.concatenate([d.scores for d in detections])
    right = np.concatenate(
        [_right(d, t, threshold, points) for d, t in zip(detections, truths, strict=True)]
    )
    order = np.argsort(-scores, kind="stable")
    found = np.cumsum(right[order])
    precision = found / np.arange(1, len(found) + 1)
    return _area(precision, found / total, points)


def _right(found: Detections, truth: Array, threshold: float, points: str) -> Array:
    """Whether each detection of an image is right."""
    right = np.zeros(len(found.scores), bool)
    taken = np.zeros(len(truth), bool)
    if len(truth) == 0:
        return right
    table = overlaps(found.boxes, truth)
    for i in np.argsort(-found.scores, kind="stable"):
        free = np.where(taken, -1, table[i]) if points == "101" else table[i]
        best = int(np.argmax(free))
        if free[best] >= threshold and not taken[best]:
            right[i] = taken[best] = True
    return right


def _area(precision: Array, recall: Array, points: str) -> float:
    """The area under the precision, which is first made to decrease with the recall."""
    highest = np.maximum.accumulate(precision[::-1])[::-1]
    if points == "all":
        steps = np.diff(recall, prepend=0.0)
        return float((highest * steps).sum())
    at = np.arange(int(points)) / (int(points) - 1)
    first = np.searchsorted(recall, at, side="left")
    return float(np.append(highest, 0)[first].mean())
