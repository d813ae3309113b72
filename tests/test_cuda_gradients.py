"""The gradients on tensor cores (v3), executed on the CPU and compiled, with no GPU.

They have to equal the reference bit for bit on exact problems, in every precision, in any order of
threads, and with no race. What would be seen of a slip is in test_cuda_gradients_mutants. Not run
on a GPU.
"""

import re

import numpy as np
import pytest
from cuda_on_cpu import builds, nvrtc
from cuda_on_cpu.cpu_device import CpuDevice
from fused_gradients import DTYPES, GROUPED, ODD, WIDE, WRT, expected, problem, run, widened, wrong
from test_cuda_steps import Counting

from deformable_convnets import gpu
from deformable_convnets.gpu import registry
from deformable_convnets.gpu.cupy_kernels import compiler, deform_conv, dispatch, fused_backward
from deformable_convnets.reference import conv2d_backward, deform_conv2d
from deformable_convnets.reference.checks import check_conv2d, check_deform_conv2d
from deformable_convnets.reference.oracle import verify

KERNELS = {
    "fused_grad_weight.cu": (fused_backward.OF_WEIGHT, "O", ["add_partials", "grad_weight"]),
    "fused_grad_points.cu": (fused_backward.OF_POINTS, "P", ["grad_of_points"]),
}


@pytest.fixture(autouse=True)
def needs_gxx(request):
    if "architecture" not in request.fixturenames and builds.missing():
        pytest.skip(builds.missing())
    pytest.importorskip("ml_dtypes")


@pytest.mark.parametrize(
    ("name", "shape"),
    [*((name, WIDE) for name in DTYPES), ("float32", GROUPED)],
)
def test_they_are_exact_on_exact_problems(name, shape):
    given, grad = problem(name, **shape)
    found = run(given, grad, name, device=CpuDevice(watched=True))
    assert tuple(found) == WRT
    assert all(a.dtype == DTYPES[name] for a in found.values())
    assert wrong(found, given, grad) == []


def test_more_tiles_than_one():
    """Along outputs, channels and pixels; the last ones are not full."""
    given, grad = problem(C=136, O=136, N=1, size=(6, 11))
    wrt = ("x", "offset", "weight")
    assert wrong(run(given, grad, wrt=wrt), given, grad) == []


@pytest.mark.parametrize(("border", "side"), [("dcnv1", "right"), ("zero", "left")])
def test_borders_and_sides(border, side):
    given, grad = problem(**WIDE)
    found = run(given, grad, border=border, side=side)
    assert wrong(found, given, grad, border=border, side=side) == []


def test_a_plain_convolution():
    given, grad = problem(**WIDE)
    x, weight = given["x"], given["weight"]
    found = fused_backward.deform_conv2d_backward(
        CpuDevice(), grad, x, None, weight, None, None, border="zero", side="right",
        geometry=check_conv2d(x, weight, None, 1, 1, 1), wrt=("x", "weight"),
    )  # fmt: skip
    right = conv2d_backward(grad, x, weight, padding=1)
    for name, a in found.items():
        np.testing.assert_array_equal(a, getattr(right, name))


def test_every_law_of_the_gradients(monkeypatch):
    """On all shapes of the oracle, by a build for any width."""
    tiled = fused_backward.tiled

    def generic(*arguments):
        tiles, build = tiled(*arguments)
        more = dict(build.more) | {"VEC_O": 1}
        return tiles, build._replace(vec=1, more=tuple(more.items()))

    device = Counting()
    versions = {"v3": dispatch.operators(device)}
    monkeypatch.setattr(fused_backward, "tiled", generic)
    monkeypatch.setitem(registry.BACKENDS, "fused", registry.Backend(lambda: versions))

    def backward(*arrays, **options):
        return gpu.deform_conv2d_backward(*arrays, **options, backend="fused", version="v3")

    report = verify(
        deform_conv2d, backward=backward, dtype="float32", border=("zero", "dcnv1"), examples=2
    )
    report.assert_ok()
    assert device.kernels.count("grad_of_points") > 50
    assert device.kernels.count("grad_weight") > 50


@pytest.mark.parametrize(("order", "deterministic"), [(1, False), (7, False), (7, True)])
def test_any_order_of_threads(order, deterministic):
    given, grad = problem(**WIDE)
    device = CpuDevice(order=order, watched=True)
    found = run(given, grad, device=device, deterministic=deterministic)
    assert wrong(found, given, grad) == []


@pytest.mark.parametrize("deterministic", [False, True])
def test_sums_that_round_repeat_bit_for_bit(deterministic):
    """All but the gradient of x; that too if asked to. And they are as near as promised."""
    given, grad = problem(**WIDE, exact=False)
    first, other = (
        run(given, grad, device=CpuDevice(order=order), deterministic=deterministic)
        for order in (0, 9)
    )
    for name, a in first.items():
        same = bool((a == other[name]).all())
        assert same == (name != "x" or deterministic)
        right = expected(given, grad)[name]
        error = np.linalg.norm(a.astype(np.float64) - right) / np.linalg.norm(right)
        assert 0 < error < 2e-6


@pytest.mark.parametrize("wide", ["x", "weight", "grad"])
def test_exact_is_not_tf32(wide):
    """12 bits of one array: all are in the results of "exact", not in all those of TF32."""
    given, grad = widened(*problem(**WIDE), wide)
    wrt = ("x", "weight", "mask")
    assert wrong(run(given, grad, wrt=wrt), given, grad) == []
    assert wrong(run(given, grad, "tf32", wrt=wrt), given, grad) != []


@pytest.mark.parametrize("splits", [1, 3, 4])
def test_the_pixels_are_split_and_the_parts_added(monkeypatch, splits):
    """With more splits than whole steps too: the last one then has no pixels."""
    monkeypatch.setattr(fused_backward.GradWeight, "_wanted", lambda self, count: splits)
    given, grad = problem(**WIDE)
    device = Counting(watched=True)
    found = run(given, grad, wrt=("weight",), device=device)
    assert wrong(found, given, grad) == []
    assert device.most > splits * given["weight"].nbytes


def grad_weight_of(given, grad):
    wide = {n: a.astype(np.float64) for n, a in given.items()}
    at = check_deform_conv2d(
        wide["x"], wide["offset"], wide["weight"], None, 1, 1, 1, wide["mask"], "zero"
    )
    call = deform_conv.Convolution(
        CpuDevice(), given["x"], given["offset"], given["weight"], None, geometry=at, border="zero"
    )
    return fused_backward.GradWeight(call, grad, given["weight"])


def test_parts_give_work_to_a_whole_device():
    made = grad_weight_of(*problem(**WIDE))
    assert made._wanted(2**20) == -(-fused_backward.BLOCKS // 9)
    assert made._wanted(16 * fused_backward.LEAST_STEPS * 3) == 3
    assert made._wanted(5) == 1


@pytest.mark.parametrize("wrt", [("weight",), ("x", "offset", "mask", "bias"), ("offset",)])
def test_chunks_and_memory(monkeypatch, wrt):
    """Chunks are added in order, and all that lives at once stays below the limit."""
    monkeypatch.setattr(deform_conv, "SMALLEST_CHUNK", 16)
    given, grad = problem(**WIDE, N=3)
    for_weight = wrt == ("weight",)
    for limit, chunks in ((60_000 if for_weight else 16_000, 2), (2**20, 1)):
        device = Counting()
        found = run(given, grad, wrt=wrt, device=device, workspace_limit=limit)
        assert wrong(found, given, grad) == []
        assert device.most - sum(a.nbytes for a in found.values()) <= limit
        kernel = "grad_weight" if for_weight else "grad_of_points"
        assert device.kernels.count(kernel) >= chunks
        assert not {"columns", "grad_points"} & set(device.kernels)


@pytest.mark.parametrize("name", WRT)
def test_what_is_not_wanted_is_not_done(name):
    given, grad = problem(**WIDE)
    device = Counting()
    found = run(given, grad, wrt=(name,), device=device)
    assert list(found) == [name]
    assert wrong(found, given, grad) == []
    ran = set(device.kernels)
    assert ("grad_of_points" in ran) == (name in ("x", "offset", "mask"))
    assert ("grad_weight" in ran) == (name == "weight")


def test_what_does_not_fit_is_staged():
    given, grad = problem(**WIDE)
    given, grad = {n: a.astype(np.float64) for n, a in given.items()}, grad.astype(np.float64)
    device = Counting()
    assert wrong(run(given, grad, device=device), given, grad) == []
    assert {"grad_points"} <= set(device.kernels)
    assert not {"grad_of_points", "grad_weight"} & set(device.kernels)


def test_points_that_are_no_numbers():
    """NaN: its mask and weight gradients are NaN, nothing goes to x; infinite: all are 0."""
    given, grad = problem(**WIDE)
    for value in (np.nan, np.inf):
        given["offset"][0, 2, 1, 3] = value
        found, right = run(given, grad), expected(given, grad)
        for name, a in found.items():
            np.testing.assert_array_equal(a, right[name].astype(a.dtype), err_msg=name)


COMPILED = [(name, WIDE, a) for name in DTYPES for a in ("sm_80", "sm_90", "sm_100")]
COMPILED += [("float32", GROUPED, "sm_80"), ("float16", ODD, "sm_100"), ("float32", WIDE, "sm_90a")]


@pytest.mark.parametrize(("name", "shape", "architecture"), COMPILED)
@pytest.mark.parametrize("source", KERNELS)
def test_they_compile_without_stack_or_spills(source, name, shape, architecture):
    if nvrtc.missing():
        pytest.skip(nvrtc.missing())
    wide, letter, kernels = KERNELS[source]
    call = grad_weight_of(*problem(name, **shape)).call
    call.precision = "tf32" if name == "tf32" else "exact"
    _, build = fused_backward.tiled(call, wide, letter)
    _, log = compiler.compiled(source, build, architecture, nvrtc)
    assert sorted(re.findall(r"entry function '(\w+)'", log)) == kernels
    stacks = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores", log)
    assert stacks == [("0", "0")] * len(kernels), build


@pytest.mark.parametrize("architecture", ["compute_90"])
@pytest.mark.parametrize("source", KERNELS)
def test_what_the_instructions_are(source, architecture):
    """Tensor cores and loads of 16 bytes; atomics for the gradient of x alone, by fours."""
    if nvrtc.missing():
        pytest.skip(nvrtc.missing())
    wide, letter, _ = KERNELS[source]
    tiles, build = fused_backward.tiled(grad_weight_of(*problem(**WIDE)).call, wide, letter)
    ptx = ptx_of(source, build, architecture)
    down, across = tiles.rows // tiles.warps[0] // 16, tiles.channels // tiles.warps[1] // 8
    steps, products = fused_backward.DEPTH // 8, 3
    assert ptx.count("mma.sync") == down * across * steps * products
    assert ptx.count("ld.global.v4.f32") >= 8
    assert ptx.count("red.global.add.v4.f32") == 4 * ("points" in source)
    assert len(re.findall(r"\b(?:red|atom)\.", ptx)) == 4 * ("points" in source)


def ptx_of(source, build, architecture):
    texts = compiler.sources()
    headers = {name: text.encode() for name, text in texts.items() if name.endswith(".cuh")}
    program = nvrtc.createProgram(
        texts[source], source, list(headers.values()), [name.encode() for name in headers]
    )
    told = compiler.options(source, build, architecture)
    nvrtc.compileProgram(program, [option for option in told if "ptxas" not in option])
    return nvrtc.getPTX(program)
