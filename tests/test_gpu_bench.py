"""A run of the benchmark of the kernels and its record, without a GPU."""

import json
import os
from functools import partial

import numpy as np
import pytest
from gpu_bench import TOY, register, wrong

from deformable_convnets.gpu import (
    bench,
    bench_arrays,
    bench_cases,
    bench_record,
    bench_start,
    clocks,
    registry,
)
from deformable_convnets.gpu.bench_cases import BACKWARD, FORWARD
from deformable_convnets.gpu.bench_contestants import Contestant
from deformable_convnets.gpu.bench_measure import Limits
from deformable_convnets.gpu.cupy_kernels import array_program
from deformable_convnets.gpu.cupy_kernels.choices import FUSED, STAGED

ARRAYS = bench_arrays.of_numpy()
MADE_UP = clocks.Clock("made up", "made up", lambda call, ahead: 1.0, lambda: None)


@pytest.fixture
def numpy_alone(monkeypatch):
    """The array program on NumPy is all that can run; calls of this change it, or add another."""
    gone = registry.Backend(dict, lambda: "it is not here")
    monkeypatch.setattr(registry, "BACKENDS", {"cupy": gone, "numba": gone})
    return partial(register, monkeypatch)


class Made:
    """A run on made-up contestants, and its record."""

    def __init__(self, folder, contestants, seconds=60.0):
        self.path = folder / "record.json"
        self.record = bench_record.Record(self.path, {"device": "made up"})
        self.run = bench.Run(
            clocks.clock(toy=True), contestants, self.record, Limits(rounds=1), seconds
        )

    def read(self):
        return json.loads(self.path.read_text())


def steady(name, **changes):
    """A contestant that returns the same array always."""
    made = Contestant(
        name, ARRAYS, lambda case: None, lambda case, given: lambda: {"y": given["x"]}
    )
    return made._replace(**changes)


def test_the_record_is_written_after_every_case(tmp_path):
    made = Made(tmp_path, {"a": steady("a")})
    killed = steady("a", prepare=lambda case, given: exit_now)

    def exit_now():
        raise KeyboardInterrupt

    made.run.times([TOY])
    made.run.contestants["a"] = killed
    with pytest.raises(KeyboardInterrupt):
        made.run.times([TOY._replace(part=BACKWARD)])
    record = made.read()
    assert [row["part"] for row in record["rows"]] == [FORWARD]
    assert record["complete"] is False
    assert os.listdir(tmp_path) == ["record.json"]


def test_what_is_after_the_deadline_is_left_out(tmp_path):
    made = Made(tmp_path, {"a": steady("a")}, seconds=-1.0)
    made.run.times([TOY])
    made.run.errors([TOY])
    assert made.read()["left_out"] == [str(TOY), f"errors of {TOY}"]
    assert made.read()["rows"] == []


def test_the_last_ones_come_last(tmp_path):
    made = Made(tmp_path, {"slow": steady("slow", last=True), "a": steady("a")})
    made.run.times([TOY])
    assert [row["contestant"] for row in made.read()["rows"]] == ["a"]
    made.run.times([TOY], last=True)
    assert [row["contestant"] for row in made.read()["rows"]] == ["a", "slow"]


def test_what_is_lacking_is_counted(tmp_path):
    made = Made(tmp_path, {"a": steady("a", lacks=lambda case: "no time")})
    made.run.times([TOY, TOY])
    assert made.read()["lacks"] == {"a": {"no time": 2}}


def test_a_wrong_version_is_not_timed(tmp_path, numpy_alone, capsys):
    numpy_alone(wrong("deform_conv2d"))
    path = tmp_path / "toy.json"
    assert bench.main(["--toy", "--repeats", "1", "--output", str(path)]) == 1
    record = json.loads(path.read_text())
    assert "differs" in record["wrong"]["numpy v1"]
    assert record["rows"] == []
    assert "numpy v1 is taken out" in capsys.readouterr().out


def fused(channels):
    """A registry's v3 that is wrong on layers of so many channels alone."""

    def change(operators):
        def run(**given):
            found = operators["deform_conv2d_backward"].run(**given)
            if given["x"].shape[1] == channels:
                found["weight"].flat[-1] += 1
            return found

        backward = operators["deform_conv2d_backward"]._replace(run=run)
        return operators | {"deform_conv2d_backward": backward}

    return change(array_program.operators(np))


@pytest.mark.parametrize("channels", [3, 5])
def test_a_version_that_is_wrong_on_one_layer_is_not_timed_there(
    tmp_path, monkeypatch, numpy_alone, channels
):
    """No problem that is checked before has three channels; the record says it."""
    versions = {STAGED: array_program.operators(np), FUSED: fused(channels)}
    monkeypatch.setitem(registry.BACKENDS, "cupy", registry.Backend(lambda: versions))
    monkeypatch.setattr(bench_cases, "TOY", bench_cases.Shape("three channels", 1, 3, 4, 3, 1))
    monkeypatch.setattr(bench_start, "measured", lambda **given: {})
    path = tmp_path / "toy.json"
    assert bench.main(["--toy", "--repeats", "1", "--output", str(path)]) == (channels == 3)
    record, said = json.loads(path.read_text()), "grad weight differs from that of cupy v2"
    of_toy = [row for row in record["rows"] if row["operator"] == TOY.operator]
    rows = {(row["contestant"], row["part"]): row for row in of_toy}
    assert rows["cupy v3", FORWARD]["median_ms"] > 0
    assert rows["cupy v2", BACKWARD]["median_ms"] > 0
    if channels == 5:
        assert record["wrong"] == {}
        assert rows["cupy v3", BACKWARD]["median_ms"] > 0
        return
    row, (wrong,) = rows["cupy v3", BACKWARD], record["wrong"].items()
    assert row["failed"] == f"RuntimeError: {said} on an exact problem"
    assert "median_ms" not in row
    assert wrong == (f"cupy v3 in deform_conv2d, {BACKWARD}, three channels, float32",
                     f"{said} on an exact problem")  # fmt: skip


def test_a_whole_run(tmp_path, numpy_alone, monkeypatch):
    numpy_alone()
    monkeypatch.setattr(bench_start, "measured", lambda **given: {"cold": {}})
    arguments = ["--toy", "--repeats", "1", "--commit", "abc", "--output", str(tmp_path)]
    assert bench.main(arguments) == 0
    (path,) = tmp_path.glob("toy-*.json")
    record = json.loads(path.read_text())
    assert record["complete"]
    assert record["commit"] == "abc"
    assert {row["contestant"] for row in record["rows"]} == {"numpy v1"}
    operators = {"deform_conv2d", "deform_roi_pool", "deform_ps_roi_pool"}
    assert {row["operator"] for row in record["rows"]} == operators
    assert {row["precision"] for row in record["errors"]} == {"float32", "float16"}
    assert record["start"] == {"cold": {}}
    assert bench_record.newest(tmp_path) is None  # a toy's times are not a device's


def test_first_calls_are_measured_in_processes_of_their_own(monkeypatch):
    """Twice the same command, with the same new folders; what goes wrong is said."""
    seen = []

    class Done:
        stdout = 'chatter\n{"imports": 1.0}\n'

    def run(command, *, env, **given):
        seen.append((command, {name: env[name] for name in bench_start.CACHES}))
        return Done

    monkeypatch.setattr(bench_start.subprocess, "run", run)
    found = bench_start.measured(toy=True, seconds=9)
    assert found == {"cold": {"imports": 1.0}, "warm": {"imports": 1.0}}
    assert seen[0] == seen[1]
    assert seen[0][0][-2:] == ["deformable_convnets.gpu.bench_start", "--toy"]

    def fails(command, **given):
        raise bench_start.subprocess.CalledProcessError(1, command, stderr="a\nOSError: gone")

    monkeypatch.setattr(bench_start.subprocess, "run", fails)
    assert bench_start.measured(toy=True, seconds=9) == {"failed": "OSError: gone"}


def test_the_state_of_the_device_is_in_the_record():
    asked = []

    def run(command):
        asked.append(command)
        if command[0] == "git":
            return {"rev-parse": "abc", "status": " M gpu/bench.py"}[command[3]]
        if "driver_version" in command[1]:
            return "580.1"
        return "1980 MHz, 3201 MHz, 1980 MHz, 40, 300 W, 0 %, 5 MiB, P0"

    found = bench_record.environment(MADE_UP, run)
    assert (found["driver"], found["commit"]) == ("580.1", "abc and changes")
    assert found["before"]["clocks.sm"] == "1980 MHz"
    assert found["before"]["pstate"] == "P0"
    assert all("-lgc" not in word and "-pm" not in word for command in asked for word in command)
    without = bench_record.environment(MADE_UP, lambda command: None)
    assert (without["driver"], without["commit"]) == (None, None)


def test_the_newest_record_is_found(tmp_path):
    def keep(name, **entries):
        about = {"format": bench_record.FORMAT, "clock": "CuPy events", "date": "2026-01-01"}
        about["device"] = "A"
        (tmp_path / name).write_text(json.dumps(about | entries))

    assert bench_record.newest(tmp_path) is None
    keep("b.json")
    keep("a.json", date="2026-02-01")
    keep("c.json", date="2027-01-01", clock="wall clock")
    keep("d.json", date="2027-01-01", format=1)
    assert bench_record.newest(tmp_path)["path"].endswith("a.json")
    assert bench_record.newest(tmp_path / "b.json")["date"] == "2026-01-01"
    assert bench_record.newest(tmp_path / "c.json") is None


def test_each_run_has_a_file_of_its_own(tmp_path):
    path = bench_record.path_of(tmp_path, "NVIDIA H200", "2026-11-22T22:32:42+00:00")
    assert path == tmp_path / "nvidia-h200-2026-11-22T223242.json"
    assert bench_record.path_of(tmp_path / "x.json", "", "") == tmp_path / "x.json"
