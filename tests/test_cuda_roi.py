"""RoI pooling in CUDA C++, run on the CPU: bit for bit as the reference; mistakes are seen."""

import dataclasses

import numpy as np
import pytest
from cuda_on_cpu import builds
from cuda_on_cpu.cpu_device import CpuDevice

from deformable_convnets.gpu.cupy_kernels import roi_pool as roi_pool_of_cuda
from deformable_convnets.gpu.cupy_kernels.roi_pool import roi_pool, roi_pool_backward, runs
from deformable_convnets.reference.oracle import roi_problems
from deformable_convnets.reference.roi_bins import pool, pool_backward

pytestmark = [
    pytest.mark.skipif(bool(builds.missing()), reason=builds.missing()),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),  # infinity times 0, in the reference
]
KINDS = [("float32", 2), ("float32", 12), ("float64", 3)]  # channels: VEC 2, 4 and 1; 1 or 4 lanes


def forward(p, device, **options):
    return roi_pool(device, p.x, p.rois, p.offset, geometry=p.geometry, **options)


def backward(p, device, side="right", **options):
    options.setdefault("wrt", ("x",) if p.offset is None else ("x", "offset"))
    return roi_pool_backward(
        device, p.grad_output, p.x, p.rois, p.offset, geometry=p.geometry, side=side, **options
    )


def assert_equals_reference(p, device, *, side="right", deterministic=False, limit=None):
    expected = pool(p.x, p.rois, p.offset, p.geometry)
    y = forward(p, device, workspace_limit=limit)
    np.testing.assert_array_equal(y, expected, p.code(), strict=True)
    grads = backward(p, device, side, deterministic=deterministic, workspace_limit=limit)
    x, offset = pool_backward(p.grad_output, p.x, p.rois, p.offset, p.geometry, side)
    np.testing.assert_array_equal(grads["x"], x, p.code(), strict=True)
    if offset is not None:
        np.testing.assert_array_equal(grads["offset"], offset, p.code(), strict=True)


def some(count, dtype="float32", channels=12, **limits):
    return roi_problems.some(count, "odd", "kinks", dtype=dtype, channels=channels, **limits)


def wide_bins(rule, dtype="float32"):
    """One RoI of two bins over a map of 40 x 37 pixels: many lines on each axis."""
    shape = roi_problems.RoiShape(1, (40, 37), 1, (1, 2), (1, 1), (1, 2), 1, 12)
    p = roi_problems.make("odd", shape, 0, rule)
    rois = np.array([[0, 0, 0, 64, 32]], float) - (rule == "mxnet") * np.array([0, 0, 0, 1, 1])
    samples = None if rule == "paper" else 2
    p = p.with_(rois=rois, x=np.sign(p.x), spatial_scale=1.0, gamma=0.25, samples=samples)
    return p.with_(offset=p.offset * 0 + 1 / 64).cast(dtype)


@pytest.mark.parametrize(("dtype", "channels"), KINDS)
def test_equals_the_reference(dtype, channels):
    for k, p in enumerate(some(24, dtype, channels)):
        device = CpuDevice(order=(0, 1, 7)[k % 3], watched=k % 4 == 0)
        for side, deterministic in (("right", k % 2 == 0), ("left", k % 2 == 1)):
            assert_equals_reference(p, device, side=side, deterministic=deterministic)


@pytest.mark.parametrize("deterministic", [False, True])
def test_watched_in_every_order(deterministic):
    for rule in roi_problems.RULES:
        for order in (0, 1, 7):
            for p in some(3, rules=(rule,), rois=2, output=(2, 3)):
                device = CpuDevice(order=order, watched=True)
                assert_equals_reference(p, device, deterministic=deterministic)


@pytest.mark.parametrize("rule", roi_problems.RULES)
def test_bins_of_many_lines_and_points_far_apart(rule):
    for deterministic in (False, True):
        p = wide_bins(rule)
        assert_equals_reference(p, CpuDevice(watched=True), deterministic=deterministic)


@pytest.mark.parametrize("limit", [1, 2000])
def test_chunks(limit):
    for p in some(6, rois=5):
        assert_equals_reference(p, CpuDevice(), deterministic=True, limit=limit)
        assert_equals_reference(p, CpuDevice(), limit=limit)


def test_runs_of_rois():
    """As many RoIs as fit, or one that does not; none without entries."""
    ends = np.cumsum([3, 0, 4, 9, 0, 0, 2])
    assert list(runs(ends, 7)) == [(0, 3, 0, 7), (3, 4, 7, 9), (4, 7, 16, 2)]
    assert list(runs(np.zeros(3, int), 7)) == []


@pytest.mark.parametrize("rule", roi_problems.RULES)
def test_offsets_that_are_not_finite(rule):
    for p in some(6, rules=(rule,), rois=3):
        strange = roi_problems.not_finite(p)
        for deterministic in (False, True):
            device = CpuDevice(watched=True)
            assert_equals_reference(strange, device, deterministic=deterministic)


def test_no_rois_and_wrt():
    (p,) = some(1, rois=0, N=2)
    assert_equals_reference(p, CpuDevice())
    p = next(p for p in some(9) if p.offset is not None)
    both = backward(p, CpuDevice())
    for name in both:
        grads = backward(p, CpuDevice(), wrt=(name,), deterministic=True)
        assert list(grads) == [name]
        np.testing.assert_array_equal(grads[name], both[name])
    p = p.with_(offset=None)
    p = p.with_(shape=dataclasses.replace(p.shape, classes=1, channels=p.shape.Cout))
    assert_equals_reference(p, CpuDevice())


def test_channels_last():
    """The result is as x is in memory, and x is read in place, if it has one map."""
    for group in ((1, 1), (2, 1)):
        (p,) = some(1, group=group)
        grad = np.moveaxis(np.ascontiguousarray(np.moveaxis(p.grad_output, 1, 3)), 3, 1)
        x = np.moveaxis(np.ascontiguousarray(np.moveaxis(p.x, 1, 3)), 3, 1)
        assert_equals_reference(p.with_(x=x, grad_output=grad), CpuDevice())
        assert forward(p.with_(x=x), CpuDevice()).strides[1] == x.itemsize


def test_float16_with_rois_and_offsets_in_float32():
    for p in some(6, rois=3):
        half = p.with_(x=p.x.astype(np.float16), grad_output=p.grad_output.astype(np.float16))
        assert_equals_reference(half, CpuDevice())
        assert_equals_reference(half, CpuDevice(), deterministic=True)


def test_compiled_for_one_shape_with_wide_indices(monkeypatch):
    monkeypatch.setattr(roi_pool_of_cuda, "LARGEST", 1)
    p = next(p for p in some(9, rules=("align",), rois=3) if p.offset is not None)
    assert_equals_reference(p, CpuDevice(specialises=True), deterministic=True)
    assert_equals_reference(p, CpuDevice(specialises=True, watched=True))


def test_deterministic_is_bitwise_repeatable():
    """Ordinary numbers, whose sums depend on the order: the order of threads is not it."""
    for p in some(4, rois=6):
        p = roi_problems.ordinary(p)
        found = [backward(p, CpuDevice(order=k), deterministic=True)["x"] for k in (0, 1, 7)]
        np.testing.assert_array_equal(found[0], found[1])
        np.testing.assert_array_equal(found[0], found[2])


MUTANTS = {
    "no barrier before lines are read": (
        "roi_bins.cuh", "    }\n    __syncwarp(team());\n", "    }\n",
    ),
    "no barrier before lines are written": (
        "roi_bins.cuh", "    __syncwarp(team());  // all have read the last piece\n", "",
    ),
    "a line too few": (
        "roi_points.cuh", "min(high, n - 1) - low + 1", "min(high, n - 1) - low",
    ),
    "a line too many": (
        "roi_points.cuh", "min(high, n - 1) - low + 1", "min(high, n) - low + 1",
    ),
    "an addition that is not atomic": (
        "roi_pool.cu", "add(grad_x + row.at + column.at, part);",
        "for (int i = 0; i < VEC; ++i) grad_x[row.at + column.at + i] += part.at[i];",
    ),
    "the last bin of a part": (
        "roi_pool.cu", "j < end_j; ++j", "j < end_j - 1; ++j",
    ),
    "gamma h for gamma w": (
        "roi_pool.cu", "total.x * (s.gamma * bin.w)", "total.x * (s.gamma * bin.h)",
    ),
    "part of another class group": (
        "roi_bins.cuh", "const Index field = (at.r * s.P + at.p) * 2;",
        "const Index field = at.r * s.P * 2;",
    ),
    "another bin's score map": (
        "roi_bins.cuh", "at.j * s.gw / s.kw;", "at.j * s.gw / s.kh;",
    ),
    "the last entry": (
        "roi_pool.cu", "e < entries && keys[e] >> shift == q",
        "e < entries - 1 && keys[e] >> shift == q",
    ),
}  # fmt: skip


def compare_all(device):
    for p in [wide_bins("paper"), *some(40, rois=3, output=(2, 3), size=(5, 6))]:
        for deterministic in (False, True):
            assert_equals_reference(p, device, deterministic=deterministic)


@pytest.mark.parametrize("name", MUTANTS)
def test_mistakes_are_seen(name):
    device = CpuDevice(watched=True, mutation=MUTANTS[name])
    with pytest.raises(AssertionError, match=r"Mismatched elements|(for|back)ward of roi_pool.cu"):
        compare_all(device)
