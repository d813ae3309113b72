"""Borders, kinks, and points that are not finite, by hand; and G as a matrix."""

import numpy as np
import pytest

from deformable_convnets import reference

COLUMN = np.array([[[1.0, 2.0], [3.0, 4.0]]])  # the map [[1, 2], [3, 4]], read at (y, 0)
LINE = np.array([[[5.0, 2.0, 7.0, 4.0]]])


def along_y(ys, x=COLUMN, **options):
    return reference.sample(x, np.stack([ys, np.zeros(len(ys))], axis=-1), **options)[0]


@pytest.mark.parametrize(
    ("border", "expected"),
    [
        ("zero", [0, 0.5, 1, 2, 3, 1.5, 0.75, 0]),
        ("dcnv1", [0, 0, 1, 2, 3, 3, 3, 0]),
    ],
)
def test_borders_by_hand(border, expected):
    ys = np.array([-1, -0.5, 0, 0.5, 1, 1.5, 1.75, 2])
    assert along_y(ys, border=border).tolist() == expected


def test_the_three_values_of_errata_8():
    """x = 5 2 7 4: at -0.5 equation (3) reads 2.5 and the 2017 code 0; at 3.75 it reads 1 and 4."""
    p = np.array([[0, -0.5], [0, 3.75]])
    assert reference.sample(LINE, p)[0].tolist() == [2.5, 1.0]
    assert reference.sample(LINE, p, border="dcnv1")[0].tolist() == [0, 4]


@pytest.mark.parametrize(
    ("border", "y", "right", "left"),
    [
        ("zero", -1, 1, 0), ("zero", 0, 2, 1), ("zero", 1, -3, 2), ("zero", 2, 0, -3),
        ("dcnv1", -1, 0, 0), ("dcnv1", 0, 2, 2), ("dcnv1", 1, 0, 2), ("dcnv1", 1.5, 0, 0),
        ("dcnv1", 2, 0, 0),
    ],
)  # fmt: skip
def test_one_sided_derivatives_by_hand(border, y, right, left):
    """The column 1, 3: the slope on both sides of whole y, at the map's edges too."""
    p = np.array([[y, 0.0]])
    for side, slope in (("right", right), ("left", left)):
        grads = reference.sample_backward(np.ones((1, 1)), COLUMN, p, border=border, side=side)
        assert grads.p[0, 0] == slope


@pytest.mark.parametrize("border", ["zero", "dcnv1"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_points_not_finite(border, dtype):
    huge = [np.inf, -np.inf, 1e30, -1e30]
    p = np.array([(h, 0) for h in huge] + [(0, h) for h in huge] + [(np.inf, -np.inf)], dtype)
    x = COLUMN.astype(dtype)
    assert not reference.sample(x, p, border=border).any()
    grads = reference.sample_backward(np.ones((1, len(p)), dtype), x, p, border=border)
    assert not grads.x.any()
    assert not grads.p.any()


@pytest.mark.parametrize("p", [(np.nan, 0), (0, np.nan), (np.nan, np.inf), (1e30, np.nan)])
def test_nan_wins_and_stays_where_it_is(p):
    points = np.array([p, (0.5, 0.5)])
    assert np.isnan(reference.sample(COLUMN, points)[0]).tolist() == [True, False]
    grads = reference.sample_backward(np.ones((1, 2)), COLUMN, points)
    assert np.isnan(grads.p).tolist() == [[True, True], [False, False]]
    assert grads.x.tolist() == [[[0.25, 0.25], [0.25, 0.25]]]


def test_nan_in_one_offset_reaches_its_output_and_no_other_pixel():
    x, offset, weight = np.ones((1, 2, 4, 5)), np.full((1, 18, 2, 3), 0.25), np.ones((3, 2, 3, 3))
    offset[0, 7, 1, 2] = np.nan
    y = reference.deform_conv2d(x, offset, weight)
    assert np.isnan(y).sum() == 3
    assert np.isnan(y[0, :, 1, 2]).all()
    grads = reference.deform_conv2d_backward(np.ones_like(y), x, offset, weight)
    assert np.isfinite(grads.x).all()
    assert np.argwhere(np.isnan(grads.offset))[:, 1].tolist() == [6, 7]
    assert np.isnan(grads.weight)[:, :, 1, 0].all()
    assert np.isnan(grads.weight).sum() == 6


def test_rows_of_G_add_to_one_inside_and_to_less_at_the_border():
    p = np.array([[0.5, 1.25], [2, 3], [-0.25, 1], [2.5, 3.5], [-1, 0], [np.nan, 1]])
    G = reference.G(p, (3, 4))
    assert G.shape == (6, 12)
    assert G.sum(axis=1).tolist() == [1, 1, 0.75, 0.25, 0, 0]
    assert np.diff(G.indptr).max() <= 4
    G_y, G_x = reference.dG(p, (3, 4))
    assert G_y.shape == G_x.shape == G.shape
    assert G_y.sum(axis=1)[0] == G_x.sum(axis=1)[0] == 0


def test_the_dense_G_is_equation_4():
    p = np.random.default_rng(0).uniform(-2, 6, (50, 2)).round(3)
    q = np.moveaxis(np.indices((4, 5)), 0, -1).reshape(-1, 2)
    dense = reference.g(q[None, :, 0], p[:, None, 0]) * reference.g(q[None, :, 1], p[:, None, 1])
    assert np.abs(reference.G(p, (4, 5)).toarray() - dense).max() < 1e-15


def test_halves_read_maps_wider_than_2048():
    """At column 3001 half precision counts in twos; the coordinates are float32."""
    x = np.zeros((1, 1, 4000), np.float16)
    x[0, 0, 3001] = 8
    p = np.array([[0, 3001.25]], np.float32)
    assert reference.sample(x, p).item() == 6
    offset = np.zeros((1, 2, 1, 4000), np.float16)
    offset[:, 1] = 0.25
    y = reference.deform_conv2d(x[None], offset, np.ones((1, 1, 1, 1), np.float16))
    assert y[0, 0, 0, 3000:3002].tolist() == [2, 6]


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (1, 3, 1, 1)])
def test_no_images_and_one_pixel(shape):
    x, weight = np.ones(shape), np.ones((2, 3, 3, 3))
    Ho, Wo = shape[2:]
    offset = np.zeros((shape[0], 18, Ho, Wo))
    y = reference.deform_conv2d(x, offset, weight, padding=1)
    assert y.shape == (shape[0], 2, Ho, Wo)
    grads = reference.deform_conv2d_backward(y, x, offset, weight, padding=1)
    assert grads.weight.shape == weight.shape
    assert grads.x.shape == x.shape
    assert (y == 3).all()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_results_are_contiguous_and_nobody_elses(dtype):
    x, weight = np.ones((2, 4, 5, 6), dtype), np.ones((2, 2, 3, 3), dtype)
    offset = np.zeros((2, 36, 5, 6), dtype)
    y = reference.deform_conv2d(x, offset, weight, padding=1)
    grads = [
        *reference.deform_conv2d_backward(y, x, offset, weight, padding=1)[:3],
        *reference.conv2d_backward(y, x, weight, padding=1)[:2],
        *reference.sample_backward(x[0], x[0], np.zeros((5, 6, 2), dtype)),
    ]
    results = [y, reference.conv2d(x, weight), reference.sample(x[0], offset[0, :2].T), *grads]
    for result in results:
        assert result.flags.c_contiguous
        assert not any(
            np.shares_memory(result, given)
            for given in (x, weight, offset, y)
            if given is not result
        )


def test_no_points():
    assert reference.sample(COLUMN, np.zeros((3, 0, 2))).shape == (1, 3, 0)
    assert reference.G(np.zeros((0, 2)), (2, 2)).shape == (0, 4)
