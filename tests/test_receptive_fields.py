"""The points of stacked layers and their influence, against a recursion in fractions."""

import itertools
from fractions import Fraction
from math import floor

import numpy as np
import pytest
from spoilt import spoilt

from deformable_convnets import reference
from deformable_convnets.reference import ConvLayer, receptive_fields


def dyadic(rng, *shape, low=-16, high=17, bits=3):
    return rng.integers(low, high, shape) / 2.0**bits


def field(rng, output, K, G=1, **options):
    return dyadic(rng, 1, 2 * G * K, *output, **options)


def stack(rng, **options):
    """Three layers with nothing in common: maps of 17x24, 9x22, 8x10 and 6x8 pixels."""
    return [
        ConvLayer((3, 2), field(rng, (9, 22), 6, **options), stride=(2, 1),
                  padding=((1, 2), (0, 1)), dilation=(1, 3)),
        ConvLayer((2, 3), field(rng, (8, 10), 6, G=3, **options), stride=(1, 2),
                  padding=((0, 1), (2, 0)), dilation=2),
        ConvLayer(3, field(rng, (6, 8), 9, **options), padding=(1, 0), dilation=(2, 1),
                  stride=(1, 1)),
    ]  # fmt: skip


SIZE = (17, 24)


def points_by_hand(p, layers, group):
    """The recursion of one point, in Fractions and loops."""
    if not layers:
        return [p]
    *below, layer = layers
    kh, kw = (layer.kernel_size,) * 2 if isinstance(layer.kernel_size, int) else layer.kernel_size
    stride, dilation = np.broadcast_to(layer.stride, 2), np.broadcast_to(layer.dilation, 2)
    padding = layer.padding
    if not isinstance(padding, tuple) or not isinstance(padding[0], tuple):
        padding = [(side,) for side in np.broadcast_to(padding, 2)]
    found = []
    for i, j in itertools.product(range(kh), range(kw)):
        moved = []
        for axis, tap in enumerate((i, j)):
            s, d, before = int(stride[axis]), int(dilation[axis]), int(padding[axis][0])
            value = s * p[axis] - before + d * tap
            if layer.offset is not None:
                g = group if layer.offset.shape[1] > 2 * kh * kw else 0
                value += read(layer.offset[0, 2 * (g * kh * kw + i * kw + j) + axis], p)
            moved.append(value)
        found += points_by_hand(tuple(moved), below, group)
    return found


def read(x, p):
    """Equation (3), over the corners of the cell of p that are pixels."""
    total = Fraction(0)
    for qy, qx in itertools.product(*(range(floor(v), floor(v) + 2) for v in p)):
        if 0 <= qy < x.shape[0] and 0 <= qx < x.shape[1]:
            total += (1 - abs(qy - p[0])) * (1 - abs(qx - p[1])) * Fraction(float(x[qy, qx]))
    return total


def places(rng, count=8):
    """Points of the top map: pixels, its border, between pixels, outside; in eighths."""
    given = [(0, 0), (5, 7), (2.5, 3.25), (-0.5, 4), (5.75, 7.5), (-3, 20)]
    return np.array([*given, *np.round(rng.uniform((-1, -1), (6, 8), (count, 2)) * 8) / 8])


def check_points(module=receptive_fields):
    """The points of two and three layers, bit for bit, for each offset group of the middle one."""
    rng = np.random.default_rng(1)
    alike = [ConvLayer((2, 3), field(rng, (5, 6), 6), padding=((0, 1), (1, 1))) for _ in "ab"]
    exact = points_by_hand((Fraction(5, 4), Fraction(3, 2)), alike, 0)
    points = module.stacked_points((1.25, 1.5), alike)
    assert points.reshape(-1, 2).tolist() == [list(map(float, e)) for e in exact]
    layers, p = stack(rng), places(rng)
    for group in range(3):
        points = module.stacked_points(p, layers, offset_group=[0, group, 0])
        assert points.shape == (14, 9, 6, 6, 2)
        for at, place in zip(p[:7], points, strict=False):
            exact = points_by_hand(tuple(map(Fraction, at)), layers, group)
            assert place.reshape(-1, 2).tolist() == [list(map(float, e)) for e in exact]


def test_three_layers_equal_the_recursion_in_fractions():
    check_points()


@pytest.mark.parametrize("number", [0, 1, 2])
def test_one_layer_gives_the_sampling_points(number):
    layer = stack(np.random.default_rng(2))[number]
    options = {"stride": layer.stride, "padding": layer.padding, "dilation": layer.dilation}
    expected = reference.sampling_points(layer.offset, layer.kernel_size, **options)
    p = np.moveaxis(np.indices(layer.offset.shape[2:]), 0, -1)
    for group in range(expected.shape[1]):
        points = reference.stacked_points(p, [layer], offset_group=group)
        assert (np.moveaxis(points, 2, 0) == expected[0, group]).all()


def test_by_hand():
    """A tap of the top layer falls between two pixels, of which one moves its centre tap by 1.

    The top layer's tap 5, (0, 1), is moved from (2, 3) to (2, 3.5). At (2, 3) the lower layer's
    centre tap has dx = 1, at (2, 4) it has 0, in the middle 1/2: it reads (2, 3.5 + 0.5).
    """
    top, below = np.zeros((2, 1, 18, 5, 6))
    top[0, 2 * 5 + 1, 2, 2] = 0.5
    below[0, 2 * 4 + 1, 2, 3] = 1
    layers = [ConvLayer(3, below, padding=1), ConvLayer(3, top, padding=1)]
    points = reference.stacked_points((2, 2), layers)
    assert points.shape == (9, 9, 2)
    assert points[5, 4].tolist() == [2, 4]
    assert points[5, 5].tolist() == [2, 4.5]
    assert points[3, 4].tolist() == [2, 1]


@pytest.mark.parametrize("zeros", [True, False])
def test_without_offsets_it_is_the_regular_comb(zeros):
    """Dilations 1, 3, 9: each of 27x27 pixels once. An offset of zeros is as good as none."""
    offset = np.zeros((1, 18, 30, 31)) if zeros else None
    layers = [ConvLayer(3, offset, padding=d, dilation=d) for d in (9, 3, 1)]
    points = reference.stacked_points([(14, 15), (0, 0)], layers)
    assert points.shape == (2, 9, 9, 9, 2)
    square = [(y, x) for y in range(-13, 14) for x in range(-13, 14)]
    assert sorted(map(tuple, points[1].reshape(-1, 2).tolist())) == square
    assert (points[0] - points[1] == (14, 15)).all()
    assert (points[0, 0, 4, 4] == (13, 14)).all()  # the top layer's tap (-1, -1) has dilation 1


def test_strides_and_padding_move_p0():
    """Two layers of stride 2 and padding 1: the centre of pixel (a, b) is (4 a, 4 b)."""
    layers = [ConvLayer(3, stride=2, padding=1), ConvLayer(3, stride=2, padding=1)]
    points = reference.stacked_points((3, 5), layers)
    assert points[4, 4].tolist() == [12, 20]
    assert points[0, 8].tolist() == [12 - 2 + 1, 20 - 2 + 1]
    valid = [ConvLayer(3, stride=2), ConvLayer((2, 3))]
    assert reference.stacked_points((0, 0), valid)[0, 0].tolist() == [0, 0]


def test_constant_offsets_shift():
    """Inside, the shifts add up: that of the top layer counts in strides of the lower one."""
    rng = np.random.default_rng(3)
    plain = [ConvLayer(3, padding=1, stride=2), ConvLayer(3, padding=1)]
    shifts = dyadic(rng, 2, 2)
    moved = [
        ConvLayer(3, np.broadcast_to(np.tile(s, 9)[None, :, None, None], (1, 18, 12, 13)),
                  padding=1, stride=layer.stride)
        for layer, s in zip(plain, shifts, strict=True)
    ]  # fmt: skip
    difference = reference.stacked_points((6, 6), moved) - reference.stacked_points((6, 6), plain)
    assert (difference == shifts[0] + 2 * shifts[1]).all()


def test_a_point_between_pixels_is_the_mean_of_their_points():
    layers = stack(np.random.default_rng(4))[:2]
    y, x = 3.25, 6.5
    q = np.array([[3, 6], [3, 7], [4, 6], [4, 7]])
    weights = reference.g(q[:, 0], y) * reference.g(q[:, 1], x)
    mean = np.tensordot(weights, reference.stacked_points(q, layers[:1]), 1)
    assert (reference.stacked_points((y, x), layers[:1]) == mean).all()


def test_at_the_border_every_tap_keeps_its_offset_and_the_offset_fades():
    """All offsets are 2: half a pixel outside the map they count half, a pixel outside nothing."""
    layer = ConvLayer(3, np.full((1, 18, 4, 5), 2.0), padding=1)
    corner = reference.stacked_points((0, 0), [layer])
    assert (corner == reference.R(3) + 2).all()
    for y, fraction in ((-0.5, 0.5), (-1, 0), (-7, 0), (3.25, 0.75), (4, 0)):
        points = reference.stacked_points((y, 2), [layer])
        assert (points == np.array([y, 2]) + reference.R(3) + 2 * fraction).all()


def test_shares():
    """The product along the path: here it is written out for every one of 9*6*6 points."""
    rng = np.random.default_rng(5)
    layers = stack(rng, low=-40, high=41)
    p, levels = places(rng), [(6, 8), (8, 10), (9, 22), SIZE]
    shares = reference.stacked_shares(p, layers, SIZE)
    paths = [p, *(reference.stacked_points(p, layers[i:]) for i in (2, 1, 0))]
    expected = np.ones(shares.shape)
    for points, (H, W) in zip(paths, levels, strict=True):
        on = np.stack(
            [
                np.clip(np.minimum(v + 1, n - v), 0, 1)
                for v, n in zip(np.moveaxis(points, -1, 0), (H, W), strict=True)
            ]
        )
        expected *= on.prod(axis=0).reshape(on.shape[1:] + (1,) * (4 - on[0].ndim))
    assert np.allclose(shares, expected, rtol=0, atol=1e-12)
    assert 0 < (shares == 0).mean() < 1
    assert (shares == 1).any()


def influence_by_points(p, layers, size, module):
    """Whole offsets: each point gives its share of the product of its taps' weights to a pixel."""
    points = module.stacked_points(p, layers)
    share = module.stacked_shares(p, layers, size)
    for axis, layer in enumerate(reversed(layers)):
        shape = [-1 if i == axis else 1 for i in range(len(layers))]
        share = share * layer.weight.reshape(shape)
    total = np.zeros(size)
    kept = share != 0
    np.add.at(total, tuple(points[kept].astype(int).T), share[kept])
    return total


def check_influence(module=receptive_fields):
    """The 9*6*6 points are exactly where the gradient is, and carry it, at the border too."""
    rng = np.random.default_rng(6)
    layers = [
        ConvLayer(a.kernel_size, a.offset[:, : 2 * K], dyadic(rng, 1, 1, *kernel, low=1, bits=1),
                  a.stride, a.padding, a.dilation)
        for a, kernel, K in zip(stack(rng, low=-3, high=4, bits=0), ((3, 2), (2, 3), (3, 3)),
                                (6, 6, 9), strict=True)
    ]  # fmt: skip
    layers[1] = ConvLayer((2, 3), None, layers[1].weight, (1, 2), ((0, 1), (2, 0)), 2)
    for p in ((0, 0), (3, 4), (5, 7)):
        gradient = module.effective_receptive_field(p, layers, SIZE)
        assert gradient.shape == (1, *SIZE)
        assert (gradient[0] == influence_by_points(p, layers, SIZE, module)).all()
        assert gradient.any()


def test_the_gradient_is_on_the_points():
    check_influence()


def test_the_81_points_are_where_the_gradient_is_not_zero():
    rng = np.random.default_rng(7)
    layers = [ConvLayer(3, field(rng, (20, 21), 9, low=-3, high=4, bits=0), padding=1)
              for _ in range(2)]  # fmt: skip
    gradient = reference.effective_receptive_field((10, 9), layers, (20, 21))[0]
    points = reference.stacked_points((10, 9), layers).reshape(-1, 2)
    assert set(map(tuple, points.astype(int))) == set(map(tuple, np.argwhere(gradient)))
    assert abs(gradient.sum() - 1) < 1e-12


def test_influence_is_the_derivative():
    """Three channels, fractional offsets: y(p) is linear in x, so dy/dx . x is y(p)."""
    rng = np.random.default_rng(8)
    layers = [
        ConvLayer(3, field(rng, (9, 5), 9), rng.normal(size=(*size, 3, 3)), stride, 1)
        for size, stride in (((4, 3), (1, 2)), ((2, 4), 1))
    ]
    y = x = rng.normal(size=(1, 3, 9, 10))
    for layer in layers:
        y = reference.deform_conv2d(
            y, layer.offset, layer.weight, stride=layer.stride, padding=layer.padding
        )
    influence = reference.effective_receptive_field((8, 2), layers, (9, 10))
    assert np.isclose((influence * x[0]).sum(), y[0, :, 8, 2].sum(), rtol=1e-12)


SABOTAGE = {  # check, what is put in place of what in the library's source
    "the nearest pixel's offsets": (check_points, "sample(field, p)", "sample(field, p.round())"),
    "the field of another layer": (
        check_points, "(points, layer)\n    return",
        "(points, layer._replace(offset=stack[-1].offset))\n    return"),
    "the last offset group": (check_points, "[layer.offset_group]", "[-1]"),
    "x first": (check_points, "(0, 1), (-2, -1))", "(0, 1), (-2, -1))[..., ::-1]"),
    "taps in reverse": (check_points, "points += np.moveaxis(offset",
                              "points += np.moveaxis(offset[::-1]"),
    "without p_n": (check_points, "p0[..., None, :] + pn", "p0[..., None, :] + 0 * pn"),
    "the stride forgotten": (check_points, "p * np.array(layer.geometry.stride, p.dtype)", "p"),
    "the padding forgotten": (check_points, "((k - 1) // 2) - before", "((k - 1) // 2)"),
    "a clamped field": (check_points, "sample(field, p)",
                        "sample(field, p.clip(0, np.array(field.shape[1:]) - 1))"),
    "the dilation forgotten": (check_points, "R(layer.geometry.kernel, dilation="
                               "layer.geometry.dilation).astype",
                               "R(layer.geometry.kernel).astype"),
    "points outside dropped": (check_influence, "shares[..., None] * _on_the_map(points, ",
                               "shares[..., None] * (points > 0).all(-1) * _on_the_map(points, "),
    "the padding not seen": (check_influence, "shares[..., None] * _on_the_map(points, layer.size)",
                             "shares[..., None] * _on_the_map(points, stack[0].size)"),
    "padding on the wrong side": (check_influence, '"padding": shape.padding',
                                  '"padding": tuple(side[::-1] for side in shape.padding)'),
    "no offset in the gradient": (check_influence, "x, layer.offset, weight", "x, 0 * layer.offset,"
                                  " weight"),
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
