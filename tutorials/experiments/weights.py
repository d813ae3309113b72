"""Trained networks that come with the tutorials, in half precision: what the notebooks look into.

`python -m experiments.weights`, in tutorials/, takes them from the finished runs.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from deformable_convnets.reference.networks import layers, training
from deformable_convnets.reference.networks.segmenter import RES5
from experiments import runs
from experiments.layer_tables import DETECTION
from experiments.roi_tables import ROI
from experiments.runs import Run, started

FOLDER = runs.HERE / "results" / "weights"
TRAINED = {
    "segmenter-plain": Run(),
    "segmenter": Run(deformable=RES5),
    "detector-plain": Run(**DETECTION),
    "detector": Run(**DETECTION, deformable=RES5 + ROI["pool"]),
}


def trained(name: str) -> tuple[Any, Run]:
    """One of TRAINED, seed 0, as it is after its run, and that run."""
    if name not in TRAINED:
        raise ValueError(f"name is {name!r}, expected one of {', '.join(TRAINED)}")
    with np.load(FOLDER / f"{name}.npz") as file:
        kept = {key: file[key] for key in file.files}
    settings = json.loads(str(kept.pop("settings")))
    run = Run(**settings | {"deformable": tuple(settings["deformable"])})
    net = started(run).net
    for key, a in layers.arrays(net).items():
        a[...] = kept[key]
    return net, run


def keep(name: str, folder: Path) -> Path:
    """Write one of TRAINED from the checkpoint of its run."""
    run = TRAINED[name]
    state = started(run)
    training.load(folder / f"{run.name}.npz", state)
    if state.iteration != run.iterations:
        raise ValueError(f"{run.name} is at iteration {state.iteration} of {run.iterations}")
    FOLDER.mkdir(parents=True, exist_ok=True)
    half = {key: a.astype(np.float16) for key, a in layers.arrays(state.net).items()}
    path = FOLDER / f"{name}.npz"
    np.savez_compressed(path, settings=json.dumps(asdict(run)), **half)
    return path


if __name__ == "__main__":
    for chosen in sys.argv[1:] or TRAINED:
        print(keep(chosen, runs.HERE / "runs"))
