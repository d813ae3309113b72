"""The notebooks: equal to their sources, in one frame, and right to the end when filled in."""

import ast
import base64
import inspect
import re
import statistics

import pytest
from nbformat import v4
from tutorial_files import (
    LESSONS,
    SOURCES,
    TUTORIALS,
    answers,
    checked,
    code_cells,
    code_lines,
    committed,
    each,
    fill_in,
    functions,
    helper,
    printed,
    prose,
    quiet,
    tagged,
)

nbclient = pytest.importorskip("nbclient")


def test_every_source_has_a_notebook_and_a_link():
    assert {p.stem for p in TUTORIALS.glob("*.ipynb")} == {s.stem for s in SOURCES}
    links = re.findall(r"\((\d\d_\w+)\.ipynb\)", (TUTORIALS / "README.md").read_text())
    assert sorted(set(links)) == [s.stem for s in LESSONS]


@each(SOURCES)
def test_the_notebook_is_its_source(source):
    from_source, written = helper("build").read(source), committed(source)
    pairs = zip(from_source.cells, written.cells, strict=True)
    for ours, theirs in pairs:
        assert (ours.cell_type, ours.source) == (theirs.cell_type, theirs.source)
        assert ours.metadata.get("tags", []) == theirs.metadata.get("tags", [])


@quiet
@each(LESSONS)
def test_the_notebook_runs_and_every_solution_fits_its_blank(source):
    """As a learner leaves it who fills every blank with what the notebook has at that place."""
    build = helper("build")
    notebook = build.read(source)
    exercises = fill_in(notebook)
    build.execute(notebook, skip=("timing",))
    assert all(c.execution_count for c in tagged(notebook, "check"))
    for cell in code_cells(notebook):
        assert all(o.get("name") != "stderr" for o in cell.outputs), cell.outputs
        for exercise, _ in checked(cell):
            assert f"{exercise}: right, on" in printed(cell), printed(cell)
    assert len(set(exercises.values())) >= 2


@quiet
def test_a_blank_that_its_notebook_cannot_fill_is_noticed():
    """The solution of `grid` needs NumPy, which this notebook does not import."""
    template = "def grid(k, d):\n    # FILL ME IN\n    raise NotImplementedError"
    sources = "import exercises", template, "exercises.check('grid', grid)"
    notebook = v4.new_notebook(cells=[v4.new_code_cell(s) for s in sources])
    assert fill_in(notebook) == {"grid": "grid"}
    helper("build").execute(notebook)
    assert "raised NameError: name 'np' is not defined" in printed(notebook.cells[2])


@quiet
@each(LESSONS)
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


@each(LESSONS)
def test_templates_are_not_filled_in(source):
    """Each template raises NotImplementedError, and `check` says so; nobody committed an answer."""
    notebook, empty = committed(source), 0
    exercises = answers(notebook)
    for cell in code_cells(notebook):
        for exercise, _ in checked(cell):
            assert f"{exercise}: not" in printed(cell), printed(cell)
        if "FILL ME IN" in cell.source:
            (template,) = functions(cell.source).values()
            assert ast.unparse(template.body[-1]) == "raise NotImplementedError"
            exec(cell.source, {})
            solution = helper("solutions").solution(exercises[template.name])
            takes = inspect.signature(solution).parameters.values()
            wanted = [p.name for p in takes if p.default is p.empty]
            assert [a.arg for a in template.args.args] == wanted
            empty += 1
    assert empty >= 2


FRAME = {  # what has to be there, in this order
    "the question": r"\A# \d+\. .+[\s\S]*?^The question: \*[^*]+\?\*",
    "an equation, quoted": r"^> .*\\tag\{[^}]+\}",
    "by hand": r"^## .*\b[Bb]y hand\b",
    "exercises": r"^## Exercise 1: ",
    "what you now know": r"^## What you now know$",
    "next": r"^\*\*Next:\*\* ",
}


def out_of_frame(text):
    """The first part of the frame that is not in its place, or None."""
    at = 0
    for part, pattern in FRAME.items():
        found = re.compile(pattern, re.MULTILINE).search(text, at)
        if not found:
            return part
        at = found.end()
    return None


@each(LESSONS)
def test_the_frame(source):
    notebook = committed(source)
    text = prose(notebook)
    assert out_of_frame(text) is None
    numbers = [int(n) for n in re.findall(r"^## Exercise (\d+): ", text, re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert 2 <= len(numbers) <= 4
    learnt = text.split("## What you now know")[1]
    assert 3 <= len(re.findall(r"^\* ", learnt, re.MULTILINE)) <= 5
    first_screen = [o for c in code_cells(notebook)[:4] for o in c.outputs]
    assert any("image/png" in o.get("data", {}) for o in first_screen)
    for following in LESSONS[LESSONS.index(source) + 1 :][:1]:
        assert f"({following.stem}.ipynb)" in learnt.split("**Next:**")[1]


@pytest.mark.parametrize("part", FRAME)
def test_a_part_that_is_missing_is_noticed(part):
    text = prose(committed(LESSONS[0]))
    spoilt = re.sub(FRAME[part], "", text, flags=re.MULTILINE)
    assert out_of_frame(text) is None
    assert out_of_frame(spoilt) == part


VERBATIM = {  # the sentences of the paper that may be quoted; all else is said in our words
    "we define a metric called *effective dilation* for a deformable convolution filter. It is the"
    " mean of the distances between all adjacent pairs of sampling locations in the filter. It is a"
    " rough measure of the receptive field size of the filter.",
    "fixed receptive field in standard convolution (a) and the adaptive receptive field in"
    " deformable convolution (b), using two layers. Top: two activation units on the top feature"
    " map, on two objects of different scales and shapes.",
}


def quotations(text):
    """What stands between quotation marks in the block quotes."""
    blocks = re.findall(r"(?:^>.*\n?)+", text, re.MULTILINE)
    joined = [" ".join(line[1:].strip() for line in b.splitlines()) for b in blocks]
    return [quotation for b in joined for quotation in re.findall(r'"([^"]+)"', b)]


@each(LESSONS)
def test_quotations_are_the_paper_s(source):
    for quotation in quotations(prose(helper("build").read(source))):
        assert any(quotation in sentence for sentence in VERBATIM), quotation


def test_a_quotation_is_found():
    assert quotations('a\n> one "two\n> three" four\n\n"five"') == ["two three"]


@each(LESSONS)
def test_cells_are_short_and_claims_are_asserted(source):
    notebook = committed(source)
    lengths = {c.id: len(code_lines(c.source)) for c in code_cells(notebook)}
    assert {name: n for name, n in lengths.items() if n > 10} == {}
    assert statistics.median(lengths.values()) <= 5
    checks = tagged(notebook, "check")
    assert len(checks) >= 5
    for cell in checks:
        assert any(isinstance(n, ast.Assert) for n in ast.walk(ast.parse(cell.source))), cell.source
    for cell in code_cells(notebook):
        has = any(isinstance(n, ast.Assert) for n in ast.walk(ast.parse(cell.source)))
        assert has == (cell in checks), cell.source


@each(SOURCES)
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
            assert not re.search(r"(?:/[\w.-]+){3}|[A-Z]:\\|at 0x[0-9a-f]{6}", text), text
            assert not re.search(r"<matplotlib|Text\(", text), text
    assert pictures >= (3 if source in LESSONS else 0)
    assert (TUTORIALS / f"{source.stem}.ipynb").stat().st_size < 450_000


def test_the_figure_of_the_readme():
    data = (TUTORIALS / "figures" / "deformed_grid.png").read_bytes()
    width = int.from_bytes(data[16:20], "big")
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert 600 <= width <= 900
    assert len(data) <= 150_000
