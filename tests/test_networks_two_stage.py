"""Detectors of two stages: samples of RoIs, joint training, rounds, and what is refused."""

from types import SimpleNamespace

import numpy as np
import pytest
from small_stages import (
    ANCHORS,
    CLASSES,
    SIZE,
    STRIDE,
    TOP,
    WIDTH,
    around,
    assert_gradients,
    batch,
    gradients_of,
    trunk,
)

from deformable_convnets.reference.networks import (
    Tape,
    boxes,
    faster_rcnn,
    layers,
    resnet,
    rfcn,
    rpn,
    two_stage,
)
from deformable_convnets.reference.networks.anchors import Anchors, Truths
from deformable_convnets.reference.networks.detections import Predicted, detections
from deformable_convnets.reference.networks.rpn import Batch

NONE = Truths(np.zeros((0, 4)), [])
OPTIONS = {"proposing": {"least": 3, "after": 20}}


def new(joint=False, **options):
    rng = np.random.default_rng(6)
    made = rpn.rpn(rng, WIDTH, hidden=7, anchors=ANCHORS, dtype=np.float64) if joint else None
    options = {"channels": TOP, "hidden": 9, "output_size": 3, "dtype": np.float64} | options
    return faster_rcnn.faster_rcnn(rng, trunk(), CLASSES, rpn=made, stride=STRIDE, **options)


def joint_loss(net, tape, batch):
    return two_stage.loss(net, tape, batch, **OPTIONS)


def test_gradients_of_joint_training():
    """With given proposals: those of the RPN are constants, which differences would move."""
    assert_gradients(new(joint=True), joint_loss, batch(1, fixed=True))


def test_jointly_trained_proposals_are_those_of_the_rpn():
    """As if they had been given: loss and gradients are the same, and none goes through boxes."""
    net, drawn = new(joint=True), batch()
    res4, _ = net.maps(Tape(), drawn.images)
    found = rpn.propose(net.rpn, net.rpn(Tape(), res4), SIZE, before=12000, after=20, least=3)
    given = drawn._replace(proposals=[each.boxes for each in found])
    ours, theirs = (gradients_of(net, joint_loss, each) for each in (drawn, given))
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert ours[name].any()
        np.testing.assert_array_equal(ours[name], theirs[name])
    fewer = two_stage.loss(net, Tape(), drawn, proposing={"least": 3, "after": 5})
    assert float(fewer) != float(joint_loss(net, Tape(), drawn))


def test_the_proposals_of_training_are_more(monkeypatch):
    """As many as the protocol says for training, not for tests; what is asked for goes first."""
    seen = []
    monkeypatch.setattr(two_stage, "propose", lambda *a, **given: (
        seen.append(given), rpn.propose(*a, **given))[1])  # fmt: skip
    joint_loss(new(joint=True), Tape(), batch())
    assert seen == [{"before": 12000, "after": 20, "overlap": 0.7, "least": 3}]


def test_the_joint_loss_is_a_sum():
    net, drawn, few = new(joint=True), batch(fixed=True), {"number": 8}
    res4, top = net.maps(Tape(), drawn.images)
    rng = np.random.default_rng(drawn.seed)
    maps = net.rpn(Tape(), res4)
    first = rpn.rpn_loss(net.rpn, Tape(), maps, drawn, rng, number=50)
    rois = two_stage.sampled(rng, drawn.proposals, drawn.truths, SIZE, **few)
    second = two_stage.roi_loss(net, Tape(), top, rois)
    both = two_stage.loss(net, Tape(), drawn, of_rpn={"number": 50}, **few)
    assert both.shape == ()
    assert float(both) == pytest.approx(float(first) + float(second), rel=1e-14)
    net.rpn = None
    alone = two_stage.loss(net, Tape(), drawn, **few)
    assert float(alone) != float(second)  # another sample: no anchors were drawn before it
    every = {"number": 1000, "foreground": 1.0}
    rois = two_stage.sampled(rng, drawn.proposals, drawn.truths, SIZE, **every)
    second = two_stage.roi_loss(net, Tape(), top, rois)
    assert float(two_stage.loss(net, Tape(), drawn, **every)) == pytest.approx(float(second))


def test_samples_of_rois():
    drawn = batch(2, fixed=True)
    rng = np.random.default_rng(0)
    found = two_stage.sampled(rng, drawn.proposals, drawn.truths, SIZE, number=8, foreground=0.25)
    assert found.rois[:, 0].tolist() == [0] * 8 + [1] * 8
    for n, truths in enumerate(drawn.truths):
        rows = found.rois[:, 0] == n
        assert (found.labels[rows] > 0).sum() == 2
        goal = boxes.decode(found.rois[rows, 1:], found.targets[rows], SIZE)
        for label, box in zip(found.labels[rows], goal, strict=True):
            if label:
                np.testing.assert_allclose(box, truths.boxes[label - 1], atol=1e-9)
    kept = two_stage.sampled(
        rng, [a[:0] for a in drawn.proposals], drawn.truths, SIZE, foreground=1.0
    )
    assert kept.labels.tolist() == [1, 2, 1, 2]  # the objects themselves
    assert not kept.targets.any()
    none = two_stage.sampled(
        rng, [a[:0] for a in drawn.proposals], drawn.truths, SIZE, add_truths=False
    )
    assert (none.rois.shape, none.labels.shape, none.targets.shape) == ((0, 5), (0,), (0, 4))


@pytest.mark.parametrize("joint", [False, True])
def test_no_objects_and_no_proposals(joint):
    net, drawn = new(joint), batch(2, fixed=True)
    nothing = np.zeros((0, 4))
    for truths, proposals in (
        ([NONE, NONE], drawn.proposals), ([NONE, drawn.truths[1]], drawn.proposals),
        ([NONE, NONE], [nothing] * 2), (drawn.truths, [nothing, drawn.proposals[1]]),
    ):  # fmt: skip
        given = Batch(drawn.images, truths, proposals)
        gradients = gradients_of(net, joint_loss, given)
        assert all(np.isfinite(a).all() for a in gradients.values())
        some = any(len(a) for a in proposals)
        assert gradients["head.score.weight"].any() == some
    found = two_stage.detect(net, drawn.images, [nothing, drawn.proposals[1]], least=0.0)
    assert [len(each.boxes) for each in found[0].values()] == [0, 0]
    assert all(len(each.boxes) for each in found[1].values())
    again = two_stage.detect(net, drawn.images, [nothing] * 2, again=2, average=0.5)
    assert [len(d.boxes) for each in again for d in each.values()] == [0] * 4


def test_detecting_with_the_rpn():
    """Its proposals are those of `propose`, and options reach it."""
    net, drawn = new(joint=True), batch(2)
    res4, _ = net.maps(Tape(), drawn.images)
    found = rpn.propose(net.rpn, net.rpn(Tape(), res4), SIZE, after=7, least=3)
    given = two_stage.predict(net, drawn.images, [each.boxes for each in found])
    own = two_stage.predict(net, drawn.images, after=7, least=3)
    for a, b in zip(given, own, strict=True):
        assert len(a.scores) == 7
        np.testing.assert_array_equal(a.scores, b.scores)
        np.testing.assert_array_equal(a.boxes, b.boxes)
    made = two_stage.detect(net, drawn.images, proposing={"after": 7, "least": 3}, least=0.0)
    expected = detections(own[1], least=0.0)
    np.testing.assert_array_equal(made[1][2].boxes, expected[2].boxes)


def test_predictions_per_image():
    """As those of each image alone; each class has the box of its own deltas."""
    net, drawn = new(), batch(2, fixed=True)
    found = two_stage.predict(net, drawn.images, drawn.proposals)
    for n in range(2):
        alone = two_stage.predict(net, drawn.images[n : n + 1], drawn.proposals[n : n + 1])[0]
        np.testing.assert_allclose(alone.scores, found[n].scores, rtol=1e-12)
        np.testing.assert_allclose(alone.boxes, found[n].boxes, rtol=1e-12)
        rois = np.insert(drawn.proposals[n], 0, n, axis=1)
        _, deltas = net(Tape(), drawn.images, rois)
        for kind in range(CLASSES):
            own = boxes.decode(drawn.proposals[n], deltas[:, 4 * kind : 4 * kind + 4], SIZE)
            np.testing.assert_allclose(found[n].of_class(kind), own, rtol=1e-12)


def test_rounds():
    """The second round judges the boxes that came out of the first, of their surest class."""
    net, drawn = new(), batch(2, fixed=True)
    first = two_stage.predict(net, drawn.images, drawn.proposals)
    twice = two_stage.predict(net, drawn.images, drawn.proposals, again=1)
    moved = []
    for each in first:
        own = [b[1 + s[1:].argmax()] for b, s in zip(each.boxes, each.scores, strict=True)]
        moved.append(np.array([box for box in own if (box[2:] > box[:2]).all()]))
    second = two_stage.predict(net, drawn.images, moved)
    for a, b, c in zip(first, second, twice, strict=True):
        np.testing.assert_array_equal(np.vstack([a.scores, b.scores]), c.scores)
        np.testing.assert_array_equal(np.vstack([a.boxes, b.boxes]), c.boxes)


def test_the_background_moves_nothing():
    """It is the surest, and its box is another: the surest of the others moves."""
    scores = np.array([[0.5, 0.1, 0.4], [0.5, 0.4, 0.1]])
    each = np.arange(24.0).reshape(2, 3, 4) + np.array([0, 0, 5, 5])
    moved = two_stage._moved(Predicted(scores, each))
    np.testing.assert_array_equal(moved, [each[0, 2], each[1, 1]])


def test_proposals_of_many_classes_are_by_their_background():
    """The second anchor is likelier an object, the first one likelier of one class."""
    anchors = Anchors((4,), (1,), 8)
    net = rpn.rpn(np.random.default_rng(0), 1, 3, hidden=None, anchors=anchors)
    p = np.array([[0.4, 0.3], [0.6, 0.35], [1e-9, 0.35]])
    maps = np.log(p).reshape(1, 3, 1, 2), np.zeros((1, 4, 1, 2))
    found = rpn.propose(net, maps, (12, 16), least=0)[0]
    np.testing.assert_allclose(found.scores, [0.7, 0.6], atol=1e-6)
    np.testing.assert_array_equal(found.boxes[:, 0], [10, 2])


@pytest.mark.parametrize(("cells", "fits"), [(5, True), (7, True), (8, False), (4, False)])
def test_maps_that_are_just_off(cells, fits):
    """96 pixels of stride 16 are 6 cells; one more or less is padding."""
    made = SimpleNamespace(stages=lambda tape, images: (None, np.zeros((1, 2, 6, cells))))
    images = np.zeros((1, 3, 96, 96), np.float32)
    if fits:
        assert rpn.stages(made, Tape(), images, 16)[0] is None
        return
    with pytest.raises(ValueError, match=f"a map of the trunk is 6 x {cells}, which is not of"):
        rpn.stages(made, Tape(), images, 16)


@pytest.mark.parametrize("make", [faster_rcnn.faster_rcnn, rfcn.rfcn])
def test_on_the_trunk_of_the_paper(make):
    """A narrow deformable ResNet-18, trained jointly: all of it learns, and offsets start at 0."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(1, 3, 80, 96)).astype(np.float32)
    truths = [Truths(np.array([[8, 10, 50, 44], [40, 30, 90, 74.0]]), [1, 2])]
    anchors = Anchors((32,), (0.5, 1))
    made = rpn.rpn(rng, 16, hidden=8, anchors=anchors)
    plain = make(rng, resnet.trunk(rng, 18, width=4, top=8), 3, channels=8, rpn=made)
    roi_layers = (faster_rcnn if make is faster_rcnn.faster_rcnn else rfcn).ROI_LAYERS
    net = layers.deformable(plain, [*resnet.last(plain, 3), *roi_layers])
    drawn = Batch(images, truths)
    assert float(two_stage.loss(net, Tape(), drawn)) == pytest.approx(
        float(two_stage.loss(plain, Tape(), drawn)), rel=1e-5
    )
    gradients = gradients_of(net, two_stage.loss, drawn)
    branches = {name.removesuffix(".branch.weight") for name in gradients if "h.weight" in name}
    assert branches == {*resnet.last(plain, 3), *roi_layers}
    assert all(a.any() and a.dtype == np.float32 for a in gradients.values())
    for found in two_stage.detect(net, images, again=1, average=0.5, most=9)[0].values():
        assert len(found.boxes) <= 9
        boxes.checked("found", found.boxes, images.shape[2:])


def test_a_trunk_of_another_stride():
    """Its boxes would be half as large as they should be, and nothing would say so."""
    rng, images = np.random.default_rng(0), np.zeros((1, 3, 96, 96), np.float32)
    small, given = {"width": 2, "blocks": (1, 1, 1, 1), "top": 8}, [np.array([[9, 9, 40, 40.0]])]
    for stride in (16, 32):
        made = resnet.trunk(rng, 18, stride=stride, **small)
        two = rfcn.rfcn(rng, made, 3, channels=8, output_size=3)
        one = rpn.category_aware_rpn(rng, made, 3, channels=8, anchors=Anchors((32,), (1,)))
        for call in (lambda n=two: two_stage.detect(n, images, given),
                     lambda n=one: rpn.detect(n, images)):  # fmt: skip
            if stride == 16:
                assert len(call()) == 1
                continue
            with pytest.raises(ValueError, match="the trunk is 3 x 3, which is not of stride 16"):
                call()


def test_errors():
    net, drawn = new(), batch(1, fixed=True)
    images = drawn.images
    with pytest.raises(ValueError, match="proposals is None, and the network has no RPN"):
        two_stage.loss(net, Tape(), drawn._replace(proposals=None))
    with pytest.raises(ValueError, match="proposals is None, and the network has no RPN"):
        two_stage.detect(net, images)
    for call in (
        lambda given: two_stage.loss(net, Tape(), drawn._replace(proposals=given)),
        lambda given: two_stage.detect(net, images, given),
    ):
        with pytest.raises(ValueError, match="there are proposals of 2 images, expected 1"):
            call([np.zeros((0, 4))] * 2)
        for box, said in (
            ((5, 1, 3, 9), r"\(5, 1, 3, 9\), expected x1 < x2 and y1 < y2"),
            ((5, 1, 41, 9), r"\(5, 1, 41, 9\), expected 0 <= x <= W = 40"),
            ((5, np.nan, 9, 9), r"\(5, nan, 9, 9\), expected finite numbers"),
        ):
            with pytest.raises(ValueError, match=r"proposals of image 0\[0\] is " + said):
                call([np.array([box], float)])
    with pytest.raises(ValueError, match="the anchors have stride 8, expected 4, that of the maps"):
        two_stage.TwoStage(net.trunk, net.head, rpn.rpn(
            np.random.default_rng(0), WIDTH, anchors=Anchors((10,), (1,), 8)), STRIDE)  # fmt: skip
    wrong = [Truths(drawn.truths[0].boxes, [1, 3])]
    with pytest.raises(ValueError, match="a kind of image 0 is 3, expected 1 to 2"):
        two_stage.loss(net, Tape(), drawn._replace(truths=wrong))
    with pytest.raises(ValueError, match="images are 32 x 3, expected at least the stride"):
        two_stage.detect(net, images[..., :3], [np.zeros((0, 4))])
    with pytest.raises(ValueError, match="again is -1, expected 0 or more"):
        two_stage.detect(net, images, drawn.proposals, again=-1)
    with pytest.raises(ValueError, match=r"boxes of rois\[0\] is \(9, 9, 2, 12\), expected x1"):
        net(Tape(), images, np.array([[0, 9, 9, 2, 12.0]]))
    with pytest.raises(ValueError, match=r"number and foreground are 0 and 0\.25"):
        two_stage.loss(net, Tape(), drawn, number=0)
    near = around(np.random.default_rng(0), drawn.truths[0].boxes)
    assert np.isfinite(two_stage.loss(net, Tape(), drawn._replace(proposals=[near])))
