"""The contestants of the benchmark that PyTorch brings, on tensors of the CPU."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is in no extra; `make test-torch` installs it")
pytest.importorskip("torchvision")

from deformable_convnets import reference  # noqa: E402
from deformable_convnets.gpu import (  # noqa: E402
    bench_cases,
    bench_contestants,
    bench_errors,
    bench_torch,
)
from deformable_convnets.gpu.bench_cases import BACKWARD, BOTH, FORWARD, Case  # noqa: E402

LAYER = bench_cases.Shape("small", 2, 6, 7, 9, 2)
ROIS = bench_cases.RoiShape("small", 5, 3, 8, 9, 2, 3)
PS_ROIS = ROIS._replace(group=2)
GRADIENTS = {"grad x", "grad offset", "grad weight"}


@pytest.fixture
def field():
    return bench_contestants.theirs(device="cpu")


@pytest.fixture(autouse=True)
def flags():
    """PyTorch's flags as they were."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark
    yield
    matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = before


def results(contestant, case):
    """As NumPy arrays, of the first and of a second call."""
    given = bench_cases.problem(case.shape)
    arrays = {name: contestant.arrays.take(a) for name, a in given.items()}
    call = contestant.prepare(case, arrays)
    made = [{name: a.numpy() for name, a in call().items()} for _ in range(2)]
    assert all(np.array_equal(a, made[1][name]) for name, a in made[0].items())
    return made[0]


@pytest.mark.parametrize("part", [FORWARD, BACKWARD])
def test_torchvision_does_what_we_do(field, part):
    case = Case("deform_conv2d", part, LAYER, "float32")
    rows = list(bench_errors.errors(case, {"torchvision": field["torchvision"]}))
    assert {row["result"] for row in rows} == ({"y"} if part == FORWARD else GRADIENTS)
    assert all(row["relative_error"] < 1e-5 for row in rows)


def test_another_operator_is_seen(field):
    """The plain convolution has no offsets, and is no rival in its results."""
    case = Case("deform_conv2d", FORWARD, LAYER, "float32")
    plain = field["cuDNN conv2d"]
    assert not plain.judged
    rows = list(bench_errors.errors(case, {"conv2d": plain._replace(judged=True)}))
    assert rows[0]["relative_error"] > 0.1


@pytest.mark.parametrize(
    ("name", "part", "expected"),
    [
        ("torchvision", BOTH, {"y"} | GRADIENTS),
        ("cuDNN conv2d", FORWARD, {"y"}),
        ("cuDNN conv2d", BACKWARD, {"grad x", "grad weight"}),
        ("cuDNN conv2d", BOTH, {"y", "grad x", "grad weight"}),
    ],
)
def test_each_part_has_its_results(field, name, part, expected):
    found = results(field[name], Case("deform_conv2d", part, LAYER, "float32"))
    given = bench_cases.problem(LAYER)
    assert set(found) == expected
    assert all(found[n].shape == given[n.removeprefix("grad ")].shape for n in expected - {"y"})


def test_roi_align_reads_as_many_points(field):
    """Without offsets ours is the same function, so the times are of the same work."""
    case = Case("deform_roi_pool", FORWARD, ROIS, "float32")
    given = bench_cases.problem(ROIS)
    settings = {n: v for n, v in bench_cases.settings(case).items() if n != "gamma"}
    ours = reference.roi_pool(given["x"], given["rois"], **settings)
    assert np.allclose(results(field["roi_align"], case)["y"], ours, atol=1e-5)
    fewer = reference.roi_pool(given["x"], given["rois"], **settings | {"samples": 1})
    assert not np.allclose(fewer, ours, atol=1e-2)


def test_roi_align_of_score_maps(field):
    case = Case("deform_ps_roi_pool", FORWARD, PS_ROIS, "float32")
    given = bench_cases.problem(PS_ROIS)
    assert results(field["roi_align"], case)["y"].shape == given["grad_output"].shape
    back = results(field["roi_align"], case._replace(part=BACKWARD))
    assert back["grad x"].shape == given["x"].shape


@pytest.mark.parametrize("precision", bench_cases.PRECISIONS)
def test_tf32_is_on_for_tf32_alone(field, precision):
    case = Case("deform_conv2d", FORWARD, LAYER, precision)
    given = bench_cases.problem(LAYER)
    plain = field["cuDNN conv2d"]
    plain.prepare(case, {name: plain.arrays.take(a) for name, a in given.items()})
    on = precision == "tf32"
    assert torch.backends.cuda.matmul.allow_tf32 is on
    assert torch.backends.cudnn.allow_tf32 is on


def test_arrays_keep_their_numbers(field):
    take = field["torchvision"].arrays.take
    a = np.array([[1.5, -2.0], [0.25, 3.0]], np.float32)
    for precision in bench_cases.PRECISIONS:
        dtype = bench_cases.dtype(precision)
        if dtype is None:
            continue
        taken = take(a.astype(dtype))
        assert str(taken.dtype) == f"torch.{bench_cases.PRECISIONS[precision]}"
        assert np.array_equal(taken.float().numpy(), a)


def test_what_cannot_be_imported_says_why(field, monkeypatch):
    def absent():
        raise ImportError("No module named 'deformops'")

    offer = bench_torch.CONTESTANTS["deformops"]._replace(function=absent)
    monkeypatch.setitem(bench_torch.CONTESTANTS, "deformops", offer)
    found = bench_contestants.theirs(device="cpu")
    assert found["deformops"] == "ImportError: No module named 'deformops'"
    assert set(bench_contestants.is_running(found)) == {"torchvision", "cuDNN conv2d", "roi_align"}


def test_an_operator_that_is_not_theirs_is_lacking(field):
    pooled = Case("deform_roi_pool", FORWARD, ROIS, "float32")
    assert field["torchvision"].lacks(pooled) == "it has no deform_roi_pool"
    assert field["roi_align"].lacks(pooled) is None
    assert not field["torchvision"].default(pooled)


def test_no_gpu_is_a_reason(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = bench_contestants.theirs()
    assert set(found.values()) == {"PyTorch finds no CUDA device"}
