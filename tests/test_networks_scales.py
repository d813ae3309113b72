"""Table 5's test at several scales: what each scale is given, and what comes back from all."""

from functools import partial

import numpy as np
import pytest
from small_stages import ANCHORS, CLASSES, SIZE, STRIDE, TOP, WIDTH, batch, trunk

from deformable_convnets.reference.networks import cited, faster_rcnn, rpn, settings, two_stage
from deformable_convnets.reference.networks import scales as module
from deformable_convnets.reference.networks.detections import Predicted
from deformable_convnets.reference.networks.scales import at_scales, moved, resized

H, W = SIZE


def new():
    rng = np.random.default_rng(6)
    options = {"channels": TOP, "hidden": 9, "output_size": 3, "dtype": np.float64}
    return faster_rcnn.faster_rcnn(rng, trunk(), CLASSES, stride=STRIDE, **options)


class Judge:
    """Takes what it is given for boxes of class 1; without proposals, the whole image."""

    def __init__(self):
        self.seen = []

    def __call__(self, images, proposals):
        h, w = images.shape[2:]
        self.seen.append((images, proposals))
        given = [np.array([[0.0, 0, w, h]])] * len(images) if proposals is None else proposals
        return [Predicted(np.full((len(p), 2), 1 / h), p[:, None]) for p in given]


def test_one_scale_is_no_other():
    """Bit for bit: the image as it is, and boxes times 1."""
    net, drawn = new(), batch(2, fixed=True)
    judge = partial(two_stage.predict, net)
    found = at_scales(judge, drawn.images, [H], drawn.proposals)
    for one, other in zip(judge(drawn.images, drawn.proposals), found, strict=True):
        np.testing.assert_array_equal(one.scores, other.scores)
        np.testing.assert_array_equal(one.boxes, other.boxes)


def test_each_scale_by_hand():
    """Factors are powers of two, so boxes come back as they were, bit for bit."""
    drawn, judge = batch(2, fixed=True), Judge()
    found = at_scales(judge, drawn.images, (2 * H, H // 4), drawn.proposals)
    (large, at_large), (small, at_small) = judge.seen
    assert (large.shape[2:], small.shape[2:]) == ((2 * H, 2 * W), (H // 4, W // 4))
    np.testing.assert_array_equal(large[..., ::2 * H - 1, ::2 * W - 1],
                                  drawn.images[..., ::H - 1, ::W - 1])  # fmt: skip
    for n, each in enumerate(drawn.proposals):
        np.testing.assert_array_equal(at_large[n], 2 * each)
        np.testing.assert_array_equal(at_small[n], each / 4)
        np.testing.assert_array_equal(found[n].boxes[:, 0], np.vstack([each, each]))
        scores = np.repeat([1 / (2 * H), 4 / H], len(each))
        np.testing.assert_array_equal(found[n].scores[:, 1], scores)


def test_without_proposals():
    """Those of each scale come from it: every scale returns the whole image."""
    found = at_scales(Judge(), np.zeros((1, 3, 30, 50)), (60, 17, 45))
    np.testing.assert_allclose(found[0].boxes, [[[0, 0, 50, 30]]] * 3, rtol=1e-15)


def test_boxes_that_are_not_brought_back_are_seen(monkeypatch):
    right = module.joined
    monkeypatch.setattr(module, "joined", lambda parts, sizes, size: right(parts))
    for test in (test_each_scale_by_hand, test_without_proposals):
        with pytest.raises(AssertionError):
            test()


def test_proposals_that_are_not_moved_are_seen(monkeypatch):
    monkeypatch.setattr(module, "moved", lambda name, given, size, goal: given)
    with pytest.raises(AssertionError):
        test_each_scale_by_hand()


def test_sizes():
    """The short side is as asked for, the other one rounded; a box stays within."""
    assert resized((375, 500), 600) == (600, 800)
    assert resized((500, 333), 480) == (721, 480)
    assert resized((30, 30), 7) == (7, 7)
    rng = np.random.default_rng(0)
    for _ in range(200):
        size = tuple(rng.integers(16, 900, 2).tolist())
        goal = resized(size, int(rng.integers(16, 900)))
        whole = np.array([[0, 0, size[1], size[0]]])
        found = moved("box", whole, size, goal)
        np.testing.assert_allclose(found, [[0, 0, goal[1], goal[0]]], rtol=1e-15)
        assert (found <= goal[::-1] * 2).all()


def test_places_stay_where_they_are():
    """The centre of a blob, resized as the image and moved as a box, whatever the scale."""
    y, x = np.mgrid[:64, :96] + 0.5
    for cy, cx in ((12, 12), (50, 80), (33.5, 20.25)):
        blob = np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 50)[None, None]
        for side in (16, 24, 64, 100, 256):
            small = module.resize(blob, resized((64, 96), side))[0, 0]
            h, w = small.shape
            down, along = np.mgrid[:h, :w] + 0.5
            found = [(small * a).sum() / small.sum() for a in (down * 64 / h, along * 96 / w)]
            np.testing.assert_allclose(found, (cy, cx), atol=0.15)


def test_the_scales_of_table_5():
    """A network judges each of them; with the box average, in two rounds."""
    plan = cited.complete("R-FCN", "COCO")
    assert settings.of_test(plan, scales=True)["short_sides"] == (480, 576, 688, 864, 1200, 1400)
    assert "short_sides" not in settings.of_test(plan)
    with pytest.raises(ValueError, match=r"multi_scale is not known: tested at one scale"):
        settings.of_test(cited.complete("R-FCN", "VOC"), scales=True)
    net, drawn = new(), batch(1, fixed=True)
    options = {"least": 0.0, "overlap": 1.0}
    one = two_stage.detect(net, drawn.images, drawn.proposals, **options)[0]
    joint = faster_rcnn.faster_rcnn(
        np.random.default_rng(6), trunk(), CLASSES, channels=TOP, hidden=9, output_size=3,
        stride=STRIDE, dtype=np.float64,
        rpn=rpn.rpn(np.random.default_rng(7), WIDTH, hidden=7, anchors=ANCHORS, dtype=np.float64),
    )  # fmt: skip
    both = two_stage.detect(joint, drawn.images, short_sides=(24, 48), proposing={"after": 7})[0]
    own = two_stage.detect(joint, drawn.images, drawn.proposals, short_sides=(24, 48), **options)[0]
    for kind in both:
        assert len(both[kind].boxes) <= 2 * 7
        assert len(own[kind].boxes) == 2 * len(one[kind].boxes)  # those given, not the RPN's
    for again in (0, 1):
        found = two_stage.detect(
            net, drawn.images, drawn.proposals, short_sides=(24, H, 48), again=again, **options
        )[0]
        for kind, each in found.items():
            assert len(each.boxes) > len(one[kind].boxes) * (2 + again)
            assert (each.boxes <= (W + 1e-9, H + 1e-9) * 2).all()


def given(short_sides, proposals=None, images=None):
    return lambda: at_scales(
        partial(two_stage.predict, new()), np.zeros((1, 1, *SIZE)) if images is None else images,
        short_sides, proposals,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("call", "kind", "said"),
    [
        (given(600), TypeError, "short_sides is 600, expected one or more in a list or tuple"),
        (given([]), ValueError, r"short_sides is \[\], expected one or more, in pixels"),
        (given([0]), ValueError, "short_side is 0, expected"),
        (given([2.5]), TypeError, r"short_side is 2\.5, expected"),
        (given([(8, 9)]), TypeError, r"short_side is \(8, 9\), expected"),
        (given([H]), ValueError, "proposals is None, and the network has no RPN"),
        (given([H], [np.array([[0, 0, 99, 9.0]])]), ValueError,
         r"proposals of image 0\[0\] is \(0, 0, 99, 9\), expected 0 <= x <= W = 40"),
        (given([H], [np.zeros((0, 4))] * 2), ValueError, "proposals of 2 images, expected 1"),
        (given([H], images=np.zeros((32, 40))), ValueError, "images has 2 dimensions, expected 4"),
    ],
)  # fmt: skip
def test_errors(call, kind, said):
    with pytest.raises(kind, match=said):
        call()
