"""The functions, with the signatures of `gpu`, on arrays of JAX."""

from typing import Any

from jax import Array

from deformable_convnets.reference.bilinear import Border
from deformable_convnets.reference.geometry import Faces, Pair, Sides, Triple
from deformable_convnets.reference.roi_points import Rule

from .operators import apply


def sample(
    x: Array,
    p: Array,
    *,
    border: Border = "zero",
    backend: str | None = None,
    version: str | None = None,
    precision: str = "exact",
    workspace_limit: int | None = None,
) -> Array:
    """Equation (3), as `reference.sample`; gradients of x and of p.

    x C H W, p ... 2; returns C .... Other keywords and errors: see the package.
    """
    choice = (backend, version, precision, workspace_limit)
    return apply("sample", {"x": x, "p": p}, {"border": border}, choice)


def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: int | Pair = 1,
    padding: int | Pair | Sides = 0,
    dilation: int | Pair = 1,
    backend: str | None = None,
    version: str | None = None,
    precision: str = "exact",
    workspace_limit: int | None = None,
) -> Array:
    """Equation (1), as `reference.conv2d`; gradients of all three arrays.

    x N C H W, weight O C/groups kh kw, bias O; returns N O Ho Wo.
    """
    given = {"x": x, "weight": weight, "bias": bias}
    settings = {"stride": stride, "padding": padding, "dilation": dilation}
    return apply("conv2d", given, settings, (backend, version, precision, workspace_limit))


def deform_conv2d(
    x: Array,
    offset: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: int | Pair = 1,
    padding: int | Pair | Sides = 0,
    dilation: int | Pair = 1,
    mask: Array | None = None,
    border: Border = "zero",
    backend: str | None = None,
    version: str | None = None,
    precision: str = "exact",
    workspace_limit: int | None = None,
) -> Array:
    """Equation (2), as `reference.deform_conv2d`; gradients of all five arrays, (7) among them.

    x N C H W, offset N 2*G*K Ho Wo, weight O C/groups kh kw, bias O, mask N G*K Ho Wo; returns
    N O Ho Wo.
    """
    given = {"x": x, "offset": offset, "weight": weight, "bias": bias, "mask": mask}
    settings = {"stride": stride, "padding": padding, "dilation": dilation, "border": border}
    return apply("deform_conv2d", given, settings, (backend, version, precision, workspace_limit))


def deform_conv3d(
    x: Array,
    offset: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: int | Triple = 1,
    padding: int | Triple | Faces = 0,
    dilation: int | Triple = 1,
    mask: Array | None = None,
    border: Border = "zero",
    backend: str | None = None,
    version: str | None = None,
    precision: str = "exact",
    workspace_limit: int | None = None,
) -> Array:
    """Equation (2) on volumes, as `reference.deform_conv3d`; gradients of all five arrays.

    x N C D H W, offset N 3*G*K Do Ho Wo, weight O C/groups kd kh kw, bias O, mask N G*K Do Ho Wo;
    returns N O Do Ho Wo. On a GPU, Numba's kernels compute it: `gpu` has no others for volumes.
    """
    given = {"x": x, "offset": offset, "weight": weight, "bias": bias, "mask": mask}
    settings = {"stride": stride, "padding": padding, "dilation": dilation, "border": border}
    return apply("deform_conv3d", given, settings, (backend, version, precision, workspace_limit))


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
    """Equation (5), the mean of a bin, as `reference.roi_pool`; gradient of x.

    x N C H W, rois R 5; returns R C kh kw.
    """
    settings: dict[str, Any] = {"output_size": output_size, "spatial_scale": spatial_scale}
    settings |= {"bins": bins, "samples": samples}
    given = {"x": x, "rois": rois}
    return apply("roi_pool", given, settings, (backend, version, precision, workspace_limit))


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
    """Equation (6), as `reference.deform_roi_pool`; gradients of x and of offset, (7').

    x N C H W, rois R 5, offset R 2*P kh kw; returns R C kh kw.
    """
    given = {"x": x, "rois": rois, "offset": offset}
    settings: dict[str, Any] = {"output_size": output_size, "spatial_scale": spatial_scale}
    settings |= {"gamma": gamma, "bins": bins, "samples": samples}
    return apply("deform_roi_pool", given, settings, (backend, version, precision, workspace_limit))


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
    """Equation (5) on the score maps of Figure 4, as `reference.ps_roi_pool`; gradient of x.

    x N Cout*gh*gw H W, rois R 5; returns R Cout kh kw.
    """
    settings: dict[str, Any] = {"output_size": output_size, "spatial_scale": spatial_scale}
    settings |= {"group_size": group_size, "bins": bins, "samples": samples}
    given = {"x": x, "rois": rois}
    return apply("ps_roi_pool", given, settings, (backend, version, precision, workspace_limit))


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
    """Equation (6) on the score maps of Figure 4, as `reference.deform_ps_roi_pool`.

    x N Cout*gh*gw H W, rois R 5, offset R 2*P part_h part_w; returns R Cout kh kw. Gradients of x
    and of offset, (7').
    """
    given = {"x": x, "rois": rois, "offset": offset}
    settings: dict[str, Any] = {"output_size": output_size, "spatial_scale": spatial_scale}
    settings |= {"gamma": gamma, "group_size": group_size, "part_size": part_size}
    settings |= {"bins": bins, "samples": samples}
    choice = (backend, version, precision, workspace_limit)
    return apply("deform_ps_roi_pool", given, settings, choice)
