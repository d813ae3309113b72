"""Region proposal networks: counts, gradients, targets on the maps, proposals, and detections."""

import numpy as np
import pytest
from small_stages import (
    ANCHORS,
    CLASSES,
    SIZE,
    TOP,
    WIDTH,
    Zeros,
    assert_gradients,
    batch,
    count,
    deformed,
    gradients_of,
    trunk,
)

from deformable_convnets.reference.networks import (
    Tape,
    boxes,
    layers,
    metrics,
    optimisers,
    rpn,
    training,
)
from deformable_convnets.reference.networks.anchors import Anchors, Truths, assign_anchors
from deformable_convnets.reference.networks.rpn import Batch, ProposalNetwork

A = ANCHORS.number
NONE = Truths(np.zeros((0, 4)), [])
both = pytest.mark.parametrize("new", [lambda **o: aware(**o), lambda **o: on_res4(**o)])


def aware(dtype=np.float64, classes=CLASSES):
    rng = np.random.default_rng(5)
    return rpn.category_aware_rpn(
        rng, trunk(dtype), classes, channels=TOP, anchors=ANCHORS, dtype=dtype
    )


def on_res4(dtype=np.float64):
    """A 2-class RPN with a hidden layer, on a trunk that ends with res4."""
    made = rpn.rpn(np.random.default_rng(5), WIDTH, hidden=7, anchors=ANCHORS, dtype=dtype)
    return ProposalNetwork(trunk(dtype, res5=False), made, top=False)


def test_counts():
    """Section 1.4 of the counts: 4,746,806 on conv4, and 44,828,961 with trunk and reduction."""
    made = rpn.rpn(Zeros())
    assert count(made) == 4_746_806
    assert made.hidden.weight.shape == (512, 1024, 3, 3)
    assert (made.score.weight.shape, made.box.weight.shape) == ((18, 512, 1, 1), (36, 512, 1, 1))
    heads = rpn.category_aware_rpn(Zeros(), None, 21).rpn
    assert heads.hidden is None
    assert (heads.score.weight.shape, heads.box.weight.shape) == (
        (9 * 21, 1024, 1, 1), (36, 1024, 1, 1)
    )  # fmt: skip
    reduction = 2048 * 1024 + 1024
    assert 42_500_160 + reduction + count(heads) == 44_828_961


@both
def test_gradients(new):
    net, drawn = new(), batch(1)
    assert_gradients(net, rpn.loss, drawn)


def test_gradients_with_a_deformable_trunk():
    net = deformed(aware(), ["trunk.res5"])
    assert "trunk.res5.branch.weight" in layers.parameters(net)
    assert_gradients(net, rpn.loss, batch(1))


def test_another_loss_is_seen():
    """Boxes of the background counted too, and labels of another order of anchors."""
    net, drawn = aware(), batch()

    def every(net, tape, batch):
        of_boxes = tape.smooth_l1(net(tape, batch.images)[1], np.zeros((2, 4 * A, 8, 10)))
        return rpn.total(tape, rpn.loss(net, tape, batch), of_boxes)

    def other(net, tape, batch):
        net.rpn.anchors = Anchors(ANCHORS.scales[::-1], ANCHORS.ratios, ANCHORS.stride)
        return rpn.loss(net, tape, batch)

    for wrong in (every, other):
        gradients = gradients_of(net, wrong, drawn)
        net.rpn.anchors = ANCHORS
        with pytest.raises(AssertionError):
            assert_gradients(net, rpn.loss, drawn, gradients)


def test_on_res4_of_a_whole_trunk_is_refused():
    """Of which res5 would learn nothing."""
    net = ProposalNetwork(trunk(), on_res4().rpn, top=False)
    with pytest.raises(ValueError, match=r"the result does not depend on trunk\.res5\.weight"):
        gradients_of(net, rpn.loss, batch())


@both
def test_the_loss_by_hand(new):
    """Anchor by anchor, all of them: `number` is as large as that."""
    net, drawn = new(), batch()
    scores, deltas = net(Tape(), drawn.images)
    K, laid = net.rpn.classes, ANCHORS.boxes((8, 10))
    assert scores.shape == (2, A * K, 8, 10)
    assert deltas.shape == (2, A * 4, 8, 10)
    losses, moves = [], 0.0
    for n, truths in enumerate(drawn.truths):
        kinds = truths.kinds if K > 2 else np.ones(2, int)
        found = assign_anchors(laid, Truths(truths.boxes, kinds), SIZE, border=None)
        assert (found.labels > 0).sum() >= 2
        for r in np.flatnonzero(found.labels >= 0):
            (i, j), a = divmod(r // A, 10), r % A
            own = np.exp(scores[n, a * K : (a + 1) * K, i, j])
            losses.append(-np.log(own[found.labels[r]] / own.sum()))
            if found.labels[r]:
                d = abs(deltas[n, a * 4 : (a + 1) * 4, i, j] - found.targets[r])
                moves += np.where(d < 1, d * d / 2, d - 0.5).sum()
    expected = np.mean(losses) + moves / len(losses)
    value = rpn.loss(net, Tape(), drawn, number=2000, foreground=1.0, border=None)
    assert float(value) == pytest.approx(expected, rel=1e-12)


def test_the_sample_of_anchors():
    """As many as asked of each image; the seed decides which."""
    net, drawn = aware(), batch()
    seen = []

    class Spy(Tape):
        def softmax_loss(self, x, labels):
            seen.append(labels)
            return super().__getattr__("softmax_loss")(x, labels)

    for seed in (0, 0, 1):
        rpn.loss(net, Spy(), drawn._replace(seed=seed), number=20, foreground=0.1)
    first, again, other = (labels.reshape(2, A, 8, 10) for labels in seen)
    assert [(each >= 0).sum() for each in first] == [20, 20]
    assert [(each > 0).sum() for each in first] == [2, 2]
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_proposals_by_hand():
    """Two cells, one anchor of 4 x 4: the surer one moves by its side, the other one grows."""
    anchors = Anchors((4,), (1,), 8)
    net = rpn.rpn(np.random.default_rng(0), 1, hidden=None, anchors=anchors)
    scores = np.array([[0.0, 0], [1, 2]]).reshape(1, 2, 1, 2)
    deltas = np.zeros((1, 4, 1, 2))
    deltas[0, 1, 0, 1] = 10  # dy = 1
    deltas[0, 2, 0, 0] = np.log(2) / 0.2
    found = rpn.propose(net, (scores, deltas), (12, 16), least=0)[0]
    np.testing.assert_allclose(found.boxes, [[10, 6, 14, 10], [0, 2, 8, 6]])
    np.testing.assert_allclose(found.scores, 1 / (1 + np.exp([-2.0, -1])))
    assert len(rpn.propose(net, (scores, deltas), (12, 16), least=4.5)[0].boxes) == 0
    assert len(rpn.propose(net, (scores, deltas), (12, 16), least=0, before=1)[0].boxes) == 1
    assert len(rpn.propose(net, (scores, deltas), (12, 16), least=0, after=1)[0].boxes) == 1
    clipped = rpn.propose(net, (scores, deltas), (8, 16), least=0)[0]
    np.testing.assert_allclose(clipped.boxes, [[10, 6, 14, 8], [0, 2, 8, 6]])
    gone = rpn.propose(net, (scores, deltas), (5, 16), least=0)[0]
    np.testing.assert_allclose(gone.boxes, [[0, 2, 8, 5]])  # the other one is empty now


@both
def test_proposals(new):
    """In the image, best first, large enough, and none beside another."""
    net, drawn = new(), batch(3)
    maps = net(Tape(), drawn.images)
    every = rpn.propose(net.rpn, maps, SIZE, least=3)
    fewer = rpn.propose(net.rpn, maps, SIZE, least=3, after=5)
    assert len(every) == 3
    for found, few in zip(every, fewer, strict=True):
        boxes.checked("found", found.boxes, SIZE)
        assert len(found.scores) == len(found.boxes) > 5
        assert (np.diff(found.scores) <= 0).all()
        assert (found.boxes[:, 2:] - found.boxes[:, :2]).min() >= 3
        assert np.triu(metrics.overlaps(found.boxes, found.boxes), 1).max() <= 0.7
        np.testing.assert_array_equal(few.boxes, found.boxes[:5])
    assert [len(each.boxes) for each in rpn.propose(net.rpn, maps, SIZE, least=41)] == [0] * 3


def train(net, drawn, rate=0.01, iterations=60):
    adam = optimisers.Adam(multipliers={"*branch.*": 0.1})
    state = training.State(net, adam, np.random.default_rng(0))
    return training.train(
        state, lambda rng: drawn._replace(seed=rng.integers(2**32)), rpn.loss,
        iterations=iterations, rate=lambda i: rate,
    )  # fmt: skip


def test_the_one_stage_detector_learns():
    """The loss falls, and it finds what it has learnt, of the right class."""
    drawn = batch(2, dtype=np.float32)
    net = layers.deformable(aware(np.float32), ["trunk.res5"])
    state = train(net, drawn, 0.02, iterations=60)
    assert np.mean(state.losses[-10:]) < np.mean(state.losses[:3]) / 2
    assert net.trunk.res5.branch.weight.any()
    assert {a.dtype.name for a in layers.parameters(net).values()} == {"float32"}
    found = rpn.detect(net, drawn.images, least=0.3)
    right = 0
    for each, truths in zip(found, drawn.truths, strict=True):
        assert list(each) == [1, 2]
        for box, kind in zip(truths.boxes, truths.kinds, strict=True):
            right += (metrics.overlaps(each[kind].boxes, box[None]) >= 0.5).any()
    assert right >= 3  # of 4
    away = train(aware(np.float32), drawn, -0.001, 5)
    assert away.losses[-1] > away.losses[0]


def test_the_proposals_learn():
    drawn = batch(2, dtype=np.float32)
    net = on_res4(np.float32)

    def recall(net):
        found = rpn.propose(net.rpn, net(Tape(), drawn.images), SIZE, after=8, least=4)
        return np.mean([
            (metrics.overlaps(each.boxes, truths.boxes).max(axis=0, initial=0) >= 0.5).mean()
            for each, truths in zip(found, drawn.truths, strict=True)
        ])  # fmt: skip

    before = recall(net)
    state = train(net, drawn, 0.02, iterations=60)
    assert np.mean(state.losses[-10:]) < np.mean(state.losses[:3]) / 2
    assert recall(net) > max(before, 0.7)


@both
def test_no_objects(new):
    """A step with background only, with an image of each kind, and with no anchor that counts."""
    net, drawn = new(), batch(1)
    images = np.concatenate([drawn.images, drawn.images[:, :, ::-1]])
    for given in (
        Batch(drawn.images, [NONE]),
        Batch(images, [NONE, *drawn.truths]),
    ):
        gradients = gradients_of(net, rpn.loss, given)
        assert all(np.isfinite(a).all() for a in gradients.values())
        assert gradients["rpn.score.weight"].any()
        assert gradients["rpn.box.weight"].any() == (len(given.truths) == 2)
    beyond = Batch(drawn.images[:, :, :8, :8], [NONE])
    assert float(rpn.loss(net, Tape(), beyond)) == 0
    gradients = gradients_of(net, rpn.loss, beyond)
    assert not any(a.any() for a in gradients.values())


def test_errors():
    net, drawn = aware(), batch(1)
    rng, images = np.random.default_rng(0), drawn.images
    with pytest.raises(ValueError, match="images are 3 x 40, expected at least the stride of the"):
        net(Tape(), images[:, :, :3])
    with pytest.raises(ValueError, match="classes is 1, expected 2 or more"):
        rpn.rpn(rng, 4, 1)
    wrong = Truths(drawn.truths[0].boxes, [1, CLASSES])
    with pytest.raises(ValueError, match="a kind of image 0 is 3, expected 1 to 2"):
        rpn.loss(net, Tape(), drawn._replace(truths=[wrong]))
    assert np.isfinite(rpn.loss(on_res4(), Tape(), drawn._replace(truths=[wrong])))
    with pytest.raises(ValueError, match=r"truths of image 0\[0\] is \(5, 1, 3, 9\), expected x1"):
        rpn.loss(net, Tape(), drawn._replace(truths=[Truths(np.array([[5.0, 1, 3, 9]]), [1])]))
    with pytest.raises(ValueError, match="truths of 0 images, expected 1"):
        rpn.loss(net, Tape(), drawn._replace(truths=[]))
    for name in ("before", "after"):
        with pytest.raises(ValueError, match=f"{name} is 0, expected 1 or more"):
            rpn.propose(net.rpn, net(Tape(), images), SIZE, **{name: 0})
    with pytest.raises(ValueError, match="before is 0, expected 1 or more"):
        rpn.detect(net, images, before=0)
    scores, deltas = net(Tape(), images)
    with pytest.raises(ValueError, match=r"scores\[\d+\] is nan, expected finite numbers"):
        rpn.propose(net.rpn, (scores + np.nan, deltas), SIZE, least=0)
    with pytest.raises(ValueError, match=r"deltas\[0\] is \(nan, nan, nan, nan\), expected finite"):
        rpn.propose(net.rpn, (scores, deltas + np.nan), SIZE)


def test_predictions_of_the_one_stage_detector():
    """Of each anchor that stays in the image: its classes, and its one box."""
    net, drawn = aware(), batch(2)
    scores, deltas = net(Tape(), drawn.images)
    found = rpn.predict(net, drawn.images)
    assert len(found) == 2
    for n, each in enumerate(found):
        assert each.scores.shape == (8 * 10 * A, CLASSES)
        np.testing.assert_allclose(each.scores.sum(axis=1), 1)
        row = (3 * 10 + 7) * A + 4
        power = np.exp(scores[n].reshape(A, CLASSES, 8, 10)[4, :, 3, 7])
        np.testing.assert_allclose(each.scores[row], power / power.sum())
        moved = deltas[n].reshape(A, 4, 8, 10)[4, :, 3, 7]
        laid = ANCHORS.boxes((8, 10))[row]
        box = boxes.decode(laid[None], moved[None], SIZE, crossing=True)
        np.testing.assert_allclose(each.boxes[row], box)
    fewer = rpn.predict(net, drawn.images, before=9)[0]
    highest = np.sort(1 - found[0].scores[:, 0])[-9:]
    np.testing.assert_allclose(np.sort(1 - fewer.scores[:, 0]), highest)
    nothing = rpn.detect(net, drawn.images, least=1.0)
    assert [len(d.boxes) for each in nothing for d in each.values()] == [0] * 4
