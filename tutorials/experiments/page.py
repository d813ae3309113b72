"""README.md of this folder: what the experiments are, and every result that is here."""

import json
from pathlib import Path
from typing import Any

from experiments import report, runs
from experiments.tables import TABLES

HEAD = """\
# Experiments

The tables of the paper at a size that two CPU cores train in minutes: a residual network of 70,000
to 110,000 parameters, with the stages of ResNet-101's names, on pictures that a program draws. Each
is one command, which trains what is not trained yet, resumes where it was interrupted, and writes
the numbers of three seeds as JSON, a picture, and this page:

    make experiment NAME=table1                  # one of: {names}
    make experiment NAME=table1 ARGS=--quick     # less than a minute; says only that it works

`runs.py` says what a run is, `segmentation.py` and `detection.py` what is trained and measured,
`worlds.py` on which pictures, and `*_tables.py` which runs a table has and what the paper says of
them. "Agrees" compares the order of the means of the seeds with what the paper says; behind it
stands in how many seeds the order is the same. Numbers are mean ± standard deviation of the seeds;
`ms/image` is a training step for one picture, with one thread, on a machine that trained two
networks at once and did other work, so it is rough.

Notebooks [8](../08_a_small_deeplab.ipynb) and [9](../09_a_small_detector.ipynb) say what they mean.
"""


def page(results: Path = runs.HERE / "results") -> str:
    """The page, every number from the files of results."""
    parts = [HEAD.format(names=", ".join(TABLES))]
    for name in TABLES:
        path = results / f"{name}.json"
        if path.exists():
            parts.append(_part(name, json.loads(path.read_text())))
    return "\n".join(parts)


def _part(name: str, told: dict[str, Any]) -> str:
    trained = {key: ", ".join(map(str, each)) for key, each in told["trained"].items()}
    made = (
        f"`{name}`: {told['seeds']} seeds, trained on {trained['date']} at commit"
        f" {trained['commit']}, with Python {trained['python']}, NumPy {trained['numpy']} and SciPy"
        f" {trained['scipy']}, Adam from {trained['rate']}, beta {trained['beta']}."
    )
    picture = f"![{told['title']}](results/{name}.png)"
    return f"{report.text(told)}\n\n{picture}\n\n{made}"


def write() -> None:
    """Put the page where readers find it."""
    (runs.HERE / "README.md").write_text(page() + "\n")


if __name__ == "__main__":
    write()
