"""Kernels of Numba on NumPy arrays, watched first and then launched: the puzzles of notebook 11.

    run = launch(kernel, (blocks, threads), x, y)       arrays and numbers, as the kernel takes them
    run["y"]                                            the array of that name after the launch
    run.reads["x"], run.writes["y"], run.atomics["y"]   accesses to global memory, of all threads
    run.sectors("x")                                    blocks of 32 bytes for a request of a warp

`watch` executes a kernel as plain Python, one thread after the other, on arrays that note each
access. One out of bounds raises, and so do too many, of a loop without end. Arrays are copied, in C
order, so that element i of a row is beside element i + 1 wherever it came from. `launch` then gives
the kernel to Numba, for a GPU if there is one, else for the simulator. Grids have one dimension;
there is no shared memory and no barrier. Counted is what the kernel asks for: on a device a
compiler may merge reads, and caches serve a part of them.
"""

import ctypes
import inspect
import itertools
import os
import sys
from collections import Counter, defaultdict
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np


def has_gpu():
    """Whether the CUDA driver is here and counts a device."""
    try:
        driver, count = ctypes.CDLL("libcuda.so.1"), ctypes.c_int(0)
    except OSError:
        return False
    return driver.cuInit(0) == driver.cuDeviceGetCount(ctypes.byref(count)) == 0 < count.value


if not has_gpu():
    os.environ.setdefault("NUMBA_ENABLE_CUDASIM", "1")  # read when Numba is imported
from deformable_convnets.gpu.numba_kernels.shim import SIMULATED, cuda  # noqa: E402

WARP, SECTOR = 32, 32  # threads that move together; bytes that memory gives at once
WHERE = "Numba's simulator" if SIMULATED else "a GPU"
MOST = 300_000  # accesses of all threads of a kernel, watched


class Watched:
    """An array in a kernel, or a part of one: `at` has the number in memory of each element."""

    __array_ufunc__ = None  # NumPy's numbers leave an operation with one to this class

    def __init__(self, watch, name, at):
        self.watch, self.name, self.at, self.dtype = watch, name, at, watch.memory[name].dtype
        self.shape, self.size, self.ndim = at.shape, at.size, at.ndim

    def __len__(self):
        return len(self.at)

    def __getitem__(self, index):
        at = self.inside(index, "reads")
        part = np.ndim(at) > 0
        return Watched(self.watch, self.name, at) if part else self.watch.read(self.name, int(at))

    def __setitem__(self, index, value):
        self.watch.write(self.name, int(self.inside(index, "writes")), value)

    def inside(self, index, does):
        each, sizes = index if isinstance(index, tuple) else (index,), self.shape
        pairs = [(i, n) for i, n in zip(each, sizes, strict=False) if not isinstance(i, slice)]
        at = self.at[index] if all(0 <= i < n for i, n in pairs) else None
        if np.ndim(at) and does != "reads":
            raise TypeError(f"a thread works on one number: {self.name}[i], not on many at once")
        if at is None:
            what = f"{self.name}[{', '.join(map(str, each))}], of shape {self.shape}"
            raise IndexError(f"{self.watch.who()} {does} {what}")
        return at


def whole(array, *_):
    raise TypeError(f"a thread works on one number: {array.name}[i], not {array.name} as a whole")


BINARY = "add", "sub", "mul", "truediv", "floordiv", "mod", "pow"
OTHERS = "neg", "pos", "abs", "float", "int", "index", "bool", "lt", "le", "gt", "ge"
for operation in (*(form + name for name in BINARY for form in ("", "r", "i")), *OTHERS):
    setattr(Watched, f"__{operation}__", whole)


class Cuda(SimpleNamespace):
    """Stands in for Numba's `cuda`."""

    def __getattr__(self, name):
        raise AttributeError(f"cuda.{name} is not in these puzzles")


class Watch:
    """What the threads of one kernel do to memory. They run in turn.

    With `together`, every thread reads what was there before the launch, but for its own writes: so
    it is when all threads have read before the first has written.
    """

    def __init__(self, grid, arrays, together):
        (self.blocks, self.threads), self.together = grid, together
        self.total = self.blocks * self.threads
        self.memory = {name: a.ravel() for name, a in arrays.items()}
        self.before = {name: a.copy() for name, a in self.memory.items()}
        self.shapes = {name: a.shape for name, a in arrays.items()}
        self.accesses = []  # thread, kind, name, element, place, how often there before
        self.thread, self.own, self.times, self.code = 0, {}, Counter(), None

    def who(self):
        return f"thread {self.thread} of {self.total}"

    def read(self, name, i):
        self.note("read", name, i)
        now = self.memory[name][i]
        return self.own.get((name, i), self.before[name][i]) if self.together else now

    def write(self, name, i, value):
        self.note("write", name, i)
        self.memory[name][i] = value
        self.own[name, i] = self.memory[name][i]

    def add(self, array, index, value):
        """cuda.atomic.add: nothing comes between its read and its write."""
        i, memory = int(array.inside(index, "adds to")), self.memory[array.name]
        self.note("atomic", array.name, i)
        memory[i], old = memory[i] + value, memory[i]
        self.own[array.name, i] = memory[i]
        return old

    def note(self, kind, name, i):
        """The place is the line of the kernel, and of the device functions that it is in, now."""
        frame, path = sys._getframe(2), [kind, name]
        while frame.f_code is not self.code:
            path += [(frame.f_code, frame.f_lineno)] * (frame.f_globals is not globals())
            frame = frame.f_back
        place = (*path, frame.f_lineno)
        self.accesses.append((self.thread, kind, name, i, place, self.times[place]))
        self.times[place] += 1
        if len(self.accesses) > MOST:
            raise RuntimeError(f"{self.who()} makes access {MOST} of all: a loop without end?")

    def cuda(self):
        """What kernels use of `cuda`; `execute` sets what differs between threads."""
        fake = Cuda(atomic=SimpleNamespace(add=self.add), blockDim=SimpleNamespace(x=self.threads))
        fake.gridDim, fake.gridsize = SimpleNamespace(x=self.blocks), lambda ndim: self.total
        fake.threadIdx, fake.blockIdx = SimpleNamespace(), SimpleNamespace()
        fake.grid = lambda ndim: self.thread
        return fake

    @np.errstate(all="ignore")
    def execute(self, function, arguments, fake):
        self.code = function.__code__
        for thread in range(self.total):
            self.thread = thread
            fake.blockIdx.x, fake.threadIdx.x = divmod(thread, self.threads)
            self.own.clear()
            self.times.clear()
            if function(*arguments) is not None:
                raise TypeError("a kernel returns nothing: it writes its result to an array")


@contextmanager
def standing_in(function, fake):
    """Puts `fake` in the place of `cuda`, in the device functions that are called too."""
    before, functions = [], [function]
    try:
        for f in functions:
            for name in f.__code__.co_names:
                value = f.__globals__.get(name)
                plain = fake if value is cuda else getattr(value, "py_func", None)
                if plain is not None:
                    before.append((f.__globals__, name, value))
                    f.__globals__[name] = plain
                    functions += [plain] * inspect.isfunction(plain)
        yield
    finally:
        for scope, name, value in before:
            scope[name] = value


class Run:
    """What a kernel did: its arrays by name, and the accesses of all its threads."""

    def __init__(self, watch):
        self.block, self.threads = watch.threads, watch.total
        self.arrays = {n: a.reshape(watch.shapes[n]) for n, a in watch.memory.items()}
        self.accesses, kinds = watch.accesses, ("read", "write", "atomic")
        counts = [Counter(a[2] for a in self.accesses if a[1] == kind) for kind in kinds]
        self.reads, self.writes, self.atomics = counts

    def __getitem__(self, name):
        return self.arrays[name]

    def requests(self, name):
        """The elements that each request of a warp to this array touches.

        What the threads of a warp do at the same place in the kernel, for the same time, is one
        request. That is so on a device where no thread of the warp took another way.
        """
        found = defaultdict(list)
        for thread, _, array, i, place, times in self.accesses:
            if array == name:
                block, lane = divmod(thread, self.block)
                found[block, lane // WARP, place, times].append(i)
        return list(found.values())

    def sectors(self, name):
        """How many sectors a request of a warp touches, the mean. Arrays begin at a sector."""
        size, requests = self.arrays[name].itemsize, self.requests(name) or [[]]
        return np.mean([len({i * size // SECTOR for i in request}) for request in requests])

    @property
    def races(self):
        """By array, how many elements one thread writes, but not by an atomic, and another uses."""
        used, written = defaultdict(set), set()
        for thread, kind, name, i, *_ in self.accesses:
            used[name, i].add(thread)
            written |= {(name, i)} if kind == "write" else set()
        return Counter(name for name, i in written if len(used[name, i]) > 1)

    def __str__(self):
        lines = [f"{self.threads:5} threads   reads  per thread  writes  atomics  sectors"]
        for name in self.arrays:
            reads, *others = (c[name] for c in (self.reads, self.writes, self.atomics))
            if reads or any(others):
                counts = f"{reads:8}{reads / self.threads:12.4g}{others[0]:8}{others[1]:9}"
                lines.append(f"  {name:12}{counts}{self.sectors(name):9.3g}")
        return "\n".join(lines)


def watch(kernel, grid, *arguments, together=False):
    """The kernel as plain Python, which harms nothing: a Run. IndexError, RuntimeError."""
    function = getattr(kernel, "py_func", kernel)
    if not inspect.isfunction(function):
        raise TypeError(f"{kernel!r} is no kernel: write a function of arrays and numbers")
    takes = list(inspect.signature(function).parameters)
    if len(takes) != len(arguments):
        raise TypeError(f"the kernel takes ({', '.join(takes)}), and is given {len(arguments)}")
    given = dict(zip(takes, arguments, strict=True))
    arrays = {n: np.array(a, order="C") for n, a in given.items() if isinstance(a, np.ndarray)}
    state = Watch(grid, arrays, together)
    watched = {n: Watched(state, n, np.arange(a.size).reshape(a.shape)) for n, a in arrays.items()}
    handed, fake = [watched.get(n, a) for n, a in given.items()], state.cuda()
    with standing_in(function, fake):
        state.execute(function, handed, fake)
    return Run(state)


def launch(kernel, grid, *arguments):
    """`watch`, then Numba: a Run with its counts from the first, its arrays from the second."""
    run = watch(kernel, grid, *arguments)
    jitted = kernel if hasattr(kernel, "py_func") else cuda.jit(kernel)
    interval = sys.getswitchinterval()
    here = [isinstance(a, np.ndarray) for a in arguments]
    copies = [np.array(a, order="C") if h else a for a, h in zip(arguments, here, strict=True)]
    there = [cuda.to_device(a) if h else a for a, h in zip(copies, here, strict=True)]
    sys.setswitchinterval(1e-4)  # the simulator polls its threads, and would hold the lock
    try:
        jitted[grid](*there)
    finally:
        sys.setswitchinterval(interval)
    arrays = itertools.compress(there, here)
    run.arrays = {n: a.copy_to_host() for n, a in zip(run.arrays, arrays, strict=True)}
    return run
