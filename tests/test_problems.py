"""The certificate of exact problems, and what each family alone can show."""

import numpy as np
import pytest
from bugs import bug, computed_in, halved_coordinates
from hypothesis import find, given, settings
from hypothesis.errors import NoSuchExample

from deformable_convnets import reference
from deformable_convnets.reference.oracle import bounds, features, problems, strategies
from deformable_convnets.reference.oracle.implementation import REFERENCE
from deformable_convnets.reference.oracle.laws import LAWS, backward, forward
from deformable_convnets.reference.oracle.shapes import SHAPES, Shape

ALL = tuple(problems.FAMILIES)


@settings(max_examples=100)
@given(problems.recipes(*ALL, dtype="float64"))
def test_every_problem_is_certified(recipe):
    assert problems.certified(recipe.problem("float64"))


def test_a_problem_that_is_too_large_is_not_certified():
    problem = problems.make("base", SHAPES[0], 0)
    assert problems.certified(problem)
    assert not problems.certified(problem.with_(x=problem.x * 2**18))
    assert not problems.certified(problem.with_(grad_output=problem.grad_output * 2**18))


def test_a_list_of_problems_meets_every_family_shape_and_border():
    met = {
        (p.family, p.shape, p.border) for p in problems.some(400, "base", "kinks", dtype="float32")
    }
    assert len(met) == 2 * len(SHAPES) * 2


def test_sums_of_certified_problems_are_exact_in_any_order():
    for problem in problems.some(24, "base", "wide-x", "wide-w", "far", dtype="float32"):
        order = np.random.default_rng(0).permutation(problem.x.shape[1])
        if problem.shape.groups == problem.shape.G == 1:
            turned = problem.with_(x=problem.x[:, order], weight=problem.weight[:, order])
            assert (forward(REFERENCE, turned) == forward(REFERENCE, problem)).all()


def caught(wrong, family, dtype="float32"):
    """Whether some problem of the family tells the wrong implementation from the right one."""
    for problem in problems.some(40, family, dtype=dtype):
        try:
            LAWS["forward_is_exact"].check(wrong, problem)
            LAWS["backward_is_exact"].check(wrong, problem)
        except AssertionError:
            return True
    return False


def tf32(a):
    """Rounded to the 10 stored bits of TF32."""
    bits = np.asarray(a, np.float32).view(np.uint32) + np.uint32(1 << 12)
    return (bits & np.uint32(0xFFFFE000)).view(np.float32)


def samples_in_tf32(x, p, *, border="zero"):
    return tf32(reference.sample(x, p, border=border))


def weights_in_tf32(x, offset, weight, bias=None, **options):
    return reference.deform_conv2d(x, offset, tf32(weight), bias, **options)


def columns_in_tf32(x, offset, weight, bias=None, **options):
    """The samples rounded to TF32 before the product: one output channel per (c, tap)."""
    C, (kh, kw) = x.shape[1], weight.shape[2:]
    each = np.zeros((C * kh * kw, weight.shape[1], kh, kw), x.dtype)
    if weight.shape[1] != C:
        return reference.deform_conv2d(x, offset, weight, bias, **options)
    for row, at in enumerate(np.ndindex(C, kh, kw)):
        each[(row, *at)] = 1
    columns = tf32(reference.deform_conv2d(x, offset, each, **options))
    y = np.einsum("or,nrhw->nohw", weight.reshape(len(weight), -1), columns)
    return y if bias is None else y + bias[:, None, None]


NEEDED = [
    ("wide-x", columns_in_tf32, "float32"),
    ("wide-w", weights_in_tf32, "float32"),
    ("far", halved_coordinates, "float32"),
    ("f64", computed_in(np.float32), "float64"),
]


@pytest.mark.parametrize(("family", "wrong", "dtype"), NEEDED, ids=[n[0] for n in NEEDED])
def test_each_family_shows_what_the_base_family_cannot(family, wrong, dtype):
    wrong = bug(deform_conv2d=wrong)
    assert caught(wrong, family, dtype), f"{family} does not show it"
    assert not caught(wrong, "base", dtype), "the base family shows it already"


def test_wide_gradients_show_what_the_base_family_cannot():
    def wrong(grad_output, *args, **options):
        return reference.deform_conv2d_backward(tf32(grad_output), *args, **options)

    assert caught(bug(deform_conv2d_backward=wrong), "wide-g")
    assert not caught(bug(deform_conv2d_backward=wrong), "base")


@pytest.mark.parametrize(("border", "column"), [("zero", 3), ("dcnv1", 3), ("dcnv1", 6)])
def test_a_point_rounded_onto_a_kink_is_within_the_bound(border, column):
    """p = column + 2 - 2**-22 rounds to a whole number in float32, and the slope changes there."""
    shape = Shape(1, 1, 1, 1, 1, at_least=(1, 8))
    problem = problems.make("base", shape, 0, border=border)
    offset = np.zeros_like(problem.offset)
    offset[0, 1, 0, column] = 2 - 2.0**-22
    given = problem.with_(
        x=(np.arange(8.0) ** 2).reshape(1, 1, 1, 8), offset=offset, mask=None,
        grad_output=np.ones_like(problem.grad_output), weight=np.ones((1, 1, 1, 1)),
    ).cast("float32")  # fmt: skip
    exact, tolerance = given.cast("float64"), bounds.tolerances(given, "float32")
    slope = abs(backward(REFERENCE, given).offset - backward(REFERENCE, exact).offset)
    y = abs(forward(REFERENCE, given) - forward(REFERENCE, exact))
    assert max(slope.max(), y.max()) > 1
    assert (slope <= tolerance.offset).all()
    assert (y <= tolerance.y).all()


@pytest.mark.parametrize(
    ("families", "dtype", "words"),
    [
        (("bas",), "float32", "there is no family 'bas', only base, kinks"),
        (("f64",), "float32", "no family of .* holds dtype 'float32'"),
        ((), "float64", "no family of"),
    ],
)
def test_families_have_names(families, dtype, words):
    with pytest.raises(ValueError, match=words):
        problems.some(4, *families, dtype=dtype)


def test_points_of_the_edge_family_are_within_a_pixel_of_an_edge():
    for problem in problems.some(24, "edge", dtype="float32"):
        s = problem.shape
        p = reference.sampling_points(problem.offset, s.kernel, **problem.options)
        assert (np.minimum(np.abs(p), np.abs(p - np.subtract(s.size, 1))) <= 1).all()


def arguments(problem):
    """Those of `deform_conv2d`, by name."""
    names = ("x", "offset", "weight", "bias", "mask", "border")
    return {name: getattr(problem, name) for name in names} | problem.options


def drawn(strategy, wanted):
    """Whether some problem that the strategy draws is as wanted."""
    return find(strategy, lambda p: p.x.size and wanted(p), settings=settings(database=None))


def test_strategies_draw_what_they_say():
    outside = lambda p: (np.abs(p.offset) > 1e20).any()  # noqa: E731
    assert drawn(strategies.exact("float64"), lambda p: p.family == "wide-x")
    assert drawn(strategies.ordinary(), lambda p: (p.x != np.round(p.x)).all())
    assert drawn(strategies.kink(), lambda p: (p.offset == np.floor(p.offset)).any())
    assert drawn(strategies.border(), lambda p: p.family == "edge")
    assert drawn(strategies.huge(), outside)
    assert drawn(strategies.non_finite(), lambda p: np.isnan(p.offset).any())
    assert drawn(strategies.wide_half(), lambda p: max(p.x.shape) > 2048 and p.x.dtype == "f2")
    assert find(strategies.degenerate(), lambda p: len(p.x) == 0)
    assert drawn(strategies.roi_exact(), lambda p: p.offset is not None)
    assert drawn(strategies.roi_kink(), lambda p: p.offset is None)
    assert drawn(strategies.roi_mean(), lambda p: p.samples == 5)
    assert drawn(strategies.roi_ordinary(), lambda p: p.gamma == 0.1)
    with pytest.raises(NoSuchExample):
        find(strategies.exact(), outside, settings=settings(max_examples=20, database=None))


LACKS = [
    "bias", "mask", "groups", "offset groups", "stride", "dilation", "padding", "uneven padding",
    "unequal axes", "no images", "several images", "several outputs", "the dcnv1 border",
]  # fmt: skip


@pytest.mark.parametrize("word", LACKS)
def test_no_problem_needs_what_its_scope_is_without(word):
    def met(**scope):
        made = problems.some(60, "base", "edge", dtype="float32", scope=problems.Scope(**scope))
        return sum(word in features.of("deform_conv2d", arguments(p)) for p in made)

    assert met()
    assert not met(without=frozenset([word]), borders=("zero",))
