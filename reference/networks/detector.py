"""A small two-stage detector (section 4.1): the trunk, RoI pooling, and a class and a box per RoI.

Its heads are those of Table 3. "pool": RoI pooling and fully connected layers, as in Faster R-CNN.
"position-sensitive": maps for each of the k k bins, pooled, and a vote, as in R-FCN. Boxes are
class-agnostic. The proposals come with the batch: jittered ground truth and random boxes, no RPN.

    net = detector(rng, classes=5)               classes with the background, 0
    net = deformable(net, [*roi_layers(net), "res5c"])
    value = loss(net, tape, batch(rng, scenes))
    found = detect(net, images, proposals)       of each image: {class: Detections}
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray as Array

from . import boxes
from .boxes import Assigned
from .detections import probabilities
from .door import namespace, on_cpu
from .layers import Linear, conv, linear
from .metrics import Detections, overlaps
from .roi_layers import PsRoiPool, RoiPool
from .segmenter import STRIDE, Trunk, trunk
from .tape import Tape

BINS = 3  # k
HIDDEN = 64  # the width of the fully connected layer


class Batch(NamedTuple):
    """What a step learns from: images N C H W, rois R 5, labels R, and targets of boxes R 4."""

    images: Array
    rois: Array
    labels: Array
    targets: Array


class Predicted(NamedTuple):
    """Of one image: a probability for each class, R classes, and a box R 4, for each proposal."""

    scores: Array
    boxes: Array


class Outcome(NamedTuple):
    """Of each proposal of an object: whether its class is right, the overlap of its box with that
    of the object, and the object, a row of the truths."""

    right: Array
    overlaps: Array
    objects: Array


@dataclass(eq=False)
class PooledHead:
    """RoI pooling, a hidden layer, and two linear ones: scores R classes and deltas R 4."""

    pool: RoiPool
    hidden: Linear
    score: Linear
    box: Linear

    def __call__(self, tape: Tape, x: Array, rois: Array) -> tuple[Array, Array]:
        pooled = self.pool(tape, x, rois)
        R, C, kh, kw = pooled.shape
        flat = tape.reshape(pooled, (R, C * kh * kw))
        hidden = tape.relu(self.hidden(tape, flat))
        return self.score(tape, hidden), self.box(tape, hidden)


@dataclass(eq=False)
class SensitiveHead:
    """Position-sensitive pooling of score maps and of box maps; the bins vote with their mean."""

    score: PsRoiPool
    box: PsRoiPool

    def __call__(self, tape: Tape, x: Array, rois: Array) -> tuple[Array, Array]:
        return tape.mean(self.score(tape, x, rois)), tape.mean(self.box(tape, x, rois))


@dataclass(eq=False)
class Detector(Trunk):
    """Scores R classes and deltas R 4 of the rois R 5 of images N C H W."""

    head: PooledHead | SensitiveHead

    def __call__(self, tape: Tape, images: Array, rois: Array) -> tuple[Array, Array]:
        if rois.shape[1:] == (5,):  # else the operators refuse them
            boxes.checked("boxes of rois", on_cpu(rois)[:, 1:], images.shape[2:])
        rois = namespace(images).asarray(rois, images.dtype)
        return self.head(tape, self.features(tape, images), rois)


def detector(
    rng: np.random.Generator, classes: int = 5, *, head: str = "pool", **options: Any
) -> Detector:
    """A new detector with random weights; `classes` counts the background; options as of `trunk`.

    head  "pool" or "position-sensitive"
    """
    if head not in ("pool", "position-sensitive"):
        raise ValueError(f"head is {head!r}, expected 'pool' or 'position-sensitive'")
    if classes < 2:
        raise ValueError(f"classes is {classes}, expected 2 or more: one is the background")
    made = trunk(rng, **options)
    parts = {f.name: getattr(made, f.name) for f in fields(made)}
    width, dtype = made.stem[-1].weight.shape[0], made.stem[-1].weight.dtype
    new = _pooled if head == "pool" else _sensitive
    return Detector(**parts, head=new(rng, classes, width, dtype))


def _pooled(rng: np.random.Generator, classes: int, width: int, dtype: Any) -> PooledHead:
    """The two last layers start small, so that the first losses are those of a guess."""
    sizes = ((width * BINS**2, HIDDEN), (HIDDEN, classes), (HIDDEN, 4))
    hidden, *last = (linear(rng, F, O, dtype=dtype) for F, O in sizes)
    for layer in last:
        layer.weight *= layer.weight.dtype.type(0.1)
    return PooledHead(RoiPool(width, BINS, 1 / STRIDE), hidden, *last)


def _sensitive(rng: np.random.Generator, classes: int, width: int, dtype: Any) -> SensitiveHead:
    """Figure 4: offsets for each class, and one set of them for the class-agnostic boxes."""
    made = [
        PsRoiPool(conv(rng, width, O * BINS**2, 1, dtype=dtype), BINS, 1 / STRIDE, class_groups=P)
        for O, P in ((classes, classes), (4, 1))
    ]
    for layer in made:
        layer.score.weight *= layer.score.weight.dtype.type(0.1)
    return SensitiveHead(*made)


def roi_layers(net: Detector) -> list[str]:
    """The paths of the RoI layers, for `layers.deformable`."""
    return ["head.pool"] if isinstance(net.head, PooledHead) else ["head.score", "head.box"]


def rois_of(proposals: Sequence[Array], size: tuple[int, int]) -> Array:
    """rois R 5 of the proposals R_n 4 of each image, in their order; boxes within size (H, W)."""
    made = [np.zeros((0, 5))]
    for n, each in enumerate(proposals):
        each = boxes.checked(f"proposals of image {n}", each, size)
        made.append(np.insert(each, 0, n, axis=1))
    return np.vstack(made)


def batch(
    rng: np.random.Generator, scenes: Sequence[Any], *, threshold: float = 0.5, **options: Any
) -> Batch:
    """The pictures of scenes, with proposals for each (options as of `boxes.proposals`), assigned.

    A scene has .image C H W, .boxes() T 4 and .things, each with a .kind, as of `scale_world`.
    """
    if not scenes:
        raise ValueError("there are no scenes, expected 1 or more")
    images = np.stack([scene.image for scene in scenes])
    given, assigned = [], []
    for scene in scenes:
        truths, kinds = scene.boxes(), [thing.kind for thing in scene.things]
        given.append(boxes.proposals(rng, truths, images.shape[2:], **options))
        assigned.append(boxes.assign(given[-1], truths, kinds, threshold))
    labels = np.concatenate([a.labels for a in assigned])
    targets = np.concatenate([a.targets for a in assigned]).astype(images.dtype)
    rois = rois_of(given, images.shape[2:]).astype(images.dtype)
    return Batch(images, rois, labels, targets)


def loss(net: Detector, tape: Tape, batch: Batch) -> Array:
    """Softmax loss over all RoIs + smooth L1 of the deltas over those of objects, per RoI.

    Both are divided by the number of RoIs (Girshick 2015).
    """
    xp, (images, rois, labels, targets) = namespace(batch.images), batch
    scores, deltas = net(tape, images, rois)
    labels, targets = xp.asarray(labels), xp.asarray(targets, deltas.dtype)
    weight = xp.zeros_like(deltas) + (labels > 0)[:, None]
    of_boxes = tape.smooth_l1(deltas, targets, weight)
    return tape.add(tape.softmax_loss(scores, labels), of_boxes)


def predict(
    net: Detector, images: Array, proposals: Sequence[Array], *, ops: Any = None
) -> list[Predicted]:
    """Probabilities and boxes of the proposals R_n 4 of each image, without keeping activations.

    ops  as of `Tape`
    """
    if len(proposals) != len(images):
        raise ValueError(f"there are proposals of {len(proposals)} images, expected {len(images)}")
    size = images.shape[2:]
    rois = rois_of(proposals, size)
    scores, deltas = (on_cpu(a) for a in net(Tape(ops=ops), images, rois))
    scores = probabilities(scores)
    ends = np.cumsum([len(each) for each in proposals])
    found = boxes.decode(rois[:, 1:], deltas, size)
    cut: Iterable[Any] = zip(np.split(scores, ends)[:-1], np.split(found, ends)[:-1], strict=True)
    return [Predicted(*each) for each in cut]


def detections(
    predicted: Predicted, *, least: float = 0.05, overlap: float = 0.3
) -> dict[int, Detections]:
    """For each class from 1 on, its boxes of a score of `least` or more, after suppression."""
    found = {}
    for kind in range(1, predicted.scores.shape[1]):
        rows = np.flatnonzero(predicted.scores[:, kind] >= least)
        near, scores = predicted.boxes[rows], predicted.scores[rows, kind]
        kept = boxes.suppress(near, scores, overlap)
        found[kind] = Detections(near[kept], scores[kept])
    return found


def detect(
    net: Detector, images: Array, proposals: Sequence[Array], *, ops: Any = None, **options: Any
) -> list[dict[int, Detections]]:
    """`predict`, then `detections` of each image, with its options."""
    return [detections(p, **options) for p in predict(net, images, proposals, ops=ops)]


def outcome(predicted: Predicted, assigned: Assigned, truths: Array) -> Outcome:
    """How the proposals of an image that are of an object came out, in their order.

    Whether one succeeds at t: outcome.right & (outcome.overlaps >= t). A class is right if its
    score is the largest of all, the background's too.
    """
    near = assigned.objects >= 0
    objects, found = assigned.objects[near], predicted.boxes[near]
    right = predicted.scores[near].argmax(axis=1) == assigned.labels[near]
    table = overlaps(found, truths[objects])
    return Outcome(right, np.diagonal(table).copy(), objects)


def success(outcomes: Sequence[Outcome], threshold: float) -> float:
    """The share of the proposals of objects, over images, that succeed; NaN for none."""
    each = [o.right & (o.overlaps >= threshold) for o in outcomes]
    every = np.concatenate([np.zeros(0, bool), *each])
    return float(every.mean()) if every.size else float("nan")
