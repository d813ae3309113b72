"""The shim that runs CUDA C++ on the CPU: what it computes, and that it sees what is wrong.

What kernels have to compute is in test_laws, under the name cuda-on-cpu. Each mutant is a kernel
with one text changed, as a slip would. It has to be caught: by a wrong result on an exact problem,
or by the shim, which sees two threads use one number with no barrier between them, an access out
of bounds, and a shuffle that not all threads of a warp come to.
"""

import numpy as np
import pytest
from cuda_on_cpu import builds
from cuda_on_cpu.cpu_device import CpuDevice, as_tf32

from deformable_convnets.gpu.cupy_kernels import cuda_program, layout
from deformable_convnets.gpu.cupy_kernels.build import Build
from deformable_convnets.reference import deform_conv2d, deform_conv2d_backward
from deformable_convnets.reference.checks import check_deform_conv2d

WRT = ("x", "offset", "weight", "bias", "mask")


@pytest.fixture(autouse=True)
def needs_gxx():
    if builds.missing():
        pytest.skip(builds.missing())


def an_exact_problem(dtype="float32", seed=3):
    """With a mask, two groups and two offset groups, a bias, and points beyond the map.

    The 10 channels of a group are five vectors of two for a team of four threads.
    """
    rng = np.random.default_rng(seed)

    def whole(limit, *size):
        return rng.integers(-limit, limit + 1, size).astype(dtype)

    x, weight, bias = whole(3, 3, 20, 6, 5), whole(3, 6, 10, 3, 3), whole(3, 6)
    offset, mask = whole(30, 3, 36, 6, 5) / dtype_of(dtype)(8), abs(whole(4, 3, 18, 6, 5)) / 4
    return (x, offset, weight, bias), mask.astype(dtype), whole(3, 3, 6, 6, 5)


def dtype_of(name):
    return np.dtype(name).type


def run(device, dtype="float32", deterministic=False, limit=None):
    """y and all gradients of an exact problem, by name."""
    (x, offset, weight, bias), mask, grad = an_exact_problem(dtype)
    at = check_deform_conv2d(x, offset, weight, bias, 1, 1, 1, mask, "zero")
    y = cuda_program.deform_conv2d(
        device, x, offset, weight, bias, mask, geometry=at, border="zero", workspace_limit=limit
    )
    grads = cuda_program.deform_conv2d_backward(
        device, grad, x, offset, weight, bias, mask, geometry=at, border="zero", side="right",
        wrt=WRT, deterministic=deterministic, workspace_limit=limit,
    )  # fmt: skip
    return {"y": y, **grads}


def expected(dtype="float32"):
    arguments, mask, grad = an_exact_problem(dtype)
    grads = deform_conv2d_backward(grad, *arguments, padding=1, mask=mask)
    return {"y": deform_conv2d(*arguments, padding=1, mask=mask), **grads._asdict()}


def wrong(found, dtype="float32"):
    """The names of the results that are not exactly right."""
    return [name for name, a in expected(dtype).items() if not np.array_equal(a, found[name])]


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("order", [0, 1, 7, 8])
def test_any_order_of_threads(order, dtype, deterministic):
    device = CpuDevice(order=order, watched=True)
    assert wrong(run(device, dtype, deterministic), dtype) == []


@pytest.mark.parametrize("options", [{"specialises": True}, {"order": 5, "specialises": True}])
def test_a_build_for_one_shape(options):
    assert wrong(run(CpuDevice(watched=True, **options))) == []


NUMBERS, KERNELS, TILES = "numbers.cuh", "deform_conv.cu", "layout.cu"
WAITS = """        }
        __syncthreads();
        for (int i = threadIdx.y; i < TILE; i += blockDim.y) {
            const Index r = r0 + i,"""
SHORT = """i < TILE; i += blockDim.y) {
            const Index r = r0 + i, c = c0 + threadIdx.x;
            if (r < count && c < of.C) {
"""
ADDED = """    } else {
        for (int i = 0; i < VEC; ++i) atomicAdd(sum + i, value.at[i]);
"""
RACE = "with no barrier between them"
MUTANTS = {
    "no barrier before a tile is read": (
        (TILES, WAITS, WAITS.replace("        __syncthreads();\n", "")), RACE),
    "no barrier before a tile is written again": (
        (TILES, "tile[threadIdx.x][i];\n        }\n        __syncthreads();\n    }\n}\n\nextern",
         "tile[threadIdx.x][i];\n        }\n    }\n}\n\nextern"), RACE),
    "no barrier before partial sums are read": (
        (TILES, "= value;\n        __syncthreads();", "= value;"), RACE),
    "a tile one row short": (
        (TILES, SHORT, SHORT.replace("i < TILE;", "i < TILE - 1;")), "wrong"),
    "one row too many": ((TILES, "if (r < count && c < of.C) rows", "if (c < of.C) rows"),
                         "out of bounds"),
    "a lost update": ((NUMBERS, ADDED, ADDED.replace("atomicAdd(sum + i, value.at[i])",
                                                      "sum[i] += value.at[i]")), RACE),
    "one point too many": ((KERNELS, "for (Index t = FIRST; t < count * s.G * s.K; t += STEP)",
                            "for (Index t = FIRST; t <= count * s.G * s.K; t += STEP)"),
                           "out of bounds"),
    "half of a team": ((KERNELS, "for (int lanes = LANES / 2;", "for (int lanes = LANES / 4;"),
                       "wrong"),
    "a shuffle that not all come to": (
        (KERNELS, "        by_y = team_sum(by_y),",
         "        if (t < points) by_y = team_sum(by_y);\n        by_y = by_y,"), "shuffle"),
    "every lane writes": ((KERNELS, "if (t < points && lane == 0) {", "if (t < points) {"), RACE),
    "the mask twice": ((KERNELS, "put(grad_mask[at.number_in(s)], by_m)",
                        "put(grad_mask[at.number_in(s)], m * by_m)"), "wrong"),
    "the first key left out": (
        (KERNELS, "Index low = 0, high", "Index low = 1, high"), "wrong"),
    "the last corner left out": ((KERNELS, "const Index corners = count * s.K * 4;",
                                  "const Index corners = count * s.K * 4 - 1;"), "wrong"),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_caught(name):
    mutation, how = MUTANTS[name]

    def found():
        for deterministic in (False, True):
            device = CpuDevice(watched=True, mutation=mutation)
            names = wrong(run(device, deterministic=deterministic))
            assert not names, f"wrong: {names}"

    with pytest.raises(AssertionError, match=how):
        found()


def test_a_race_need_not_show_in_the_result():
    """What only the watch sees: threads that run one after another lose no update."""
    mutation, _ = MUTANTS["a lost update"]
    assert wrong(run(CpuDevice(mutation=mutation))) == []


def test_memory_that_is_not_written_shows():
    a = CpuDevice().empty((2, 3), "float32")
    assert np.isnan(a).all()


@pytest.fixture(scope="module")
def rounded():
    """A function: float32 numbers in a 16-bit dtype and back, by the kernels of `layout.cu`."""

    def to(dtype, a):
        device, build = CpuDevice(), Build(np.dtype(dtype).name, np.dtype(dtype).name, 1)
        planes = np.empty((1, 1, a.size), dtype)
        layout.put_rows(device, a.reshape(-1, 1), planes, build)
        back = np.zeros(a.size, np.float32)
        layout.add_rows(device, planes.reshape(1, -1), back, build)
        return planes.ravel(), back

    return to


def many_floats():
    """Every exponent, numbers halfway between 16-bit ones, and random ones."""
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, 20000, dtype=np.uint64).astype(np.uint32)
    halves = np.arange(0, 0x7C00, 3, dtype=np.uint16).view(np.float16).astype(np.float32)
    middles = (halves[1:] + halves[:-1]) / 2
    bits = bits[~np.isnan(bits.view(np.float32))]
    all_of = np.concatenate(
        [bits.view(np.float32), halves, middles, -middles, np.float32([0, np.inf, -np.inf])]
    )
    return all_of.astype(np.float32)


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_sixteen_bits_are_those_of_numpy(rounded):
    a, bfloat16 = many_floats(), pytest.importorskip("ml_dtypes").bfloat16
    for dtype in (np.float16, bfloat16):
        there, back = rounded(dtype, a)
        np.testing.assert_array_equal(there.view(np.uint16), a.astype(dtype).view(np.uint16))
        np.testing.assert_array_equal(back, a.astype(dtype).astype(np.float32))
    assert np.isnan(rounded(np.float16, np.float32([np.nan]))[1]).all()
    assert np.isnan(rounded(bfloat16, np.float32([np.nan]))[1]).all()


def test_tf32_has_ten_bits():
    a = np.float32([1 + 2**-10, 1 + 2**-11, 1 + 2**-12, -3.0, 0.0])
    np.testing.assert_array_equal(as_tf32(a), np.float32([1 + 2**-10, 1 + 2**-10, 1, -3.0, 0.0]))


def test_the_problem_is_exact():
    """float32 has room for it: float64 gives the same."""
    found = expected("float64")
    assert all((found[name] == a).all() for name, a in expected("float32").items())
