"""What a detector finds: boxes and scores of each image, suppression, and what is right."""

import numpy as np
import pytest
from small_detector import drawn, new, scenes

from deformable_convnets.reference.networks import Tape, boxes, detector
from deformable_convnets.reference.networks.detector import Outcome, Predicted

every_head = pytest.mark.parametrize("head", ["pool", "position-sensitive"])


@every_head
def test_predict_is_decoded_per_image(head):
    net, given = new(head, True), scenes(3)
    images = np.stack([s.image for s in given]).astype(float)
    rng = np.random.default_rng(0)
    proposals = [boxes.proposals(rng, s.boxes(), 32) for s in given]
    proposals[1] = proposals[1][:0]
    found = detector.predict(net, images, proposals)
    assert [len(p.scores) for p in found] == [len(p.boxes) for p in found]
    for n in (0, 2):  # alone, as image 0
        alone = detector.predict(net, images[n : n + 1], [proposals[n]])[0]
        np.testing.assert_allclose(alone.scores, found[n].scores, rtol=1e-12)
        np.testing.assert_allclose(alone.boxes, found[n].boxes, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(found[n].scores.sum(axis=1), 1, rtol=1e-12)
        rois = np.insert(proposals[n], 0, n, axis=1)
        _, deltas = net(Tape(), images, rois)
        np.testing.assert_allclose(found[n].boxes, boxes.decode(proposals[n], deltas, 32))
    assert found[1].scores.shape == (0, 5)
    assert found[1].boxes.shape == (0, 4)


def test_detections_by_hand():
    where = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [20, 0, 30, 10]], float)
    scores = np.array([[0.2, 0.7, 0.1], [0.1, 0.8, 0.1], [0.96, 0.03, 0.01]])
    found = detector.detections(Predicted(scores, where))
    assert found[1].scores.tolist() == [0.8]
    assert found[1].boxes.tolist() == [[0, 0, 10, 9]]
    assert found[2].scores.tolist() == [0.1]  # of two equal ones the first
    assert found[2].boxes.tolist() == [[0, 0, 10, 10]]
    every = detector.detections(Predicted(scores, where), least=0.0, overlap=0.95)
    assert every[1].scores.tolist() == [0.8, 0.7, 0.03]


def test_success_by_hand():
    """Four proposals of an object, and one of the background."""
    truths = np.array([[0, 0, 10, 10], [20, 20, 30, 30]], float)
    assigned = boxes.Assigned(
        np.array([1, 0, 2, 1, 1]), np.zeros((5, 4)), np.array([0, -1, 1, 0, 0])
    )
    where = np.array([[0, 0, 10, 6], [0, 0, 10, 10], [20, 20, 30, 30], [0, 0, 10, 10],
                      [50, 50, 60, 60]], float)  # fmt: skip
    scores = np.eye(3)[[1, 1, 2, 0, 1]]
    found = detector.outcome(Predicted(scores, where), assigned, truths)
    assert found.right.tolist() == [True, True, False, True]
    assert found.overlaps.tolist() == [0.6, 1, 1, 0]
    assert found.objects.tolist() == [0, 1, 0, 0]
    assert detector.success([found], 0.5) == 2 / 4
    assert detector.success([found, found._replace(right=~found.right)], 0.7) == 2 / 8
    none = Outcome(np.zeros(0, bool), np.zeros(0), np.zeros(0, int))
    assert np.isnan(detector.success([none], 0.5))
    assert np.isnan(detector.success([], 0.5))
    nothing = boxes.assign(where, np.zeros((0, 4)), [])
    assert len(detector.outcome(Predicted(scores, where), nothing, np.zeros((0, 4))).right) == 0


@every_head
def test_detecting_keeps_no_activations(head, monkeypatch):
    """The tape of `predict` has no parameters, so it records nothing."""
    made = []
    monkeypatch.setattr(detector, "Tape", lambda **options: made.append(Tape(**options)) or made[0])
    detector.predict(new(head, True), drawn().images, [np.array([[0.0, 0, 9, 9]])] * 2)
    assert len(made) == 1
    assert not made[0].records
    assert not made[0].recording
