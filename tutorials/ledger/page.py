"""CLAIMS.md, from the rows and from the files that their numbers are in."""

import os
import re
from collections import Counter
from pathlib import Path

from ledger import links, numbers, verdicts
from ledger.complaints import ROW, THINGS
from ledger.rows import ON, TUTORIALS, VERDICTS, Claim, Part, claims, load

HEAD = """\
# What the paper claims, and what was seen of it

{count} rows: every equation, figure and table of *Deformable Convolutional Networks* (Dai et al.,
ICCV 2017), and every claim that we found in its text, section by section. Rows lead to the code, to
tests that fail if it is not so, and to the places in the notebooks that explain it.

**How to read a verdict.** It never says more than was seen:

{verdicts}

and the word after it says on what:

{ons}

**No network was trained at the paper's size here**, and nothing ran on a GPU: ResNet-101, ImageNet,
VOC, COCO and Cityscapes were out of reach. What is said of training is from
[small networks](experiments/README.md) on pictures that a program draws; it shows that a mechanism
works, not how much it helps on photographs. There a claim *agrees* (with the paper) or *holds* (one
that only we ask) where means and most seeds have its order, is *not clear* where means alone have
it, and *does not agree* or *does not hold* otherwise. Where a control disagrees, the row says so.

A claim is told in our words. *(c)*: what the paper says was found in a copy of it, *(m)*: noted
from memory and not verified again; all else was read in a translation of the whole text.

{summary}

{index}
"""
FOOT = """\
---

This page is made by `cd tutorials && python -m ledger` from the rows in
[`ledger/claims`](ledger/claims), the paper's numbers in [`ledger/paper.toml`](ledger/paper.toml)
and the files of results; a test holds them together. A verdict on results or on printed numbers
follows from them: a test compares. [`APPENDIX_A.md`](APPENDIX_A.md) derives every gradient.
"""
COLUMNS = "| | The paper says | Verdict | What was seen, and where |\n|---|---|---|---|"
MARK = {"copy": " *(c)*", "memory": " *(m)*"}


def page(parts: list[Part]) -> str:
    """The whole page."""
    rows = claims(parts)
    head = HEAD.format(
        count=len(rows),
        verdicts=_listed(VERDICTS),
        ons=_listed({on: says for on, says in ON.items() if on}),
        summary=_summary(rows),
        index=_index(rows),
    )  # fmt: skip
    return "\n".join([head, *map(_part, parts), FOOT])


def _listed(words: dict[str, str]) -> str:
    return "\n".join(f"* **{word}**: {says}" for word, says in words.items())


def _summary(rows: list[Claim]) -> str:
    """How many rows have each verdict, and on what."""
    found = Counter((claim.verdict, claim.on) for claim in rows)
    kinds = [on for on in ON if on]
    lines = [f"| | {' | '.join(kinds)} | together |", "|---" * (len(kinds) + 2) + "|"]
    for word in VERDICTS:
        cells = [str(found[word, on] or "") for on in kinds]
        total = sum(n for (verdict, _), n in found.items() if verdict == word)
        lines.append(f"| {word} | {' | '.join(cells)} | {total} |")
    return "\n".join(lines)


def _index(rows: list[Claim]) -> str:
    """The rows about each equation, figure and table."""
    lines = ["**Where is …**", ""]
    for thing in THINGS:
        told = (f"[{c.id}](#c{c.id}) {_verdict(c)}" for c in rows if thing in c.of)
        lines.append(f"* {thing}: {'; '.join(told)}")
    return "\n".join(lines)


def _part(part: Part) -> str:
    lines = [f"## {part.title}", "", COLUMNS]
    return "\n".join(lines + [_row(claim) for claim in part.claims]) + "\n"


def _row(claim: Claim) -> str:
    of = f" **{', '.join(claim.of)}**" if claim.of else ""
    cells = [
        f'<a id="c{claim.id}"></a>{claim.id}',
        f"{claim.says}{MARK.get(claim.known, '')}{of}",
        _verdict(claim),
        f"{seen(claim)}{_places(claim)}",
    ]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _places(claim: Claim) -> str:
    """Links to code, tests and notebooks, in small letters below."""
    code = [_link(f"`{name.removeprefix('reference.')}`", links.code(name)) for name in claim.code]
    tests = [_link(_test(name), links.test(name)) for name in claim.tests]
    books = [_heading(name) for name in claim.notebooks]
    kinds = ("Code", code), ("Tests", tests), ("Notebooks", books)
    told = (f"**{kind}** {', '.join(names)}" for kind, names in kinds if names)
    return f"<br><sub>{' · '.join(told)}</sub>" if claim.code or claim.tests or books else ""


def _test(name: str) -> str:
    if name.startswith("test_tutorials.py::test_the_notebook_runs"):
        return "checks in the notebook"
    return name.replace("::test_", ": ").removeprefix("test_").replace("_", " ").replace(".py", "")


def _heading(name: str) -> str:
    place, _, heading = name.partition(": ")
    return f"{_link(place, links.notebook(name))} *{heading}*"


def _link(words: str, path: Path) -> str:
    return f"[{words}]({os.path.relpath(path, TUTORIALS)})"


def _verdict(claim: Claim) -> str:
    word = f"**{claim.verdict}**" if claim.verdict == "contradicted" else claim.verdict
    return f"{word}, {claim.on}" if claim.on else word


def seen(claim: Claim) -> str:
    """The last column: what the numbers say, then what we say."""
    computed = verdicts.told(verdicts.outcomes(claim))
    words = [_sentence(each) for each in computed]
    text = ROW.sub(r"row [\1](#c\1)", numbers.filled(claim.seen))
    return " ".join([*words, text]).strip()


def _sentence(words: str) -> str:
    return re.sub(r"[;.]?$", ".", words[:1].upper() + words[1:])


def write() -> None:
    """Put the page where readers find it: beside the notebooks."""
    (TUTORIALS / "CLAIMS.md").write_text(page(load()) + "\n", encoding="utf-8")
