"""Deformable convolution of volumes: by hand, against its equations, and against the operator on
maps of which it is the extension. Its laws are in `test_laws`, their sabotage in `test_sabotage`.
"""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from implementations import ENTRIES
from scipy.ndimage import map_coordinates

from deformable_convnets import gpu, reference
from deformable_convnets.gpu import registry
from deformable_convnets.reference import volume_equations as equations
from deformable_convnets.reference.oracle import problems, shapes, verify
from deformable_convnets.reference.oracle.implementation import REFERENCE
from deformable_convnets.reference.oracle.laws import backward, forward
from deformable_convnets.reference.oracle.volume_shapes import VOLUMES, volume

BOX = np.arange(1.0, 13).reshape(2, 2, 3)  # two planes, 1 to 6 and 7 to 12
GIVEN = ("x", "offset", "weight", "bias", "mask", "grad_output")


def fractions(a):
    return None if a is None else np.vectorize(Fraction, otypes=[object])(a)


def layer(x, offset, weight, **options):
    return equations.Layer(fractions(x), fractions(offset), fractions(weight), **options)


def test_eq4_by_hand():
    """A quarter from plane 0, half from row 0, at column 1: eight weights, of which four are 0."""
    p = (Fraction(1, 4), Fraction(1, 2), Fraction(1))
    weights = {q: equations.G(q, p) for q in np.ndindex(BOX.shape)}
    assert {q: float(w) for q, w in weights.items() if w} == {
        (0, 0, 1): 0.375, (0, 1, 1): 0.375, (1, 0, 1): 0.125, (1, 1, 1): 0.125,
    }  # fmt: skip


def test_eq2_and_eq7_by_hand():
    """x(1/4, 1/2, 1) = 2 + 6/4 + 3/2 = 5, as a plane is 6 more, a row 3 and a column 1."""
    offset = np.zeros((1, 3, 2, 2, 3))
    offset[0, :, 0, 0, 1] = 1 / 4, 1 / 2, 1 / 4
    x, weight, one = BOX[None, None], np.full((1, 1, 1, 1, 1), 2.0), np.zeros((1, 1, 2, 2, 3))
    one[0, 0, 0, 0, 1] = 1
    assert reference.deform_conv3d(x, offset, weight)[0, 0, 0, 0, 1] == 2 * (5 + 1 / 4)
    grads = reference.deform_conv3d_backward(one, x, offset, weight)
    assert grads.offset[0, :, 0, 0, 1].tolist() == [2 * 6, 2 * 3, 2 * 1]
    exact = layer(x, offset, weight)
    assert equations.deform_conv3d(exact)[0, 0, 0, 0, 1] == Fraction(21, 2)
    slopes = equations.deform_conv3d_backward(fractions(one), exact)["offset"]
    assert slopes[0, :, 0, 0, 1].tolist() == [12, 6, 2]


SMALL = [
    volume(kernel=(2, 1, 2), padding=((1, 0), (0, 1), (0, 0)), at_least=(1, 2, 1)),
    volume(1, 1, 1, 2, kernel=(1, 2, 1), stride=(2, 1, 3), dilation=(1, 2, 1), at_least=(2, 1, 1)),
    volume(1, 1, 2, 1, 2, kernel=(1, 1, 2), padding=((0, 0), (1, 0), (0, 1)), dilation=(1, 1, 2)),
    volume(2, 2, kernel=(2, 1, 1), dilation=(2, 1, 1)),
]


@settings(max_examples=24)
@given(
    problems.recipes(
        "base", "kinks", dtype="float64", axes=3, scope=problems.Scope(fixed_shapes=True)
    )
)
def test_the_reference_equals_the_equations(recipe):
    """(1), (2) and all gradients, both sides of kinks, on fractions and bit for bit."""
    p = recipe._replace(shape=SMALL[recipe.seed % len(SMALL)], border="zero").problem("float64")
    deformed = layer(p.x, p.offset, p.weight, mask=fractions(p.mask), **p.options)
    assert (equations.deform_conv3d(deformed, fractions(p.bias)) == forward(REFERENCE, p)).all()
    plain, args = layer(p.x, None, p.weight, **p.options), (p.x, p.weight, p.bias)
    y = reference.conv3d(*args, **p.options)
    assert (equations.deform_conv3d(plain, fractions(p.bias)) == y).all()
    found = [(plain, "right", reference.conv3d_backward(p.grad_output, *args, **p.options))]
    found += [(deformed, side, backward(REFERENCE, p, side=side)) for side in ("right", "left")]
    for at, side, grads in found:
        exact = equations.deform_conv3d_backward(fractions(p.grad_output), at, side)
        for name, value in grads._asdict().items():
            assert value is None or (exact[name] == value).all(), (name, side)


def test_the_comparison_can_fail():
    p = problems.make("edge", SMALL[0], 0)
    wrong = layer(p.x, p.offset[:, ::-1], p.weight, mask=fractions(p.mask), **p.options)
    assert not (equations.deform_conv3d(wrong, fractions(p.bias)) == forward(REFERENCE, p)).all()


@settings(max_examples=40)
@given(problems.recipes(*problems.FAMILIES, dtype="float64", axes=3))
def test_every_problem_is_certified(recipe):
    assert problems.certified(recipe.problem("float64"))


def test_the_code_of_a_problem_makes_it_again():
    for p in problems.some(12, "base", "edge", "far", dtype="float32", axes=3):
        again = eval(p.code(), {"problems": problems, "shapes": shapes})
        assert again.shape == p.shape
        assert (again.x == p.x).all()
        assert (again.offset == p.offset).all()


def test_scipy_reads_the_same():
    """One tap of weight 1 is `map_coordinates` of order 1 on a map that is zero outside."""
    rng = np.random.default_rng(0)
    x, offset = rng.integers(-8, 9, (1, 1, 4, 3, 5)), rng.integers(-24, 25, (1, 3, 4, 3, 5)) / 8
    y = reference.deform_conv3d(x.astype(float), offset, np.ones((1, 1, 1, 1, 1)))[0, 0]
    p = np.indices(y.shape) + offset[0]
    assert (y == map_coordinates(x[0, 0], p, float, order=1, mode="grid-constant")).all()


@pytest.mark.parametrize("axis", range(3))
def test_a_volume_of_one_plane_is_a_map(axis):
    """With D = kd = 1 and dz = 0, in every direction, deform_conv3d is deform_conv2d."""
    for p in problems.some(8, "base", "kinks", "edge", "f64", dtype="float64"):
        y, grads = forward(REFERENCE, p), backward(REFERENCE, p)
        s, options = p.shape, {k: with_axis(v, axis) for k, v in p.options.items()}
        deep = {n: thickened(getattr(p, n), axis) for n in ("x", "weight", "mask", "grad_output")}
        field = p.offset.reshape(s.N, s.fields, 2, *s.output)
        three = np.insert(field, axis, 0, axis=2).reshape(s.N, 3 * s.fields, *s.output)
        given = {**deep, "offset": thickened(three, axis), "bias": p.bias, "border": p.border}
        grad = given.pop("grad_output")
        deep_y = reference.deform_conv3d(**given, **options)
        assert (deep_y == thickened(y, axis)).all()
        found = reference.deform_conv3d_backward(grad, **given, **options)._asdict()
        moved = found.pop("offset").reshape(s.N, s.fields, 3, *deep_y.shape[2:])
        kept = np.delete(moved, axis, axis=2).reshape(p.offset.shape)
        assert (kept == grads.offset).all()
        for name, value in found.items():
            right = getattr(grads, name)
            assert value is right is None or (value.reshape(right.shape) == right).all()


def thickened(a, axis):
    return None if a is None else np.expand_dims(a, 2 + axis)


def with_axis(pair, axis):
    """Of stride, padding or dilation: the plainest along a new axis."""
    plain = (0, 0) if isinstance(pair[0], tuple) else 1
    return (*pair[:axis], plain, *pair[axis:])


def mine(x, offset, weight, bias=None, *, mask=None, **options):
    """As those do whose offsets are (dx, dy, dz)."""
    by_tap = offset.reshape(len(offset), -1, 3, *offset.shape[2:])[:, :, ::-1]
    turned = np.ascontiguousarray(by_tap.reshape(offset.shape))
    return reference.deform_conv3d(x, turned, weight, bias, mask=mask, **options)


def test_a_wrong_kernel_is_told_what_is_wrong():
    law = "volume_forward_is_exact"
    report = verify(mine, "deform_conv3d", dtype="float32", laws=law, examples=20)
    (failure,) = report.failures
    assert failure.diagnosis == "y equals the x-first channel order (dx, dy, dz)"
    assert "x-first channel order" in report.html()
    lines = [line for line in failure.example.splitlines() if not line.startswith("from test_")]
    with pytest.raises(AssertionError) as raised:
        exec("\n".join(lines), {"mine": mine})
    assert str(raised.value) == failure.message


OFFERING = [e for e in ENTRIES.values() if e.implementation.offers("deform_conv3d")]
SIZES = {
    "x": (1, 4, 3, 6, 7), "offset": (1, 36, 3, 5, 6), "weight": (2, 2, 1, 3, 2), "bias": (2,),
    "mask": (1, 12, 3, 5, 6),
}  # fmt: skip
CALL = {n: np.zeros(size, np.float32) for n, size in SIZES.items()} | {
    "stride": 1, "padding": ((0, 0), (1, 0), (0, 0)), "dilation": 1,
}  # fmt: skip
TAPS, NOT_INTS = "3 * kd * kh * kw = 18", "expected an int or three ints (z, y, x)"
ROWS = [
    ({"x": (1, 4, 6, 7)}, "x has 4 dimensions, expected 5: N C D H W"),
    ({"x": (1, 4, 0, 6, 7)}, "x has C = 4, D = 0, H = 6, W = 7, expected 1 or more of each"),
    ({"weight": (2, 2, 3, 2)}, "weight has 4 dimensions, expected 5: O C/groups kd kh kw"),
    ({"weight": (2, 2, 0, 3, 2)},
     "weight has O = 2, C/groups = 2, kd = 0, kh = 3, kw = 2, expected 1 or more of each"),
    ({"weight": (2, 3, 1, 3, 2)}, "weight has 3 input channels, expected a divisor of C = 4"),
    ({"weight": (3, 2, 1, 3, 2)}, "weight has 3 output channels, expected a multiple of groups ="
     " C // (C/groups) = 4 // 2 = 2"),
    ({"offset": (1, 24, 3, 5, 6)}, f"offset has 24 channels, expected a multiple of {TAPS}"),
    ({"offset": (1, 54, 3, 5, 6)}, f"offset has 54 channels, 3 offset groups of {TAPS}, expected a"
     " divisor of C = 4 groups"),
    ({"offset": (1, 36, 5, 6)}, "offset has 4 dimensions, expected 5: N 3*G*K Do Ho Wo"),
    ({"offset": (1, 36, 3, 6, 5)}, "offset has shape (1, 36, 3, 6, 5), expected"
     " (N, 3 * G * kd * kh * kw, Do, Ho, Wo) = (1, 36, 3, 5, 6)"),
    ({"mask": (1, 12, 2, 5, 6)}, "mask has shape (1, 12, 2, 5, 6), expected"
     " (N, G * kd * kh * kw, Do, Ho, Wo) = (1, 12, 3, 5, 6)"),
    ({"bias": (3,)}, "bias has shape (3,), expected (O,) = (2,)"),
    ({"stride": (1, 2)}, f"stride is (1, 2), {NOT_INTS}"),
    ({"stride": (1, 0, 2)}, "stride is (1, 0, 2), expected 1 or more"),
    ({"dilation": 1.5}, f"dilation is 1.5, {NOT_INTS}"),
    ({"dilation": (0, 1, 1)}, "dilation is (0, 1, 1), expected 1 or more"),
    ({"padding": ((1, 0), (0, 0))}, "padding is ((1, 0), (0, 0)), expected an int, (z, y, x) or"
     " ((front, back), (top, bottom), (left, right))"),
    ({"padding": "same"}, "padding is 'same', expected an int, (z, y, x) or"
     " ((front, back), (top, bottom), (left, right))"),
    ({"dilation": (1, 1, 7)}, "y would have 3 x 5 x 0 pixels, expected 1 x 1 x 1 or more: along W"
     " it has (size + padding - dilation * (k - 1) - 1) // stride + 1 ="
     " (7 + 0 + 0 - 7 * (2 - 1) - 1) // 1 + 1"),
    ({"border": "clamp"}, "border is 'clamp', expected 'zero' or 'dcnv1'"),
    ({"side": "up"}, "side is 'up', expected 'right' or 'left'"),
    ({"grad_output": (1, 2, 3, 6, 5)}, "grad_output has shape (1, 2, 3, 6, 5), expected"
     " (N, O, Do, Ho, Wo) = (1, 2, 3, 5, 6)"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "words"), ROWS, ids=[words[:40] for _, words in ROWS])
@pytest.mark.parametrize("entry", OFFERING, ids=lambda entry: entry.name)
def test_bad_input_gets_one_clear_line(entry, change, words):
    (name, value), arrays = *change.items(), {**SIZES, "grad_output": (1, 2, 3, 5, 6)}
    changed = np.zeros(value, np.float32) if name in arrays else value
    operator = "deform_conv3d" + "_backward" * (name in ("grad_output", "side"))
    function = REFERENCE.call[operator] if entry.backend is None else getattr(gpu, operator)
    more = {"grad_output": np.zeros(arrays["grad_output"], "f")} if "_b" in operator else {}
    with pytest.raises((ValueError, TypeError)) as raised:
        function(**more | CALL | {name: changed})
    message, _, told = str(raised.value).partition("  [")
    assert message == words
    size = value if name in arrays else SIZES["x"]
    assert f"{name if name in arrays else 'x'} {size}" in told


def test_float16_is_computed_in_float32():
    """Of (1) and (2): the sums are rounded once. Ordinary numbers, so that it would show."""
    rng = np.random.default_rng(0)
    sizes = {"x": (2, 16, 3, 5, 5), "weight": (4, 16, 2, 3, 3), "grad": (2, 4, 2, 3, 3)}
    half = {name: rng.normal(size=size).astype("e") for name, size in sizes.items()}
    single = {name: a.astype("f") for name, a in half.items()}
    for name, field in (("conv3d", ()), ("deform_conv3d", (np.zeros((2, 54, 2, 3, 3), "f"),))):
        forward, backward = getattr(reference, name), getattr(reference, f"{name}_backward")
        found, expected = (forward(a["x"], *field, a["weight"]) for a in (half, single))
        assert (found == expected.astype("e")).all()
        grads, right = (backward(a["grad"], a["x"], *field, a["weight"]) for a in (half, single))
        for one in ("x", "weight"):
            assert (getattr(grads, one) == getattr(right, one).astype("e")).all()


def test_conv3d_tells_it_too():
    x, weight = CALL["x"], CALL["weight"]
    with pytest.raises(ValueError, match="x has 4 dimensions, expected 5: N C D H W"):
        reference.conv3d(x[0], weight)
    with pytest.raises(ValueError, match=r"expected \(N, O, Do, Ho, Wo\) = \(1, 2, 3, 4, 6\)"):
        reference.conv3d_backward(x, x, weight)


def test_a_backend_without_it_says_which_has_it(runnable, monkeypatch):
    runnable(ENTRIES["numba v1"])
    words = r"backend is 'numpy', which has no deform_conv3d, expected 'numba'"
    with pytest.raises(ValueError, match=words):
        gpu.deform_conv3d(**CALL, backend="numpy", version="v1")
    hidden = registry.BACKENDS["numba"]._replace(missing=lambda: "Numba is not here")
    only = {"numba": hidden, "cupy": registry.BACKENDS["numpy"]}
    monkeypatch.setattr(registry, "BACKENDS", only)
    words = "the backend 'cupy' has no deform_conv3d, and no other can run: Numba is not here"
    with pytest.raises(RuntimeError, match=words):
        gpu.deform_conv3d(**CALL)


@pytest.mark.parametrize("end", ["", "_backward"])
@pytest.mark.parametrize(
    ("keyword", "value", "words"),
    [
        ("workspace_limit", 5, "'v1' has no workspace_limit"),
        ("precision", "tf32", "'v1' has no precision 'tf32'"),
        ("deterministic", 1, "deterministic is 1, expected True or False"),
        ("version", "v9", "v9"),
    ],
)
def test_keywords_that_no_kernel_has(runnable, end, keyword, value, words):
    """They reach the choice of a kernel, forward and backward, and are not dropped."""
    runnable(ENTRIES["numba v1"])
    given = CALL | ({"grad_output": np.zeros((1, 2, 3, 5, 6), "f")} if end else {})
    if end or keyword != "deterministic":
        with pytest.raises((ValueError, TypeError), match=words):
            getattr(gpu, f"deform_conv3d{end}")(**given, **{keyword: value})


def test_gradients_by_name(runnable):
    runnable(ENTRIES["numba v1"])
    p = problems.make("base", VOLUMES[0], 2, border="zero").cast("float32")
    given = {name: getattr(p, name) for name in GIVEN} | p.options
    grads = gpu.deform_conv3d_backward(**given, wrt=("offset", "weight"), deterministic=True)
    right = backward(REFERENCE, p)
    assert grads.x is grads.bias is grads.mask is None
    assert (grads.offset == right.offset).all()
    assert (grads.weight == right.weight).all()
