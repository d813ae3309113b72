"""Where the numbers of the ledger come from: files that a command wrote, or the paper.

A name in braces is looked up when the page is made:

    {table1[segmentation][3][mIoU]}        results of an experiment: 82.7 ± 2.1
    {table1[segmentation][0 > 3][mIoU]}    what the second row has more: +14.4
    {paper[5][Faster > Faster, ours][large]}   of the paper's tables, paper.toml: +4.1
    {paper[5][Faster / Faster, ours][mAP]}     in percent: +12.6
    {count[R-FCN, as released][adds]}      counted by reference.networks.count
    {bench[networks][pictures]}            tests/bench/results/networks.json
"""

import json
import tomllib
from collections.abc import Mapping
from functools import cache
from typing import Any

from experiments.report import shown

from deformable_convnets.reference.networks import count
from ledger.rows import HERE, ROOT, TUTORIALS

Rows = dict[str, dict[str, Any]]  # a number by the names of its row and its column


class Lookup(Mapping[Any, Any]):
    """A mapping that knows whole numbers as words too, and rows as "less > more"."""

    def __init__(self, of: Mapping[str, Any], unit: str = ""):
        self.of, self.unit = of, unit

    def __getitem__(self, key: Any) -> Any:
        name = str(key)
        for sign in (" > ", " / "):
            if sign in name and name not in self.of:
                return Lookup(_compared(self.of, sign, *name.split(sign)), f"{self.unit} more")
        found = self.of[name]
        if isinstance(found, list):
            found = {str(i): each for i, each in enumerate(found)}
        if isinstance(found, Mapping) and not {"mean", "std"} <= set(found):
            return Lookup(found, self.unit)
        return Shown(found, self.unit)

    def __iter__(self) -> Any:
        return iter(self.of)

    def __len__(self) -> int:
        return len(self.of)


class Shown:
    """A number as the page has it."""

    def __init__(self, value: Any, unit: str):
        self.value, self.unit = value, unit

    def __str__(self) -> str:
        unit, more = self.unit.removesuffix(" more"), self.unit.endswith(" more")
        if isinstance(self.value, Mapping) and not more:
            return shown(self.value, unit)
        value = number(self.value) * (100 if unit == "%" else 1)
        if isinstance(value, int):
            return f"{value:{'+' if more else ''},}"
        digits = 2 if unit == "cells" else 3 if unit == "seconds" else 1
        return f"{value:+.{digits}f}" if more else f"{value:.{digits}f}"

    def __format__(self, spec: str) -> str:
        return format(number(self.value), spec) if spec else str(self)


def number(value: Any) -> Any:
    """A number, or the mean of one that was measured several times."""
    return value["mean"] if isinstance(value, Mapping) else value


def _compared(rows: Mapping[str, Any], sign: str, less: str, more: str) -> dict[str, Any]:
    """What the second row has more than the first, or by how many percent, in each column."""
    pairs = ((c, number(rows[less][c]), number(rows[more][c])) for c in rows[less])
    both = ((c, a, b) for c, a, b in pairs if "" not in (a, b))
    return {c: b - a if sign == " > " else 100 * (b / a - 1) for c, a, b in both}


@cache
def experiment(name: str) -> Any:
    """The JSON of one experiment."""
    return json.loads((TUTORIALS / "experiments" / "results" / f"{name}.json").read_text())


@cache
def paper() -> dict[str, Rows]:
    """The paper's tables, by number."""
    told = tomllib.loads((HERE / "paper.toml").read_text(encoding="utf-8"))
    return {
        key: {label: dict(zip(table["columns"], row, strict=True))
              for label, row in table["rows"].items()}
        for key, table in told.items()
    }  # fmt: skip


@cache
def counted() -> Rows:
    """Parameters of the rows of Table 4, what deformable layers add, and the share of that."""
    found = {}
    for row in count.ROWS:
        plain, ours, four = count.table4()[row.name]
        work = count.multiply_adds(row)
        more = work.branches + sum(work.bilinear.values())
        found[row.name] = {
            "plain": plain, "ours": ours, "adds": ours - plain, "4 groups add": four - plain,
            "share": 100 * (ours - plain) / plain, "work": 100 * more / work.plain,
        }  # fmt: skip
    return found


class Numbers(Mapping[str, Any]):
    """What `str.format_map` takes: every source by its name."""

    def __getitem__(self, name: str) -> Any:
        if name == "paper":
            return {int(key): Lookup(rows) for key, rows in paper().items()}
        if name == "count":
            return Lookup(counted())
        if name == "bench":
            return _Bench()
        sections = experiment(name)["sections"]
        return {s["title"]: Lookup(_by_label(s), s["unit"]) for s in sections}

    def __iter__(self) -> Any:
        raise TypeError("names are looked up, not listed")

    __len__ = __iter__


class _Bench:
    def __getitem__(self, name: str) -> Lookup:
        path = ROOT / "tests" / "bench" / "results" / f"{name}.json"
        return Lookup(json.loads(path.read_text()))


def _by_label(section: dict[str, Any]) -> Rows:
    return {row["label"]: row["values"] for row in section["rows"]}


def filled(text: str) -> str:
    """A text with its numbers. KeyError for one that is nowhere."""
    return text.format_map(Numbers())
