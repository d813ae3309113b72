"""Two ranks of MPI end where one process with the doubled batch does, and one's error ends both.

mpirun runs parallel_run.py. What needs no MPI is in test_networks_parallel_threads.
"""

import re
import textwrap
from pathlib import Path

import numpy as np
import parallel_run
import pytest
from parallel_ranks import WEIGHTS, bits, furthest, mpirun, tolerance
from parallel_run import SPOILT, ended, new, run

from deformable_convnets.reference.networks import layers, parallel, training

SCRIPT = Path(parallel_run.__file__)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What both ranks of mpirun ended with, in every way of parallel_run."""
    folder = tmp_path_factory.mktemp("ranks")
    _, said, status = mpirun("-m", "mpi4py", SCRIPT, "runs", folder)
    assert status == 0, said
    return {
        way: [dict(np.load(folder / f"{way} {rank}.npz")) for rank in (0, 1)]
        for way in parallel_run.WAYS
    }


@pytest.fixture(scope="module")
def alone():
    """One process with the whole batch, which is twice that of a rank."""
    ways = {dtype: ended(run(None, dtype)) for dtype in ("float64", "float32")}
    ways["weighted"] = ended(run(None, labels=parallel_run.LABELS))
    ways["batch norm"] = ended(run(None, frozen=False))
    return ways


@pytest.mark.parametrize("way", ["float64", "float32", "weighted"])
def test_two_ranks_are_one_process_with_the_doubled_batch(ranks, alone, way):
    dtype = way if way != "weighted" else "float64"
    for rank in ranks[way]:
        assert furthest(rank, alone[way], WEIGHTS) <= tolerance(dtype)
        assert furthest(rank, alone[way], ["losses"]) <= tolerance(dtype)
        assert rank["rng"] == alone[way]["rng"]
    moved = furthest(alone[way], layers.arrays(new(dtype).net), WEIGHTS)
    assert moved > 100 * tolerance(dtype)  # which therefore says something


@pytest.mark.parametrize("spoilt", SPOILT)
def test_wrong_gradients_are_seen(ranks, alone, spoilt):
    """Summed, not exchanged at all, or not all of them: float32 would show it too."""
    for rank in ranks[spoilt]:
        assert furthest(rank, alone["float64"], WEIGHTS) > 10 * tolerance("float32")


def test_all_ranks_end_with_the_same_bits(ranks):
    for way in ("float64", "float32", "adam", "batch norm", "counts", "weighted", "resumed"):
        assert bits(ranks[way][0]) == bits(ranks[way][1]), way
    for way in ("nothing", "first", "all but the last"):
        assert bits(ranks[way][0]) != bits(ranks[way][1]), way


def test_a_resumed_run_of_two_ranks_is_an_uninterrupted_one(ranks):
    for whole, resumed in zip(ranks["whole"], ranks["resumed"], strict=True):
        assert bits(whole) == bits(resumed)
    assert bits(ranks["whole"][0]) != bits(ranks["adam"][0])


def test_what_is_no_mean_over_ranks_differs(ranks, alone):
    """Unequal counts without a weight, and the statistics of batch norm: the docstring says so."""
    assert furthest(ranks["counts"][0], alone["weighted"], WEIGHTS) > 1e-3
    assert furthest(ranks["batch norm"][0], alone["batch norm"], WEIGHTS) > 1e-3


def test_a_divergence_on_rank_1_ends_both(tmp_path):
    out, said, status = mpirun(SCRIPT, "diverge", tmp_path)
    assert status != 0, out
    told = "rank 1: the loss is nan at iteration 2; the first result that is not finite is that of"
    for rank in (0, 1):
        assert (tmp_path / f"rank {rank}").read_text().startswith(told), said
    kept = new()
    training.load(tmp_path / "diverged.npz", kept)
    assert kept.iteration == 2


def test_any_other_error_on_rank_1_ends_both(tmp_path):
    _, said, status = mpirun("-m", "mpi4py", SCRIPT, "fail", tmp_path)
    assert status != 0
    assert "rank 1 cannot show its progress" in said


def test_the_script_of_the_docstring_runs(tmp_path):
    """It, and the command below it, as they stand there."""
    blocks = re.findall(r"^    .*\n(?:    .*\n|\n)*", parallel.__doc__ or "", re.MULTILINE)
    script, command = re.split(r"(?=^mpirun)", textwrap.dedent(blocks[0]), flags=re.MULTILINE)
    assert command.split() == ["mpirun", "-n", "2", "python", "-m", "mpi4py", "your_script.py"]
    (tmp_path / "your_script.py").write_text(script)
    out, said, status = mpirun("-m", "mpi4py", tmp_path / "your_script.py")
    assert status == 0, said
    first, second = sorted(re.findall(r"rank (\d) of 2 has a loss of (\d\.\d{3})", out))
    assert (first[0], second[0]) == ("0", "1")
    assert first[1] == second[1]
