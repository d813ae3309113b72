"""Ranks for tests: processes that mpirun starts, and threads; and how far their weights may be."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from parallel_run import RATE, STEPS, new

from deformable_convnets.reference.networks import layers, parallel

TIMEOUT = 60


def mpirun(*command, ranks=2):
    """What mpirun printed and its exit status; all its processes are ended after TIMEOUT."""
    pytest.importorskip("mpi4py", reason="mpi4py is not installed")
    beside = Path(sys.executable).with_name("mpirun")
    found = str(beside) if beside.exists() else shutil.which("mpirun")
    if found is None:
        pytest.skip("mpirun is neither beside Python nor on the PATH")
    one = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONUNBUFFERED": ""}
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    started = subprocess.Popen(
        [found, "-n", str(ranks), sys.executable, *map(str, command)], text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        env=os.environ | one | root,
    )  # fmt: skip
    try:
        out, said = started.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        os.killpg(started.pid, signal.SIGKILL)
        out, said = started.communicate()
        raise AssertionError(f"mpirun had to be ended:\n{out}\n{said}") from None
    return out, said, started.returncode


class Ranks:
    """Threads as ranks: `of(3, work)` runs work(communicator) in three of them.

    Returns what each returned, or the exception it ended with.
    """

    def __init__(self, size):
        self.size, self.slots = size, [None] * size
        self.barrier = threading.Barrier(size, timeout=20)

    def gathered(self, rank, mine):
        self.slots[rank] = mine
        self.barrier.wait()
        everyone = list(self.slots)
        self.barrier.wait()
        return everyone

    def rank(self, rank):
        def average(gradients):
            return parallel.averages(
                gradients, self.size, lambda flat: sum(self.gathered(rank, flat))
            )

        return SimpleNamespace(rank=rank, size=self.size, average=average)

    @classmethod
    def of(cls, size, work):
        ranks, results = cls(size), [None] * size

        def one(rank):
            try:
                results[rank] = work(ranks.rank(rank))
            except Exception as error:
                results[rank] = error

        threads = [threading.Thread(target=one, args=(rank,)) for rank in range(size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return results


def bits(everything):
    return {name: np.asarray(a).tobytes() for name, a in everything.items()}


def furthest(one, other, names):
    return max(float(abs(one[name] - other[name]).max()) for name in names)


WEIGHTS = list(layers.parameters(new().net))


def tolerance(dtype, scale=4):
    """What float rounding may do to the weights, of gradients up to `scale`.

    A gradient goes through 5 layers, and sums at most n = 8 48 products in each. Two orders of such
    a sum differ by about 2 sqrt(n) eps, and steps of v = m v + g move by rate / (1 - m) of it.
    """
    rounding = 2 * 5 * np.sqrt(8 * 48) * np.finfo(dtype).eps * scale
    return STEPS * RATE / (1 - 0.9) * rounding
