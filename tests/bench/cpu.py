"""How long the reference takes on two CPU threads, and how much memory, beside other libraries.

    make bench              ONNX Runtime, in a child process, turn by turn with ours
    make bench PEERS=1      and torchvision in another

The problem is one 38x63 map of 256 channels to 256, 3x3, padding 1, float32, offsets N(0, 1). The
results of all are compared first. In each round every contender is called twice, once to warm up
and once timed, after a pause in which the threads of the one before stop spinning. So a machine
that slows down slows all of them. Ratios are between medians.

Memory is NumPy's, by tracemalloc: its peak less what the call returns, in column buffers, the
256 * 9 * 38 * 63 float32 numbers that im2col would write. BLAS's own buffers are not seen.
"""

import datetime
import os
import platform
import statistics
import subprocess
import time
import tracemalloc
from collections.abc import Callable
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from deformable_convnets import reference
from deformable_convnets.reference.oracle.child import Child

from . import THREADS
from .agreement import error
from .peers import Case, child, errors, random_case

RESULTS = Path(__file__).parent / "results" / "cpu.json"
C, H, W, K = 256, 38, 63, 9
COLUMN_BUFFER = C * K * H * W * 4
PAUSE = 0.05
# (what, at most): a ratio of medians, or column buffers
TARGETS = {
    "forward / torchvision": 0.4,
    "forward / ONNX Runtime": 1.5,
    "forward and backward / torchvision": 0.25,
    "memory of forward": 1.5,
    "memory of backward": 4.0,
}
# What the name of a virtual machine's processor may leave out.
GENERATIONS = {("AuthenticAMD", "26"): " (Zen 5)"}
EXACTNESS = 1e-12  # of agreement in float64, relative to the largest entry


def problem() -> Case:
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> Any:
        return rng.standard_normal(shape).astype(np.float32)

    return Case(
        x=normal(1, C, H, W), offset=normal(1, 2 * K, H, W), weight=normal(C, C, 3, 3),
        bias=None, mask=None, stride=(1, 1), padding=((1, 1), (1, 1)), dilation=(1, 1),
        grad_output=normal(1, C, H, W),
    )  # fmt: skip


def agreement(case: Case, onnx: Child, peer: Child | None) -> dict[str, Any]:
    """Errors on 120 small calls in float64, and on the timed one in float32."""
    symmetric = [random_case(seed, symmetric=True) for seed in range(120)]
    theirs = onnx.call("deform_conv2d", case.arguments)
    found: dict[str, Any] = {
        "cases": len(symmetric),
        "ONNX Runtime, float64": errors([random_case(seed) for seed in range(120)], onnx),
        "ONNX Runtime, the timed call": error(case.ours(), theirs),
    }
    if peer is not None:
        found["torchvision, float64"] = errors(symmetric, peer)
        theirs = peer.call("deform_conv2d", case.arguments)
        found["torchvision, the timed call"] = error(case.ours(), theirs)
    return found


def check(found: dict[str, Any]) -> None:
    """Stop where a result is wrong: a time of it would mean nothing."""
    for name, wrong in found.items():
        if isinstance(wrong, dict) and max(wrong.values()) > EXACTNESS:
            raise SystemExit(f"{name} differs by {wrong}, expected at most {EXACTNESS}")
        if isinstance(wrong, float) and wrong > 1e-4:
            raise SystemExit(f"{name} differs by {wrong} in float32, expected at most 1e-4")


def milliseconds(
    contenders: dict[str, Callable[[], float]], rounds: int
) -> dict[str, dict[str, float]]:
    """Median and least time of each, all of them in turn in every round."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, seconds in contenders.items():
            time.sleep(PAUSE)
            seconds()
            times[name].append(1e3 * seconds())
    return {
        name: {"median": round(statistics.median(t), 2), "least": round(min(t), 2)}
        for name, t in times.items()
    }


def timed(call: Callable[[], Any]) -> Callable[[], float]:
    def seconds() -> float:
        start = time.perf_counter()
        call()
        return time.perf_counter() - start

    return seconds


def memory(call: Callable[[], Any]) -> float:
    """The peak beyond what goes in and comes out, in column buffers."""
    call()
    tracemalloc.start()
    returned = call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    arrays = returned if isinstance(returned, tuple) else (returned,)
    return round((peak - sum(a.nbytes for a in arrays if a is not None)) / COLUMN_BUFFER, 3)


def against_targets(measured: dict[str, float], targets: dict[str, float]) -> list[dict[str, Any]]:
    return [
        {"what": what, "at most": limit, "measured": measured.get(what),
         "met": measured[what] <= limit if what in measured else None}
        for what, limit in targets.items()
    ]  # fmt: skip


def machine(peer: Child | None, *packages: str) -> dict[str, Any]:
    versions = {name: version(name) for name in packages}
    return {
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
        "cpu": processor(),
        "cores": os.cpu_count(),
        "threads": THREADS,
        "versions": {"python": platform.python_version(), **versions}
        | (peer.versions if peer else {}),
    }


def processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    facts: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        facts.setdefault(name.strip(), value.strip())
    name = facts.get("model name", platform.processor() or platform.machine())
    return name + GENERATIONS.get((facts.get("vendor_id", ""), facts.get("cpu family", "")), "")


def commit() -> str:
    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], capture_output=True, text=True, cwd=Path(__file__).parent, check=False
        ).stdout.strip()

    top = git("rev-parse", "--show-toplevel")
    changed = " and changes" if git("status", "--porcelain", f"{top}/reference") else ""
    return git("rev-parse", "--short=12", "HEAD") + changed


def measure(rounds: int, python: str | None) -> dict[str, Any]:
    about: dict[str, Any] = {"load before": round(os.getloadavg()[0], 2)}
    case = problem()
    with ExitStack() as stack:
        peer = stack.enter_context(child("torchvision", python, THREADS)) if python else None
        onnx = stack.enter_context(child("onnxruntime", threads=THREADS))
        found = agreement(case, onnx, peer)
        check(found)
        contenders = {
            "forward": timed(case.ours),
            "backward": timed(case.our_gradients),
            "conv2d": timed(lambda: reference.conv2d(case.x, case.weight, padding=1)),
            "ONNX Runtime forward": onnx.timer("deform_conv2d", case.arguments),
        }
        if peer:
            contenders["torchvision forward"] = peer.timer("deform_conv2d", case.arguments)
            contenders["torchvision forward and backward"] = peer.timer(
                "deform_conv2d_backward", case.backward_arguments
            )
        contenders["forward and backward"] = timed(lambda: (case.ours(), case.our_gradients()))
        times = milliseconds(contenders, rounds)
        about |= machine(peer, "numpy", "scipy", "onnxruntime")
    both, median = "forward and backward", {name: t["median"] for name, t in times.items()}
    measured = {"forward / ONNX Runtime": median["forward"] / median["ONNX Runtime forward"]}
    if python:
        measured["forward / torchvision"] = median["forward"] / median["torchvision forward"]
        measured[f"{both} / torchvision"] = median[both] / median[f"torchvision {both}"]
    measured = {name: round(ratio, 3) for name, ratio in measured.items()}
    measured["memory of forward"] = memory(case.ours)
    measured["memory of backward"] = memory(case.our_gradients)
    return {
        "problem": "1x256x38x63 to 256 channels, 3x3, padding 1, float32, offsets N(0, 1)",
        **about, "rounds": rounds, "milliseconds": times, "agreement": found,
        "targets": against_targets(measured, TARGETS),
    }  # fmt: skip
