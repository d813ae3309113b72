"""mIoU and average precision, by hand and beside pycocotools."""

import contextlib
import io
import itertools

import numpy as np
import pytest

from deformable_convnets.reference.networks import metrics
from deformable_convnets.reference.networks.metrics import Detections, Truth, average_precision


def boxes(*rows):
    return np.array(rows, float).reshape(-1, 4)


def test_mean_iou_by_hand():
    labels = np.array([[0, 0, 1], [1, 2, -1]])
    predicted = np.array([[0, 1, 1], [1, 0, 2]])
    matrix = metrics.confusion(predicted, labels, 4)
    assert matrix.tolist() == [[1, 1, 0, 0], [0, 2, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    # 0: 1 of 3; 1: 2 of 3; 2: 0 of 1; 3 is neither there nor predicted
    assert metrics.mean_iou(matrix) == pytest.approx((1 / 3 + 2 / 3 + 0) / 3, rel=1e-15)
    assert metrics.mean_iou(metrics.confusion(labels, labels, 3, ignored=-1)) == 1
    with pytest.raises(ValueError, match=r"predicted has shape \(2,\), expected \(as labels\)"):
        metrics.confusion(np.zeros(2, int), labels, 3)


def test_overlaps_by_hand():
    a = boxes((0, 0, 4, 4), (2, 2, 2, 5), (5, 1, 3, 9))  # an empty and an inverted one
    b = boxes((2, 0, 6, 4), (0, 0, 4, 4), (9, 9, 10, 10))
    assert metrics.overlaps(a, b).tolist() == [[8 / 24, 1, 0], [0, 0, 0], [0, 0, 0]]
    assert metrics.overlaps(boxes(), b).shape == (0, 3)


TRUTH = [boxes((0, 0, 10, 10), (20, 0, 30, 10)), boxes((0, 0, 10, 10), (50, 50, 60, 60))]
FOUND = [
    Detections(boxes((0, 0, 10, 10), (0, 0, 10, 9), (20, 0, 30, 8)), np.array([0.9, 0.8, 0.6])),
    Detections(boxes((1, 0, 11, 10), (70, 70, 80, 80)), np.array([0.7, 0.5])),
]  # by score: right, the same again, right, right, nothing there; one of four is never found


def test_average_precision_by_hand():
    # recall 1/4 1/4 2/4 3/4 3/4; precision 1 1/2 2/3 3/4 3/5, made decreasing: 1 3/4 3/4 3/4 3/5
    assert average_precision(FOUND, TRUTH, 0.5) == pytest.approx((1 + 3 / 4 + 3 / 4) / 4)
    # at recalls 0 .1 .2 | .3 .4 .5 .6 .7 | .8 .9 1
    voc07 = (3 * 1 + 5 * 3 / 4) / 11
    assert average_precision(FOUND, TRUTH, 0.5, points="11") == pytest.approx(voc07)
    # 0 to .25 | .26 to .75
    assert average_precision(FOUND, TRUTH, 0.5, points="101") == pytest.approx(
        (26 + 50 * 3 / 4) / 101
    )
    # a higher threshold: (1, 0, 11, 10) overlaps 90 of 110, (20, 0, 30, 8) 8 of 10
    assert average_precision(FOUND, TRUTH, 0.81) == pytest.approx((1 + 2 / 3) / 4)


def test_average_precision_at_the_ends():
    nothing = [Detections(boxes(), np.zeros(0))] * 2
    for points in ("all", "11", "101"):
        assert average_precision(nothing, TRUTH, 0.5, points=points) == 0
        assert np.isnan(average_precision(FOUND, [boxes(), boxes()], 0.5, points=points))
        perfect = [Detections(t, np.ones(len(t))) for t in TRUTH]
        assert average_precision(perfect, TRUTH, 0.5, points=points) == 1
    with pytest.raises(ValueError, match="points is '12', expected 'all', '11' or '101'"):
        average_precision(FOUND, TRUTH, 0.5, points="12")


def test_voc_and_coco_differ_where_a_box_is_taken():
    """Two detections next to one box; the second also overlaps another, less."""
    truth = [boxes((0, 0, 10, 10), (3, 0, 13, 10))]
    found = [Detections(boxes((0, 0, 10, 10), (1, 0, 11, 10)), np.array([0.9, 0.8]))]
    assert average_precision(found, truth, 0.5) == 0.5
    assert average_precision(found, truth, 0.5, points="101") == 1


def drawn(rng, images=6):
    truths, found = [], []
    for _ in range(images):
        low = rng.uniform(0, 60, (int(rng.integers(0, 6)), 2))
        truth = np.hstack([low, low + rng.uniform(8, 40, low.shape)])
        near = truth + rng.uniform(-3.9, 3.9, truth.shape)  # never inverted
        other = rng.uniform(0, 60, (int(rng.integers(0, 5)), 2))
        every = np.vstack([near, near + 2, np.hstack([other, other + 20])])
        truths.append(truth)
        found.append(Detections(every, rng.permutation(len(every)) / 100 + rng.uniform(0, 0.001)))
    return found, truths


def by_pycocotools(found, truths, thresholds, area=(0, 1e10)):
    """Average precision at each threshold, by the code of COCO's authors."""
    coco = pytest.importorskip("pycocotools.coco")
    evaluation = pytest.importorskip("pycocotools.cocoeval")
    number, data = itertools.count(1), coco.COCO()

    def entry(image, box, **more):
        x1, y1, x2, y2 = map(float, box)
        size = [x2 - x1, y2 - y1]
        return {"id": next(number), "image_id": image, "category_id": 1, "bbox": [x1, y1, *size],
                "area": size[0] * size[1], "iscrowd": 0, **more}  # fmt: skip

    def entries(image, truth):
        if not isinstance(truth, Truth):
            return [entry(image, box) for box in truth]
        return [entry(image, box, area=float(area), iscrowd=int(ignored))
                for box, ignored, area in zip(*truth, strict=True)]  # fmt: skip

    data.dataset = {
        "images": [{"id": i} for i in range(len(truths))], "categories": [{"id": 1}],
        "annotations": [each for i, truth in enumerate(truths) for each in entries(i, truth)],
        "info": {},
    }  # fmt: skip
    rows = [
        entry(i, box, score=float(score))
        for i, d in enumerate(found) for box, score in zip(d.boxes, d.scores, strict=True)
    ]  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        data.createIndex()
        run = evaluation.COCOeval(data, data.loadRes(rows), "bbox")
        run.params.iouThrs = np.array(thresholds)
        run.params.areaRng, run.params.areaRngLbl = [list(area)], ["all"]
        run.evaluate()
        run.accumulate()
    return run.eval["precision"][:, :, 0, 0, -1].mean(axis=1)


@pytest.mark.parametrize("seed", range(5))
def test_beside_pycocotools(seed):
    """The same boxes: equal up to the order of a mean, and to its eps of 2^-52 in the precision."""
    found, truths = drawn(np.random.default_rng(seed))
    thresholds = metrics.COCO_THRESHOLDS
    ours = [average_precision(found, truths, t, points="101") for t in thresholds]
    theirs = by_pycocotools(found, truths, thresholds)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)
    assert max(ours) - min(ours) > 0.2
    others = [average_precision(found, truths, t, points="all") for t in thresholds]
    assert abs(np.array(others) - theirs).max() > 1e-4  # another definition is seen


@pytest.mark.parametrize("number", [20, 25, 50, 100])  # of truths: recalls are whole hundredths
@pytest.mark.parametrize("seed", range(3))
def test_recalls_that_lie_on_those_of_coco(number, seed):
    """Found or not, in any order: the recalls 0, 0.01 ... 1 are COCO's to the bit."""
    rng = np.random.default_rng(seed)
    left = 30.0 * np.arange(number)
    truth = np.stack([left, 0 * left, left + 20, 0 * left + 20], axis=1)
    every = np.concatenate([truth, truth + 100])[rng.choice(2 * number, number, replace=False)]
    found = [Detections(every, rng.permutation(number) / number)]
    ours = average_precision(found, [truth], 0.5, points="101")
    assert ours == pytest.approx(by_pycocotools(found, [truth], [0.5])[0], abs=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_crowds_areas_and_equal_overlaps_beside_pycocotools(seed):
    """Boxes on a coarse grid, so that overlaps and scores are often equal."""
    rng = np.random.default_rng(seed)
    truths, found = [], []
    for _ in range(4):
        low, at = (4.0 * rng.integers(0, 6, (rng.integers(1, 7), 2)) for _ in range(2))
        truth, ignored = np.hstack([low, low + 8]), rng.random(len(low)) < 0.3
        truths.append(Truth(truth, ignored, rng.integers(20, 100, len(low)).astype(float)))
        found.append(Detections(np.hstack([at, at + 8]), rng.integers(1, 4, len(at)) / 4))
    for area in (None, (0, 50), (50, 64), (64, 1e9)):
        ours = [average_precision(found, truths, t, points="101", area=area) for t in (0.2, 0.5)]
        theirs = by_pycocotools(found, truths, [0.2, 0.5], area or (0, 1e10))
        np.testing.assert_allclose(np.nan_to_num(ours, nan=-1), theirs, rtol=0, atol=1e-12)
    every = [t.boxes for t in truths]
    plain = [average_precision(found, every, t, points="101") for t in (0.2, 0.5)]
    if any(t.ignored.any() for t in truths):  # it matters whether they count
        counted = [average_precision(found, truths, t, points="101") for t in (0.2, 0.5)]
        assert plain != counted


def test_coco_looks_at_100_detections():
    left = 30.0 * np.arange(150)
    truth = np.stack([left, 0 * left, left + 20, 0 * left + 20], axis=1)
    found = [Detections(truth, np.linspace(1, 0.1, 150))]
    ours = average_precision(found, [truth], 0.5, points="101")
    assert ours == pytest.approx(by_pycocotools(found, [truth], [0.5])[0], abs=1e-12)
    assert ours == pytest.approx(67 / 101)  # recalls up to 0.66
    assert average_precision(found, [truth], 0.5) == 1


@pytest.mark.parametrize("points", ["all", "11"])
def test_a_difficult_object_of_voc_is_neither_right_nor_wrong(points):
    """Three detections: on a difficult one, twice, and on one that counts."""
    truth = Truth(boxes((0, 0, 10, 10), (50, 50, 90, 90)), np.array([True, False]), np.ones(2))
    found = [Detections(boxes((0, 0, 10, 10), (0, 0, 10, 9), (50, 50, 90, 90)),
                        np.array([0.9, 0.8, 0.7]))]  # fmt: skip
    at = {"threshold": 0.5, "points": points}
    assert average_precision(found, [truth], **at) == 1
    assert average_precision(found, [truth.boxes[1:]], **at) == pytest.approx(1 / 3)
    none = truth._replace(ignored=np.array([True, True]))
    assert np.isnan(average_precision(found, [none], **at))


def test_truths_of_other_shapes():
    truth = Truth(boxes((0, 0, 10, 10)), np.array([True, False]), np.ones(1))
    with pytest.raises(ValueError, match="image 1 has truths of other shapes than T 4, T and T"):
        average_precision(FOUND, [TRUTH[0], truth], 0.5)


AREAS = [(0, 300), (300, 900), (900, 1e9)]


@pytest.mark.parametrize("seed", range(5))
def test_areas_beside_pycocotools(seed):
    """COCO's rule for small, medium and large."""
    found, truths = drawn(np.random.default_rng(seed))
    for area in AREAS:
        ours = average_precision(found, truths, 0.5, points="101", area=area)
        theirs = by_pycocotools(found, truths, [0.5], area)[0]
        assert np.nan_to_num(ours, nan=-1) == pytest.approx(theirs, abs=1e-12)  # -1: no truth


def test_what_is_found_of_another_size_is_not_wrong():
    """A large box that is found first, a stray large one, a small one."""
    truth = [boxes((0, 0, 30, 30), (50, 50, 60, 60))]
    found = [Detections(boxes((0, 0, 30, 30), (90, 0, 120, 30), (50, 50, 60, 60)),
                        np.array([0.9, 0.8, 0.7]))]  # fmt: skip
    at = {"threshold": 0.5, "points": "101"}
    assert average_precision(found, truth, **at, area=(0, 200)) == 1
    assert average_precision(found, [truth[0][1:]], **at) == pytest.approx(1 / 3)
    stray = [Detections(boxes((90, 0, 100, 10), (50, 50, 60, 60)), np.array([0.9, 0.8]))]
    assert average_precision(stray, truth, **at, area=(0, 200)) == 0.5


def test_areas_are_of_coco_alone():
    with pytest.raises(ValueError, match=r"area is \(0, 9\) and points 'all', expected '101'"):
        average_precision(FOUND, TRUTH, 0.5, area=(0, 9))
    assert np.isnan(average_precision(FOUND, TRUTH, 0.5, points="101", area=(1e5, 1e6)))


def test_what_is_no_class_and_no_box():
    labels = np.array([[0, 2], [1, -1]])
    with pytest.raises(ValueError, match="a class in predicted is 3, expected 0 to 2"):
        metrics.confusion(np.full((2, 2), 3), labels, 3)
    with pytest.raises(ValueError, match="a class in labels is 2, expected 0 to 1"):
        metrics.confusion(np.zeros((2, 2), int), labels, 2)
    with pytest.raises(ValueError, match=r"predicted has shape \(2, 3\), expected .* \(2, 2\)"):
        metrics.confusion(np.zeros((2, 3), int), labels, 3)
    unseen = np.where(labels == -1, 7, labels)  # where it is ignored, anything may be predicted
    assert metrics.confusion(unseen, labels, 3).sum() == 3
    assert np.isnan(metrics.mean_iou(np.zeros((3, 3), int)))
    with pytest.raises(ValueError, match=r"b has shape \(2, 5\), expected \(boxes, 4\)"):
        metrics.overlaps(boxes(), np.zeros((2, 5)))


def test_lists_of_other_lengths_and_no_threshold():
    with pytest.raises(ValueError, match=r"there are 2 detections, 1 truths, threshold 0\.5"):
        average_precision(FOUND, TRUTH[:1], 0.5)
    with pytest.raises(ValueError, match=r"threshold 50; expected .* from 0 to 1"):
        average_precision(FOUND, TRUTH, 50)


@pytest.mark.parametrize("scores", [np.array([0.5]), np.array([0.5, np.nan])])
def test_scores_without_boxes_and_without_order(scores):
    found = [Detections(boxes((0, 0, 9, 9), (1, 1, 9, 9)), scores)]
    with pytest.raises(ValueError, match="image 0 has other boxes than scores, or scores that are"):
        average_precision(found, [boxes((0, 0, 9, 9))], 0.5)
