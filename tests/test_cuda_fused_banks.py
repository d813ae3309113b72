"""Where the threads of the fused kernel are in shared memory: its banks, counted.

A unit is 16 bytes, in four of the 32 banks of 4 bytes. A warp whose threads move a unit each does
so in quarters, eight threads at a time; those of a quarter that meet in a bank wait for each other.
So a warp takes four wavefronts at least. Not measured on a GPU.
"""

import numpy as np
import pytest
from cuda_on_cpu import builds
from cuda_on_cpu.cpu_device import CpuDevice
from test_cuda_fused_compiler import build

from deformable_convnets.gpu.cupy_kernels.tiles import TILES

PLACES = """
#include "fused.cuh"
extern "C" __global__ void places(int* to) {
    const Shape s = {};
    const Memory memory(s);
    const int of[5] = {memory.row, memory.vector, memory.mine, memory.a, memory.b};
    for (int i = 0; i < 5; ++i) to[threadIdx.x * 5 + i] = of[i];
}
"""
builds.OF_TESTS["places.cu"] = PLACES
IN_ORDER = (
    "fused.cuh",
    "row = row_of(threadIdx.x / ROW_VECTORS)",
    "row = threadIdx.x / ROW_VECTORS",
)
CLOSE = ("fused.cuh", "ROW_BYTES = STEP_BYTES + 16", "ROW_BYTES = STEP_BYTES")
DEPTHS = pytest.mark.parametrize("depth_bytes", [64, 32])


def places(kind, tile, depth_bytes, mutation=None):
    """Of every thread: its row and vector, and the bytes to these and to what `ldmatrix` reads."""
    if builds.missing():
        pytest.skip(builds.missing())
    found, built = np.zeros((tile.threads, 5), np.int32), build(kind, tile, depth_bytes=depth_bytes)
    CpuDevice(mutation=mutation).run_blocks("places.cu", "places", built, 1, (tile.threads,), found)
    return found.T


def wavefronts(addresses):
    """Of each warp: the most that meet in a bank, added up over its quarters."""
    units = addresses.reshape(-1, 4, 8) // 16 % 8
    return [sum(max(np.bincount(quarter)) for quarter in warp) for warp in units]


@DEPTHS
@pytest.mark.parametrize(("kind", "tile"), [("exact", TILES[2][0]), ("float16", TILES[1][3])])
def test_no_bank_is_met_twice(kind, tile, depth_bytes):
    """By what a thread writes, columns or a copy of weights, and by what `ldmatrix` reads."""
    row, vector, mine, a, b = places(kind, tile, depth_bytes)
    for addresses in (mine, a, b):
        assert wavefronts(addresses) == [4] * (tile.threads // 32)
    assert (mine == row * (depth_bytes + 16) + vector * 16).all()


@DEPTHS
def test_rows_in_order_meet(depth_bytes):
    tile = TILES[2][0]
    _, _, mine, a, _ = places("exact", tile, depth_bytes, IN_ORDER)
    assert wavefronts(mine) == [8] * (tile.threads // 32)
    assert wavefronts(a) == [4] * (tile.threads // 32)
    _, _, _, a, _ = places("exact", tile, depth_bytes, CLOSE)
    assert min(wavefronts(a)) > 4


@DEPTHS
def test_a_warp_copies_neighbours(depth_bytes):
    """512 bytes of weights, and whole rows of x, so that loads of global memory are few."""
    row, vector, *_ = places("exact", TILES[2][0], depth_bytes)
    copied = (row * (depth_bytes // 16) + vector).reshape(-1, 32)
    np.testing.assert_array_equal(np.sort(copied, axis=1).ravel(), np.arange(copied.size))
