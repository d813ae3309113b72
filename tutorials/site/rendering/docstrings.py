"""For Sphinx: docstrings, which are plain text, as reStructuredText.

Indented blocks stay as they are, "name   what it is" becomes a row of a table, `name` a link where
the site has that name, and (1) to (7') links to the equations.
"""

import re
from itertools import groupby
from operator import itemgetter

from rendering import api

ROW = re.compile(r"(?! )([\w.,*/()' \-]+?) {2,}(\S.*)$")
EQUATION = re.compile(r"(?<![\w)\]])\(([1-7]'?)\)")
STRONG = r"(?<![\w*])(\*\*[^\s*][^*]*\*\*|\*\w+\*)(?!\w)"
TOKEN = re.compile(rf"`([^`]+)`|{STRONG}|{EQUATION.pattern}")


def converted(text, link):
    """The docstring as lines; `link(name)` is the full name of what `name` is, or None."""
    out = []
    for block in re.split(r"\n\s*\n", text.strip("\n")):
        out += [*_block(block.splitlines(), link), ""]
    return out


def _block(lines, link):
    """Lines without an empty one among them: as they are, a list, or text and rows in turn."""
    indent = min(len(line) - len(line.lstrip()) for line in lines)
    inner = [line[indent:] for line in lines]
    if any(_columns(line) > 2 for line in lines) or (indent and not _all_rows(inner)):
        return ["::", "", *("    " + line for line in inner)]
    if re.match(r"[*-] ", inner[0]):
        return [_inline(line, link, bullets=True) for line in inner]
    out = []
    for is_row, run in groupby(_marked(inner), key=itemgetter(0)):
        text = [line for _, line in run]
        out += _table(text, link) if is_row else [_inline(" ".join(text), link)]
        out.append("")
    return out


def _columns(line):
    return len(re.split(r" {2,}", line.strip()))


def _is_row(line):
    row = ROW.match(line)
    return bool(row) and row[2][0] not in "=+"


def _marked(lines):
    """(whether it belongs to a table, the line) of each; what is indented belongs to the row."""
    in_table = False
    for line in lines:
        in_table = _is_row(line) or (in_table and line.startswith(" "))
        yield in_table, line


def _all_rows(lines):
    return all(is_row for is_row, _ in _marked(lines))


def _table(lines, link):
    rows = []
    for line in lines:
        if line.startswith(" "):
            rows[-1][1] += " " + line.strip()
        else:
            rows.append(list(ROW.match(line).groups()))
    out = [".. list-table::", "   :class: arguments", "   :widths: auto", ""]
    for name, text in rows:
        out += [f"   * - ``{name}``", f"     - {_inline(text, link)}"]
    return out


def _inline(text, link, bullets=False):
    out, at = "", 0
    if bullets:
        at = len(text) - len(text.lstrip(" *-"))
        out = text[:at]
    for token in TOKEN.finditer(text, at):
        out += _escaped(text[at : token.start()]) + _token(token, link)
        at = token.end()
    return out + _escaped(text[at:])


def _token(token, link):
    code, strong, number = token.groups()
    if strong:
        return strong
    if number:
        return rf"\ :ref:`({number}) <eq-{number.replace(chr(39), 'p')}>`\ "
    full = link(code.removesuffix("()").removesuffix(".py"))
    return rf"\ :py:obj:`{code} <{full}>`\ " if full else rf"\ ``{code}``\ "


def _escaped(text):
    return re.sub(r"([\\*|_])", r"\\\1", text)


def process(app, what, name, obj, options, lines):
    made = f"{getattr(obj, '__name__', '')}("
    if lines and what == "class" and lines[0].startswith(made):
        lines.clear()  # what @dataclass writes where there is no docstring
    text = "\n".join(lines)
    if text.strip():
        lines[:] = converted(text, lambda word: api.full_name(word, name))


def skip(app, what, name, obj, skipped, options):
    """Whether a member is left out: fields of a NamedTuple, which its signature has."""
    return skipped or (getattr(obj, "__doc__", None) or "").startswith("Alias for field number")


def setup(app):
    app.connect("autodoc-process-docstring", process)
    app.connect("autodoc-skip-member", skip)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
