"""Faster R-CNN: its counts, its gradients, its loss with boxes for each class, what it learns."""

import numpy as np
import pytest
from small_stages import (
    CLASSES,
    SIZE,
    STRIDE,
    TOP,
    Zeros,
    assert_gradients,
    assert_learns,
    batch,
    count,
    deformed,
    gradients_of,
    trunk,
)

from deformable_convnets.reference.networks import (
    Tape,
    boxes,
    faster_rcnn,
    layers,
    optimisers,
    two_stage,
)
from deformable_convnets.reference.networks.faster_rcnn import OFFSET_RATES, ROI_LAYERS
from deformable_convnets.reference.networks.rpn import total

TRUNK, OFFSET_CONVS = 42_500_160, 3 * 82_962


def new(dtype=np.float64, **options):
    options = {"channels": TOP, "hidden": 9, "output_size": 3, "dtype": dtype} | options
    rng = np.random.default_rng(6)
    return faster_rcnn.faster_rcnn(rng, trunk(dtype), CLASSES, stride=STRIDE, **options)


def test_counts():
    """57,028,009 plain, and 58,506,305 with three deformable layers and deformable pooling."""
    head = faster_rcnn.faster_head(Zeros(), 21)
    assert head.first.weight.shape == (1024, 7 * 7 * 256)
    assert (head.score.weight.shape, head.box.weight.shape) == ((21, 1024), (84, 1024))
    assert (head.pool.spatial_scale, head.pool.output_size, head.classes) == (1 / 16, 7, 21)
    reduction = 2048 * 256 + 256
    assert TRUNK + reduction + count(head) == 57_028_009
    branch = layers.deformable(head, ["pool"]).pool.branch
    assert count(branch) == 1_229_410
    assert TRUNK + reduction + count(head) + count(branch) + OFFSET_CONVS == 58_506_305


def test_the_head_by_hand():
    """Two hidden layers, each with ReLU; the last ones are linear."""
    net, drawn = new(), batch(fixed=True)
    rois = np.insert(drawn.proposals[1], 0, 1, axis=1)
    top, y = net.maps(Tape(), drawn.images)[1], []
    hidden = net.head.pool(Tape(), top, rois).reshape(len(rois), -1)
    for layer in (net.head.first, net.head.second):
        y.append(hidden @ layer.weight.T + layer.bias)
        hidden = np.maximum(y[-1], 0)
    assert all((a < 0).any() for a in y)
    for found, layer in zip(net(Tape(), drawn.images, rois), (net.head.score, net.head.box),
                            strict=True):  # fmt: skip
        own = hidden @ layer.weight.T + layer.bias
        assert (own < 0).any()
        np.testing.assert_allclose(found, own, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("agnostic", "outputs"), [(True, 4), (False, 4 * CLASSES)])
def test_boxes_of_a_class_or_of_all(agnostic, outputs):
    drawn = batch(fixed=True)
    rois = np.insert(drawn.proposals[1], 0, 1, axis=1)
    scores, deltas = new(agnostic=agnostic)(Tape(), drawn.images, rois)
    assert scores.shape == (len(rois), CLASSES)
    assert deltas.shape == (len(rois), outputs)


def few(net, tape, batch):
    """The loss of a sample of 6 RoIs of each image."""
    return two_stage.loss(net, tape, batch, number=6, foreground=0.5)


@pytest.mark.parametrize("rule", [("paper", None), ("align", 2)])
@pytest.mark.parametrize("pool", ["plain", "deformable"])
def test_gradients(pool, rule):
    net = new(bins=rule[0], samples=rule[1])
    if pool == "deformable":
        net = deformed(net, [*ROI_LAYERS, "trunk.res5"])
        assert {"head.pool.branch.bias", "trunk.res5.branch.bias"} < layers.parameters(net).keys()
    assert_gradients(net, few, batch(1, fixed=True))


def test_gradients_of_class_agnostic_boxes():
    assert_gradients(new(agnostic=True), two_stage.loss, batch(1, fixed=True))


EVERY = {"number": 1000, "foreground": 1.0}


@pytest.mark.parametrize("agnostic", [False, True])
def test_the_loss_by_hand(agnostic):
    """RoI by RoI: only the box of the RoI's own class counts."""
    net, drawn = new(agnostic=agnostic), batch(fixed=True)
    expected, R = 0.0, 0
    for n, truths in enumerate(drawn.truths):
        given = np.vstack([drawn.proposals[n], truths.boxes])
        found = boxes.assign(given, truths.boxes, truths.kinds)
        scores, deltas = net(Tape(), drawn.images, np.insert(given, 0, n, axis=1))
        for r, label in enumerate(found.labels):
            power = np.exp(scores[r])
            expected, R = expected - np.log(power[label] / power.sum()), R + 1
            if label:
                at = 0 if agnostic else 4 * label
                d = abs(deltas[r, at : at + 4] - found.targets[r])
                expected += np.where(d < 1, d * d / 2, d - 0.5).sum()
    value = two_stage.loss(net, Tape(), drawn, **EVERY)
    assert float(value) == pytest.approx(expected / R, rel=1e-12)


def test_another_loss_is_seen():
    """The boxes of all classes learn, or those of the first set."""
    net, drawn = new(), batch(fixed=True)

    def wrong_with(repeat):
        def wrong(net, tape, batch):
            rng = np.random.default_rng(batch.seed)
            given = two_stage.sampled(rng, batch.proposals, batch.truths, SIZE)
            scores, deltas = net(tape, batch.images, given.rois)
            weight = np.zeros_like(deltas) + (given.labels > 0)[:, None]
            if not repeat:
                weight[:, 4:] = 0
            targets = np.tile(given.targets, CLASSES)
            of_boxes = tape.smooth_l1(deltas, targets, weight)
            return total(tape, tape.softmax_loss(scores, given.labels), of_boxes)

        return wrong

    for repeat in (True, False):
        gradients = gradients_of(net, wrong_with(repeat), drawn)
        with pytest.raises(AssertionError):
            assert_gradients(net, two_stage.loss, drawn, gradients)


def test_converted_and_plain_outputs_are_equal():
    """Section 2.3: before training, bit for bit, and a fully connected branch of 2 k k outputs."""
    net, drawn = new(), batch(fixed=True)
    rois = np.insert(np.round(drawn.proposals[0]), 0, 0, axis=1)
    made = layers.deformable(net, [*ROI_LAYERS])
    for ours, theirs in zip(net(Tape(), drawn.images, rois), made(Tape(), drawn.images, rois),
                            strict=True):  # fmt: skip
        assert ours.any()
        np.testing.assert_array_equal(ours, theirs)
    assert made.head.pool.branch.weight.shape == (2 * 3 * 3, 3 * 3 * TOP)


def test_the_rate_of_the_offsets():
    """beta = 0.01 for the fully connected layer alone (section 2.3)."""
    net = deformed(new(), [*ROI_LAYERS, "trunk.res5"])
    slow = [n for n in layers.parameters(net) if optimisers.multiplier(n, OFFSET_RATES) == 0.01]
    assert slow == ["head.pool.branch.weight", "head.pool.branch.bias"]


def test_it_starts_with_a_guess():
    """The last layers start small: all classes are equally likely, and boxes stay."""
    drawn = batch(1, fixed=True)
    scores, deltas = new()(Tape(), drawn.images, np.array([[0, 1, 1, 9, 9.0], [0, 2, 4, 30, 20]]))
    assert abs(scores).max() < 0.3
    assert abs(deltas).max() < 0.3


def test_it_learns():
    """The loss falls, and it finds what it has learnt, of the right class."""
    drawn = batch(1, dtype=np.float32, fixed=True)
    net = layers.deformable(new(np.float32, hidden=24), [*ROI_LAYERS, "trunk.res5"])
    assert_learns(net, drawn, 0.01)
    assert net.head.pool.branch.weight.any()


def test_errors():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="classes is 1, expected 2 or more"):
        faster_rcnn.faster_head(rng, 1, channels=2, hidden=2)
    with pytest.raises(ValueError, match="x has 8 channels, expected those of the layer: 5"):
        new(channels=5)(Tape(), batch().images, np.array([[0, 1, 1, 9, 9.0]]))
