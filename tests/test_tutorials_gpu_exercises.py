"""The exercises of notebook 11, whose answers are kernels: what is wrong with one is said."""

import copy
import importlib
import inspect
from pathlib import Path

import pytest

pytest.importorskip("numba.cuda")

from deformable_convnets.gpu.numba_kernels.bilinear import sample
from deformable_convnets.gpu.numba_kernels.shim import cuda

TUTORIALS = Path(__file__).resolve().parents[1] / "tutorials"


@pytest.fixture
def verdict(monkeypatch):
    """What `exercises.check` says of a kernel."""
    monkeypatch.syspath_prepend(TUTORIALS)
    exercises = importlib.import_module("exercises")
    return lambda name, kernel, limit=5: exercises.verdict(
        name, exercises.gpu.launched(kernel), limit
    )


@pytest.fixture
def solution(verdict):
    """The kernel of a solution, by name."""
    solutions = importlib.import_module("solutions")
    return lambda name: inspect.unwrap(solutions.solution(name))


ANSWERS = {}  # what is wrong: the exercise, the kernel, and what the check has to say


def answer(name, *words):
    def register(kernel):
        ANSWERS[kernel.__name__] = name, kernel, words
        return kernel

    return register


@answer("strided_map", "only as many elements as there are threads")
def no_loop(x, y):
    i = cuda.grid(1)
    if i < y.size:
        y[i] = 2 * x[i] + 1


@answer("strided_map", "raised IndexError", "reads x[", "of shape")
def no_guard(x, y):
    for i in range(cuda.grid(1), y.size + cuda.gridsize(1), cuda.gridsize(1)):
        y[i] = 2 * x[i] + 1


@answer("strided_map", "y is right, but several threads write the same element")
def stride_of_a_block(x, y):
    for i in range(cuda.threadIdx.x, y.size, cuda.blockDim.x):
        y[i] = 2 * x[i] + 1


@answer("strided_map", "y is right, but the threads read x")
def reads_twice(x, y):
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        y[i] = x[i] + x[i] + 1


@answer("strided_map", "y is right, but written")
def writes_twice(x, y):
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        y[i] = 0
        y[i] = 2 * x[i] + 1


@answer("strided_map", "the kernel writes to x, which is an input")
def in_place(x, y):
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        x[i] = 2 * x[i] + 1


@answer("strided_map", "a kernel returns nothing")
def returns(x, y):
    return 2 * x[0] + 1


@answer("strided_map", "cuda.syncthreads is not in these puzzles")
def barrier(x, y):
    cuda.syncthreads()


@answer("strided_map", "the kernel takes (x), and is given 2")
def too_few(x):
    pass


@answer("strided_map", "still ran after", "loop that never ends")
def endless(x, y):
    i = cuda.grid(1)
    while i < y.size:
        pass


@answer("read_once", "columns is right, but the threads read offset", "216 are enough")
def per_channel(x, offset, columns):
    K, P = columns.shape[1:]
    for t in range(cuda.grid(1), columns.size, cuda.gridsize(1)):
        c, k, oy, ox = t // (K * P), t // P % K, t % P // 4, t % P % 4
        py = oy + k // 3 + offset[2 * k, oy, ox]
        px = ox + k % 3 + offset[2 * k + 1, oy, ox]
        columns[c, k, t % P] = sample(x[c], py, px, False)


@answer("coalesced", "y is right, but a request of a warp to x touches", "4 are enough")
def points_first(x, p, y):
    t, P = cuda.grid(1), p.shape[0]
    if t < y.size:
        y[t % P, t // P] = sample(x[:, :, t // P], p[t % P, 0], p[t % P, 1], False)


@answer("coalesced", "y is right, but a request of a warp to x touches", "4 are enough")
def thread_for_a_point(x, p, y):
    i = cuda.grid(1)
    if i < p.shape[0]:
        for c in range(x.shape[2]):
            y[i, c] = sample(x[:, :, c], p[i, 0], p[i, 1], False)


@answer("strided_map", "raised TypeError: a thread works on one number: x[i], not x as a whole")
def all_at_once(x, y):
    y[:] = 2 * x + 1


@answer("strided_map", "raised TypeError: a thread works on one number: y[i], not on many at once")
def one_to_all(x, y):
    y[:] = 2 * x[cuda.grid(1)] + 1


@answer("coalesced", "raised IndexError", "reads p[", "of shape (")
def coalesced_without_guard(x, p, y):
    i, c = cuda.grid(1) // x.shape[2], cuda.grid(1) % x.shape[2]
    y[i, c] = sample(x[:, :, c], p[i, 0], p[i, 1], False)


@answer("coalesced", "raised IndexError", "reads x[-1, ")
def coalesced_without_border(x, p, y):
    t, C = cuda.grid(1), x.shape[2]
    if t < y.size:
        i, c = t // C, t % C
        top, left = int(p[i, 0] // 1), int(p[i, 1] // 1)
        y[i, c] = 0
        for q, r in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
            y[i, c] += (1 - abs(q - p[i, 0])) * (1 - abs(r - p[i, 1])) * x[q, r, c]


ADDS_TO_NAN = "grad_x comes filled with NaN: write every element, do not add to it"


@answer("gathered", ADDS_TO_NAN)
def adds_to_the_result(start, source, g, grad, grad_x):
    for q in range(cuda.grid(1), grad_x.size, cuda.gridsize(1)):
        for e in range(start[q], start[q + 1]):
            grad_x[q] += g[e] * grad[source[e]]


@answer("gathered", ADDS_TO_NAN)
def atomics_onto_the_result(start, source, g, grad, grad_x):
    for q in range(cuda.grid(1), grad_x.size, cuda.gridsize(1)):
        for e in range(start[q], start[q + 1]):
            cuda.atomic.add(grad_x, q, g[e] * grad[source[e]])


@answer("gathered", "only as many pixels as there are threads")
def a_pixel_for_a_thread(start, source, g, grad, grad_x):
    q, total = cuda.grid(1), 0.0
    if q < grad_x.size:
        for e in range(start[q], start[q + 1]):
            total += g[e] * grad[source[e]]
        grad_x[q] = total


@answer("gathered", "pixels without corners not written")
def leaves_out_the_empty(start, source, g, grad, grad_x):
    for q in range(cuda.grid(1), grad_x.size, cuda.gridsize(1)):
        total = 0.0
        if start[q] < start[q + 1]:
            for e in range(start[q], start[q + 1]):
                total += g[e] * grad[source[e]]
            grad_x[q] = total


@answer("gathered", "grad_x is right, but by", "atomic additions")
def by_atomics(start, source, g, grad, grad_x):
    for q in range(cuda.grid(1), grad_x.size, cuda.gridsize(1)):
        grad_x[q] = 0
        for e in range(start[q], start[q + 1]):
            cuda.atomic.add(grad_x, q, g[e] * grad[source[e]])


@pytest.mark.parametrize("case", ANSWERS)
def test_a_wrong_kernel_is_diagnosed(case, verdict):
    name, kernel, words = ANSWERS[case]
    said = verdict(name, kernel, 0.2 if case == "endless" else 5)
    assert all(w in said for w in words), said
    assert said.startswith(f"{name}: not yet.")
    assert "\n" not in said


SPOILT = {
    "no weight": ("gathered", "g[e] * grad[source[e]]", "grad[source[e]]", "g forgotten"),
    "no source": ("gathered", "grad[source[e]]", "grad[e % grad.size]", "grad[e], not grad"),
    "overwrites": ("gathered", "total += ", "total = ", "overwrites instead of adding"),
    "the last one": ("gathered", "start[q + 1])", "start[q + 1] - 1)", "the last entry of each"),
    "x first": ("read_once", "offset[2 * k, oy, ox]\n        px = ox + k % 3 + offset[2 * k + 1,",
                "offset[2 * k + 1, oy, ox]\n        px = ox + k % 3 + offset[2 * k,", "x-first"),
    "columns": ("read_once", "oy + k // 3 + offset[2 * k, oy, ox]\n        px = ox + k % 3",
                "oy + k % 3 + offset[2 * k, oy, ox]\n        px = ox + k // 3", "transposed taps"),
    "no p_n": ("read_once", "oy + k // 3 + offset[2 * k, oy, ox]\n        px = ox + k % 3 +",
               "oy + offset[2 * k, oy, ox]\n        px = ox +", "the tap p_n forgotten"),
    "padding": ("read_once", "oy + k // 3 + offset[2 * k, oy, ox]\n        px = ox + k % 3 +",
                "oy - 1 + k // 3 + offset[2 * k, oy, ox]\n        px = ox - 1 + k % 3 +",
                "of a layer with padding 1"),
    "p": ("coalesced", "p[i, 0], p[i, 1]", "p[i, 1], p[i, 0]", "the x-first order of p"),
}  # fmt: skip


@pytest.mark.parametrize("case", SPOILT)
def test_a_spoilt_solution_is_diagnosed(case, verdict, solution):
    name, right, wrong, words = SPOILT[case]
    source, scope = inspect.getsource(solution(name)), copy.copy(solution(name).__globals__)
    assert source.count(right) == 1
    exec(source.replace(right, wrong).removeprefix("@launched\n"), scope)
    assert words in verdict(name, scope[name])


def test_a_jitted_kernel_is_a_kernel(verdict, solution):
    assert "right" in verdict("strided_map", cuda.jit(solution("strided_map")))


def test_what_is_no_kernel(verdict):
    assert "None is no kernel" in verdict("strided_map", None)


def test_a_kernel_that_is_not_launched_is_known(verdict, solution):
    """Only the learner's own function, and only where the exercise wants a kernel."""
    exercises = importlib.import_module("exercises")
    gpu = exercises.gpu
    task = (gpu.Task((1, 1), None),)
    assert gpu.not_launched(solution("gathered"), task)
    assert gpu.not_launched(cuda.jit(solution("gathered")), task)
    assert not gpu.not_launched(solution("gathered"), (1,))
    assert not gpu.not_launched(gpu.launched(solution("gathered")), task)
    assert not any(gpu.not_launched(m.run, task) for m in exercises.EXERCISES["gathered"].wrong)
    assert not gpu.not_launched(None, task)


def test_a_kernel_without_launched(verdict, solution):
    exercises = importlib.import_module("exercises")
    said = exercises.verdict("strided_map", solution("strided_map"))
    assert "launched(strided_map))" in said
