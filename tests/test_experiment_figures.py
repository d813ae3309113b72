"""Figures made of parts: equal areas, the same pictures but for the poses, limbs that turn."""

import numpy as np
from tutorial_files import helper

worlds = helper("experiments.worlds")
figures_world = helper("experiments.figures_world")
Figure = figures_world.Figure
Y, X = np.indices((64, 64))


def scenes(name, count=40):
    return worlds.batch(name, np.random.default_rng(0), count)[2]


def masks(kind, poses, seed=0):
    """Figures of r = 40 in the middle of 180 x 180 pixels."""
    rng = np.random.default_rng(seed)
    y, x = np.indices((180, 180))
    for _ in range(poses):
        figure = Figure(kind, 90.0, 90.0, 40.0, 0.0)
        pose = tuple(figures_world._angles(rng) for _ in range(4))
        yield figure.covers(y, x), figure._replace(pose=pose).covers(y, x)


def areas(poses=12):
    """Mean areas over r^2: 2 4, at rest and in poses at random, of the four classes."""
    counts = [[(a.sum(), b.sum()) for a, b in masks(k, poses)] for k in (1, 2, 3, 4)]
    return np.mean(counts, axis=1).T / 1600


def test_all_figures_have_the_same_area(monkeypatch):
    found = areas()
    assert found.max() / found.min() < 1.02
    limbs = figures_world.LIMBS
    monkeypatch.setattr(figures_world, "LIMBS", (limbs[0], limbs[1], limbs[2], limbs[3][:3]))
    found = areas()
    assert found.max() / found.min() > 1.1  # a limb less would be seen


def test_poses_change_little_of_an_area():
    for kind in (1, 2, 3, 4):
        rest, posed = np.array([(a.sum(), b.sum()) for a, b in masks(kind, 20)]).T
        assert abs(posed / rest - 1).max() < 0.04


def test_r_is_half_the_box_of_a_figure():
    """On average over classes and poses, of rigid and of articulated ones alike."""
    found = [
        [np.sqrt(np.prod(np.ptp(np.argwhere(m), axis=0) + 1)) / 80 for m in pair]
        for kind in (1, 2, 3, 4) for pair in masks(kind, 20)
    ]  # fmt: skip
    np.testing.assert_allclose(np.mean(found, axis=0), 1, atol=0.05)


def test_no_pose_reaches_further_than_it_says():
    """Nearly as far, though: angles from end to end of their ranges."""
    furthest = 0
    for kind in (1, 2, 3, 4):
        for shoulder in np.linspace(*figures_world.SHOULDER, 9):
            for forearm in np.linspace(*figures_world.FOREARM, 19):
                if abs(forearm - shoulder) <= figures_world.BEND:
                    parts = Figure(kind, 0, 0, 1, 0, ((shoulder, forearm),) * 4).parts()
                    furthest = max(furthest, np.hypot(*parts.reshape(-1, 2).T).max())
    furthest += figures_world.WIDTH / 2
    assert furthest <= figures_world.REACH < furthest + 0.05


def test_rigid_and_articulated_pictures_differ_in_poses_alone():
    for rigid, bent in zip(scenes("rigid"), scenes("articulated"), strict=True):
        assert [t[:5] for t in rigid.things] == [t[:5] for t in bent.things]
        assert all(t.pose == figures_world.REST for t in rigid.things)
        drawn = [np.zeros((64, 64)), np.zeros((64, 64))]
        for image, scene in zip(drawn, (rigid, bent), strict=True):
            for t in scene.things:
                image += t.covers(Y, X)
        noise = [s.image[0] - image for s, image in zip((rigid, bent), drawn, strict=True)]
        np.testing.assert_allclose(*noise, atol=1e-6)


def test_joints_turn_far():
    poses = np.array([t.pose for s in scenes("articulated", 100) for t in s.things])
    assert np.ptp(poses, axis=(0, 1)).min() > np.pi / 4
    bends = poses[..., 1] - poses[..., 0]
    assert bends.min() < -np.pi / 4
    assert bends.max() > np.pi / 4
    assert abs(bends).max() <= figures_world.BEND


def test_figures_by_hand():
    """A figure with arms, r = 10, at rest: its trunk hangs down, an arm is at each side."""
    arms, legs = (Figure(k, 30.0, 30.0, 10.0, 0.0) for k in (1, 2))
    trunk = (30 + 0.65 * 8.4, 30)  # its lower end is 0.65 of 8.4 below the centre
    assert arms.covers(*trunk)
    assert not legs.covers(*trunk)
    mask = arms.covers(Y, X)
    np.testing.assert_array_equal(mask[:, 1:30], mask[:, 59:30:-1])  # mirrored at x = 30
    np.testing.assert_array_equal(mask[1:60][::-1], legs.covers(Y, X)[1:60])  # upside down
    stride = Figure(3, 30.0, 30.0, 10.0, 0.0).covers(Y, X)[1:60, 1:60]
    np.testing.assert_array_equal(stride, stride[::-1, ::-1])
    assert (stride != stride[:, ::-1]).any()
