"""What an experiment is made of: rows of runs, columns of what is measured, claims of the paper."""

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from experiments.runs import Run

Cell = tuple[str, str]  # the labels of a row and of a column


class Gain(NamedTuple):
    """What `better` has more than `worse`: a number that a claim may compare, as a cell's."""

    worse: Cell
    better: Cell


@dataclass(frozen=True)
class Row:
    """A line: a run, where its numbers are in what was measured, and the paper's own numbers."""

    label: str
    run: Run
    within: str = ""  # "dilations.layers.res5c"
    paper: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Claim:
    """What the paper says, as chains of cells, or of gains, that increase; all of them must."""

    says: str
    chains: tuple[tuple[Cell | Gain, ...], ...]
    printed: bool = True  # by the paper; else it is a question of a control

    @property
    def cells(self) -> set[Cell]:
        """All that it compares."""
        every = [each for chain in self.chains for each in chain]
        return {cell for each in every for cell in (each if isinstance(each, Gain) else [each])}


@dataclass(frozen=True)
class Section:
    """A part of a table: its columns are places in what was measured, by label."""

    title: str
    rows: tuple[Row, ...]
    columns: dict[str, str]
    unit: str = "%"  # "%": shares are shown times 100; "cells"
    claims: tuple[Claim, ...] = ()
    printed: str = ""  # the paper's numbers where they have no row here


@dataclass(frozen=True)
class Table:
    """An experiment: one command, one file of results, one picture."""

    name: str
    title: str
    sections: tuple[Section, ...]
    notes: tuple[str, ...]  # the honest lines, printed with every result

    def runs(self, seeds: int, quick: bool) -> list[Run]:
        """All runs, each once, the longest first, so that two processes end together."""
        rows = [row for section in self.sections for row in section.rows]
        made = {variant(row.run, seed, quick) for row in rows for seed in range(seeds)}
        return sorted(made, key=lambda run: (-cost(run), run.name))


def variant(run: Run, seed: int, quick: bool) -> Run:
    """The run of one seed; quick: so short that it says only that everything works."""
    short = {"iterations": 20, "batch": 4, "tested": 24} if quick else {}
    return replace(run, seed=seed, **short)


def cost(run: Run) -> float:
    """About how long a run takes, in steps of a plain network."""
    return run.iterations * (run.size / 64) ** 2 * (1 + len(run.deformable)) * run.batch


def value(result: dict[str, Any], row: Row, path: str) -> float | None:
    """A number out of a result: None where there was nothing to measure."""
    found: Any = result["measured"]
    for step in (row.within + "." * bool(row.within) + path).split("."):
        found = found.get(step) if isinstance(found, dict) else None
    return found


def increasing(*rows: str, column: str) -> tuple[Cell, ...]:
    """A chain down a column."""
    return tuple((row, column) for row in rows)
