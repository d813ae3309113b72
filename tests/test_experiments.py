"""The experiments: runs that resume bit for bit, tables whose numbers are measured, verdicts."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from tutorial_files import helper

runs, layout, report, pool = map(
    helper, ("experiments.runs", "experiments.layout", "experiments.report", "experiments.pool")
)
tables, page = helper("experiments.tables"), helper("experiments.page")
detection, plots = helper("experiments.detection"), helper("experiments.plots")
Run = runs.Run
SHORT = {"iterations": 2, "batch": 2, "tested": 4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def short(monkeypatch):
    """Runs of two steps in place of quick ones."""
    made = layout.variant
    monkeypatch.setattr(layout, "variant", lambda run, *a: replace(made(run, *a), **SHORT))
    monkeypatch.setattr(report, "variant", layout.variant)


@pytest.mark.parametrize("name", tables.TABLES)
def test_every_number_of_a_table_is_measured(name, folder, short):
    """Of whatever quality: two steps. Only a size of which no picture is may lack a number."""
    table = tables.TABLES[name]
    results = {run: runs.finish(run, folder) for run in table.runs(1, True)}
    told = report.summary(table, results, 1, True)
    assert [s["title"] for s in told["sections"]] == [s.title for s in table.sections]
    for section in told["sections"]:
        for row in section["rows"]:
            for column, spread in row["values"].items():
                there = spread["mean"] is not None and np.isfinite(spread["mean"])
                assert there or column in ("small", "medium", "large"), (name, row, column)
    text = report.text(told)
    assert all(note in text for note in table.notes)
    assert "agree" not in text  # a quick form is no evidence
    assert len(plots.draw(told).axes) >= len(table.sections)


def test_claims_are_about_cells_that_are_there():
    for table in tables.TABLES.values():
        for section in table.sections:
            cells = {(row.label, column) for row in section.rows for column in section.columns}
            for claim in section.claims:
                assert claim.cells <= cells, claim.says
            assert len({row.label for row in section.rows}) == len(section.rows)


def test_one_name_is_one_run():
    every = {run for t in tables.TABLES.values() for run in t.runs(3, False) + t.runs(1, True)}
    assert len({run.name for run in every}) == len(every)
    assert all(len(run.name) < 200 and "/" not in run.name for run in every)


def test_conversion_changes_no_other_random_number():
    """One seed makes the same weights and the same pictures, plain and deformable."""
    plain = runs.started(Run())
    deformable = runs.started(Run(deformable=("res5b", "res5c")))
    for name, a in runs.layers.arrays(plain.net).items():
        np.testing.assert_array_equal(a, runs.layers.arrays(deformable.net)[name])
    x = np.random.default_rng(0).normal(size=(1, 1, 64, 64)).astype(np.float32)
    tape = runs.task_of(Run()).Tape
    np.testing.assert_allclose(
        plain.net(tape(), x), deformable.net(tape(), x), rtol=1e-5, atol=1e-5
    )
    assert plain.rng.bit_generator.state == deformable.rng.bit_generator.state


def test_active_convolution_has_one_offset_a_tap():
    active = runs.started(Run(deformable=("res5c",), active=True, **SHORT))
    names = set(runs.layers.parameters(active.net))
    assert "res5c.branch.bias" in names
    assert "res5c.branch.weight" not in names
    images, _, _ = helper("experiments.worlds").batch("scale", active.rng, 2)
    active.net.res5c.branch.bias[:] = np.arange(18) / 10
    tape = helper("experiments.segmentation").Offsets()
    active.net(tape, images)
    ((offset, _),) = tape.offsets
    assert (offset == (np.arange(18, dtype=np.float32) / 10)[:, None, None]).all()


@pytest.mark.parametrize("task", ["segmentation", "detection"])
def test_an_interrupted_run_is_an_uninterrupted_one(tmp_path, task, monkeypatch):
    """Bit for bit: what is measured, and the loss."""
    run = Run(task=task, deformable=("res5c",), iterations=6, batch=2, tested=4)
    whole = runs.finish(run, tmp_path / "whole")

    class Stop(Exception):
        pass

    def told(steps, made=[]):  # noqa: B006
        made.append(steps)
        if sum(made) == 4:
            raise Stop

    monkeypatch.setattr(runs, "EVERY", 2)
    with pytest.raises(Stop):
        runs.finish(run, tmp_path / "parts", told)
    steps = []
    parts = runs.finish(run, tmp_path / "parts", steps.append)
    assert steps[0] == 4
    assert sum(steps) == 6
    for key in ("loss", "measured", "settings", "parameters"):
        assert parts[key] == whole[key]
    steps.clear()
    assert runs.finish(run, tmp_path / "parts", steps.append) == parts  # it is not done again
    assert steps == [6]


CELLS = {("a", "x"): [1, 2, 3], ("b", "x"): [2, 3, 2.5], ("c", "x"): [None, 1, 1]}


@pytest.mark.parametrize(
    ("rows", "holds", "seeds"),
    [("ab", True, 2), ("ba", False, 1), ("ca", False, 2), ("aa", False, 0), ("bca", False, 0)],
)
def test_verdicts(rows, holds, seeds):
    claim = layout.Claim("", (layout.increasing(*rows, column="x"),))
    told = report.verdict(claim, CELLS, 3)
    assert (told["holds"], told["seeds"], told["of"]) == (holds, seeds, 3)


@pytest.mark.parametrize(
    ("worse", "better", "holds", "seeds"), [("a", "b", True, 1), ("b", "a", False, 1)]
)
def test_gains_are_compared(worse, better, holds, seeds):
    """a has 1, 2 and 2.5 more in y than in x, b 4, 1.5 and 2.5."""
    cells = CELLS | {("a", "y"): [2, 4, 5.5], ("b", "y"): [6, 4.5, 5]}
    gains = {n: layout.Gain((n, "x"), (n, "y")) for n in "ab"}
    claim = layout.Claim("", ((gains[worse], gains[better]),))
    assert claim.cells == {(n, c) for n in "ab" for c in "xy"}
    told = report.verdict(claim, cells, 3)
    assert (told["holds"], told["seeds"]) == (holds, seeds)


def test_all_chains_of_a_claim_must_hold():
    chains = (layout.increasing("a", "b", column="x"), layout.increasing("b", "a", column="x"))
    assert not report.verdict(layout.Claim("", chains), CELLS, 3)["holds"]


def test_a_run_that_fails_is_told_when_the_others_have_ended(tmp_path):
    good, bad = Run(**SHORT), Run(**SHORT, world="no such")
    with pytest.raises((ValueError, KeyError), match="no such"):
        pool.finished([bad, good], tmp_path, 1, bar=False)
    assert json.loads((tmp_path / f"{good.name}.json").read_text())["measured"]


def test_a_mirrored_picture_has_mirrored_boxes():
    run = Run(task="detection", tested=2, iterations=0)
    net = runs.started(run).net
    images, _, proposals = detection.tested(run)
    mirrored = [detection.mirror(p, 64) for p in proposals]
    back = detection.flipped(net, images[..., ::-1].copy(), mirrored)
    for a, b in zip(detection.predicted(net, images, proposals), back, strict=True):
        np.testing.assert_allclose(detection.mirror(a.boxes, 64), b.boxes, atol=1e-4)
        np.testing.assert_allclose(a.scores, b.scores, atol=1e-5)
    assert (detection.mirror(proposals[0], 64)[:, 0] == 64 - proposals[0][:, 2]).all()


def test_answers_are_averaged_proposal_by_proposal():
    a, b = (
        detection.detector.Predicted(np.full((2, 3), v), np.full((2, 4), 10 * v)) for v in (0, 1)
    )
    (mean,) = detection.averaged([[a], [b], [b], [b]])
    assert (mean.scores == 0.75).all()
    assert (mean.boxes == 7.5).all()


def test_the_page_has_the_numbers_of_the_results():
    """Every one of them of a whole run, of a commit that is told."""
    assert (runs.HERE / "README.md").read_text() == page.page() + "\n"
    for path in (runs.HERE / "results").glob("*.json"):
        told = json.loads(path.read_text())
        assert told["name"] == path.stem in tables.TABLES
        assert (told["quick"], told["seeds"]) == (False, 3)
        assert all(told["trained"]["commit"])
        assert path.with_suffix(".png").exists()
        table = tables.TABLES[path.stem]
        assert told["notes"] == list(table.notes)
        for kept, section in zip(told["sections"], table.sections, strict=True):
            assert kept["title"] == section.title
            assert [c["says"] for c in kept["claims"]] == [c.says for c in section.claims]


def test_a_number_that_is_changed_is_seen(tmp_path):
    told = json.loads((runs.HERE / "results" / "table1.json").read_text())
    (tmp_path / "table1.json").write_text(json.dumps(told))
    before = page.page(tmp_path)
    told["sections"][0]["rows"][0]["values"]["mIoU"]["mean"] += 0.01
    (tmp_path / "table1.json").write_text(json.dumps(told))
    assert page.page(tmp_path) != before


def test_a_result_of_other_settings_is_refused(tmp_path):
    run = Run(**SHORT)
    kept = tmp_path / f"{run.name}.json"
    kept.write_text(json.dumps({"settings": {"task": "segmentation", "width": 7}}))
    with pytest.raises(ValueError, match=r"other settings, found and expected: .*'width': \(7, 32"):
        runs.finish(run, tmp_path)
    kept.write_text("{")
    with pytest.raises(ValueError, match="is no result of a run"):
        runs.finish(run, tmp_path)


def test_one_command_holds_a_folder(tmp_path):
    with (
        pool.alone(tmp_path),
        pytest.raises(RuntimeError, match="another command trains in"),
        pool.alone(tmp_path),
    ):
        pass
    with pool.alone(tmp_path):  # it is free again
        pass


@pytest.mark.parametrize("sent", ["SIGINT", "SIGKILL"])
def test_no_process_outlives_its_command(tmp_path, sent):
    """Ctrl-C ends a command within seconds, with its processes; so does its sudden death."""
    command = [sys.executable, "-m", "experiments", "table1", "--runs", str(tmp_path)]
    started = subprocess.Popen(
        command, cwd=runs.HERE.parent, stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("*.npz")) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert list(tmp_path.glob("*.npz"))  # it trains
    os.kill(started.pid, getattr(signal, sent))
    assert started.wait(timeout=30) != 0
    while lives(started.pid) and time.monotonic() < deadline + 30:
        time.sleep(0.1)
    assert not lives(started.pid)


def lives(group):
    """Whether a process of a group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
