"""Targets, summary, README and plot of the benchmark of the kernels, on made-up records."""

import json
import re
from pathlib import Path

import pytest
from gpu_bench import OURS, REPEATABLE, STAGED, changed, good

from deformable_convnets.gpu import bench, bench_record, bench_report, bench_targets
from deformable_convnets.gpu.bench_cases import BACKWARD, FORWARD, PRECISIONS, SHAPES
from deformable_convnets.gpu.bench_targets import ELSEWHERE, MET, MISSED, UNMEASURED

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
FORWARD_FLOAT32 = "forward / torchvision, float32, 512 channels"


def verdicts(record):
    return {v.target.what: v for v in bench_targets.judged(record)}


def test_a_good_record_meets_every_target():
    found = verdicts(good())
    assert {v.verdict for v in found.values()} == {MET}
    assert found[FORWARD_FLOAT32].worst == 5.0
    assert found["workspace of deform_conv2d, all gradients"].worst == 20.0


def test_the_targets_are_those_that_were_set():
    limits = {t.what: t.limit for t in bench_targets.TARGETS}
    assert limits == {
        "forward / torchvision, float32, 512 channels": 1.8,
        "forward / torchvision, float32, up to 256": 2.5,
        "forward / torchvision, tf32, 512 channels": 1.8,
        "forward / torchvision, tf32, up to 256": 3.0,
        "forward / torchvision, float16, 512 channels": 2.2,
        "forward / torchvision, float16, up to 256": 4.0,
        "forward / plain cuDNN, float32, N < 8": 1.3,
        "forward / plain cuDNN, float32, N >= 8": 1.3,
        "forward / plain cuDNN, tf32, N < 8": 0.65,
        "forward / plain cuDNN, tf32, N >= 8": 0.65,
        "forward / plain cuDNN, float16, N < 8": 0.6,
        "forward / plain cuDNN, float16, N >= 8": 0.7,
        "forward / plain cuDNN, bfloat16, N < 8": 0.6,
        "forward / plain cuDNN, bfloat16, N >= 8": 0.7,
        "all gradients / torchvision, float32": 3.0,
        "all gradients, deterministic / torchvision, float32": 2.0,
        "all gradients / torchvision, tf32": 4.0,
        "all gradients, deterministic / torchvision, tf32": 2.0,
        "all gradients / torchvision, float16": 5.0,
        "all gradients, deterministic / torchvision, float16": 2.0,
        "deform_roi_pool, forward / roi_align, float32": 1.0,
        "deform_roi_pool, all gradients / roi_align, float32": 1.0,
        "deform_roi_pool, forward / roi_align, float16": 1.0,
        "deform_roi_pool, all gradients / roi_align, float16": 1.0,
        "workspace of deform_conv2d, forward, cupy v2": 24,
        "workspace of deform_conv2d, forward, cupy v3": 0,
        "workspace of deform_conv2d, all gradients": 64,
        "relative error, float32": 2e-6,
        "relative error, tf32": 1e-3,
        "relative error, float16": 2e-3,
        "relative error, bfloat16": 1e-2,
    }


def breaking(what):
    """The columns of a row that decides on a target alone, and what makes it miss."""
    if what.startswith("relative error"):
        precision = what.split(", ")[1]
        return {"kind": "errors", "entry": "relative_error", "to": 0.1, "precision": precision}
    part = BACKWARD if "all gradients" in what else FORWARD
    if what.startswith("workspace"):
        named = STAGED if what.endswith(STAGED) else OURS
        return {"entry": "workspace_bytes", "to": 2**27, "part": part, "contestant": named}
    operator = "deform_roi_pool" if "roi" in what else "deform_conv2d"
    columns = {"operator": operator, "part": part, "entry": "median_ms", "to": 6.0}
    columns["precision"] = next(p for p in PRECISIONS if re.search(rf"\b{p}\b", what))
    columns["contestant"] = REPEATABLE if "deterministic" in what else OURS
    if "up to 256" in what:
        columns["shape"] = next(shape.name for shape in SHAPES if shape.C <= 256)
    if what.endswith("N >= 8"):
        columns["shape"] = next(shape.name for shape in SHAPES if shape.N >= 8)
    if part == FORWARD and operator == "deform_conv2d":  # ours is in two targets
        rival = "torchvision" if "torchvision" in what else "cuDNN conv2d"
        columns |= {"contestant": rival, "to": 0.1}
    return columns


@pytest.mark.parametrize("what", [t.what for t in bench_targets.TARGETS])
def test_each_target_can_be_missed_alone(what):
    found = verdicts(changed(good(), **breaking(what)))
    assert [w for w, v in found.items() if v.verdict != MET] == [what]
    assert found[what].verdict == MISSED


@pytest.mark.parametrize("what", [t.what for t in bench_targets.TARGETS])
def test_each_target_needs_all_its_layers(what):
    found = verdicts(changed(good(), **breaking(what) | {"to": None}))
    assert found[what].verdict == UNMEASURED
    assert found[what].measured == found[what].expected - 1


def test_a_row_that_failed_is_not_measured():
    broken = breaking(FORWARD_FLOAT32) | {"entry": "failed", "to": "OSError: gone"}
    assert verdicts(changed(good(), **broken))[FORWARD_FLOAT32].verdict == UNMEASURED


def test_a_nan_meets_nothing():
    broken = breaking("relative error, tf32") | {"to": float("nan")}
    assert verdicts(changed(good(), **broken))["relative error, tf32"].verdict == MISSED


def test_a_missed_layer_counts_though_others_are_not_measured():
    record = changed(good(), **breaking(FORWARD_FLOAT32))
    record = changed(record, entry="", to=None, shape=SHAPES[-1].name)
    assert verdicts(record)[FORWARD_FLOAT32].verdict == MISSED


def test_another_device_decides_nothing():
    record = good() | {"device": "NVIDIA A100"}
    assert {v.verdict for v in bench_targets.judged(record)} == {ELSEWHERE}


def test_no_record_measures_nothing():
    assert {v.verdict for v in bench_targets.judged(None)} == {UNMEASURED}


def kept(folder, record):
    (folder / "record.json").write_text(json.dumps(record))
    return str(folder)


def summary(folder, capsys):
    code = bench.main(["--summary", "--output", str(folder)])
    return code, capsys.readouterr().out


def test_the_summary_ends_with_1_without_a_record(tmp_path, capsys):
    code, said = summary(tmp_path, capsys)
    number = len(bench_targets.TARGETS)
    assert code == 1
    assert said.startswith("There is no record: nothing is measured.")
    assert said.endswith(f"0 met, 0 missed, {number} not measured\n")
    assert len(re.findall("^not measured ", said, re.MULTILINE)) == number


def test_the_summary_ends_with_0_where_all_is_met(tmp_path, capsys):
    code, said = summary(kept(tmp_path, good()), capsys)
    assert code == 0
    assert f"{len(bench_targets.TARGETS)} met, 0 missed, 0 not measured" in said
    line = f"deform_conv2d, {FORWARD}, {SHAPES[0].name}, float32: cupy v3 1.000 ms"
    line += " (1.000 to 1.000), cupy v2 2.00x (on device 2.00x), cupy v1 50.00x"
    line += " (on device 50.00x), cuDNN conv2d 2.00x"
    assert line + " (on device 2.00x), torchvision 5.00x" in said


@pytest.mark.parametrize("to", [6.0, None])
def test_the_summary_ends_with_1_where_one_is_not_met(tmp_path, capsys, to):
    record = changed(good(), **breaking("all gradients / torchvision, tf32") | {"to": to})
    code, said = summary(kept(tmp_path, record), capsys)
    assert code == 1
    assert ("1 missed, 0 not" if to else "0 missed, 2 not") in said  # without it no memory either


def test_the_summary_says_what_is_wrong_with_a_record():
    record = good() | {"complete": False, "wrong": {"a": "differs"}, "missing": {"b": "not here"}}
    said = bench_targets.summary(record, bench_targets.judged(record))
    assert "NOT COMPLETE" in said
    assert "WRONG, and not timed: a: differs" in said
    assert "left out: b: not here" in said


def test_the_readme_is_made_from_the_newest_records():
    records = bench_record.newest_of_each(ROOT / bench_record.FOLDER)
    assert bench_report.section(README) == bench_report.markdown(records)


def test_without_a_record_the_readme_says_so():
    assert "not yet measured" in bench_report.markdown([])
    assert not re.search(r"\d", bench_report.markdown([]).replace("PEERS=1", ""))


def test_another_record_is_seen_in_the_readme():
    readme = bench_report.with_section(README, [good()])
    assert bench_report.section(readme) == bench_report.markdown([good()])
    other = changed(good(), **breaking(FORWARD_FLOAT32))
    assert bench_report.section(readme) != bench_report.markdown([other])
    assert bench_report.with_section(readme, []) == bench_report.with_section(README, [])
    with pytest.raises(ValueError, match="expected one section"):
        bench_report.section("# No section")
    with pytest.raises(ValueError, match="expected one section"):
        bench_report.section(README + README)


def test_the_table_has_every_layer_and_no_figure_that_is_not_measured():
    said = bench_report.markdown([good()])
    assert all(f"| {shape.name} |" in said for shape in SHAPES)
    assert "1.000 (5.00×)" in said  # noqa: RUF001
    assert "([all figures](gpu/results/h200.json))" in said
    empty = bench_report.markdown([good() | {"rows": [], "errors": [], "complete": False}])
    assert "×)" not in empty  # noqa: RUF001
    assert SHAPES[0].name not in empty
    assert "The run was cut short." in empty


def test_the_readme_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "README.md").write_text(README)
    (tmp_path / "gpu" / "results").mkdir(parents=True)
    kept(tmp_path / "gpu" / "results", good())
    assert bench.main(["--readme"]) == 0
    expected = bench_report.markdown([good() | {"path": "record.json"}])
    assert bench_report.section((tmp_path / "README.md").read_text()) == expected
    assert capsys.readouterr().out == "README.md: a table\n"


def test_the_plot_has_a_bar_for_each_ratio(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    assert bench_report.bars(good(), FORWARD)["tf32"] == [5.0] * len(SHAPES)
    assert bench_report.bars(good() | {"rows": []}, FORWARD)["tf32"] == [0.0] * len(SHAPES)
    path = tmp_path / "speed.svg"
    assert bench.main(["--plot", str(path), "--output", kept(tmp_path, good())]) == 0
    drawn = path.read_text()
    assert "torchvision" in drawn or "<svg" in drawn
    assert bench.main(["--plot", str(path), "--output", str(tmp_path / "nothing")]) == 1
    assert "there is no record" in capsys.readouterr().out


def test_a_plot_without_matplotlib_says_what_it_needs(monkeypatch, tmp_path, capsys):
    def absent(name):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(bench_report, "import_module", absent)
    with pytest.raises(RuntimeError, match="--plot needs Matplotlib"):
        bench_report.plot([good()], tmp_path / "speed.svg")
    folder = kept(tmp_path, good())
    assert bench.main(["--plot", str(tmp_path / "speed.svg"), "--output", folder]) == 1
    assert "--plot needs Matplotlib" in capsys.readouterr().out
