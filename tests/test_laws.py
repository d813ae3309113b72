"""Every implementation keeps every law, on problems that Hypothesis draws.

The implementation, the law and the dtype are the test's name; the problem is in the failure, as
code that makes it again.
"""

from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from implementations import ENTRIES

from deformable_convnets.reference.oracle import problems, shapes
from deformable_convnets.reference.oracle.laws import LAWS

CASES = [
    pytest.param(entry, law, dtype, id=f"{entry.name}-{law.name}-{dtype}")
    for entry in ENTRIES.values()
    for law in LAWS.values()
    for dtype in law.dtypes
    if dtype in entry.implementation.dtypes and set(law.operators) <= set(entry.implementation.call)
]


def examples(implementation, law):
    """How many problems: fewer where drawing is dear, fewest where the law follows from others."""
    share = settings().max_examples / settings.get_profile("ci").max_examples
    dear = implementation.examples < 100 and law.follows
    return max(1, round(implementation.examples * share / (5 if dear else 1)))


@contextmanager
def reproducer(problem):
    """Add to a failure the code that makes its problem again."""
    try:
        yield
    except Exception as error:
        imports = "from deformable_convnets.reference.oracle import problems, roi_problems, shapes"
        error.add_note(f"{imports}\nproblem = {problem.code()}")
        raise


@pytest.mark.parametrize(("entry", "law", "dtype"), CASES)
def test_keeps(runnable, entry, law, dtype):
    implementation = runnable(entry)
    fixed = implementation.fixed_shapes
    recipes = problems.recipes(*law.families, dtype=dtype, fixed_shapes=fixed, **law.limits)

    @settings(max_examples=examples(implementation, law))
    @given(recipe=recipes)
    def keeps(recipe):
        problem = recipe.problem(dtype)
        with reproducer(problem):
            law.check(implementation, problem)

    keeps()


def test_a_failure_says_which_problem():
    problem = problems.some(1, "base", dtype="float32")[0]
    with pytest.raises(AssertionError) as failure, reproducer(problem):
        raise AssertionError("broken")
    assert "problems.make('base', shapes.Shape(N=" in failure.value.__notes__[0]


def test_the_code_of_a_problem_makes_it_again():
    for dtype in ("float32", "float64"):
        for problem in problems.some(12, *problems.FAMILIES, dtype=dtype):
            again = eval(problem.code(), {"problems": problems, "shapes": shapes})
            assert again.border == problem.border
            for name in ("x", "offset", "weight", "bias", "mask", "grad_output"):
                a, b = getattr(again, name), getattr(problem, name)
                assert (a is None and b is None) or (a.dtype == b.dtype and (a == b).all())


def test_every_law_is_there_however_the_oracle_is_imported():
    from deformable_convnets.reference.oracle import laws

    assert len(laws.LAWS) == 30


def test_an_implementation_can_be_copied():
    import copy

    from deformable_convnets.reference.oracle.implementation import REFERENCE

    assert copy.copy(REFERENCE).call == REFERENCE.call
    with pytest.raises(AttributeError, match="reference has no operator 'roi'"):
        REFERENCE.roi  # noqa: B018
