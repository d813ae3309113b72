"""Every implementation keeps every law, on problems that Hypothesis draws.

A thin use of `oracle.verify`: the implementation, the law and the dtype are the test's name; the
report is the failure, with code that shows it again.
"""

import copy

import devices
import pytest
from hypothesis import settings
from implementations import ENTRIES

from deformable_convnets.reference.oracle import problems, roi_problems, shapes, verify
from deformable_convnets.reference.oracle.implementation import REFERENCE
from deformable_convnets.reference.oracle.laws import LAWS


def told_on_the_cpu(entry, law):
    """Laws of volumes that follow from others: "numba-on-cpu" is held to them, at less cost."""
    simulated = entry.backend == "numba" and devices.simulated()
    return simulated and law.operator == "deform_conv3d" and law.follows


CASES = [
    pytest.param(entry, law, dtype, id=f"{entry.name}-{law.name}-{dtype}")
    for entry in ENTRIES.values()
    for law in LAWS.values()
    if not told_on_the_cpu(entry, law)
    for dtype in law.dtypes
    if dtype in entry.implementation.dtypes and entry.implementation.offers(*law.operators)
]


def examples(implementation, law):
    """How many problems: fewer where drawing is dear, fewest where the law follows from others.

    A law of volumes is that of maps on other shapes: a quarter shows what these add.
    """
    share = settings().max_examples / settings.get_profile("ci").max_examples
    dear = implementation.examples < 100 and law.follows
    volumes = law.operator == "deform_conv3d"
    return max(1, round(implementation.examples * share / (5 if dear else 4 if volumes else 1)))


@pytest.mark.parametrize(("entry", "law", "dtype"), CASES)
def test_keeps(runnable, entry, law, dtype):
    implementation = runnable(entry)
    report = verify(
        implementation, law.operator, dtype=dtype, laws=law.name, border=("zero", "dcnv1"),
        bins=law.rules, examples=examples(implementation, law),
    )  # fmt: skip
    report.assert_ok()
    assert len(report.kept) == 1
    assert not report.not_checked


def test_a_failure_says_which_problem():
    def wrong(*args, **options):
        return REFERENCE.deform_conv2d(*args, **options) + 1

    report = verify(wrong, dtype="float32", laws="forward_is_exact", examples=5)
    with pytest.raises(AssertionError, match=r"problem = problems\.make\('.*', shapes\.Shape\("):
        report.assert_ok()


def test_the_code_of_a_problem_makes_it_again():
    names = {"problems": problems, "roi_problems": roi_problems, "shapes": shapes}
    drawn = [
        problem
        for dtype in ("float32", "float64")
        for problem in [
            *problems.some(24, *problems.FAMILIES, dtype=dtype),
            *problems.some(12, "base", dtype=dtype, scope=problems.Scope(frozenset(["mask"]))),
            *roi_problems.some(12, "odd", "kinks", dtype=dtype),
        ]
    ]
    for problem in drawn:
        again = eval(problem.code(), names)
        assert again.shape == problem.shape
        for name, a in vars(problem).items():
            b = getattr(again, name)
            if hasattr(a, "dtype"):
                assert a.dtype == b.dtype
                assert (a == b).all()
            else:
                assert a == b


def test_every_law_is_there_however_the_oracle_is_imported():
    assert len(LAWS) == 54 + 24  # each of deform_conv2d is one of deform_conv3d too
    assert len({law.operator for law in LAWS.values()}) == 5


def test_an_implementation_can_be_copied():
    assert copy.copy(REFERENCE).call == REFERENCE.call
    with pytest.raises(AttributeError, match="reference has no operator 'roi'"):
        REFERENCE.roi  # noqa: B018
