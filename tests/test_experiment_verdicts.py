"""Verdicts made again from the numbers that results keep: `python -m experiments NAME --judge`."""

import json
import subprocess
import sys

import pytest
from tutorial_files import TUTORIALS, helper

report, tables = helper("experiments.report"), helper("experiments.tables")
RESULTS = TUTORIALS / "experiments" / "results"


def command(*arguments):
    call = [sys.executable, "-m", "experiments", *map(str, arguments)]
    return subprocess.run(call, cwd=TUTORIALS, capture_output=True, text=True)


def test_judged_again(tmp_path):
    """Nothing is trained: the same bytes from what is stored; another number, another verdict."""
    stored = {p.name: p.read_bytes() for p in RESULTS.glob("*.json")}
    for name, written in stored.items():
        (tmp_path / name).write_bytes(written)
    names = [name.removesuffix(".json") for name in stored]
    done = command(*names, "--judge", "--results", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == stored
    told = json.loads(stored["table5.json"])
    rows = {row["label"]: row["values"] for row in told["sections"][0]["rows"]}
    rows["both, one scale"]["small"]["seeds"][0] += 0.5
    again = report.judged_again(told, tables.TABLES["table5"])
    changed = [
        (after["says"], before["seeds"] - after["seeds"])
        for s, t in zip(told["sections"], again["sections"], strict=True)
        for before, after in zip(s["claims"], t["claims"], strict=True)
        if before != after
    ]
    says = "over a plain detector of dilation 1 they help least on small objects"
    assert changed == [(says, 1)]
    for s in again["sections"] + told["sections"]:
        del s["claims"]
    assert again == told  # no number, and nothing else


def test_what_cannot_be_judged_again(tmp_path):
    told = json.loads((RESULTS / "table5.json").read_text())
    del told["sections"][1]["rows"][2]["values"]["large"]
    with pytest.raises(
        ValueError, match=r"position-sensitive head has no both, one scale \| large"
    ):
        report.judged_again(told, tables.table5)
    del told["sections"][1]
    with pytest.raises(ValueError, match="table5 has pool head in its file, expected pool head, p"):
        report.judged_again(told, tables.table5)
    done = command("table5", "--judge", "--results", tmp_path)
    assert done.returncode == 1
    assert "table5.json is not there: without --judge the command trains it" in done.stderr
    assert "expected one of them" in command("table5", "--judge", "--quick").stderr
    assert not list(tmp_path.iterdir())


def test_the_paper_stands_beside_ours():
    """In the same cell where the column is the same, else in one of its own."""
    text = report.text(json.loads((RESULTS / "table5.json").read_text()))
    rows = [line for line in text.splitlines() if line.startswith("| both, one scale |")]
    assert "73.2 ± 1.0 (33.1) | 93.5 ± 1.1 (50.3) |" in rows[0]
    assert "74.9 ± 0.4 (34.5) |" in rows[1]
    assert "| pool head, in brackets the paper | AP@[.5:.95] | AP@0.5 | small | medium |" in text
    assert "paper: " not in text
    text = report.text(json.loads((RESULTS / "table3_lower.json").read_text()))
    assert "| pool head | AP@0.5 |" in text
    assert "paper: Faster R-CNN @0.7 |" in text
