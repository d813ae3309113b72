"""Boxes of the second stage (section 4.1): proposals, which object each is of, targets, and NMS.

Boxes are x1, y1, x2, y2 in pixels of the image, x2 and y2 exclusive: R 4. `proposals` makes
them from the truth: each object's box moved and scaled at random, and random boxes. A network that
proposes is `rpn`.

All of it is NumPy, in float64. What is empty stays so: no boxes is an array of shape (0, 4).
"""

from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray as Array

from ..checks import Call
from ..geometry import Pair, pair
from .metrics import overlaps

DEVIATIONS = np.array([0.1, 0.1, 0.2, 0.2])  # of dx, dy, dw, dh, which are divided by them
LARGEST = np.log(1000 / 16)  # dw and dh beyond would overflow, and leave every image anyway


class Assigned(NamedTuple):
    """What each of R proposals is of: see `assign`."""

    labels: Array
    targets: Array
    objects: Array


def checked(name: str, boxes: Any, size: int | Pair | None = None) -> Array:
    """R 4 in float64, finite, neither empty nor inverted, and within an image of `size` (H, W).

    Raises TypeError for what is no array of real numbers, else ValueError with the first wrong box.
    """
    if not isinstance(boxes, np.ndarray) or boxes.dtype.kind not in "fiu":
        kind = getattr(boxes, "dtype", type(boxes).__name__)
        raise TypeError(f"{name} is of type {kind}, expected an array of real numbers")
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"{name} has shape {boxes.shape}, expected (R, 4): x1, y1, x2, y2")
    boxes = boxes.astype(float)
    _refuse(name, boxes, ~np.isfinite(boxes), "finite numbers")
    _refuse(name, boxes, boxes[:, 2:] <= boxes[:, :2], "x1 < x2 and y1 < y2")
    if size is not None:
        H, W = pair("size", size, at_least=1)
        outside = (boxes < 0) | (boxes > (W, H, W, H))
        _refuse(name, boxes, outside, f"0 <= x <= W = {W} and 0 <= y <= H = {H}")
    return boxes


def _refuse(name: str, boxes: Array, wrong: Array, expected: str) -> None:
    """An error with the first box that is wrong anywhere."""
    rows = np.flatnonzero(wrong.any(axis=1))
    if len(rows):
        numbers = ", ".join(f"{a:g}" for a in boxes[rows[0]])
        raise ValueError(f"{name}[{rows[0]}] is ({numbers}), expected {expected}")


def proposals(
    rng: np.random.Generator, truths: Array, size: int | Pair, *, per_object: int = 6,
    background: int = 6,
) -> Array:  # fmt: skip
    """Boxes near each of the objects T 4 of an image, and random ones: T*per_object + background.

    An object's box is moved by up to a quarter of its side and scaled by e^-0.4 to e^0.4, on each
    axis by itself; a random box has sides of an eighth to three quarters of the image, log-uniform.
    All are clipped to the image of size (H, W). The objects come first, in the order of `truths`.
    """
    truths = checked("truths", truths, size)
    for name, count in (("per_object", per_object), ("background", background)):
        if count < 0:
            raise ValueError(f"{name} is {count}, expected 0 or more")
    image = np.array(pair("size", size, at_least=1)[::-1], float)
    centre, side = _centres(np.repeat(truths, per_object, axis=0))
    centre = centre + side * rng.uniform(-0.25, 0.25, side.shape)
    side = side * np.exp(rng.uniform(-0.4, 0.4, side.shape))
    other = image * np.exp(rng.uniform(np.log(1 / 8), np.log(3 / 4), (background, 2)))
    place = other / 2 + rng.uniform(0, 1, other.shape) * (image - other)
    return _boxes(np.vstack([centre, place]), np.vstack([side, other]), size)


def assign(proposals: Array, truths: Array, kinds: Any, threshold: float = 0.5) -> Assigned:
    """The object of each proposal R 4: that of the largest overlap, if it reaches the threshold.

    truths, kinds  the objects of the image: T 4, and T classes, whole numbers from 1 on
    Returns labels R, 0 for background; targets R 4, from `encode`, 0 on background; objects R, rows
    of `truths`, -1 on background. Raises ValueError or TypeError.
    """
    proposals, truths = checked("proposals", proposals), checked("truths", truths)
    kinds = np.asarray(kinds)
    if kinds.size and kinds.dtype.kind not in "iu":
        raise TypeError(f"kinds has dtype {kinds.dtype}, expected whole numbers")
    if kinds.shape != truths.shape[:1]:
        raise ValueError(f"kinds has shape {kinds.shape}, expected one for each of {len(truths)}")
    if (kinds < 1).any():
        raise ValueError(f"a kind is {kinds.min()}, expected 1 or more: 0 is the background")
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold is {threshold}, expected more than 0, and 1 or less")
    found = np.full(len(proposals), -1)
    if len(truths):
        table = overlaps(proposals, truths)
        found = np.where(table.max(axis=1) >= threshold, table.argmax(axis=1), -1)
    labels, targets, near = np.zeros(len(found), int), np.zeros((len(found), 4)), found >= 0
    labels[near] = kinds[found[near]]
    targets[near] = encode(proposals[near], truths[found[near]])
    return Assigned(labels, targets, found)


def encode(proposals: Array, boxes: Array) -> Array:
    """What moves proposals to boxes, R 4: dx, dy in sides of the proposal, and dw, dh, logarithms.

    They are divided by 0.1, 0.1, 0.2, 0.2, so that they are about 1 (Girshick 2015).
    """
    proposals, boxes = checked("proposals", proposals), checked("boxes", boxes)
    Call(proposals=proposals, boxes=boxes).check_shape("boxes", "as proposals", proposals.shape)
    (centre, side), (goal, size) = _centres(proposals), _centres(boxes)
    return np.hstack([(goal - centre) / side, np.log(size / side)]) / DEVIATIONS


def decode(proposals: Array, deltas: Array, size: int | Pair, *, crossing: bool = False) -> Array:
    """The boxes R 4 to which deltas R 4 move proposals, clipped to the image: undoes `encode`.

    A box that has left the image is empty after that.
    crossing  proposals may reach beyond the image, or lie outside: anchors do
    """
    proposals = checked("proposals", proposals, None if crossing else size)
    call = Call(proposals=proposals, deltas=np.asarray(deltas))
    call.check_shape("deltas", "as proposals", proposals.shape)
    deltas = np.asarray(deltas, float)
    _refuse("deltas", deltas, ~np.isfinite(deltas), "finite numbers")
    (centre, side), deltas = _centres(proposals), deltas * DEVIATIONS
    side_now = side * np.exp(np.minimum(deltas[:, 2:], LARGEST))
    return _boxes(centre + deltas[:, :2] * side, side_now, size)


def suppress(
    boxes: Array, scores: Array, threshold: float = 0.3, *, most: int | None = None
) -> Array:
    """Non-maximum suppression of the boxes R 4 of one class: the rows that are kept, best first.

    From the highest score down, a box is kept if it overlaps none of those kept by more than the
    threshold; of equal scores, the first row comes first. most: it ends with so many
    """
    Call(boxes=boxes, scores=scores).check_shape("scores", "R,", (len(boxes),))
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold is {threshold}, expected 0 to 1: an overlap")
    if not np.isfinite(scores).all():
        row = np.flatnonzero(~np.isfinite(scores))[0]
        raise ValueError(f"scores[{row}] is {scores[row]}, expected finite numbers")
    kept: list[int] = []
    left = np.argsort(-scores, kind="stable")
    while len(left) and (most is None or len(kept) < most):
        kept.append(int(left[0]))
        left = left[1:]
        left = left[overlaps(boxes[kept[-1:]], boxes[left])[0] <= threshold]
    return np.array(kept, int)


def _centres(boxes: Array) -> tuple[Array, Array]:
    """The centres and sides of boxes, x first."""
    return (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]


def _boxes(centre: Array, side: Array, size: int | Pair) -> Array:
    """The boxes of centres and sides, clipped to the image."""
    H, W = pair("size", size, at_least=1)
    corners = np.hstack([centre - side / 2, centre + side / 2])
    return np.clip(corners, 0, np.array([W, H, W, H], float))
