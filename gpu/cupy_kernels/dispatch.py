"""The operators that have a staged (v2) and a fused form (v3): v3, which chooses between them.

version="v3"   the fused kernels, where the shape and the dtype fit them
version=None   the faster of both, as `choices` knows it from the device and the shape; a plain
               convolution that is one product (`pointwise`) is left to cuBLAS, as none is measured

`fused` and `fused_backward` give what does not fit them to the staged kernels by themselves. The
results of both forms are the same within the precision that is asked for.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from deformable_convnets.reference.geometry import Geometry

from ..registry import Version
from . import choices, cuda_program, fused, fused_backward, pointwise
from .choices import FUSED, Machine, Task

TAKES = cuda_program.TAKES | {"version"}
Find = Callable[[], Machine | None]


def task_of(operator: str, x: Any, weight: Any, geometry: Geometry, precision: str) -> Task:
    """What the choice for a call depends on."""
    named = "tf32" if precision == "tf32" else x.dtype.name
    height, width = geometry.output
    return Task(operator, named, x.shape[1], weight.shape[0], x.shape[0] * height * width)


def _is_fused(task: Task, machine: Find, version: str | None) -> bool:
    return (choices.choose(task, machine()) if version is None else version) == FUSED


def deform_conv2d(
    device: Any, machine: Find, x: Any, offset: Any, weight: Any, bias: Any, mask: Any, *,
    geometry: Geometry, precision: str = "exact", version: str | None = None, **options: Any,
) -> Any:  # fmt: skip
    """Equation (2)."""
    task = task_of("deform_conv2d", x, weight, geometry, precision)
    run = fused if _is_fused(task, machine, version) else cuda_program
    return run.deform_conv2d(device, x, offset, weight, bias, mask, geometry=geometry,
                             precision=precision, **options)  # fmt: skip


def deform_conv2d_backward(
    device: Any, machine: Find, grad_output: Any, x: Any, offset: Any, weight: Any, bias: Any,
    mask: Any, *, geometry: Geometry, precision: str = "exact", version: str | None = None,
    **options: Any,
) -> dict[str, Any]:  # fmt: skip
    """Equation (7), and the other gradients that `wrt` names."""
    task = task_of("deform_conv2d_backward", x, weight, geometry, precision)
    run = fused_backward if _is_fused(task, machine, version) else cuda_program
    return run.deform_conv2d_backward(
        device, grad_output, x, offset, weight, bias, mask, geometry=geometry,
        precision=precision, **options,
    )  # fmt: skip


def conv2d(
    device: Any, machine: Find, x: Any, weight: Any, bias: Any, *, geometry: Geometry,
    precision: str = "exact", version: str | None = None, **options: Any,
) -> Any:  # fmt: skip
    """Equation (1); the choice is that of a deformable one of this shape."""
    if version is None and pointwise.fits(x, geometry):
        version = choices.STAGED
    task = task_of("deform_conv2d", x, weight, geometry, precision)
    run = fused if _is_fused(task, machine, version) else cuda_program
    return run.conv2d(device, x, weight, bias, geometry=geometry, precision=precision, **options)


def conv2d_backward(device: Any, machine: Find, grad_output: Any, x: Any, weight: Any, bias: Any,
                    **options: Any) -> dict[str, Any]:  # fmt: skip
    """The gradients of equation (1) that `wrt` names."""
    return deform_conv2d_backward(device, machine, grad_output, x, None, weight, bias, None,
                                  border="zero", side="right", **options)  # fmt: skip


FORWARD: dict[str, Any] = {"conv2d": conv2d, "deform_conv2d": deform_conv2d}
BACKWARD: dict[str, Any] = {
    "conv2d_backward": conv2d_backward, "deform_conv2d_backward": deform_conv2d_backward,
}  # fmt: skip


def operators(
    device: Any,
    missing: Callable[[int | None], str | None] = lambda device: None,
    machine: Find = lambda: None,
) -> dict[str, Version]:
    """The operators by name, as `registry` wants them; `machine` says what the device is."""

    def chooses(operator: str, precision: str, C: int, O: int, pixels: int) -> str:
        return choices.choose(Task(operator, precision, C, O, pixels), machine())

    def version(run: Any, takes: frozenset[str], deterministic: bool) -> Version:
        made = partial(run, device, machine)
        return Version(made, deterministic, takes, cuda_program.DTYPES, missing, chooses)

    forward = {name: version(run, TAKES, True) for name, run in FORWARD.items()}
    backward = {
        name: version(run, TAKES | {"deterministic"}, False) for name, run in BACKWARD.items()
    }
    return forward | backward
