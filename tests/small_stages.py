"""Stand-ins for the paper's detectors: a trunk of a few numbers, and pictures of rectangles."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from deformable_convnets.reference.networks import (
    Tape,
    layers,
    metrics,
    optimisers,
    training,
    two_stage,
)
from deformable_convnets.reference.networks.anchors import Anchors, Truths
from deformable_convnets.reference.networks.layers import Conv2d
from deformable_convnets.reference.networks.rpn import Batch

STRIDE, WIDTH, TOP, CLASSES = 4, 6, 8, 3
SIZE = (32, 40)
ANCHORS = Anchors((10, 16), (0.5, 1, 2), STRIDE)


@dataclass(eq=False)
class Stages:
    """A trunk of stride 4: a map of 6 channels called res4, and one of 8 on top of res5."""

    stem: list[Conv2d]
    res5: Any
    reduce: Any

    def stages(self, tape, images):
        x = images
        for layer in self.stem:
            x = tape.relu(layer(tape, x))
        if self.res5 is None:
            return x, None
        y = tape.relu(tape.add(x, self.res5(tape, x)))
        return x, tape.relu(self.reduce(tape, y))


def trunk(dtype=np.float64, res5=True):
    rng = np.random.default_rng(1)
    stem = [layers.conv(rng, C, WIDTH, stride=2, padding=1, dtype=dtype) for C in (1, WIDTH)]
    if not res5:
        return Stages(stem, None, None)
    last = layers.conv(rng, WIDTH, WIDTH, padding=2, dilation=2, dtype=dtype)
    return Stages(stem, last, layers.conv(rng, WIDTH, TOP, 1, dtype=dtype))


def deformed(net, paths):
    """The network with deformable layers whose branches are not zero any more."""
    net = layers.deformable(net, paths)
    rng = np.random.default_rng(2)
    for name, a in layers.parameters(net).items():
        if ".branch." in name:
            a += (0.2 * rng.normal(size=a.shape)).astype(a.dtype)
    return net


def batch(count=2, seed=0, dtype=np.float64, fixed=False):
    """Noise with a bright rectangle, class 1, and a striped one, class 2; fixed: with proposals."""
    rng = np.random.default_rng(seed)
    images = 0.1 * rng.normal(size=(count, 1, *SIZE))
    truths, proposals = [], []
    for image in images:
        made = []
        for kind, left in ((1, 0), (2, 20)):
            w, h = rng.integers(9, 18, 2)
            x, y = left + rng.integers(0, 20 - w + 1), rng.integers(0, SIZE[0] - h + 1)
            image[0, y : y + h, x : x + w] += 1 if kind == 1 else np.where(np.arange(w) % 2, 1, -1)
            made.append((x, y, x + w, y + h))
        truths.append(Truths(np.array(made, float), np.array([1, 2])))
        proposals.append(around(rng, truths[-1].boxes))
    return Batch(images.astype(dtype), truths, proposals if fixed else None, seed)


def around(rng, given):
    """Boxes near those given, and some of the background."""
    near = np.repeat(given, 4, axis=0) + rng.uniform(-2.5, 2.5, (4 * len(given), 4))
    low = rng.uniform(0, 24, (6, 2))
    made = np.vstack([near, np.hstack([low, low + rng.uniform(5, 8, (6, 2))])])
    return np.clip(made, 0, np.array([SIZE[1], SIZE[0]] * 2, float))


def gradients_of(net, loss, batch):
    tape = Tape(layers.parameters(net))
    return tape.gradients(loss(net, tape, batch))


def assert_gradients(net, loss, batch, gradients=None):
    """Along a random direction of each parameter, by two central differences."""
    gradients = gradients or gradients_of(net, loss, batch)
    rng, h = np.random.default_rng(4), 2.0**-21
    for name, w in layers.parameters(net).items():
        v, kept = rng.normal(size=w.shape), w.copy()

        def along(t, w=w, v=v, kept=kept):
            w[...] = kept + t * v
            value = float(loss(net, Tape(), batch))
            w[...] = kept
            return value

        near, far = ((along(s) - along(-s)) / (2 * s) for s in (h, 2 * h))
        found = float((gradients[name] * v).sum())
        assert abs(found) > 1e-6, name  # far above what is forgiven
        assert abs(near - found) <= abs(far - near) + 1e-8, name


def assert_learns(net, drawn, rate):
    """Forty steps of a detector on one batch: its loss falls, and it finds what it has learnt."""
    adam = optimisers.Adam(multipliers={"*branch.*": 0.1})
    state = training.train(
        training.State(net, adam, np.random.default_rng(0)),
        lambda rng: drawn._replace(seed=rng.integers(2**32)), two_stage.loss,
        iterations=40, rate=lambda i: rate,
    )  # fmt: skip
    assert np.mean(state.losses[-5:]) < np.mean(state.losses[:3]) / 3
    assert {a.dtype.name for a in layers.parameters(net).values()} == {"float32"}
    for options in ({}, {"again": 1, "average": 0.5, "most": 5}):
        found = two_stage.detect(net, drawn.images, drawn.proposals, least=0.5, **options)
        for each, truths in zip(found, drawn.truths, strict=True):
            for box, kind in zip(truths.boxes, truths.kinds, strict=True):
                assert metrics.overlaps(each[kind].boxes, box[None]).max(initial=0) >= 0.5


class Zeros:
    """In place of a generator, for networks of which only the shapes matter."""

    def standard_normal(self, shape):
        return np.zeros(shape)


def count(part):
    """How many numbers a part of a network learns."""
    return sum(a.size for a in layers.parameters(part).values())
