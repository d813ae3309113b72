"""Records of several devices: which are taken, the README's tables, the plot. All are made up."""

import json
import re

import pytest
from gpu_bench import changed, good

from deformable_convnets.gpu import bench, bench_record, bench_report, bench_targets
from deformable_convnets.gpu.bench_cases import FORWARD, SHAPES

OLD, NEW = "2026-01-01T00:00:00", "2027-01-01T00:00:00"


@pytest.fixture
def folder(tmp_path):
    """Two runs on an H200, one on an A100, which is newer, and one by the wall clock."""

    def keep(name, **entries):
        (tmp_path / f"{name}.json").write_text(json.dumps(good() | entries))

    keep("old", date=OLD, commit="old")
    keep("new", commit="new")
    keep("a100", device="NVIDIA A100", date=NEW, commit="a100")
    keep("toy", device="toy", date=NEW, clock="wall clock")
    return tmp_path


def test_the_newest_of_each_device_is_taken(folder):
    records = bench_record.newest_of_each(folder)
    found = [(r["device"], r["commit"]) for r in records]
    assert found == [("NVIDIA A100", "a100"), ("NVIDIA H200", "new")]
    assert bench_record.newest(folder)["commit"] == "a100"
    assert [r["commit"] for r in bench_record.newest_of_each(folder / "old.json")] == ["old"]


def test_the_readme_has_a_table_for_each(folder, tmp_path, monkeypatch, capsys):
    records = bench_record.newest_of_each(folder)
    said = bench_report.markdown(records)
    assert said == "\n".join(bench_report.markdown([r]) for r in records)
    assert re.findall(r"^(NVIDIA \w+), driver", said, re.MULTILINE) == [
        "NVIDIA A100",
        "NVIDIA H200",
    ]
    assert len(re.findall(rf"^\| {SHAPES[0].name} \|", said, re.MULTILINE)) == 2
    (tmp_path / "README.md").write_text(bench_report.BEGIN + "x" + bench_report.END)
    monkeypatch.chdir(tmp_path)
    assert bench.main(["--readme", "--output", str(folder)]) == 0
    assert capsys.readouterr().out == "README.md: 2 tables\n"
    assert bench_report.section((tmp_path / "README.md").read_text()) == said


def test_what_deforming_costs():
    slow = {"contestant": "cuDNN conv2d", "precision": "tf32", "shape": SHAPES[3].name}
    record = changed(good(), entry="median_ms", to=0.7, **slow)
    said = bench_report.markdown([record])
    assert (
        f"the slowest layer: float32 2.00x ({SHAPES[0].name}), tf32 0.70x ({SHAPES[3].name})"
        in said
    )
    none = bench_report.markdown([good() | {"rows": []}])
    assert "the slowest layer: float32 –, tf32 –, float16 –, bfloat16 –." in none  # noqa: RUF001


def test_the_targets_judge_the_device_that_they_are_for(folder, capsys):
    records = bench_record.newest_of_each(folder)
    assert bench_targets.to_judge(records)["commit"] == "new"
    assert bench_targets.to_judge(records[:1])["device"] == "NVIDIA A100"
    assert bench_targets.to_judge([]) is None
    assert bench.main(["--summary", "--output", str(folder)]) == 0
    assert "NVIDIA H200, driver 580.1, commit new" in capsys.readouterr().out
    (folder / "new.json").unlink(), (folder / "old.json").unlink()
    assert bench.main(["--summary", "--output", str(folder)]) == 1
    assert "not on an H200" in capsys.readouterr().out


def test_the_plot_has_a_column_for_each(folder, monkeypatch):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    drawn = []
    monkeypatch.setattr(pyplot, "close", drawn.append)
    records = bench_record.newest_of_each(folder)
    bench_report.plot(records, folder / "speed.svg")
    monkeypatch.undo()
    [figure] = drawn
    titles = [axes.get_title() for axes in figure.axes]
    assert [t.split(",")[0] for t in titles if t] == [
        f"deform_conv2d on {r['device']}" for r in records
    ]
    heights = [[patch.get_height() for patch in axes.patches] for axes in figure.axes]
    bars = [h for heights in bench_report.bars(records[0], FORWARD).values() for h in heights]
    assert heights == [bars] * 4
    pyplot.close(figure)
