"""The worlds of the experiments: labels where the things are, equal areas, nothing that touches."""

import builtins
import sys
import time
from functools import cache, partial

import numpy as np
import pytest
from tutorial_files import helper

from deformable_convnets.reference.networks import scale_world
from deformable_convnets.reference.networks.scale_world import Thing

pytest.importorskip("sklearn")
worlds = helper("experiments.worlds")
digits_world = helper("experiments.digits_world")
figures_world = helper("experiments.figures_world")
each_world = pytest.mark.parametrize("name", worlds.WORLDS)
Y, X = np.indices((64, 64))


@cache
def drawn_from(name):
    return worlds.batch(name, np.random.default_rng(0), 150)[2]


def scenes(name, count=40):
    """The first ones of a seed, at most 150."""
    return drawn_from(name)[:count]


def touching(scene):
    """Whether a pixel of a thing is a pixel of another one, or beside one."""
    masks = [np.pad(t.covers(Y, X), 1) for t in scene.things]
    near = [sum(np.roll(m, (i, j), (0, 1)) for i in (-1, 0, 1) for j in (-1, 0, 1)) for m in masks]
    pairs = [(a, b) for i, a in enumerate(near) for b in masks[i + 1 :]]
    return any((a.astype(bool) & b).any() for a, b in pairs)


def contrast(scene):
    """The mean of the picture where its labels say a thing is, and where they say that none is."""
    labels = scene.labels(1)
    return scene.image[0][labels > 0].mean(), scene.image[0][labels == 0].mean()


@each_world
@pytest.mark.parametrize("size", [64, 96])
def test_a_batch(name, size):
    images, labels, made = worlds.batch(name, np.random.default_rng(0), 12, size)
    assert images.shape == (12, 1, size, size)
    assert images.dtype == np.float32
    assert labels.shape == (12, size // 4, size // 4)
    assert np.issubdtype(labels.dtype, np.integer)
    assert worlds.WORLDS[name].CLASSES[0] == "background"
    for scene, drawn in zip(made, labels, strict=True):
        assert 1 <= len(scene.things) <= 3
        np.testing.assert_array_equal(scene.labels(4), drawn)
        kinds = {t.kind for t in scene.things}
        assert set(np.unique(drawn)) - {0} <= kinds
        assert kinds <= set(range(1, len(worlds.WORLDS[name].CLASSES)))
        radii = scene.radii(4)
        assert ((drawn > 0) == ~np.isnan(radii)).all()


@each_world
def test_every_class_is_drawn(name):
    kinds = [t.kind for s in scenes(name, 150) for t in s.things]
    counts = np.bincount(kinds, minlength=len(worlds.WORLDS[name].CLASSES))[1:]
    assert counts.min() > 0.4 * counts.mean()


@each_world
def test_labels_lie_on_the_things(name):
    for scene in scenes(name, 10):
        inside, outside = contrast(scene)
        assert inside > outside + 0.15
        bright = scene.image[0] > 0.5
        right = (bright == (scene.labels(1) > 0)).mean()
        wrong = ((scene.labels(1) > 0) == bright.T).mean()
        assert right > 0.55
        if any(abs(t.y - t.x) > 2 * t.reach for t in scene.things):
            assert wrong < right


@each_world
def test_boxes_are_tight(name):
    for scene in scenes(name, 20):
        for thing, (x1, y1, x2, y2) in zip(scene.things, scene.boxes().astype(int), strict=True):
            mask = thing.covers(Y, X)
            inner = mask[y1:y2, x1:x2]
            assert inner.sum() == mask.sum() > 0
            assert all(side.any() for side in (inner[0], inner[-1], inner[:, 0], inner[:, -1]))
            assert 0 <= x1 < x2 <= 64
            assert 0 <= y1 < y2 <= 64


@each_world
def test_nothing_touches(name):
    assert not any(touching(s) for s in scenes(name))


@each_world
def test_things_that_touch_would_be_seen(name):
    scene = next(s for s in scenes(name) if len(s.things) > 1)
    first, second, *_ = scene.things
    beside = second._replace(y=first.y, x=first.x + 0.5)
    assert touching(scene._replace(things=(first, beside)))


@each_world
def test_a_seed_makes_a_world(name):
    images, labels, made = worlds.batch(name, np.random.default_rng(5), 4)
    again = worlds.batch(name, np.random.default_rng(5), 4)
    np.testing.assert_array_equal(images, again[0])
    np.testing.assert_array_equal(labels, again[1])
    assert [s.things for s in made] == [s.things for s in again[2]]
    assert (images != worlds.batch(name, np.random.default_rng(6), 4)[0]).any()


@each_world
def test_drawing_is_no_load_on_training(name):
    """A step of training takes 2.5 ms for each picture, and less than 1 ms is usual here."""
    worlds.batch(name, np.random.default_rng(0), 2)
    times = []
    for seed in range(3):
        start = time.process_time()
        worlds.batch(name, np.random.default_rng(seed), 20)
        times.append((time.process_time() - start) / 20)
    assert min(times) < 0.002


def test_bad_sizes_and_names():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="1 pictures of 66 pixels in cells of 4: expected"):
        worlds.batch("scale", rng, 1, 66)
    with pytest.raises(ValueError, match="0 pictures of 64 pixels"):
        worlds.batch("scale", rng, 0)
    with pytest.raises(ValueError, match="2 pictures of 44 pixels in cells of 4: expected"):
        worlds.batch("scale", rng, 2, 44)
    with pytest.raises(ValueError, match="world is 'flat', expected one of scale, structured"):
        worlds.batch("flat", rng, 1)
    with pytest.raises(ValueError, match="split is 'all', expected one of 'train', 'test'"):
        digits_world.scene(rng, split="all")
    for world in (figures_world, digits_world):
        with pytest.raises(ValueError, match=r"radius is \(40, 50\), .* to fit 64 pixels"):
            world.scene(rng, radius=(40, 50))


# Sizes.


def test_thirds_of_the_sizes():
    names = [worlds.size_bin(r, 64) for r in (4, 7.2, 7.3, 13.1, 13.2, 24)]
    assert names == ["small"] * 2 + ["medium"] * 2 + ["large"] * 2
    names = [worlds.size_bin(r, 96) for r in (10.9, 11, 19.7, 19.9)]
    assert names == ["small", "medium", "medium", "large"]
    with pytest.raises(ValueError, match="r is nan, expected more than 0"):
        worlds.size_bin(np.nan, 64)


def test_every_cell_has_one_place():
    made = scenes("scale", 20)
    radii = np.stack([s.radii(4) for s in made])
    found = worlds.places(radii, 64)
    assert list(found) == ["small", "medium", "large", "background"]
    assert (sum(found.values()) == 1).all()
    np.testing.assert_array_equal(found["background"], np.stack([s.labels(4) for s in made]) == 0)
    for i in np.argwhere(~np.isnan(radii)):
        assert found[worlds.size_bin(radii[tuple(i)], 64)][tuple(i)]


# The structured background.


def test_background_of_zeros_changes_nothing_but_rims():
    """The shapes, their places and the noise are those of flat pictures."""
    zeros = partial(scale_world.scene, background=lambda rng, size: np.zeros((size, size)))
    for seed in range(5):
        flat = scale_world.scene(np.random.default_rng(seed))
        same = zeros(np.random.default_rng(seed))
        np.testing.assert_array_equal(flat.image, same.image)
        assert flat.things == same.things


def test_structured_pictures_hold_the_same_shapes():
    for seed in range(20):
        flat = scale_world.scene(np.random.default_rng(seed), noise=0)
        made = worlds.WORLDS["structured"].scene(np.random.default_rng(seed), 64, noise=0)
        assert made.things == flat.things
        shapes, rim = flat.image[0] == 1, np.zeros((64, 64), bool)
        assert (made.image[0][shapes] == 1).all()
        for t in made.things:
            rim |= t._replace(r=t.r + 2).covers(Y, X)
        assert (made.image[0][rim & ~shapes] == 0).all()


def test_brightness_does_not_tell_a_shape_from_structure():
    """Of the bright pixels outside the rims, bands have as many as shapes or more."""

    def bright(world):
        made = [world(np.random.default_rng(s), 64, noise=0) for s in range(40)]
        return np.mean([(s.image[0] == 1)[s.labels(1) == 0].mean() for s in made])

    assert 0.2 < bright(worlds.WORLDS["structured"].scene) < 0.5
    assert bright(scale_world.scene) == 0


def test_bands_go_from_edge_to_edge():
    """No piece of a band lies inside the picture, as a shape does."""
    ndimage = pytest.importorskip("scipy.ndimage")

    def inside(picture):
        pieces, count = ndimage.label(picture)
        edge = np.concatenate([pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]])
        return count - len(set(edge) - {0})

    rng = np.random.default_rng(0)
    drawn = [worlds.bands(rng, size) for size in (64, 96) for _ in range(30)]
    assert {value for band in drawn for value in np.unique(band)} == {0.0, 1.0}
    assert all(inside(band) == 0 for band in drawn)
    assert inside(Thing(1, 30.0, 30.0, 9.0, 0.0).covers(Y, X)) == 1


# Digits.


def test_digits_of_the_splits_are_disjoint():
    seen = {
        name: {t.index for s in scenes(name, 150) for t in s.things}
        for name in ("digits", "digits-test")
    }
    assert len(seen["digits"]) > 150
    assert len(seen["digits-test"]) > 100
    assert not seen["digits"] & seen["digits-test"]
    covered = [np.arange(1797)[part] for part in digits_world.SPLITS.values()]
    np.testing.assert_array_equal(np.concatenate(covered), np.arange(1797))
    assert worlds.held_out("digits") == worlds.held_out("digits-test") == "digits-test"
    assert worlds.held_out("scale") == "scale"


def test_a_digit_of_its_own_size_is_its_image():
    images, names = digits_world.digits()
    assert images.shape == (1797, 8, 8)
    assert (images.min(), images.max()) == (0, 1)
    digit = digits_world.Digit(int(names[7]) + 1, 23.5, 33.5, 4.0, 7)
    window = digit.ink(Y, X)
    np.testing.assert_allclose(window[20:28, 30:38], images[7])
    assert window.sum() == pytest.approx(images[7].sum())
    larger = digit._replace(r=12.0).ink(Y, X)
    assert larger.sum() == pytest.approx(9 * images[7].sum())
    np.testing.assert_allclose(larger[13:36:3, 23:46:3], images[7])  # every third pixel


def test_digits_in_a_scene():
    for scene in scenes("digits", 20):
        for t in scene.things:
            assert digits_world.CLASSES[t.kind] == str(digits_world.digits()[1][t.index])
            assert 6 <= t.r <= 24
    bare = digits_world.scene(np.random.default_rng(0), noise=0)
    ink = sum(t.ink(Y, X) for t in bare.things)
    np.testing.assert_allclose(bare.image[0], ink, atol=1e-6)
    np.testing.assert_array_equal(bare.image[0] > digits_world.INK, bare.labels(1) > 0)


def test_every_digit_has_cells():
    """Of 4 x 4 pixels; where ink starts at three quarters of black, some have none."""
    y, x = np.indices((16, 16)) * 4 + 1.5
    drawn = [t.ink(y, x) for s in scenes("digits", 150) for t in s.things]
    assert min((ink > digits_world.INK).sum() for ink in drawn) >= 1
    assert min((ink > 0.75).sum() for ink in drawn) == 0


def test_without_scikit_learn(monkeypatch):
    real = builtins.__import__

    def missing(name, *args, **options):
        if name.startswith("sklearn"):
            raise ImportError(name)
        return real(name, *args, **options)

    digits_world.digits.cache_clear()
    monkeypatch.delitem(sys.modules, "sklearn.datasets", raising=False)
    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ImportError, match="pip install scikit-learn"):
        worlds.batch("digits", np.random.default_rng(0), 1)
    assert len(worlds.batch("rigid", np.random.default_rng(0), 1)[2]) == 1
