"""The two-stage detector: its gradients, its zero start, what it learns, and what it refuses."""

from types import SimpleNamespace

import numpy as np
import pytest
from small_detector import drawn, empty_scene, new, scenes
from small_stages import assert_gradients

from deformable_convnets.reference.networks import (
    Tape,
    boxes,
    detector,
    layers,
    metrics,
    optimisers,
    training,
)
from deformable_convnets.reference.networks.detector import Batch

every_head = pytest.mark.parametrize("head", ["pool", "position-sensitive"])


def gradients_of(net, batch):
    tape = Tape(layers.parameters(net))
    return tape.gradients(detector.loss(net, tape, batch))


@every_head
@pytest.mark.parametrize("deformed", [False, True])
def test_gradients_of_the_whole_loss(head, deformed):
    net, batch = new(head, deformed), drawn()
    assert (batch.labels > 0).any()
    assert (batch.labels == 0).any()
    gradients = gradients_of(net, batch)
    branches = {name.rsplit(".", 2)[0] for name in gradients if ".branch." in name}
    assert branches == ({*detector.roi_layers(net), "res5c"} if deformed else set())
    assert_gradients(net, detector.loss, batch, gradients)


@every_head
def test_another_loss_is_seen(head):
    """Boxes of the background counted too, or the sum divided by the number of objects."""
    net, batch = new(head, True), drawn()
    positive = int((batch.labels > 0).sum())

    def every(net, tape, batch):
        scores, deltas = net(tape, batch.images, batch.rois)
        targets = batch.targets.astype(deltas.dtype)
        return tape.add(tape.softmax_loss(scores, batch.labels), tape.smooth_l1(deltas, targets))

    def fewer(net, tape, batch):
        scores, deltas = net(tape, batch.images, batch.rois)
        weight = np.zeros_like(deltas) + (batch.labels > 0)[:, None]
        targets = batch.targets.astype(deltas.dtype)
        of_boxes = tape.smooth_l1(deltas, targets, weight, count=positive)
        return tape.add(tape.softmax_loss(scores, batch.labels), of_boxes)

    for wrong in (every, fewer):
        tape = Tape(layers.parameters(net))
        gradients = tape.gradients(wrong(net, tape, batch))
        with pytest.raises(AssertionError):
            assert_gradients(net, detector.loss, batch, gradients)


@every_head
def test_the_loss_by_hand(head):
    net, batch = new(head), drawn()
    scores, deltas = net(Tape(), batch.images, batch.rois)
    R = len(batch.rois)
    assert scores.shape == (R, 5)
    assert deltas.shape == (R, 4)
    power = np.exp(scores)
    expected = -np.log(power[np.arange(R), batch.labels] / power.sum(axis=1)).mean()
    for r in np.flatnonzero(batch.labels):
        d = abs(deltas[r] - batch.targets[r])
        expected += np.where(d < 1, d * d / 2, d - 0.5).sum() / R
    assert float(detector.loss(net, Tape(), batch)) == pytest.approx(expected, rel=1e-12)


@every_head
def test_converted_and_plain_outputs_are_equal(head):
    """Section 2.3: before training, bit for bit on exact problems."""
    net = new(head)
    for name, a in layers.parameters(net).items():
        sparse = np.random.default_rng(len(name)).integers(-6, 7, a.shape)
        a[...] = np.where(abs(sparse) == 1, sparse, 0)
    images = np.random.default_rng(5).integers(-1, 2, (2, 1, 32, 32)).astype(float)
    rois = drawn().rois.astype(float)
    names = [*detector.roi_layers(net), "res4a", "res5c"]
    made = layers.deformable(net, names)
    for ours, theirs in zip(net(Tape(), images, rois), made(Tape(), images, rois), strict=True):
        assert ours.any()
        np.testing.assert_array_equal(ours, theirs)
    added = layers.parameters(made).keys() - layers.parameters(net).keys()
    assert added == {f"{name}.branch.{a}" for name in names for a in ("weight", "bias")}


def test_offsets_of_each_head():
    """Figure 3: 2 k k; Figure 4: 2 k k for each class, and 2 k k for the class-agnostic boxes."""
    for head, sizes in (("pool", [18]), ("position-sensitive", [18 * 5, 18])):
        net = new(head, True)
        biases = [a.size for n, a in layers.parameters(net).items()
                  if n.startswith("head.") and n.endswith("branch.bias")]  # fmt: skip
        assert biases == sizes


@every_head
def test_rois_are_scaled_to_the_features(head):
    """A map of a quarter of the image, and RoIs in pixels of the image."""
    net, batch = new(head), drawn()
    scale = net.features(Tape(), batch.images).shape[3] / batch.images.shape[3]
    for name in detector.roi_layers(net):
        assert getattr(net.head, name.removeprefix("head.")).spatial_scale == scale == 0.25


def test_a_batch():
    given = scenes(3)
    made = detector.batch(np.random.default_rng(3), given, per_object=4, background=5)
    objects = [len(s.things) for s in given]
    assert made.images.shape == (3, 1, 32, 32)
    assert np.bincount(made.rois[:, 0].astype(int)).tolist() == [4 * n + 5 for n in objects]
    assert {made.images.dtype, made.rois.dtype, made.targets.dtype} == {np.dtype(np.float32)}
    for n, scene in enumerate(given):
        rows = np.flatnonzero(made.rois[:, 0] == n)
        found = boxes.decode(made.rois[rows, 1:], made.targets[rows], 32)
        for row, box in zip(rows, found, strict=True):
            overlap = metrics.overlaps(made.rois[row : row + 1, 1:], scene.boxes())[0]
            if made.labels[row]:
                best = int(overlap.argmax())
                assert overlap[best] >= 0.5
                assert made.labels[row] == scene.things[best].kind
                np.testing.assert_allclose(box, scene.boxes()[best], atol=1e-4)
            else:
                assert overlap.max() < 0.5


@every_head
@pytest.mark.parametrize("deformed", [False, True])
def test_no_proposals_and_no_objects(head, deformed):
    """A forward and a step: with objects only, with background only, and with nothing at all."""
    net, empty = new(head, deformed, np.float32), empty_scene()
    for given, options in (
        ([*scenes(1), empty], {}), ([empty], {}), ([empty], {"background": 0}),
        ([empty, *scenes(1)], {"background": 0}),
    ):  # fmt: skip
        batch = detector.batch(np.random.default_rng(0), given, **options)
        gradients = gradients_of(net, batch)
        assert gradients.keys() == layers.parameters(net).keys()
        assert all(np.isfinite(grad).all() for grad in gradients.values())
        any_roi = len(batch.rois) > 0
        assert any(grad.any() for grad in gradients.values()) == any_roi
        assert (float(detector.loss(net, Tape(), batch)) > 0) == any_roi
        proposals = [batch.rois[batch.rois[:, 0] == n, 1:] for n in range(len(given))]
        found = detector.detect(net, batch.images, proposals)
        assert [list(each) for each in found] == [[1, 2, 3, 4]] * len(given)
        for each, boxes_in in zip(found, proposals, strict=True):
            assert all(len(d.boxes) == len(d.scores) <= len(boxes_in) for d in each.values())


@every_head
def test_it_learns(head):
    """100 steps: the loss falls, and it finds what it has learnt; with another sign neither."""
    given = scenes(8, 7)
    learnt = detector.batch(np.random.default_rng(3), given, background=4)

    def run(rate, iterations):
        net = layers.deformable(
            detector.detector(np.random.default_rng(1), 5, head=head, width=8, blocks=("res5c",)),
            ["res5c", "head.pool" if head == "pool" else "head.score"],
        )
        adam = optimisers.Adam(multipliers={"*branch.*": 0.1})
        state = training.State(net, adam, np.random.default_rng(0))
        return training.train(
            state, lambda rng: learnt, detector.loss, iterations=iterations, rate=lambda i: rate
        )

    state = run(0.01, 100)
    assert np.mean(state.losses[-10:]) < state.losses[0] / 2
    assert np.mean(run(-0.001, 5).losses[-3:]) > state.losses[0]
    assert {a.dtype.name for a in layers.parameters(state.net).values()} == {"float32"}
    assert all(a.any() for n, a in layers.parameters(state.net).items() if ".branch." in n)
    proposals = [learnt.rois[learnt.rois[:, 0] == n, 1:] for n in range(8)]
    outcomes = []
    for scene, each, found in zip(
        given, proposals, detector.predict(state.net, learnt.images, proposals), strict=True
    ):
        kinds = [thing.kind for thing in scene.things]
        assigned = boxes.assign(each, scene.boxes(), kinds)
        outcomes.append(detector.outcome(found, assigned, scene.boxes()))
    assert detector.success(outcomes, 0.5) > 0.5
    assert detector.success(outcomes, 0.5) >= detector.success(outcomes, 0.8)


def test_a_class_out_of_range():
    net, batch = new("pool"), drawn()
    batch.labels[3] = 5
    with pytest.raises(ValueError, match="a label is 5, expected 0 to 4, or -1, which is ignored"):
        detector.loss(net, Tape(), batch)


def scene_of(box, kinds=(1,)):
    things = [SimpleNamespace(kind=kind) for kind in kinds]
    image = np.zeros((1, 32, 32), np.float32)
    return SimpleNamespace(image=image, things=things, boxes=lambda: np.array([box], float))


def test_errors():
    rng, net, image = np.random.default_rng(0), new("pool"), np.zeros((1, 1, 32, 32))
    for box, said in (
        ((5, 1, 3, 9), r"truths\[0\] is \(5, 1, 3, 9\), expected x1 < x2 and y1 < y2"),
        ((5, 1, 33, 9), r"truths\[0\] is \(5, 1, 33, 9\), expected 0 <= x <= W = 32"),
        ((5, np.nan, 9, 9), r"truths\[0\] is \(5, nan, 9, 9\), expected finite numbers"),
    ):
        with pytest.raises(ValueError, match=said):
            detector.batch(rng, [scene_of(box)])
        said = said.replace("truths", "proposals of image 0")
        with pytest.raises(ValueError, match=said):
            detector.detect(net, image, [np.array([box], float)])
    with pytest.raises(ValueError, match=r"kinds has shape \(2,\), expected one for each of 1"):
        detector.batch(rng, [scene_of((1, 1, 9, 9), (1, 2))])
    with pytest.raises(ValueError, match="there are proposals of 2 images, expected 1"):
        detector.predict(net, image, [np.zeros((0, 4))] * 2)
    with pytest.raises(ValueError, match=r"proposals of image 0 has shape \(0,\), expected \(R, 4"):
        detector.predict(net, image, [np.zeros(0)])
    with pytest.raises(ValueError, match="head is 'rpn', expected 'pool' or 'position-sensitive'"):
        detector.detector(rng, head="rpn")
    with pytest.raises(ValueError, match="classes is 1, expected 2 or more"):
        detector.detector(rng, 1)
    for roi, said in (
        ((1, 0, 0, 9, 9), "expected a batch index, a whole number from 0 to N - 1"),
        ((0, 0, 9, 9, 2), r"boxes of rois\[0\] is \(0, 9, 9, 2\), expected x1 < x2 and y1 < y2"),
        ((0, 0, 9, 9), r"rois has shape \(1, 4\), expected \(R, 5\)"),
    ):
        wrong = Batch(image, np.array([roi], float), np.array([0]), np.zeros((1, 4)))
        with pytest.raises(ValueError, match=said):
            detector.loss(net, Tape(), wrong)


@every_head
def test_no_images(head):
    """Nothing in, nothing out; but nothing to learn from is an error."""
    net = new(head, (), np.float32)
    assert detector.detect(net, np.zeros((0, 1, 64, 64), np.float32), []) == []
    with pytest.raises(ValueError, match="there are no scenes, expected 1 or more"):
        detector.batch(np.random.default_rng(0), [])
