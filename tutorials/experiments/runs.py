"""One run: a network that is trained on a world, and what is measured of it afterwards.

A run is decided by its settings alone. Its folder holds a checkpoint while it is on its way, and
then its result; with both the run goes on where it was, or is not done again.
"""

import datetime
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from importlib import import_module
from importlib.metadata import version
from math import cos, pi
from pathlib import Path
from typing import Any

import numpy as np

from deformable_convnets.reference.networks import layers
from deformable_convnets.reference.networks.optimisers import Adam
from deformable_convnets.reference.networks.training import State, load, train

HERE = Path(__file__).resolve().parent
TEST = 1_000_000  # the seed of the pictures of all tests; no run has it
RATE = 2e-3
EVERY = 50  # steps from one checkpoint to the next
BETA = 0.1  # the offset branches learn so much slower: with 1 and Adam, samples leave the map


@dataclass(frozen=True)
class Run:
    """The settings of a run. All that is not a default is in its name."""

    task: str = "segmentation"
    world: str = "scale"
    size: int = 64  # pixels
    deformable: tuple[str, ...] = ()  # the layers that are
    dilation: int = 2  # of res5
    width: int = 32
    active: bool = False  # offsets that do not depend on x: active convolution (Jeon and Kim 2017)
    head: str = "pool"  # of the detector: "pool" or "position-sensitive"
    iterations: int = 800
    batch: int = 8
    tested: int = 400  # pictures
    seed: int = 0

    @property
    def name(self) -> str:
        """A name for files: the task, and what is not a default."""
        told = []
        for f in fields(self):
            value = getattr(self, f.name)
            if value != f.default or f.name == "task":
                text = "-".join(value) if isinstance(value, tuple) else str(value)
                told.append(text if f.name in ("task", "deformable") else f"{f.name}-{text}")
        return "_".join(told)


def task_of(run: Run) -> Any:
    """The module that says what a task is: network, draw, loss and measured."""
    return import_module(f"experiments.{run.task}")


def started(run: Run) -> State:
    """The state of a run before its first step: one seed makes one network in all variants."""
    net = task_of(run).network(np.random.default_rng(run.seed), run)
    net = layers.deformable(net, run.deformable)
    if run.active:
        _share_offsets(net)
    optimiser = Adam(multipliers={"*branch.*": BETA})
    return State(net, optimiser, np.random.default_rng((run.seed, 1)))


@dataclass(eq=False)
class SharedOffset(layers.Conv2d):
    """A branch whose weight stays zero: one offset for each tap, the same everywhere."""

    weight: np.ndarray = field(metadata={"fixed": True})


def _share_offsets(net: Any) -> None:
    for f in fields(net):
        layer = getattr(net, f.name)
        if isinstance(layer, layers.DeformConv2d):
            layer.branch = SharedOffset(**vars(layer.branch))


def cosine(run: Run) -> Callable[[int], float]:
    """The learning rate of an iteration, from RATE down to 0."""
    return lambda i: RATE * (1 + cos(pi * i / run.iterations)) / 2


def finish(run: Run, folder: Path, told: Callable[[int], None] = lambda steps: None) -> dict:
    """The result of a run: from its folder, or trained and measured now.

    told  is called with the number of steps that have been made since it was called last
    Raises ValueError for a result that is broken, or of other settings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kept, checkpoint = folder / f"{run.name}.json", folder / f"{run.name}.npz"
    if kept.exists():
        told(run.iterations)
        return read(kept, run)
    task, state = task_of(run), started(run)
    if checkpoint.exists():
        load(checkpoint, state)
        told(state.iteration)
    before = state.iteration
    start = time.perf_counter()
    train(
        state, lambda rng: task.draw(rng, run), task.loss, iterations=run.iterations,
        rate=cosine(run), checkpoint=checkpoint, every=EVERY, progress=lambda s: told(1),
    )  # fmt: skip
    seconds = time.perf_counter() - start
    result = {
        "settings": asdict(run),
        "parameters": sum(map(np.size, layers.parameters(state.net).values())),
        "loss": float(np.mean(state.losses[-50:])),
        "seconds_per_step": seconds / made if (made := run.iterations - before) else None,
        "measured": task.measured(state.net, run), "trained": trained_with(),
    }  # fmt: skip
    beside = kept.with_suffix(f".{os.getpid()}.part")
    beside.write_text(json.dumps(result))
    os.replace(beside, kept)
    return read(kept, run)


def read(kept: Path, run: Run) -> dict:
    """The result of a run that is finished."""
    try:
        result = json.loads(kept.read_text())
        found = result["settings"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{kept} is no result of a run: {error}; remove it to train again"
        ) from None
    wanted = json.loads(json.dumps(asdict(run)))
    if found != wanted:
        other = {k: (found.get(k), v) for k, v in wanted.items() if found.get(k) != v}
        raise ValueError(f"{kept} is of other settings, found and expected: {other}")
    return result


def trained_with() -> dict[str, Any]:
    """What decides a result beside the settings: the code, and numbers that no run changes."""
    return {
        "commit": commit(), "date": datetime.date.today().isoformat(),
        "python": sys.version.split()[0], "numpy": version("numpy"), "scipy": version("scipy"),
        "rate": RATE, "beta": BETA,
    }  # fmt: skip


def commit() -> str:
    """The commit of this checkout, "+" where tracked files are changed; "" without git."""
    command = ["git", "-C", str(HERE), "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
