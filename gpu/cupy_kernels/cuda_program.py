"""The operators as launches of CUDA C++, v2, on a `device`: what the registry offers.

`deform_conv.py`, `sample.py` and `roi_pool.py` have the steps. A plain convolution is a deformable
one without offsets.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from deformable_convnets.reference import checks
from deformable_convnets.reference.geometry import Geometry

from ..registry import Version
from . import pointwise, roi_pool, sample
from .deform_conv import Convolution
from .deform_conv_backward import Backward

TAKES = frozenset({"precision", "workspace_limit"})
DTYPES = (*checks.DTYPES, "bfloat16")


def deform_conv2d(device: Any, x: Any, offset: Any, weight: Any, bias: Any, mask: Any, *,
                  geometry: Geometry, border: str, precision: str = "exact",
                  workspace_limit: int | None = None) -> Any:  # fmt: skip
    """Equation (2)."""
    call = Convolution(device, x, offset, weight, mask, geometry=geometry, border=border,
                       precision=precision)  # fmt: skip
    return call.forward(bias, workspace_limit)


def deform_conv2d_backward(
    device: Any, grad_output: Any, x: Any, offset: Any, weight: Any, bias: Any, mask: Any, *,
    geometry: Geometry, border: str, side: str, wrt: tuple[str, ...], precision: str = "exact",
    deterministic: bool = False, workspace_limit: int | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Equation (7), and the other gradients that `wrt` names."""
    call = Convolution(device, x, offset, weight, mask, geometry=geometry, border=border,
                       side=side, precision=precision)  # fmt: skip
    return Backward(call, grad_output, weight, wrt, deterministic).run(workspace_limit)


def conv2d(device: Any, x: Any, weight: Any, bias: Any, *, geometry: Geometry,
           **options: Any) -> Any:  # fmt: skip
    """Equation (1); with a 1 x 1 kernel one product of matrices."""
    if pointwise.fits(x, geometry):
        return pointwise.conv2d(device, x, weight, bias, geometry=geometry, **options)
    return deform_conv2d(device, x, None, weight, bias, None, geometry=geometry, border="zero",
                         **options)  # fmt: skip


def conv2d_backward(device: Any, grad_output: Any, x: Any, weight: Any, bias: Any, *,
                    geometry: Geometry, wrt: tuple[str, ...], **options: Any
                    ) -> dict[str, Any]:  # fmt: skip
    """The gradients of equation (1) that `wrt` names."""
    return deform_conv2d_backward(
        device, grad_output, x, None, weight, bias, None, geometry=geometry, border="zero",
        side="right", wrt=wrt, **options,
    )  # fmt: skip


FORWARD: dict[str, Any] = {
    "sample": sample.sample,
    "conv2d": conv2d,
    "deform_conv2d": deform_conv2d,
}
BACKWARD: dict[str, Any] = {
    "sample_backward": sample.sample_backward,
    "conv2d_backward": conv2d_backward,
    "deform_conv2d_backward": deform_conv2d_backward,
}
for name in ("roi_pool", "deform_roi_pool", "ps_roi_pool", "deform_ps_roi_pool"):
    FORWARD[name], BACKWARD[f"{name}_backward"] = roi_pool.roi_pool, roi_pool.roi_pool_backward


def operators(
    device: Any, missing: Callable[[int | None], str | None] = lambda device: None
) -> dict[str, Version]:
    """Every operator by name, as `registry` wants them; `missing` says why none can run."""

    def version(run: Any, takes: frozenset[str], deterministic: bool) -> Version:
        return Version(partial(run, device), deterministic, takes, DTYPES, missing)

    forward = {name: version(run, TAKES, True) for name, run in FORWARD.items()}
    backward = {
        name: version(run, TAKES | {"deterministic"}, False) for name, run in BACKWARD.items()
    }
    return forward | backward
