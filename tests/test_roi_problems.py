"""Problems of RoI pooling are what they promise, and meet every shape and rule."""

import numpy as np
import pytest

from deformable_convnets import reference
from deformable_convnets.reference import roi_layout
from deformable_convnets.reference.oracle import roi_bounds, roi_coordinates, roi_problems
from deformable_convnets.reference.oracle.implementation import REFERENCE
from deformable_convnets.reference.oracle.problems import Scope
from deformable_convnets.reference.oracle.roi_laws import backward, forward
from deformable_convnets.reference.roi_bins import bins_of

EACH = ("odd", "kinks", "means", "floats")


def some(count, *families, dtype="float64", **options):
    return roi_problems.some(count, *families, dtype=dtype, **options)


def points(problem):
    at, size = problem.geometry, problem.shape.size
    return roi_coordinates.points(at, problem.rois, problem.offset, size)


def test_a_list_of_problems_meets_every_shape_and_rule():
    met = {(p.shape, p.bins) for p in some(300, "odd")}
    assert len(met) == len(roi_problems.SHAPES) * 3


def test_certified_problems_are_the_same_in_float32_and_float64():
    """And a problem with numbers too large is not certified."""
    for problem in some(60, "odd", "kinks"):
        assert roi_problems.certified(problem)
        args = (problem.rois, problem.shape.output)
        options = {"group_size": problem.shape.group, **problem.rule}
        y = reference.ps_roi_pool(problem.x, *args, **options)
        single = reference.ps_roi_pool(
            problem.x.astype("f4"), args[0].astype("f4"), args[1], **options
        )
        assert (y == single).all()
    large = roi_problems.make("odd", roi_problems.SHAPES[0], 0, "paper")
    large = large.with_(rois=np.array([[0, 0, 0, 6, 4]] * 2, float))
    assert not roi_problems.certified(large.with_(x=np.full_like(large.x, 2.0**18)))


def test_corners_that_are_rounded_have_halves_of_both_signs():
    rois = np.concatenate([p.rois[:, 1:].ravel() for p in some(60, "odd", rules=("mxnet",))])
    fractions = np.abs(rois) % 1
    for fraction in (0, 1 / 4, 1 / 2, 3 / 4):
        for sign in (1, -1):
            assert (fractions[np.sign(rois) == sign] == fraction).any()


def test_starts_and_gammas_need_their_last_bits():
    drawn = some(60, "odd", rules=("paper",), size=(6, 7))
    starts = np.concatenate([(p.rois[:, 1:3] * p.spatial_scale).ravel() for p in drawn])
    assert (starts * 16 % 2 == 1).any()
    assert {p.gamma for p in drawn} >= {3 / 8, 3 / 2, 2}


def test_means_are_over_any_number_of_points():
    for bins, least in (("paper", 4), ("mxnet", 8), ("align", 4)):
        drawn = some(100, "means", rules=(bins,))
        counts = {int(n) for p in drawn for n in np.multiply(*(at.number for at in points(p)))}
        assert len([n for n in counts if n & (n - 1)]) >= least
        assert bins == "paper" or {p.samples for p in drawn} == {None, 3, 5, 7, 12, 33}


@pytest.mark.parametrize("family", EACH)
def test_points_are_those_of_the_reference(family):
    """Their sum of G is its matrix, bin by bin; nearly so where coordinates round."""
    for problem in some(60, family, size=(5, 6)):
        at = bins_of(problem.x.shape, problem.rois, problem.offset, problem.geometry)
        (y, _), (x, _) = (roi_coordinates.weights(one, 0) for one in points(problem))
        total = (y[:, :, None] * x[:, None, :]).sum(axis=0)
        dense = np.asarray(at.M.sum(axis=0)).reshape(-1, *problem.shape.size).sum(axis=0)
        largest = max(np.abs(one.raw).max(initial=1) for one in points(problem))
        near = 0 if family != "floats" else 1000 * 2.0**-53 * largest
        assert np.abs(dense - total).max(initial=0) <= near


def test_ordinary_rois_are_clear_of_what_jumps():
    for problem in some(60, "floats"):
        assert roi_coordinates.clear(problem).all()
        for at in points(problem):
            assert (np.abs(at.raw - np.round(at.raw)) > 2.0**-24).all() or problem.offset is None


JUMPS = [  # bins, and the last coordinate that is read
    ("align", -1), ("align", 9), ("mxnet", 8.5),
]  # fmt: skip


@pytest.mark.parametrize(("bins", "at"), JUMPS)
@pytest.mark.parametrize("axis", [0, 1])
def test_clear_sees_a_point_at_the_last_coordinate(bins, at, axis):
    shape = roi_problems.RoiShape(size=(9, 9), rois=2, output=(1, 1), part=(1, 1))
    problem = roi_problems.make("odd", shape, 0, bins).with_(offset=None, samples=1)
    for off, expected in ((0, False), (2.0**-22, False), (0.01, True)):
        first = (at - 2.5) / 0.5 if bins == "align" else 18
        rois = np.array([[0, 2.3, 2.4, 5.4, 5.1]] * 2)
        scale = 0.5 * (1 + off / 9) if bins == "mxnet" else 0.5
        rois[1, 1 + axis :: 2] = (first + 2 * off, first + 2 * off + 12)
        problem = problem.with_(rois=rois, spatial_scale=scale)
        assert roi_coordinates.clear(problem).tolist() == [True, expected]


def test_moving_points_as_far_as_rounding_does_stays_within_the_bound():
    """And a thousand times as far does not, somewhere."""
    beyond, u = 0, 2.0**-24
    for problem in some(40, "floats"):
        if problem.offset is None or not problem.rois.size:
            continue
        problem = roi_problems.ordinary(problem)
        bounds = roi_bounds.tolerances(problem, u)
        y, grads = forward(REFERENCE, problem), backward(REFERENCE, problem)
        for times in (1, 1000):
            moved = shifted(problem, times * u)
            other = backward(REFERENCE, moved)
            off = (forward(REFERENCE, moved) - y, other.x - grads.x)
            if times == 1:
                assert all((np.abs(a) <= b).all() for a, b in zip(off, bounds, strict=False))
            else:
                beyond += any((np.abs(a) > b).any() for a, b in zip(off, bounds, strict=False))
    assert beyond > 10


def shifted(problem, u):
    """With offsets that move every bin as far as roundings of u may."""
    at = problem.geometry
    field = problem.offset.reshape(len(problem.rois), -1, 2, *at.part).copy()
    r, p, i, j = roi_layout.index(len(problem.rois), at)
    sizes = roi_bounds.sizes(problem)[r]
    for d, one in enumerate(points(problem)):
        field[(r, p, d, *roi_layout.parts(i, j, at))] += u * one.moves / (at.gamma * sizes[:, d])
    return problem.with_(offset=field.reshape(problem.offset.shape))


LACKING = [
    {"spatial_scale", "offset"}, {"samples"}, {"gamma above 1"}, {"inverted or empty rois"},
    {"spatial_scale", "samples"},
]  # fmt: skip


@pytest.mark.parametrize("without", LACKING, ids=lambda words: ", ".join(sorted(words)))
def test_what_is_lacking_is_not_drawn(without):
    for family in EACH:
        for p in some(40, family, scope=Scope(without=frozenset(without))):
            assert p.spatial_scale == 1 or "spatial_scale" not in without
            assert p.offset is None or "offset" not in without
            assert p.gamma <= 1 or "gamma above 1" not in without
            exact_mxnet = p.bins == "mxnet" and family in roi_problems.FAMILIES
            assert p.samples is None or "samples" not in without or exact_mxnet
            upright = (p.rois[:, 3:] >= p.rois[:, 1:3] - (p.bins == "mxnet") * 2).all()
            assert upright or "inverted or empty rois" not in without
