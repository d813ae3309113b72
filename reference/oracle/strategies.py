"""Hypothesis strategies of problems, by what they try: for tests of your own.

    @given(strategies.exact("float32"))
    def test_forward(problem):
        check(my_deform_conv2d, "forward_is_exact", problem)

Every function takes a dtype, and a `problems.Scope` that says what the problems may need. They
draw a `Problem`, the arguments of one call of `deform_conv2d` and its backward; those of RoI
pooling, `roi_exact`, `roi_kink`, `roi_mean` and `roi_ordinary`, a `RoiProblem`. Needs Hypothesis,
the extra `oracle`.
"""

from typing import Any

from . import problems, roi_problems
from .laws_of_structure import not_finite
from .laws_of_structure import ordinary as in_ordinary_numbers
from .problems import EVERYTHING, Scope
from .roi_problems import ordinary as in_ordinary_maps


def exact(dtype: str = "float32", scope: Scope = EVERYTHING) -> Any:
    """Numbers so small that nothing rounds; "wide" ones show operands cut to fewer bits."""
    wide = ("wide-x", "wide-w") if dtype != "float16" else ()
    return _drawn("base", *wide, dtype=dtype, scope=scope)


def ordinary(dtype: str = "float32", scope: Scope = EVERYTHING) -> Any:
    """Normally distributed numbers, to be judged by `bounds.tolerances`."""
    return _drawn("base", dtype=dtype, scope=scope).map(in_ordinary_numbers)


def degenerate(dtype: str = "float32", scope: Scope = EVERYTHING) -> Any:
    """No images, one pixel, a kernel larger than the map, one row, padding under a stride."""
    return _drawn("degenerate", dtype=dtype, scope=scope)


def border(dtype: str = "float32", scope: Scope = EVERYTHING) -> Any:
    """Every point within a pixel of an edge of the map, or on it."""
    return _drawn("edge", dtype=dtype, scope=scope)


def kink(dtype: str = "float32", scope: Scope = EVERYTHING) -> Any:
    """Half of the coordinates are whole numbers, where g has no derivative."""
    return _drawn("kinks", dtype=dtype, scope=scope)


def huge(dtype: str = "float32", scope: Scope = EVERYTHING) -> Any:
    """One offset in four is 2**16, 2**31, 2**63, 1e30 ..., beyond any index."""
    return _drawn("huge", dtype=dtype, scope=scope)


def non_finite(dtype: str = "float32", scope: Scope = EVERYTHING) -> Any:
    """One offset in four is infinite, huge or NaN."""
    return _drawn("base", dtype=dtype, scope=scope).map(not_finite)


def wide_half(scope: Scope = EVERYTHING) -> Any:
    """Maps wider than 2048 in half precision, which cannot count their pixels."""
    return _drawn("far", dtype="float16", scope=scope)


def roi_exact(dtype: str = "float32", scope: Scope = EVERYTHING) -> Any:
    """RoI pooling with every point off the kinks."""
    return _roi("odd", dtype, scope)


def roi_kink(dtype: str = "float32", scope: Scope = EVERYTHING) -> Any:
    """RoI pooling with points on the kinks, and without offsets."""
    return _roi("kinks", dtype, scope)


def roi_mean(dtype: str = "float32", scope: Scope = EVERYTHING) -> Any:
    """RoI pooling of ordinary numbers over any number of exact points, for `roi_bounds`."""
    return _roi("means", dtype, scope).map(in_ordinary_maps)


def roi_ordinary(dtype: str = "float32", scope: Scope = EVERYTHING) -> Any:
    """RoI pooling of ordinary numbers, RoIs and offsets too, for `roi_bounds`."""
    return _roi("floats", dtype, scope).map(in_ordinary_maps)


def _drawn(*families: str, dtype: str, scope: Scope) -> Any:
    recipes = problems.recipes(*families, dtype=dtype, scope=scope)
    return recipes.map(lambda recipe: recipe.problem(dtype))


def _roi(family: str, dtype: str, scope: Scope) -> Any:
    recipes = roi_problems.recipes(family, rules=scope.bins, scope=scope)
    return recipes.map(lambda recipe: recipe.problem(dtype))
