"""`gpu.cupy_kernels.device.CudaDevice` on the CPU: NumPy arrays, kernels built by g++."""

import ctypes

import numpy as np

from deformable_convnets.gpu.cupy_kernels.tiles import Tile

from .builds import library as built

THREADS = 64
MOST_BLOCKS = 2  # so that grid-stride loops go round
# Small, since each thread is a fiber: a warp, and two warps of which each has two tiles a way
TILES = (Tile(16, 16, 1, 1, 1, 1), Tile(32, 64, 1, 2, 1, 3))


class CpuDevice:
    """Runs kernels in one order of threads; `watched` looks for races and accesses out of bounds.

    specialises  whether kernels are built for the shape of a call, else for any shape
    tiles        those that the fused kernel may take
    """

    processors, block_bytes = 4, 100_000

    def __init__(self, *, order=0, watched=False, specialises=False, mutation=None, most_lanes=4,
                 tiles=TILES):  # fmt: skip
        self.order, self.watched, self.specialises = order, watched, specialises
        self.most_lanes = most_lanes
        self.mutation, self.tiles = mutation, {1: tiles, 2: tiles}

    def empty(self, shape, dtype):
        """Not zeros, as on a GPU: bytes that are NaN as floats."""
        a = np.empty(shape, dtype)
        a.view(np.uint8).fill(0xFF) if a.ndim else None
        return a

    def zeros(self, shape, dtype):
        return np.zeros(shape, dtype)

    def address(self, a):
        return a.ctypes.data

    def packed(self, a):
        return None if a is None else np.ascontiguousarray(a)

    def rounded(self, a, dtype):
        return a.astype(dtype, copy=False)

    def sorted(self, keys):
        return np.sort(keys, axis=-1)

    def cumulated(self, counts):
        return np.cumsum(counts)

    def numbers(self, a):
        return np.array(a)

    def run(self, source, kernel, build, size, *arguments):
        self.run_blocks(source, kernel, build, -(-size // THREADS), (THREADS,), *arguments)

    def run_blocks(self, source, kernel, build, blocks, threads, *arguments):
        mutation = self.mutation if self.mutation and self._concerns(source) else None
        library = built(source, build, mutation)
        grid = (ctypes.c_uint * 3)(min(blocks, MOST_BLOCKS), 1, 1)
        block = (ctypes.c_uint * 3)(*threads, *(1,) * (3 - len(threads)))
        values = [_value(a) for a in arguments]
        pointers = (ctypes.c_void_p * len(values))(*(v.ctypes.data for v in values))
        arrays = [
            (a.ctypes.data, a.ctypes.data + a.nbytes, i)
            for i, a in enumerate(arguments) if _is_array(a)
        ]  # fmt: skip
        ranges = (ctypes.c_uint64 * (3 * len(arrays)))(*(n for a in arrays for n in a))
        message = ctypes.create_string_buffer(500)
        library.watch_arrays(ctypes.c_bool(self.watched), ranges, len(arrays))
        library.launch(kernel.encode(), grid, block, pointers, ctypes.c_uint(self.order), message,
                       ctypes.c_size_t(len(message)))  # fmt: skip
        if message.value:
            raise AssertionError(f"{kernel} of {source}: {message.value.decode()}")

    def _concerns(self, source):
        return self.mutation[0] == source or self.mutation[0].endswith(".cuh")

    def multiply(self, a, b, out, *, accumulate, precision):
        if precision == "tf32":
            a, b = as_tf32(a), as_tf32(b)
        product = a.astype(out.dtype) @ b.astype(out.dtype)
        out[...] = out + product if accumulate else product


def as_tf32(a):
    """Float32 numbers rounded to 10 bits of mantissa, ties away from zero."""
    bits = np.ascontiguousarray(a).view(np.uint32)
    return ((bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)


def _is_array(a):
    return isinstance(a, np.ndarray) and a.dtype.names is None


def _value(a):
    """What a kernel's parameter holds: a pointer, or a number or struct by value."""
    if a is None:
        return np.zeros((), np.uint64)
    return np.array(a.ctypes.data, np.uint64) if _is_array(a) else np.asarray(a)
