"""A report as one HTML page, which needs no other file and no network."""

import re
from collections.abc import Iterable, Sequence
from html import escape

import numpy as np

from . import pictures
from .law import LAWS
from .page_style import SCRIPT, STYLE
from .probes import Heat, Seen
from .report import Failure, Report
from .summary import summary

ALONE = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
DOT = '<circle cx="0" cy="0" r="8" class="expected"/>'
MARKS = {  # of the legend
    "expected": DOT,
    "offset": '<circle cx="-12" cy="0" r="3.5" class="grid"/><line x1="-12" y1="0" x2="8" y2="0"'
    ' class="offset"/><polygon points="13,0 5,4 5,-4" class="offset head"/>',
    "right": DOT + '<circle cx="0" cy="0" r="11" class="ring"/>',
    "astray": '<path d="M0 -11l11 11l-11 11l-11 -11z" class="found"/>',
    "tint": '<rect x="-11" y="-11" width="22" height="22" class="found" fill-opacity=".4"/>',
    "middle": '<path d="M0 -11l11 11l-11 11l-11 -11z" class="expected"/>',
    "nothing": '<path d="M-10 -10l20 20m0 -20l-20 20" class="nothing"/>',
    "centre": '<rect x="-10" y="-10" width="20" height="20" class="centre"/>',
    "roi": '<rect x="-13" y="-10" width="26" height="20" class="roi"/>',
    "bin": '<rect x="-10" y="-8" width="20" height="16" class="bin"/>',
    "slope-expected": '<line x1="-13" y1="0" x2="6" y2="0" class="slope-expected"/>'
    '<polygon points="13,0 4,5 4,-5" class="slope-expected head"/>',
    "slope-found": '<line x1="-13" y1="0" x2="6" y2="0" class="slope-found"/>'
    '<polygon points="13,0 4,5 4,-5" class="slope-found head"/>',
}
NO_PICTURE = {
    "value": "nothing was found that could be drawn",
    "raised": "the call raised",
    "hung": "the call did not return",
    "died": "the call ended its process",
}


def page(report: Report) -> str:
    """The page, as text."""
    causes = report.causes()
    each = "".join(_cause(n, len(causes), failures) for n, failures in enumerate(causes, 1))
    body = _head(report) + each + _kept(report) + _not_checked(report)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{ALONE}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(report.headline())}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}</main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def _head(report: Report) -> str:
    _, _, verdict = report.headline().rpartition(": ")
    given = "forward and backward" if report.gradients else "forward alone"
    facts = {
        "verified": f"{given}; {', '.join(report.dtypes)}; {', '.join(report.rules)}",
        "lacks": ", ".join(report.lacks),
        "versions": ", ".join(f"{name} {version}" for name, version in report.versions.items()),
        "examples": f"{report.examples} of each law, seed {report.seed}, {report.seconds:g} s",
    }
    rows = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(words)}</dd>" for name, words in facts.items() if words
    )
    return (
        f"<header>\n<h1><code>{escape(report.operator)}</code> <span>of</span>"
        f" <code>{escape(report.name)}</code></h1>\n"
        f'<p class="verdict{" ok" * report.ok}">{escape(verdict)}</p>\n'
        f'<dl class="facts">{rows}</dl>\n</header>\n'
    )


def _cause(n: int, of: int, failures: list[Failure]) -> str:
    """A diagnosis: its first failure in full, the others by name."""
    first, *others = failures
    many = len({failure.law for failure in failures})
    laws = f"{many} law{'s' * (many > 1)} broken"
    names = ", ".join(f"<code>{escape(o.law)}</code> ({escape(o.dtype)})" for o in others)
    also = f'<p class="message">With the same diagnosis: {names}</p>\n' if others else ""
    return (
        f'<section class="cause">\n<p class="count">Cause {n} of {of}, {laws}</p>\n'
        + _diagnosis(first.diagnosis) +
        f'<p class="law"><code>{escape(first.law)}</code> ({escape(first.dtype)}):'
        f" {escape(first.says)}</p>\n"
        + _found(first) + _picture(first)
        + "<h3>Try it again</h3>\n" + _code(first.example) + also + "</section>\n"
    )  # fmt: skip


def _diagnosis(words: str) -> str:
    """A heading; where several gradients are wrong, a line for each."""
    several = re.split(r"(?<=;) (?=grads\.\w+ )", words)
    if len(several) == 1:
        return f'<h2 class="diagnosis">{escape(words)}</h2>\n'
    lines = " ".join(f"<span>{escape(each)}</span>" for each in several)
    return f'<h2 class="diagnosis several">{lines}</h2>\n'


def _found(failure: Failure) -> str:
    """The index, both values and what was allowed; or what a call said instead."""
    said, difference = escape(failure.message), failure.difference
    if difference is None:
        return f'<p class="message alone">{said}</p>\n'
    where = f"{difference.what}{list(difference.at)}"
    rows = [("at", where, ""), ("found", difference.actual, "was")]
    rows += [(name, value, "is") for name, value in difference.allowed.items()]
    rows += [("elements that differ", f"{difference.wrong} of {difference.of}", "")]
    values = "".join(
        f'<div><dt>{escape(name)}</dt><dd class="{kind}">{escape(str(value))}</dd></div>'
        for name, value, kind in rows
    )
    return f'<dl class="values">{values}</dl>\n'


def _code(code: str) -> str:
    return (
        f'<div class="code"><pre>{escape(code)}</pre>'
        '<button type="button" class="copy" hidden>copy</button></div>\n'
    )


def _picture(failure: Failure) -> str:
    seen: Seen | None = failure.picture
    if seen is None:
        why = NO_PICTURE.get(failure.kind, "the call gave no result to compare")
        return f'<p class="message">No picture: {why}.</p>\n'
    index = f"{seen.what}[{', '.join(map(str, seen.at))}]"
    values = f"found {pictures.number(seen.found)}, expected {pictures.number(seen.expected)}"
    about = f"{index}: {values}"
    if seen.code:
        about += ", on a larger problem that shows more than the smallest one"
    parts = [f'<div class="picture">\n<p class="summary">{escape(summary(seen))}</p>\n'
             f'<p class="about">{escape(about)}.</p>\n']  # fmt: skip
    if seen.site is not None and len(seen.site.points):
        legend = "".join(
            f'<li><svg viewBox="-15 -13 30 26" aria-hidden="true">{MARKS[mark]}</svg>'
            f"{escape(words)}</li>"
            for mark, words in _legend(seen)
        )
        parts.append(
            f'<div class="panels points"><div>{pictures.points(seen)}</div>'
            f'<div><ul class="legend">{legend}</ul>{_points(seen)}</div></div>\n'
        )
    parts += [_heat(heat) for heat in seen.heats]
    if seen.code:
        imports = f"from deformable_convnets.reference.oracle import {_modules(seen.code)}\n"
        code = _code(f"{imports}{seen.code}")
        parts.append(f"<details><summary>The problem of the picture</summary>{code}</details>\n")
    return "".join(parts) + "</div>\n"


def _modules(code: str) -> str:
    return "roi_problems" if "roi_problems" in code else "problems, shapes"


def _heat(heat: Heat) -> str:
    panels = "".join(
        f'<div><h4 class="{name}">{name.capitalize()}</h4>{svg}</div>'
        for name, svg in pictures.heats(heat)
    )
    return (
        f'<div class="heats"><p class="about">{escape(heat.says)}</p>'
        f'<div class="panels">{panels}</div></div>\n'
    )


def _legend(seen: Seen) -> Iterable[tuple[str, str]]:
    """The marks that are in the picture, each with its meaning."""
    site = seen.site
    assert site is not None
    numbered = " (number: tap, row by row)" if site.kernel and len(site.points) > 1 else ""
    belongs = (
        "a sample that reads the pixel" if seen.what == "grads.x" else "where a sample belongs"
    )
    yield "expected", f"{belongs}{numbered}"
    if site.grid is not None:
        moved = "the regular grid p0 + p_n, moved by its offset"
        yield "offset", "the bin's points, moved by its offset" if site.boxes else moved
    if site.pixel is not None:
        yield "centre", "the pixel of the gradient" if seen.what == "grads.x" else "p0"
    for mark in ("roi", "bin")[: len(site.boxes)]:
        yield mark, {"roi": "the RoI", "bin": "the bin before it is moved"}[mark]
    if seen.middle is not None:
        yield "tint", "the pixels that the implementation reads"
        yield "middle", "the centre of the pixels that belong to the bin"
        yield "astray", "the centre of those that it reads"
    if seen.slopes is not None:
        yield "slope-expected", f"{seen.what} of the point (dy, dx), expected"
        yield "slope-found", f"{seen.what} of the point (dy, dx), found"
    if site.marked is not None:
        yield "right", "the tap of the gradient"
    if seen.went is None:
        return
    nowhere = np.isnan(seen.went).any(axis=1) & np.isfinite(site.points).all(axis=1)
    astray = [pictures.moved(p, q) for p, q in zip(site.points, seen.went, strict=True)]
    if not all(astray):
        yield "right", "the implementation reads there"
    if (astray & ~nowhere).any():
        yield "astray", "where the implementation reads instead"
    if nowhere.any():
        yield "nothing", "the implementation reads nothing for it"


def _points(seen: Seen) -> str:
    """The taps in numbers, for who wants them."""
    site = seen.site
    assert site is not None
    if site.grid is None or not site.kernel or len(site.points) > pictures.MANY:
        return ""
    names = ["tap", "p0 + p_n", "belongs at", *(["reads at"] if seen.went is not None else [])]
    rows = []
    for k, (start, p) in enumerate(zip(site.grid, site.points, strict=True)):
        row = [str(k), pictures.place(start), pictures.place(p)]
        if seen.went is not None:
            q = seen.went[k]
            row.append("nothing" if np.isnan(q).any() else pictures.place(q))
        rows.append(row)
    table = _table("", names, rows)
    return f"<details><summary>In numbers, (y, x)</summary>{table}</details>"


def _kept(report: Report) -> str:
    if not report.kept:
        return ""
    rows = [[k.law, _says(k.law), k.dtype, str(k.examples)] for k in report.kept]
    return f"<h2>Laws kept</h2>\n{_table('laws', ['law', '', 'dtype', 'examples'], rows)}"


def _not_checked(report: Report) -> str:
    if not report.not_checked:
        return ""
    rows = [[n.law, _says(n.law), n.dtype, n.reason] for n in report.not_checked]
    return f"<h2>Not checked</h2>\n{_table('laws', ['law', '', 'dtype', 'because it'], rows)}"


def _says(name: str) -> str:
    return LAWS[name].says if name in LAWS else ""


def _table(kind: str, names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def row(cells: Sequence[str], tag: str) -> str:
        return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"

    body = "\n".join(row(cells, "td") for cells in rows)
    return (
        f'<div class="wide"><table class="{kind}"><thead>{row(names, "th")}</thead>'
        f"<tbody>\n{body}\n</tbody></table></div>\n"
    )
