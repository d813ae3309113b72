"""Links to lines: [`name`](../reference/file.py#L12) is where `name` is defined, or `file.name`.

The numbers are written by `python -m ledger`; a test holds them.
"""

import ast
import re
from pathlib import Path

from ledger.rows import TUTORIALS

PAGE = TUTORIALS / "APPENDIX_A.md"
LINK = re.compile(r"\[`([\w.]+)`\]\(([\w./]+\.py)(?:#L(\d+))?\)")


def places(path: Path) -> dict[str, int]:
    """The lines of a file's functions and classes, and of methods as "Class.method"."""
    found = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = node.lineno
        if isinstance(node, ast.ClassDef):
            inner = [n for n in node.body if isinstance(n, ast.FunctionDef)]
            found |= {f"{node.name}.{n.name}": n.lineno for n in inner}
    return found


def linked(text: str, folder: Path = TUTORIALS) -> str:
    """A page with the right line in each link. LookupError for a name that is nowhere."""

    def to(match: re.Match[str]) -> str:
        name, file, _ = match.groups()
        path = folder / file
        at = places(path) if path.exists() else {}
        inside = name.removeprefix(f"{path.stem}.")
        if inside not in at:
            raise LookupError(f"{file} has no {inside}")
        return f"[`{name}`]({file}#L{at[inside]})"

    return LINK.sub(to, text)


def write() -> None:
    """The page with its links."""
    PAGE.write_text(linked(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
