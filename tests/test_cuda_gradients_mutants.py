"""What the tests of the fused gradients would see of a slip: kernels with one text changed.

Each is caught by a wrong result on an exact problem, with several groups, chunks and splits; by
numbers of 12 bits, of which TF32 holds 11; or by the shim, which sees races and accesses out of
bounds. Not run on a GPU.
"""

import pytest
from cuda_on_cpu import builds
from cuda_on_cpu.cpu_device import CpuDevice
from fused_gradients import GROUPED, problem, run, widened, wrong

from deformable_convnets.gpu.cupy_kernels import deform_conv, fused_backward

WEIGHT, POINTS, WORDS = "fused_grad_weight.cu", "fused_grad_points.cu", "fused_words.cuh"
SEGMENTS = {"C": 48, "O": 12, "groups": 4, "G": 2}  # two weight groups in each offset group
SHAPES = {WEIGHT: GROUPED, POINTS: SEGMENTS, WORDS: GROUPED}
WRT = {WEIGHT: ("weight",), POINTS: ("x", "offset", "mask"), WORDS: ("weight",)}
RACE, OUT, WRONG, ROUNDED = "with no barrier between them", "out of bounds", "wrong", "rounded"
MUTANTS = {
    WEIGHT: {
        "no barrier before a step is read": (
            "            __syncthreads();  // this step", "            // this step", RACE),
        "no barrier after the last step": (
            "        __syncthreads();\n        const int split", "        const int split", RACE),
        "the tile of the step before": ("add_step(d, grads, samples, step % 2);",
                                        "add_step(d, grads, samples, (step + 1) % 2);", RACE),
        "a place of the step before": ("of_x.find(pixels, part, next + PIXELS, s);", "", WRONG),
        "rows of a fragment swapped": ("k + t + 4 * (i / 2), o + 16 * m + 8 * (i % 2)",
                                       "k + t + 4 * (i % 2), o + 16 * m + 8 * (i / 2)", WRONG),
        "columns of a result shifted": (
            "* 8 + lane % 4 * 2 + e % 2;", "* 8 + lane % 4 + e % 2;", RACE),
        "one pixel too many": ("last = min(first + each * PIXELS, s.count);",
                               "last = first + each * PIXELS;", OUT),
        "another tap": ("* s.K + part.k;", "* s.K + (part.k + 1) % s.K;", WRONG),
        "one offset group for all": (
            "(p * s.G + (part.c + within) / (s.C / s.G))", "(p * s.G)", WRONG),
        "another group's outputs": ("outputs = (group + 1) * of_group", "outputs = s.O", RACE),
        "the last part left out": (
            "split < splits; ++split", "split < splits - 1; ++split", WRONG),
        "the chunk before forgotten": ("grad_w[t] += total;", "grad_w[t] = total;", WRONG),
    },
    POINTS: {
        "no barrier before a step is read": (
            "        __syncthreads();  // this step", "        // this step", RACE),
        "no barrier before the result": (
            "    __syncthreads();  // the result", "    // the result", RACE),
        "no barrier before the result is read": (
            "= d[m][n][e];\n    __syncthreads();", "= d[m][n][e];", RACE),
        "no barrier before the next tile": (
            "modulations, sums, part, s, of);\n                __syncthreads();",
            "modulations, sums, part, s, of);", RACE),
        "rows of a fragment swapped": ("16 * m + 8 * (i % 2)", "16 * m + 8 * (i / 2)", WRONG),
        "a lost sum": ("sums[i][0] += by_y, sums", "sums[i][0] = by_y, sums", WRONG),
        "every thread adds": ("        if (lane == 0) sums", "        sums", RACE),
        "half of a team": ("lanes > 0; lanes /= 2", "lanes > 1; lanes /= 2", WRONG),
        "no mask in the gradient of x": ("= modulations[i] * w.at[corner / 2]",
                                         "= w.at[corner / 2]", WRONG),
        "no mask in equation (7)": ("m * sums[thread][1]", "sums[thread][1]", WRONG),
        "the first weight group for all": ("o = channel / s.I * outputs;", "o = 0;", WRONG),
        "the channels of a segment alone": (
            "c < s.C / s.G; c += of.segment", "c < of.segment; c += of.segment", WRONG),
        "a pixel too many": ("if (p < of.count && o <", "if (o <", OUT),
        "an output too many": ("if (o < at.outputs && c < at.end)", "if (c < at.end)", OUT),
        "the first pixel of all chunks": (
            "const Point at(t, of.first, s);\n            cells",
            "const Point at(t, 0, s);\n            cells", OUT),
    },
    WORDS: {
        "a low part left out": ("    mma_tf32(sum, a_low, b_high);\n", "", ROUNDED),
        "another low part left out": ("    mma_tf32(sum, a_high, b_low);\n", "", ROUNDED),
    },
}  # fmt: skip
EACH = [(source, name) for source, mutants in MUTANTS.items() for name in mutants]


@pytest.fixture(autouse=True)
def several_of_all(monkeypatch):
    """Splits and chunks."""
    if builds.missing():
        pytest.skip(builds.missing())
    pytest.importorskip("ml_dtypes")
    monkeypatch.setattr(fused_backward.GradWeight, "_wanted", lambda self, count: 2)
    monkeypatch.setattr(deform_conv, "SMALLEST_CHUNK", 100)


def found(source, mutation=None):
    """What is wrong with a mutant."""
    device = CpuDevice(watched=True, mutation=mutation and (source, *mutation))
    wrt = WRT[source]
    size = {"N": 2, "size": (5, 7)} if source == POINTS else {"N": 3, "size": (7, 9)}
    given, grad = problem(**SHAPES[source], **size)
    limit = 3_000 if source == POINTS else 30_000
    if wrong(run(given, grad, wrt=wrt, device=device, workspace_limit=limit), given, grad):
        return WRONG
    for wide in ("x", "grad") if source == WORDS else ():
        given, grad = widened(*problem(**GROUPED), wide)
        if wrong(run(given, grad, wrt=wrt, device=device), given, grad):
            return ROUNDED
    return ""


@pytest.mark.parametrize(("source", "name"), EACH)
def test_a_mutant_is_caught(source, name):
    old, new, how = MUTANTS[source][name]
    if how in (WRONG, ROUNDED):
        assert found(source, (old, new)) == how
    else:
        with pytest.raises(AssertionError, match=how):
            found(source, (old, new))


@pytest.mark.parametrize("source", MUTANTS)
def test_the_kernel_itself_is_right(source):
    assert found(source) == ""
