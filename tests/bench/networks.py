"""How long a training step of a small network takes: `make bench-networks`.

The network is the smallest of the tutorials: three residual blocks, 16 pictures of 64 x 64, Adam,
one thread (a second one of OpenBLAS makes maps this small slower), and glibc keeps the memory of
large arrays, as in `tutorials/experiments/pool.py`. Times are medians of `--rounds` steps, plain
and deformable in turn. The results go to `results/networks.json`.
"""

import os
import sys

SET = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
SET |= dict.fromkeys(("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"), str(2**30))
if __name__ == "__main__" and not SET.items() <= os.environ.items():  # glibc reads it at the start
    os.execve(sys.executable, [sys.executable, "-m", "bench.networks", *sys.argv[1:]],
              os.environ | SET)  # fmt: skip

import argparse  # noqa: E402
import json  # noqa: E402
import statistics  # noqa: E402
import time  # noqa: E402
import tracemalloc  # noqa: E402
from collections.abc import Callable  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402

from deformable_convnets.reference.networks import layers, scale_world  # noqa: E402
from deformable_convnets.reference.networks.optimisers import Adam  # noqa: E402
from deformable_convnets.reference.networks.segmenter import RES5, segmenter  # noqa: E402
from deformable_convnets.reference.networks.tape import Tape  # noqa: E402

from .cpu import machine  # noqa: E402

RESULTS = Path(__file__).parent / "results" / "networks.json"
N = 16
TARGETS = {"train plain": 2.5, "train deformable": 6.0}  # ms for each picture


def networks() -> dict[str, Any]:
    """The same network twice; the offsets are not zero, as after some training."""
    rng = np.random.default_rng(0)
    plain = segmenter(rng, blocks=RES5)
    deformable = layers.deformable(plain, RES5)
    for name in RES5:
        weight = getattr(deformable, name).branch.weight
        weight += 0.05 * rng.normal(size=weight.shape).astype(weight.dtype)
    return {"plain": plain, "deformable": deformable}


def steps() -> dict[str, Callable[[], object]]:
    """What is timed."""
    images, labels, _ = scale_world.batch(np.random.default_rng(1), N)
    found: dict[str, Callable[[], object]] = {}
    for name, net in networks().items():
        trained, adam = layers.parameters(net), Adam()

        def train(net: Any = net, trained: Any = trained, adam: Any = adam) -> None:
            tape = Tape(trained)
            value = tape.softmax_loss(net(tape, images), labels)
            adam.step(trained, tape.gradients(value), 1e-4)

        found[f"train {name}"] = train
        found[f"forward {name}"] = lambda net=net: net(Tape(), images)
    rng = np.random.default_rng(2)
    found["draw"] = lambda: scale_world.batch(rng, N)
    return found


def milliseconds(timed: dict[str, Callable[[], object]], rounds: int) -> dict[str, Any]:
    """Median and least of each, for one picture."""
    taken: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(rounds):
        for name, call in timed.items():
            start = time.perf_counter()
            call()
            taken[name].append(1e3 * (time.perf_counter() - start) / N)
    return {
        name: {"median": round(statistics.median(t), 3), "least": round(min(t), 3)}
        for name, t in taken.items()
    }


def megabytes(call: Callable[[], object]) -> float:
    """The peak of NumPy's memory in a call."""
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return round(peak / 2**20, 1)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m bench.networks")
    parser.add_argument("--rounds", type=int, default=25)
    rounds = parser.parse_args().rounds
    timed, load = steps(), round(os.getloadavg()[0], 2)
    for call in timed.values():
        call()
    found = milliseconds(timed, rounds)
    results = {
        "load before": load, "rounds": rounds, "pictures": N, "ms for each picture": found,
        "peak MiB of a batch": {name: megabytes(timed[name]) for name in timed if name != "draw"},
        "targets": [
            {"what": name, "at most": most, "measured": found[name]["median"],
             "met": found[name]["median"] <= most} for name, most in TARGETS.items()
        ],
    } | machine(None, "numpy", "scipy") | {"threads": 1}  # fmt: skip
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
