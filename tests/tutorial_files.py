"""The notebooks, their cells and their modules, for the tests of tutorials/."""

import ast
import copy
import importlib
import inspect
import sys
import textwrap
import zlib
from pathlib import Path

import numpy as np
import pytest

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbclient")
pytest.importorskip("jupytext")
pytest.importorskip("matplotlib")

TUTORIALS = Path(__file__).resolve().parents[1] / "tutorials"
SOURCES = sorted((TUTORIALS / "src").glob("*.py"))
LESSONS = [s for s in SOURCES if s.stem[:2].isdigit() and s.stem[:2] != "00"]  # not the index
# What the Jupyter machinery says about itself, in the process of the test.
quiet = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


def each(sources):
    return pytest.mark.parametrize("source", sources, ids=[s.stem for s in sources])


def helper(name):
    """A module of tutorials/, imported by the name that the notebooks import it by."""
    if str(TUTORIALS) not in sys.path:
        sys.path.insert(0, str(TUTORIALS))
    return importlib.import_module(name)


def committed(source):
    return nbformat.read(TUTORIALS / f"{source.stem}.ipynb", as_version=4)


def code_cells(notebook):
    return [c for c in notebook.cells if c.cell_type == "code"]


def prose(notebook):
    return "\n\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")


def tagged(notebook, tag):
    return [c for c in code_cells(notebook) if tag in c.metadata.get("tags", ())]


def code_lines(source):
    """The lines of a cell that are not empty and not part of an import."""
    imports = [n for n in ast.parse(source).body if isinstance(n, ast.Import | ast.ImportFrom)]
    imported = {i for n in imports for i in range(n.lineno, n.end_lineno + 1)}
    lines = enumerate(source.splitlines(), start=1)
    return [text for i, text in lines if text.strip() and i not in imported]


def printed(cell):
    """What an executed cell says, without its pictures."""
    return "".join(o.get("text", "") for o in cell.outputs if o.output_type == "stream")


def functions(source):
    """The functions of a cell, by name."""
    return {n.name: n for n in ast.parse(source).body if isinstance(n, ast.FunctionDef)}


def checked(cell):
    """The exercise and the names in the answer of every `exercises.check(...)` of a cell."""
    calls = [n for n in ast.walk(ast.parse(cell.source)) if isinstance(n, ast.Call)]
    checks = [n for n in calls if ast.unparse(n.func) == "exercises.check"]
    return [(n.args[0].value, {m.id for m in ast.walk(n.args[1]) if isinstance(m, ast.Name)})
            for n in checks]  # fmt: skip


def answers(notebook):
    """The exercise of each function that the notebook gives to `exercises.check`, by its name."""
    defined = {name for c in code_cells(notebook) for name in functions(c.source)}
    pairs = [pair for c in code_cells(notebook) for pair in checked(c)]
    return {name: exercise for exercise, names in pairs for name in names & defined}


def body(source, function):
    return source.splitlines()[function.body[0].lineno - 1 : function.end_lineno]


def filled(source, exercises):
    """A cell whose functions have the bodies of the solutions to their `exercises`."""
    lines = source.splitlines()
    for name, function in reversed(functions(source).items()):
        if name in exercises:
            solution = inspect.unwrap(helper("solutions").solution(exercises[name]))
            text = textwrap.dedent(inspect.getsource(solution))
            right = body(text, functions(text)[exercises[name]])
            lines[function.body[0].lineno - 1 : function.end_lineno] = right
    return "\n".join(lines)


def fill_in(notebook):
    """Put the solutions into a notebook; returns the exercise of each function, by its name."""
    exercises = answers(notebook)
    for cell in code_cells(notebook):
        cell.source = filled(cell.source, exercises)
    return exercises


def spoilt(name, right, wrong):
    """The solution of an exercise with one text in place of another, which is there once."""
    solution = helper("solutions").solution(name)
    source = inspect.getsource(solution)
    assert source.count(right) == 1
    scope = copy.copy(solution.__globals__)
    exec(source.replace(right, wrong), scope)
    return scope[name]


def hidden_problems(name):
    """Those on which the answer to an exercise is judged."""
    exercise = helper("exercises").EXERCISES[name]
    seeds = (zlib.crc32(f"{name} {i}".encode()) for i in range(exercise.problems))
    return [exercise.problem(np.random.default_rng(seed)) for seed in seeds]
