"""Measures every version of deformable RoI pooling; called by `bench`, whose order it keeps.

Each version must equal the reference bit for bit on a small exact problem, under every rule; then
its relative error on the shape to be timed, under the authors' rule "mxnet"; then its time. A time
includes the copy of the RoIs to host memory, which the checks of a call wait for.
"""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from deformable_convnets import gpu, reference

from .clocks import Clock, measured

GRADIENTS = ("x", "offset")
Versions = Callable[[str], list[tuple[str, str]]]  # of an operator: (backend, version)


class RoiShape(NamedTuple):
    """RoIs on one image of C channels, pooled to k x k bins of samples x samples points."""

    name: str
    R: int
    C: int
    H: int
    W: int
    k: int
    samples: int

    @property
    def gathers(self) -> int:
        """Pixels that the points of equation (6) read."""
        return 4 * self.R * self.C * (self.k * self.samples) ** 2


SHAPE = RoiShape("300 RoIs 256 channels 7x7 bins samples 4 on 38x63", 300, 256, 38, 63, 7, 4)
TOY = RoiShape("toy 2 RoIs 2 channels 2x2 bins samples 2 on 4x5", 2, 2, 4, 5, 2, 2)


def problem(shape: RoiShape, *, exact: bool) -> dict[str, Any]:
    """The arrays of one call in float32: ordinary numbers, or dyadic ones, whose sums are exact."""
    rng, (R, C, H, W, k) = np.random.default_rng(0), shape[1:6]

    def draw(*size: int, scale: int = 1) -> Any:
        numbers = rng.integers(-8, 9, size) / scale if exact else rng.normal(size=size)
        return numbers.astype(np.float32)

    start, size = rng.uniform(0, (W, H), (R, 2)) / 2, rng.uniform(1, (W / 2, H / 2), (R, 2))
    if exact:
        start, size = np.floor(start), np.full((R, 2), 2 * k)
    rois = np.concatenate([np.zeros((R, 1)), start, start + size], axis=1)
    return {
        "grad_output": draw(R, C, k, k),
        "x": draw(1, C, H, W),
        "rois": (rois if exact else rois * [1, 16, 16, 16, 16]).astype(np.float32),
        "offset": draw(R, 2, k, k, scale=4),
    }


def calls(
    shape: RoiShape, given: dict[str, Any], module: Any, *, rule: str, exact: bool, **choice: Any
) -> dict[str, Any]:
    """By name, ready to be made: forward, and backward for each gradient alone."""
    settings = {"bins": rule, "output_size": shape.k} | choice
    settings |= {"gamma": 0.25, "spatial_scale": 1.0} if exact else {"spatial_scale": 1 / 16}
    if rule != "paper":
        settings["samples"] = shape.samples
    forward = {name: a for name, a in given.items() if name != "grad_output"}

    def gradient(name: str, wrt: dict[str, str]) -> Any:
        return getattr(module.deform_roi_pool_backward(**given, **settings, **wrt), name)

    made = {"forward": partial(module.deform_roi_pool, **forward, **settings)}
    for name in GRADIENTS:
        made[f"grad {name}"] = partial(gradient, name, {} if module is reference else {"wrt": name})
    return made


def offered(versions: Versions) -> list[tuple[str, str, str]]:
    """Every (backend, version, part of `calls`) that can run here."""
    parts = {"deform_roi_pool": ["forward"]}
    parts["deform_roi_pool_backward"] = [f"grad {name}" for name in GRADIENTS]
    return [
        (*chosen, part)
        for operator, named in parts.items()
        for chosen in versions(operator)
        for part in named
    ]


def check(
    shape: RoiShape, versions: Versions, *, rule: str, exact: bool
) -> dict[tuple[str, str, str], float]:
    """Errors of each version against the reference; an exact problem must have 0."""
    given = problem(shape, exact=exact)
    how: dict[str, Any] = {"rule": rule, "exact": exact}
    expected = {name: call() for name, call in calls(shape, given, reference, **how).items()}
    errors = {}
    for backend, version, part in offered(versions):
        found = calls(shape, given, gpu, **how, backend=backend, version=version)[part]()
        y = found.astype(np.float64)
        right = expected[part].astype(np.float64)
        if exact and not np.array_equal(y, right):
            sys.exit(f"{backend} {version} disagrees with the reference: {part}, bins={rule!r}")
        errors[backend, version, part] = float(np.linalg.norm(y - right) / np.linalg.norm(right))
    return errors


def check_exact(versions: Versions) -> None:
    """Ends the program where a version differs from the reference."""
    for rule in ("paper", "mxnet", "align"):
        check(TOY, versions, rule=rule, exact=True)


def run(clock: Clock, repeats: int, versions: Versions, *, toy: bool) -> dict[str, Any]:
    """The error and the time of every version."""
    shape = TOY if toy else SHAPE
    print(shape.name)
    how: dict[str, Any] = {"rule": "mxnet", "exact": False}
    errors = check(shape, versions, **how)
    taken = {name: clock.take(a) for name, a in problem(shape, exact=False).items()}
    rows: dict[str, Any] = {}
    for (backend, version, part), error in errors.items():
        call = calls(shape, taken, gpu, **how, backend=backend, version=version)[part]
        row = measured(clock, call, repeats) | {"relative_error": error}
        rows.setdefault(f"{backend} {version}", {})[part] = row
        print(f"  {backend} {version}   {part:12} {row['median_ms']:10.3f} ms  {error:.1e}")
    return {"shape": shape._asdict(), "gathers": shape.gathers, "versions": rows}
