"""How long RoI pooling takes on two CPU threads, beside torchvision's roi_align.

300 RoIs on a 38x63 map of 256 channels, 7x7 bins of 4x4 points, float32. Ours is equation (6) with
bins="mxnet" and offsets N(0, 1), and its gradients in x and the offset; roi_align has no offsets,
and the gradient of x alone. What it computes is timed here too: bins="align" without offsets. The
rounds are those of `cpu`, whose results of both are compared first.
"""

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from . import THREADS
from .agreement import error
from .cpu import against_targets, check, machine, milliseconds, timed
from .peers import child
from .roi_cases import RoiCase
from .roi_peers import called

RESULTS = Path(__file__).parent / "results" / "roi.json"
R, C, H, W, BINS, SAMPLES, SCALE = 300, 256, 38, 63, 7, 4, 1 / 16
BOTH = "forward and backward"
TARGETS = {"forward / torchvision": 1.0, f"{BOTH} / torchvision": 1.0}


def problem() -> RoiCase:
    """RoIs between any two points of the image."""
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 1, (R, 2, 2)) * (W / SCALE, H / SCALE)
    boxes = np.sort(corners, axis=1).reshape(R, 4)

    def normal(*shape: int) -> Any:
        return rng.standard_normal(shape).astype(np.float32)

    return RoiCase(
        x=normal(1, C, H, W), rois=np.hstack([np.zeros((R, 1)), boxes]).astype(np.float32),
        offset=normal(R, 2, BINS, BINS), output_size=(BINS, BINS),
        options={"spatial_scale": SCALE, "bins": "mxnet", "samples": SAMPLES, "group_size": 1},
        grad_output=normal(R, C, BINS, BINS),
    )  # fmt: skip


def aligned(case: RoiCase) -> RoiCase:
    """What roi_align computes, in its place."""
    return case._replace(offset=None, options=case.options | {"bins": "align"})


def measure(rounds: int, python: str | None) -> dict[str, Any]:
    about: dict[str, Any] = {"load before": round(os.getloadavg()[0], 2)}
    case, found = problem(), {}
    same = aligned(case)
    contenders = {
        "forward": timed(case.ours),
        BOTH: timed(lambda: (case.ours(), case.our_gradients())),
        "align forward": timed(same.ours),
        f"align {BOTH}": timed(lambda: (same.ours(), same.our_gradients())),
    }
    with ExitStack() as stack:
        peer = stack.enter_context(child("torchvision", python, THREADS)) if python else None
        if peer:
            operator, given = called(same, peer)
            forward = {name: a for name, a in given.items() if name != "grad_output"}
            y, x = peer.call(operator, forward), peer.call(f"{operator}_backward", given)["x"]
            found["roi_align, the timed call"] = error(same.ours(), y)
            found["its gradient of x"] = error(same.our_gradients().x, x)
            check(found)
            contenders["torchvision forward"] = peer.timer(operator, forward)
            contenders[f"torchvision {BOTH}"] = peer.timer(f"{operator}_backward", given)
        times = milliseconds(contenders, rounds)
        about |= machine(peer, "numpy", "scipy")
    median = {name: t["median"] for name, t in times.items()}
    measured = {
        f"{what} / torchvision": round(median[what] / median[f"torchvision {what}"], 3)
        for what in ("forward", BOTH)
        if python
    }
    return {
        "problem": "300 RoIs x 256 channels x 7x7 bins on 38x63, samples 4, float32",
        **about, "rounds": rounds, "milliseconds": times, "agreement": found,
        "targets": against_targets(measured, TARGETS),
    }  # fmt: skip
