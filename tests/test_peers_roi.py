"""RoI pooling against MXNet, OpenVINO and torchvision, each in an environment of its own.

`make test-peers PEER=mxnet` makes one of them; without it its tests are skipped.
"""

import json
from typing import Any

import numpy as np
import pytest
from bench import report, roi, roi_peers
from bench.agreement import agree, reaches_everything
from bench.peers import available, child
from bench.record import RECORD, record
from bench.roi_cases import CLEARANCE, FEATURES, clearance, random_case
from test_peers import Stub

from deformable_convnets import reference

CASES = 200
# Float32 rounds a coordinate of up to some 30 pixels a few times, and a sample moves with it by
# 30 * 4 * 2**-24 = 7e-6 of the steps of the map. Ours is computed in float64 from the same numbers.
SINGLE = 1e-5
DOUBLE = 1e-12  # sums of at most 200 terms: some 1e-14
ALIGN_HAS_NO = frozenset(
    {"offset", "several class groups", "parts are not bins", "groups are not bins"}
)
POOLING = ("deform_ps_roi_pool", "deform_ps_roi_pool_backward")
OPENVINO_HAS_NO = frozenset({"groups are not bins"})


def needs(peer: str) -> pytest.MarkDecorator:
    reason = f"{peer} is in no extra; `make test-peers PEER={peer}` installs it"
    return pytest.mark.skipif(not available(peer), reason=reason)


@needs("mxnet")
def test_equals_the_authors_operator_in_mxnet() -> None:
    cases = [random_case(seed, "mxnet") for seed in range(CASES)]
    reaches_everything(cases, FEATURES)
    with child("mxnet") as mxnet:
        errors = roi_peers.errors(cases, mxnet, "float32")
        record("MXNet DeformablePSROIPooling", mxnet.versions, len(cases), SINGLE, errors)
    assert errors.keys() == {"y", "x", "offset"}
    agree(errors, SINGLE)


@needs("mxnet")
def test_psroipooling_of_mxnet_is_another_rule() -> None:
    """Its bins are whole pixels too, but the RoI is rounded and its last row and column counted."""
    x, rois = np.arange(64.0).reshape(1, 1, 8, 8), np.array([[0.0, 0, 0, 3, 3]])
    arguments = {"x": x.repeat(4, axis=1), "rois": rois, "output_size": 2}
    with child("mxnet") as mxnet:
        theirs = mxnet.call("PSROIPooling", arguments).ravel().tolist()
    ours = reference.roi_pool(x, rois, 2).ravel().tolist()
    assert theirs == [4.5, 6.5, 20.5, 22.5]
    assert ours == [4.5, 5.5, 12.5, 13.5]


@needs("openvino")
def test_equals_openvino() -> None:
    cases = [random_case(seed, "openvino") for seed in range(CASES)]
    reaches_everything(cases, FEATURES, OPENVINO_HAS_NO)
    with child("openvino") as openvino:
        errors = roi_peers.errors(cases, openvino, "float32")
        record("OpenVINO DeformablePSROIPooling", openvino.versions, len(cases), SINGLE, errors)
    assert errors.keys() == {"y"}
    agree(errors, SINGLE)


@needs("torchvision")
@pytest.mark.parametrize("operator", ["roi_align", "ps_roi_align"])
def test_equals_torchvision(operator: str) -> None:
    cases = [random_case(seed, operator) for seed in range(CASES)]
    reaches_everything(cases, FEATURES, ALIGN_HAS_NO)
    with child("torchvision") as torchvision:
        errors = roi_peers.errors(cases, torchvision)
        record(f"torchvision {operator}", torchvision.versions, len(cases), DOUBLE, errors)
    assert errors.keys() == {"y", "x"}
    agree(errors, DOUBLE)


@pytest.mark.parametrize("spoiled", ["y", "x", "offset"])
def test_errors_sees_one_wrong_array(spoiled: str) -> None:
    cases = [random_case(seed, "mxnet") for seed in range(8)]
    errors = roi_peers.errors(cases, Stub(spoiled, *POOLING))
    assert {name for name, value in errors.items() if value > SINGLE} == {spoiled}
    with pytest.raises(AssertionError, match=spoiled):
        agree(errors, SINGLE)


def test_reaches_everything_raises() -> None:
    for name in FEATURES:
        cases = [c for c in (random_case(s, "mxnet") for s in range(60)) if FEATURES[name](c)]
        with pytest.raises(AssertionError, match=f"'{name}', False"):
            reaches_everything(cases, FEATURES)


def test_clearance_sees_a_point_near_a_kink() -> None:
    case = random_case(1, "mxnet")._replace(offset=None)
    case.options.update(spatial_scale=1.0, samples=1)
    for corner, distance in ((0, 0.0), (0.5 + 1e-5, 0.0), (2, 0.0)):
        rois = np.array([[0.0, corner, corner, corner + 2, corner + 2]])
        assert clearance(case._replace(rois=rois)) == pytest.approx(distance, abs=1e-9)
    assert clearance(random_case(1, "mxnet")) > CLEARANCE


def test_the_record_has_every_comparison() -> None:
    entries = json.loads(RECORD.read_text())
    assert sorted(entries) == [
        "MXNet DeformablePSROIPooling", "ONNX Runtime DeformConv",
        "OpenVINO DeformablePSROIPooling", "torchvision deform_conv2d",
        "torchvision ps_roi_align", "torchvision roi_align",
    ]  # fmt: skip
    for entry in entries.values():
        agree(entry["largest errors"], entry["tolerance"])
        assert entry["cases"] == CASES


def test_record_replaces_one_entry(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "peers.json"
    monkeypatch.delenv("PEERS_RECORD", raising=False)
    record("a", {}, 1, 1.0, {"y": 0.5})
    assert not path.exists()
    monkeypatch.setenv("PEERS_RECORD", str(path))
    for name, error in (("b", 0.25), ("a", 0.5), ("b", 0.75)):
        record(name, {"b": "1"}, 1, 1.0, {"y": error})
    entries = json.loads(path.read_text())
    assert [(n, e["largest errors"]["y"]) for n, e in entries.items()] == [("a", 0.5), ("b", 0.75)]


def test_speeds_in_the_readme_are_those_of_the_measurement() -> None:
    results, readme = json.loads(roi.RESULTS.read_text()), report.README.read_text()
    assert report.section(readme, "roi") == report.roi_markdown(results)
    results["milliseconds"]["forward"]["median"] += 1
    assert report.section(readme, "roi") != report.roi_markdown(results)
    with pytest.raises(ValueError, match="expected one section"):
        report.section("# No section", "roi")


def test_the_timed_calls_are_what_the_readme_says() -> None:
    case = roi.problem()
    assert case.x.shape == (1, 256, 38, 63)
    assert case.ours().shape == (300, 256, 7, 7)
    assert case.ours().dtype == np.float32
    assert roi.aligned(case).options["bins"] == "align"
