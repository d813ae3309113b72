"""Detections class by class: which box is whose, suppression, the box average, and scales."""

import numpy as np
import pytest

from deformable_convnets.reference.networks import detections as module
from deformable_convnets.reference.networks.detections import (
    Predicted,
    averaged,
    detections,
    joined,
    probabilities,
)
from deformable_convnets.reference.networks.metrics import Detections, overlaps


def rows(*each):
    return np.array(each, float).reshape(-1, 4)


BOXES = rows((0, 0, 10, 10), (0, 0, 10, 8), (2, 0, 12, 10), (30, 0, 40, 10), (5, 5, 5, 9))
SCORES = np.array([[0.1, 0.8, 0.1], [0.2, 0.6, 0.2], [0.3, 0.3, 0.4], [0.04, 0.01, 0.95],
                   [0, 0.5, 0.5]])  # fmt: skip
RIGHT = np.array([20, 0, 20, 0])
ONE = Predicted(SCORES, BOXES[:, None])


def test_the_box_of_a_class():
    each = np.arange(5 * 3 * 4.0).reshape(5, 3, 4)
    kinds = np.array([0, 1, 2, 1, 0])
    for sets, expected in ((1, [0] * 5), (2, [0, 1, 1, 1, 0]), (3, kinds)):
        given = Predicted(SCORES, each[:, :sets])
        np.testing.assert_array_equal(given.of_class(kinds), each[range(5), expected])
        for kind in (1, 2):
            np.testing.assert_array_equal(given.of_class(kind), each[:, min(kind, sets - 1)])


def test_probabilities():
    scores = np.array([[0, np.log(3)], [1000, 1000]])
    np.testing.assert_allclose(probabilities(scores), [[0.25, 0.75], [0.5, 0.5]])
    assert probabilities(np.zeros((0, 3))).shape == (0, 3)


def test_detections_by_hand():
    """An empty box is none; overlaps with the first are 0.8 and 2/3."""
    found = detections(ONE)
    assert list(found) == [1, 2]
    assert found[1].scores.tolist() == [0.8]
    assert found[2].scores.tolist() == [0.95, 0.4]
    np.testing.assert_array_equal(found[2].boxes, BOXES[[3, 2]])
    wider = detections(ONE, overlap=0.7)
    assert wider[1].scores.tolist() == [0.8, 0.3]
    assert wider[2].scores.tolist() == [0.95, 0.4, 0.2]  # the first one overlaps that too much
    assert detections(ONE, least=0.9)[1].boxes.shape == (0, 4)
    apart = np.stack([BOXES, BOXES, BOXES + RIGHT], axis=1)
    own = detections(Predicted(SCORES, apart))
    np.testing.assert_array_equal(own[1].boxes, found[1].boxes)
    np.testing.assert_array_equal(own[2].boxes, found[2].boxes + RIGHT)


def test_the_most_of_an_image():
    """Those of the highest scores of all classes: 0.95, 0.8 and 0.4."""
    for most, ones, twos in ((2, [0.8], [0.95]), (1, [], [0.95]), (3, [0.8], [0.95, 0.4]),
                             (0, [], []), (9, [0.8], [0.95, 0.4])):  # fmt: skip
        found = detections(ONE, most=most)
        assert found[1].scores.tolist() == ones
        assert found[2].scores.tolist() == twos
        assert len(found[1].boxes) == len(ones)


def test_the_average_by_hand():
    """(0.8 (0, 0, 10, 10) + 0.6 (0, 0, 10, 8) + 0.3 (2, 0, 12, 10)) / 1.7."""
    found = detections(ONE, average=0.5)
    expected = (0.8 * BOXES[0] + 0.6 * BOXES[1] + 0.3 * BOXES[2]) / 1.7
    np.testing.assert_allclose(found[1].boxes, [expected])
    assert found[1].scores.tolist() == [0.8]
    near = detections(ONE, average=0.75)[1].boxes  # without the third
    np.testing.assert_allclose(near, [(0.8 * BOXES[0] + 0.6 * BOXES[1]) / 1.4])
    np.testing.assert_allclose(found[2].boxes[0], BOXES[3])  # alone


def test_the_average_is_nearer():
    """Of many boxes beside the truth, the average overlaps it more than the surest one, mostly."""
    rng, truth, better = np.random.default_rng(0), rows((20, 20, 60, 50)), 0
    for _ in range(20):
        near = truth + rng.normal(0, 3, (20, 4))
        every = Detections(near, rng.uniform(0.3, 0.9, 20))
        best = Detections(near[[every.scores.argmax()]], every.scores[[every.scores.argmax()]])
        mean = averaged(best, every)
        better += overlaps(mean.boxes, truth).item() > overlaps(best.boxes, truth).item()
    assert better >= 16


def test_another_average_is_seen(monkeypatch):
    """Without weights."""
    right = module.averaged
    monkeypatch.setattr(
        module, "averaged",
        lambda kept, every, t: right(kept, every._replace(scores=np.ones(len(every.scores))), t),
    )  # fmt: skip
    with pytest.raises(AssertionError):
        test_the_average_by_hand()


def test_scales():
    """Boxes of an image of 20 x 30 and of one of 40 x 45, in one of 40 x 60."""
    other = Predicted(SCORES[:2], BOXES[:2, None])
    found = joined([ONE, other], [(20, 30), (40, 45)], (40, 60))
    np.testing.assert_array_equal(found.scores, np.vstack([SCORES, SCORES[:2]]))
    np.testing.assert_allclose(found.boxes[:5, 0], 2 * BOXES)
    np.testing.assert_allclose(found.boxes[5:, 0], BOXES[:2] * np.array([4 / 3, 1, 4 / 3, 1]))
    same = joined([ONE, other])
    np.testing.assert_array_equal(same.boxes[5:], other.boxes)
    twice = joined([ONE, ONE])
    for kind, each in detections(twice).items():
        np.testing.assert_array_equal(each.boxes, detections(ONE)[kind].boxes)


def test_nothing():
    none = Predicted(np.zeros((0, 3)), np.zeros((0, 1, 4)))
    for options in ({}, {"average": 0.5}, {"most": 3}):
        assert [len(each.boxes) for each in detections(none, **options).values()] == [0, 0]
    empty = Detections(rows(), np.zeros(0))
    assert averaged(empty, empty).boxes.shape == (0, 4)
    kept = Detections(BOXES[:1], np.zeros(1))  # a score of 0 has no weight
    assert averaged(kept, kept).boxes.tolist() == BOXES[:1].tolist()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: detections(ONE, most=-1), "most is -1, expected 0 or more"),
        (lambda: detections(ONE, average=0.0), r"threshold is 0\.0, expected more than 0"),
        (lambda: detections(ONE, average=1.5), r"threshold is 1\.5, expected more than 0"),
        (lambda: joined([]), "there are no predictions to join"),
        (lambda: joined([ONE], [(1, 1)]), r"sizes are \[\(1, 1\)\] and size is None, expected"),
        (lambda: joined([ONE], [], 9), r"sizes are \[\] and size is 9, expected one for each of 1"),
        (lambda: detections(ONE._replace(scores=SCORES * np.nan)), r"scores\[0\] is nan, expected"),
    ],
)
def test_errors(call, said):
    with pytest.raises(ValueError, match=said):
        call()
