"""README.md of this folder: what the experiments are, and every result that is here."""

import json
from pathlib import Path
from typing import Any

from experiments import report, runs
from experiments.tables import TABLES

HEAD = """\
# Experiments

The tables of the paper at a size that two CPU cores train in minutes: a residual network of 70,000
to 120,000 parameters, with the stages of ResNet-101's names, on pictures that a program draws. Each
is one command, which trains what is not trained yet, resumes where it was interrupted, and writes
the numbers of three seeds as JSON, a picture, and this page:

    make experiment NAME=table1                  # one of: {names}
    make experiment NAME=table1 ARGS=--quick     # less than a minute; says only that it works
    make experiment NAME=table1 ARGS=--judge     # no training: verdicts again, from the numbers

`runs.py` says what a run is, `segmentation.py` and `detection.py` what is trained and measured,
`worlds.py` on which pictures, and `*_tables.py` which runs a table has and what the paper says of
them. Numbers are mean ± standard deviation of the three seeds, divided by 3, not by 2.

A verdict is about order alone: look how far apart the numbers are. It "agrees" with what the paper
says, or "holds" where only we ask, if the means of the seeds are in the claimed order and most
seeds are too; it is "not clear" if the means are and most seeds are not. One question was asked
when its numbers were there already, that of `table5` about small objects over dilation 1.

**Mind the length of training.** {length}

`ms/image` is a training step for one picture, with one thread, on a machine that trained two
networks at once and did other work beside: it may be off by half. "+" behind a commit: with changes
that were not committed yet. Results did not say their commit at first: 72f6fb6+ and f715447+ were
filled in later, from when the processes began, and so were the step times of three deformable
layers on `scale` and `structured`, from the tables that had measured them.

Notebooks [8](../08_a_small_deeplab.ipynb) and [9](../09_a_small_detector.ipynb) say what they mean.
"""


def page(results: Path = runs.HERE / "results") -> str:
    """The page, every number from the files of results."""
    parts = [HEAD.format(names=", ".join(TABLES), length=_length(results / "controls.json"))]
    for name in TABLES:
        path = results / f"{name}.json"
        if path.exists():
            parts.append(_part(name, json.loads(path.read_text())))
    return "\n".join(parts)


def _length(controls: Path) -> str:
    """What the control says of speed of learning, with its numbers."""
    if not controls.exists():
        return "`controls` says how much of a gap is speed of learning; it has not been run."
    rows = json.loads(controls.read_text())["sections"][0]["rows"]
    row = {r["label"]: (r["values"]["mIoU"]["mean"] * 100, r["iterations"]) for r in rows}
    early = row["deformable"][0] - row["plain"][0]
    late = row["deformable long"][0] - row["plain long"][0]
    return (
        f"In segmentation, deformable layers are {early:.1f} points of mIoU better after"
        f" {row['plain'][1]} steps, and {late:.1f} after {row['plain long'][1]}: of the gap,"
        f" {1 - late / early:.0%} is speed of learning, or a ceiling that both come near. No other"
        " rows have longer runs beside them, so every gap below may be of that kind."
    )


def _part(name: str, told: dict[str, Any]) -> str:
    trained = {key: ", ".join(map(str, each)) for key, each in told["trained"].items()}
    made = (
        f"`{name}`: {told['seeds']} seeds, trained on {trained['date']} at commit"
        f" {trained['commit']}, with Python {trained['python']}, NumPy {trained['numpy']} and SciPy"
        f" {trained['scipy']}, Adam from {trained['rate']}, beta {trained['beta']};"
        f" {told['minutes']:.0f} minutes of one process."
    )
    picture = f"![{told['title']}](results/{name}.png)"
    return f"{report.text(told)}\n\n{picture}\n\n{made}\n"


def write() -> None:
    """Put the page where readers find it."""
    (runs.HERE / "README.md").write_text(page() + "\n")


if __name__ == "__main__":
    write()
