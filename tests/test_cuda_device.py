"""`CudaDevice` with a CuPy that is made up: what is asked of cuBLAS and of memory, and what fails.

What only a device can show is in test_gpu_device.
"""

import ctypes
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from deformable_convnets.gpu import arrays, registry
from deformable_convnets.gpu.cupy_kernels import compiler, device, products
from deformable_convnets.gpu.cupy_kernels.build import Build

bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
TYPES = {0: np.float32, 1: np.float64, 2: np.float16, 14: bfloat16}  # of library_types.h
BUILD = Build("float32", "float32", 4)


class OutOfMemoryError(Exception):
    pass


class CUDADriverError(RuntimeError):
    pass


@pytest.fixture(autouse=True)
def cupy(monkeypatch):
    """A module of that name; tests put into it what they need."""
    made, made.cuda = ModuleType("cupy"), ModuleType("cupy.cuda")
    made.cuda.memory = SimpleNamespace(OutOfMemoryError=OutOfMemoryError)
    made.cuda.driver = SimpleNamespace(CUDADriverError=CUDADriverError)
    made.cuda.runtime = SimpleNamespace(
        getDevice=lambda: 0, memGetInfo=lambda: (1000, 5000), driverGetVersion=lambda: 12020
    )
    made.cuda.device = SimpleNamespace(get_cublas_handle=lambda: 7)
    made.cuda.Device = lambda number: SimpleNamespace(compute_capability="90")
    for name in ("cupy", "cupy.cuda"):
        monkeypatch.setitem(sys.modules, name, made if name == "cupy" else made.cuda)
    for function in (device._missing, device._capability, device._module, device.function):
        function.cache_clear()
    yield made
    for function in (device._missing, device._capability, device._module, device.function):
        function.cache_clear()


class OnDevice(np.ndarray):
    """A NumPy array with the `data.ptr` of CuPy's."""

    @property
    def data(self):
        return SimpleNamespace(ptr=self.ctypes.data)


def column_major(pointer, kind, rows, columns, leading, step, batch):
    """The matrices that cuBLAS sees, as views."""
    dtype = np.dtype(TYPES[kind])
    size = (batch - 1) * step + (columns - 1) * leading + rows
    raw = (ctypes.c_char * (size * dtype.itemsize)).from_address(pointer)
    flat, n = np.frombuffer(raw, dtype), dtype.itemsize
    return np.lib.stride_tricks.as_strided(
        flat, (batch, rows, columns), (step * n, n, leading * n), writeable=True
    )


class Cublas:
    """gemmStridedBatchedEx as its documentation says, and the compute types that were asked for."""

    CUBLAS_COMPUTE_32F, CUBLAS_COMPUTE_64F, CUBLAS_COMPUTE_32F_FAST_TF32 = 68, 70, 77
    CUBLAS_GEMM_DEFAULT = -1

    def __init__(self):
        self.asked = []

    def gemmStridedBatchedEx(
        self, handle, turned_a, turned_b, m, n, k, alpha, a, a_type, lda, a_step, b, b_type, ldb,
        b_step, beta, c, c_type, ldc, c_step, batch, compute, algorithm,
    ):  # fmt: skip
        assert (handle, algorithm) == (7, -1)
        assert lda >= (k if turned_a else m)
        assert ldb >= (n if turned_b else k)
        assert ldc >= m
        size_a, size_b = (k, m) if turned_a else (m, k), (n, k) if turned_b else (k, n)
        A = column_major(a, a_type, *size_a, lda, a_step, batch)
        B = column_major(b, b_type, *size_b, ldb, b_step, batch)
        C = column_major(c, c_type, m, n, ldc, c_step, batch)
        A, B = A.swapaxes(1, 2) if turned_a else A, B.swapaxes(1, 2) if turned_b else B
        real = ctypes.c_double if c_type == 1 else ctypes.c_float
        scale, keep = real.from_address(alpha).value, real.from_address(beta).value
        product = scale * (A.astype(C.dtype) @ B.astype(C.dtype))
        C[...] = product + keep * C if keep else product
        self.asked.append(compute)


@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize(("batch", "rows", "inner", "columns"),
                         [(1, 5, 7, 3), (3, 4, 6, 2), (2, 1, 1, 1), (2, 1, 5, 4), (2, 5, 1, 4),
                          (3, 5, 4, 1)])  # fmt: skip
def test_products(cupy, batch, rows, inner, columns, dtype, accumulate):
    """Every layout that the launchers use: packed, turned, and one group's columns of many."""
    cupy.cuda.cublas = cublas = Cublas()
    rng = np.random.default_rng(0)
    kept = np.dtype("float64" if dtype == "float64" else "float32")

    def layouts(of, size, kinds):
        of = bfloat16 if of == "bfloat16" else of
        packed = rng.integers(-4, 5, (batch, *size)).astype(of)
        side = np.empty((size[0], batch * size[1]), of)
        by_group = side.reshape(size[0], batch, size[1]).transpose(1, 0, 2)
        by_group[...] = packed
        turned = np.ascontiguousarray(packed.transpose(0, 2, 1)).transpose(0, 2, 1)
        turned_group = np.empty((size[1], batch * size[0]), of)
        turned_group = turned_group.reshape(size[1], batch, size[0]).transpose(1, 2, 0)
        turned_group[...] = packed
        return [a.view(OnDevice) for a in (packed, by_group, turned, turned_group)[:kinds]]

    for a in layouts(dtype, (rows, inner), 4):
        for b in layouts(dtype, (inner, columns), 4):
            for out in layouts(kept, (rows, columns), 2):
                expected = a.astype(kept) @ b.astype(kept) + (out if accumulate else 0)
                products.multiply(a, b, out, accumulate=accumulate, tf32=False)
                np.testing.assert_array_equal(out, expected)
    assert set(cublas.asked) == {70 if dtype == "float64" else 68}


def test_tf32_is_asked_for_by_the_call(cupy):
    cupy.cuda.cublas = cublas = Cublas()
    a = np.ones((1, 2, 2), np.float32).view(OnDevice)
    for precision in ("tf32", "exact"):
        device.CudaDevice().multiply(a, a, a.copy(), accumulate=False, precision=precision)
    assert cublas.asked == [77, 68]


def test_out_of_memory_is_a_memory_error(cupy, monkeypatch):
    """What CuPy says has the bytes that were wanted."""
    monkeypatch.setitem(sys.modules, "cupy.cuda.memory", cupy.cuda.memory)
    said = "2,400 bytes; a smaller workspace_limit may help"
    with pytest.raises(MemoryError, match=said), arrays.on_cupy(arrays.Place(None)):
        raise OutOfMemoryError("Out of memory allocating 2,400 bytes")


def test_a_device_that_is_too_old(cupy, monkeypatch):
    cupy.cuda.Device = lambda number: SimpleNamespace(compute_capability="75")
    said = device.missing()
    assert device.missing(0) == said
    assert said.startswith("its kernels need compute capability 8.0, this device has 7.5; version=")
    run = {"v1": {"sample": registry.Version(str)}}
    run["v2"] = {"sample": registry.Version(str.upper, missing=device.missing)}
    monkeypatch.setitem(registry.BACKENDS, "old", registry.Backend(lambda: run))
    choice = registry.Choice("old", None, "exact")
    assert registry.choose(choice, "sample")[1] is run["v1"]["sample"]
    with pytest.raises(RuntimeError, match="sample of 'old' cannot run: its kernels need compute"):
        registry.choose(choice._replace(version="v2"), "sample")
    cupy.cuda.Device = lambda number: SimpleNamespace(compute_capability="100")
    device._missing.cache_clear()
    device._capability.cache_clear()
    assert device.missing() is None
    assert registry.choose(choice, "sample")[1] is run["v2"]["sample"]


def test_a_driver_that_is_too_old(cupy, monkeypatch):
    class Module:
        def load(self, code):
            raise CUDADriverError("CUDA_ERROR_UNSUPPORTED_PTX_VERSION")

    cupy.cuda.function = SimpleNamespace(Module=Module)
    monkeypatch.setattr(compiler, "cubin", lambda *a: b"")
    monkeypatch.setattr(compiler, "version", lambda: (13, 0))
    with pytest.raises(RuntimeError, match=r"cannot load what NVRTC \(13, 0\) made of layout.cu.*"
                       r"the driver is for CUDA 12020"):  # fmt: skip
        device.CudaDevice().run("layout.cu", "to_rows", BUILD, 10)


def test_a_launch(cupy, monkeypatch):
    """The architecture of the device, a cubin once, and enough threads for the loop."""
    asked, launched = [], []

    class Module:
        def load(self, code):
            assert code == b"cubin"

        def get_function(self, name):
            return lambda grid, block, arguments: launched.append((name, grid, block, arguments))

    cupy.cuda.function = SimpleNamespace(Module=Module)
    monkeypatch.setattr(compiler, "cubin", lambda *a: asked.append(a) or b"cubin")
    on = device.CudaDevice()
    on.run("layout.cu", "f", BUILD, 257, 1, 2)
    on.run("layout.cu", "f", BUILD, 2**60, 1, 2)
    on.run_blocks("layout.cu", "g", BUILD, 3, (32, 8), 4)
    assert asked == [("layout.cu", BUILD, "sm_90")]
    assert launched == [
        ("f", (2,), (256,), (1, 2)), ("f", (2**20,), (256,), (1, 2)), ("g", (3,), (32, 8), (4,)),
    ]  # fmt: skip
