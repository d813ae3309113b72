"""The command that measures which version is the faster one, with a made-up clock and device."""

import json

import numpy as np
import pytest
from gpu_bench import wrong

from deformable_convnets.gpu import bench_arrays, bench_cases, clocks, registry, tune
from deformable_convnets.gpu.bench_cases import BACKWARD, FORWARD, Shape
from deformable_convnets.gpu.cupy_kernels import array_program, choices
from deformable_convnets.gpu.cupy_kernels.choices import FUSED, STAGED, Machine, Task

SMALL, SMALLER = Shape("small", 1, 2, 5, 4, 1), Shape("smaller", 2, 3, 2, 2, 1)
DEVICE = Machine("Made Up 9000")
PRECISIONS = ("float32", "tf32", "float16")


class Device:
    """Two versions on NumPy, and a clock that shows what `takes` says of (version, operator)."""

    def __init__(self, monkeypatch):
        self.last, self.changes = None, {}
        self.takes = lambda version, operator: 1.0 if version == STAGED else 2.0
        backend = registry.Backend(self.versions)
        monkeypatch.setattr(registry, "BACKENDS", {"cupy": backend})
        monkeypatch.setattr(bench_arrays, "OF", {})
        monkeypatch.setattr(tune, "SHAPES", [SMALL, SMALLER])
        monkeypatch.setattr(bench_cases, "QUICK", [SMALL])
        monkeypatch.setattr(
            bench_cases, "PRECISIONS", {p: bench_cases.PRECISIONS[p] for p in PRECISIONS}
        )
        monkeypatch.setattr(tune, "PRECISIONS", PRECISIONS)
        monkeypatch.setattr(tune, "clock", self.clock)

    def clock(self, toy):
        def time(call, ahead):
            call()
            return self.takes(*self.last)

        return clocks.Clock(DEVICE.name, "made up", time, lambda: None)

    def versions(self):
        made = {name: array_program.operators(np) for name in (STAGED, FUSED)}
        made = {name: self.changes.get(name, lambda a: a)(a) for name, a in made.items()}
        return {name: {o: self.noted(name, o, v) for o, v in a.items()} for name, a in made.items()}

    def noted(self, name, operator, version):
        def run(precision="exact", **given):
            self.last = name, operator
            return version.run(**given)

        return version._replace(run=run, takes=frozenset({"precision"}))


@pytest.fixture
def device(monkeypatch, tmp_path):
    monkeypatch.setenv("DEFORMABLE_CONVNETS_CACHE", str(tmp_path))
    choices.forget()
    yield Device(monkeypatch)
    choices.forget()


def test_every_case_is_in_the_table(device, tmp_path, capsys):
    device.takes = lambda version, operator: {
        (STAGED, "deform_conv2d"): 3.0, (FUSED, "deform_conv2d"): 2.0,
        (STAGED, "deform_conv2d_backward"): 4.0, (FUSED, "deform_conv2d_backward"): 5.0,
    }[version, operator]  # fmt: skip
    assert tune.main(["--repeats", "3"]) == 0
    path = tmp_path / "choices" / "made-up-9000.json"
    table = choices.read(path)
    assert table.device == DEVICE.name
    assert {e.task for e in table.entries} == {
        Task(operator, p, C, C, pixels)
        for operator in choices.OPERATORS for p in PRECISIONS for C, pixels in ((2, 20), (3, 8))
    }  # fmt: skip
    for entry in table.entries:
        fused = entry.task.operator == "deform_conv2d"
        expected = {STAGED: 3.0, FUSED: 2.0} if fused else {STAGED: 4.0, FUSED: 5.0}
        assert entry.milliseconds == expected
        assert choices.choose(entry.task, DEVICE) == (FUSED if fused else STAGED)
    said = capsys.readouterr().out
    assert "deform_conv2d, forward, small, tf32: v2 3.000, v3 2.000\n" in said
    assert said.endswith(f"12 entries: {path}\n")


def test_the_table_says_where_it_is_from(device, tmp_path):
    assert tune.main(["--repeats", "1", "--quick", "--output", str(tmp_path / "a.json")]) == 0
    data = json.loads((tmp_path / "a.json").read_text())
    assert {e["C"] for e in data["entries"]} == {2}
    assert data["versions"]["numpy"] == np.__version__
    assert set(choices.ABOUT) <= set(data)


def test_a_spoilt_table_is_measured_again(device, tmp_path):
    """As its error says."""
    path = tmp_path / "choices" / "made-up-9000.json"
    path.parent.mkdir()
    path.write_text("{")
    assert tune.main(["--repeats", "1", "--quick"]) == 0
    assert choices.read(path).device == DEVICE.name


def test_the_median_counts(device):
    turns = iter([9.0, 1.0, 2.0] * 1000)
    device.takes = lambda version, operator: next(turns)
    given = tune.versions()
    where = [bench_cases.Case("deform_conv2d", FORWARD, SMALL, "float32")]
    limits = tune.bench_measure.Limits(rounds=3)
    [entry] = tune.measured(device.clock(False), {STAGED: given[STAGED]}, where, limits)
    assert entry.milliseconds == {STAGED: 2.0}


def test_a_wrong_version_has_no_part(device, tmp_path, capsys):
    device.changes[FUSED] = wrong("deform_conv2d")
    device.takes = lambda version, operator: 9.0 if version == STAGED else 1.0
    assert tune.main(["--repeats", "1", "--quick"]) == 0
    assert "v3 is taken out: y of deform_conv2d differs" in capsys.readouterr().out
    table = choices.read(tmp_path / "choices" / "made-up-9000.json")
    assert {tuple(e.milliseconds) for e in table.entries} == {(STAGED,)}


@pytest.mark.parametrize("operator", choices.OPERATORS)
def test_a_version_that_is_wrong_in_one_case_has_no_time_there(device, tmp_path, capsys, operator):
    """Float16 with three channels: no small exact problem in float32 would show it."""

    def is_wrong(operators):
        def run(**given):
            found = operators[operator].run(**given)
            if given["x"].dtype == np.float16 and given["x"].shape[1] == SMALLER.C:
                (found["weight"] if isinstance(found, dict) else found).flat[-1] += 1
            return found

        return operators | {operator: operators[operator]._replace(run=run)}

    device.changes[FUSED] = is_wrong
    device.takes = lambda version, operator: 9.0 if version == STAGED else 1.0
    assert tune.main(["--repeats", "1"]) == 0
    name = "y" if operator == "deform_conv2d" else "grad weight"
    said = f"{name} differs from that of cupy v2 on an exact problem"
    assert f"float16: v2 9.000, v3 RuntimeError: {said}\n" in capsys.readouterr().out
    table = choices.read(tmp_path / "choices" / "made-up-9000.json")
    bad = [e.task for e in table.entries if FUSED not in e.milliseconds]
    assert bad == [Task(operator, "float16", SMALLER.C, SMALLER.C, 8)]
    assert choices.choose(bad[0], DEVICE) == STAGED
    assert len(table.entries) == 12


def test_a_version_that_fails_has_no_time(device, tmp_path, capsys):
    def fails(operators):
        def run(**given):
            if given["x"].shape[1] == SMALL.C and given["x"].shape[2] == SMALL.H:
                raise RuntimeError("too large")
            return operators["deform_conv2d_backward"].run(**given)

        backward = operators["deform_conv2d_backward"]._replace(run=run)
        return operators | {"deform_conv2d_backward": backward}

    device.changes[FUSED] = fails
    assert tune.main(["--repeats", "1"]) == 0
    assert "v3 RuntimeError: too large" in capsys.readouterr().out
    table = choices.read(tmp_path / "choices" / "made-up-9000.json")
    failed = {e.task.pixels for e in table.entries if FUSED not in e.milliseconds}
    assert failed == {20}


def test_a_run_that_is_stopped_keeps_what_it_has(device, tmp_path):
    def stops(version, operator):
        if operator == "deform_conv2d_backward":
            raise KeyboardInterrupt
        return 1.0

    device.takes = stops
    with pytest.raises(KeyboardInterrupt):
        tune.main(["--repeats", "1"])
    [path] = (tmp_path / "choices").iterdir()
    assert len(choices.read(path).entries) == 1


def test_nothing_to_measure(device, monkeypatch, tmp_path, capsys):
    device.changes = {name: wrong("deform_conv2d") for name in (STAGED, FUSED)}
    assert tune.main([]) == 1
    assert capsys.readouterr().out.endswith("nothing to measure: no version is left\n")
    gone = registry.Backend(dict, lambda: "CuPy is not installed")
    monkeypatch.setattr(registry, "BACKENDS", {"cupy": gone})
    assert tune.main([]) == 1
    assert capsys.readouterr().out.startswith("nothing to measure: CuPy is not installed. In a")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("options", [["--repeats", "0"], ["--repeats", "x"], ["--device", "a"]])
def test_bad_options(options, capsys):
    with pytest.raises(SystemExit):
        tune.main(options)
    said = capsys.readouterr().err
    name = options[0] if options[0] == "--device" else f"{options[1]!r}, expected a whole number"
    assert name in said


def test_the_layers_of_a_table():
    """Those of the benchmark and smaller ones, each in its own place."""
    tasks = {tune.task_of(case) for case in tune.cases(tune.SHAPES)}
    assert len(tasks) == len(tune.cases(tune.SHAPES)) == 14 * 4 * 2
    assert {t.C for t in tasks} == {64, 128, 256, 512}
    assert {case.part for case in tune.cases(tune.SHAPES)} == {FORWARD, BACKWARD}
