"""R-FCN: its counts, its gradients, its zero start, what it learns, and what it refuses."""

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
    layers,
    rfcn,
    two_stage,
)
from deformable_convnets.reference.networks.rfcn import ROI_LAYERS
from deformable_convnets.reference.networks.rpn import total

TRUNK, REDUCTION, OFFSET_CONVS = 42_500_160, 2048 * 1024 + 1024, 3 * 82_962


def new(dtype=np.float64, **options):
    options = {"channels": TOP, "output_size": 3, "dtype": dtype} | options
    return rfcn.rfcn(np.random.default_rng(6), trunk(dtype), CLASSES, stride=STRIDE, **options)


def test_counts():
    """46,054,861 as released; 48,513,647 deformable, with one group: 2 k k (C + 1) offset maps."""
    head = rfcn.rfcn_head(Zeros(), 21)
    assert head.score.score.weight.shape == (49 * 21, 1024, 1, 1)
    assert head.box.score.weight.shape == (392, 1024, 1, 1)
    assert (head.score.spatial_scale, head.score.output_size, head.classes) == (1 / 16, 7, 21)
    plain = TRUNK + REDUCTION + count(head)
    assert plain == 46_054_861
    made = layers.deformable(head, ["score", "box"])
    branches = made.score.branch, made.box.branch
    assert [count(branch) for branch in branches] == [2_109_450, 100_450]
    assert plain + sum(map(count, branches)) + OFFSET_CONVS == 48_513_647
    classes_only = rfcn.rfcn_head(Zeros(), 21, box_sets=0)
    assert classes_only.box is None
    assert TRUNK + REDUCTION + count(classes_only) == 45_653_061
    made = layers.deformable(classes_only, ["score"])
    assert TRUNK + REDUCTION + count(made) + OFFSET_CONVS == 48_011_397


def few(net, tape, batch):
    """The loss of a sample of 6 RoIs of each image."""
    return two_stage.loss(net, tape, batch, number=6, foreground=0.5)


@pytest.mark.parametrize("rule", [("paper", None), ("align", 2)])
@pytest.mark.parametrize("pool", ["plain", "deformable"])
def test_gradients(pool, rule):
    net = new(bins=rule[0], samples=rule[1])
    if pool == "deformable":
        net = deformed(net, [*ROI_LAYERS, "trunk.res5"])
        sizes = [net.head.score.branch.bias.size, net.head.box.branch.bias.size]
        assert sizes == [2 * 9 * CLASSES, 2 * 9]
    assert_gradients(net, few, batch(1, fixed=True))


def test_the_background_has_a_box_that_nobody_trains():
    """As released: of the two sets of boxes, RoIs of objects take the second."""
    net, drawn = new(), batch(fixed=True)
    gradients = gradients_of(net, two_stage.loss, drawn)
    maps = gradients["head.box.score.bias"].reshape(2, 4, 9)
    assert not maps[0].any()
    assert maps[1].all()


@pytest.mark.parametrize("sets", [0, 1, 2, CLASSES])
def test_sets_of_boxes(sets):
    """One for all classes, one for objects, one for each class, or none: the proposals stay."""
    net, drawn = new(box_sets=sets), batch(fixed=True)
    found = two_stage.predict(net, drawn.images, drawn.proposals)
    rois = np.insert(drawn.proposals[0], 0, 0, axis=1)
    scores, deltas = net(Tape(), drawn.images, rois)
    assert scores.shape == (len(rois), CLASSES)
    assert deltas is None if sets == 0 else deltas.shape == (len(rois), 4 * sets)
    for kind in range(1, CLASSES):
        at = 4 * min(kind, sets - 1)
        own = np.zeros((len(rois), 4)) if sets == 0 else deltas[:, at : at + 4]
        expected = boxes.decode(drawn.proposals[0], own, SIZE)
        np.testing.assert_allclose(found[0].of_class(kind), expected, rtol=1e-12)
    gradients = gradients_of(net, two_stage.loss, drawn)
    assert gradients.keys() == layers.parameters(net).keys()


def test_gradients_without_boxes():
    assert_gradients(new(box_sets=0), two_stage.loss, batch(1, fixed=True))


def test_another_loss_is_seen():
    """The first set of boxes learns instead of the second."""
    net, drawn = new(), batch(fixed=True)

    def wrong(net, tape, batch):
        rng = np.random.default_rng(batch.seed)
        given = two_stage.sampled(rng, batch.proposals, batch.truths, SIZE)
        scores, deltas = net(tape, batch.images, given.rois)
        weight = np.zeros_like(deltas)
        weight[given.labels > 0, :4] = 1
        of_boxes = tape.smooth_l1(deltas, np.tile(given.targets, 2), weight)
        return total(tape, tape.softmax_loss(scores, given.labels), of_boxes)

    gradients = gradients_of(net, wrong, drawn)
    with pytest.raises(AssertionError):
        assert_gradients(net, two_stage.loss, drawn, gradients)


def test_the_vote_by_hand():
    """Maps that are constants: a class has the mean of those of its bins."""
    head = rfcn.rfcn_head(np.random.default_rng(0), CLASSES, channels=1, output_size=2,
                          stride=1, dtype=np.float64)  # fmt: skip
    head.score.score.weight[...] = 0
    head.score.score.bias[...] = np.arange(12)
    rois = np.array([[0, 1, 2, 5, 7.0], [0, 0, 0, 6, 6]])
    scores, _ = head(Tape(), np.zeros((1, 1, 8, 9)), rois)
    np.testing.assert_allclose(scores, [[1.5, 5.5, 9.5]] * 2)


def test_converted_and_plain_outputs_are_equal():
    """Section 2.3: before training, bit for bit on whole numbers."""
    net = new()
    for name, a in layers.parameters(net).items():
        sparse = np.random.default_rng(len(name)).integers(-6, 7, a.shape)
        a[...] = np.where(abs(sparse) == 1, sparse, 0)
    images = np.random.default_rng(5).integers(-1, 2, (1, 1, *SIZE)).astype(float)
    rois = np.insert(batch(fixed=True).proposals[0], 0, 0, axis=1)
    made = layers.deformable(net, [*ROI_LAYERS, "trunk.res5"])
    for ours, theirs in zip(net(Tape(), images, rois), made(Tape(), images, rois), strict=True):
        assert ours.any()
        np.testing.assert_array_equal(ours, theirs)


def test_it_learns():
    """The loss falls, and it finds what it has learnt, of the right class."""
    drawn = batch(1, dtype=np.float32, fixed=True)
    net = layers.deformable(new(np.float32), [*ROI_LAYERS, "trunk.res5"])
    assert_learns(net, drawn, 0.02)
    assert net.head.score.branch.weight.any()
    assert net.head.box.branch.weight.any()


def test_errors():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="classes is 1, expected 2 or more"):
        rfcn.rfcn_head(rng, 1, channels=2)
    with pytest.raises(ValueError, match="box_sets is 4, expected 0, 1, 2 or classes = 3"):
        rfcn.rfcn_head(rng, 3, channels=2, box_sets=4)
    with pytest.raises(ValueError, match="x has 8 channels, expected groups"):
        new(channels=5)(Tape(), batch().images, np.array([[0, 1, 1, 9, 9.0]]))
