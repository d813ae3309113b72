"""How good a network is: mean intersection over union, and average precision.

Boxes are x1, y1, x2, y2 with x2 and y2 exclusive, so an area is (x2 - x1) (y2 - y1).
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray as Array

from .. import checks

COCO_THRESHOLDS = np.arange(50, 100, 5) / 100
COCO_MOST = 100  # detections of a class in an image that COCO looks at


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
    of_a, of_b = (np.maximum(c[:, 2:] - c[:, :2], 0).prod(axis=-1) for c in (a, b))
    union = of_a[:, None] + of_b - both
    return np.divide(both, union, out=np.zeros_like(both), where=union > 0)


class Detections(NamedTuple):
    """Boxes R 4 of one class in one image, with scores R."""

    boxes: Array
    scores: Array


class Truth(NamedTuple):
    """The objects of one class in one image.

    boxes    T 4
    ignored  T, True for those that neither count nor make a detection wrong: VOC's difficult ones,
             COCO's crowds
    areas    T, for COCO's `area`: its annotations have those of the outlines
    """

    boxes: Array
    ignored: Array
    areas: Array


def average_precision(
    detections: Sequence[Detections], truths: Sequence[Array | Truth], threshold: float, *,
    points: str = "all", area: tuple[float, float] | None = None,
) -> float:  # fmt: skip
    """Average precision of one class at an overlap threshold, over images.

    detections, truths  one for each image; a `Truth`, or boxes T 4 that all count, with their areas
    points              "all": the area under the precision made decreasing (VOC from 2010 on);
                        "11": its mean at the recalls 0, 0.1 ... 1 (VOC 2007); "101": at 0, 0.01 ...
                        1 (COCO, of the best `COCO_MOST` detections of each image)
    Detections are taken from the highest score down; each is right if its overlap with a box not
    taken yet reaches the threshold. VOC (points "all" and "11") looks at the box of the largest
    overlap alone, COCO ("101") at the best of those not taken. A detection whose box is ignored is
    neither right nor wrong; for COCO it then overlaps by its own part in the crowd, and many may.
    NaN where there is no truth that counts.
    area                as in COCO, truths of other areas than from the first number to the second
                        are ignored too, and so are detections of no truth whose own area is
                        another. For points "101" alone
    """
    if points not in ("all", "11", "101"):
        raise ValueError(f"points is {points!r}, expected 'all', '11' or '101'")
    if area is not None and points != "101":
        raise ValueError(f"area is {area} and points {points!r}, expected '101', COCO's rule")
    if len(detections) != len(truths) or not 0 < threshold <= 1:
        raise ValueError(
            f"there are {len(detections)} detections, {len(truths)} truths, threshold {threshold};"
            " expected as many of both, one for each image, and a threshold from 0 to 1"
        )
    given = [_truth(i, t) for i, t in enumerate(truths)]
    for i, d in enumerate(detections):
        call = checks.Call(boxes=d.boxes, scores=d.scores)
        if d.boxes.shape != (len(d.scores), 4) or not np.isfinite(d.scores).all():
            call.fail(f"image {i} has other boxes than scores, or scores that are not finite")
    total = sum(int(_counts(t, area).sum()) for t in given)
    if total == 0:
        return float("nan")
    judge = partial(_by_coco, area=area) if points == "101" else _by_voc
    pairs = zip(detections, given, strict=True)
    right = np.concatenate([judge(d, t, threshold) for d, t in pairs])
    scores = np.concatenate([d.scores for d in detections])[right >= 0]
    order = np.argsort(-scores, kind="stable")
    found = np.cumsum(right[right >= 0][order])
    precision = found / np.arange(1, len(found) + 1)
    return _area(precision, found / total, points)


def _truth(image: int, given: Array | Truth) -> Truth:
    truth = given if isinstance(given, Truth) else Truth(
        given, np.zeros(len(given), bool), sizes(given))  # fmt: skip
    call = checks.Call(**truth._asdict())
    T = len(truth.boxes)
    if truth.boxes.shape != (T, 4) or not truth.ignored.shape == truth.areas.shape == (T,):
        call.fail(f"image {image} has truths of other shapes than T 4, T and T")
    return truth


def _by_voc(found: Detections, truth: Truth, threshold: float) -> Array:
    """1 for each detection of an image that is right, 0 for a wrong one, -1 where none counts."""
    right, taken = np.zeros(len(found.boxes), int), np.zeros(len(truth.boxes), bool)
    table = overlaps(found.boxes, truth.boxes)
    for i in np.argsort(-found.scores, kind="stable") if len(taken) else ():
        best = int(np.argmax(table[i]))
        if table[i, best] >= threshold and truth.ignored[best]:
            right[i] = -1
        elif table[i, best] >= threshold and not taken[best]:
            right[i], taken[best] = 1, True
    return right


def _by_coco(found: Detections, truth: Truth, threshold: float, area: Any) -> Array:
    """The same; truths that count go first, and of equal overlaps the last is taken."""
    right = np.where(_within(sizes(found.boxes), area), 0, -1)
    taken, counts = np.zeros(len(truth.boxes), bool), _counts(truth, area)
    table = overlaps(found.boxes, truth.boxes)
    table[:, truth.ignored] = _parts(found.boxes, truth.boxes[truth.ignored])
    order = np.argsort(-found.scores, kind="stable")
    right[order[COCO_MOST:]] = -1
    for i in order[:COCO_MOST] if len(taken) else ():
        reached = (table[i] >= threshold) & (truth.ignored | ~taken)
        rank = np.where(reached, table[i] + 2 * counts, -1)
        best = len(rank) - 1 - int(np.argmax(rank[::-1]))
        if reached[best]:
            right[i], taken[best] = (1 if counts[best] else -1), True
    return right


def _parts(boxes: Array, crowds: Array) -> Array:
    """Intersection over the area of the boxes alone."""
    low = np.maximum(boxes[:, None, :2], crowds[:, :2])
    both = np.maximum(np.minimum(boxes[:, None, 2:], crowds[:, 2:]) - low, 0).prod(axis=-1)
    own = sizes(boxes)[:, None]
    return np.divide(both, own, out=np.zeros_like(both), where=own > 0)


def sizes(boxes: Array) -> Array:
    """The areas of boxes B 4."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _counts(truth: Truth, area: tuple[float, float] | None) -> Array:
    return ~truth.ignored & _within(truth.areas, area)


def _within(areas: Array, area: tuple[float, float] | None) -> Array:
    low, high = area or (-np.inf, np.inf)
    return (low <= areas) & (areas <= high)


def _area(precision: Array, recall: Array, points: str) -> float:
    """The area under the precision, which is first made to decrease with the recall."""
    highest = np.maximum.accumulate(precision[::-1])[::-1]
    if points == "all":
        steps = np.diff(recall, prepend=0.0)
        return float((highest * steps).sum())
    at = np.linspace(0, 1, 101) if points == "101" else np.arange(11) / 10  # theirs, to the bit
    first = np.searchsorted(recall, at, side="left")
    return float(np.append(highest, 0)[first].mean())
