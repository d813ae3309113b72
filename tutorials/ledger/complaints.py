"""What is wrong with the ledger: links that lead nowhere, verdicts that say more than was seen."""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from deformable_convnets.reference.networks.protocols import KNOWN
from ledger import links, numbers, verdicts
from ledger.rows import HERE, ON, TUTORIALS, VERDICTS, Claim

# Every equation, figure and table of the paper. "(7')" is printed as (7), in the arXiv version (8).
THINGS = [f"({n})" for n in range(1, 8)] + ["(7')"]
THINGS += [f"Figure {n}" for n in range(1, 9)] + [f"Table {n}" for n in range(1, 8)]
NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+|(?:,\d{3})+)")
ROW = re.compile(r"\brow ([\dA]+\.\d+)")
SHORT = 240  # letters of a claim: two lines


def of_all(claims: list[Claim]) -> list[str]:
    """All complaints."""
    return together(claims) + [complaint for claim in claims for complaint in of_one(claim)]


def together(claims: list[Claim]) -> list[str]:
    """Complaints about the rows as a whole."""
    ids = Counter(claim.id for claim in claims)
    found = [f"{name} is there {n} times" for name, n in ids.items() if n > 1]
    about = {thing for claim in claims for thing in claim.of}
    found += [f"no row is about {thing}" for thing in THINGS if thing not in about]
    named = ((c.id, name) for c in claims for name in ROW.findall(c.seen))
    return found + [f"{where}: there is no row {name}" for where, name in named if name not in ids]


def of_one(claim: Claim) -> list[str]:
    """Complaints about a row."""
    found = [*_words(claim), *_links(claim), *_verdict(claim)]
    if not any(_links(claim)):  # numbers are looked for in the files that are linked
        found += _numbers(claim)
    return [f"{claim.id}: {said}" for said in found]


def _words(claim: Claim) -> Iterable[str]:
    if claim.verdict not in VERDICTS:
        yield f"the verdict {claim.verdict!r} is none of {', '.join(VERDICTS)}"
    if claim.on not in ON or (claim.verdict == "not attempted") != (claim.on == ""):
        yield f"{claim.verdict} on {claim.on!r}"
    if claim.known not in KNOWN:
        yield f"known is {claim.known!r}"
    if not 10 < len(claim.says) <= SHORT:
        yield f"it says {len(claim.says)} letters, expected 11 to {SHORT}"
    yield from (f"{thing} is not in the paper" for thing in claim.of if thing not in THINGS)
    if not (claim.seen or claim.results or claim.orders):
        yield "nothing is said of what was seen"
    if claim.verdict != "not attempted" and claim.on != "printed" and not claim.tests:
        yield f"{claim.verdict}, and no test"
    if claim.on in ("exact", "built", "counted") and not claim.code:
        yield f"{claim.verdict}, and no code"


def _links(claim: Claim) -> Iterable[str]:
    kinds = (links.code, claim.code), (links.test, claim.tests), (links.notebook, claim.notebooks)
    for find, names in kinds:
        for name in names:
            try:
                find(name)
            except (LookupError, ImportError, AttributeError, ValueError) as error:
                yield f"{name}: {error}"


def _verdict(claim: Claim) -> Iterable[str]:
    try:
        found = verdicts.outcomes(claim)
    except KeyError as error:
        yield f"no result {error}"
        return
    follows = verdicts.verdict(found) if found else claim.verdict
    if claim.verdict != follows and (claim.verdict, follows) != ("partly", "reproduced"):
        yield f"the verdict is {claim.verdict!r}, and the numbers say {follows!r}"
    if claim.on == "printed" and not claim.orders and not claim.tests:
        yield "nothing of the paper's numbers is computed"
    if bool(claim.results) != (claim.on == "small"):
        yield f"on {claim.on!r} with {len(claim.results)} results of experiments"


def _numbers(claim: Claim) -> Iterable[str]:
    """A number with a point or commas is a name in braces, or stands in a file that is linked."""
    try:
        numbers.filled(claim.seen)
    except (LookupError, ValueError, FileNotFoundError) as error:
        yield f"a number is nowhere: {error!r}"
        return
    text = re.sub(r"\{[^}]*\}", "", f"{claim.says} {ROW.sub('', claim.seen)}")
    typed = NUMBER.findall(text)
    if typed:
        linked = "\n".join(p.read_text(encoding="utf-8") for p in _files(claim))
        plain = linked.replace("_", "").replace("{,}", ",")
        for number in typed:
            if not {number, number.replace(",", "")} & set(re.findall(r"[\d.,]*\d", plain)):
                yield f"{number} is typed, and in no file that the row links to"


def _files(claim: Claim) -> list[Path]:
    """Where the numbers of a row may stand: its code and tests, and the sources of notebooks."""
    paths = [*map(links.code, claim.code), *map(links.test, claim.tests), HERE / "paper.toml"]
    books = (links.notebook(name).stem for name in claim.notebooks)
    return paths + [TUTORIALS / "src" / f"{stem}.py" for stem in books]
