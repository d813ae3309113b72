"""Adapters of other libraries: the same bits as the reference on exact problems that they can do.

What has no environment here is skipped; `make test-peers` makes the environments.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench.peers import ROOT, available

from deformable_convnets import reference
from deformable_convnets.reference.oracle import features, peers, problems, roi_problems
from deformable_convnets.reference.oracle.child import CannotStart, Remote
from deformable_convnets.reference.oracle.failures import NotSupported
from deformable_convnets.reference.oracle.implementation import (
    NAMES,
    VOLUMES,
    Implementation,
)

OURS = [("reference", "zero"), ("reference", "dcnv1"), ("gpu-array-program", "zero"),
        ("gpu-array-program", "dcnv1"), ("gpu-numba", "zero"),
        ("gpu-numba-v2", "dcnv1")]  # fmt: skip
THEIRS = [("onnxruntime", "zero"), ("torchvision", "zero"), ("mxnet", "dcnv1"), ("mxnet", "zero"),
          ("openvino", "zero"), ("openvino", "dcnv1"), ("paddle", "zero")]  # fmt: skip
POOLS = {
    "mxnet": "mxnet",
    "openvino": "mxnet",
    "torchvision": "align",
    "gpu-array-program": "paper",
}
COUNT = 24


def opened(name: str, **options: Any) -> Iterator[Implementation]:
    if peers.PEERS[name].environment and not available(name):
        pytest.skip(f"{name} is in no extra; `make test-peers PEER={name}` installs it")
    try:
        found = peers.implementation(name, python=peers.python_of(name, ROOT), **options)
    except CannotStart as error:
        pytest.skip(str(error))
    yield found
    peers.close(found)


@pytest.fixture
def peer(request: pytest.FixtureRequest) -> Iterator[Implementation]:
    name, border = request.param
    yield from opened(name, operator="deform_conv2d", border=border)


def asked(problem: Any) -> dict[str, Any]:
    a = {n: getattr(problem, n) for n in ("x", "offset", "weight", "bias", "mask", "border")}
    return a | problem.options


def agrees(i: Implementation, operator: str, a: dict[str, Any], grad: Any) -> bool:
    """Whether it was asked and gave the same bits, or at a kink something between both sides."""
    if i.lacks & features.of(operator, a):
        return False
    try:
        y = getattr(i, operator)(**a)
    except NotSupported:
        return False
    right = getattr(reference, operator)(**a)
    assert (y.dtype, y.shape) == (right.dtype, right.shape)
    assert (y == right).all()
    if i.offers(f"{operator}_backward"):
        backward = getattr(reference, f"{operator}_backward")
        sides = [{"side": "right"}, {"side": "left"}] if a.get("offset") is not None else [{}, {}]
        right, left = (backward(grad, **a, **side) for side in sides)
        found = getattr(i, f"{operator}_backward")(grad, **a)
        found = found if isinstance(found, dict) else found._asdict()
        for name in (name for name, value in right._asdict().items() if value is not None):
            low, high = np.sort([getattr(right, name), getattr(left, name)], axis=0)
            assert ((low <= found[name]) & (found[name] <= high)).all(), name
    return True


@pytest.mark.parametrize("peer", OURS + THEIRS, indirect=True, ids=lambda p: "-".join(p))
def test_a_peer_gives_the_same_convolution(peer: Implementation) -> None:
    (border,) = (b for b in peers.BORDERS if f"the {b} border" not in peer.lacks)
    tried, count = 0, 4 if peer.examples == peers.SIMULATED else COUNT
    for dtype in peer.dtypes:
        for problem in problems.some(count, "base", "kinks", dtype=dtype):
            problem = problem.with_(border=border)
            if "no images" in features.of("deform_conv2d", asked(problem)) and peer.name == "mxnet":
                continue  # it dies; see its notes
            tried += agrees(peer, "deform_conv2d", asked(problem), problem.grad_output)
    assert tried >= count / 3


@pytest.mark.parametrize("name", POOLS)
def test_a_peer_gives_the_same_pooling(name: str) -> None:
    for i in opened(name):
        tried, operators = 0, [name for name in i.call if name.endswith("pool")]
        for problem in roi_problems.some(80, "odd", dtype="float32", rules=(POOLS[name],)):
            s = problem.shape
            for operator in operators:
                a = {"x": problem.x, "rois": problem.rois, "output_size": s.output, **problem.rule}
                if "deform" in operator:
                    a |= {"offset": problem.offset, "gamma": problem.gamma}
                if "ps" in operator:
                    a["group_size"] = s.group
                elif s.group != (1, 1) or s.part != s.output:
                    continue
                if operator == "deform_ps_roi_pool":
                    a["part_size"] = s.part
                tried += agrees(i, operator, a, problem.grad_output)
        assert tried >= 10


def test_onnx_reference_gives_the_same_on_larger_maps() -> None:
    for i in opened("onnx-reference"):
        assert (i.examples, set(i.call)) == (20, {"deform_conv2d"})
        large = [p for p in problems.some(60, "base", dtype="float64") if min(p.x.shape[2:]) > 1]
        asks = [asked(p.with_(border="zero")) for p in large]
        assert sum(agrees(i, "deform_conv2d", a, None) for a in asks) >= 3


def test_every_peer_is_declared_in_our_words() -> None:
    for name, about in peers.PEERS.items():
        for offer in about.offers:
            assert offer.operator in NAMES + VOLUMES, name
            assert offer.lacks <= features.WORDS.keys(), name
            assert set(offer.dtypes) <= set(peers.DTYPES)
            assert offer.border in (None, *peers.BORDERS)


def test_the_makefile_installs_the_packages_of_the_peers() -> None:
    makefile = (ROOT / "Makefile").read_text()
    made = dict(re.findall(r"^\.venv-(\w+)/\.installed: PACKAGES = (.*)$", makefile, re.M))
    needed = {p.environment: p.packages for p in peers.PEERS.values() if p.environment}
    assert made == needed
    (names,) = re.findall(r"^PEER = (.*)$", makefile, re.M)
    assert names.split() == [name for name, p in peers.PEERS.items() if p.environment]


def test_borders_and_operators_narrow_what_is_offered() -> None:
    zero, both = (peers.implementation("reference", border=b) for b in ("zero", None))
    assert zero.lacks == {"the dcnv1 border"}
    assert not both.lacks
    assert set(both.call) == {*NAMES, "deform_conv3d", "deform_conv3d_backward"}
    one = peers.implementation("reference", operator="sample")
    assert set(one.call) == {"sample", "sample_backward"}
    offers = peers.PEERS["mxnet"].chosen("deform_conv2d", "dcnv1")
    assert offers["deform_conv2d"].title == "DeformableConvolution"
    with pytest.raises(ValueError, match="there is no peer 'caffe', only reference, torchvision"):
        peers.implementation("caffe")
    with pytest.raises(ValueError, match="torchvision has no deform_conv2d with border='dcnv1'"):
        peers.implementation("torchvision", operator="deform_conv2d", border="dcnv1")


def test_where_the_python_of_a_peer_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MXNET_PYTHON", raising=False)
    own = tmp_path / ".venv-mxnet" / "bin" / "python"
    assert peers.python_of("mxnet", tmp_path) != own
    own.parent.mkdir(parents=True)
    own.touch()
    assert peers.python_of("mxnet", tmp_path) == own
    monkeypatch.setenv("ONNX_REFERENCE_PYTHON", "/an/other")
    assert peers.python_of("onnx-reference") == Path("/an/other")


def test_a_missing_library_says_what_to_do(tmp_path: Path) -> None:
    """The standard library alone, as in an environment in which nothing was installed."""
    import venv

    venv.create(tmp_path / "bare", with_pip=False, symlinks=True)
    bare = tmp_path / "bare" / "bin" / "python"
    with pytest.raises(CannotStart, match=r"mxnet: .*No module named 'numpy'; .*PEER=mxnet"):
        peers.implementation("mxnet", python=bare)


def test_the_simulator_affords_less() -> None:
    for i in opened("gpu-numba"):
        assert i.fixed_shapes
        assert i.examples == (peers.SIMULATED if "device" in i.versions else 100)
        assert isinstance(i.deform_conv2d, Remote)
