"""The exercises: every solution is right, and what is wrong is named in one line."""

import inspect
import zlib

import nbformat.v4
import numpy as np
import pytest
from tutorial_files import helper, printed, quiet, spoilt

from deformable_convnets.reference.oracle.mistakes import MISTAKES

LIBRARY = {mistake.name for table in MISTAKES.values() for mistake in table}
EXERCISES = sorted(helper("exercises").EXERCISES)


@pytest.mark.parametrize("name", EXERCISES)
def test_every_solution_is_right(name):
    verdict = helper("exercises").verdict(name, helper("solutions").solution(name))
    assert verdict.startswith(f"{name}: right"), verdict


def problems(name):
    """The hidden problems of `verdict`."""
    exercise = helper("exercises").EXERCISES[name]
    seeds = (zlib.crc32(f"{name} {i}".encode()) for i in range(exercise.problems))
    return [exercise.problem(np.random.default_rng(seed)) for seed in seeds]


@pytest.mark.parametrize("name", EXERCISES)
def test_a_known_mistake_is_named_or_invisible(name):
    """Every known mistake gives its name, or that of one before it that does the same here, or
    right answers; and the exercise's own mistakes are never invisible."""
    exercises, agree = helper("exercises"), helper("exercises.grading").agree
    wrong = exercises.EXERCISES[name].wrong
    own = [m for m in wrong if m.name not in LIBRARY]
    verdicts = [exercises.verdict(name, m.run) for m in wrong]
    for mistake, said in zip(wrong, verdicts, strict=True):
        if said.startswith(f"{name}: right"):
            assert mistake not in own
        elif said != f"{name}: not yet. Your result is what one gets with: {mistake.name}.":
            other = next(m for m in wrong if said.endswith(f" one gets with: {m.name}."))
            assert wrong.index(other) < wrong.index(mistake)
            assert all(agree(mistake.run(*a), other.run(*a)) for a in problems(name))
    assert not wrong or any("one gets with" in said for said in verdicts)


def test_a_name_explains_every_problem():
    """No strides and no dilations give the same on the first problem of `receptive_field`."""
    exercises = helper("exercises")
    first = problems("receptive_field")[0]
    by_name = {m.name: m.run for m in exercises.EXERCISES["receptive_field"].wrong}
    assert by_name["the strides forgotten"](*first) == by_name["the dilation forgotten"](*first)
    both = exercises.verdict("receptive_field", by_name["the strides forgotten"])
    assert both.endswith("Your result is what one gets with: the strides forgotten.")

    def once(*args):
        return by_name["the strides forgotten" if args == first else "the missing 1"](*args)

    assert "Your result is " in exercises.verdict("receptive_field", once)
    assert "one gets with" not in exercises.verdict("receptive_field", once)


def test_the_hidden_problems_meet_what_their_exercise_is_about():
    for name in ("conv_by_columns", "gather_and_sum"):
        kernels = {args[-1].shape[2:] for args in problems(name)}
        assert len(kernels) > 1
        assert any(kh != kw for kh, kw in kernels)
    assert all((p[:, 0] % 1 == 0).sum() >= 3 for p, _ in problems("slope_y"))
    for x, p in problems("authors_border"):
        assert (p == x.shape[1:]).any(axis=0).all()


@pytest.mark.parametrize("name", EXERCISES)
def test_there_are_hints_and_they_come_one_by_one(name, capsys, monkeypatch):
    exercises = helper("exercises")
    exercise = exercises.EXERCISES[name]
    monkeypatch.setattr(exercise, "hinted", 0)
    monkeypatch.setattr(exercise, "solved", False)
    count = len(exercise.hints)
    for i in (*range(count), count - 1):
        exercises.solution(name)
        assert ("def " in capsys.readouterr().out) == (exercise.hinted == count)
        exercises.hint(name)
        assert f"Hint {i + 1} of {count}: {exercise.hints[i]}" in capsys.readouterr().out
    assert count >= 2
    exercises.solution(name)
    assert capsys.readouterr().out.startswith(inspect.getsource(helper("solutions").solution(name)))


def test_a_right_answer_may_be_compared_with_the_solution(capsys, monkeypatch):
    exercises = helper("exercises")
    monkeypatch.setattr(exercises.EXERCISES["grid"], "hinted", 0)
    monkeypatch.setattr(exercises.EXERCISES["grid"], "solved", False)
    exercises.solution("grid")
    assert capsys.readouterr().out == "grid: first the hints, 2 left: exercises.hint('grid')\n"
    exercises.check("grid", helper("solutions").solution("grid"))
    exercises.solution("grid")
    assert "def grid(k, d):" in capsys.readouterr().out


WRONG = {  # solution, what is put in place of what, and what the check then has to say
    "x first": ("gather_and_sum", "sampling_points(offset,",
                "sampling_points(offset.reshape(-1, 2, *offset.shape[2:])[:, ::-1]"
                ".reshape(offset.shape),", "the x-first channel order"),
    "split": ("gather_and_sum", "sampling_points(offset,",
              "sampling_points(offset.reshape(2, -1, *offset.shape[2:]).swapaxes(0, 1)"
              ".reshape(offset.shape),", "the split layout (all dy, then all dx)"),
    "clamped": ("gather_and_sum", "sample(x[0], p)", "sample(x[0], np.clip(p, 0, (5, 7)))",
                "a clamped border"),
    "nearest": ("gather_and_sum", "sample(x[0], p)", "sample(x[0], np.floor(p + 0.5))",
                "the nearest pixel"),
    "offset lost": ("gather_and_sum", "sampling_points(offset,", "sampling_points(0 * offset,",
                    "the offset forgotten"),
    "groups": ("two_groups", "offset[:, n:]", "offset[:, :n]", "only the first offset group"),
    "flipped": ("conv_by_columns", "weight.reshape(O, -1)",
                "weight[:, :, ::-1, ::-1].reshape(O, -1)", "a flipped kernel"),
    "columns": ("conv_by_columns", "for i in range(kh) for j in range(kw)",
                "for j in range(kw) for i in range(kh)", "transposed taps"),
    "p swapped": ("bilinear", '"py,px,cyx->cp", g(rows, p[:, :1]), g(columns, p[:, 1:])',
                  '"py,px,cyx->cp", g(rows, p[:, 1:]), g(columns, p[:, :1])',
                  "the x-first order of p"),
    "left": ("slope_y", "(above >= -1) & (above < 0)) - 1.0 * ((above >= 0) & (above < 1)",
             "(above > -1) & (above <= 0)) - 1.0 * ((above > 0) & (above <= 1)", "the left-hand"),
    "sign": ("slope_y", "1.0 * ((above >= -1) & (above < 0)) - 1.0 * ((above >= 0) & (above < 1))",
             "np.sign(-above) * (np.abs(above) < 1)", "a slope of 0 at whole p_y"),
    "h w slope": ("slope_y", "np.arange(size[0]), np.arange(size[1])",
                  "np.arange(size[1]), np.arange(size[0])", "H and W exchanged"),
    "no x": ("slope_y", "g(columns, p[:, 1:])", "g(columns, p[:, 1:]) ** 0",
             "the weights along x, g(q_x, p_x), forgotten"),
    "taps": ("conv_by_columns", "axis=2).reshape", "axis=1).reshape", "the taps stacked before"),
    "step": ("receptive_field", "step *= s", "step = s", "not the product"),
    "nearest pixel": ("bilinear", 'np.einsum("py,px,cyx->cp", g(rows, p[:, :1]), '
                      "g(columns, p[:, 1:]), x)",
                      "x[:, *np.clip(np.round(p), 0, (4, 6)).astype(int).T]", "the nearest pixel"),
    "all": ("differences_fail", "any(", "all(", "along y and along x, where one is enough"),
    "one end": ("differences_fail", "np.floor(p - step)", "np.floor(p)", "compared with p, not"),
    "other end": ("differences_fail", "np.floor(p + step)", "np.floor(p)", "compared with p, not"),
    "not zero": ("authors_border", " * inside", "", "points outside that are not 0"),
    "any": ("authors_border", ".all(", ".any(", "outside along both axes"),
    "edge": ("authors_border", "p < x.shape", "p <= x.shape", "p <= H and p <= W"),
    "halves": ("two_groups", "C, n = x.shape[1] // 2, offset.shape[1] // 2",
               "C, n = x.shape[1] // 2, offset.shape[1] // 2\n    offset = np.roll(offset, n, 1)",
               "the offsets of the two groups exchanged"),
    "halved outputs": ("two_groups", "weight[:, :C])\n    second = deform_conv2d(x[:, C:], "
                       "offset[:, n:], weight[:, C:])\n    return first + second",
                       "weight[:1, :C])\n    second = deform_conv2d(x[:, C:], "
                       "offset[:, n:], weight[1:, C:])\n    return np.hstack([first, second])",
                       "output channels halved too"),
    "every other": ("two_groups", "x[:, :C], offset[:, :n], weight[:, :C])\n"
                    "    second = deform_conv2d(x[:, C:], offset[:, n:]",
                    "x[:, :C], offset[:, ::2], weight[:, :C])\n"
                    "    second = deform_conv2d(x[:, C:], offset[:, 1::2]", "every other channel"),
    "as it is": ("offset_gradient", "np.moveaxis(grad_p, -1, 1)", "grad_p", "reshaped as it is"),
    "no bias": ("module_gradient", "conv2d(x, offset_weight, offset_bias)",
                "conv2d(x, offset_weight)", "the bias of the branch forgotten"),
    "corner": ("grid", "(i - k // 2)", "i", "a grid that starts at its corner"),
    "opposite": ("slope_y", "(above >= -1) & (above < 0)) - 1.0 * ((above >= 0) & (above < 1)",
             "(above >= 0) & (above < 1)) - 1.0 * ((above >= -1) & (above < 0)",
             "the opposite sign"),
    "dy dx": ("offset_gradient", "np.moveaxis(grad_p, -1, 1)",
              "np.moveaxis(grad_p[..., ::-1], -1, 1)", "with dy and dx swapped"),
    "added once": ("input_gradient", "np.add.at(grad.T, entries.col, each.T)",
                   "grad[:, entries.col] += each", "overwrites instead of adding"),
    "one term": ("module_gradient", "sampling.x + branch.x", "sampling.x",
                 "without the branch term"),
    "both sides": ("offset_gradient_at_zero", "deform_conv2d(x, moved, weight) - y)).sum() / h",
                   "deform_conv2d(x, moved, weight) - deform_conv2d(x, 2 * offset - moved, weight)"
                   ")).sum() / (2 * h)", "the mean of both sides"),
    "maps a b": ("gather_maps", "maps[:, :, i, j]", "maps[:, :, j, i]", "a and b exchanged"),
    "maps first": ("gather_maps", "maps = x.reshape(1, -1, k, k, *x.shape[2:])",
                   "maps = np.moveaxis(x.reshape(1, k, k, -1, *x.shape[2:]), 3, 1)",
                   "in the order (a, b, channel)"),
    "summed": ("gather_maps", "roi_pool(maps[:, :, i, j], rois, k)[:, :, i, j]",
               "roi_pool(maps[:, :, i, j], rois, k)[:, :, i, j] * [[len(np.arange("
               "i * (b[4] - b[2]) // k, -(-(i + 1) * (b[4] - b[2]) // k))) * len(np.arange("
               "j * (b[3] - b[1]) // k, -(-(j + 1) * (b[3] - b[1]) // k)))] for b in rois]",
               "the sum over a bin"),
    "gamma": ("centred_pool", "half_a_step / 0.1", "half_a_step", "gamma forgotten"),
    "not centred": ("centred_pool", "half_a_step / 0.1", "0 * half_a_step", "not moved"),
    "bins": ("centred_pool", "2 * k * samples", "2 * k", "half a step of bins"),
    "trans": ("authors_call", 'from_layout(trans, "mxnet-roi").offset', "trans",
              "the x-first offset order (MXNet's)"),
    "trans_std": ("authors_call", "gamma=trans_std", "gamma=1", "gamma forgotten"),
    "paper": ("authors_call", 'bins="mxnet", samples=sample_per_part', 'bins="paper"',
              'bins="paper"'),
    "h w": ("bin_offset_gradient", "pooling.size(r)", "pooling.size(r)[::-1]",
            "with h and w exchanged"),
    "pixels": ("bin_offset_gradient", "slope * 0.1 * np.array(pooling.size(r))", "slope",
               "in pixels"),
    "n_ij": ("bin_offset_gradient", " / len(points), len", ", len", "without 1 / n_ij"),
    "their order": ("first_kernel", "all_dx_then_all_dy.reshape(offset.shape)", "offset",
                    "the split layout, x first"),
    "half undone": ("second_kernel", "-offset", "offset", "the opposite sign of the offset"),
    "one axis": ("mean_distance", "for axis in (1, 2)]", "for axis in (2,)]",
                 "the mean over the pairs across alone"),
    "not turned": ("fitted_scale", "np.abs(u @ z.conj())", "(u @ z.conj()).real",
                   "a grid that is not turned"),
    "nearest field": ("eighty_one", "sample(below[0], nine)", "sample(below[0], np.round(nine))",
                      "the nearest pixel's offsets"),
    "top twice": ("eighty_one", "sample(below[0], nine)", "sample(top[0], nine)",
                  "the field of the top layer in both"),
    "clamped field": ("eighty_one", "sample(below[0], nine)",
                      "sample(below[0], np.clip(nine, 0, (6, 7)))", "a clamped border"),
    "points first": ("eighty_one", "np.moveaxis(offset, 2, 0)", "offset.reshape(9, 9, 2)",
                     "points first"),
    "before pairing": ("points_on_map", "return moved[inside]",
                       "return regular[inside] + offset.reshape(9, 2)[: inside.sum()]",
                       "left out before they meet their offsets"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_spoilt_solution_is_diagnosed(case):
    name, right, wrong, words = WRONG[case]
    assert words in helper("exercises").verdict(name, spoilt(name, right, wrong))


CELLS = (
    "import sys, exercises",
    "def grid(k, d):\n  while k:\n    try:\n      d += 1\n    except:\n      pass",
    "exercises.check('grid', grid, limit=0.5)",
    "def grid(k, d):\n    sys.exit()\nexercises.check('grid', grid)",
    "def grid(k, d):\n    k = 1 / (d - d)\n    return k",
    "exercises.check('grid', grid)\nexercises.check('gird', grid)",
    "exercises.check('grid', 3)\nprint('on')",
)


@quiet
def test_a_notebook_goes_on():
    """In a kernel, where a learner's function has no file."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in CELLS])
    helper("build").execute(notebook)
    assert not any(o.output_type == "error" for c in notebook.cells for o in c.outputs)
    lines = "".join(map(printed, notebook.cells)).splitlines()
    assert "still ran after 0.5 s, in line " in lines[0]
    assert "called exit" in lines[1]
    assert 'division by zero, in line 2 ("k = 1 / (d - d)")' in lines[2]
    assert lines[3:] == [
        "There is no exercise 'gird'. Did you mean 'grid'?",
        "grid: not yet. What you gave is 3, an int, not a function:"
        " write exercises.check('grid', grid).",
        "on",
    ]
