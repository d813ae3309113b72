"""Anchors of proposal networks (section 4.1; Ren et al. 2015): boxes, targets, and samples of them.

A cell of a map has an anchor of each scale and ratio around it; a network scores them and moves
them. Boxes are as in `boxes`. Anchors of a map H W come row by row, those of a cell together:
anchor a of cell (i, j) is in row (i W + j) A + a.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray as Array

from ..geometry import Pair, pair, per_axis
from . import boxes
from .boxes import Assigned
from .cited import complete
from .metrics import overlaps

PLAN = complete("Faster R-CNN", "VOC")
STRIDE = PLAN.stride.value
SCALES = tuple(16 * a for a in PLAN.anchor_scales.value)  # a protocol counts strides of 16 pixels
RATIOS = PLAN.anchor_ratios.value
NEGATIVE, POSITIVE = PLAN.rpn_overlaps.value


class Truths(NamedTuple):
    """The objects of an image: boxes T 4, and kinds T, their classes, from 1 on."""

    boxes: Array
    kinds: Any


@dataclass(frozen=True)
class Anchors:
    """The A shapes of anchors: those of Faster R-CNN are nine.

    scales  square roots of the areas, in pixels of the image; the outer one of the two orders
    ratios  heights / widths
    stride  the pixels of the image from one cell of the map to the next
    offset  where they are centred in a cell, in strides: 1/2, its middle, as in the code of Faster
            R-CNN; 0, its corner, in mmdetection's
    """

    scales: tuple[float, ...] = SCALES
    ratios: tuple[float, ...] = RATIOS
    stride: int = STRIDE
    offset: float = 0.5

    def __post_init__(self) -> None:
        for name in ("scales", "ratios"):
            numbers = getattr(self, name)
            if not numbers or not all(0 < a < np.inf for a in numbers):
                raise ValueError(f"{name} is {numbers}, expected one or more positive numbers")
        if self.stride < 1:
            raise ValueError(f"stride is {self.stride}, expected 1 or more")
        if not 0 <= self.offset <= 1:
            raise ValueError(f"offset is {self.offset}, expected 0 to 1")

    @property
    def number(self) -> int:
        """A, for each cell."""
        return len(self.scales) * len(self.ratios)

    def boxes(self, size: int | Pair) -> Array:
        """The anchors of a map of size (H, W): H*W*A 4. They may reach beyond the image.

        They are centred on stride (j + offset). The code of Faster R-CNN also rounds their sides to
        whole pixels of a 16 x 16 box.
        """
        H, W = pair("size", size, at_least=0)
        root = np.sqrt(np.array(self.ratios, float))
        half = np.array(self.scales, float)[:, None, None] * np.stack([1 / root, root], axis=1) / 2
        y, x = np.mgrid[:H, :W] + self.offset
        centre = self.stride * np.stack([x, y], axis=-1).reshape(-1, 1, 2)
        half = half.reshape(1, -1, 2)
        return np.concatenate([centre - half, centre + half], axis=2).reshape(-1, 4)


def checked_truths(
    truths: Sequence[Truths], images: Array, classes: int | None = None
) -> list[Truths]:
    """The objects of images N C H W, if all are within theirs, and of 1 to classes - 1.

    No objects is right: boxes of shape (0, 4) and no kinds. Raises ValueError or TypeError.
    """
    if truths is None or len(truths) != len(images):
        truths = () if truths is None else truths
        raise ValueError(f"there are truths of {len(truths)} images, expected {len(images)}")
    made = []
    for n, each in enumerate(truths):
        if not isinstance(each, tuple | list) or len(each) != 2:
            kind = type(each).__name__
            raise TypeError(f"truths of image {n} are {kind}, expected Truths(boxes, kinds)")
        given, kinds = each
        found = boxes.checked(f"truths of image {n}", given, images.shape[2:])
        kinds = np.asarray(kinds) if np.size(kinds) else np.zeros(0, int)
        if kinds.dtype.kind not in "iu" or kinds.shape != found.shape[:1]:
            raise ValueError(
                f"kinds of image {n} are {kinds.dtype} of shape {kinds.shape}, expected a whole"
                f" number for each of {len(found)} boxes"
            )
        wrong = kinds[(kinds < 1) | (kinds >= (classes or np.inf))]
        if wrong.size:
            most = f"to {classes - 1}" if classes else "or more"
            raise ValueError(f"a kind of image {n} is {wrong[0]}, expected 1 {most}")
        made.append(Truths(found, kinds))
    return made


def assign_anchors(
    anchors: Array, truths: Truths, size: int | Pair, *, positive: float = POSITIVE,
    negative: float = NEGATIVE, border: float | None = 0,
) -> Assigned:  # fmt: skip
    """Which object each anchor R 4 of an image of size (H, W) learns, if any.

    An anchor is of the object that it overlaps most, if by `positive` or more; else of the objects
    for which no anchor is better, if there are any; else background below `negative`.
    border  how many pixels an anchor may reach beyond the image; None: any. In an image smaller
            than all anchors none counts with 0, and an RPN learns nothing of it (Ren et al. 2015)
    Returns labels R, the kinds, 0 for background and -1 for those that do not count: between the
    thresholds, or beyond the border; targets R 4, from `boxes.encode`; objects R, rows or -1.
    """
    if not 0 <= negative <= positive <= 1:
        raise ValueError(
            f"negative and positive are {negative} and {positive}, expected 0 <= negative <="
            " positive <= 1"
        )
    anchors = boxes.checked("anchors", anchors)
    labels, objects = np.full(len(anchors), -1), np.full(len(anchors), -1)
    rows = np.flatnonzero(_inside(anchors, size, border))
    labels[rows] = 0
    if len(truths.boxes):
        of, clear = _matched(overlaps(anchors[rows], truths.boxes), positive, negative)
        objects[rows] = of
        labels[rows] = np.where(clear, 0, -1)
    near, targets = objects >= 0, np.zeros((len(anchors), 4))
    labels[near] = np.asarray(truths.kinds, int)[objects[near]]
    targets[near] = boxes.encode(anchors[near], truths.boxes[objects[near]])
    return Assigned(labels, targets, objects)


def _matched(table: Array, positive: float, negative: float) -> tuple[Array, Array]:
    """The object of each row of overlaps A T, or -1; and whether a row is clearly of none."""
    most = table.max(axis=1)
    highest = table.max(axis=0, initial=0)
    best = np.where((table == highest) & (highest > 0), table, -1)
    of = np.where(best.max(axis=1) >= 0, best.argmax(axis=1), -1)
    of = np.where(most >= positive, table.argmax(axis=1), of)
    return of, most < negative


def _inside(anchors: Array, size: int | Pair, border: float | None) -> Array:
    """Whether each anchor is within the image, but for its border."""
    if border is None:
        return np.ones(len(anchors), bool)
    H, W = pair("size", size, at_least=1)
    beyond = np.hstack([-anchors[:, :2], anchors[:, 2:] - (W, H)])
    return np.all(beyond <= border, axis=1)


def sample(rng: np.random.Generator, labels: Array, number: int, foreground: float) -> Array:
    """At most `number` rows of labels from 0 on, in order: what a step learns from.

    foreground  the largest share of `number` for labels from 1 on; background fills the rest, as
                far as there is any
    """
    per_axis("number", number, 1, at_least=0, expected="an int")
    if number < 1 or not 0 <= foreground <= 1:
        raise ValueError(
            f"number and foreground are {number} and {foreground}, expected 1 or more, and 0 to 1"
        )
    near, far = np.flatnonzero(labels > 0), np.flatnonzero(labels == 0)
    near = rng.permutation(near)[: round(foreground * number)]
    far = rng.permutation(far)[: number - len(near)]
    return np.sort(np.concatenate([near, far]))
