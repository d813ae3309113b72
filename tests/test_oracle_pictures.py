"""The pictures of a report's page show where the bug is; what is expected is the reference's."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest
from broken import (
    SHAPE,
    Parsed,
    backward,
    failure,
    forward,
    marked,
    report_of,
    svgs,
    wrong,
)

import deformable_convnets.reference as reference
from deformable_convnets.reference.oracle import (
    pictures,
    probes,
    problems,
    roi_problems,
    shapes,
    sites,
)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_x_first_reads_the_transposed_offset(dtype):
    seen = forward("the x-first channel order", problems.make("base", SHAPE, 1).cast(dtype))
    offset = seen.site.points - seen.site.grid
    inside = ((seen.went > 0) & (seen.went < np.subtract(seen.site.size, 1))).all(axis=1)
    assert inside.any()
    exchanged = seen.site.grid + offset[:, ::-1]
    np.testing.assert_allclose(seen.went[inside], exchanged[inside], atol=1e-3)
    points = svgs(report_of(seen))[0]
    astray = [pictures.moved(p, q) for p, q in zip(seen.site.points, seen.went, strict=True)]
    assert len(marked(points, "found")) == sum(astray & ~np.isnan(seen.went).any(axis=1))


def test_the_weights_of_x_first_samples_move_to_the_transposed_points():
    x, p = np.ones((1, 5, 6)), np.array([[1.25, 3.5]])
    seen = weights_of(
        "sample", {"x": x, "p": p, "border": "zero"}, (0, 0), "the x-first order of p"
    )
    right, turned = (reference.G(q, (5, 6)).toarray().reshape(5, 6) for q in (p, p[:, ::-1]))
    np.testing.assert_array_equal(seen.heats[0].expected, right)
    np.testing.assert_array_equal(seen.heats[0].found, turned)
    np.testing.assert_allclose(seen.went, p[:, ::-1])


def weights_of(op, arguments, at, name):
    site = sites.site(op, arguments, "y", at)
    blank = probes.Seen(op, "y", at, 0.0, 0.0, (), site)
    return probes._probed(blank, site, wrong(op, name), arguments)


def test_a_clamped_border_moves_the_points_outside_alone():
    seen = forward("a clamped border", problems.make("base", SHAPE, 3))
    last, p = np.subtract(seen.site.size, 1), seen.site.points
    inside = ((p >= 0) & (p <= last)).all(axis=1)
    assert inside.any()
    assert not inside.all()
    np.testing.assert_allclose(seen.went[inside], p[inside])
    np.testing.assert_allclose(seen.went[~inside], np.clip(p[~inside], 0, last), atol=1e-3)
    different = ~np.isclose(seen.heats[0].expected, seen.heats[0].found)
    assert different.any()
    assert not different[1:-1, 1:-1].any()


def test_the_cells_that_differ_are_outlined_and_no_others():
    heat = probes.Heat("it", np.array([[1.0, 0, -2]]), np.array([[1.0, 4, -2]]))
    panels = {name: ET.fromstring(svg) for name, svg in pictures.heats(heat)}
    (outline,) = marked(panels["found"], "wrong")
    assert float(outline.get("x")) // pictures.CELL == 1
    assert [len(marked(panels[name], "wrong")) for name in ("expected", "difference")] == [0, 0]
    values = {name: [v.text for v in marked(svg, "value")] for name, svg in panels.items()}
    minus = f"{pictures.MINUS}2"
    assert values == {"expected": ["1", minus], "found": ["1", "4", minus], "difference": ["4"]}
    signs = [element.get("class") for element in panels["found"] if element.get("fill-opacity")]
    assert signs == ["pos", "pos", "neg"]


@pytest.mark.parametrize("seed", range(4))
def test_what_is_expected_are_the_weights_of_the_result(seed):
    problem = problems.make("base", SHAPE, seed).with_(bias=None)
    seen = forward("the opposite sign of the offset", problem)
    total = (seen.heats[0].expected * problem.x[0, 0]).sum()
    right = reference.deform_conv2d(
        problem.x, problem.offset, problem.weight, mask=problem.mask, **problem.options
    )
    assert total == pytest.approx(right[seen.at])
    assert seen.expected == right[seen.at]
    points = reference.sampling_points(problem.offset, (3, 3), **problem.options)
    n, _, i, j = seen.at
    np.testing.assert_array_equal(seen.site.points, points[n, 0, :, i, j])


@pytest.mark.parametrize("bins", roi_problems.RULES)
def test_the_points_of_a_bin_are_those_of_its_mean(bins):
    tried = 0
    for problem in roi_problems.some(20, "odd", dtype="float64", rules=(bins,), size=(9, 11)):
        y = reference.deform_ps_roi_pool(**arguments(problem))
        for at in list(np.ndindex(y.shape))[::3]:
            site = sites.site("deform_ps_roi_pool", arguments(problem), "y", at)
            inside = ((site.points >= 0) & (site.points <= np.subtract(site.size, 1))).all()
            if len(site.points) and (bins == "paper" or inside):
                x = problem.x[site.plane][None]
                assert y[at] == pytest.approx(reference.sample(x, site.points).mean())
                tried += 1
    assert tried >= 10


def arguments(p):
    part = None if p.offset is None else p.shape.part
    sizes = {"output_size": p.shape.output, "group_size": p.shape.group, "part_size": part}
    return {"x": p.x, "rois": p.rois, "offset": p.offset, "gamma": p.gamma, **sizes, **p.rule}


def pooled(op, name, **shape):
    shape = roi_problems.RoiShape(N=1, size=(6, 7), **shape)
    function = wrong(op, name)
    for seed in range(100):
        problem = roi_problems.make("odd", shape, seed, "paper")
        given = {"offset": None} if op in ("roi_pool", "ps_roi_pool") else {}
        try:
            law = "roi_forward_is_exact"
            seen = failure(op, law, problem.with_(**given), **{op: function}).picture
        except pytest.fail.Exception:
            continue
        if seen is not None and seen.middle is not None and not np.isnan(seen.middle).any():
            return seen
    raise AssertionError("no seed shows it")


def test_a_bin_that_is_moved_too_far():
    seen = pooled("deform_roi_pool", "gamma forgotten")
    belongs, reads = seen.middle
    offset = seen.site.points[0] - seen.site.grid[0]
    assert np.dot(reads - belongs, offset) > 0  # further along the same way
    text = report_of(seen)
    assert "and reads around" in Parsed(text).text
    points = svgs(text)[0]
    assert len(marked(points, "roi")) == len(marked(points, "bin")) == 1
    tinted = [element for element in marked(points, "found") if element.get("fill-opacity")]
    assert len(tinted) == np.count_nonzero(seen.heats[0].found)


def test_a_score_map_that_is_read_instead():
    op, name = "ps_roi_pool", "score maps read column by column (a and b exchanged)"
    seen = pooled(op, name, output=(2, 2), part=(2, 2), group=(2, 2))
    right, instead = seen.heats
    assert right.expected.any()
    assert not right.found.any()
    np.testing.assert_allclose(instead.found, right.expected)
    assert f"belongs to {right.plane} and reads {instead.plane}" in report_of(seen)


def test_the_taps_of_a_weight_gradient():
    seen = backward("the weight gradient read at the regular grid")
    (heat,) = seen.heats
    assert (seen.what, heat.cells, heat.found.shape) == ("grads.weight", "tap", (3, 3))
    p = problems.make("base", SHAPE, 0)
    right = reference.deform_conv2d_backward(
        p.grad_output, p.x, p.offset, p.weight, p.bias, mask=p.mask, **p.options
    )
    np.testing.assert_array_equal(heat.expected, right.weight[seen.at[:2]])
    assert heat.found[seen.at[2:]] == seen.found != seen.expected == right.weight[seen.at]
    assert len(svgs(report_of(seen))) == 3


def test_the_slopes_of_an_offset_gradient():
    seen = backward("the opposite sign of the offset gradient")
    np.testing.assert_array_equal(seen.slopes[0], -seen.slopes[1])
    for d, heat in enumerate(seen.heats):
        np.testing.assert_array_equal(heat.expected.ravel(), seen.slopes[0][:, d])
    assert seen.slopes[0][seen.site.marked][seen.at[1] % 2] == seen.expected
    points = svgs(report_of(seen))[0]
    arrows = len(marked(points, "slope-expected")), len(marked(points, "slope-found"))
    assert arrows[0] == arrows[1] > 0


def test_the_tap_and_the_channel_of_an_offset_gradient():
    p = problems.make("base", SHAPE.limited(G=2), 0)
    a = {"x": p.x, "offset": p.offset, "weight": p.weight, "bias": None, "mask": None, **p.options}
    points = reference.sampling_points(p.offset, (3, 3), **p.options)
    for channel in range(36):
        site = sites.site("deform_conv2d_backward", a, "offset", (0, channel, 2, 3))
        assert (site.plane, site.marked) == ((0, channel // 18), channel % 18 // 2)
        np.testing.assert_array_equal(site.points, points[0, channel // 18, :, 2, 3])


def test_the_pixels_of_a_gradient_of_x():
    seen = backward("a gradient of x that overwrites instead of adding")
    assert (seen.what, seen.site.pixel) == ("grads.x", seen.at[2:])
    assert seen.heats[0].expected[seen.at[2:]] == seen.expected
    assert len(seen.site.points) > 1
    assert (np.abs(seen.site.points - seen.site.pixel) < 1).all()


@pytest.mark.parametrize("name", ["the mask gradient multiplied by the mask"])
def test_the_tap_of_a_mask_gradient(name):
    seen = next(filter(None, (masked(name, seed) for seed in range(20))))
    assert seen.heats[0].expected.ravel()[seen.site.marked] == seen.expected
    assert len(marked(svgs(report_of(seen))[0], "ring")) == 1


def masked(name, seed):
    if problems.make("base", SHAPE, seed).mask is None:
        return None
    return backward(name, seed)


def test_a_bias_is_not_among_the_weights():
    problem = problems.make("base", SHAPE, 0).with_(bias=np.array([3.0]))
    seen = forward("the bias forgotten", problem)
    np.testing.assert_allclose(seen.heats[0].expected, seen.heats[0].found)
    np.testing.assert_allclose(seen.went, seen.site.points)
    read = reference.G(seen.site.points, seen.site.size).sum(axis=1)
    assert ((read > 0) & (read < 1)).any()  # one is partly outside the map, which is right too
    assert "Every pixel has the right weight" in Parsed(report_of(seen)).text


def test_a_small_problem_is_shown_on_a_larger_one():
    problem = problems.make("base", shapes.Shape(), 2)
    seen = forward("a clamped border", problem)
    assert seen.site.size == (5, 6)
    made = {}
    exec(seen.code, {"problems": problems, "shapes": shapes}, made)
    again = made["problem"]
    y = reference.deform_conv2d(
        again.x, again.offset, again.weight, again.bias, mask=again.mask, **again.options
    )
    assert y[seen.at] == seen.expected
    assert "The problem of the picture" in report_of(seen)
    assert forward("a clamped border", problems.make("base", SHAPE, 3)).code == ""


def test_a_bug_of_small_problems_is_shown_on_one():
    def one_tap_alone(x, offset, weight, *rest, **options):
        y = reference.deform_conv2d(x, offset, weight, *rest, **options)
        return y + 1 if weight[0, 0].size == 1 else y

    seen = forward(one_tap_alone, problems.make("base", shapes.Shape(), 2))
    assert (seen.code, seen.site.size) == ("", (1, 1))


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (-1.25, "-1.25"), (0.125, "0.12"), (100, "100"), (0.001, "1e-3"), (2e30, "2e30"),
     (np.inf, "∞"), (-np.inf, "-∞"), (np.nan, "NaN"), (9999.5, "10000")],
)  # fmt: skip
def test_numbers_fit_their_cells(value, text):
    assert pictures.number(value) == text.replace("-", pictures.MINUS)


def test_places_are_exact_to_a_thousandth():
    assert pictures.place((1.0625, -2)) == f"(1.062, {pictures.MINUS}2)"
    assert pictures.place((1e30, np.nan)) == "(1e30, NaN)"
