"""Tensor cores and copies on the CPU: fragments, the rounding of sums, waits that are too weak.

A small kernel for each primitive, beside what NumPy computes. What the PTX ISA says of fragments is
written out here once more, so that both files of the name `tensor_cores.cuh` are held to it. Where
a GPU is, the kernels run there too. Not run on a GPU.
"""

import re

import numpy as np
import pytest
from cuda_on_cpu import builds, nvrtc
from cuda_on_cpu.cpu_device import CpuDevice, as_tf32
from implementations import ENTRIES

from deformable_convnets.gpu.cupy_kernels import compiler
from deformable_convnets.gpu.cupy_kernels.build import Build
from deformable_convnets.gpu.cupy_kernels.device import CudaDevice

KINDS = {"tf32": ("float32", 8), "half": ("float16", 16), "bfloat": ("bfloat16", 16)}
OF_KIND = {"tf32": 0, "half": 1, "bfloat": 2}
KERNELS = """
#include "numbers.cuh"
#include "tensor_cores.cuh"
typedef Vec<unsigned, 4> Four;
// d = c + a b of one warp: a is 16 x k, b is k x 8, c and d are 16 x 8; rows are in registers.
template <class N>
__device__ __forceinline__ unsigned pair(const N* at, int step) {
    if constexpr (sizeof(N) == 4) return __float_as_uint(number(at[0]));
    else return at[0].bits | static_cast<unsigned>(at[step].bits) << 16;
}
extern "C" __global__ void product(const T* a, const T* b, float* d) {
    const int lane = threadIdx.x, group = lane / 4, t = lane % 4, k = 32 / sizeof(T), n = k / 8;
    unsigned of_a[4], of_b[2];
    float of_d[4];
    for (int i = 0; i < 4; ++i)
        of_a[i] = pair(a + (group + i % 2 * 8) * k + t * n + i / 2 * (k / 2), 1);
    for (int i = 0; i < 2; ++i) of_b[i] = pair(b + (t * n + i * (k / 2)) * 8 + group, 8);
    for (int i = 0; i < 4; ++i) of_d[i] = d[(group + i / 2 * 8) * 8 + t * 2 + i % 2];
    if constexpr (KIND == 0) mma_tf32(of_d, of_a, of_b);
    else if constexpr (KIND == 1) mma_half(of_d, of_a, of_b);
    else mma_bfloat(of_d, of_a, of_b);
    for (int i = 0; i < 4; ++i) d[(group + i / 2 * 8) * 8 + t * 2 + i % 2] = of_d[i];
}
// Rows of 16 bytes through shared memory: their 4 bytes in each lane; the same of the transposes.
extern "C" __global__ void matrices(const Four* rows, unsigned* plain, unsigned* turned) {
    Four* here = reinterpret_cast<Four*>(block_memory());
    here[threadIdx.x] = rows[threadIdx.x];
    __syncthreads();
    unsigned four[4];
    ldmatrix(four, here + threadIdx.x + OFF);
    for (int i = 0; i < 4; ++i) plain[threadIdx.x * 4 + i] = four[i];
    ldmatrix_trans(four, here + threadIdx.x);
    for (int i = 0; i < 4; ++i) turned[threadIdx.x * 4 + i] = four[i];
}
// Three groups of copies, of which the last may be under way when the first two are read.
extern "C" __global__ void copies(const Four* from, Four* to) {
    Four* here = reinterpret_cast<Four*>(block_memory());
    const int i = threadIdx.x;
    for (int group = 0; group < 3; ++group) {
        cp_async(here + group * 32 + i, from + group * 32 + i, i + group != 5);
        cp_async_commit();
    }
    cp_async_wait<1>();
    __syncthreads();
    for (int group = 0; group < 2; ++group) to[group * 32 + i] = here[group * 32 + 31 - i];
    cp_async_wait<0>();
    __syncthreads();
    to[64 + i] = here[64 + 31 - i];
}
// sum += value by atomics, 64 numbers one by one and 64 by fours.
extern "C" __global__ void added(const float* value, float* sum) {
    const int i = threadIdx.x * 4;
    const float four[4] = {value[i], value[i + 1], value[i + 2], value[i + 3]};
    if (i < 64) for (int j = 0; j < 4; ++j) atomicAdd(sum + i + j, four[j]);
    else add_four(sum + i - OFF, four);
}
extern "C" __global__ void rounded(const float* x, unsigned* to) {
    for (int i = threadIdx.x; i < 96; i += 32) {
        to[i] = to_tf32(x[i]);
        to[96 + i] = two_halves(x[i], -x[i]);
        to[192 + i] = two_bfloats(x[i], -x[i]);
    }
}
"""
builds.OF_TESTS["primitives.cu"] = KERNELS


def build_of(kind, off=0):
    dtype, _ = KINDS[kind]
    return Build(dtype, dtype, 1, more=(("KIND", OF_KIND[kind]), ("OFF", off)), block_bytes=1536)


@pytest.fixture(params=["on-cpu", "cupy"])
def on(request, runnable):
    """Where a kernel runs."""
    runnable(ENTRIES["cupy v3" if request.param == "cupy" else "cuda-on-cpu v2"])
    return request.param


def run_on_gpu(kernel, build, *arguments):
    import cupy

    there = [cupy.asarray(a.view(f"u{a.itemsize}")) for a in arguments]
    texts = compiler.sources() | {"primitives.cu": KERNELS}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiler, "sources", lambda: texts)
        CudaDevice().run_blocks("primitives.cu", kernel, build, 1, (32,), *there)
    for a, found in zip(arguments, there, strict=True):
        a.view(f"u{a.itemsize}")[...] = cupy.asnumpy(found)


def run(kernel, *arguments, kind="tf32", mutation=None, watched=True, off=0, order=0, on="on-cpu"):
    if on == "cupy":
        run_on_gpu(kernel, build_of(kind, off), *arguments)
        return
    if builds.missing():
        pytest.skip(builds.missing())
    device = CpuDevice(watched=watched, mutation=mutation, order=order)
    device.run_blocks("primitives.cu", kernel, build_of(kind, off), 1, (32,), *arguments)


def dtype_of(kind):
    name = KINDS[kind][0]
    return pytest.importorskip("ml_dtypes").bfloat16 if name == "bfloat16" else np.dtype(name)


def numbers(kind, seed=0):
    """a, b and c of whole numbers that every kind holds."""
    rng, (dtype, k) = np.random.default_rng(seed), (dtype_of(kind), KINDS[kind][1])
    a, b = (rng.integers(-100, 101, size).astype(dtype) for size in ((16, k), (k, 8)))
    return a, b, rng.integers(-1000, 1001, (16, 8)).astype(np.float32)


@pytest.mark.parametrize("order", [0, 1, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_products(kind, order, on):
    a, b, d = numbers(kind)
    expected = d + a.astype(np.float32) @ b.astype(np.float32)
    run("product", a, b, d, kind=kind, order=order, on=on)
    np.testing.assert_array_equal(d, expected)


def test_tensor_cores_read_ten_bits_of_mantissa():
    a, b, d = (
        np.full((16, 8), 1 + 2**-10 + 2**-11, "f4"),
        np.eye(8, dtype="f4"),
        np.zeros((16, 8), "f4"),
    )
    run("product", a, b, d)
    np.testing.assert_array_equal(d, np.float32(1 + 2**-10))
    assert as_tf32(a[0, :1]) == np.float32(1 + 2**-9)


@pytest.mark.parametrize("kind", KINDS)
def test_sums_are_cut_off_toward_zero(kind):
    """Beside 2**23 a product of 3 / 2 counts as 1, though two are 3, which float32 holds."""
    a, b, d = numbers(kind)
    a[...], b[...], d[...] = 0, 0, 2.0**23
    a[:, :2], b[:2] = 1.5, 1
    run("product", a, b, d, kind=kind)
    np.testing.assert_array_equal(d, 2.0**23 + 2)
    assert np.float32(2.0**23) + np.float32(3) == 2.0**23 + 3


def test_what_is_not_a_number_spreads(on):
    a, b, d = numbers("half")
    a[3, 5], a[4, 6] = np.nan, np.inf
    b[...] = 1
    run("product", a, b, d, kind="half", on=on)
    assert np.isnan(d[3]).all()
    assert np.isposinf(d[4]).all()
    assert np.isfinite(np.delete(d, (3, 4), axis=0)).all()


def test_matrices_of_shared_memory(on):
    rows = np.random.default_rng(0).integers(0, 2**16, (4, 8, 8)).astype(np.uint16)
    plain, turned = (np.zeros((32, 4, 2), np.uint16) for _ in range(2))
    run("matrices", rows, plain, turned, on=on)
    by_lane = rows.reshape(4, 8, 4, 2).transpose(1, 2, 0, 3).reshape(32, 4, 2)
    np.testing.assert_array_equal(plain, by_lane)
    of_turned = rows.swapaxes(1, 2).reshape(4, 8, 4, 2).transpose(1, 2, 0, 3).reshape(32, 4, 2)
    np.testing.assert_array_equal(turned, of_turned)


def copied(**options):
    from_, to = np.arange(384, dtype=np.uint32).reshape(96, 4), np.zeros((96, 4), np.uint32)
    run("copies", from_, to, **options)
    from_[[5, 36, 67]] = 0  # of groups 0, 1 and 2, those that are not there
    return np.array_equal(to.reshape(3, 32, 4)[:, ::-1], from_.reshape(3, 32, 4))


WAIT = ("primitives.cu", "cp_async_wait<1>();", "cp_async_wait<2>();")
LAST = ("primitives.cu", "    cp_async_wait<0>();\n", "")
BARRIER = (
    "primitives.cu",
    "    cp_async_wait<0>();\n    __syncthreads();",
    "    cp_async_wait<0>();",
)


@pytest.mark.parametrize("order", [0, 1, 3])
def test_copies(order, on):
    assert copied(order=order, on=on)
    assert copied(order=order, watched=False, on=on)


@pytest.mark.parametrize("mutation", [WAIT, LAST])
def test_a_wait_that_is_too_weak(mutation):
    """The result is wrong, since copies are made late; and the watch sees it."""
    assert not copied(mutation=mutation, watched=False)
    with pytest.raises(AssertionError, match=r"is used by thread .* while it is being copied"):
        copied(mutation=mutation)


def test_other_threads_copies_need_a_barrier():
    with pytest.raises(AssertionError, match=r"being copied|with no barrier between them"):
        copied(mutation=BARRIER)


def test_a_row_that_is_not_aligned():
    rows, out = np.zeros((4, 8, 8), np.uint16), np.zeros((32, 4), np.uint32)
    mutation = ("primitives.cu", "here + threadIdx.x + OFF",
                "reinterpret_cast<char*>(here + threadIdx.x) + 8")  # fmt: skip
    with pytest.raises(AssertionError, match="a misaligned row of shared memory"):
        run("matrices", rows, out, out.copy(), mutation=mutation)


def test_a_row_that_is_not_there():
    rows, out = np.zeros((4, 8, 8), np.uint16), np.zeros((32, 4), np.uint32)
    with pytest.raises(AssertionError, match="out of bounds"):
        run("matrices", rows, out, out.copy(), off=90)


def test_numbers_are_rounded(on):
    rng, bfloat16 = np.random.default_rng(0), pytest.importorskip("ml_dtypes").bfloat16
    x, out = rng.normal(size=96).astype(np.float32), np.zeros((3, 96), np.uint32)
    x[:3] = np.inf, -np.inf, 2**-20
    run("rounded", x, out, on=on)
    np.testing.assert_array_equal(out[0].view(np.float32)[3:], as_tf32(x[3:]))
    np.testing.assert_array_equal(out[0].view(np.float32)[:2], x[:2])
    both = np.stack([x, -x], axis=1)
    for row, dtype in ((1, np.float16), (2, bfloat16)):
        found = out[row].view(np.uint16).view(dtype).reshape(96, 2)
        np.testing.assert_array_equal(found, both.astype(dtype))


def flushed(a):
    return np.where(abs(a) < np.float32(2**-126), np.copysign(np.float32(0), a), a)


def test_atomics_have_no_subnormal_numbers(on):
    """What PTX says of red.add.f32 in global memory, and the SASS: RED.E.ADD.F32.FTZ, and F32x4."""
    some = np.array([0.0, 2**-127, -(2**-127), 2**-126, -(2**-126), 1.5 * 2**-126, 1.0], "f4")
    value, sum_ = (np.resize(np.repeat(some, n), 128) for n in (1, len(some)))
    expected = flushed(flushed(value) + flushed(sum_))
    plain = value + sum_
    run("added", value, sum_, on=on)
    np.testing.assert_array_equal(sum_.view(np.uint32), expected.view(np.uint32))
    assert (sum_ != plain).any()


def test_four_additions_that_are_not_aligned():
    value, sum_ = np.ones(128, np.float32), np.zeros(128, np.float32)
    with pytest.raises(AssertionError, match="a misaligned addition by thread"):
        run("added", value, sum_, off=2, watched=False)


@pytest.mark.parametrize("kind", KINDS)
def test_each_is_an_instruction(kind):
    """What NVRTC makes of them: the PTX that their names say."""
    if nvrtc.missing():
        pytest.skip(nvrtc.missing())
    texts = compiler.sources() | {"primitives.cu": KERNELS}
    headers = {name: text.encode() for name, text in texts.items() if name.endswith(".cuh")}
    program = nvrtc.createProgram(KERNELS, "primitives.cu", list(headers.values()),
                                  [name.encode() for name in headers])  # fmt: skip
    told = compiler.options("primitives.cu", build_of(kind), "compute_80")
    nvrtc.compileProgram(program, [option for option in told if "ptxas" not in option])
    found = set(re.findall(r"(?:mma|ldmatrix|cp\.async|cvt\.rna?)[\w.:]+", nvrtc.getPTX(program)))
    of_kind = {"tf32": "m16n8k8.row.col.f32.tf32.tf32.f32",
               "half": "m16n8k16.row.col.f32.f16.f16.f32",
               "bfloat": "m16n8k16.row.col.f32.bf16.bf16.f32"}  # fmt: skip
    assert f"mma.sync.aligned.{of_kind[kind]}" in found
    assert {"ldmatrix.sync.aligned.m8n8.x4.shared.b16", "cp.async.cg.shared.global",
            "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16", "cp.async.commit_group",
            "cp.async.wait_group", "cvt.rna.tf32.f32", "cvt.rn.f16x2.f32",
            "cvt.rn.bf16x2.f32"} <= found  # fmt: skip
