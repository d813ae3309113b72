"""The public face of RoI pooling; see `operators`, whose keywords, places and errors it shares.

RoIs are checked by value, so RoIs that are not NumPy's are copied to host memory: R x 5 numbers,
for which each call waits once. All other arrays stay where they are.
"""

from collections.abc import Iterable
from typing import Any

from deformable_convnets.reference.bilinear import Side
from deformable_convnets.reference.deform_roi_pool import DeformRoiPoolGrads
from deformable_convnets.reference.geometry import Pair
from deformable_convnets.reference.roi_points import Rule
from deformable_convnets.reference.roi_pool import RoiPoolGrads

from .calls import RoiCall
from .registry import Choice

Array = Any


def roi_pool(
    x: Array,
    rois: Array,
    output_size: int | Pair,
    *,
    spatial_scale: float = 1.0,
    bins: Rule = "paper",
    samples: int | None = None,
    backend: str | None = None,
    version: str | None = None,
    precision: str = "exact",
    workspace_limit: int | None = None,
) -> Array:
    """Equation (5): y(i, j) = sum over p in bin(i, j) of x(p0 + p) / n_ij.

    As `reference.roi_pool`; returns R C kh kw. Waits once, for R x 5 numbers.
    """
    call = RoiCall(
        "roi_pool",
        Choice(backend, version, precision, workspace_limit=workspace_limit),
        x=x,
        rois=rois,
    )
    geometry = call.check(output_size, spatial_scale=spatial_scale, bins=bins, samples=samples)
    return call.pooled(geometry)


def roi_pool_backward(
    grad_output: Array,
    x: Array,
    rois: Array,
    output_size: int | Pair,
    *,
    spatial_scale: float = 1.0,
    bins: Rule = "paper",
    samples: int | None = None,
    backend: str | None = None,
    version: str | None = None,
    precision: str = "exact",
    workspace_limit: int | None = None,
    wrt: Iterable[str] | None = None,
    deterministic: bool = False,
) -> RoiPoolGrads:
    """The gradient of equation (5), given grad_output R C kh kw. Waits once.

    As `reference.roi_pool_backward`; not deterministic but for deterministic=True.
    """
    choice = Choice(backend, version, precision, deterministic, workspace_limit)
    call = RoiCall("roi_pool_backward", choice, grad_output=grad_output, x=x, rois=rois)
    geometry = call.check(output_size, spatial_scale=spatial_scale, bins=bins, samples=samples)
    return RoiPoolGrads(**call.backward(RoiPoolGrads, wrt, geometry=geometry))


def deform_roi_pool(
    x: Array,
    rois: Array,
    offset: Array | None,
    output_size: int | Pair,
    *,
    spatial_scale: float = 1.0,
    gamma: float = 0.1,
    bins: Rule = "paper",
    samples: int | None = None,
    backend: str | None = None,
    version: str | None = None,
    precision: str = "exact",
    workspace_limit: int | None = None,
) -> Array:
    """Equation (6): y(i, j) = sum over p in bin(i, j) of x(p0 + p + Delta p_ij) / n_ij.

    As `reference.deform_roi_pool`; returns R C kh kw. Waits once, for R x 5 numbers.
    """
    choice = Choice(backend, version, precision, workspace_limit=workspace_limit)
    call = RoiCall("deform_roi_pool", choice, x=x, rois=rois, offset=offset)
    geometry = call.check(
        output_size, spatial_scale=spatial_scale, bins=bins, samples=samples, gamma=gamma
    )
    return call.pooled(geometry)


def deform_roi_pool_backward(
    grad_output: Array,
    x: Array,
    rois: Array,
    offset: Array | None,
    output_size: int | Pair,
    *,
    spatial_scale: float = 1.0,
    gamma: float = 0.1,
    bins: Rule = "paper",
    samples: int | None = None,
    side: Side = "right",
    backend: str | None = None,
    version: str | None = None,
    precision: str = "exact",
    workspace_limit: int | None = None,
    wrt: Iterable[str] | None = None,
    deterministic: bool = False,
) -> DeformRoiPoolGrads:
    """Equation (7'), the gradient of the normalised offset, and that of x. Waits once.

    As `reference.deform_roi_pool_backward`; x's is not deterministic but for deterministic=True.
    """
    choice = Choice(backend, version, precision, deterministic, workspace_limit)
    call = RoiCall(
        "deform_roi_pool_backward", choice, grad_output=grad_output, x=x, rois=rois, offset=offset
    )
    geometry = call.check(
        output_size, spatial_scale=spatial_scale, bins=bins, samples=samples, gamma=gamma, side=side
    )
    return DeformRoiPoolGrads(
        **call.backward(DeformRoiPoolGrads, wrt, geometry=geometry, side=side)
    )


def ps_roi_pool(
    x: Array,
    rois: Array,
    output_size: int | Pair,
    *,
    spatial_scale: float = 1.0,
    group_size: int | Pair | None = None,
    bins: Rule = "paper",
    samples: int | None = None,
    backend: str | None = None,
    version: str | None = None,
    precision: str = "exact",
    workspace_limit: int | None = None,
) -> Array:
    """Equation (5) with x_ij, the score map of bin (i, j), in place of x.

    As `reference.ps_roi_pool`; returns R Cout kh kw. Waits once, for R x 5 numbers.
    """
    call = RoiCall(
        "ps_roi_pool",
        Choice(backend, version, precision, workspace_limit=workspace_limit),
        x=x,
        rois=rois,
    )
    geometry = call.check(
        output_size, spatial_scale=spatial_scale, bins=bins, samples=samples, group_size=group_size
    )
    return call.pooled(geometry)


def ps_roi_pool_backward(
    grad_output: Array,
    x: Array,
    rois: Array,
    output_size: int | Pair,
    *,
    spatial_scale: float = 1.0,
    group_size: int | Pair | None = None,
    bins: Rule = "paper",
    samples: int | None = None,
    backend: str | None = None,
    version: str | None = None,
    precision: str = "exact",
    workspace_limit: int | None = None,
    wrt: Iterable[str] | None = None,
    deterministic: bool = False,
) -> RoiPoolGrads:
    """The gradient of `ps_roi_pool`, given grad_output R Cout kh kw. Waits once.

    As `reference.ps_roi_pool_backward`; not deterministic but for deterministic=True.
    """
    choice = Choice(backend, version, precision, deterministic, workspace_limit)
    call = RoiCall("ps_roi_pool_backward", choice, grad_output=grad_output, x=x, rois=rois)
    geometry = call.check(
        output_size, spatial_scale=spatial_scale, bins=bins, samples=samples, group_size=group_size
    )
    return RoiPoolGrads(**call.backward(RoiPoolGrads, wrt, geometry=geometry))


def deform_ps_roi_pool(
    x: Array,
    rois: Array,
    offset: Array | None,
    output_size: int | Pair,
    *,
    spatial_scale: float = 1.0,
    gamma: float = 0.1,
    group_size: int | Pair | None = None,
    part_size: int | Pair | None = None,
    bins: Rule = "paper",
    samples: int | None = None,
    backend: str | None = None,
    version: str | None = None,
    precision: str = "exact",
    workspace_limit: int | None = None,
) -> Array:
    """Equation (6) with x_ij, the score map of bin (i, j), in place of x (Figure 4).

    As `reference.deform_ps_roi_pool`; returns R Cout kh kw. Waits once, for R x 5 numbers.
    """
    choice = Choice(backend, version, precision, workspace_limit=workspace_limit)
    call = RoiCall("deform_ps_roi_pool", choice, x=x, rois=rois, offset=offset)
    geometry = call.check(
        output_size,
        spatial_scale=spatial_scale,
        bins=bins,
        samples=samples,
        gamma=gamma,
        group_size=group_size,
        part_size=part_size,
    )
    return call.pooled(geometry)


def deform_ps_roi_pool_backward(
    grad_output: Array,
    x: Array,
    rois: Array,
    offset: Array | None,
    output_size: int | Pair,
    *,
    spatial_scale: float = 1.0,
    gamma: float = 0.1,
    group_size: int | Pair | None = None,
    part_size: int | Pair | None = None,
    bins: Rule = "paper",
    samples: int | None = None,
    side: Side = "right",
    backend: str | None = None,
    version: str | None = None,
    precision: str = "exact",
    workspace_limit: int | None = None,
    wrt: Iterable[str] | None = None,
    deterministic: bool = False,
) -> DeformRoiPoolGrads:
    """Equation (7') with x_ij, and the gradient of x, given grad_output. Waits once.

    As `reference.deform_ps_roi_pool_backward`; x's is not deterministic but for deterministic=True.
    """
    choice = Choice(backend, version, precision, deterministic, workspace_limit)
    given = {"grad_output": grad_output, "x": x, "rois": rois, "offset": offset}
    call = RoiCall("deform_ps_roi_pool_backward", choice, **given)
    geometry = call.check(
        output_size,
        spatial_scale=spatial_scale,
        bins=bins,
        samples=samples,
        gamma=gamma,
        group_size=group_size,
        part_size=part_size,
        side=side,
    )
    return DeformRoiPoolGrads(
        **call.backward(DeformRoiPoolGrads, wrt, geometry=geometry, side=side)
    )
