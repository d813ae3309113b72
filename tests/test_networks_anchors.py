"""Anchors: where they are, which objects they learn, samples of them, and what is refused."""

import inspect

import numpy as np
import pytest

from deformable_convnets.reference.networks import anchors as module
from deformable_convnets.reference.networks import boxes, metrics
from deformable_convnets.reference.networks.anchors import (
    Anchors,
    Truths,
    assign_anchors,
    checked_truths,
    sample,
)

NONE = Truths(np.zeros((0, 4)), [])


def rows(*each):
    return np.array(each, float).reshape(-1, 4)


def test_anchors_by_hand():
    """Area 16 and heights twice and half the width; cells of 4 pixels, whose middles are 2, 6."""
    given = Anchors((4, 8), (0.25, 4), 4)
    assert given.number == 4
    laid = given.boxes((1, 2))
    first = rows((-2, 1, 6, 3), (1, -2, 3, 6), (-6, 0, 10, 4), (0, -6, 4, 10))
    right, below = np.array([4, 0, 4, 0]), np.array([0, 4, 0, 4])
    assert laid.tolist() == [*first.tolist(), *(first + right).tolist()]
    assert given.boxes((2, 1)).tolist() == [*first.tolist(), *(first + below).tolist()]
    assert given.boxes((0, 3)).shape == (0, 4)


def test_the_nine_of_faster_rcnn():
    given = Anchors()
    laid = given.boxes((38, 63))  # of an image of 600 x 1000
    assert given.number == 9
    assert laid.shape == (38 * 63 * 9, 4)
    sides = laid[:9, 2:] - laid[:9, :2]
    np.testing.assert_allclose(sides.prod(axis=1), np.repeat([128, 256, 512], 3) ** 2.0)
    np.testing.assert_allclose(sides[:, 1] / sides[:, 0], [0.5, 1, 2] * 3)
    centre = ((laid[:, :2] + laid[:, 2:]) / 2).reshape(38, 63, 9, 2)
    np.testing.assert_allclose(centre[5, 7], [[7.5 * 16, 5.5 * 16]] * 9)
    inside = assign_anchors(laid, NONE, (600, 1000)).labels == 0
    assert 6000 < inside.sum() < 9000  # "about 6000" (Ren et al. 2015)


ANCHORS = rows((0, 0, 10, 10), (0, 0, 10, 8), (0, 0, 10, 6), (0, 0, 10, 2), (20, 20, 30, 30),
               (24, 20, 34, 30), (-2, 0, 10, 10))  # fmt: skip


def test_assign_by_hand():
    """Overlaps 1, 0.8, 0.6, 0.2, none, none, and one beyond the border."""
    found = assign_anchors(ANCHORS, Truths(rows((0, 0, 10, 10)), [3]), (40, 36))
    assert found.labels.tolist() == [3, 3, -1, 0, 0, 0, -1]
    assert found.objects.tolist() == [0, 0, -1, -1, -1, -1, -1]
    np.testing.assert_allclose(
        found.targets[:2], [[0] * 4, [0, (1 / 8) / 0.1, 0, np.log(10 / 8) / 0.2]], atol=1e-12
    )
    assert not found.targets[2:].any()
    wider = assign_anchors(ANCHORS, Truths(rows((0, 0, 10, 10)), [3]), (40, 36), border=2)
    assert wider.labels.tolist() == [3, 3, -1, 0, 0, 0, 3]  # 100 / 120
    assert assign_anchors(
        ANCHORS, Truths(rows((0, 0, 10, 10)), [3]), (40, 36), positive=0.9, negative=0.1,
        border=None,
    ).labels.tolist() == [3, -1, -1, -1, 0, 0, -1]  # fmt: skip


def test_the_best_anchor_of_an_object():
    """It learns it below 0.7 too, all that are equally good; an object that none overlaps has none.

    The object at 22 overlaps both anchors there by 8 x 10 of 12 x 10.
    """
    truths = Truths(rows((22, 20, 32, 30), (0, 30, 4, 34)), [2, 1])
    found = assign_anchors(ANCHORS, truths, (40, 36))
    assert found.labels.tolist() == [0, 0, 0, 0, 2, 2, -1]
    half = Truths(rows((26, 20, 36, 30)), [2])  # 4 x 10 of 16 x 10, and 8 x 10 of 12 x 10
    assert assign_anchors(ANCHORS, half, (40, 36)).labels.tolist() == [0, 0, 0, 0, 0, 2, -1]
    low = Truths(rows((0, 0, 4, 4)), [2])  # 16 of 20 + 16 - 8, of 60, 80 and 100
    found = assign_anchors(ANCHORS, low, (40, 36))
    assert found.labels.tolist() == [0, 0, 0, 2, 0, 0, -1]


def test_the_best_anchor_takes_the_object_that_it_is_best_for():
    """It overlaps the first object more, but that one has a better anchor."""
    given = rows((0, 0, 10, 10), (4, 0, 14, 10))
    truths = Truths(rows((0, 0, 10, 10), (12, 0, 20, 10)), [1, 2])
    table = metrics.overlaps(given, truths.boxes)
    assert table[1, 0] > table[1, 1] > 0
    found = assign_anchors(given, truths, 20)
    assert found.objects.tolist() == [0, 1]
    assert found.labels.tolist() == [1, 2]


def test_assign_against_a_loop():
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 40, (8, 2))
    truths = Truths(np.hstack([low, low + rng.uniform(6, 24, (8, 2))]), rng.integers(1, 5, 8))
    laid = Anchors((8, 16), (0.5, 1, 2), 4).boxes((16, 18))
    found = assign_anchors(laid, truths, (64, 72))
    for a, box in enumerate(laid):
        overlap = metrics.overlaps(box[None], truths.boxes)[0]
        inside = (box[:2] >= 0).all() and box[2] <= 72 and box[3] <= 64
        if found.objects[a] >= 0:
            t = found.objects[a]
            assert found.labels[a] == truths.kinds[t]
            near = laid[found.labels >= 0]
            best = metrics.overlaps(near, truths.boxes[[t]]).max() == overlap[t]
            assert (overlap[t] >= 0.7 and overlap[t] == overlap.max()) or best
        elif inside:
            assert overlap.max() < 0.7
            assert found.labels[a] == (0 if overlap.max() < 0.3 else -1)
        assert inside or found.labels[a] == -1
    assert set(found.objects) == {-1, *range(8)}
    decoded = boxes.decode(laid[found.objects >= 0], found.targets[found.objects >= 0], (64, 72))
    np.testing.assert_allclose(decoded, truths.boxes[found.objects[found.objects >= 0]], atol=1e-9)


def test_no_objects_no_anchors():
    assert assign_anchors(ANCHORS, NONE, (40, 36)).labels.tolist() == [0] * 6 + [-1]
    found = assign_anchors(rows(), Truths(rows((0, 0, 9, 9)), [1]), 20)
    assert found.labels.shape == (0,)
    assert found.targets.shape == (0, 4)
    beyond = assign_anchors(rows((-5, 0, 9, 9)), Truths(rows((0, 0, 9, 9)), [1]), 20)
    assert beyond.labels.tolist() == beyond.objects.tolist() == [-1]


def test_sample():
    labels = np.array([-1] * 5 + [0] * 30 + [2] * 10)
    rng = np.random.default_rng(0)
    for number, share, near, far in (
        (16, 0.25, 4, 12), (16, 1.0, 10, 6), (60, 0.5, 10, 30), (16, 0.0, 0, 16), (1, 0.25, 0, 1),
    ):  # fmt: skip
        kept = sample(rng, labels, number, share)
        assert (np.diff(kept) > 0).all()
        assert (labels[kept] == 2).sum() == near
        assert (labels[kept] == 0).sum() == far
    first, other = sample(rng, labels, 8, 0.5), sample(rng, labels, 8, 0.5)
    assert first.tolist() != other.tolist()
    assert sample(rng, labels[:5], 8, 0.5).tolist() == []
    seen = np.concatenate([sample(rng, labels, 8, 0.5) for _ in range(60)])
    assert set(seen) == set(range(5, 45))


def test_decode_of_anchors_that_cross():
    given = rows((-4, 2, 6, 8))
    with pytest.raises(ValueError, match=r"proposals\[0\] is \(-4, 2, 6, 8\), expected 0 <= x"):
        boxes.decode(given, np.zeros((1, 4)), 10)
    assert boxes.decode(given, np.zeros((1, 4)), 10, crossing=True).tolist() == [[0, 2, 6, 8]]


def test_suppress_ends_and_needs_little_memory():
    """12000 boxes, as in training: a table of their overlaps would be over a gigabyte."""
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 900, (12000, 2))
    given, scores = (
        np.hstack([low, low + rng.uniform(40, 300, (12000, 2))]),
        rng.uniform(size=12000),
    )
    kept = boxes.suppress(given, scores, 0.7, most=100)
    assert len(kept) == 100
    assert (np.diff(scores[kept]) < 0).all()
    few = given[:200], scores[:200]
    every = boxes.suppress(*few, 0.3)
    assert boxes.suppress(*few, 0.3, most=7).tolist() == every[:7].tolist()
    assert boxes.suppress(*few, 0.3, most=0).tolist() == []


@pytest.mark.parametrize(
    ("change", "test"),
    [
        ("table.max(axis=0, initial=0)", test_the_best_anchor_of_an_object),
        ("best.argmax(axis=1), -1)", test_the_best_anchor_takes_the_object_that_it_is_best_for),
        ("return of, most < negative", test_assign_by_hand),
        ("(highest > 0)", test_the_best_anchor_of_an_object),
    ],
)
def test_another_rule_is_seen(change, test, monkeypatch):
    """No best anchors, any object for them, no thresholds between, objects without anchors."""
    wrong = {
        "table.max(axis=0, initial=0)": "table.max(axis=0, initial=0) + 1",
        "best.argmax(axis=1), -1)": "table.argmax(axis=1), -1)",
        "return of, most < negative": "return of, most < positive",
        "(highest > 0)": "(highest >= 0)",
    }
    source = inspect.getsource(module._matched)
    assert change in source
    namespace = dict(vars(module))
    exec(source.replace(change, wrong[change]), namespace)
    monkeypatch.setattr(module, "_matched", namespace["_matched"])
    with pytest.raises(AssertionError):
        test()


IMAGES = np.zeros((1, 1, 40, 50))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: Anchors(scales=()), r"scales is \(\), expected one or more positive numbers"),
        (lambda: Anchors(ratios=(1, 0)), r"ratios is \(1, 0\), expected one or more positive"),
        (lambda: Anchors(stride=0), "stride is 0, expected 1 or more"),
        (lambda: assign_anchors(ANCHORS, NONE, 40, positive=0.2), "expected 0 <= negative <="),
        (lambda: assign_anchors(rows((3, 3, 2, 9)), NONE, 40), r"anchors\[0\] is \(3, 3, 2, 9\)"),
        (lambda: sample(np.random.default_rng(0), np.zeros(3, int), 0, 0.5), "number and foregrou"),
        (lambda: sample(np.random.default_rng(0), np.zeros(3, int), 4, 1.5), "are 4 and 1.5, expe"),
        (lambda: checked_truths([NONE] * 2, IMAGES, 3), "truths of 2 images, expected 1"),
        (lambda: checked_truths([Truths(rows((5, 1, 3, 9)), [1])], IMAGES, 3),
         r"truths of image 0\[0\] is \(5, 1, 3, 9\), expected x1 < x2"),
        (lambda: checked_truths([Truths(rows((5, 1, 51, 9)), [1])], IMAGES, 3),
         r"truths of image 0\[0\] is \(5, 1, 51, 9\), expected 0 <= x <= W = 50"),
        (lambda: checked_truths([Truths(rows((1, 1, 9, 9)), [3])], IMAGES, 3),
         "a kind of image 0 is 3, expected 1 to 2"),
        (lambda: checked_truths([Truths(rows((1, 1, 9, 9)), [0])], IMAGES),
         "a kind of image 0 is 0, expected 1 or more"),
        (lambda: checked_truths([Truths(rows((1, 1, 9, 9)), [1, 2])], IMAGES, 3),
         r"kinds of image 0 are int64 of shape \(2,\), expected a whole number for each of 1"),
        (lambda: checked_truths([Truths(rows((1, 1, 9, 9)), [1.5])], IMAGES, 3),
         "kinds of image 0 are float64"),
    ],
)  # fmt: skip
def test_errors(call, said):
    with pytest.raises(ValueError, match=said):
        call()
