"""ScaleWorld: equal areas, shapes apart and inside, labels where the shapes are."""

import numpy as np
import pytest

from deformable_convnets.reference.networks import scale_world
from deformable_convnets.reference.networks.scale_world import Thing, batch, scene


@pytest.mark.parametrize("kind", [1, 2, 3, 4])
@pytest.mark.parametrize("turn", [0.0, 0.3])
def test_every_shape_has_the_area_of_its_disk(kind, turn):
    """Counted on a fine grid, within a pixel of a boundary of less than 8 r."""
    thing, (y, x) = Thing(kind, 250.0, 250.0, 100.0, turn), np.indices((500, 500))
    covered = thing.covers(y, x)
    assert abs(covered.sum() - np.pi * 100**2) < 800 / 2
    far = np.hypot(*(np.argwhere(covered) - 250).T).max()
    assert thing.reach - 1.5 < far <= thing.reach
    bigger = thing._replace(r=102.0).covers(y, x).sum()
    assert abs(bigger - np.pi * 100**2) > 800 / 2  # two percent more would be seen


def test_shapes_by_hand():
    """Of r = 10 at (20, 30): what tells them apart."""
    places = {"centre": (20, 30), "right": (20, 39.5), "corner": (28, 38), "below": (24.0, 44.0)}
    covered = {
        name: [bool(Thing(kind, 20, 30, 10, 0).covers(*map(np.array, p))) for kind in (1, 2, 3, 4)]
        for name, p in places.items()
    }
    assert covered == {
        "centre": [True] * 4, "right": [True, False, False, True],
        "corner": [False, True, False, False], "below": [False, False, False, False],
    }  # fmt: skip
    quarter = Thing(3, 20, 30, 10, 0)
    assert quarter.covers(np.array(20 - 15), np.array(30.0))  # a corner of the triangle is up
    turned = quarter._replace(turn=np.pi)
    assert not turned.covers(np.array(20 - 15), np.array(30.0))


def test_a_scene():
    rng = np.random.default_rng(0)
    for _ in range(50):
        made = scene(rng, 64)
        assert made.image.shape == (1, 64, 64)
        assert made.image.dtype == np.float32
        y, x = np.indices((64, 64))
        count = sum(t.covers(y, x).astype(int) for t in made.things)
        assert np.max(count) <= 1  # none over another
        for t, (x1, y1, x2, y2) in zip(made.things, made.boxes(), strict=True):
            assert 4 <= t.r <= 24
            rows, columns = np.nonzero(t.covers(y, x))
            assert (rows.min(), rows.max() + 1) == (y1, y2)
            assert (columns.min(), columns.max() + 1) == (x1, x2)
            assert min(x1, y1) >= 0
            assert max(x2, y2) <= 64
        labels, radii = made.labels(4), made.radii(4)
        assert labels.shape == (16, 16)
        assert ((labels > 0) == ~np.isnan(radii)).all()
        assert set(np.unique(labels)) - {0} <= {t.kind for t in made.things}
        wide = np.kron(labels, np.ones((4, 4)))
        assert ((wide > 0) == (count > 0)).mean() > 0.9  # cells lie where the shapes are
        assert ((wide.T > 0) == (count > 0)).mean() <= 1


def test_labels_are_not_transposed():
    """One small disk near a corner."""
    made = scale_world.Scene(np.zeros((1, 64, 64), np.float32), (Thing(1, 9.5, 49.5, 6, 0),))
    rows, columns = np.nonzero(made.labels(4))
    assert abs(rows.mean() - (9.5 - 1.5) / 4) < 0.5
    assert abs(columns.mean() - (49.5 - 1.5) / 4) < 0.5


def test_a_batch_repeats_with_its_seed():
    first, again, other = (batch(np.random.default_rng(s), 3, 96) for s in (0, 0, 1))
    assert first[0].shape == (3, 1, 96, 96)
    assert first[1].shape == (3, 24, 24)
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert (first[0] != other[0]).any()


def test_sizes_are_log_uniform():
    """As many below the geometric mean as above, but for large ones that find no room."""
    rng = np.random.default_rng(0)
    radii = [t.r for _ in range(400) for t in scene(rng, 64).things[:1]]
    small = np.mean(np.array(radii) < np.sqrt(4 * 24))
    assert 0.45 < small < 0.65
    assert np.mean(np.array(radii) < (4 + 24) / 2) > 0.65  # uniform ones would have half


def test_errors():
    with pytest.raises(ValueError, match=r"radius is \(9, 4\), expected 0 < low <= high, and"):
        scene(np.random.default_rng(0), radius=(9, 4))
    with pytest.raises(ValueError, match=r"radius is \(40, 50\)"):
        scene(np.random.default_rng(0), radius=(40, 50))
    with pytest.raises(ValueError, match="count is 0, expected 1 or more"):
        batch(np.random.default_rng(0), 0)
