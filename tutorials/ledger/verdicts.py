"""Verdicts that follow from numbers: those of the experiments, and orders of the paper's tables."""

import re
from itertools import pairwise
from typing import Any, NamedTuple

from experiments.report import judged

from ledger.numbers import experiment, paper
from ledger.rows import Claim


class Outcome(NamedTuple):
    """Whether something is as the paper says (None: not clear), and in words."""

    agrees: bool | None
    says: str


def outcomes(claim: Claim) -> list[Outcome]:
    """What the numbers say of a claim."""
    return [*map(result, claim.results), *(o for each in claim.orders for o in orders(each))]


def verdict(found: list[Outcome]) -> str:
    """All as the paper says, nothing so, or some of it."""
    words = {True: "reproduced", False: "contradicted"}
    seen = {each.agrees for each in found}
    return words.get(seen.pop(), "partly") if len(seen) == 1 else "partly"


def result(name: str) -> Outcome:
    """A claim of an experiment: "table1 | segmentation | how it begins". KeyError if not one."""
    table, title, begins = name.split(" | ")
    for section in experiment(table)["sections"]:
        told = [c for c in section["claims"] if c["says"].startswith(begins)]
        if section["title"] == title and len(told) == 1:
            word = judged(told[0]).strip("*")
            agrees = {"agrees": True, "holds": True, "not clear": None}.get(word, False)
            place = f"[`{table}`](experiments/README.md), {title}"
            seeds = f"{told[0]['seeds']} of {told[0]['of']} seeds"
            return Outcome(agrees, f"{place}: “{told[0]['says']}” {word}, {seeds}")
    raise KeyError(name)


def orders(order: dict[str, Any]) -> list[Outcome]:
    """Whether numbers of one of the paper's tables increase.

    {table, rows, columns}   in each column by itself, down these rows
    {table, cells}           through these cells, "row | column"
    A row "a > b" is b less a.
    """
    table = f"Table {order['table']}"
    if "cells" in order:
        cells = [tuple(cell.split(" | ")) for cell in order["cells"]]
        return [_chain(order["table"], table, cells)]
    return [
        _chain(order["table"], table, [(row, column) for row in order["rows"]])
        for column in order["columns"]
    ]


def _chain(number: str, table: str, cells: list[tuple[str, ...]]) -> Outcome:
    """Whether these cells increase; what they share, a row or a column, is their name."""
    rows, sign = paper()[number], "+" if " > " in cells[0][0] else ""
    values = [_cell(rows, *cell) for cell in cells]
    shared = [names.pop() for names in map(set, zip(*cells, strict=True)) if len(names) == 1]
    less, _, more = shared[-1].partition(" > ") if shared else ("", "", "")
    name = f", {less}" if shared and more in ("", f"{less}, ours") else ""
    grows = _increases(values)
    listed = (" < " if grows else ", ").join(f"{value:{sign}.1f}" for value in values)
    return Outcome(grows, f"{table}{name}: {listed}")


def _cell(rows: dict[str, Any], row: str, column: str) -> float:
    if " > " in row:
        less, more = row.split(" > ")
        return float(rows[more][column]) - float(rows[less][column])
    return float(rows[row][column])


def _increases(chain: list[float]) -> bool:
    return all(round(b - a, 6) > 0 for a, b in pairwise(chain))


def told(found: list[Outcome]) -> list[str]:
    """Outcomes in words; of many columns of one table, how many, and which are not so."""
    printed = [o for o in found if o.says.startswith("Table ")]
    words = [o.says for o in found if o not in printed]
    if len(printed) <= 3:
        return words + [o.says + (", which is not so" * (not o.agrees)) for o in printed]
    wrong = [o.says.split(", ", 1)[-1] for o in printed if not o.agrees]
    table, right = re.match(r"Table \d", printed[0].says).group(), len(printed) - len(wrong)
    kind = "columns" if len({o.says.split(":")[0] for o in printed}) == len(printed) else "cases"
    rest = f"; not {'; not '.join(wrong)}" if wrong else ""
    return [*words, f"{table}: in {right} of {len(printed)} {kind}{rest}"]
