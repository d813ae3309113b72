"""What the ledger points at: names of the code, tests, laws and headings of notebooks."""

import ast
import inspect
import json
import pkgutil
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from deformable_convnets.reference.oracle import LAWS
from ledger.rows import ROOT, TUTORIALS

PACKAGE = "deformable_convnets."


def code(name: str) -> Path:
    """The file that defines a name, below `deformable_convnets` or in `tutorials`.

    LookupError, ImportError or AttributeError where there is no such name.
    """
    full = name if name.startswith(("experiments.", "learning.")) else PACKAGE + name
    found = pkgutil.resolve_name(full)
    path = _module_path(_home(found, full))
    if not path.exists():
        raise LookupError(f"{name}: {path} is not there")
    return path


def _home(found: Any, full: str) -> str:
    """The module that a thing is defined in; of a constant, the one that it is read from."""
    if isinstance(found, ModuleType):
        return found.__name__
    if inspect.isfunction(found) or inspect.isclass(found):
        return inspect.unwrap(found).__module__
    while full not in sys.modules:
        full = full.rpartition(".")[0]
    return full


def _module_path(module: str) -> Path:
    below = TUTORIALS if not module.startswith(PACKAGE) else ROOT
    place = below.joinpath(*module.removeprefix(PACKAGE).split("."))
    file = place.with_suffix(".py")
    return file if file.exists() else place / "__init__.py"


def test(name: str) -> Path:
    """The file of a test, "test_file.py::test_name", or of a law, "law name_of_it"."""
    if name.startswith("law "):
        return law(name.removeprefix("law "))
    file, _, function = name.partition("::")
    path = ROOT / "tests" / file
    if not path.exists() or function not in functions_in(path):
        raise LookupError(f"there is no test {name}")
    return path


def law(name: str) -> Path:
    """The file of a law. Those of maps are laws of volumes too, by the name "volume_..."."""
    oracle = ROOT / "reference" / "oracle"
    of_maps = name.removeprefix("volume_")
    if name not in LAWS:
        raise LookupError(f"the oracle has no law {name}")
    for path in sorted(oracle.glob("*laws*.py")):
        if of_maps in laws_in(path):
            return path if name == of_maps else oracle / "laws_of_volumes.py"
    raise LookupError(f"the oracle has no law {name}")


@cache
def functions_in(path: Path) -> set[str]:
    """The functions at the top of a file."""
    return {n.name for n in ast.parse(path.read_text()).body if isinstance(n, ast.FunctionDef)}


@cache
def laws_in(path: Path) -> set[str]:
    """The functions that a decorator makes laws."""
    nodes = [n for n in ast.parse(path.read_text()).body if isinstance(n, ast.FunctionDef)]
    return {n.name for n in nodes for d in n.decorator_list if ast.unparse(d).startswith("law(")}


def notebook(name: str) -> Path:
    """The file of a heading, "4: The kink at the start"."""
    place, _, heading = name.partition(": ")
    paths = sorted(TUTORIALS.glob(f"{int(place):02}_*.ipynb"))
    if len(paths) != 1 or heading not in headings(paths[0]):
        raise LookupError(f"there is no heading {heading!r} in notebook {place}")
    return paths[0]


@cache
def headings(path: Path) -> set[str]:
    """The headings of a notebook."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    lines = ["".join(c["source"]) for c in cells if c["cell_type"] == "markdown"]
    return {
        line.lstrip("#").strip()
        for text in lines
        for line in text.splitlines()
        if line.startswith("#")
    }
