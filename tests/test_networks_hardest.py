"""Hard example mining: the RoIs of the largest losses, image by image, are those that learn."""

import device_arrays as device
import numpy as np
import pytest
from small_stages import (
    ANCHORS,
    CLASSES,
    SIZE,
    STRIDE,
    TOP,
    WIDTH,
    assert_gradients,
    batch,
    deformed,
    trunk,
)

from deformable_convnets.reference.networks import Tape, layers, rfcn, rpn, two_stage
from deformable_convnets.reference.networks.anchors import Truths
from deformable_convnets.reference.networks.device import placed
from deformable_convnets.reference.networks.rpn import Batch
from deformable_convnets.reference.networks.two_stage import Sampled, hardest_of, losses_of

FEW = {"hardest": True, "number": 5}


def new(box_sets=2):
    options = {"channels": TOP, "output_size": 3, "dtype": np.float64, "box_sets": box_sets}
    return rfcn.rfcn(np.random.default_rng(6), trunk(), CLASSES, stride=STRIDE, **options)


def every(drawn):
    """All RoIs of a batch."""
    rng = np.random.default_rng(0)
    return two_stage.sampled(rng, drawn.proposals, drawn.truths, SIZE, number=10**6, foreground=1.0)


def rows_of(drawn, rows):
    return Sampled(*(a[rows] for a in drawn))


@pytest.mark.parametrize("box_sets", [0, 1, 2, CLASSES])
def test_losses_of_rois_by_one(box_sets):
    """Each is what `roi_loss` says of a sample of this RoI alone."""
    net, drawn = new(box_sets), batch(2, fixed=True)
    found, top = every(drawn), net.maps(Tape(), drawn.images)[1]
    scores, deltas = net.judged(Tape(), top, found.rois)
    losses = losses_of(scores, deltas, found)
    assert losses.shape == (len(found.rois),)
    for r, each in enumerate(losses):
        alone = two_stage.roi_loss(net, Tape(), top, rows_of(found, [r]))
        assert float(alone) == pytest.approx(each, rel=1e-12)
    assert float(two_stage.roi_loss(net, Tape(), top, found)) == pytest.approx(losses.mean())


def test_the_largest_of_each_image():
    net, drawn = new(), batch(2, fixed=True)
    found, top = every(drawn), net.maps(Tape(), drawn.images)[1]
    losses = losses_of(*net.judged(Tape(), top, found.rois), found)
    options = drawn.proposals, drawn.truths, SIZE
    kept = hardest_of(net, Tape(), top, *options, number=5)
    assert kept.rois[:, 0].tolist() == [0] * 5 + [1] * 5
    assert len(set(kept.labels)) > 1
    of_kept = losses_of(*net.judged(Tape(), top, kept.rois), kept)
    for n in (0, 1):
        expected = np.sort(losses[found.rois[:, 0] == n])[-5:]
        np.testing.assert_allclose(np.sort(of_kept[kept.rois[:, 0] == n]), expected, rtol=1e-12)
    whole = hardest_of(net, Tape(), top, *options, number=1000)
    for a, b in zip(whole, found, strict=True):
        np.testing.assert_array_equal(a, b)
    far = hardest_of(net, Tape(), top, *options, number=1000, lowest=0.1)
    assert 0 < len(far.rois) < len(whole.rois)


def test_others_than_the_largest_are_seen(monkeypatch):
    right = two_stage.losses_of
    monkeypatch.setattr(two_stage, "losses_of", lambda *given: -right(*given))
    with pytest.raises(AssertionError):
        test_the_largest_of_each_image()


def test_the_loss_and_its_gradients():
    """No gradient goes through the choice; the same seed or another one, the same loss."""
    net, drawn = deformed(new(), ["trunk.res5", *rfcn.ROI_LAYERS]), batch(2, fixed=True)
    top = net.maps(Tape(), drawn.images)[1]
    kept = hardest_of(net, Tape(), top, drawn.proposals, drawn.truths, SIZE, number=5)
    value = float(two_stage.loss(net, Tape(), drawn, **FEW))
    assert value == pytest.approx(float(two_stage.roi_loss(net, Tape(), top, kept)))
    assert value == float(two_stage.loss(net, Tape(), drawn._replace(seed=9), **FEW))
    assert value > float(two_stage.loss(net, Tape(), drawn, number=5))
    assert_gradients(net, lambda *given: two_stage.loss(*given, **FEW), drawn)


def test_all_of_one_image_are_compared():
    """The objects too, which are not among its proposals; large scores do not overflow."""
    net, drawn = new(), batch(1, fixed=True)
    top = net.maps(Tape(), drawn.images)[1]
    kept = hardest_of(net, Tape(), top, drawn.proposals, drawn.truths, SIZE, number=1000)
    assert len(kept.rois) == len(drawn.proposals[0]) + len(drawn.truths[0].boxes)
    scores = np.array([[1000.0, 0, 0], [0, 1000, 0]])
    two = Sampled(kept.rois[:2], np.array([0, 0]), np.zeros((2, 4)))
    assert losses_of(scores, None, two).tolist() == [0, 1000]


def test_the_choice_is_not_recorded():
    """A tape that records has the RoIs that learn, and no others."""
    net, drawn = new(), batch(1, fixed=True)
    tape = Tape(layers.parameters(net))
    top = net.maps(tape, drawn.images)[1]
    before = len(tape.records)
    hardest_of(net, tape, top, drawn.proposals, drawn.truths, SIZE, number=4)
    assert len(tape.records) == before


def test_with_an_rpn():
    """Jointly trained, as on COCO: the RoIs of the largest losses, beside the loss of anchors."""
    rng, drawn = np.random.default_rng(5), batch(2, fixed=True)
    net = new()
    net.rpn = rpn.rpn(rng, WIDTH, hidden=7, anchors=ANCHORS, dtype=np.float64)
    hard, easy = (float(two_stage.loss(net, Tape(), drawn, number=4, hardest=h)) for h in (1, 0))
    net.rpn, joint = None, net.rpn
    alone = float(two_stage.loss(net, Tape(), drawn, number=4, hardest=True))
    assert hard > easy
    net.rpn = joint
    maps = joint(Tape(), net.maps(Tape(), drawn.images)[0])
    of_anchors = rpn.rpn_loss(joint, Tape(), maps, drawn, np.random.default_rng(drawn.seed))
    assert hard == pytest.approx(alone + float(of_anchors))


def test_a_loss_that_is_nan_is_not_hidden():
    net, drawn = new(), batch(2, fixed=True)
    drawn.images[0, 0, 9, 9] = np.nan
    with np.errstate(invalid="ignore"):
        assert np.isnan(float(two_stage.loss(net, Tape(), drawn, hardest=True, number=3)))


def test_on_a_device():
    """Whose arrays NumPy refuses: losses are compared on the CPU, and gradients stay there."""
    net, drawn = new(), batch(2, fixed=True)
    there = placed(net, device.asarray)
    tape = Tape(layers.parameters(there), device.Ops())
    value = two_stage.loss(there, tape, drawn._replace(images=device.asarray(drawn.images)), **FEW)
    assert float(value) == pytest.approx(float(two_stage.loss(net, Tape(), drawn, **FEW)))
    assert all(isinstance(a, device.ndarray) for a in tape.gradients(value).values())


def test_nothing():
    net, drawn = new(), batch(2, fixed=True)
    none = Truths(np.zeros((0, 4)), [])
    given = Batch(drawn.images, [none, none], [np.zeros((0, 4)), drawn.proposals[1]])
    assert np.isfinite(two_stage.loss(net, Tape(), given, **FEW))
    assert (
        float(two_stage.loss(net, Tape(), given._replace(proposals=[none.boxes] * 2), **FEW)) == 0
    )


def test_errors():
    net, drawn = new(), batch(1, fixed=True)
    with pytest.raises(ValueError, match="number is 0, expected 1 or more"):
        two_stage.loss(net, Tape(), drawn, hardest=True, number=0)
    for hardest in (True, False):
        with pytest.raises(TypeError, match=r"number is 2\.5, expected an int"):
            two_stage.loss(net, Tape(), drawn, hardest=hardest, number=2.5)
    with pytest.raises(TypeError, match="foreground"):
        two_stage.loss(net, Tape(), drawn, hardest=True, foreground=0.5)
    with pytest.raises(ValueError, match=r"lowest and threshold are 0\.9 and 0\.5, expected"):
        two_stage.loss(net, Tape(), drawn, hardest=True, lowest=0.9)
