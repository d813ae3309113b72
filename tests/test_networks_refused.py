"""What the paper's networks refuse, each with one clear error, and what is empty and right."""

import numpy as np
import pytest
from paper_networks import (
    PROPOSALS,
    SIZE,
    TRUNKS,
    TRUTHS,
    detector,
    one_stage,
    plain,
    segmenter,
)
from small_stages import deformed

from deformable_convnets.reference.networks import (
    Tape,
    deeplab,
    faster_rcnn,
    imported,
    layers,
    parts,
    rfcn,
    rpn,
    two_stage,
)
from deformable_convnets.reference.networks.anchors import Truths
from deformable_convnets.reference.networks.rpn import Batch

IMAGES = np.random.default_rng(0).normal(size=(1, 3, *SIZE))
RNG = np.random.default_rng(0)
NETS = {
    "DeepLab": segmenter("ResNet-50", plain),
    "Aligned": segmenter("Aligned-Inception-ResNet", plain),
    "RPN": one_stage(plain),
    "Faster R-CNN": detector(faster_rcnn, False, plain),
    "R-FCN": detector(rfcn, True, deformed),
}
every_network = pytest.mark.parametrize("name", NETS)
second_stage = pytest.mark.parametrize("name", ["Faster R-CNN", "R-FCN"])


def found_by(net, images):
    """Its classes of pixels, or its detections."""
    if isinstance(net, deeplab.DeepLab):
        return deeplab.predict(net, images)
    if isinstance(net, rpn.ProposalNetwork):
        return rpn.detect(net, images)
    return two_stage.detect(net, images, None if net.rpn else PROPOSALS)


def learnt(net, truths=TRUTHS, proposals=PROPOSALS):
    """Its loss."""
    module = rpn if isinstance(net, rpn.ProposalNetwork) else two_stage
    return float(module.loss(net, Tape(), Batch(IMAGES, truths, proposals)))


@every_network
@pytest.mark.parametrize(
    ("images", "error", "said"),
    [
        (IMAGES[:, :, :15], ValueError, "15 x 65, expected at least "),
        (IMAGES[:, :, :, :8], ValueError, "65 x 8, expected at least "),
        (IMAGES[0], ValueError, "images has 3 dimensions, expected 4: N C H W"),
        (IMAGES[:, :2], ValueError, "x has 2 channels, expected groups"),
        (np.zeros((1, 3, *SIZE), int), TypeError, "images have dtype int64, the network float64"),
        (IMAGES.tolist(), TypeError, "images is of type list, expected an array N C H W"),
        (None, TypeError, "images is of type NoneType, expected an array N C H W"),
    ],
)
def test_images(name, images, error, said):
    with pytest.raises(error, match=said):
        found_by(NETS[name], images)


BOXES = {  # the box of a RoI, a proposal or an object, and what is said
    "inverted": ((40, 5, 20, 9), r"\(40, 5, 20, 9\), expected x1 < x2 and y1 < y2"),
    "empty": ((5, 5, 5, 9), r"\(5, 5, 5, 9\), expected x1 < x2 and y1 < y2"),
    "left": ((-1, 5, 9, 9), r"\(-1, 5, 9, 9\), expected 0 <= x <= W = 65 and 0 <= y <= H = 65"),
    "below": ((5, 5, 9, 66), r"\(5, 5, 9, 66\), expected 0 <= x <= W = 65 and 0 <= y <= H = 65"),
    "nan": ((5, np.nan, 9, 9), r"\(5, nan, 9, 9\), expected finite numbers"),
    "inf": ((5, 5, np.inf, 9), r"\(5, 5, inf, 9\), expected finite numbers"),
}


@second_stage
@pytest.mark.parametrize(("box", "said"), BOXES.values(), ids=BOXES)
def test_boxes(name, box, said):
    net, given = NETS[name], np.array([(0, 0, 9, 9), box], float)
    for call, where in (
        (lambda: learnt(net, proposals=[given]), r"proposals of image 0\[1\] is "),
        (lambda: two_stage.detect(net, IMAGES, [given]), r"proposals of image 0\[1\] is "),
        (lambda: learnt(net, truths=[Truths(given, [1, 1])]), r"truths of image 0\[1\] is "),
        (lambda: net(Tape(), IMAGES, np.insert(given, 0, 0, axis=1)), r"boxes of rois\[1\] is "),
    ):
        with pytest.raises(ValueError, match=where + said):
            call()


def test_boxes_of_another_kind():
    net = NETS["R-FCN"]
    for given, error, said in (
        ([[0, 0, 9, 9.0]], TypeError, "is of type list, expected an array of real numbers"),
        (np.zeros((2, 3)), ValueError, r"has shape \(2, 3\), expected \(R, 4\): x1, y1, x2, y2"),
        (np.zeros((1, 4), bool), TypeError, "is of type bool, expected an array of real"),
    ):
        with pytest.raises(error, match=f"proposals of image 0 {said}"):
            learnt(net, proposals=[given])
    for rois, error, said in (
        (None, TypeError, "rois is of type NoneType, expected an array R 5"),
        (np.zeros((1, 4)), ValueError, r"rois has shape \(1, 4\), expected \(R, 5\): batch index"),
        (np.array([[1, 0, 0, 9, 9.0]]), ValueError, r"rois\[0, 0\] is 1, expected a batch index"),
    ):
        with pytest.raises(error, match=said):
            net(Tape(), IMAGES, rois)


@second_stage
def test_no_proposals(name):
    """None at all, of no objects too: a loss, no detections, and empty arrays of the right axes."""
    net, none = NETS[name], np.zeros((0, 4))
    nothing = [Truths(none, [])]
    assert np.isfinite(learnt(net, proposals=[none]))
    assert np.isfinite(learnt(net, nothing, [none]))
    found = two_stage.detect(net, IMAGES, [none], again=1, average=0.5)
    assert [d.boxes.shape for d in found[0].values()] == [(0, 4)] * 2
    scores, deltas = net(Tape(), IMAGES, np.zeros((0, 5)))
    assert (len(scores), len(deltas)) == (0, 0)
    for n in (0, 2):
        with pytest.raises(ValueError, match=f"proposals of {n} images, expected 1"):
            learnt(net, proposals=[none] * n)


def test_no_proposals_of_its_own():
    """No anchor that is large enough: the objects themselves are what is left."""
    net = NETS["R-FCN"]
    given = Batch(IMAGES, TRUTHS)
    assert np.isfinite(two_stage.loss(net, Tape(), given, proposing={"least": 100}))
    found = two_stage.detect(net, IMAGES, proposing={"least": 100})
    assert all(len(d.boxes) == 0 for d in found[0].values())


def test_no_images():
    for name in ("RPN", "R-FCN"):
        assert found_by(NETS[name], IMAGES[:0]) == []
    assert found_by(NETS["DeepLab"], IMAGES[:0]).shape == (0, *SIZE)


@pytest.mark.parametrize("name", ["RPN", "Faster R-CNN", "R-FCN"])
@pytest.mark.parametrize(
    ("kinds", "said"),
    [
        ([1, 3], "a kind of image 0 is 3, expected 1 to 2"),
        ([0, 1], "a kind of image 0 is 0, expected 1 to 2"),
        ([-1, 1], "a kind of image 0 is -1, expected 1 to 2"),
        ([1.0, 2.0], r"kinds of image 0 are float64 of shape \(2,\), expected a whole number for"),
        ([1], r"kinds of image 0 are int64 of shape \(1,\), expected a whole number for each of 2"),
        (None, "kinds of image 0 are object"),
    ],
)
def test_classes_of_objects(name, kinds, said):
    with pytest.raises(ValueError, match=said):
        learnt(NETS[name], [Truths(TRUTHS[0].boxes, kinds)])


def test_truths_of_other_images():
    for given, n in ((None, 0), ([], 0), (TRUTHS * 2, 2)):
        with pytest.raises(ValueError, match=f"there are truths of {n} images, expected 1"):
            learnt(NETS["RPN"], given)


@pytest.mark.parametrize(
    ("labels", "error", "said"),
    [
        (np.full((1, *SIZE), 3), ValueError, "a label is 3, expected 0 to 2, or -1, which is ign"),
        (np.full((1, *SIZE), 255), ValueError, "a label is 255, expected 0 to 2"),
        (np.zeros((1, *SIZE)), TypeError, "labels has dtype float64, expected whole numbers"),
        (np.zeros((1, 4, 4), int), ValueError, r"labels has shape \(1, 4, 4\), expected"),
        ([[0]], TypeError, "labels is of type list, expected an array"),
    ],
)
def test_classes_of_pixels(labels, error, said):
    with pytest.raises(error, match=said):
        deeplab.loss(NETS["DeepLab"], Tape(), IMAGES, labels)


@pytest.mark.parametrize(
    "make",
    [
        lambda classes: deeplab.deeplab(RNG, None, classes),
        lambda classes: faster_rcnn.faster_head(RNG, classes, channels=2, hidden=3),
        lambda classes: rfcn.rfcn_head(RNG, classes, channels=2),
        lambda classes: rpn.rpn(RNG, 4, classes),
    ],
)
def test_numbers_of_classes(make):
    for classes in (1, 0, -3):
        with pytest.raises(ValueError, match=f"classes is {classes}, expected 2 or more: one is"):
            make(classes)
    for classes in (2.5, "21", None, True):
        with pytest.raises(TypeError, match=f"classes is {classes!r}, expected a whole number"):
            make(classes)
    assert make(np.int64(2)) is not None


def test_state_dicts(tmp_path):
    """Missing, extra and misshapen entries, all in one error; files that hold no state dict."""
    trunk = TRUNKS["ResNet-50"](np.random.default_rng(0))
    names = len(layers.arrays(trunk)) - 2  # without the 1x1 convolution on top
    wrong = {"conv1.weight": np.zeros((4, 3, 3, 3)), "bn1.bias": np.zeros(4, int),
             "more": np.zeros(1)}  # fmt: skip
    with pytest.raises(ValueError, match="does not fit the network") as caught:
        imported.torchvision(trunk, wrong)
    told = str(caught.value).splitlines()[1:]
    assert sum("missing: " in line for line in told) == names - 2
    assert told[-3:] == [
        "  extra: more",
        "  misshapen: conv1.weight is (4, 3, 3, 3), expected (4, 3, 7, 7)",
        "  misshapen: bn1.bias is int64, expected floating numbers",
    ]
    for state in (None, [1]):
        with pytest.raises(TypeError, match=r"the state dict is of type .*, expected arrays by"):
            imported.torchvision(trunk, state)
    np.save(tmp_path / "a.npy", np.zeros(3))
    (tmp_path / "a.npy").rename(tmp_path / "a.npz")
    with pytest.raises(ValueError, match=r"a\.npz is not a state dict: it holds one array"):
        imported.read(tmp_path / "a.npz")


def test_parts_of_no_image():
    rois = np.array([[0, 5, 5, 20, 20.0]])
    with pytest.raises(TypeError, match="images is of type NoneType, expected an array"):
        parts.moved_parts(NETS["R-FCN"], None, rois)
