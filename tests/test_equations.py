"""`equations.py`: one example per equation, worked by hand, and the reference held to it exactly.

The examples can be followed with a pencil. The comparison runs on fractions, so nothing is
rounded on either side.
"""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings

from deformable_convnets import reference
from deformable_convnets.reference import equations
from deformable_convnets.reference.oracle import problems
from deformable_convnets.reference.oracle.shapes import Shape

MAP = np.array([[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]])  # 3 rows, 4 columns


def fractions(a):
    return None if a is None else np.vectorize(Fraction, otypes=[object])(a)


def layer(x, offset, weight, **options):
    return equations.Layer(fractions(x), fractions(offset), fractions(weight), **options)


def test_eq1_one_pixel_by_hand():
    """A 2x2 kernel [[1, 2], [3, 4]] at the top left: 1*1 + 2*2 + 3*5 + 4*6 = 44."""
    x, weight = MAP[None, None], np.array([[[[1, 2], [3, 4]]]])
    y = equations.deform_conv2d(layer(x, None, weight))
    assert y.shape == (1, 1, 2, 3)
    assert y[0, 0, 0, 0] == 44
    assert reference.conv2d(x.astype(float), weight.astype(float))[0, 0, 0, 0] == 44


def test_eq2_one_pixel_by_hand():
    """The same, its first tap moved by (1/2, 1/4): x(1/2, 1/4) = 1 + 4/2 + 1/4 = 13/4.

    So y = 1*13/4 + 2*2 + 3*5 + 4*6 = 46 1/4.
    """
    x, weight, offset = MAP[None, None], np.array([[[[1, 2], [3, 4]]]]), np.zeros((1, 8, 2, 3))
    offset[0, :2, 0, 0] = 1 / 2, 1 / 4
    assert equations.deform_conv2d(layer(x, offset, weight))[0, 0, 0, 0] == Fraction(185, 4)
    y = reference.deform_conv2d(x.astype(float), offset, weight.astype(float))
    assert y[0, 0, 0, 0] == 46.25


def test_eq3_one_point_by_hand():
    """At (1/2, 3/4), a quarter of the way from column 1: rows 0 and 1 give 1.75 and 5.75."""
    p = (Fraction(1, 2), Fraction(3, 4))
    assert equations.sample(fractions(MAP), p) == Fraction(15, 4)
    assert reference.sample(MAP[None].astype(float), np.array([0.5, 0.75]))[0] == 3.75


def test_eq4_by_hand():
    """g falls from 1 to 0 over one pixel on both sides; G is the product over the axes."""
    assert [equations.g(2, b) for b in (1, Fraction(3, 2), 2, Fraction(9, 4), 3, 9)] == [
        0, Fraction(1, 2), 1, Fraction(3, 4), 0, 0,
    ]  # fmt: skip
    assert equations.G((0, 1), (Fraction(1, 2), Fraction(3, 4))) == Fraction(3, 8)
    assert reference.g(2.0, 2.25) == 0.75
    dense = reference.G(np.array([[0.5, 0.75]]), (3, 4)).toarray()
    assert dense.reshape(3, 4)[:2, :2].tolist() == [[0.125, 0.375], [0.125, 0.375]]


def test_eq7_one_offset_by_hand():
    """Moving the first tap of test_eq2 down reads 4 more per pixel; to the right, 1 more."""
    x, weight, offset = MAP[None, None], np.array([[[[2, 0], [0, 0]]]]), np.full((1, 8, 2, 3), 0.5)
    assert equations.offset_gradient(layer(x, offset, weight), 0, 0, [0, 0], 0) == {0: (8, 2)}
    grads = reference.deform_conv2d_backward(
        np.ones((1, 1, 2, 3)), x.astype(float), offset, weight.astype(float)
    )
    assert grads.offset[0, :2, 0, 0].tolist() == [8, 2]


def test_eq7_as_printed_is_not_the_derivative():
    """The printed sum over p_n: with two taps of weights 1 and 2 it gives 3 slopes, not 1 or 2."""
    x, weight, offset = MAP[None, None], np.array([[[[1, 2]]]]), np.full((1, 4, 3, 3), 0.25)
    at = layer(x, offset, weight)
    slope = [equations.offset_gradient(at, 0, 0, [0, 0], k)[k] for k in (0, 1)]
    assert slope == [(4, 1), (8, 2)]
    assert equations.offset_gradient_as_printed(at, 0, 0, [0, 0]) == (12, 3)


@pytest.mark.parametrize(
    ("p", "right", "left"),
    [(-1, 5, 0), (0, -4, 5), (Fraction(1, 2), -4, -4), (1, -1, -4), (2, 0, -1)],
)
def test_kinks_by_hand(p, right, left):
    """The column 5, 1 is 0 5 1 0 at p = -1 0 1 2: slopes 5, -4, -1 between, and 0 outside."""
    column, at = np.array([[5], [1]]), np.array([[float(p), 0.0]])
    for side, slope in (("right", right), ("left", left)):
        assert equations.sample_slope(fractions(column), (p, 0), side)[0] == slope
        G_y, _ = reference.dG(at, (2, 1), side=side)
        assert (G_y @ column.ravel())[0] == slope


SMALL = [
    Shape(1, 1, 1, 1, 1, (2, 2), (1, 1), ((1, 0), (0, 1)), (1, 1), (2, 2)),
    Shape(1, 1, 1, 2, 1, (1, 2), (2, 1), ((0, 0), (1, 0)), (1, 2), (1, 2)),
    Shape(1, 1, 2, 1, 2, (2, 1), (1, 2), ((0, 1), (0, 0)), (2, 1), (2, 1)),
    Shape(2, 2, 1, 1, 1, (1, 1), (1, 1), ((1, 1), (0, 0)), (1, 1), (1, 2)),
]


@settings(max_examples=60)
@given(
    recipe=problems.recipes(
        "base", "kinks", dtype="float64", scope=problems.Scope(fixed_shapes=True)
    )
)
def test_the_reference_equals_the_equations(recipe):
    """Forward and all five gradients, both sides of kinks, on fractions and bit for bit."""
    shape = SMALL[recipe.seed % len(SMALL)]
    p = recipe._replace(shape=shape, border="zero").problem("float64")
    at = layer(p.x, p.offset, p.weight, mask=fractions(p.mask), **p.options)
    y = reference.deform_conv2d(p.x, p.offset, p.weight, p.bias, mask=p.mask, **p.options)
    assert (equations.deform_conv2d(at, fractions(p.bias)) == y).all()
    for side in ("right", "left"):
        grads = reference.deform_conv2d_backward(
            p.grad_output, p.x, p.offset, p.weight, p.bias, mask=p.mask, side=side, **p.options
        )
        exact = equations.deform_conv2d_backward(fractions(p.grad_output), at, side)
        for name, value in grads._asdict().items():
            assert value is None or (exact[name] == value).all(), (name, side)


@settings(max_examples=24)
@given(recipe=problems.recipes("base", dtype="float64", scope=problems.Scope(fixed_shapes=True)))
def test_conv2d_equals_equation_1(recipe):
    p = recipe._replace(shape=SMALL[recipe.seed % len(SMALL)]).problem("float64")
    at = layer(p.x, None, p.weight, **p.options)
    y = reference.conv2d(p.x, p.weight, p.bias, **p.options)
    assert (equations.deform_conv2d(at, fractions(p.bias)) == y).all()
    grads = reference.conv2d_backward(p.grad_output, p.x, p.weight, p.bias, **p.options)
    exact = equations.deform_conv2d_backward(fractions(p.grad_output), at)
    for name, value in grads._asdict().items():
        assert value is None or (exact[name] == value).all(), name


def test_the_comparison_can_fail():
    p = problems.make("base", SMALL[0], 0)
    wrong = layer(p.x, p.offset[:, ::-1], p.weight, **p.options)
    y = reference.deform_conv2d(p.x, p.offset, p.weight, **p.options)
    assert not (equations.deform_conv2d(wrong) == y).all()
