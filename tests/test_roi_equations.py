"""Equations (5), (6) and (7') by hand, and the reference held to the loops on fractions."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from test_equations import fractions

from deformable_convnets import reference
from deformable_convnets.reference import equations
from deformable_convnets.reference.oracle import roi_problems

SQUARE = np.arange(64.0).reshape(1, 1, 8, 8)


def pooling(problem):
    s, frac = problem.shape, Fraction
    return equations.Pooling(
        fractions(problem.x), fractions(problem.rois), fractions(problem.offset), s.output,
        scale=frac(problem.spatial_scale), gamma=frac(problem.gamma), group=s.group, part=s.part,
    )  # fmt: skip


def test_eq5_bins_overlap_where_k_does_not_divide():
    """A width of 7 in 3 bins: [0, 3), [2, 5), [4, 7)."""
    bins = [list(equations.bin_range(i, 3, 7)) for i in range(3)]
    assert bins == [[0, 1, 2], [2, 3, 4], [4, 5, 6]]


def test_eq5_by_hand():
    """The means of the four 2x2 quarters of the rows and columns 0 to 3 of an 8x8 map."""
    roi = np.array([[0, 0, 0, 4, 4.0]])
    assert reference.roi_pool(SQUARE, roi, 2)[0, 0].tolist() == [[4.5, 6.5], [20.5, 22.5]]
    at = equations.Pooling(SQUARE, roi, None, (2, 2))
    assert equations.roi_pool(at)[0, 0].tolist() == [[4.5, 6.5], [20.5, 22.5]]


def test_eq5_the_box_of_three_pixels():
    """x2 is exclusive: 3 pixels in 2 bins overlap in the middle, [0, 2) and [1, 3)."""
    y = reference.roi_pool(SQUARE, np.array([[0, 0, 0, 3, 3.0]]), 2)
    assert y[0, 0].tolist() == [[4.5, 5.5], [12.5, 13.5]]


@pytest.mark.parametrize(
    ("samples", "expected"),
    [(2, [[2.25, 4], [16.25, 18]]), (4, [[3.375, 5.25], [18.375, 20.25]])],
)
def test_the_authors_operator_on_the_same_box(samples, expected):
    """What DeformablePSROIPooling computes there without offsets, 2 and 4 samples per part."""
    roi = np.array([[0, 0, 0, 3, 3.0]])
    y = reference.roi_pool(SQUARE, roi, 2, bins="mxnet", samples=samples)
    assert y[0, 0].tolist() == expected


def test_eq6_by_hand():
    """gamma (h, w) offset = 1/4 * 4 * (1/2, 0) moves the first bin down by half a row: + 4."""
    offset = np.zeros((1, 2, 2, 2))
    offset[0, 0, 0, 0] = 0.5
    args = (SQUARE, np.array([[0, 0, 0, 4, 4.0]]), offset, 2)
    y = reference.deform_roi_pool(*args, gamma=0.25)
    assert y[0, 0].tolist() == [[8.5, 6.5], [20.5, 22.5]]
    grads = reference.deform_roi_pool_backward(np.ones((1, 1, 2, 2)), *args, gamma=0.25)
    assert grads.offset[0, :, 0, 0].tolist() == [8, 1]  # 8 a row, 1 a column, times gamma h = 1


def test_edges_of_bins_are_not_rounded_up():
    """ceil(7 * (29 / 7)) is 30 in floating point: the last bin would read a pixel too many."""
    x = np.zeros((1, 1, 1, 31))
    x[..., 29] = 1
    y = reference.roi_pool(x, np.array([[0, 0, 0, 29, 1.0]]), (1, 7))
    assert not y.any()


BOXES = [(2, 2, 2, 5), (5, 2, 3, 4), (2, 3.5, 5, 3), (-9, -9, -5, -5), (20, 1, 22, 3)]


@pytest.mark.parametrize("roi", BOXES)
def test_empty_inverted_and_outside(roi):
    """Nothing is read: 0, and no gradient."""
    rois = np.array([[0, *roi]], float)
    assert not reference.roi_pool(SQUARE, rois, 2).any()
    grads = reference.deform_roi_pool_backward(
        np.ones((1, 1, 2, 2)), SQUARE, rois, np.zeros((1, 2, 2, 2)), 2
    )
    assert not grads.x.any()
    assert not grads.offset.any()


@settings(max_examples=40)
@given(recipe=roi_problems.recipes("odd", "kinks", rules=("paper",)))
def test_the_reference_equals_the_equations(recipe):
    """Forward and both gradients, both sides of kinks, on fractions and bit for bit."""
    p = recipe.problem("float64")
    at, part = pooling(p), None if p.offset is None else p.shape.part
    args = (p.x, p.rois, p.offset, p.shape.output)
    options = {"gamma": p.gamma, "group_size": p.shape.group, "part_size": part, **p.rule}
    assert (equations.roi_pool(at) == reference.deform_ps_roi_pool(*args, **options)).all()
    for side in ("right", "left"):
        grads = reference.deform_ps_roi_pool_backward(p.grad_output, *args, side=side, **options)
        x, offset = equations.roi_pool_backward(fractions(p.grad_output), at, side)
        assert (x == grads.x).all()
        assert offset is None or (offset == grads.offset).all()


def test_the_comparison_can_fail():
    p = roi_problems.make("odd", roi_problems.SHAPES[0], 0, "paper")
    wrong = pooling(p.with_(offset=p.offset[:, ::-1]))
    y = reference.deform_ps_roi_pool(
        p.x, p.rois, p.offset, p.shape.output, gamma=p.gamma, group_size=p.shape.group, **p.rule
    )
    assert not (equations.roi_pool(wrong) == y).all()
