"""Pages of files: a section for each function and class, and an anchor for each line."""

import ast
import posixpath
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

LANGUAGES = {
    ".py": "python", ".cu": "cuda", ".cuh": "cuda", ".json": "json", ".toml": "toml", ".c": "c",
    ".cff": "yaml", ".sh": "bash",
}  # fmt: skip
CUDA_BEGINS = re.compile(r"^(?:extern|__device__|struct|typedef)\b")


class Part(NamedTuple):
    """Lines `first` to `last` of a file, from 1 on; those of a function or class have its name."""

    name: str | None
    first: int
    last: int


def parts(path):
    """A file in its parts, which together are the whole file."""
    path = Path(path)
    text = path.read_text()
    lines = text.splitlines()
    if path.suffix == ".py":
        begins = [(line, name) for line, name in _python(text)]
    elif path.suffix in (".cu", ".cuh"):
        starts = [i for i, line in enumerate(lines) if CUDA_BEGINS.match(line)]
        begins = [(i + 1, _cuda_name(" ".join(lines[i : i + 2]))) for i in starts]
    else:
        begins = []
    begins = [(_with_comment(lines, line), name) for line, name in begins]
    if not begins or begins[0][0] > 1:
        begins.insert(0, (1, None))
    ends = [line - 1 for line, _ in begins[1:]] + [len(lines)]
    return [Part(name, line, end) for (line, name), end in zip(begins, ends, strict=True)]


@cache
def names(path):
    """The functions and classes of a file."""
    return {part.name for part in parts(path) if part.name}


def _python(text):
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield min(n.lineno for n in (node, *node.decorator_list)), node.name


def _cuda_name(text):
    """The word before the first bracket, or the last one: of a function, struct or typedef."""
    text = re.sub(r"__launch_bounds__\([^)]*\)", "", text)
    head = re.split(r";" if text.startswith("typedef") else r"[({;]", text)[0]
    return re.findall(r"\w+", head)[-1]


def _with_comment(lines, line):
    """The first line of the comment directly above a line, or of its template."""
    while line > 1 and re.match(r"#|//|template", lines[line - 2]):
        line -= 1
    return line


def docname(file):
    """The page of a file, which is given from the root."""
    return f"sources/{file}"


def anchor(path, name):
    """The anchor of a function on the page of its file: in lower case, so G follows g as g-1."""
    named = [part.name for part in parts(path) if part.name]
    before = [n for n in named[: named.index(name)] if n.lower() == name.lower()]
    return name.lower() + (f"-{len(before)}" if before else "")


def page(root, file, notes):
    """The page of a file as Markdown; `notes(name)` is what to say above a function, or ""."""
    path = root / file
    folder = posixpath.dirname(file)
    above = f"[{folder or 'Sources'}](index.md)"
    out = ["---\norphan: true\n---", f"# `{file}`", f"Of {above}. Each line has an address."]
    for part in parts(path):
        if part.name:
            out += [f"## `{part.name}`", notes(part.name)]
        language = LANGUAGES.get(path.suffix, "text")
        options = f":lines: {part.first}-{part.last}\n:language: {language}"
        out += [f"```{{listing}} {file}\n{options}\n```"]
    return "\n\n".join(filter(None, out)) + "\n"
