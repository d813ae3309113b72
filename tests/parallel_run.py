"""What mpirun runs for test_networks_parallel: `parallel_run.py runs|diverge|fail FOLDER`.

`runs` trains in all the ways below and leaves what every rank ends with in FOLDER; the others end
with an error.
"""

import sys
from pathlib import Path

import numpy as np
from small_network import net

from deformable_convnets.reference.networks import layers, optimisers, parallel
from deformable_convnets.reference.networks.training import Diverged, State, train

BATCH, STEPS, RATE = 8, 6, 0.05
LABELS = np.array([0, -1, -1, -1, 1, 2, 0, -1])  # the first half has one, the second three


def new(dtype="float64", frozen=True, optimiser=optimisers.SGD):
    made = layers.deformable(net(np.dtype(dtype)), ["second.0"])
    made.norm.frozen = frozen
    return State(made, optimiser(), np.random.default_rng(7))


def draw(communicator, dtype="float64", labels=None):
    """Every rank draws the whole batch, and keeps its part."""
    mine = parallel.share(communicator, BATCH)

    def drawn(rng):
        x, drawn_labels = rng.normal(size=(BATCH, 2, 6, 8)), rng.integers(0, 3, BATCH)
        return x.astype(dtype)[mine], (drawn_labels if labels is None else labels)[mine]

    return drawn


def loss(network, tape, drawn):
    return tape.softmax_loss(network(tape, drawn[0]), drawn[1])


def counted(drawn):
    return (drawn[1] >= 0).sum()


def run(communicator, dtype="float64", *, frozen=True, optimiser=optimisers.SGD, labels=None,
        steps=STEPS, **options):  # fmt: skip
    state = new(dtype, frozen, optimiser)
    return train(
        state, draw(communicator, dtype, labels), loss, iterations=steps, rate=lambda i: RATE,
        communicator=communicator, **options,
    )  # fmt: skip


class Wrong:
    """A communicator whose gradients are wrong, while what it says of other things is right."""

    def __init__(self, right, spoil):
        self.rank, self.size, self.right, self.spoil = right.rank, right.size, right, spoil

    def average(self, gradients):
        means = self.right.average(gradients)
        names = [name for name in gradients if name in layers.parameters(new().net)]
        return means | self.spoil({n: gradients[n] for n in names}, {n: means[n] for n in names})


SPOILT = {
    "sum": lambda own, means: {name: 2 * a for name, a in means.items()},
    "nothing": lambda own, means: own,
    "first": lambda own, means: own | dict(list(means.items())[:1]),
    "all but the last": lambda own, means: means | dict(list(own.items())[-1:]),
}
WAYS = {
    "float64": lambda c, file: run(c),
    "float32": lambda c, file: run(c, "float32"),
    "adam": lambda c, file: run(c, "float32", optimiser=optimisers.Adam),
    "batch norm": lambda c, file: run(c, frozen=False),
    "counts": lambda c, file: run(c, labels=LABELS),
    "weighted": lambda c, file: run(c, labels=LABELS, weight=counted),
    "whole": lambda c, file: run(c, "float32", frozen=False, optimiser=optimisers.Adam),
    "resumed": lambda c, file: [
        run(c, "float32", frozen=False, optimiser=optimisers.Adam, steps=steps, checkpoint=file,
            every=2)
        for steps in (3, STEPS)
    ][1],
    **{name: lambda c, file, spoil=spoil: run(Wrong(c, spoil)) for name, spoil in SPOILT.items()},
}  # fmt: skip


def ended(state):
    """All that a state holds, by name."""
    kept = {f"state {name}": a for name, a in state.optimiser.state.items()}
    said = {
        "losses": np.array(state.losses),
        "rng": np.array(parallel.digest(state.rng.bit_generator.state)),
    }
    return layers.arrays(state.net) | kept | said


def runs(folder, communicator):
    for way, trained in WAYS.items():
        state = trained(communicator, folder / "run.npz")
        np.savez(folder / f"{way} {communicator.rank}.npz", **ended(state))


def diverge(folder, communicator):
    """Rank 1 meets a number that is not finite at iteration 2."""
    state, drawn = new(), draw(communicator)

    def spoilt(rng):
        x, labels = drawn(rng)
        return (x * np.inf if communicator.rank == state.iteration - 1 == 1 else x), labels

    try:
        with np.errstate(all="ignore"):
            train(state, spoilt, loss, iterations=4, rate=lambda i: RATE, every=1,
                  communicator=communicator, checkpoint=folder / "diverged.npz")  # fmt: skip
    except Diverged as error:
        (folder / f"rank {communicator.rank}").write_text(str(error))  # stderr mixes both ranks'
        raise


def fail(folder, communicator):
    """Rank 1 ends with an error of its own, outside of what the ranks do together."""

    def progress(state):
        if communicator.rank == 1:
            raise KeyError("rank 1 cannot show its progress")

    run(communicator, progress=progress)


if __name__ == "__main__":
    globals()[sys.argv[1]](Path(sys.argv[2]), parallel.Mpi())
