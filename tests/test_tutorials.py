"""The notebooks: equal to their sources, executed to the end, and with exercises that diagnose."""

import ast
import base64
import copy
import importlib
import inspect
import re
import sys
from pathlib import Path

import numpy as np
import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("jupytext")
pytest.importorskip("matplotlib")
pytest.importorskip("ipywidgets")

TUTORIALS = Path(__file__).resolve().parents[1] / "tutorials"
SOURCES = sorted((TUTORIALS / "src").glob("*.py"))
notebooks = pytest.mark.parametrize("source", SOURCES, ids=[s.stem for s in SOURCES])
# What the Jupyter machinery says about itself, in the process of the test.
quiet = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


def helper(name):
    """A module of tutorials/, which are imported from that folder, as the notebooks do."""
    sys.path.insert(0, str(TUTORIALS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(TUTORIALS))


def committed(source):
    return nbformat.read(TUTORIALS / f"{source.stem}.ipynb", as_version=4)


def code_cells(notebook):
    return [c for c in notebook.cells if c.cell_type == "code"]


def tagged(notebook, tag):
    return [c for c in code_cells(notebook) if tag in c.metadata.get("tags", ())]


def code_lines(source):
    """The lines of a cell that are not empty and not part of an import."""
    imports = [n for n in ast.parse(source).body if isinstance(n, ast.Import | ast.ImportFrom)]
    imported = {i for n in imports for i in range(n.lineno, n.end_lineno + 1)}
    lines = enumerate(source.splitlines(), start=1)
    return [text for i, text in lines if text.strip() and i not in imported]


def test_every_source_has_a_notebook_and_a_link():
    assert [s.stem[:2] for s in SOURCES] == ["01", "02", "03", "04", "07", "13"]
    assert {p.stem for p in TUTORIALS.glob("*.ipynb")} == {s.stem for s in SOURCES}
    links = re.findall(r"\((\d\d_\w+)\.ipynb\)", (TUTORIALS / "README.md").read_text())
    assert links == [s.stem for s in SOURCES]


@notebooks
def test_the_notebook_is_its_source(source):
    from_source, written = helper("build").read(source), committed(source)
    pairs = zip(from_source.cells, written.cells, strict=True)
    for ours, theirs in pairs:
        assert (ours.cell_type, ours.source) == (theirs.cell_type, theirs.source)
        assert ours.metadata.get("tags", []) == theirs.metadata.get("tags", [])


@quiet
@notebooks
def test_the_notebook_runs(source):
    build = helper("build")
    notebook = build.execute(build.read(source), skip=("timing",))
    assert all(c.execution_count for c in tagged(notebook, "check"))


@quiet
@notebooks
def test_a_false_claim_fails(source):
    """A copy whose first claim is followed by a false one does not get past it."""
    build = helper("build")
    notebook = build.read(source)
    claim = tagged(notebook, "check")[0]
    last = notebook.cells.index(claim) + 1
    notebook.cells = notebook.cells[:last]
    claim.source += "\nassert 1 == 2"
    with pytest.raises(nbclient.exceptions.CellExecutionError, match="AssertionError"):
        build.execute(notebook)


@notebooks
def test_cells_are_short_and_claims_are_asserted(source):
    notebook = committed(source)
    long = {c.id: len(code_lines(c.source)) for c in code_cells(notebook)}
    assert {name: n for name, n in long.items() if n > 10} == {}
    checks = tagged(notebook, "check")
    assert len(checks) >= 5
    for cell in checks:
        assert any(isinstance(n, ast.Assert) for n in ast.walk(ast.parse(cell.source))), cell.source
    for cell in code_cells(notebook):
        has = any(isinstance(n, ast.Assert) for n in ast.walk(ast.parse(cell.source)))
        assert has == (cell in checks), cell.source


@notebooks
def test_outputs_are_small_and_say_nothing_of_a_machine(source):
    notebook = committed(source)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    pictures = 0
    for cell in code_cells(notebook):
        assert set(cell.metadata) <= {"tags"}
        for output in cell.outputs:
            assert output.output_type != "error"
            assert output.get("name") != "stderr", output.get("text")
            data = dict(output.get("data", {}))
            png = data.pop("image/png", None)
            if png:
                pictures += 1
                assert len(base64.b64decode(png)) <= 100_000
            text = output.get("text", "") + "".join(map(str, data.values()))
            assert not re.search(r"(?:/[\w.-]+){3}|[A-Z]:\\|0x[0-9a-f]{6}", text), text
    assert pictures >= 3
    assert (TUTORIALS / f"{source.stem}.ipynb").stat().st_size < 400_000


def test_the_figure_of_the_readme():
    data = (TUTORIALS / "figures" / "deformed_grid.png").read_bytes()
    width = int.from_bytes(data[16:20], "big")
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert 600 <= width <= 900
    assert len(data) <= 150_000


EXERCISES = sorted(helper("exercises").EXERCISES)


@pytest.mark.parametrize("name", EXERCISES)
def test_every_solution_is_right(name):
    verdict = helper("exercises").verdict(name, helper("solutions").solution(name))
    assert verdict.startswith(f"{name}: right"), verdict


@pytest.mark.parametrize("name", EXERCISES)
def test_a_known_mistake_is_named_or_invisible(name):
    """Every known mistake either is diagnosed by its name, or gives the right answers here."""
    exercises = helper("exercises")
    exercise = exercises.EXERCISES[name]
    verdicts = {m.name: exercises.verdict(name, m.run) for m in exercise.wrong}
    for mistake, verdict in verdicts.items():
        assert mistake in verdict or verdict.startswith(f"{name}: right"), (mistake, verdict)
    named = [m for m, verdict in verdicts.items() if m in verdict]
    assert len(named) >= min(1, len(exercise.wrong)), verdicts


@notebooks
def test_templates_are_not_filled_in(source):
    """Each template raises NotImplementedError, and `check` says so; nobody committed an answer."""
    exercises, empty = helper("exercises"), 0
    for cell in code_cells(committed(source)):
        if "FILL ME IN" in cell.source:
            (template,) = (n for n in ast.parse(cell.source).body if isinstance(n, ast.FunctionDef))
            assert ast.unparse(template.body[-1]) == "raise NotImplementedError"
            scope = {}
            exec(cell.source, scope)
            verdict = exercises.verdict(template.name, scope[template.name])
            assert "not filled in yet" in verdict
            empty += 1
    assert empty >= 2


WRONG = {  # solution, what is put in place of what, and what the check then has to say
    "x first": ("gather_and_sum", "sampling_points(offset,",
                "sampling_points(offset.reshape(9, 2, *offset.shape[2:])[:, ::-1]"
                ".reshape(offset.shape),", "the x-first channel order"),
    "split": ("gather_and_sum", "sampling_points(offset,",
              "sampling_points(offset.reshape(2, 9, *offset.shape[2:]).swapaxes(0, 1)"
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
    "corner": ("grid", "(i - k // 2)", "i", "a grid that starts at its corner"),
    "left": ("slope_y", "(above >= -1) & (above < 0)) - 1.0 * ((above >= 0) & (above < 1)",
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
    "their order": ("first_kernel", 'to_layout(offset, "chainer", 3)', "offset",
                    "the split layout, x first"),
    "half undone": ("second_kernel", "-offset", "offset", "the opposite sign of the offset"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_spoilt_solution_is_diagnosed(case):
    name, right, wrong, words = WRONG[case]
    solution = helper("solutions").solution(name)
    source = inspect.getsource(solution)
    assert source.count(right) == 1
    scope = copy.copy(solution.__globals__)
    exec(source.replace(right, wrong), scope)
    assert words in helper("exercises").verdict(name, scope[name])


def test_check_is_kind(capsys):
    exercises = helper("exercises")

    def raises(k, d):
        raise ValueError("no")

    assert exercises.verdict("grid", lambda k, d: NotImplemented).endswith("hint('grid')")
    assert "raised ValueError: no" in exercises.verdict("grid", raises)
    assert "has shape (2,), expected" in exercises.verdict("grid", lambda k, d: np.zeros(2))
    assert "differs most" in exercises.verdict("bilinear", lambda x, p: np.ones((2, 12)))
    exercises.check("grid", raises)
    first = exercises.EXERCISES["grid"].hints[0]
    exercises.hint("grid")
    assert first in capsys.readouterr().out
