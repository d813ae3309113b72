"""The exercises of notebook 11, whose answers are kernels; see `exercises` and `puzzles`.

The last argument of a kernel is its result. In its place a problem has a task: the grid of the
launch, the right result and what it may cost.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import numpy as np

import deformable_convnets.reference as reference
from deformable_convnets.reference.oracle.mistakes import Mistake

from .calls import Trouble
from .grading import Exercise


class NotYet(Trouble):
    """The numbers are right and the kernel costs more than it has to; or it adds to NaN."""


@dataclass(frozen=True)
class Task:
    """How a kernel is launched, what it has to give, and how much it may ask of memory.

    The limits are by the position of the array among the arguments.
    """

    grid: tuple[int, int]  # blocks, threads of a block
    right: np.ndarray
    reads: dict[int, int] = field(default_factory=dict)
    sectors: dict[int, float] = field(default_factory=dict)
    writes: int | None = None

    def judged(self, run: Any) -> np.ndarray:
        """The result of a `puzzles.Run`; NotYet where it is right but for its costs."""
        *inputs, result = run.arrays
        for name in inputs:
            if run.writes[name] or run.atomics[name]:
                raise ValueError(f"the kernel writes to {name}, which is an input")
        if np.array_equal(run[result], self.right):
            for sentence in self.costs(run, list(run.arrays)):
                raise NotYet(f"{result} is right, but {sentence}")
        elif np.isnan(run[result]).any() and (run.reads[result] or run.atomics[result]):
            raise NotYet(f"{result} comes filled with NaN: write every element, do not add to it")
        return run[result]

    def costs(self, run: Any, names: list[str]) -> Any:
        """What is too much, a sentence each."""
        result = names[-1]
        if run.atomics[result]:
            yield f"by {run.atomics[result]} atomic additions, in no fixed order"
        if run.races[result]:
            yield f"several threads write the same element, for {run.races[result]} elements"
        if self.writes is not None and run.writes[result] > self.writes:
            yield f"written {run.writes[result]} times; {self.writes} are enough"
        for i, most in self.reads.items():
            if run.reads[names[i]] > most:
                yield f"the threads read {names[i]} {run.reads[names[i]]} times; {most} are enough"
        for i, most in self.sectors.items():
            if (found := run.sectors(names[i])) > most:
                yield (
                    f"a request of a warp to {names[i]} touches {found:.3g} sectors in the mean;"
                    f" {most:g} are enough"
                )


def launched(kernel: Callable[..., Any]) -> Callable[..., Any]:
    """The kernel as an answer that `check` can call, with a task as its last argument."""
    import puzzles  # and with it Numba, which takes seconds

    @wraps(getattr(kernel, "py_func", kernel))
    def answer(*arguments: Any) -> np.ndarray:
        *inputs, task = arguments
        result = np.full(task.right.shape, np.nan, task.right.dtype)
        return task.judged(puzzles.launch(kernel, task.grid, *inputs, result))

    return answer


def not_launched(answer: Any, args: tuple[Any, ...]) -> bool:
    """Whether a problem is for a kernel, and the answer one that `launched` has not been given."""
    code = getattr(getattr(answer, "py_func", answer), "__code__", None)
    return isinstance(args[-1], Task) and "cuda" in getattr(code, "co_names", ())


def exact(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Small whole numbers: their sums are exact, in any order."""
    return rng.integers(-8, 9, shape).astype(np.float32)


def mapped(rng):
    grid = int(rng.integers(2, 4)), int(rng.integers(4, 7))
    size = grid[0] * grid[1] + int(rng.choice([-3, 5]))
    x = exact(rng, size)
    return x, Task(grid, 2 * x + 1, reads={0: size}, writes=size)


def first_ones(task, count):
    """The right result, but NaN from a certain element on."""
    return np.where(np.arange(task.right.size) < count, task.right, np.float32(np.nan))


def one_each(*arguments):
    """A thread has one element alone."""
    return first_ones(arguments[-1], np.prod(arguments[-1].grid))


def read_points(x, offset):
    """The columns C K P of a 3x3 layer, from x C H W and the offset 18 Ho Wo."""
    p = reference.sampling_points(offset[None], 3)[0, 0]
    return reference.sample(x, p).reshape(len(x), 9, -1)


def moved(rng):
    C, Ho, Wo = int(rng.integers(2, 5)), 3, 4
    x, offset = exact(rng, C, Ho + 2, Wo + 2), exact(rng, 18, Ho, Wo) / np.float32(4)
    most, grid = {1: 18 * Ho * Wo}, (int(rng.integers(4, 8)), 32)
    return x, offset, Task(grid, read_points(x, offset), most)


def other_field(order):
    """The columns of a kernel that takes the offset (K, 2, Ho, Wo) in another order."""
    return lambda x, offset, columns: read_points(
        x, order(offset.reshape(9, 2, *offset.shape[1:])).reshape(offset.shape)
    )


def scattered_points(rng):
    C, points = 8, 4 * int(rng.integers(3, 7))
    x = exact(rng, 15, 24, C)
    p = (rng.integers((-3, -3), (15 * 4, 24 * 4), (points, 2)) / 4).astype(np.float32)
    p[::4, 0] = -0.5, *(14.25,) * (points // 4 - 1)  # half outside, above and below
    right = reference.sample(np.moveaxis(x, -1, 0), p).T
    least = 4 * C * 4 / 32  # sectors of a warp's 32 numbers: 4 points, each all its channels
    return x, p, Task((points * C // 32 + 1, 32), right, sectors={0: least, 2: least})


def by_destination(p, size):
    """The corners of points p (P, 2), sorted by their pixels: start (HW + 1), source, g.

    Entry e, from start[q] to start[q + 1], says that point source[e] read q, with weight g[e].
    """
    corners = reference.G(p, size).tocoo()
    order = np.argsort(corners.col, kind="stable")
    start = np.searchsorted(corners.col[order], np.arange(size[0] * size[1] + 1))
    return start, corners.row[order].astype(np.int64), corners.data[order].astype(np.float32)


def corners(rng):
    size, points = (4, 5), 18
    p = rng.integers(0, (13, 17), (points, 2)) / 4
    start, source, g = by_destination(p, size)
    grad = exact(rng, points)
    right = np.zeros(size[0] * size[1], np.float32)
    np.add.at(right, np.repeat(np.arange(right.size), np.diff(start)), g * grad[source])
    grid = (int(rng.integers(1, 4)), 8)
    return start, source, g, grad, Task(grid, right, writes=right.size)


def entries(values, left_out=0):
    """Sums of values(source, g, grad) over the entries of each pixel, but for its last ones."""

    def gathered(start, source, g, grad, grad_x):
        each = values(source, g, grad)
        spans = zip(start[:-1], np.maximum(start[1:] - left_out, start[:-1]), strict=True)
        return np.array([each[a:b].sum() for a, b in spans], np.float32)

    return gathered


def some_empty(start, source, g, grad, grad_x):
    """The pixels without corners are not written."""
    return np.where(np.diff(start) > 0, grad_x.right, np.float32(np.nan))


def last_of_each(start, source, g, grad, grad_x):
    each, some = g * grad[source], np.diff(start) > 0
    return np.where(some, each[start[1:] - 1], 0).astype(np.float32)


def right(*arguments):
    return arguments[-1].right


EXERCISES = {
    "strided_map": Exercise(
        right,
        mapped,
        (
            "With T threads, thread t has the elements t, t + T, t + 2 T and so on.",
            "range(cuda.grid(1), y.size, cuda.gridsize(1)) is both the guard and the loop.",
        ),
        (
            Mistake("only as many elements as there are threads", one_each),
            Mistake("the last element left out", lambda x, task: first_ones(task, x.size - 1)),
        ),
        problems=6,
    ),
    "read_once": Exercise(
        right,
        moved,
        (
            "A thread for each k and p0, K P of them; the channels are a loop inside the thread.",
            "k, p0 = t // P, t % P; dy is offset[2 * k, p0 // Wo, p0 % Wo], read before that loop.",
        ),
        (
            Mistake("the x-first channel order", other_field(lambda o: o[:, ::-1])),
            Mistake("the offset forgotten", other_field(lambda o: 0 * o)),
            Mistake("the opposite sign of the offset", other_field(lambda o: -o)),
            Mistake(
                "the split layout (all dy, then all dx)",
                other_field(lambda o: o.reshape(2, 9, *o.shape[2:]).swapaxes(0, 1)),
            ),
            Mistake(
                "transposed taps",
                other_field(lambda o: o + turned(reference.R(3))),
            ),
            Mistake("the tap p_n forgotten", other_field(lambda o: o - taps())),
            Mistake("the taps -1, 0 and 1 of a layer with padding 1", other_field(lambda o: o - 1)),
        ),
    ),
    "coalesced": Exercise(
        right,
        scattered_points,
        (
            "Neighbouring threads should read neighbouring addresses: which index of x is last?",
            "The fastest index of thread t is t % C: that is the channel.",
        ),
        (
            Mistake(
                "the x-first order of p",
                lambda x, p, y: reference.sample(np.moveaxis(x, -1, 0), p[:, ::-1]).T,
            ),
            Mistake(
                "the nearest pixel",
                lambda x, p, y: reference.sample(np.moveaxis(x, -1, 0), np.floor(p + 0.5)).T,
            ),
        ),
    ),
    "gathered": Exercise(
        right,
        corners,
        (
            "A thread owns pixel q, whose entries are e = start[q], ..., start[q + 1] - 1.",
            "Add g[e] * grad[source[e]] up in a local variable, and write grad_x[q] once.",
        ),
        (
            Mistake("the weight g forgotten", entries(lambda source, g, grad: grad[source])),
            Mistake(
                "grad[e], not grad[source[e]]",
                entries(lambda source, g, grad: g * np.resize(grad, g.size)),
            ),
            Mistake(
                "the last entry of each pixel left out",
                entries(lambda source, g, grad: g * grad[source], left_out=1),
            ),
            Mistake("a gradient of x that overwrites instead of adding", last_of_each),
            Mistake("only as many pixels as there are threads", one_each),
            Mistake("pixels without corners not written, so that they keep their NaN", some_empty),
        ),
    ),
}


def taps():
    """What a tap adds to (oy, ox) where there is no padding, 9 2 1 1."""
    return (reference.R(3) + 1).reshape(9, 2, 1, 1).astype(np.float32)


def turned(grid):
    """What moves tap (i, j) to the place of tap (j, i), 9 2 1 1."""
    return (grid[:, ::-1] - grid).reshape(9, 2, 1, 1).astype(np.float32)
