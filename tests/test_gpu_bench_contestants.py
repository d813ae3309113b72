"""What the benchmark of the kernels measures, by whom, and whether their results are right."""

from functools import partial

import numpy as np
import pytest
from cuda_on_cpu import builds
from fused_on_cpu import Counting
from gpu_bench import TOY, contestant, register, wrong

from deformable_convnets import gpu
from deformable_convnets.gpu import (
    bench_cases,
    bench_contestants,
    bench_errors,
    bench_torch,
    registry,
)
from deformable_convnets.gpu.bench_cases import BACKWARD, BOTH, FORWARD, PRECISIONS
from deformable_convnets.gpu.cupy_kernels import cuda_program, dispatch

# What v3 launches, and what its builds say where products are those of float32
LAUNCHED = [("fused", "PARTS", 2), ("grad_of_points", "EXACT", 1), ("grad_weight", "EXACT", 1)]
EVERY_PRECISION = {
    (bench_cases.PRECISIONS[p], p == "float32")
    for p in PRECISIONS if bench_cases.dtype(p) is not None
}  # fmt: skip


@pytest.fixture
def numpy_alone(monkeypatch):
    """The array program on NumPy is all that can run; calls of this change it, or add another."""
    gone = registry.Backend(dict, lambda: "it is not here")
    monkeypatch.setattr(registry, "BACKENDS", {"cupy": gone, "numba": gone})
    return partial(register, monkeypatch)


def test_every_layer_and_precision_is_a_case():
    cases = bench_cases.cases()
    layers = {(c.shape.name, c.precision, c.part) for c in cases if c.operator == "deform_conv2d"}
    assert len(layers) == 10 * 4 * 3
    gigaflops = {shape.name: round(shape.flops / 1e9, 1) for shape in bench_cases.SHAPES}
    assert gigaflops["conv5 38x63 N=1"] == 11.3
    assert gigaflops["Cityscapes 64x128 N=1"] == 38.7
    assert gigaflops["conv5 25x42 N=8"] == 39.6
    pooled = {(c.operator, c.precision) for c in cases if c.operator != "deform_conv2d"}
    assert len(pooled) == 2 * 3
    assert all(c.precision != "tf32" or c.operator == "deform_conv2d" for c in cases)


def test_what_is_quick_comes_first():
    quick, full = bench_cases.cases(quick=True), bench_cases.cases()
    assert {c.shape for c in quick if c.operator == "deform_conv2d"} == set(bench_cases.QUICK)
    last = max(i for i, c in enumerate(full) if c in quick)
    assert all(c.shape in bench_cases.QUICK or c.operator != "deform_conv2d" for c in full[:last])


def test_a_case_is_a_call_of_both_directions(numpy_alone):
    numpy_alone()
    given = bench_cases.problem(bench_cases.TOY)
    names = {
        FORWARD: {"y"}, BACKWARD: {"grad x", "grad offset", "grad weight"},
        BOTH: {"y", "grad x", "grad offset", "grad weight"},
    }  # fmt: skip
    for part, expected in names.items():
        call = bench_cases.call(gpu, TOY._replace(part=part), given, backend="numpy", version="v1")
        assert set(call()) == expected


def test_a_right_version_agrees(numpy_alone):
    numpy_alone()
    assert bench_errors.disagreement(contestant()) is None


@pytest.mark.parametrize("operator", ["deform_conv2d", "deform_roi_pool", "deform_ps_roi_pool"])
@pytest.mark.parametrize("backward", ["", "_backward"])
def test_a_wrong_version_is_found(numpy_alone, operator, backward):
    numpy_alone(wrong(operator + backward))
    assert f"of {operator} differs from the reference" in bench_errors.disagreement(contestant())


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_version_that_is_wrong_in_one_precision_is_found(numpy_alone, precision):
    def change(operators):
        def run(x, **keywords):
            return operators["deform_conv2d"].run(x=x, **keywords) + 2 * (x.dtype == precision)

        return operators | {"deform_conv2d": operators["deform_conv2d"]._replace(run=run)}

    numpy_alone(change)
    assert bench_errors.disagreement(contestant()).endswith(f"an exact problem in {precision}")


@pytest.mark.parametrize("version", ["v2", "v3"])
def test_the_kernels_agree_in_every_precision(monkeypatch, version):
    """Those of CUDA C++, on the CPU: exact problems are exact for them in 16 bits and TF32 too."""
    if builds.missing():
        pytest.skip(builds.missing())
    device = Counting()
    offered = {"v2": cuda_program.operators(device), "v3": dispatch.operators(device)}
    monkeypatch.setitem(registry.BACKENDS, "cpu", registry.Backend(lambda: offered))
    found = bench_contestants.is_running(bench_contestants.of_backends(toy=True))
    assert bench_errors.disagreement(found[f"cpu {version}"]) is None
    for kernel, macro, of_exact in LAUNCHED:
        found = {(b.dtype, dict(b.more)[macro] == of_exact)
                 for name, b in device.builds if name == kernel}  # fmt: skip
        assert found == (EVERY_PRECISION if version == "v3" else set()), kernel
    assert {b.dtype for _, b in device.builds} == {dtype for dtype, _ in EVERY_PRECISION}


def test_relative_errors(numpy_alone):
    right = np.array([3.0, 4.0])
    assert bench_errors.relative(right, right) == 0
    assert bench_errors.relative(np.array([3.0, 4.5]), right) == 0.1
    assert np.isnan(bench_errors.relative(np.array([3.0, np.nan]), right))
    assert np.isnan(bench_errors.relative(right[:1], right))


@pytest.mark.parametrize(("precision", "least"), [("float32", 1e-9), ("float16", 1e-5)])
def test_errors_are_those_of_the_precision(numpy_alone, precision, least):
    numpy_alone()
    case = TOY._replace(precision=precision, part=BACKWARD)
    rows = list(bench_errors.errors(case, {"numpy v1": contestant()}))
    assert {row["result"] for row in rows} == {"grad x", "grad offset", "grad weight"}
    assert all(least < row["relative_error"] < 1000 * least for row in rows)
    assert all(row["default"] is False for row in rows)


def test_a_contestant_that_raises_is_in_the_errors(numpy_alone):
    numpy_alone()

    def prepare(case, given):
        raise OSError("no kernel")

    rows = list(bench_errors.errors(TOY, {"a": contestant()._replace(prepare=prepare)}))
    assert [row["failed"] for row in rows] == ["OSError: no kernel"]


def test_what_a_version_lacks_is_said_before(numpy_alone):
    numpy_alone(lambda operators: {n: v for n, v in operators.items() if "ps_roi" not in n})
    lacks = contestant().lacks
    assert lacks(TOY) is None
    assert lacks(TOY._replace(precision="tf32")) == "it has no precision 'tf32'"
    assert lacks(TOY._replace(precision="bfloat16")) == "it has no dtype bfloat16"
    assert lacks(TOY._replace(operator="deform_ps_roi_pool")) == "v1 has no deform_ps_roi_pool"
    repeatable = contestant(" deterministic").lacks
    assert "only the gradients" in repeatable(TOY)
    assert "it does the same" in repeatable(TOY._replace(part=BACKWARD))


def test_slow_backends_have_small_layers(numpy_alone, monkeypatch):
    numpy_alone(name="numba")
    found = bench_contestants.is_running(bench_contestants.field(toy=True))["numba v1"]
    conv5, *rest = bench_cases.SHAPES
    assert found.lacks(TOY._replace(shape=conv5)) is None
    assert found.lacks(TOY._replace(operator="deform_roi_pool", shape=bench_cases.ROI)) is None
    assert all("small" in found.lacks(TOY._replace(shape=shape)) for shape in rest)
    assert bench_contestants.reasons(bench_contestants.field(quick=True))["numba"]


def test_the_default_is_what_gpu_chooses(numpy_alone):
    numpy_alone()
    assert bench_contestants.chosen(TOY) is None  # numpy is never chosen unless it is named
    assert not contestant().default(TOY)
    numpy_alone(name="cupy")
    assert bench_contestants.chosen(TOY) == ("cupy", "v1")
    assert bench_contestants.chosen(TOY._replace(precision="tf32")) is None
    found = bench_contestants.is_running(bench_contestants.field(toy=True))
    assert found["cupy v1"].default(TOY)


def test_a_backend_that_is_missing_gives_its_reason(monkeypatch):
    gone = registry.Backend(dict, lambda: "it has been sold")
    monkeypatch.setattr(registry, "BACKENDS", {"cupy": gone})
    field = bench_contestants.field(toy=True)
    assert bench_contestants.reasons(field) == {"cupy": "it has been sold"}
    assert bench_contestants.is_running(field) == {}


def test_pytorch_that_is_missing_gives_its_reason(monkeypatch):
    def absent(name):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(bench_contestants, "import_module", absent)
    found = bench_contestants.theirs()
    assert found == dict.fromkeys(bench_torch.CONTESTANTS, "No module named 'torch'")
    assert "deformops" not in bench_contestants.theirs(quick=True)
