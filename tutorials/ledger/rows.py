"""The rows of the ledger, from claims/*.toml: one file for a part of the paper."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TUTORIALS = HERE.parent
ROOT = TUTORIALS.parent

VERDICTS = {
    "reproduced": "what the paper says was seen",
    "partly": "a part of it was seen, or it was seen in some cases and not in others",
    "contradicted": "the opposite was seen",
    "not attempted": "nothing was seen; the last column says why",
}
ON = {
    "exact": "in exact arithmetic, or within a bound that is derived",
    "built": "built as the text says and tested, not trained at the paper's size",
    "counted": "by counting the networks that the text describes",
    "printed": "the numbers that the paper prints agree with its sentence; nothing was run",
    "small": "in small networks on synthetic pictures, three seeds: order alone",
    "": "",
}


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim.

    says       in our own words
    of         the equations, figures and tables it is about: "(2)", "Figure 3", "Table 1"
    code       names below `deformable_convnets`, "reference.deform_conv2d", or of `tutorials`
    tests      "test_file.py::test_name", or "law name_of_a_law" of the oracle
    notebooks  "4: A heading of notebook 4"
    verdict    of `VERDICTS`, and on what it rests, of `ON`
    seen       one sentence or two; numbers are names in braces, see `numbers`
    results    "table1 | segmentation | how a claim begins": verdicts of the experiments
    orders     what must increase in the paper's own tables, see `verdicts.orders`
    known      how we know what the paper says: "text", "copy" or "memory"
    """

    id: str
    says: str
    verdict: str
    seen: str = ""
    on: str = ""
    of: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()
    notebooks: tuple[str, ...] = ()
    results: tuple[str, ...] = ()
    orders: tuple[dict[str, Any], ...] = ()
    known: str = "text"


@dataclass(frozen=True)
class Part:
    """A part of the paper, and its claims."""

    title: str
    claims: tuple[Claim, ...]


def read(text: str) -> Part:
    """A file of claims. TypeError for a row with an unknown entry, or without one it needs."""
    told = tomllib.loads(text)
    made = ({k: tuple(v) if isinstance(v, list) else v for k, v in row.items()}
            for row in told["claim"])  # fmt: skip
    return Part(told["title"], tuple(Claim(**row) for row in made))


def load(folder: Path = HERE / "claims") -> list[Part]:
    """All parts, in the order of the paper."""
    return [read(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.toml"))]


def claims(parts: list[Part]) -> list[Claim]:
    """The rows of all parts."""
    return [claim for part in parts for claim in part.claims]
