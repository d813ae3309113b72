"""A CUDA device, as the launchers of this folder see it: memory, kernels, products, a sort.

The tests have a class with the same methods that runs the same kernels on the CPU.
"""

from functools import cache
from typing import Any

from . import compiler, tiles
from .build import WARP, Build
from .choices import Machine

THREADS = 256
MOST_BLOCKS = 2**20  # kernels are grid-stride loops: fewer blocks than tiles are right too
USUAL_BLOCK_BYTES = 48 * 1024  # of shared memory; a kernel says if it needs more
OLDEST = (8, 0)  # the first architecture that the kernels are compiled for


class CudaDevice:
    """The current device of CuPy, and its current stream."""

    specialises = True  # compile for the shape of a call
    most_lanes = WARP
    tiles = tiles.TILES

    @property
    def processors(self) -> int:
        """Its multiprocessors."""
        return _attribute("cudaDevAttrMultiProcessorCount", _device())

    @property
    def block_bytes(self) -> int:
        """Shared memory that a block can have."""
        return _attribute("cudaDevAttrMaxSharedMemoryPerBlockOptin", _device())

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """A new array, not initialised."""
        import cupy

        return cupy.empty(shape, dtype)

    def address(self, a: Any) -> int:
        """Where its numbers begin."""
        return int(a.data.ptr)

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> Any:
        a = self.empty(shape, dtype)
        a.data.memset_async(0, a.nbytes)
        return a

    def packed(self, a: Any) -> Any:
        """The array in C order, itself if it is; None for None. 16 bits are copied as integers."""
        import cupy

        if a is None or a.flags.c_contiguous:
            return a
        kept = a.dtype
        a = a.view("int16") if kept.itemsize == 2 else a
        return cupy.ascontiguousarray(a).view(kept)

    def rounded(self, a: Any, dtype: Any) -> Any:
        """The array in a dtype, rounded once."""
        return a.astype(dtype, copy=False)

    def sorted(self, keys: Any) -> Any:
        """Each row in ascending order, in place: a row at a time CuPy sorts by radix."""
        for row in keys if keys.ndim > 1 else (keys,):
            row.sort()
        return keys

    def cumulated(self, counts: Any) -> Any:
        """The sum of each number and all before it."""
        import cupy

        return cupy.cumsum(counts)

    def numbers(self, a: Any) -> Any:
        """A copy in host memory, for which the call waits."""
        import cupy

        return cupy.asnumpy(a)

    def run(self, source: str, kernel: str, build: Build, size: int, *arguments: Any) -> None:
        """Launches a grid-stride loop over `size`."""
        blocks = min(-(-size // THREADS), MOST_BLOCKS)
        function(source, kernel, build, _device())((blocks,), (THREADS,), arguments)

    def run_blocks(self, source: str, kernel: str, build: Build, blocks: int,
                   threads: tuple[int, ...], *arguments: Any) -> None:  # fmt: skip
        """Launches a loop over blocks."""
        at_most = min(blocks, MOST_BLOCKS)
        shared = (build.block_bytes,) if build.block_bytes else ()
        function(source, kernel, build, _device())((at_most,), threads, arguments, *shared)

    def multiply(self, a: Any, b: Any, out: Any, *, accumulate: bool, precision: str) -> None:
        """out = a b, or out += a b, for each matrix of three batches; sums are in out's dtype.

        precision  "tf32": operands in float32 are rounded to 10 bits of mantissa
        """
        from . import products

        products.multiply(a, b, out, accumulate=accumulate, tf32=precision == "tf32")


def missing(device: int | None = None) -> str | None:
    """Why the kernels of CUDA C++ cannot run on a device, or None; else on the current one."""
    return _missing(_device() if device is None else device)


@cache
def _missing(device: int) -> str | None:
    major, minor = _capability(device)
    if (major, minor) >= OLDEST:
        return None
    return (
        f"its kernels need compute capability {OLDEST[0]}.{OLDEST[1]}, this device has"
        f" {major}.{minor}; version='v1' and backend='numba' work on it"
    )


def machine() -> Machine:
    """The current device, as `choices` knows it."""
    return _machine(_device())


@cache
def _machine(device: int) -> Machine:
    import cupy

    name = cupy.cuda.runtime.getDeviceProperties(device)["name"]
    return Machine(name.decode() if isinstance(name, bytes) else str(name))


@cache
def _capability(device: int) -> tuple[int, int]:
    import cupy

    text = cupy.cuda.Device(device).compute_capability
    return int(text[:-1]), int(text[-1])


@cache
def _attribute(name: str, device: int) -> int:
    from cupy.cuda import runtime

    return int(runtime.deviceGetAttribute(getattr(runtime, name), device))


@cache
def function(source: str, kernel: str, build: Build, device: int) -> Any:
    """A kernel that can be launched on a device, with the shared memory of its build."""
    made = _module(source, build, device).get_function(kernel)
    if build.block_bytes > USUAL_BLOCK_BYTES:
        from cupy.cuda import driver

        driver.funcSetAttribute(
            made.ptr, driver.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, build.block_bytes
        )
    return made


@cache
def _module(source: str, build: Build, device: int) -> Any:
    import cupy

    major, minor = _capability(device)
    code = compiler.cubin(source, build, f"sm_{major}{minor}")
    module = cupy.cuda.function.Module()
    try:
        module.load(code)
    except cupy.cuda.driver.CUDADriverError as error:
        raise RuntimeError(
            f"the driver cannot load what NVRTC {compiler.version()} made of {source}, in"
            f" {compiler.folder()}: {error}; the driver is for CUDA"
            f" {cupy.cuda.runtime.driverGetVersion()}"
        ) from error
    return module


def _device() -> int:
    import cupy

    return int(cupy.cuda.runtime.getDevice())
