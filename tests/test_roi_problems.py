"""Exact problems of RoI pooling are certified, and meet every shape and rule."""

import numpy as np

from deformable_convnets import reference
from deformable_convnets.reference.oracle import roi_problems


def test_a_list_of_problems_meets_every_shape_and_rule():
    met = {(p.shape, p.bins) for p in roi_problems.some(300, "odd", dtype="float64")}
    assert len(met) == len(roi_problems.SHAPES) * 3


def test_certified_problems_are_the_same_in_float32_and_float64():
    """And a problem with numbers too large is not certified."""
    for problem in roi_problems.some(60, "odd", "kinks", dtype="float64"):
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
