"""Training: steps of a network, checkpoints that resume bit for bit, and a stop where it diverges.

What decides a run is in its `State`: the network, the optimiser, the random numbers, and how far it
is. A checkpoint holds all of it, so a run that was interrupted ends with the same bits as one that
was not. It also says which parameters were frozen: a run that freezes others does not resume it.
"""

import json
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, is_zipfile

import numpy as np
from numpy import ndarray as Array

from . import parallel
from .door import namespace, on_cpu
from .layers import arrays, parameters
from .tape import Record, Tape

Loss = Callable[[Any, Tape, Any], Array]  # of a network, a tape and what was drawn


class Diverged(RuntimeError):
    """A loss that is not finite: at which iteration, and in which layer first."""


@dataclass
class State:
    """A run: what it trains, with what, from which random numbers, and what the loss was so far."""

    net: Any
    optimiser: Any
    rng: np.random.Generator
    losses: list[float] = field(default_factory=list)

    @property
    def iteration(self) -> int:
        """How many steps have been made."""
        return len(self.losses)


def train(
    state: State, draw: Callable[[np.random.Generator], Any], loss: Loss, *, iterations: int,
    rate: Callable[[int], float], checkpoint: str | Path | None = None, every: int = 100,
    progress: Callable[[State], None] | None = None, ops: Any = None,
    communicator: parallel.Communicator | None = None,
    weight: Callable[[Any], float] | None = None, frozen: Collection[str] = (),
) -> State:  # fmt: skip
    """Steps up to `iterations`, from where the state is, or the checkpoint if there is one.

    draw          makes what a step learns from
    loss          computes a number of shape () on a tape
    rate          the learning rate of an iteration, from 0 on
    checkpoint    a file that is written after every `every` steps and at the end
    progress      is called after each step
    communicator  the other processes of this run, which step as one (see `parallel`); all read the
                  checkpoint, the first writes it
    weight        what a process's loss counts for, of what was drawn; None: all the same
    frozen        names of parameters that stay as they are, see `frozen.freeze`
    Raises Diverged where the loss is not finite, or refused because of what is not, in all
    processes of the run; the checkpoint is then that of the steps before.
    """
    _check(every, rate, iterations)
    group = communicator if communicator is not None and communicator.size > 1 else None
    if checkpoint is not None:
        parallel.together(group, partial(_resume, checkpoint, state, frozen), ValueError)
    parallel.agree(group, _digests(state) if group else {})
    trained = _trained(state.net, frozen)
    compute = partial(_gradients, state, trained, draw, loss, ops, weight)
    while state.iteration < iterations:
        value, gradients = _averaged(group, state, trained, compute) if group else compute()[:2]
        state.optimiser.step(trained, gradients, rate(state.iteration))
        state.losses.append(value)
        if checkpoint is not None and (
            state.iteration % every == 0 or state.iteration == iterations
        ):
            parallel.together(group, partial(_write, checkpoint, state, frozen, group), OSError)
        if progress is not None:
            progress(state)
    return state


def _check(every: int, rate: Any, iterations: int) -> None:
    if every < 1:
        raise ValueError(f"every is {every}, expected 1 or more")
    if iterations < 0:
        raise ValueError(f"iterations is {iterations}, expected 0 or more")
    if not callable(rate):
        raise TypeError(
            f"rate is {rate!r}, expected a function of the iteration: lambda i: {rate!r}"
        )


def _trained(net: Any, frozen: Collection[str]) -> dict[str, Array]:
    """The parameters but for some of them, by name."""
    every = parameters(net)
    unknown = sorted(set(frozen) - every.keys())
    if isinstance(frozen, str) or unknown:
        said = repr(frozen) if isinstance(frozen, str) else ", ".join(unknown)
        raise ValueError(f"frozen has {said}, expected names of parameters of the network")
    return {name: a for name, a in every.items() if name not in frozen}


def _gradients(
    state: State, trained: dict[str, Array], draw: Callable[[np.random.Generator], Any], loss: Loss,
    ops: Any, weight: Callable[[Any], float] | None,
) -> tuple[float, dict[str, Array], float]:  # fmt: skip
    """The loss of what is drawn next, its gradients, and what both count for."""
    tape = Tape(trained, ops)
    drawn = draw(state.rng)
    at = f"at iteration {state.iteration}"
    try:
        value = loss(state.net, tape, drawn)
    except ValueError as error:  # boxes, for example, refuse deltas that are not finite
        if where := _where(state, tape):
            raise Diverged(f"there is no loss {at}: {error}{where}") from error
        raise
    if getattr(value, "shape", None) != ():
        kind = getattr(value, "shape", type(value).__name__)
        raise ValueError(f"the loss is of shape or type {kind}, expected a number of shape ()")
    if not np.isfinite(float(value)):
        raise Diverged(f"the loss is {float(value)} {at}{_where(state, tape)}")
    return float(value), tape.gradients(value), 1.0 if weight is None else float(weight(drawn))


def _averaged(
    group: parallel.Communicator, state: State, trained: dict[str, Array],
    compute: Callable[[], tuple[float, dict[str, Array], float]],
) -> tuple[float, dict[str, Array]]:  # fmt: skip
    """Loss and gradients of all processes; what else a network keeps is averaged in place."""
    kept = {f"kept {n}": a for n, a in arrays(state.net).items() if n not in trained}
    before = {name: a.copy() for name, a in kept.items()}
    value, gradients, weight = parallel.together(group, compute, Diverged)
    sent = {name: a if weight == 1 else a * a.dtype.type(weight) for name, a in gradients.items()}
    sent |= {name: a - before[name] for name, a in kept.items()}
    drawn = parallel.digest(state.rng.bit_generator.state)
    means, rows = parallel.exchange(group, sent, [value * weight, weight, drawn])
    parallel.same("random numbers", rows[:, 2])
    for name, a in kept.items():
        a[...] = before[name] + means[name]
    total, counted = rows[:, :2].mean(0).tolist()
    counted = counted or 1  # nothing counts: all gradients are 0
    found = {name: means[name] for name in gradients}
    if counted != 1:
        found = {name: a / a.dtype.type(counted) for name, a in found.items()}
    return total / counted, found


def _digests(state: State) -> dict[str, int]:
    """What has to be the same in all processes."""
    return {
        "weights": parallel.digest(arrays(state.net)),
        "memories of the optimiser": parallel.digest(
            type(state.optimiser).__name__, state.optimiser.state
        ),
        "random numbers": parallel.digest(state.rng.bit_generator.state),
        "losses": parallel.digest(state.losses),
    }


def _resume(path: str | Path, state: State, frozen: Collection[str]) -> None:
    """Load a checkpoint if there is one; what cannot be written later is said before training."""
    if not Path(path).resolve().parent.is_dir():
        raise ValueError(f"checkpoint is {path}, in a folder that is not there")
    if Path(path).exists():
        load(path, state, frozen)


def _write(
    path: str | Path, state: State, frozen: Collection[str], group: parallel.Communicator | None
) -> None:
    if group is None or group.rank == 0:
        save(path, state, frozen)


def _where(state: State, tape: Tape) -> str:
    """The first call whose result is not finite, and the parameters that it takes; else nothing."""
    names = {id(a): name for name, a in arrays(state.net).items()}
    for name, a in arrays(state.net).items():
        if not np.isfinite(a).all():
            return f"; {name} is not finite"
    for record in tape.records:
        if not np.isfinite(record.result).all():
            return f"; the first result that is not finite is that of {_told(record, names)}"
    return ""


def _told(record: Record, names: dict[int, str]) -> str:
    taken = [names[id(a)] for a in record.arguments.values() if id(a) in names]
    return f"{record.forward.__name__}{' with ' * bool(taken)}{', '.join(taken)}"


def save(path: str | Path, state: State, frozen: Collection[str] | None = None) -> None:
    """Write a checkpoint: beside it, then in its place, so that a whole one is always there.

    frozen  as of `train`, for `load` to compare; None: it is not written
    """
    path = Path(path)
    told: dict[str, Any] = {
        "rng": state.rng.bit_generator.state, "losses": [x.hex() for x in state.losses],
        "optimiser": type(state.optimiser).__name__,
    }  # fmt: skip
    if frozen is not None:
        told["frozen"] = sorted(_frozen(state.net, frozen))
    kept: dict[str, Any] = {f"net {name}": on_cpu(a) for name, a in arrays(state.net).items()}
    kept |= {f"state {name}": on_cpu(a) for name, a in state.optimiser.state.items()}
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    with beside.open("wb") as file:
        np.savez(file, told=json.dumps(told), **kept)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def _frozen(net: Any, frozen: Collection[str]) -> set[str]:
    """The names of the arrays that are not trained, those of frozen norms too."""
    return arrays(net).keys() - _trained(net, frozen).keys()


def load(path: str | Path, state: State, frozen: Collection[str] | None = None) -> None:
    """Put a state where its checkpoint was; ValueError for a file that is not of such a run.

    frozen  as of `train`: those of the checkpoint have to be the same, if it names them
    """
    try:
        with Path(path).open("rb") as opened:
            if not is_zipfile(opened):
                raise ValueError("it is no zip file, as .npz files are")
            opened.seek(0)
            with np.load(opened) as file:
                kept = {name: file[name] for name in file.files}
        told = json.loads(str(kept.pop("told")))
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise ValueError(f"{path} is no checkpoint, or not a whole one: {error}") from None
    own = {f"net {name}": a for name, a in arrays(state.net).items()}
    _same(path, {n: a.shape for n, a in own.items()},
          {n: a.shape for n, a in kept.items() if n.startswith("net ")})  # fmt: skip
    own_kinds = type(state.optimiser).__name__, state.rng.bit_generator.state["bit_generator"]
    for kind, given in zip(
        (told["optimiser"], told["rng"]["bit_generator"]), own_kinds, strict=True
    ):
        if kind != given:
            raise ValueError(f"{path} was written with {kind}, expected the same, not {given}")
    if frozen is not None and "frozen" in told:
        _same_frozen(path, set(told["frozen"]), _frozen(state.net, frozen))
    for name, a in own.items():
        a[...] = namespace(a).asarray(kept[name])
    own_place = namespace(next(iter(own.values()), np.zeros(0)))
    state.optimiser.state.clear()
    state.optimiser.state.update(
        {n.removeprefix("state "): own_place.asarray(a)
         for n, a in kept.items() if n.startswith("state ")}
    )  # fmt: skip
    state.rng.bit_generator.state = told["rng"]
    state.losses[:] = map(float.fromhex, told["losses"])


def _same_frozen(path: Any, kept: set[str], own: set[str]) -> None:
    """The parameters that are frozen in a checkpoint and not here, or here and not there."""
    apart = {"trained": kept - own, "frozen": own - kept}
    told = [f"{how} now: {', '.join(sorted(names))}" for how, names in apart.items() if names]
    if told:
        raise ValueError(f"{path} was written with other parameters frozen; {'; '.join(told)}")


def _same(path: Any, own: dict[str, Any], kept: dict[str, Any]) -> None:
    """All differences between the arrays of a network and those of a checkpoint, in one error."""
    wrong = [f"{n.removeprefix('net ')} is missing" for n in own.keys() - kept.keys()]
    wrong += [f"{n.removeprefix('net ')} is not in the network" for n in kept.keys() - own.keys()]
    wrong += [
        f"{n.removeprefix('net ')} has shape {kept[n]}, expected {own[n]}"
        for n in own.keys() & kept.keys() if own[n] != kept[n]
    ]  # fmt: skip
    if wrong:
        raise ValueError(f"{path} is of another network: {'; '.join(sorted(wrong))}")
