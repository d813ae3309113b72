"""What notebook 12 computes with: the distance transform and its scenes; and that a fault shows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from spoilt import spoilt
from tutorial_files import helper

from deformable_convnets.reference import sample

neighbours, figures = helper("neighbours"), helper("neighbour_figures")
COSTS = 1 / 16, 1 / 4, 1 / 2, 1.0, 3.0, 64.0


def brute_force(f, a):
    """The transform by comparing all pixels with all."""
    yx = np.moveaxis(np.indices(f.shape), 0, -1)
    far = (yx[:, :, None, None] - yx) ** 2 @ np.broadcast_to(np.asarray(a, float), 2)
    return (f - far).max(axis=(2, 3))


def complaint(module, f, a):
    """What is wrong with the transform of a map of whole numbers, where it has no rounding."""
    D, q = module.distance_transform(f, a)
    if not np.array_equal(D, brute_force(f, a)):
        return "D"
    yx = np.moveaxis(np.indices(f.shape), 0, -1)
    cost = (yx - q) ** 2 @ np.broadcast_to(np.asarray(a, float), 2)
    return None if np.array_equal(sample(f[None], q.astype(float))[0] - cost, D) else "q"


def problems():
    rng = np.random.default_rng(0)
    for _ in range(60):
        size, a = rng.integers(1, 10, 2), rng.choice(COSTS, 2)
        yield rng.integers(-8, 9, size).astype(float), tuple(a)


def test_the_transform_is_the_brute_force_one_bit_for_bit():
    assert not any(complaint(neighbours, f, a) for f, a in problems())


@given(st.lists(st.integers(-40, 40), min_size=1, max_size=30), st.sampled_from(COSTS))
def test_the_envelope_of_any_row(values, a):
    f = np.array(values, float)
    q, p = neighbours.envelope(f, a), np.arange(len(f))
    assert np.array_equal(f[q] - a * (p - q) ** 2, (f - a * (p[:, None] - p) ** 2).max(axis=1))
    assert (np.diff(q) >= 0).all()  # parabolas of one width take turns once


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float16])
def test_pixels_of_any_type(dtype):
    """Differences of bytes would wrap around, and the costs of halves be lost."""
    f = np.array([[3, 200, 5, 0, 90], [90, 0, 5, 200, 3]], dtype)
    exact = f.astype(float)
    assert np.array_equal(neighbours.distance_transform(f, 9)[0], brute_force(exact, 9))
    assert np.array_equal(neighbours.envelope(f[0], [9.0]), neighbours.envelope(exact[0], 9))


FAULTS = {  # what is put in place of what
    "nothing is overtaken": ("if begins > start[-1]:", "if True:"),
    "the last is kept": ("while highest:", "if highest:"),
    "the middle": ("(q + v) / 2 - ", "q / 2 + v - "),
    "half the difference": ("/ (2 * a * (q - v))", "/ (4 * a * (q - v))"),
    "a minimum": ("- (f[q] - f[v]) /", "+ (f[q] - f[v]) /"),
    "one place to the left": ('side="right") - 1', 'side="left") - 1 * (np.arange(len(f)) > 0)'),
    "the costs exchanged": ("f, (a_y, a_x)", "f, (a_x, a_y)"),
    "a cost forgotten": (" - a_x * (x - q_x) ** 2", ""),
    "not squared": ("a_y * (y - q_y) ** 2", "a_y * np.abs(y - q_y)"),
    "q of another column": ("q_y[y, q_x], q_x]", "q_y, q_x]"),
    "x first": ("[q_y[y, q_x], q_x]", "[q_x, q_y[y, q_x]]"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_shows(fault):
    right, wrong = FAULTS[fault]
    module = spoilt(neighbours, right, wrong)

    def fails(f, a):
        try:
            return complaint(module, f, a)
        except IndexError:
            return "an index"

    assert any(fails(f, a) for f, a in problems())


@pytest.mark.parametrize(
    ("name", "args", "words"),
    [
        ("envelope", (np.zeros((2, 3)), 1), r"f has shape \(2, 3\), expected 1 axes, none empty"),
        ("envelope", (np.zeros(0), 1), r"f has shape \(0,\)"),
        ("envelope", (np.zeros(3), (1, 2)), r"a is \(1, 2\), expected a cost above 0$"),
        ("envelope", (np.zeros(3), 0), "a is 0, expected a cost above 0$"),
        ("distance_transform", (np.zeros(3), 1), r"f has shape \(3,\), expected 2 axes"),
        ("distance_transform", (np.full((2, 3), np.nan), 1), "f has 6 values that are not finite"),
        ("distance_transform", (np.zeros((2, 3)), (1, -2)), r"a is \(1, -2\), .* one for y and"),
        ("distance_transform", (np.zeros((2, 3)), np.inf), "a is inf, expected"),
        ("distance_transform", (np.zeros((2, 3)), (1, 2, 3)), r"a is \(1, 2, 3\), expected"),
    ],
)
def test_bad_input(name, args, words):
    with pytest.raises(ValueError, match=words):
        getattr(neighbours, name)(*args)


def test_the_bars_stand_where_they_are_read():
    """`leaning`, read at `places`, is `upright`; the bars are whole, and as large."""
    leaning, upright, places = figures.two_bars()
    assert np.abs(sample(leaning[None], places)[0] - upright).max() < 0.3  # interpolated edges
    assert np.isclose(leaning.sum(), upright.sum(), rtol=0.02)
    assert not np.isclose(leaning, upright, atol=0.5).all()


def test_the_layers_of_the_first_figure():
    """Two outputs for each; by hand, and so that the figure says what its titles say."""
    scene, outputs, reads = figures.by_hand(np.random.default_rng(0))
    assert scene.shape == figures.SIZE
    first, second = outputs
    moved = {}
    for title, ((one, _), (two, _)) in reads.items():
        moved[title.split(":")[0]] = np.allclose(one - first, two - second)
    same = {name for name, alike in moved.items() if alike}
    assert same == {"convolution", "atrous", "active", "dynamic filter"}
    for places, weights in (pair for pairs in reads.values() for pair in pairs):
        assert weights is None or weights.shape == places.shape[:-1]
        assert weights is None or (weights.min() >= 0 and weights.max() <= 1)
