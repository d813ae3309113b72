"""Region proposal networks (section 4.1; Ren et al. 2015): a score and a move of every anchor.

An RPN tells objects from background and proposes boxes: on conv4, through a 3x3 convolution of 512.
The category-aware RPN has C + 1 classes, the background among them, and is a detector by itself:
two 1x1 convolutions of the features of conv5.

    net = category_aware_rpn(rng, trunk, classes=21)
    value = loss(net, tape, Batch(images, truths, seed=rng.integers(2**32)))
    found = detect(net, images)                  of each image: {class: Detections}

A trunk has stages(tape, images), which returns the map of res4 and the one on top of res5, both of
the stride of the anchors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray as Array

from .. import checks
from ..geometry import Pair
from . import boxes, settings
from .anchors import Anchors, Truths, assign_anchors, checked_truths, sample
from .boxes import Assigned
from .detections import Predicted, detections, probabilities
from .door import check_top, described, images_of, namespace, number_of, on_cpu
from .layers import Conv2d, conv
from .metrics import Detections
from .tape import Tape

PLAN = settings.VOC["Faster R-CNN"]
OWN, LEARN, KEEP = settings.of_rpn(PLAN), settings.of_rpn_loss(PLAN), settings.of_proposals(PLAN)
AWARE = settings.of_head(settings.VOC["category-aware RPN"])


class Batch(NamedTuple):
    """What a step learns from: images N C H W, their objects, and proposals R_n 4, if these are
    fixed. The seed is that of the samples, so a loss of the same batch is the same."""

    images: Array
    truths: Sequence[Truths]
    proposals: Sequence[Array] | None = None
    seed: Any = 0


@dataclass(eq=False)
class Rpn:
    """Maps of scores N A*classes H W and of deltas N A*4 H W, of a map N C H W.

    Class k of anchor a is in channel a classes + k, and its delta d in a 4 + d.
    """

    hidden: Conv2d | None
    score: Conv2d
    box: Conv2d
    anchors: Anchors = OWN["anchors"]

    def __call__(self, tape: Tape, x: Array) -> tuple[Array, Array]:
        if self.hidden is not None:
            x = tape.relu(self.hidden(tape, x))
        return self.score(tape, x), self.box(tape, x)

    @property
    def classes(self) -> int:
        """How many, with the background."""
        return self.score.weight.shape[0] // self.anchors.number


@dataclass(eq=False)
class ProposalNetwork:
    """An RPN on a trunk, alone: on its top, or else on res4.

    All parameters of what is trained have to take part: on res4, a trunk without res5 is needed,
    whose stages(tape, images) returns (res4, None).
    """

    trunk: Any
    rpn: Rpn
    top: bool = True

    def __call__(self, tape: Tape, images: Array) -> tuple[Array, Array]:
        res4, top = stages(self.trunk, tape, images, self.rpn.anchors.stride)
        return self.rpn(tape, top if self.top else res4)


def rpn(
    rng: np.random.Generator, channels: int = 1024, classes: int = 2, *,
    hidden: int | None = OWN["hidden"], anchors: Anchors = OWN["anchors"], dtype: Any = np.float32,
) -> Rpn:  # fmt: skip
    """A new RPN of a map of `channels`, by default those of res4 of ResNet-101.

    hidden  of its 3x3 convolution; None: 1x1 convolutions of the map itself
    Its last layers start small, so that the first losses are those of a guess.
    """
    classes = number_of(classes)
    first = None if hidden is None else conv(rng, channels, hidden, padding=1, dtype=dtype)
    maps = (anchors.number * classes, anchors.number * 4)
    score, box = (conv(rng, hidden or channels, O, 1, dtype=dtype) for O in maps)
    return Rpn(first, small(score), small(box), anchors)


def small(layer: Any) -> Any:
    """A layer, with a tenth of its weights."""
    layer.weight = layer.weight * layer.weight.dtype.type(0.1)
    return layer


def category_aware_rpn(
    rng: np.random.Generator, trunk: Any, classes: int = AWARE["classes"], *,
    channels: int = AWARE["channels"], anchors: Anchors = AWARE["anchors"], **options: Any,
) -> ProposalNetwork:  # fmt: skip
    """The one-stage detector of section 4.1; `classes` counts the background; options of `rpn`.

    trunk     is not copied
    channels  those of the trunk's top map; ValueError where its `top` has others
    """
    made = rpn(rng, channels, classes, hidden=None, anchors=anchors, **options)
    check_top(trunk, channels)
    return ProposalNetwork(trunk, made)


def stages(trunk: Any, tape: Tape, images: Array, stride: int) -> tuple[Array, Array]:
    """The two maps of a trunk, of this stride, of images not smaller than one of its cells."""
    if min(images_of(images).shape[2:]) < stride:
        checks.Call(images=described(images)).fail(
            f"images are {images.shape[2]} x {images.shape[3]}, expected at least the stride of the"
            f" features on each side: {stride}"
        )
    res4, top = trunk.stages(tape, images)
    for cells in (a.shape[2:] for a in (res4, top) if a is not None):
        away = (abs(n * stride - of) for n, of in zip(cells, images.shape[2:], strict=True))
        if max(away) >= 2 * stride:
            checks.Call(images=described(images)).fail(
                f"a map of the trunk is {cells[0]} x {cells[1]}, which is not of stride {stride}"
            )
    return res4, top


def loss(net: ProposalNetwork, tape: Tape, batch: Batch, **options: Any) -> Array:
    """The loss of a network that is an RPN alone: `rpn_loss`, with its options."""
    maps = net(tape, batch.images)
    return rpn_loss(net.rpn, tape, maps, batch, np.random.default_rng(batch.seed), **options)


def rpn_loss(
    net: Rpn, tape: Tape, maps: tuple[Array, Array], batch: Batch, rng: np.random.Generator, *,
    number: int = LEARN["number"], foreground: float = LEARN["foreground"], **options: Any,
) -> Array:  # fmt: skip
    """Softmax loss of a sample of anchors + smooth L1 of the deltas of those of objects.

    Both are divided by how many anchors were sampled. maps: what `net` has returned.
    number, foreground  how many of an image, and which share of them may be of objects
    options             of `assign_anchors`. For two classes the kinds of objects do not matter
    """
    scores, deltas = maps
    assigned = _assigned(net, scores.shape[2:], batch, options)
    for each in assigned:
        kept = sample(rng, each.labels, number, foreground)
        left = np.setdiff1d(np.arange(len(each.labels)), kept, assume_unique=True)
        each.labels[left] = -1
    (N, _, H, W), A, xp = scores.shape, net.anchors.number, namespace(scores)
    labels = np.stack([each.labels for each in assigned]).reshape(N, H, W, A)
    targets = np.stack([each.targets for each in assigned]).reshape(N, H, W, A * 4)
    labels, targets = labels.transpose(0, 3, 1, 2), targets.transpose(0, 3, 1, 2)
    weight = xp.asarray(np.repeat(labels > 0, 4, axis=1), deltas.dtype)
    rows = tape.reshape(scores, (N * A, net.classes, H, W))
    of_classes = tape.softmax_loss(rows, xp.asarray(labels.reshape(N * A, H, W)))
    of_boxes = tape.smooth_l1(
        deltas, xp.asarray(targets, deltas.dtype), weight, count=max(int((labels >= 0).sum()), 1)
    )
    return total(tape, of_classes, of_boxes)


def total(tape: Tape, *losses: Array) -> Array:
    """Their sum, an array of shape () again."""
    value, *others = (tape.reshape(each, (1,)) for each in losses)
    for each in others:
        value = tape.add(value, each)
    return tape.reshape(value, ())


def _assigned(net: Rpn, cells: Pair, batch: Batch, options: dict[str, Any]) -> list[Assigned]:
    """The objects of the anchors of each image; of two classes, 1 is any object."""
    agnostic, size = net.classes == 2, batch.images.shape[2:]
    laid, made = net.anchors.boxes(cells), []
    for truths in checked_truths(batch.truths, batch.images, None if agnostic else net.classes):
        kinds = np.ones_like(truths.kinds) if agnostic else truths.kinds
        made.append(assign_anchors(laid, Truths(truths.boxes, kinds), size, **options))
    return made


def anchors_predicted(
    net: Rpn, maps: tuple[Array, Array], size: int | Pair, *, least: float = KEEP["least"]
) -> list[Predicted]:
    """Of each image, what its anchors have become: boxes, clipped to the image of size (H, W).

    maps   what `net` has returned
    least  the shortest side of a box in pixels; smaller ones, and empty ones, are left out
    """
    scores, deltas = (on_cpu(a).transpose(0, 2, 3, 1) for a in maps)
    N, H, W, _ = scores.shape
    scores = scores.reshape(N, H * W * net.anchors.number, net.classes)
    deltas = deltas.reshape(N, H * W * net.anchors.number, 4)
    laid, made = net.anchors.boxes((H, W)), []
    for score, delta in zip(scores, deltas, strict=True):
        found = boxes.decode(laid, delta, size, crossing=True)
        sides = (found[:, 2:] - found[:, :2]).min(axis=1)
        rows = np.flatnonzero((sides >= least) & (sides > 0))
        made.append(Predicted(probabilities(score[rows]), found[rows, None]))
    return made


def propose(
    net: Rpn, maps: tuple[Array, Array], size: int | Pair, *, before: int = KEEP["before"],
    after: int = KEEP["after"], overlap: float = KEEP["overlap"], least: float = KEEP["least"],
) -> list[Detections]:  # fmt: skip
    """The proposals of each image, best first: boxes R 4 and scores R, 1 less the background's.

    before, after  how many are kept before and after suppression at `overlap`; more in training
    The others as in `anchors_predicted`.
    """
    _positive(before=before, after=after)
    made = []
    for each in anchors_predicted(net, maps, size, least=least):
        scores = each.scores[:, 1:].sum(axis=1)
        rows = np.argsort(-scores, kind="stable")[:before]
        rows = rows[boxes.suppress(each.boxes[rows, 0], scores[rows], overlap, most=after)]
        made.append(Detections(each.boxes[rows, 0], scores[rows]))
    return made


def predict(
    net: ProposalNetwork, images: Array, *, before: int = KEEP["before"], least: float = 0,
    ops: Any = None,
) -> list[Predicted]:  # fmt: skip
    """Of each image, the `before` boxes that are the surest not to be background.

    least  as in `anchors_predicted`
    ops    as of `Tape`
    """
    _positive(before=before)
    made = []
    for each in anchors_predicted(net.rpn, net(Tape(ops=ops), images), images.shape[2:],
                                  least=least):  # fmt: skip
        rows = np.sort(np.argsort(each.scores[:, 0], kind="stable")[:before])
        made.append(Predicted(each.scores[rows], each.boxes[rows]))
    return made


def _positive(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} is {count}, expected 1 or more")


def detect(
    net: ProposalNetwork, images: Array, *, before: int = KEEP["before"], ops: Any = None,
    **options: Any,
) -> list[dict[int, Detections]]:  # fmt: skip
    """`predict`, then `detections.detections` of each image, with its options."""
    return [detections(p, **options) for p in predict(net, images, before=before, ops=ops)]
