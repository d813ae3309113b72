"""Effective receptive fields and dilation: their size, scale against disorder, what is rejected."""

import inspect
import types

import numpy as np
import pytest
from spoilt import spoilt

from deformable_convnets import reference
from deformable_convnets.reference import ConvLayer, receptive_fields


@pytest.mark.parametrize(("k", "n"), [(3, 1), (3, 4), (3, 16), (5, 3), (2, 5)])
def test_spread_of_uniform_layers(k, n):
    """Luo et al. 2016: sigma^2 = n (k^2 - 1) / 12. Sum and variance of n uniform steps."""
    size = 2 * n * (k - 1) + 3
    layers = [ConvLayer((k, 3), padding=((k, k), (1, 1)))] * n
    layers[0] = ConvLayer((k, 3), padding=((k, k), (1, 1)), dilation=(1, 2))
    height = size + n * (k + 1)
    influence = reference.effective_receptive_field((height // 2, 4 * n), layers, (size, 9 * n))
    spread = reference.influence_spread(influence)
    assert np.isclose(spread[0] ** 2, n * (k**2 - 1) / 12, rtol=1e-12)
    assert np.isclose(spread[1] ** 2, (n + 3) * 8 / 12, rtol=1e-12)  # one layer of dilation 2


def test_spread_of_random_weights():
    """The squared gradient has the same expectation: the mean of 400 stacks, n = 4, k = 3."""
    rng, squares = np.random.default_rng(9), np.zeros((15, 15))
    for weights in rng.normal(size=(400, 4, 1, 1, 3, 3)):
        layers = [ConvLayer(3, None, weight, padding=1) for weight in weights]
        squares += reference.effective_receptive_field((7, 7), layers, (15, 15))[0] ** 2
    spread = reference.influence_spread(squares)
    assert np.allclose(spread**2, 4 * 8 / 12, rtol=0.08)
    assert np.allclose(reference.influence_spread(np.sqrt(squares), power=2), spread)
    assert (reference.influence_spread(np.sqrt(squares)) > 1.2 * spread).all()


def test_spread_by_hand():
    influence = np.zeros((2, 3, 5))
    influence[0, 0, 0], influence[1, 2, 4] = 3, -1  # mass 3/4 and 1/4
    assert np.allclose(reference.influence_spread(influence), np.sqrt(3 / 16) * np.array([2, 4]))
    assert np.allclose(reference.influence_spread(influence, power=2), [0.6, 1.2])  # 9/10 and 1/10
    assert np.isnan(reference.influence_spread(np.zeros((4, 4)))).all()
    for unit in (1e-200, 1e200):  # neither lost nor infinite as a square
        assert np.allclose(reference.influence_spread(unit * influence, power=2), [0.6, 1.2])


def check_control(module=receptive_fields):
    """Each pixel and group keeps its displacements; taps do not keep theirs."""
    rng = np.random.default_rng(10)
    offset = rng.normal(size=(2, 2 * 3 * 6, 4, 5)).astype("float32")
    for keep in ("vectors", "lengths"):
        control = module.disordered_offset(offset, (2, 3), np.random.default_rng(0), keep=keep)
        assert control.shape == offset.shape
        assert control.dtype == offset.dtype
        before, after = (a.reshape(2, 3, 6, 2, 4, 5) for a in (offset, control))
        assert (before != after).mean() > 0.5
        lengths = [np.hypot(a[:, :, :, 0], a[:, :, :, 1]) for a in (before, after)]
        if keep == "vectors":
            assert (np.sort(lengths[0], axis=2) == np.sort(lengths[1], axis=2)).all()
            assert (np.sort(before[:, :, :, 1], 2) == np.sort(after[:, :, :, 1], 2)).all()
        else:
            assert np.allclose(*lengths, rtol=1e-5)
            assert np.abs(after.mean()) < 0.1


def test_the_control_keeps_sizes_and_loses_order():
    check_control()
    offset = np.random.default_rng(0).normal(size=(1, 18, 3, 4))
    one, two = (reference.disordered_offset(offset, 3, np.random.default_rng(1)) for _ in "ab")
    assert (one == two).all()
    shift = np.tile([3.0, -2.0], 9).reshape(1, 18, 1, 1)
    assert (reference.disordered_offset(shift, 3, np.random.default_rng(1)) == shift).all()


def test_the_control_tells_disorder_from_scale():
    """An ordered grid of dilation 4 and scattered points of the same effective dilation."""
    rng = np.random.default_rng(11)
    scaled = np.tile((3.0 * reference.R(3)).reshape(1, 18, 1, 1), (1, 1, 30, 40))
    noise = rng.normal(size=scaled.shape) * 2.2
    for keep in ("vectors", "lengths"):
        control = reference.disordered_offset(scaled, 3, rng, keep=keep)
        before, after = (reference.effective_dilation(o, 3).mean() for o in (scaled, control))
        assert before == 4
        assert after > 4.2  # of the scaled grid the control is the larger
        shuffled = reference.disordered_offset(noise, 3, rng, keep=keep)
        before, after = (reference.effective_dilation(o, 3).mean() for o in (noise, shuffled))
        assert np.isclose(before, after, rtol=0.02)  # noise is its own control
    fits = [reference.grid_fit(o, 3).scale.mean() for o in (scaled, noise)]
    assert np.isclose(fits[0], 4)
    assert fits[1] < 1.7


def test_effective_dilation_grows_with_disorder():
    """The numbers for a grid of dilation 2 and offsets of N(0, sigma); the fitted scale stays."""
    rng = np.random.default_rng(12)
    for sigma, expected in ((0.5, 2.13), (1, 2.57), (2, 3.98), (4, 7.30)):
        offset = sigma * rng.normal(size=(1, 18, 100, 100))
        measured = reference.effective_dilation(offset, 3, dilation=2).mean()
        assert np.isclose(measured, expected, atol=0.04)
        u = reference.sampling_points(offset, 3, dilation=2)[0, 0]
        along = np.einsum("kyxd,kd->yx", u - u.mean(axis=0), reference.R(3)) / 12
        assert np.isclose(along.mean(), 2, atol=4 * sigma / np.sqrt(12) / 100)
        assert 2 <= reference.grid_fit(offset, 3, dilation=2).scale.mean() < expected + 0.01


def check_fit(module=receptive_fields):
    """A grid scaled by 2.5, turned by 0.6 (0.8, 0.6) and moved; even kernels have a centre too."""
    c, s = 0.8, 0.6
    for kernel in (3, (2, 5), (1, 4)):
        grid = reference.R(kernel).astype(float)
        turned = 2.5 * grid @ np.array([[c, s], [-s, c]]) + (4, -7)
        offset = (turned - 2 * grid).reshape(1, -1, 1, 1)
        fit = module.grid_fit(offset, kernel, dilation=2)
        assert all(value.shape == (1, 1, 1, 1) for value in fit)
        assert np.allclose(np.ravel(fit), (2.5, np.arctan2(s, c), 0), atol=1e-12)


def test_grid_fit():
    check_fit()
    stretched = (reference.R(3) * (0, 2)).reshape(1, 18, 1, 1).astype(float)
    fit = reference.grid_fit(stretched, 3)  # the grid times (1, 3): scale 2, and 1 off on each axis
    assert np.allclose(np.ravel(fit), (2, 0, np.sqrt(12 / 9)))
    assert reference.grid_fit(stretched.astype("float16"), 3).scale.dtype == "float32"


def test_grid_fit_is_the_least_squares_fit():
    rng = np.random.default_rng(13)
    offset = rng.normal(size=(1, 18, 1, 1))
    fit = [v.item() for v in reference.grid_fit(offset, 3)]
    points = reference.R(3) + offset.reshape(9, 2)

    def distance(scale, angle):
        c, s = scale * np.cos(angle), scale * np.sin(angle)
        rest = points - points.mean(axis=0) - reference.R(3) @ np.array([[c, s], [-s, c]])
        return np.sqrt((rest**2).sum(axis=1).mean())

    assert np.isclose(distance(*fit[:2]), fit[2])
    for step in ((0.01, 0), (-0.01, 0), (0, 0.01), (0, -0.01)):
        assert distance(fit[0] + step[0], fit[1] + step[1]) > fit[2]


def test_dtypes_and_empty_and_not_finite():
    offset = np.zeros((1, 18, 4, 5), "float16")
    layers = [ConvLayer(3, offset, padding=1)]
    assert reference.stacked_points((1, 2), layers).dtype == "float32"
    assert reference.stacked_shares((1, 2), layers, (4, 5)).dtype == "float32"
    assert reference.effective_receptive_field((1, 2), layers, (4, 5)).dtype == "float32"
    assert reference.stacked_points((1, 2), [ConvLayer(3)]).dtype == "float64"
    assert reference.stacked_points(np.zeros((0, 2)), layers * 2).shape == (0, 9, 9, 2)
    bad = np.full((1, 18, 4, 5), np.nan)
    assert np.isnan(reference.stacked_points((1, 2), [ConvLayer(3, bad)])).all()
    assert np.isnan(reference.grid_fit(bad, 3).scale).all()
    assert (reference.stacked_points((1e30, np.inf), layers)[4] == (np.float32(1e30), np.inf)).all()


OFFSET = np.zeros((1, 18, 4, 5))
LAYER = ConvLayer(3, OFFSET, padding=1)
BAD = {
    "layers is empty": lambda r: r.stacked_points((0, 0), []),
    "layers is of type ConvLayer, expected a list": lambda r: r.stacked_points((0, 0), LAYER),
    r"layers\[1\] is of type ndarray": lambda r: r.stacked_points((0, 0), [LAYER, OFFSET]),
    r"layers\[1\].offset has 17 channels, expected a multiple of 2 \* kh \* kw = 18  \[offset \(1":
        lambda r: r.stacked_points((0, 0), [LAYER, ConvLayer(3, OFFSET[:, :17])]),
    r"layers\[0\].stride is 0, expected 1 or more":
        lambda r: r.stacked_points((0, 0), [ConvLayer(3, stride=0)]),
    r"layers\[1\].offset has \(4, 4\) pixels, expected \(4, 5\), the output of an input of \(4, 5":
        lambda r: r.stacked_points((0, 0), [LAYER, ConvLayer(3, OFFSET[..., :4], padding=1)]),
    r"layers\[0\].offset has \(4, 5\) pixels, expected \(6, 6\)":
        lambda r: r.stacked_shares((0, 0), [LAYER], (6, 6)),
    r"layers\[0\].offset has 2 images, expected 1: offset\[n : n \+ 1\]":
        lambda r: r.stacked_points((0, 0), [ConvLayer(3, OFFSET.repeat(2, 0))]),
    r"layers\[1\].offset has dtype float32, expected float64": lambda r: r.stacked_points(
        (0, 0), [LAYER, ConvLayer(3, OFFSET.astype("f4"), padding=1)]),
    r"layers\[0\].kernel_size is \(7, 7\), too large":
        lambda r: r.effective_receptive_field((0, 0), [ConvLayer(7)], (6, 8)),
    r"layers\[0\].weight has shape \(1, 1, 5, 5\), expected O, C/groups and kernel \(3, 3\)":
        lambda r: r.effective_receptive_field(
            (0, 0), [ConvLayer(3, None, np.zeros((1, 1, 5, 5)))], (6, 8)),
    "offset_group is 1 for layers.0., expected less than its 1 offset groups":
        lambda r: r.stacked_points((0, 0), [LAYER], offset_group=1),
    r"offset_group is \[0, 0\], expected an int >= 0, or one for each of the 1 layers":
        lambda r: r.stacked_points((0, 0), [LAYER], offset_group=[0, 0]),
    r"p has shape \(3,\), expected \(..., 2\)": lambda r: r.stacked_points((0, 0, 0), [LAYER]),
    "p is 'here', expected real numbers": lambda r: r.stacked_points("here", [LAYER]),
    r"p is \[\[0\], \[1, 2\]\], expected real": lambda r: r.stacked_points([[0], [1, 2]], [LAYER]),
    r"p is \(4, 0\), expected a pixel of the output, which has \(4, 5\) pixels":
        lambda r: r.effective_receptive_field((4, 0), [LAYER], (4, 5)),
    r"p is \(1.5, 0\), expected an int":
        lambda r: r.effective_receptive_field((1.5, 0), [LAYER], (4, 5)),
    "power is 3, expected 1 or 2": lambda r: r.influence_spread(np.zeros((3, 3)), power=3),
    "influence has 1 dimensions, expected 2 or more": lambda r: r.influence_spread(np.zeros(3)),
    "rng is of type int, expected a numpy Generator": lambda r: r.disordered_offset(OFFSET, 3, 0),
    "keep is 'order', expected 'vectors' or 'lengths'": lambda r: r.disordered_offset(
        OFFSET, 3, np.random.default_rng(0), keep="order"),
    "kernel_size is 1, expected 2 taps or more": lambda r: r.grid_fit(OFFSET, 1),
}  # fmt: skip


@pytest.mark.parametrize("message", BAD)
def test_rejects(message):
    functions = {name: f for name, f in vars(receptive_fields).items() if inspect.isfunction(f)}
    unchecked = {name: inspect.unwrap(f) for name, f in functions.items()}  # as in `test_offsets`
    with pytest.raises((ValueError, TypeError), match=message):
        BAD[message](types.SimpleNamespace(**unchecked))


SABOTAGE = {  # check, what is put in place of what in the library's source
    "not permuted": (check_control, "changed = np.take_along_axis(field, order, axis=2)",
                     "changed = field"),
    "components apart": (check_control, "field.shape[2], 1, Ho", "field.shape[2], 2, Ho"),
    "half a turn": (check_control, "0, 2 * np.pi", "0, 0.5 * np.pi"),
    "not centred": (check_fit, "z = (z - z.mean())", "z = z"),
    "turned back": (check_fit, "np.angle(a)", "np.angle(a.conj())"),
}  # fmt: skip


@pytest.mark.parametrize("name", SABOTAGE)
def test_sabotage(name):
    check, right, wrong = SABOTAGE[name]
    with pytest.raises(AssertionError):
        check(spoilt(receptive_fields, right, wrong))


def test_the_source_as_it_is_passes():
    """What the sabotage does to the module is no reason to fail."""
    for check in {check for check, _, _ in SABOTAGE.values()}:
        check(spoilt(receptive_fields, "import numpy", "import numpy"))


def test_a_layer_without_weight_is_the_mean_of_each_channel():
    """Above a layer of several channels too; one channel of them is the plain case."""
    weight, mean, field = np.random.default_rng(8).normal(size=(4, 2, 3, 3)), ConvLayer(3), (8, 9)
    found = reference.effective_receptive_field((1, 2), [ConvLayer(3, weight=weight), mean], field)
    one = ConvLayer(3, weight=weight.sum(axis=0, keepdims=True))
    expected = reference.effective_receptive_field((1, 2), [one, mean], field)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14)
    stack = [ConvLayer(3, weight=weight), ConvLayer(1, weight=np.ones((2, 3, 1, 1)))]
    with pytest.raises(ValueError, match=r"layers\[1\].weight has shape \(2, 3, 1, 1\), which"):
        reference.effective_receptive_field((0, 0), stack, field)
    with pytest.raises(ValueError, match=r"size is \(0, 3\), expected 1 or more"):
        reference.effective_receptive_field((0, 0), [mean], (0, 3))


def test_nothing_at_all():
    """No image, or no channel."""
    nothing = np.zeros((0, 18, 4, 5))
    assert reference.disordered_offset(nothing, 3, np.random.default_rng(0)).shape == nothing.shape
    assert reference.effective_dilation(nothing, 3).shape == (0, 1, 4, 5)
    assert np.isnan(reference.influence_spread(np.zeros((0, 3, 4)))).all()
