"""Measures every version of the deformable operators: python -m deformable_convnets.gpu.bench.

In this order: each version must equal the reference bit for bit on a small exact problem; then its
relative error on the shape to be timed; then its time, by events of the device, with the L2 cache
overwritten between runs. Beside the times stand two ceilings measured on the same device, the
bandwidth of a copy and the rate of a plain matrix product of the same size, and torchvision's
operator where it can be imported. The result is a JSON file.

A time covers one call of the public function on device arrays, its checks included: where the
device is faster than Python, it is Python that is measured. --toy runs everything on maps of a few
pixels, by the wall clock, to try the program out, in Numba's simulator too.
"""

import argparse
import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from deformable_convnets import gpu, reference

from . import arrays, bench_roi, registry
from .clocks import Clock, clock, matmul_and_copy, measured, torchvision

GRADIENTS = ("x", "offset", "weight")
PACKAGES = (
    "deformable-convnets numpy scipy numba numba-cuda cupy-cuda13x cupy-cuda12x torch torchvision"
)


class Shape(NamedTuple):
    """A layer with 3x3 taps and as many output channels as input channels."""

    name: str
    N: int
    C: int
    H: int
    W: int
    dilation: int

    @property
    def flops(self) -> int:
        """Of the matrix product of equation (2), a multiplication and an addition each."""
        return 2 * self.N * self.C * 9 * self.C * self.H * self.W


SHAPES = [
    Shape(f"conv5 {C}->{C} 38x63 dilation {d} N={N}", N, C, 38, 63, d)
    for C, d in ((256, 1), (512, 2))
    for N in (1, 8)
]
TOY = [Shape("toy 2->2 4x5 dilation 1 N=1", 1, 2, 4, 5, 1)]


def problem(shape: Shape, *, exact: bool) -> dict[str, Any]:
    """The arrays of one layer in float32: N(0, 1), or dyadic numbers, of which sums are exact."""
    rng, (N, C, H, W) = np.random.default_rng(0), shape[1:5]

    def draw(*size: int, scale: int = 1) -> Any:
        numbers = rng.integers(-8, 9, size) / scale if exact else rng.normal(size=size)
        return numbers.astype(np.float32)

    return {
        "grad_output": draw(N, C, H, W),
        "x": draw(N, C, H, W),
        "offset": draw(N, 18, H, W, scale=4),
        "weight": draw(C, C, 3, 3),
    }


def calls(shape: Shape, given: dict[str, Any], module: Any, **choice: Any) -> Any:
    """By name, ready to be made: forward, backward for each gradient alone, and for all of them."""
    settings = {"padding": shape.dilation, "dilation": shape.dilation} | choice
    forward = {name: a for name, a in given.items() if name != "grad_output"}

    def gradient(name: str, wrt: dict[str, str]) -> Any:
        return getattr(module.deform_conv2d_backward(**given, **settings, **wrt), name)

    made = {"forward": partial(module.deform_conv2d, **forward, **settings)}
    for name in GRADIENTS:
        made[f"grad {name}"] = partial(gradient, name, {} if module is reference else {"wrt": name})
    return made | {"backward": partial(gradient, "offset", {})}


def versions(operator: str = "deform_conv2d") -> list[tuple[str, str]]:
    """Every (backend, version) of the operator that can run here."""
    usable = {name: b for name, b in registry.BACKENDS.items() if b.missing() is None}
    return [
        (name, version)
        for name, backend in usable.items()
        for version, operators in backend.versions().items()
        if operator in operators
    ]


def check(shape: Shape, *, exact: bool) -> dict[str, dict[str, float]]:
    """Errors of each version against the reference on one image; an exact problem must have 0."""
    shape = shape._replace(N=1)
    given = problem(shape, exact=exact)
    errors: dict[str, dict[str, float]] = {}
    expected = {name: call() for name, call in calls(shape, given, reference).items()}
    for backend, version in versions():
        found = calls(shape, given, gpu, backend=backend, version=version)
        row = errors.setdefault(f"{backend} {version}", {})
        for name, call in found.items():
            y, right = call().astype(np.float64), expected[name].astype(np.float64)
            if exact and not np.array_equal(y, right):
                sys.exit(
                    f"{backend} {version} disagrees with the reference: {name} of {shape.name}"
                )
            row[name] = float(np.linalg.norm(y - right) / np.linalg.norm(right))
    return errors


def environment(clock: Clock) -> dict[str, Any]:
    """What a reader needs to judge or repeat the numbers."""
    versions: dict[str, str | None] = {}
    for package in PACKAGES.split():
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    return {
        "device": clock.device,
        "clock": clock.kind,
        "simulator": arrays.simulated(),
        "driver": _output(query),
        "cuda_runtime": _cuda_runtime(),
        "versions": versions,
        "commit": _output(["git", "-C", str(Path(__file__).resolve().parent), "rev-parse", "HEAD"]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _output(command: list[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _cuda_runtime() -> int | None:
    cupy = sys.modules.get("cupy")
    try:
        return None if cupy is None else int(cupy.cuda.runtime.runtimeGetVersion())
    except Exception:  # no device, or no runtime: the record says null
        return None


def run(shape: Shape, clock: Clock, repeats: int) -> dict[str, Any]:
    """One shape: the error and the times of every version, the ceilings, torchvision."""
    errors, given = check(shape, exact=False), problem(shape, exact=False)
    taken = {name: clock.take(a) for name, a in given.items()}
    rows: dict[str, Any] = {}
    for backend, version in versions():
        name = f"{backend} {version}"
        for part, call in calls(shape, taken, gpu, backend=backend, version=version).items():
            row = measured(clock, call, repeats) | {"relative_error": errors[name][part]}
            rows.setdefault(name, {})[part] = row
            print(f"  {name:10} {part:12} {row['median_ms']:10.3f} ms  {row['relative_error']:.1e}")
    limits = matmul_and_copy(clock, shape.C, 9 * shape.C, shape.N * shape.H * shape.W, repeats)
    rival = torchvision(given, shape.dilation, repeats)
    print(f"  ceilings {limits}\n  torchvision {rival}")
    record = {"shape": shape._asdict(), "GFLOP": shape.flops / 1e9, "versions": rows}
    return record | {"ceilings": limits, "torchvision": rival}


def main(arguments: list[str] | None = None) -> int:
    """Checks, measures, prints and writes; 1 where nothing can run."""
    parser = argparse.ArgumentParser(prog="python -m deformable_convnets.gpu.bench")
    parser.add_argument("--toy", action="store_true", help="maps of a few pixels, wall clock")
    parser.add_argument("--repeats", type=int, default=20, help="timed runs (default: 20)")
    parser.add_argument("--output", type=Path, default=Path("gpu/results"), help="folder or .json")
    options = parser.parse_args(arguments)
    for name, backend in registry.BACKENDS.items():
        if (missing := backend.missing()) is not None:
            print(f"{name} is left out: {missing}")
    chosen = clock(toy=options.toy)
    if chosen is None or not list(versions()):
        print(f"nothing to measure: no GPU backend can run here. {registry.INSTALL}")
        return 1
    check(TOY[0], exact=True)
    bench_roi.check_exact(versions)
    print(f"every version equals the reference on {TOY[0].name}; now on {chosen.device}")
    record = environment(chosen) | {"shapes": []}
    for shape in TOY if options.toy else SHAPES:
        print(shape.name)
        record["shapes"].append(run(shape, chosen, options.repeats))
    record["roi"] = bench_roi.run(chosen, options.repeats, versions, toy=options.toy)
    path = options.output
    if path.suffix != ".json":
        slug = re.sub(r"[^a-z0-9]+", "-", chosen.device.lower()).strip("-")
        path = path / f"{slug}-{record['date'][:10]}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
