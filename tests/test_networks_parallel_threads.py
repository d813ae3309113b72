"""Ranks that are threads: their errors, their shares, and what they have to have in common."""

import sys
from types import SimpleNamespace

import numpy as np
import parallel_run
import pytest
from parallel_ranks import WEIGHTS, Ranks, bits, furthest, tolerance
from parallel_run import BATCH, RATE, ended, new, run

from deformable_convnets.reference.networks import layers, parallel, training
from deformable_convnets.reference.networks.training import Diverged


def seeded(communicator):
    """The recipe of the docstring for pictures that are slow to make: a seed for each."""
    mine = parallel.share(communicator, BATCH)

    def drawn(rng):
        each = [np.random.default_rng(seed) for seed in rng.integers(2**63, size=BATCH)[mine]]
        x = np.stack([own.normal(size=(2, 6, 8)) for own in each])
        return x, np.array([own.integers(0, 3) for own in each])

    return drawn


def test_each_rank_makes_its_own_pictures():
    def work(communicator):
        return training.train(new(), seeded(communicator), parallel_run.loss, iterations=4,
                              rate=lambda i: RATE, communicator=communicator)  # fmt: skip

    one = ended(work(None))
    for state in Ranks.of(2, work):
        assert furthest(ended(state), one, WEIGHTS) <= tolerance("float64")


@pytest.mark.parametrize("size", [2, 4])
def test_more_ranks(size):
    alone = ended(run(None))
    found = Ranks.of(size, run)
    for state in found:
        assert furthest(ended(state), alone, WEIGHTS) <= tolerance("float64")
        assert bits(ended(state)) == bits(ended(found[0]))


def test_a_communicator_of_one_rank_changes_nothing():
    only = SimpleNamespace(rank=0, size=1, average=None)
    assert bits(ended(run(only))) == bits(ended(run(None)))


def test_nothing_counts():
    """No place has a label on any rank: the gradients are 0, as they are in one process."""
    none, one = np.full(BATCH, -1), run(None, labels=np.full(BATCH, -1))
    for state in Ranks.of(2, lambda c: run(c, labels=none, weight=parallel_run.counted)):
        assert bits(layers.arrays(state.net)) == bits(layers.arrays(one.net))
        assert state.losses == one.losses


def errors(work, size=3):
    found = Ranks.of(size, work)
    assert all(isinstance(error, Exception) for error in found), found
    return found


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("weights", lambda s: s.net.first.weight.__imul__(2)),
        ("random numbers", lambda s: s.rng.random()),
        ("losses", lambda s: s.losses.append(1.0)),
        ("memories of the optimiser", lambda s: s.optimiser.state.update(count=np.ones(()))),
    ],
)
def test_ranks_that_start_apart(what, change):
    def work(communicator):
        state = new()
        if communicator.rank == 2:
            change(state)
        training.train(state, parallel_run.draw(None), parallel_run.loss, iterations=2,
                       rate=lambda i: RATE, communicator=communicator)  # fmt: skip

    for error in errors(work):
        assert isinstance(error, ValueError)
        assert str(error).startswith(f"rank 2 has other {what} than rank 0: every rank has to")


def test_ranks_that_draw_other_numbers():
    def work(communicator):
        training.train(
            new(), lambda rng: (rng.normal(size=(2 + communicator.rank, 2, 6, 8)),
                                np.zeros(2 + communicator.rank, int)),
            parallel_run.loss, iterations=2, rate=lambda i: RATE, communicator=communicator,
        )  # fmt: skip

    for error in errors(work):
        assert str(error).startswith("rank 1 has other random numbers than rank 0")


def test_an_error_while_drawing():
    """It stays what it is where it happened; the others say where that was."""

    def work(communicator):
        def draw(rng):
            if communicator.rank == 1:
                raise KeyError("no such picture: é")
            return parallel_run.draw(None)(rng)

        training.train(new(), draw, parallel_run.loss, iterations=2, rate=lambda i: RATE,
                       communicator=communicator)  # fmt: skip

    for error in errors(work):
        assert isinstance(error, RuntimeError)
        assert not isinstance(error, Diverged)
        assert str(error) == "rank 1: KeyError: 'no such picture: é'"


def test_a_loss_that_is_refused_on_one_rank():
    """It diverged there, and so on all of them, though the others have a loss."""

    def work(communicator):
        def refused(net, tape, drawn):
            value = parallel_run.loss(net, tape, drawn)
            if communicator.rank == 1:
                tape.add(net.head.bias, np.full_like(net.head.bias, np.inf))
                raise ValueError("deltas[0] is (nan)")
            return value

        training.train(new(), parallel_run.draw(communicator), refused, iterations=2,
                       rate=lambda i: RATE, communicator=communicator)  # fmt: skip

    for error in errors(work, 2):
        assert isinstance(error, Diverged)
        assert str(error).startswith("rank 1: there is no loss at iteration 0: deltas[0] is (nan);")


def test_only_the_first_rank_writes(tmp_path, monkeypatch):
    written, save = [], training.save
    monkeypatch.setattr(
        training, "save", lambda path, s, *more: written.append(s) or save(path, s, *more)
    )
    first, _ = Ranks.of(2, lambda c: run(c, checkpoint=tmp_path / "run.npz", every=2))
    assert len(written) == parallel_run.STEPS // 2
    assert all(state is first for state in written)


def test_a_checkpoint_that_cannot_be_written_or_read(tmp_path):
    for error in errors(lambda c: run(c, checkpoint=tmp_path / "no folder" / "run.npz"), 2):
        assert isinstance(error, ValueError)  # on all ranks: none waits for another
        assert "in a folder that is not there" in str(error)
    long = tmp_path / f"{'a' * 248}.npz"  # and its temporary name is too long
    for error in errors(lambda c: run(c, checkpoint=long), 2):
        assert isinstance(error, OSError)
        assert "rank 0: " in str(error)
    (tmp_path / "run.npz").write_text("nothing")
    for error in errors(lambda c: run(c, checkpoint=tmp_path / "run.npz"), 2):
        assert isinstance(error, ValueError)
        assert "run.npz is no checkpoint" in str(error)


def test_shares():
    both = [parallel.share(SimpleNamespace(rank=rank, size=2), 6) for rank in (0, 1)]
    assert both == [slice(0, 3), slice(3, 6)]
    assert parallel.share(None, 6) == slice(0, 6)
    for count in (0, 5, 1):
        with pytest.raises(ValueError, match=f"a batch of {count} has no 2 equal parts"):
            parallel.share(SimpleNamespace(rank=0, size=2), count)


def test_one_sum_for_all_arrays_of_a_dtype():
    asked = []
    arrays = {"a": np.ones((2, 3), "f4"), "b": np.ones(()), "c": np.ones((0, 2), "f4"),
              "d": np.ones(4, "f4")[::2]}  # fmt: skip
    found = parallel.averages(arrays, 4, lambda flat: asked.append(flat) or flat * 2)
    assert [(flat.dtype.str[1:], flat.shape) for flat in asked] == [("f4", (8,)), ("f8", (1,))]
    assert list(found) == list(arrays)
    for name, a in found.items():
        np.testing.assert_array_equal(a, np.full_like(arrays[name], 0.5))
        assert a.dtype == arrays[name].dtype


def test_without_mpi4py(monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py.MPI", None)
    with pytest.raises(RuntimeError, match=r"mpi4py.MPI cannot be imported .*: pip install mpi4py"):
        parallel.Mpi()
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(RuntimeError, match=r"cupy cannot be imported .*: pip install cupy-cuda13x"):
        parallel.Nccl()
