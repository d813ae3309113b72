"""equations.toml: where each equation is in code, tests and notebooks, and what of it is wrong."""

import json
import re
import tomllib
from functools import cache
from pathlib import Path

from rendering import sources

HERE = Path(__file__).resolve().parents[1]
ROOT = HERE.parents[1]
NUMBERS = ["1", "2", "3", "4", "5", "6", "7", "7'"]
FOLDERS = {"numba": "gpu/numba_kernels", "cuda": "gpu/cupy_kernels", "tests": "tests"}
LAWS = "reference/oracle"


def read(path=HERE / "equations.toml"):
    """The equations, in order; each a dictionary."""
    return tomllib.loads(path.read_text())["equation"]


def label(number):
    """The name of the section of an equation on its page."""
    return "eq-" + number.replace("'", "p")


def slug(heading):
    """The anchor that a heading of Markdown gets."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def functions(equation, kind):
    """(file, function) of each kernel or test in the column `kind`; the file from the root."""
    for entry in equation[kind]:
        file, names = entry.split(": ")
        for name in names.split(", "):
            yield f"{FOLDERS[kind]}/{file}", name


def notebooks(equation):
    """(name of the notebook, heading) of each section that is about an equation."""
    return [tuple(entry.split(": ", 1)) for entry in equation["notebooks"]]


@cache
def headings(notebook, root=ROOT):
    """The headings of a notebook, by its name, without their marks."""
    cells = json.loads((root / "tutorials" / f"{notebook}.ipynb").read_text())["cells"]
    text = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    return re.findall(r"^#+ +(.*?)\s*$", text, re.MULTILINE)


def law_files(root=ROOT):
    """The file of each function in the files of laws."""
    files = sorted((root / LAWS).glob("*laws*.py"))
    return {
        name: file.relative_to(root).as_posix() for file in files for name in sources.names(file)
    }


def complaints(equations, reference, gpu, laws):
    """What the table names and is not there, given two packages and the names of the laws."""
    if (numbers := [e["number"] for e in equations]) != NUMBERS:
        yield f"the equations are {numbers}, expected {NUMBERS}"
    literal, written = sources.names(ROOT / "reference/equations.py"), law_files()
    for e in equations:
        known = [
            ("literal", literal), ("reference", reference.__all__), ("gpu", gpu.__all__),
            ("laws", set(laws) & set(written)),
        ]  # fmt: skip
        for kind, names in known:
            yield from (f"({e['number']}) {kind}: {n}" for n in e[kind] if n not in names)
        for kind in FOLDERS:
            for file, name in functions(e, kind):
                if not (ROOT / file).is_file() or name not in sources.names(ROOT / file):
                    yield f"({e['number']}) {kind}: {name} of {file}"
        for notebook, heading in notebooks(e):
            there = (ROOT / "tutorials" / f"{notebook}.ipynb").is_file()
            if not there or heading not in headings(notebook):
                yield f"({e['number']}) notebooks: {heading!r} of {notebook}"
