"""What a new user meets first: from readers to losses, from trunks to networks, and errors."""

import re
from pathlib import Path

import annotation_files
import numpy as np
import pytest
from paper_networks import SIZE, TOP, TRUNKS, TRUTHS, detector, one_stage, plain, segmenter
from small_stages import deformed

from deformable_convnets.reference import networks
from deformable_convnets.reference.networks import (
    Tape,
    anchors,
    deeplab,
    faster_rcnn,
    parts,
    resnet,
    rfcn,
    rpn,
    two_stage,
)
from deformable_convnets.reference.networks.annotations import Objects, voc
from deformable_convnets.reference.networks.counting import Shapes
from deformable_convnets.reference.networks.detector import rois_of
from deformable_convnets.reference.networks.protocols import PAPER
from deformable_convnets.reference.networks.released_code import RELEASED
from deformable_convnets.reference.networks.rpn import Batch

IMAGES = np.random.default_rng(0).normal(size=(1, 3, *SIZE))
OBJECTS = Objects("a.jpg", SIZE, np.vstack([TRUTHS[0].boxes, [[0, 0, 5, 5]]]),
                  np.array([1, 2, 2]), np.array([False, False, True]), np.ones(3))  # fmt: skip


def test_from_a_file_of_labels_to_a_loss(tmp_path):
    """The pixels of index 255 do not count: the loss is that of the others."""
    indices = np.ones(SIZE, int)
    indices[:, :20] = 255
    labels = voc.labels(annotation_files.save(tmp_path / "a.png", indices))[None]
    net = segmenter("ResNet-18", plain)
    value = float(deeplab.loss(net, Tape(), IMAGES, labels))
    assert float(deeplab.loss(net, Tape(), IMAGES, indices[None], ignored=255)) == value
    scores = net(Tape(), IMAGES)[..., 20:]
    log = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    assert abs(value + log[:, 1].mean()) < 1e-12


def test_from_objects_to_a_loss():
    """Those that are ignored are left out."""
    net = detector(faster_rcnn, True, plain)
    found, expected = (float(two_stage.loss(net, Tape(), Batch(IMAGES, truths)))
                       for truths in ([OBJECTS.truths()], TRUTHS))  # fmt: skip
    assert found == expected
    for module, other in ((two_stage, net), (rpn, one_stage(plain))):
        said = re.escape("truths of image 0 are Objects, expected Truths(boxes, kinds)")
        with pytest.raises(TypeError, match=said):
            module.loss(other, Tape(), Batch(IMAGES, [OBJECTS]))


@pytest.mark.parametrize(
    "make",
    [deeplab.deeplab, rpn.category_aware_rpn, faster_rcnn.faster_rcnn, rfcn.rfcn],
)
def test_a_head_of_other_channels_than_the_top(make):
    for rng in (np.random.default_rng(0), Shapes()):
        trunk = resnet.trunk(rng, 50, width=2, blocks=(1,) * 4, top=TOP)
        said = "the trunk's top has 8 channels, the head takes 6: trunk(top=6) or channels=8"
        with pytest.raises(ValueError, match=re.escape(said)):
            make(rng, trunk, 3, channels=6)
        assert make(rng, trunk, 3, channels=TOP).trunk is trunk  # it is not copied
        trunk.top = None
        assert make(rng, trunk, 3, channels=6).trunk is trunk


def test_the_examples_of_faster_rcnn_and_rfcn():
    """Every line that makes a network makes one, of shapes."""
    for module in (faster_rcnn, rfcn):
        (line,) = re.findall(r"^    net = (\w+\(rng.*)$", module.__doc__, re.M)
        net = eval(line, vars(module) | {"rng": Shapes(), "resnet": resnet})
        assert net.head.classes == 21


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
@pytest.mark.parametrize("name", TRUNKS)
def test_images_of_another_dtype(name, dtype):
    """The images are to blame, not the weights."""
    said = f"images have dtype {dtype}, the network float64: images.astype(np.float64)"
    with pytest.raises(TypeError, match=re.escape(said)):
        segmenter(name, plain)(Tape(), IMAGES.astype(dtype))


def test_the_place_of_anchors():
    given = anchors.Anchors((16,), (1,), 16, offset=0)
    assert given.boxes((1, 2)).tolist() == [[-8, -8, 8, 8], [8, -8, 24, 8]]
    assert (anchors.Anchors((16,), (1,), 16).boxes((1, 2)) == given.boxes((1, 2)) + 8).all()
    with pytest.raises(ValueError, match="offset is 8, expected 0 to 1"):
        anchors.Anchors(offset=8)


def test_protocols_that_are_not_there():
    for plans in (PAPER, RELEASED):
        said = r"\('RFCN', 'VOC'\) is not here, expected one of \('DeepLab', 'VOC'\), "
        with pytest.raises(KeyError, match=said):
            plans["RFCN", "VOC"]
        assert plans.get(("RFCN", "VOC")) is None
    with pytest.raises(ValueError, match="it counts epochs; give iterations = epochs \\* images"):
        RELEASED["R-FCN", "VOC"].rate(0)


def test_rois_of_moved_parts():
    """Those of a detection do; four columns are told by their shape."""
    net = detector(rfcn, True, deformed)
    (found,) = two_stage.detect(net, IMAGES, least=0)
    rois = rois_of([found[1].boxes[:1]], SIZE)
    assert parts.moved_parts(net, IMAGES, rois).moved.shape == (1, 2, 2, 4)
    with pytest.raises(ValueError, match=r"rois has shape \(1, 4\), expected an array R 5: batch"):
        parts.moved_parts(net, IMAGES, rois[:, 1:])
    with pytest.raises(ValueError, match="rois is list, expected an array R 5"):
        parts.moved_parts(net, IMAGES, [])


def test_the_package_names_all_its_modules():
    folder = Path(networks.__file__).parent
    own = {path.stem for path in folder.iterdir() if path.suffix == ".py" or path.is_dir()}
    named = re.findall(r"^    (\w+) {2}", networks.__doc__, re.M)
    assert sorted(named) == sorted(own - {"__init__", "__pycache__"})
