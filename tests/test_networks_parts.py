"""Figure 7: the moved bins are where the deformable RoI layers look, for the class that is asked.

On a ramp, a map whose value is its own coordinate, the mean of a bin is where its middle is: so the
layer itself says where its bins went, and they are compared with the boxes.
"""

import numpy as np
import pytest
from paper_networks import CLASSES, ROIS, SIZE, detector, one_stage, plain, segmenter
from small_stages import deformed
from tutorial_files import helper

from deformable_convnets.reference.networks import Tape, faster_rcnn, parts, rfcn
from deformable_convnets.reference.networks.roi_layers import DeformPsRoiPool, DeformRoiPool
from deformable_convnets.reference.networks.two_stage import TwoStage

S, H, W = 4, 24, 32  # the stride of a map, and its size
RNG = np.random.default_rng(0)
BEYOND = ROIS + np.array([0, 30, 0, 30, 0])
GIVEN = np.array([[0, 30, 28, 78, 64], [0, 40, 24, 88, 60.0]])


class Branch:
    """In place of a branch: offsets that are the same whatever comes in."""

    def __init__(self, offset):
        self.offset = offset

    def __call__(self, tape, x):
        return np.tile(self.offset.reshape(1, -1), (len(x), 1))


class MapBranch(Branch):
    """Maps of constants, which pooling leaves as they are: one for each offset and bin."""

    def __call__(self, tape, x):
        return np.zeros((1, 1, *x.shape[2:])) + self.offset.reshape(1, -1, 1, 1)


class Trunk:
    """Two maps: the rows and the columns of the cells' middles, in pixels of the image."""

    def stages(self, tape, images):
        ramps = np.indices((H, W), float)[None]
        return ramps, S * (ramps + 0.5)


class Net(TwoStage):
    """A network of one layer on two ramps."""

    def __init__(self, layer, classes):
        head = type("Head", (), {"classes": classes})()
        setattr(head, "pool" if isinstance(layer, DeformRoiPool) else "score", layer)
        super().__init__(Trunk(), head)

    def maps(self, tape, images):
        return Trunk().stages(tape, images)


def with_pool(k, bins):
    offset = RNG.uniform(-1.5, 1.5, (2, k, k))
    samples = 3 if bins == "align" else 4
    layer = DeformRoiPool(2, k, 1 / S, bins, samples, branch=Branch(offset), gamma=0.1)
    return Net(layer, 5), np.broadcast_to(offset, (5, 2, k, k)), layer


def with_votes(k, bins, groups=5):
    """Each class has the two ramps, so scores (y, x) of 5 classes."""
    offset = RNG.uniform(-1.5, 1.5, (groups, 2, k, k))
    samples = 3 if bins == "align" else 4

    def score(tape, x):
        return np.repeat(np.tile(x, (1, 5, 1, 1)), k * k, axis=1)

    branch = MapBranch(offset)
    layer = DeformPsRoiPool(score, k, 1 / S, bins, samples, groups, branch=branch, gamma=0.1)
    return Net(layer, 5), offset, layer


def middles(layer, net, kinds):
    """Where the layer looks: the middles (y, x) of the bins of each RoI, by the ramps."""
    top = top_of(net)
    pooled = layer(Tape(), top, net.as_read(GIVEN, top))
    if isinstance(layer, DeformPsRoiPool):
        pooled = pooled.reshape(len(GIVEN), 5, 2, *pooled.shape[2:])[np.arange(len(GIVEN)), kinds]
    return pooled.transpose(0, 2, 3, 1)


@pytest.mark.parametrize("k", [3, 7])
@pytest.mark.parametrize("make", [with_pool, with_votes])
def test_the_layer_looks_where_the_parts_are(make, k):
    net, offset, layer = make(k, "align")
    images, kinds = np.zeros((1, 1, S * H, S * W)), np.array([2, 4])
    found = parts.moved_parts(net, images, GIVEN, kinds)
    assert found.still.shape == found.moved.shape == (2, k, k, 4)
    seen = middles(layer, net, kinds)
    assert_middles(found.moved, seen)
    for swapped in (found.still, found.moved + 0.01, found.moved[:, ::-1]):
        with pytest.raises(AssertionError):
            assert_middles(swapped, seen)
    h, w = 36, 48
    move = found.moved - found.still
    np.testing.assert_allclose(move[..., 0], 0.1 * w * offset[kinds, 1], atol=1e-12)
    np.testing.assert_allclose(move[..., 3], 0.1 * h * offset[kinds, 0], atol=1e-12)


def assert_middles(moved, seen):
    x1, y1, x2, y2 = np.moveaxis(moved, -1, 0)
    np.testing.assert_allclose(np.stack([y1 + y2, x1 + x2], axis=-1) / 2, seen, atol=1e-9)


def top_of(net):
    return net.maps(Tape(), None)[1]


@pytest.mark.parametrize("make", [with_pool, with_votes])
def test_of_the_released_rule(make):
    """Its samples start at a bin's edge: on average 3/8 of a bin from it, not 1/2."""
    net, _, layer = make(3, "mxnet")
    kinds = np.array([1, 3])
    found = parts.moved_parts(net, np.zeros((1, 1, S * H, S * W)), GIVEN, kinds)
    assert found.still[0, 0, 0, :2].tolist() == [30, 28]
    assert found.still[0, 2, 2, 2:].tolist() == [78, 64]
    assert net.as_read(GIVEN, top_of(net))[0].tolist() == [0, 30, 28, 77, 63]  # the last pixels
    x1, y1, x2, y2 = np.moveaxis(found.moved, -1, 0)
    at = np.stack([y1 + 3 / 8 * (y2 - y1), x1 + 3 / 8 * (x2 - x1)], axis=-1)
    np.testing.assert_allclose(at, middles(layer, net, kinds), atol=1e-9)


def test_class_groups():
    """Fewer groups than classes: those of the background are with the first classes."""
    offset = RNG.uniform(-1, 1, (2, 2, 3, 3))
    layer = DeformPsRoiPool(None, 3, 1 / S, "align", 3, 2, branch=MapBranch(offset))
    net = Net(layer, 4)
    one, two = (parts.moved_parts(net, np.zeros((1, 1, S * H, S * W)), GIVEN, np.array(kinds))
                for kinds in ([0, 2], [1, 3]))  # fmt: skip
    np.testing.assert_array_equal(one.moved, two.moved)
    move = (one.moved - one.still)[:, :, :, 0]
    np.testing.assert_allclose(move, 0.1 * 48 * offset[:, 1], atol=1e-12)


@pytest.mark.parametrize("module", [faster_rcnn, rfcn])
def test_of_the_paper_s_networks(module):
    """The surest class by default; for R-FCN another class has other parts."""
    net = detector(module, True, deformed)
    images = np.random.default_rng(3).normal(size=(1, 3, *SIZE))
    found = parts.moved_parts(net, images, ROIS)
    scores, _ = net(Tape(), images, ROIS)
    np.testing.assert_array_equal(found.kinds, 1 + scores[:, 1:].argmax(axis=1))
    assert abs(found.moved - found.still).max() > 1e-3
    other = parts.moved_parts(net, images, ROIS, 3 - found.kinds)
    assert (other.moved == found.moved).all() == (module is faster_rcnn)
    np.testing.assert_array_equal(found.still[0, 0, 0], [0, 0, 32, 32])
    nothing = parts.moved_parts(net, images, ROIS[:0])
    assert nothing.moved.shape == (0, 2, 2, 4)


def test_errors():
    net, images = detector(rfcn, False, deformed), np.zeros((1, 3, *SIZE))
    for rois, kinds, said in (
        (ROIS, [1, 2], r"kinds are int64 of shape \(2,\), expected a whole number for each of 3"),
        (ROIS, [1, 2, CLASSES], "a kind is 3, expected 0 to 2"),
        (ROIS[:, [0, 3, 2, 1, 4]], None, r"boxes of rois\[0\] is \(64, 0, 0, 64\), expected x1"),
        (
            ROIS + np.array([0, 30, 0, 30, 0]),
            None,
            r"boxes of rois\[0\] is \(30, 0, 94, 64\), expected 0 <=",
        ),
    ):
        with pytest.raises(ValueError, match=said):
            parts.moved_parts(net, images, rois, kinds)
    for other in (one_stage(plain), segmenter("ResNet-18", plain)):
        with pytest.raises(ValueError, match="has no RoI layer, expected Faster R-CNN or R-FCN"):
            parts.moved_parts(other, images, ROIS)
    for module, layer in ((faster_rcnn, "RoiPool"), (rfcn, "PsRoiPool")):
        with pytest.raises(ValueError, match=f"the RoI layer is a plain {layer}, expected a defor"):
            parts.moved_parts(detector(module, False, plain), images, ROIS)


@pytest.mark.parametrize(("module", "k"), [(faster_rcnn, 7), (rfcn, 3)])
def test_the_drawing(module, k):
    """A rectangle for the RoI, and one for each bin, where it is after its move."""
    pyplot = pytest.importorskip("matplotlib.pyplot")
    net = detector(module, False, deformed, output_size=k)
    images = np.random.default_rng(3).normal(size=(1, 3, *SIZE))
    found = parts.moved_parts(net, images, ROIS[:1])
    fig, ax = pyplot.subplots()
    helper("detection_figures").moved_bins(ax, images[0], ROIS[0, 1:], found.moved[0], "a RoI")
    drawn = np.array([[*p.get_xy(), *(p.get_xy() + np.array([p.get_width(), p.get_height()]))]
                      for p in ax.patches]) + 0.5  # fmt: skip
    pyplot.close(fig)
    np.testing.assert_allclose(drawn[0], ROIS[0, 1:])
    np.testing.assert_allclose(drawn[1:], found.moved[0].reshape(k * k, 4), atol=1e-9)
    (left, right), (below, above) = ax.get_xlim(), ax.get_ylim()
    assert 0 <= left + 0.5 < right <= SIZE[1] - 0.5
    assert 0 <= above + 0.5 < below <= SIZE[0] - 0.5  # y goes down
