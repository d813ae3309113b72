"""The hook that takes NCCL, with a CuPy that is made up: what it asks for, and that arrays stay."""

import ctypes
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from parallel_ranks import Ranks, bits
from parallel_run import ended, run

from deformable_convnets.reference.networks import parallel


class OnDevice:
    """An array that has what CuPy's has, and is none of NumPy's."""

    __module__ = "cupy"

    def __init__(self, kept):
        self.kept = np.array(kept)
        self.dtype, self.shape, self.size = self.kept.dtype, self.kept.shape, self.kept.size
        self.data = SimpleNamespace(ptr=self.kept.ctypes.data)

    def get(self):
        return self.kept.copy()

    def ravel(self):
        return OnDevice(self.kept.ravel())

    def reshape(self, *shape):
        return OnDevice(self.kept.reshape(*shape))

    def __getitem__(self, index):
        return OnDevice(self.kept[index])

    def __truediv__(self, number):
        return OnDevice(self.kept / number)


@pytest.fixture
def cupy(monkeypatch):
    """A CuPy that is made up, whose NCCL sums among threads, by the pointers it is given."""
    made, nccl = ModuleType("cupy"), ModuleType("cupy.cuda.nccl")
    held = {"ranks": Ranks(2), "asked": []}
    made.held, made.nccl = held, nccl

    class NcclCommunicator:
        def __init__(self, size, name, rank):
            assert (size, name) == (2, b"name")
            self.rank = rank

        def allReduce(self, sent, received, count, kind, op, stream):
            assert (op, stream) == (0, 77)
            number = {7: ctypes.c_float, 8: ctypes.c_double}[kind]
            a, b = (np.ctypeslib.as_array((number * count).from_address(p))
                    for p in (sent, received))  # fmt: skip
            b[...] = sum(held["ranks"].gathered(self.rank, a.copy()))
            held["asked"].append(count)

    def array(a):
        return OnDevice(a.kept if isinstance(a, OnDevice) else a)

    made.array = array
    made.concatenate = lambda all_of: OnDevice(np.concatenate([a.kept for a in all_of]))
    made.cuda = SimpleNamespace(nccl=nccl, get_current_stream=lambda: SimpleNamespace(ptr=77))
    nccl.available, nccl.get_unique_id, nccl.NcclCommunicator = (
        True, lambda: b"name", NcclCommunicator,
    )  # fmt: skip
    nccl.NCCL_SUM, nccl.NCCL_FLOAT32, nccl.NCCL_FLOAT64 = 0, 7, 8
    for name, module in {"cupy": made, "cupy.cuda": made.cuda, "cupy.cuda.nccl": nccl}.items():
        monkeypatch.setitem(sys.modules, name, module)
    return made


def of_mpi(communicator):
    """What Nccl asks of a communicator of mpi4py."""
    return SimpleNamespace(
        Get_rank=lambda: communicator.rank, Get_size=lambda: communicator.size,
        bcast=lambda name: name if communicator.rank == 0 else b"name",
    )  # fmt: skip


def test_nccl_keeps_arrays_on_the_device(cupy):
    def work(communicator):
        nccl = parallel.Nccl(of_mpi(communicator))
        mine = np.arange(6, dtype=np.float32).reshape(2, 3) * (1 + 2 * nccl.rank)
        return nccl.average({"a": OnDevice(mine), "b": OnDevice(mine[0]), "c": np.ones(2)})

    for means in Ranks.of(2, work):
        assert isinstance(means["a"], OnDevice)
        np.testing.assert_array_equal(means["a"].kept, 2 * np.arange(6.0).reshape(2, 3))
        np.testing.assert_array_equal(means["b"].kept, [0, 2, 4])
        np.testing.assert_array_equal(means["c"], [1, 1])
    assert sorted(cupy.held["asked"]) == [2, 2, 9, 9]


def test_training_takes_nccl(cupy):
    """The same hook: the same bits as with other ranks."""
    found = Ranks.of(2, lambda c: run(parallel.Nccl(of_mpi(c))))
    others = Ranks.of(2, run)
    assert [bits(ended(s)) for s in found] == [bits(ended(s)) for s in others]


def test_mpi_takes_arrays_of_a_device(cupy):
    """Through the memory of the CPU, and back."""
    cupy.asarray = cupy.array
    comm = SimpleNamespace(Get_rank=lambda: 0, Get_size=lambda: 2)
    comm.Allreduce = lambda sent, received: np.copyto(received, 3 * sent)
    means = parallel.Mpi(comm).average({"a": OnDevice(np.ones(3, np.float32))})
    assert isinstance(means["a"], OnDevice)
    np.testing.assert_array_equal(means["a"].kept, np.full(3, 1.5))


def test_cupy_without_nccl(cupy):
    cupy.nccl.available = False
    with pytest.raises(RuntimeError, match="CuPy finds no NCCL: pip install nvidia-nccl-cu13"):
        parallel.Nccl(SimpleNamespace())
