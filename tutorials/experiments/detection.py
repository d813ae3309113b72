"""Detection, as section 4.2: classes and boxes of fixed proposals, and average precision."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from deformable_convnets.reference.networks import boxes, detector, primitives
from deformable_convnets.reference.networks.metrics import COCO_THRESHOLDS, average_precision
from deformable_convnets.reference.networks.tape import Tape
from experiments import worlds
from experiments.runs import TEST, Run

SCALES = (0.75, 1.0, 1.25)  # the paper tests at short sides of 480 to 1400 pixels
NEAR = 0.3  # a proposal of such an overlap or more is of the object
Pictures = tuple[Any, list[Any], list[Any]]  # images, scenes, proposals


def network(rng: np.random.Generator, run: Run) -> Any:
    """A detector without deformable layers."""
    classes = len(worlds.WORLDS[run.world].CLASSES)
    return detector.detector(rng, classes, head=run.head, width=run.width, dilation=run.dilation)


def draw(rng: np.random.Generator, run: Run) -> detector.Batch:
    """The pictures and proposals of one step."""
    _, _, scenes = worlds.batch(run.world, rng, run.batch, run.size)
    return detector.batch(rng, scenes, threshold=NEAR)


def loss(net: Any, tape: Tape, drawn: detector.Batch) -> Any:
    """As of the detector."""
    return detector.loss(net, tape, drawn)


def tested(run: Run) -> Pictures:
    """The pictures and proposals of the test, the same for all runs of a world."""
    rng = np.random.default_rng(TEST)
    images, _, scenes = worlds.batch(worlds.held_out(run.world), rng, run.tested, run.size)
    return images, scenes, [boxes.proposals(rng, s.boxes(), run.size) for s in scenes]


def measured(net: Any, run: Run) -> dict[str, Any]:
    """Average precision, by threshold, by size, flipped and at several scales."""
    images, scenes, proposals = tested(run)
    once = predicted(net, images, proposals)
    flip = averaged([once, flipped(net, images, proposals)])
    other = [
        part for s in SCALES if s != 1
        for part in (predicted(net, images, proposals, s), flipped(net, images, proposals, s))
    ]  # fmt: skip
    scales = averaged([flip, flip, *other])  # flip is a mean of two already
    tests = {"once": once, "flip": flip, "scales": scales}
    found = {name: by_size(each, scenes, run) for name, each in tests.items()}
    return {"ap": found["once"], "overlap": overlap(once, proposals, scenes), "tests": found}


def predicted(net: Any, images: Any, proposals: Sequence[Any], scale: float = 1.0) -> list[Any]:
    """What the network says of each picture at a scale, in the pixels of the picture."""
    size, each = round(images.shape[-1] * scale), 40
    ratio = size / images.shape[-1]
    said = []
    for i in range(0, len(images), each):
        part = images[i : i + each]
        part = part if size == images.shape[-1] else primitives.upsample(part, size)
        said += detector.predict(net, part, [ratio * p for p in proposals[i : i + each]])
    return [detector.Predicted(p.scores, p.boxes / ratio) for p in said]


def flipped(net: Any, images: Any, proposals: Sequence[Any], scale: float = 1.0) -> list[Any]:
    """What it says of the mirrored pictures, mirrored back."""
    W = images.shape[-1]
    mirrored = predicted(net, images[..., ::-1].copy(), [mirror(p, W) for p in proposals], scale)
    return [detector.Predicted(p.scores, mirror(p.boxes, W)) for p in mirrored]


def mirror(found: Any, W: float) -> Any:
    """Boxes of a picture that was W wide, after it is turned left to right."""
    return np.stack([W - found[:, 2], found[:, 1], W - found[:, 0], found[:, 3]], axis=1)


def averaged(answers: Sequence[list[Any]]) -> list[Any]:
    """The mean of several answers about the same proposals."""
    return [
        detector.Predicted(
            np.mean([p.scores for p in each], 0), np.mean([p.boxes for p in each], 0)
        )
        for each in zip(*answers, strict=True)
    ]


def by_size(answers: list[Any], scenes: list[Any], run: Run) -> dict[str, float | None]:
    """The mean over classes of average precision: at thresholds, over them, and by size."""
    found = [detector.detections(p) for p in answers]
    kinds = [np.array([thing.kind for thing in s.things]) for s in scenes]
    truths = [s.boxes() for s in scenes]

    def precision(threshold: float, area: Any = None) -> float:
        each = [
            average_precision([f[c] for f in found],
                              [t[k == c] for t, k in zip(truths, kinds, strict=True)],
                              threshold, points="101", area=area)
            for c in range(1, len(worlds.WORLDS[run.world].CLASSES))
        ]  # fmt: skip
        there = [v for v in each if not np.isnan(v)]
        return float(np.mean(there)) if there else float("nan")

    result = {f"{round(100 * t)}": precision(t) for t in COCO_THRESHOLDS}
    result["all"] = float(np.mean(list(result.values())))
    for size, area in areas(run.size).items():
        result[size] = float(np.mean([precision(t, area) for t in COCO_THRESHOLDS]))
    return {name: None if np.isnan(v) else v for name, v in result.items()}


def areas(size: int) -> dict[str, tuple[float, float]]:
    """The areas of boxes that are small, medium and large: as of a disk of that r."""
    small, large = ((2 * r * size / 64) ** 2 for r in worlds.BOUNDS)
    return {"small": (0, small), "medium": (small, large), "large": (large, float("inf"))}


def overlap(answers: list[Any], proposals: list[Any], scenes: list[Any]) -> float:
    """The mean overlap of the boxes of proposals of an object with the object's own."""
    found = []
    for p, given, s in zip(answers, proposals, scenes, strict=True):
        kinds = [thing.kind for thing in s.things]
        assigned = boxes.assign(given, s.boxes(), kinds, NEAR)
        found.append(detector.outcome(p, assigned, s.boxes()).overlaps)
    return float(np.concatenate(found).mean())
