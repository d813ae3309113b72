"""Every implementation keeps every law of RoI pooling; see `test_laws`."""

import numpy as np
import pytest
from hypothesis import given, settings
from implementations import ENTRIES
from test_laws import examples, reproducer

from deformable_convnets import reference
from deformable_convnets.reference.oracle import roi_problems
from deformable_convnets.reference.oracle.roi_laws import ROI_LAWS

CASES = [
    pytest.param(entry, law, dtype, id=f"{entry.name}-{law.name}-{dtype}")
    for entry in ENTRIES.values()
    if "deform_ps_roi_pool" in entry.implementation.call
    for law in ROI_LAWS.values()
    for dtype in law.dtypes
    if dtype in entry.implementation.dtypes
]


@pytest.mark.parametrize(("entry", "law", "dtype"), CASES)
def test_keeps(runnable, entry, law, dtype):
    implementation = runnable(entry)

    @settings(max_examples=examples(implementation, law))
    @given(recipe=roi_problems.recipes(*law.families, rules=law.rules, **law.limits))
    def keeps(recipe):
        problem = recipe.problem(dtype)
        with reproducer(problem):
            law.check(implementation, problem)

    keeps()


def test_the_code_of_a_problem_makes_it_again():
    for problem in roi_problems.some(12, "odd", "kinks", dtype="float32"):
        again = eval(problem.code(), {"roi_problems": roi_problems})
        for name in ("x", "rois", "offset", "grad_output"):
            a, b = getattr(again, name), getattr(problem, name)
            assert (a is None and b is None) or (a.dtype == b.dtype and (a == b).all())
        assert (again.bins, again.samples) == (problem.bins, problem.samples)


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
