"""Boxes: proposals, assignment, encoding and suppression, by hand."""

import numpy as np
import pytest

from deformable_convnets.reference.networks import boxes, metrics
from deformable_convnets.reference.networks.boxes import assign, decode, encode, suppress

NONE = np.zeros((0, 4))


def rows(*each):
    return np.array(each, float).reshape(-1, 4)


TRUTHS = rows((10, 10, 30, 20), (40, 32, 64, 64))


def test_encode_by_hand():
    """A box 20 wide and 10 high at (20, 15), to one of 40 and 5 whose centre is (22, 14)."""
    found = encode(rows((10, 10, 30, 20)), rows((2, 11.5, 42, 16.5)))
    assert found.tolist() == [[(2 / 20) / 0.1, (-1 / 10) / 0.1, np.log(2) / 0.2, np.log(0.5) / 0.2]]
    transposed = encode(rows((10, 10, 20, 30)), rows((11.5, 2, 16.5, 42)))[0]
    assert transposed[[1, 0, 3, 2]].tolist() == found[0].tolist()


def test_decode_undoes_encode():
    rng = np.random.default_rng(0)
    given = boxes.proposals(rng, TRUTHS, (64, 80))
    goals = given[rng.permutation(len(given))]
    np.testing.assert_allclose(decode(given, encode(given, goals), (64, 80)), goals, atol=1e-12)
    wrong = encode(given, goals)[:, [1, 0, 2, 3]]  # dy first
    assert abs(decode(given, wrong, (64, 80)) - goals).max() > 1


def test_decode_by_hand():
    given = rows((10, 10, 30, 20))
    assert decode(given, np.zeros((1, 4)), 64).tolist() == given.tolist()
    assert decode(given, rows((10, 0, 0, 0)), 64).tolist() == [[30, 10, 50, 20]]  # one width on
    assert decode(given, rows((0, 0, 1e6, 0)), (48, 64)).tolist() == [[0, 10, 64, 20]]  # clipped
    assert decode(given, rows((100, 0, 0, 0)), (48, 64)).tolist() == [[64, 10, 64, 20]]  # it left
    assert decode(given, rows((0, 1e300, 0, -1e6)), (48, 64)).tolist() == [[10, 48, 30, 48]]


def test_assign_by_hand():
    """Overlaps 1, 1/2, 10/21 with the first, 3/4 with the second, and none."""
    given = rows((10, 10, 30, 20), (10, 10, 20, 20), (10, 10, 19.524, 20), (40, 40, 64, 64),
                 (0, 50, 10, 60))  # fmt: skip
    found = assign(given, TRUTHS, [3, 1])
    assert found.labels.tolist() == [3, 3, 0, 1, 0]
    assert found.objects.tolist() == [0, 0, -1, 1, -1]
    assert found.targets[0].tolist() == [0, 0, 0, 0]
    np.testing.assert_allclose(found.targets[1], [5, 0, np.log(2) / 0.2, 0], rtol=1e-15)
    assert not found.targets[[2, 4]].any()
    assert assign(given, TRUTHS, [3, 1], 0.4).labels.tolist() == [3, 3, 3, 1, 0]
    assert assign(given, TRUTHS, [3, 1], 0.8).labels.tolist() == [3, 0, 0, 0, 0]
    np.testing.assert_allclose(
        decode(given, found.targets, 64)[found.objects >= 0],
        TRUTHS[found.objects[found.objects >= 0]],
    )


def test_suppress_by_hand():
    """Overlaps with the first: 1, 1/3, 1/9 and none; of the third and fourth 7/13."""
    given = rows((0, 0, 10, 10), (0, 0, 10, 10), (5, 0, 15, 10), (8, 0, 18, 10), (50, 50, 60, 60))
    scores = np.array([0.9, 0.95, 0.8, 0.7, 0.1])
    assert suppress(given, scores).tolist() == [1, 3, 4]
    assert suppress(given, scores, 0.4).tolist() == [1, 2, 4]  # 3 overlaps 2, not 1
    assert suppress(given, scores, 0.6).tolist() == [1, 2, 3, 4]
    assert suppress(given, scores, 1.0).tolist() == [1, 0, 2, 3, 4]
    assert suppress(given, -scores).tolist() == [4, 3, 0]
    for wrong in (np.nan, 2, -0.1):
        with pytest.raises(ValueError, match=f"threshold is {wrong}, expected 0 to 1"):
            suppress(given, scores, wrong)
    assert suppress(given, np.ones(5)).tolist() == [0, 3, 4]  # of equal ones the first
    # at 0.3, 3 overlaps 2 by more, but 2 was suppressed itself
    assert metrics.overlaps(given[2:3], given[3:4]).item() == 7 / 13


def test_suppress_looks_at_all():
    """Of many boxes apart from each other, the last too."""
    left = 2.0 * np.arange(2500)
    given = np.stack([left, 0 * left, left + 1, 0 * left + 1], axis=1)
    assert suppress(given, -left).tolist() == list(range(2500))


def test_the_largest_growth():
    """1000 / 16 times as wide, not more: what is below is not cut."""
    given, step = rows((500, 0, 501, 1)), np.log(1000 / 16) / 0.2
    for dw, wide in ((step - 0.1, 62.5 / np.exp(0.02)), (step, 62.5), (step + 1, 62.5)):
        box = decode(given, rows((0, 0, dw, 0)), (1, 1000))[0]
        assert box[2] - box[0] == pytest.approx(wide, rel=1e-12)


def test_suppress_against_a_loop():
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 40, (60, 2))
    given, scores = np.hstack([low, low + rng.uniform(8, 30, (60, 2))]), rng.permutation(60) / 60
    left, kept = list(np.argsort(-scores)), []
    while left:
        best = left.pop(0)
        kept.append(int(best))
        left = [i for i in left if metrics.overlaps(given[[best]], given[[i]]).item() <= 0.3]
    assert suppress(given, scores).tolist() == kept
    assert 5 < len(kept) < 50


def test_proposals():
    """Centres within a quarter of the side, sides within e^0.4, everything in the image."""
    truths, count = rows((20, 24, 40, 34)), 4000
    given = boxes.proposals(np.random.default_rng(0), truths, (64, 80), per_object=count)
    near, other = given[:count], given[count:]
    assert other.shape == (6, 4)
    centre, side = (near[:, :2] + near[:, 2:]) / 2, near[:, 2:] - near[:, :2]
    assert (abs(centre - (30, 29)) <= (5, 2.5)).all()
    assert (abs(centre - (30, 29)).max(axis=0) > (4.9, 2.45)).all()
    scale = np.log(side / (20, 10))
    assert (abs(scale) <= 0.4 + 1e-12).all()
    assert (abs(scale).max(axis=0) > 0.39).all()
    assert abs(np.corrcoef(scale.T)[0, 1]) < 0.05  # each axis by itself
    overlap = metrics.overlaps(near, truths)
    assert 0.5 < overlap.mean() < 0.65  # the pilot's mean was 0.567
    boxes.checked("given", given, (64, 80))


def test_proposals_stay_in_the_image():
    rng = np.random.default_rng(0)
    corners = rows((0, 0, 20, 20), (60, 44, 80, 64), (0, 0, 80, 64))
    given = boxes.proposals(rng, corners, (64, 80), per_object=200, background=400)
    assert given.shape == (1000, 4)
    boxes.checked("given", given, (64, 80))
    for wrong in ((80, 64), (40, 80)):  # x and y exchanged, another image
        with pytest.raises(ValueError, match="expected 0 <= x <= W"):
            boxes.checked("given", given, wrong)
    sides = given[600:, 2:] - given[600:, :2]
    assert (sides.min(axis=0) < (12, 10)).all()
    assert (sides.max(axis=0) > (55, 44)).all()


def test_they_repeat_with_their_seed():
    first, again, other = (boxes.proposals(np.random.default_rng(s), TRUTHS, 64) for s in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert first.shape == (18, 4)


def test_nothing_there():
    rng = np.random.default_rng(0)
    assert boxes.proposals(rng, NONE, 64).shape == (6, 4)
    assert boxes.proposals(rng, NONE, 64, background=0).shape == (0, 4)
    for given in (NONE, TRUTHS):
        found = assign(given, NONE, [])
        assert found.labels.tolist() == [0] * len(given)
        assert found.objects.tolist() == [-1] * len(given)
        assert found.targets.shape == given.shape
    assert assign(NONE, TRUTHS, [1, 2]).targets.shape == (0, 4)
    assert encode(NONE, NONE).shape == decode(NONE, NONE, 64).shape == (0, 4)
    assert suppress(NONE, np.zeros(0)).tolist() == []


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: boxes.checked("b", rows((0, 0, 1, 1), (5, 1, 3, 9))),
         r"b\[1\] is \(5, 1, 3, 9\), expected x1 < x2 and y1 < y2"),
        (lambda: boxes.checked("b", rows((2, 1, 2, 9))), r"b\[0\] is \(2, 1, 2, 9\), expected x1"),
        (lambda: boxes.checked("b", rows((0, 0, 1, np.nan))), r"b\[0\] is \(0, 0, 1, nan\), exp"),
        (lambda: boxes.checked("b", rows((0, 0, 65, 9)), (80, 64)),
         r"b\[0\] is \(0, 0, 65, 9\), expected 0 <= x <= W = 64 and 0 <= y <= H = 80"),
        (lambda: boxes.checked("b", rows((0, 0, 9, 65)), (64, 80)), "0 <= y <= H = 64"),
        (lambda: boxes.proposals(np.random.default_rng(0), rows((-1, 0, 9, 9)), 64),
         r"truths\[0\] is \(-1, 0, 9, 9\), expected 0 <= x"),
        (lambda: boxes.checked("b", np.zeros((3, 5))), r"b has shape \(3, 5\), expected \(R, 4\)"),
        (lambda: boxes.checked("b", np.zeros(0)), r"b has shape \(0,\), expected \(R, 4\)"),
        (lambda: boxes.proposals(np.random.default_rng(0), NONE, 64, background=-1),
         "background is -1, expected 0 or more"),
        (lambda: boxes.proposals(np.random.default_rng(0), NONE, 0), "size"),
        (lambda: assign(NONE, TRUTHS, [1]), r"kinds has shape \(1,\), expected one for each of 2"),
        (lambda: assign(NONE, TRUTHS, [1, 0]), "a kind is 0, expected 1 or more"),
        (lambda: assign(NONE, TRUTHS, [1, 2], 1.5), "threshold is 1.5, expected more than 0"),
        (lambda: assign(rows((5, 1, 3, 9)), TRUTHS, [1, 2]), r"proposals\[0\] is \(5, 1, 3, 9\)"),
        (lambda: encode(TRUTHS, NONE), r"boxes has shape \(0, 4\), expected \(as proposals\)"),
        (lambda: decode(TRUTHS, np.zeros((2, 5)), 64), r"deltas has shape \(2, 5\), expected \(as"),
        (lambda: decode(TRUTHS, np.full((2, 4), np.nan), 64), r"deltas\[0\] is \(nan, nan, nan,"),
        (lambda: suppress(TRUTHS, np.zeros(3)), r"scores has shape \(3,\), expected \(R,\) = \(2,"),
        (lambda: suppress(TRUTHS, np.array([1, np.nan])), r"scores\[1\] is nan, expected finite"),
    ],
)  # fmt: skip
def test_errors(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_what_is_no_array_of_numbers():
    with pytest.raises(TypeError, match="b is of type list, expected an array of real numbers"):
        boxes.checked("b", [[0, 0, 1, 1]])
    with pytest.raises(TypeError, match="b is of type bool, expected an array of real numbers"):
        boxes.checked("b", np.zeros((1, 4), bool))
    with pytest.raises(TypeError, match="kinds has dtype float64, expected whole numbers"):
        assign(NONE, TRUTHS, [1.0, 2.0])
