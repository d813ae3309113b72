"""Detectors of two stages (section 4.1): a trunk, a head that judges RoIs, and perhaps an RPN.

Without an RPN the proposals are fixed, as for the paper's detectors on VOC: they are given. With
one on res4, proposals and detections are trained jointly, as on COCO; RoIs are then constants.
`faster_rcnn` and `rfcn` make the heads.

    value = loss(net, tape, Batch(images, truths, proposals, seed))
    found = detect(net, images, proposals)       of each image: {class: Detections}
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray as Array

from ..geometry import per_axis
from . import boxes, settings
from .anchors import Truths, checked_truths, sample
from .detections import Predicted, detections, joined, probabilities
from .detector import rois_of
from .door import images_of, namespace, on_cpu
from .losses import s
from .metrics import Detections, overlaps
from .rpn import Batch, Rpn, propose, rpn_loss, stages, total
from .scales import at_scales
from .tape import Tape

PLAN = settings.VOC["Faster R-CNN"]
SAMPLE, KEEP = settings.of_sample(PLAN), settings.of_proposals(PLAN, training=True)


class Sampled(NamedTuple):
    """RoIs to learn from: rois R 5, labels R, and targets of boxes R 4."""

    rois: Array
    labels: Array
    targets: Array


@dataclass(eq=False)
class TwoStage:
    """Scores R classes and deltas R D*4 of the rois R 5 of images N C H W.

    trunk   has stages(tape, images): the map of res4, and the one on top of res5
    head    called with a tape, the top map and rois; D is as in `detections.Predicted`, and deltas
            may be None: the boxes stay. head.classes counts the background
    rpn     on res4, or None
    stride  of both maps
    """

    trunk: Any
    head: Any
    rpn: Rpn | None = None
    stride: int = PLAN.stride.value

    def __post_init__(self) -> None:
        if self.rpn is not None and self.rpn.anchors.stride != self.stride:
            raise ValueError(
                f"the anchors have stride {self.rpn.anchors.stride}, expected {self.stride}, that"
                " of the maps"
            )

    def __call__(self, tape: Tape, images: Array, rois: Array) -> tuple[Array, Array | None]:
        if not hasattr(rois, "shape"):
            raise TypeError(f"rois is of type {type(rois).__name__}, expected an array R 5")
        if rois.shape[1:] == (5,):  # else the operators refuse them
            rois = on_cpu(rois)
            boxes.checked("boxes of rois", rois[:, 1:], images_of(images).shape[2:])
        return self.judged(tape, self.maps(tape, images)[1], rois)

    def judged(self, tape: Tape, top: Array, rois: Array) -> tuple[Array, Array | None]:
        """The head's scores and deltas of rois R 5 in NumPy, whose x2 and y2 are exclusive."""
        scores, deltas = self.head(tape, top, self.as_read(rois, top))
        return scores, deltas

    def as_read(self, rois: Array, top: Array) -> Array:
        """The rois as the RoI layers want them, where `top` is.

        The authors' operator, bins="mxnet", takes x2 and y2 for the last pixels of a RoI.
        """
        layer = getattr(self.head, "pool", None) or getattr(self.head, "score", None)
        if getattr(layer, "bins", None) == "mxnet" and rois.shape[1:] == (5,):
            rois = rois - np.array([0, 0, 0, 1, 1])
        return namespace(top).asarray(rois, top.dtype)

    def maps(self, tape: Tape, images: Array) -> tuple[Array, Array]:
        """The maps of res4 and on top of res5."""
        return stages(self.trunk, tape, images, self.stride)


def sampled(
    rng: np.random.Generator, proposals: Sequence[Array], truths: Sequence[Truths], size: Any, *,
    number: int = SAMPLE["number"], foreground: float = PLAN.need("positive"),
    threshold: float = SAMPLE["threshold"], lowest: float = SAMPLE["lowest"],
    add_truths: bool = True,
) -> Sampled:  # fmt: skip
    """A sample of the proposals R_n 4 of each image, with the object that each is of.

    number, foreground  how many of an image, and which share of them may be of objects
    threshold, lowest   of the largest overlap with an object (`boxes.assign`): from the first on
                        it is of that object, from the second to the first background; below, left
    add_truths          the objects themselves are proposals too
    """
    if not 0 <= lowest <= threshold:
        raise ValueError(
            f"lowest and threshold are {lowest} and {threshold}, expected 0 <= lowest <= threshold"
        )
    kept, labels, targets = [], [np.zeros(0, int)], [np.zeros((0, 4))]
    for n, (given, each) in enumerate(zip(proposals, truths, strict=True)):
        given = boxes.checked(f"proposals of image {n}", given, size)
        given = np.vstack([given, each.boxes]) if add_truths else given
        found = boxes.assign(given, each.boxes, each.kinds, threshold)
        if lowest > 0 and len(given):
            most = overlaps(given, each.boxes).max(axis=1, initial=0)
            found.labels[(found.labels == 0) & (most < lowest)] = -1
        rows = sample(rng, found.labels, number, foreground)
        kept.append(given[rows])
        labels.append(found.labels[rows])
        targets.append(found.targets[rows])
    return Sampled(rois_of(kept, size), np.concatenate(labels), np.vstack(targets))


def loss(
    net: TwoStage, tape: Tape, batch: Batch, *, proposing: Mapping[str, Any] | None = None,
    of_rpn: Mapping[str, Any] | None = None, hardest: bool = PLAN.need("hardest"), **options: Any,
) -> Array:  # fmt: skip
    """The loss of the RoIs, and with an RPN that of its anchors too.

    batch      the RoIs are sampled from its proposals; if it has none, from those of the RPN
    proposing  options of `rpn.propose`, beside those of training
    of_rpn     options of `rpn.rpn_loss`; both are for a network with an RPN, and not used without
    hardest    the sample is not random, but of the largest losses (`hardest_of`)
    options    of `sampled`
    """
    rng, size = np.random.default_rng(batch.seed), images_of(batch.images).shape[2:]
    truths = checked_truths(batch.truths, batch.images, net.head.classes)
    _given(net, batch.proposals, batch.images)
    res4, top = net.maps(tape, batch.images)
    values, proposals = [], batch.proposals
    if net.rpn is not None:
        maps = net.rpn(tape, res4)
        values.append(rpn_loss(net.rpn, tape, maps, batch, rng, **(of_rpn or {})))
        if proposals is None:
            found = propose(net.rpn, maps, size, **KEEP | dict(proposing or {}))
            proposals = [each.boxes for each in found]
    assert proposals is not None
    if hardest:
        drawn = hardest_of(net, tape, top, proposals, truths, size, **options)
    else:
        drawn = sampled(rng, proposals, truths, size, **options)
    return total(tape, *values, roi_loss(net, tape, top, drawn))


def hardest_of(
    net: TwoStage, tape: Tape, top: Array, proposals: Sequence[Array], truths: Sequence[Truths],
    size: Any, *, number: int = SAMPLE["number"], **options: Any,
) -> Sampled:  # fmt: skip
    """The `number` RoIs of each image that have the largest losses (Shrivastava et al. 2016).

    All proposals are judged for it, without gradients. The share of objects is what comes of it.
    options  of `sampled`, but for `foreground`
    """
    (number,) = per_axis("number", number, 1, at_least=1, expected="an int")
    every = sum(len(a) for a in proposals) + sum(len(each.boxes) for each in truths)
    drawn = sampled(np.random.default_rng(0), proposals, truths, size,
                    number=max(every, 1), foreground=1.0, **options)  # fmt: skip
    scores, deltas = net.judged(Tape(ops=tape.homes[0]), top, drawn.rois)
    losses = losses_of(on_cpu(scores), None if deltas is None else on_cpu(deltas), drawn)
    order = np.argsort(np.where(np.isnan(losses), -np.inf, -losses), kind="stable")  # NaN is kept
    kept = np.zeros(len(order), bool)
    for n in range(len(proposals)):
        kept[order[drawn.rois[order, 0] == n][:number]] = True
    return Sampled(*(a[kept] for a in drawn))


def roi_loss(net: TwoStage, tape: Tape, top: Array, drawn: Sampled) -> Array:
    """Softmax loss over all RoIs + smooth L1 of the deltas of their classes over those of objects.

    Both are divided by the number of RoIs (Girshick 2015).
    """
    xp = namespace(top)
    scores, deltas = net.judged(tape, top, drawn.rois)
    of_classes = tape.softmax_loss(scores, xp.asarray(drawn.labels))
    if deltas is None:
        return of_classes
    given = (xp.asarray(a, deltas.dtype) for a in wanted(drawn, deltas.shape))
    return total(tape, of_classes, tape.smooth_l1(deltas, *given))


def losses_of(scores: Array, deltas: Array | None, drawn: Sampled) -> Array:
    """The loss R of each RoI, of which `roi_loss` is the mean; in NumPy."""
    scores = scores.astype(float)
    of_classes = np.logaddexp.reduce(scores, axis=1) - scores[np.arange(len(scores)), drawn.labels]
    if deltas is None:
        return of_classes
    targets, weight = wanted(drawn, deltas.shape)
    return of_classes + (s(deltas - targets) * weight).sum(axis=1)


def wanted(drawn: Sampled, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """The targets and weights, R D*4, of deltas: those of an object's class have weight 1."""
    R, D = shape[0], shape[1] // 4
    targets, weight = np.zeros((2, R, D, 4))
    near = np.flatnonzero(drawn.labels > 0)
    at = np.minimum(drawn.labels[near], D - 1)
    targets[near, at], weight[near, at] = drawn.targets[near], 1
    return targets.reshape(shape), weight.reshape(shape)


def _given(net: TwoStage, proposals: Sequence[Array] | None, images: Array) -> None:
    """Refuses where proposals have to come from nowhere, or are of other images."""
    if proposals is None and net.rpn is None:
        raise ValueError("proposals is None, and the network has no RPN that makes them")
    if proposals is not None and len(proposals) != len(images_of(images)):
        raise ValueError(f"there are proposals of {len(proposals)} images, expected {len(images)}")


def predict(
    net: TwoStage, images: Array, proposals: Sequence[Array] | None = None, *, again: int = 0,
    ops: Any = None, **proposing: Any,
) -> list[Predicted]:  # fmt: skip
    """Probabilities and boxes of the proposals R_n 4 of each image, without keeping activations.

    proposals  None: those of the network's RPN, with options of `rpn.propose`
    again      how many times the boxes that come out are taken for proposals and judged too, as in
               the iterative localisation of Gidaris and Komodakis 2015; all rounds are returned
    ops        as of `Tape`
    """
    if again < 0:
        raise ValueError(f"again is {again}, expected 0 or more")
    _given(net, proposals, images)
    tape = Tape(ops=ops)
    res4, top = net.maps(tape, images)
    if proposals is None:
        assert net.rpn is not None
        found = propose(net.rpn, net.rpn(tape, res4), images.shape[2:], **proposing)
        proposals = [each.boxes for each in found]
    rounds = []
    for _ in range(again + 1):
        rounds.append(_judged(net, tape, top, proposals, images.shape[2:]))
        proposals = [_moved(each) for each in rounds[-1]]
    return [joined(each) for each in zip(*rounds, strict=True)]


def _judged(
    net: TwoStage, tape: Tape, top: Array, proposals: Sequence[Array], size: Any
) -> list[Predicted]:
    """The head's answer for the proposals of each image."""
    rois = rois_of(proposals, size)
    scores, deltas = net.judged(tape, top, rois)
    scores = probabilities(on_cpu(scores))
    deltas = np.zeros((len(rois), 4)) if deltas is None else on_cpu(deltas)
    sets = deltas.reshape(len(rois), deltas.shape[1] // 4, 4)
    found = np.stack(
        [boxes.decode(rois[:, 1:], sets[:, d], size) for d in range(sets.shape[1])], axis=1
    )
    ends = np.cumsum([len(each) for each in proposals])
    cut = zip(np.split(scores, ends)[:-1], np.split(found, ends)[:-1], strict=True)
    return [Predicted(*each) for each in cut]


def _moved(predicted: Predicted) -> Array:
    """The box of each RoI's surest class that is no background; those that are empty left out."""
    found = predicted.of_class(predicted.scores[:, 1:].argmax(axis=1) + 1)
    return found[np.all(found[:, 2:] > found[:, :2], axis=1)]


def detect(
    net: TwoStage, images: Array, proposals: Sequence[Array] | None = None, *, again: int = 0,
    ops: Any = None, proposing: Mapping[str, Any] | None = None,
    short_sides: Sequence[int] | None = None, **options: Any,
) -> list[dict[int, Detections]]:  # fmt: skip
    """`predict`, then `detections.detections` of each image, with its options.

    The iterative box average of Table 5 is again=1, average=0.5; its several scales are
    short_sides=(480, 576, 688, 864, 1200, 1400) (see `scales`); None: images stay as they are.
    """

    def judge(images: Array, proposals: Sequence[Array] | None) -> list[Predicted]:
        return predict(net, images, proposals, again=again, ops=ops, **(proposing or {}))

    if short_sides is None:
        found = judge(images, proposals)
    else:
        found = at_scales(judge, images, short_sides, proposals)
    return [detections(each, **options) for each in found]
