"""The results of an experiment as JSON, as a table of text, and what agrees with the paper."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from experiments.layout import Cell, Claim, Gain, Section, Table, value, variant
from experiments.runs import Run


def summary(table: Table, results: Mapping[Run, Any], seeds: int, quick: bool) -> dict[str, Any]:
    """All that is kept of an experiment."""
    return {
        "name": table.name, "title": table.title, "quick": quick, "seeds": seeds,
        "trained": _trained([results[run] for run in table.runs(seeds, quick)]),
        "minutes": _minutes([results[run] for run in table.runs(seeds, quick)]),
        "sections": [_section(s, results, seeds, quick) for s in table.sections],
        "notes": list(table.notes),
    }  # fmt: skip


def _trained(found: list[Any]) -> dict[str, list[Any]]:
    """With what the runs were trained: every value that there was, most often one."""
    return {key: sorted({r["trained"][key] for r in found}) for key in found[0]["trained"]}


def _minutes(found: list[Any]) -> float:
    """Of training, all runs one after another; those that were resumed are left out."""
    steps = ((r["seconds_per_step"] or 0, r["settings"]["iterations"]) for r in found)
    return sum(seconds * count for seconds, count in steps) / 60


def _section(section: Section, results: Mapping[Run, Any], seeds: int, quick: bool) -> dict:
    rows, numbers = [], {}
    for row in section.rows:
        found = [results[variant(row.run, seed, quick)] for seed in range(seeds)]
        values = {c: [value(r, row, path) for r in found] for c, path in section.columns.items()}
        numbers |= {(row.label, column): each for column, each in values.items()}
        rows.append({
            "label": row.label, "paper": row.paper,
            "values": {c: _spread(v) for c, v in values.items()},
            "parameters": found[0]["parameters"], "iterations": found[0]["settings"]["iterations"],
            "ms_per_image": _milliseconds(found),
        })  # fmt: skip
    claims = [verdict(claim, numbers, seeds) for claim in section.claims]
    return {"title": section.title, "unit": section.unit, "columns": list(section.columns),
            "rows": rows, "claims": claims, "printed": section.printed}  # fmt: skip


def judged_again(told: dict[str, Any], table: Table) -> dict[str, Any]:
    """A summary with the verdicts that its own numbers, one for each seed, give now.

    For claims that were added after the runs: nothing is trained and no number changes. ValueError
    if it lacks a section or a number that a claim compares.
    """
    kept = {section["title"]: section for section in told["sections"]}
    if list(kept) != [section.title for section in table.sections]:
        expected = ", ".join(section.title for section in table.sections)
        raise ValueError(f"{table.name} has {', '.join(kept)} in its file, expected {expected}")
    sections = [
        kept[section.title] | {"claims": _verdicts(section, kept[section.title], told["seeds"])}
        for section in table.sections
    ]
    return told | {"sections": sections}


def _verdicts(section: Section, kept: dict[str, Any], seeds: int) -> list[dict[str, Any]]:
    rows = {row["label"]: row["values"] for row in kept["rows"]}
    numbers = {(row, c): each["seeds"] for row, of in rows.items() for c, each in of.items()}
    for claim in section.claims:
        for row, column in sorted(claim.cells - set(numbers)):
            raise ValueError(
                f"{section.title} has no {row} | {column} in its file, which"
                f" '{claim.says}' compares: train it again"
            )
    return [verdict(claim, numbers, seeds) for claim in section.claims]


def _milliseconds(found: list[Any]) -> float | None:
    """A step for one picture: the median of the seeds that were trained without a break."""
    each = [(r["seconds_per_step"], r["settings"]["batch"]) for r in found]
    there = [1e3 * seconds / batch for seconds, batch in each if seconds is not None]
    return float(np.median(there)) if there else None


def _spread(values: list[float | None]) -> dict[str, Any]:
    there = [v for v in values if v is not None]
    mean, std = (float(np.mean(there)), float(np.std(there))) if there else (None, None)
    return {"mean": mean, "std": std, "seeds": values}


def verdict(claim: Claim, numbers: Mapping[Cell, list[Any]], seeds: int) -> dict[str, Any]:
    """Whether the means of the seeds are ordered as claimed, and in how many seeds the values are.

    Something that was not measured makes it False.
    """

    def number(each: Cell | Gain, pick: Any) -> float | None:
        if not isinstance(each, Gain):
            return pick(numbers[each])
        worse, better = pick(numbers[each.worse]), pick(numbers[each.better])
        return None if worse is None or better is None else better - worse

    def held(pick: Any) -> bool:
        return all(_increases([number(each, pick) for each in chain]) for chain in claim.chains)

    return {
        "says": claim.says, "printed": claim.printed, "holds": held(_mean), "of": seeds,
        "seeds": sum(held(lambda values, i=seed: values[i]) for seed in range(seeds)),
    }  # fmt: skip


def _mean(values: list[Any]) -> float | None:
    return None if None in values else float(np.mean(values))


def _increases(values: list[Any]) -> bool:
    return None not in values and all(a < b for a, b in pairwise(values))


def text(told: dict[str, Any]) -> str:
    """An experiment as Markdown: its tables, its claims and its honest lines."""
    lines = [f"## {told['title']}", ""]
    if told["quick"]:
        lines += ["**Quick form: this says only that everything runs.**", ""]
    for section in told["sections"]:
        lines += [*_table(section), ""]
        lines += [_claim(c) for c in section["claims"] if not told["quick"]]
        lines += ["", section["printed"]] * bool(section["printed"]) + [""]
    return "\n".join(lines + [f"*{note}*" for note in told["notes"]])


def _table(section: dict[str, Any]) -> list[str]:
    every = dict.fromkeys(name for row in section["rows"] for name in row["paper"])
    own = section["columns"]
    paper = [name for name in every if name not in own]  # else they stand beside ours
    title = section["title"] + ", in brackets the paper" * (len(paper) < len(every))
    timed = len({row["ms_per_image"] for row in section["rows"]}) > 1  # else rows of one run
    kept = ["parameters", "steps", "ms/image"] if timed else []
    head = [title, *own, *(f"paper: {name}" for name in paper), *kept]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in section["rows"]:
        beside = {c: f" ({row['paper'][c]})" for c in own if c in row["paper"]}
        cells = [shown(row["values"][c], section["unit"]) + beside.get(c, "") for c in own]
        cells += [str(row["paper"].get(name, "")) for name in paper]
        ms = row["ms_per_image"]
        if timed:
            cells += [f"{row['parameters']:,}", str(row["iterations"])]
            cells.append("-" if ms is None else f"{ms:.0f}")
        lines.append("| " + " | ".join([row["label"], *cells]) + " |")
    return lines


def shown(spread: dict[str, Any], unit: str) -> str:
    """A mean and the standard deviation of the seeds; "-" where nothing was measured."""
    if spread["mean"] is None:
        return "-"
    factor, digits = (100, 1) if unit == "%" else (1, 2)
    return f"{factor * spread['mean']:.{digits}f} ± {factor * spread['std']:.{digits}f}"


def _claim(told: dict[str, Any]) -> str:
    order = f"the claimed order in {told['seeds']} of {told['of']} seeds"
    return f"- {told['says']}: {judged(told)} ({order})"


def judged(told: dict[str, Any]) -> str:
    """A verdict in words; where the means are in order but most seeds are not, it is not clear."""
    yes, no = ("agrees", "does not agree") if told["printed"] else ("holds", "does not hold")
    if not told["holds"]:
        return f"**{no}**"
    return yes if 2 * told["seeds"] > told["of"] else "not clear"
