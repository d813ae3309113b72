"""Segmentation, as DeepLab in section 4.1: a class for each cell of 4 x 4 pixels, and its mIoU."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from deformable_convnets import reference
from deformable_convnets.reference.networks import metrics, segmenter
from deformable_convnets.reference.networks.tape import Tape
from experiments import worlds
from experiments.dilations import Dilations
from experiments.runs import TEST, Run

TOGETHER = 40  # pictures of a test in one forward


def network(rng: np.random.Generator, run: Run) -> Any:
    """A segmenter without deformable layers."""
    classes = len(worlds.WORLDS[run.world].CLASSES)
    return segmenter.segmenter(rng, classes, width=run.width, dilation=run.dilation)


def draw(rng: np.random.Generator, run: Run) -> tuple[Any, Any]:
    """Pictures and labels of one step."""
    images, labels, _ = worlds.batch(run.world, rng, run.batch, run.size, stride=segmenter.STRIDE)
    return images, labels


def loss(net: Any, tape: Tape, drawn: tuple[Any, Any]) -> Any:
    """The mean over all cells."""
    images, labels = drawn
    return tape.softmax_loss(net(tape, images), labels)


class Offsets(Tape):
    """A tape without parameters that keeps the offsets of deformable convolutions, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.offsets: list[Any] = []

    def call(self, forward: Any, backward: Any, *args: Any, **options: Any) -> Any:
        if forward is reference.deform_conv2d:
            self.offsets.append((args[1], options["dilation"]))
        return super().call(forward, backward, *args, **options)


def tested(run: Run) -> Iterator[tuple[Any, Any, Any]]:
    """The pictures of the test, some at a time: images, labels, and r of every cell."""
    rng = np.random.default_rng(TEST)
    for start in range(0, run.tested, TOGETHER):
        count = min(TOGETHER, run.tested - start)
        images, labels, scenes = worlds.batch(
            worlds.held_out(run.world), rng, count, run.size, stride=segmenter.STRIDE
        )
        yield images, labels, np.stack([scene.radii(segmenter.STRIDE) for scene in scenes])


def measured(net: Any, run: Run) -> dict[str, Any]:
    """mIoU, the share of right cells by the size of their object, and effective dilations."""
    matrix, right, dilations = 0, {}, Dilations(run.deformable)
    for images, labels, radii in tested(run):
        tape = Offsets()
        predicted = net(tape, images).argmax(axis=1)
        matrix = matrix + metrics.confusion(predicted, labels, net.head.weight.shape[0])
        places = worlds.places(radii, run.size)
        for place, here in places.items():
            hits = (predicted == labels)[here]
            total, count = right.get(place, (0, 0))
            right[place] = total + int(hits.sum()), count + hits.size
        dilations.add(tape.offsets, places)
    found = {place: total / count if count else None for place, (total, count) in right.items()}
    return {"miou": metrics.mean_iou(matrix), "right": found, "dilations": dilations.summary()}
