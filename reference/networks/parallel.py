"""Data-parallel training: several processes (ranks) step as one, each with a part of the batch.

A whole script, which `pip install mpi4py mpich` lets you run as two ranks:

    import numpy as np
    from deformable_convnets.reference.networks import layers, optimisers, parallel
    from deformable_convnets.reference.networks.training import State, train

    mpi = parallel.Mpi()
    mine = parallel.share(mpi, 8)  # this rank's part of a batch of 8
    def draw(rng):
        x, labels = rng.normal(size=(8, 5)).astype(np.float32), rng.integers(0, 3, 8)
        return x[mine], labels[mine]
    def loss(net, tape, drawn):
        return tape.softmax_loss(net(tape, drawn[0]), drawn[1])
    rng = np.random.default_rng(0)  # the same seed on every rank
    state = State(layers.linear(rng, 5, 3), optimisers.SGD(), rng)
    train(state, draw, loss, iterations=20, rate=lambda i: 0.1, communicator=mpi)
    print(f"rank {mpi.rank} of {mpi.size} has a loss of {state.losses[-1]:.3f}")

    mpirun -n 2 python -m mpi4py your_script.py

(`-m mpi4py` ends all ranks if one ends with an error; set OPENBLAS_NUM_THREADS to your cores per
rank.)

The rule: all ranks have the same state, bit for bit, and keep it: weights, optimiser, random
numbers, losses. Only what `draw` returns differs. Every rank draws the whole batch from the same
random numbers and keeps its part. Where pictures are slow to make, it draws a seed for each of them
and makes only its own:

    seeds = rng.integers(2**63, size=8)[mine]
    scenes = [scene(np.random.default_rng(seed)) for seed in seeds]

With n ranks this is one process with the whole batch, to float rounding, if the loss of the whole
batch is the mean of the ranks' losses. Two things are not such means:

    counts      softmax_loss is a mean over the places that have a label. Where ranks have
                unequal numbers of them, give `train` a `weight`: of what was drawn, how many
                places count. A mean over pictures needs none: parts are equal
    batch norm  normalises with the mean and variance of the rank's own part. Frozen layers are
                exact. The running statistics of all ranks are averaged, so that they stay equal
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy import ndarray as Array

from .door import namespace

T = TypeVar("T")
Summed = Callable[[Array], Array]  # of this rank's numbers, the sum of all ranks'
NUMBERS = "numbers of each rank"  # their name in an exchange
LETTERS = 1000  # bytes of an error's message that the other ranks get


class Communicator(Protocol):
    """What `train` takes: one process among several, and the means over all of them.

    All ranks call `average` equally often, with arrays of the same names and shapes.
    """

    rank: int
    size: int

    def average(self, gradients: dict[str, Array], /) -> dict[str, Array]:
        """The means over all ranks, by the same names, with the same bits on every rank."""


class Mpi:
    """Ranks of MPI, through mpi4py: one Allreduce for all arrays of a dtype.

    comm  a communicator of mpi4py; None: COMM_WORLD
    Arrays of a GPU travel through the memory of the CPU. Raises RuntimeError without mpi4py.
    """

    def __init__(self, comm: Any = None):
        self.comm = _library("mpi4py.MPI", "mpi4py mpich").COMM_WORLD if comm is None else comm
        self.rank, self.size = self.comm.Get_rank(), self.comm.Get_size()

    def average(self, gradients: dict[str, Array]) -> dict[str, Array]:
        """The means over all ranks."""
        return averages(gradients, self.size, self._sum)

    def _sum(self, flat: Array) -> Array:
        sent = flat if isinstance(flat, np.ndarray) else flat.get()
        received = np.empty_like(sent)
        self.comm.Allreduce(sent, received)
        return received if sent is flat else namespace(flat).asarray(received)


class Nccl:
    """Ranks of MPI, one GPU each, whose gradients NCCL sums: arrays of CuPy stay on the device.

        cupy.cuda.Device(number_of_this_rank).use()     first
        train(..., communicator=parallel.Nccl())

    comm  a communicator of mpi4py, which only tells the ranks of each other; None: COMM_WORLD
    Raises RuntimeError without CuPy, NCCL or mpi4py.

    Notes: tested on the CPU with a made-up CuPy that has the calls of CuPy 14.2 and NCCL 2.32; it
    has not been run on a GPU.
    """

    def __init__(self, comm: Any = None):
        self.cupy = _library("cupy", "cupy-cuda13x nvidia-nccl-cu13")
        self.nccl = _library("cupy.cuda.nccl", "cupy-cuda13x nvidia-nccl-cu13")
        if not self.nccl.available:
            raise RuntimeError("CuPy finds no NCCL: pip install nvidia-nccl-cu13, or -cu12")
        world = Mpi(comm)
        self.rank, self.size = world.rank, world.size
        name = self.nccl.get_unique_id() if self.rank == 0 else None
        self.group = self.nccl.NcclCommunicator(self.size, world.comm.bcast(name), self.rank)

    def average(self, gradients: dict[str, Array]) -> dict[str, Array]:
        """The means over all ranks; of arrays of NumPy too."""
        return averages(gradients, self.size, self._sum)

    def _sum(self, flat: Array) -> Array:
        kinds = {"f4": self.nccl.NCCL_FLOAT32, "f8": self.nccl.NCCL_FLOAT64}
        total = self.cupy.array(flat)  # a copy, in which the sum is made
        self.group.allReduce(
            total.data.ptr, total.data.ptr, total.size, kinds[total.dtype.str[1:]],
            self.nccl.NCCL_SUM, self.cupy.cuda.get_current_stream().ptr,
        )  # fmt: skip
        return total.get() if isinstance(flat, np.ndarray) else total


def share(communicator: Communicator | None, count: int) -> slice:
    """The part of a batch of `count` that is this rank's; of None, all of it.

    Raises ValueError if there are no equal parts: the mean of the ranks would not be the mean.
    """
    if communicator is None:
        return slice(0, count)
    part, rest = divmod(count, communicator.size)
    if rest or not part:
        raise ValueError(f"a batch of {count} has no {communicator.size} equal parts, one per rank")
    return slice(communicator.rank * part, (communicator.rank + 1) * part)


def averages(arrays: Mapping[str, Array], size: int, summed: Summed) -> dict[str, Array]:
    """Means over `size` ranks, with one sum for all arrays of a library and dtype."""
    kinds: dict[Any, list[str]] = {}
    for name, a in arrays.items():
        kinds.setdefault((namespace(a), a.dtype), []).append(name)
    found = {}
    for (xp, dtype), names in kinds.items():
        total = summed(xp.concatenate([arrays[name].ravel() for name in names]))
        mean, start = total / dtype.type(size), 0
        for name in names:
            end = start + arrays[name].size
            found[name] = mean[start:end].reshape(arrays[name].shape)
            start = end
    return {name: found[name] for name in arrays}


def exchange(
    communicator: Communicator, arrays: Mapping[str, Array], numbers: Sequence[float]
) -> tuple[dict[str, Array], Array]:
    """The means of arrays over all ranks, and the numbers of each rank: one row per rank."""
    rows = np.zeros((communicator.size, len(numbers)))
    rows[communicator.rank] = numbers  # a sum with zeros is exact
    means = communicator.average({**arrays, NUMBERS: rows})
    return means, communicator.size * means.pop(NUMBERS)


def together(
    communicator: Communicator | None, work: Callable[[], T], *kinds: type[Exception]
) -> T:
    """What `work` returns here, once all ranks are done; if it raises on one, all raise.

    kinds  errors that the others raise as what they are; all else becomes a RuntimeError
    """
    if communicator is None:
        return work()
    own: Exception | None = None
    try:
        result = work()
    except Exception as error:
        own = error
    kind = next((i for i, each in enumerate(kinds) if isinstance(own, each)), len(kinds))
    failed = exchange(communicator, {}, [0 if own is None else 1 + kind])[1][:, 0]
    if not failed.any():
        return result
    text = str(own) if kind < len(kinds) else f"{type(own).__name__}: {own}"
    first = int(np.flatnonzero(failed)[0])
    said = f"rank {first}: {_texts(communicator, text)[first]}"
    raised = (*kinds, RuntimeError)[round(failed[first]) - 1]
    raise raised(said) from own


def _texts(communicator: Communicator, text: str) -> list[str]:
    """What each rank says."""
    letters = np.frombuffer(text.encode()[:LETTERS].ljust(LETTERS, b"\0"), np.uint8)
    rows = exchange(communicator, {}, letters.astype(float).tolist())[1]
    return [np.rint(row).astype(np.uint8).tobytes().rstrip(b"\0").decode("utf-8", "ignore")
            for row in rows]  # fmt: skip


def agree(communicator: Communicator | None, digests: Mapping[str, int]) -> None:
    """ValueError on all ranks if one has another digest of something than rank 0."""
    if communicator is not None:
        rows = exchange(communicator, {}, list(digests.values()))[1]
        for i, what in enumerate(digests):
            same(what, rows[:, i])


def same(what: str, numbers: Array) -> None:
    """ValueError if the numbers, one of each rank, are not all equal."""
    others = np.flatnonzero(numbers != numbers[0])
    if others.size:
        raise ValueError(
            f"rank {others[0]} has other {what} than rank 0: every rank has to start from the same"
            " seed and checkpoint file, and to draw the same random numbers"
        )


def digest(*parts: Any) -> int:
    """A number of arrays by name, or of what has a repr, that hardly anything else has."""
    found = 0
    for part in parts:
        named = part if isinstance(part, Mapping) else {"": part}
        for name, a in named.items():
            told = (name, a.shape, str(a.dtype)) if hasattr(a, "tobytes") else (name, a)
            found = zlib.crc32(repr(told).encode(), found)
            found = zlib.crc32(a.tobytes(), found) if hasattr(a, "tobytes") else found
    return found


def _library(name: str, packages: str) -> Any:
    """A library that only several processes need."""
    try:
        return import_module(name)
    except (ImportError, RuntimeError) as error:  # RuntimeError: mpi4py without an MPI
        said = str(error).partition("\n")[0]
        raise RuntimeError(f"{name} cannot be imported ({said}): pip install {packages}") from error
