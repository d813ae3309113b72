"""Mutants of the fused kernel: one text changed, as a slip would, and how each has to be caught.

By a wrong result on an exact problem, or by the watch: two threads use one number with no barrier
between them, a copy is used while it is being made, an access is out of bounds.
"""

import numpy as np
import pytest
from cuda_on_cpu import builds
from fused_on_cpu import SHAPE, TWO_WARPS, Counting, arguments, make, offer, with_mask, wrong
from test_cuda_fused import error, ordinary

from deformable_convnets import gpu
from deformable_convnets.gpu.cupy_kernels.tiles import Tile

RACE, COPIED, BOUNDS = "with no barrier between", "while it is being copied", "out of bounds"
HEADER, KERNELS = "fused.cuh", "fused.cu"
MUTANTS = {
    "a wait that is one too weak": (
        (KERNELS, "cp_async_wait<STAGES - 2>();", "cp_async_wait<STAGES - 1>();"), COPIED),
    "no barrier before a step": (
        (KERNELS, "        __syncthreads();  // the tiles", "        // the tiles"),
        f"{RACE}|{COPIED}"),
    "no barrier after the coefficients": (
        (KERNELS, "            __syncthreads();  // before", "            // before"),
        f"{RACE}|{BOUNDS}"),
    "weights into the stage that is read": (
        (KERNELS, "stage = 0, free = STAGES - 1;", "stage = 0, free = 0;"), f"{RACE}|{COPIED}"),
    "stages go round too early": (
        (KERNELS, "stage = stage == STAGES - 1 ? 0", "stage = stage == STAGES - 2 ? 0"),
        f"wrong|{COPIED}"),
    "columns into the buffer that is read": (
        (KERNELS, "memory, next.tap, (i + 1) % 2, turn)", "memory, next.tap, i % 2, turn)"), RACE),
    "taps that do not go on": (
        (KERNELS, "if (last) next.advance(s);", "if (!last) next.advance(s);"), "wrong"),
    "taps that run backwards": (
        (KERNELS, "(from * s.I + i) * s.K + k]", "(from * s.I + i) * s.K + s.K - 1 - k]"),
        "wrong"),
    "channels that do not go on": (
        (KERNELS, "tap = 0, from += ROW_VECTORS;", "tap = 0;"), "wrong"),
    "the last step left out": (
        (KERNELS, "const int steps = (end - begin) * s.K;",
         "const int steps = (end - begin) * s.K - 1;"), "wrong"),
    "a gather left out": (
        (KERNELS, "if (!last || i + 2 < steps)", "if (!last || i + 3 < steps)"), "wrong"),
    "a sum left out": ((KERNELS, "for (int i = 1; i < of.sums; ++i)",
                        "for (int i = 1; i < of.sums - 1; ++i)"), "wrong"),
    "sums that overlap": ((KERNELS, "end = chunks * (sum + 1) / of.sums;",
                           "end = chunks * (sum + 1) / of.sums + (sum + 1 < of.sums);"), "wrong"),
    "the bias of another group": (
        (KERNELS, "o = tile.group * of.O + column;", "o = column;"),
        f"wrong|{RACE}"),
    "offset groups of the first weight group": (
        (KERNELS, "(c + begin * DEPTH) / in_group;", "begin * DEPTH / in_group;"),
        f"wrong|{RACE}"),
    "pixels beyond the last": (
        (KERNELS, "if (pixel >= of.pixels) continue;", "if (pixel < 0) continue;"), BOUNDS),
    "channels beyond the last": (
        (KERNELS, "if (column >= of.O) continue;", ""), f"{BOUNDS}|{RACE}"),
    "coefficients of pixels beyond the last": (
        (HEADER, "if (p < pixels) {", "if (p <= pixels) {"), BOUNDS),
    "fragments of weights mixed up": (
        (HEADER, "b[j + i / 2].set(i % 2, four[i])", "b[j + i % 2].set(i / 2, four[i])"), "wrong"),
    "rows of columns for other lanes": (
        (HEADER, "lane % 16) * ROW_BYTES + lane / 16 * 16;",
         "lane % 16) * ROW_BYTES + lane / 8 % 2 * 16;"), "wrong"),
    "the low part of samples lost": (
        (HEADER, "        mma(T(), sum, a.at[1], b.at[0]);\n", ""), "wrong"),
    "the low part of weights lost": (
        (HEADER, "        mma(T(), sum, a.at[0], b.at[1]);\n", ""), "wrong"),
    "no parts at all": (
        (HEADER, "            at[1][i] = __float_as_uint(rest) & 0xffffe000u;",
         "            at[1][i] = 0;"), "wrong"),
    "a patch beyond the map": (
        (HEADER, "max(min(pixel, size - 2), 0)", "max(min(pixel, size - 1), 0)"),
        f"{BOUNDS}|wrong"),
    "weights of a patch not moved": (
        (HEADER, "{first == pixel ? both : A(0), first == pixel ? A(0) : both}", "{both, A(0)}"),
        "wrong"),
    "rows and columns of a patch": (
        (HEADER, "of_y.g[j / 2] * of_x.g[j % 2]", "of_y.g[j % 2] * of_x.g[j / 2]"), "wrong"),
    "no mask": ((HEADER, "g.at[j] = m * of_y", "g.at[j] = of_y"), "wrong"),
    "a pixel too far": (
        (HEADER, "to.at[i][3] = x[down + across];", "to.at[i][3] = x[down];"), "wrong"),
}  # fmt: skip


@pytest.fixture(autouse=True)
def needs_gxx():
    if builds.missing():
        pytest.skip(builds.missing())


def look(monkeypatch, mutation=None):
    """What finds the mutants: a problem with all there is, split sums, and both wide families."""
    for family, processors in (("base", 1), ("edge", 60), ("wide-x", 1), ("wide-w", 1)):
        offer(monkeypatch, Counting(watched=True, mutation=mutation, processors=processors))
        p = with_mask(make()) if family == "base" else make(family)
        count = wrong(p)
        assert not count, f"wrong: {count} numbers of {family}"


def test_what_finds_them_finds_nothing_in_the_kernel(monkeypatch):
    look(monkeypatch)
    assert SHAPE.groups > 1
    assert SHAPE.G > 1


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_caught(monkeypatch, name):
    mutation, how = MUTANTS[name]
    with pytest.raises(AssertionError, match=how):
        look(monkeypatch, mutation)


def test_weights_in_another_order_of_threads_are_wrong_without_a_watch(monkeypatch):
    """Copies are made as late as a wait allows: what is too weak shows in y too."""
    mutation, _ = MUTANTS["a wait that is one too weak"]
    offer(monkeypatch, Counting(mutation=mutation))
    assert wrong(make()) > 0


def test_a_block_with_too_little_memory(monkeypatch):
    size = Tile.block_bytes
    monkeypatch.setattr(Tile, "block_bytes", lambda *of: size(*of) - 4)
    offer(monkeypatch, Counting(watched=True))
    with pytest.raises(AssertionError, match=BOUNDS):
        wrong(make())


def test_sums_that_stay_in_the_tensor_core(monkeypatch):
    """No exact problem sees it, since nothing is cut off there; on ordinary floats it adds up."""
    old = "        for (int i = 0; i < 4; ++i) d[i] += sum[i];"
    errors = []
    for start, end in (("{}", old), ("{d[0], d[1], d[2], d[3]}", old.replace("+=", "="))):
        before = f"        A sum[4] = {start};\n        mma(T(), sum, a.at[1], b.at[0]);"
        device = Counting(tiles=(TWO_WARPS,), mutation=None)
        if start != "{}":
            device.mutation = (HEADER, _multiply(), _multiply(before, end))
        offer(monkeypatch, device)
        errors.append(error(ordinary())[0])
    assert errors[1] > 3 * errors[0]


def _multiply(before="        A sum[4] = {};\n        mma(T(), sum, a.at[1], b.at[0]);",
              after="        for (int i = 0; i < 4; ++i) d[i] += sum[i];"):  # fmt: skip
    return f"""{before}
        mma(T(), sum, a.at[0], b.at[1]);
        mma(T(), sum, a.at[0], b.at[0]);
{after}"""


def test_a_kernel_that_is_told_nothing_of_the_shape_is_the_same(monkeypatch):
    found = []
    for specialises in (False, True):
        offer(monkeypatch, Counting(specialises=specialises, tiles=(TWO_WARPS,)))
        found.append(gpu.deform_conv2d(**arguments(ordinary()), backend="fused"))
    np.testing.assert_array_equal(*found)
