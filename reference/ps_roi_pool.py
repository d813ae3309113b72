"""Position-sensitive RoI pooling (section 2.2, R-FCN), and its deformable form, Figure 4.

Bin (i, j) of output channel o reads a score map of its own: channel (o gh + a) gw + b of x, with
a = floor(i gh / kh) and b = floor(j gw / kw). The text of the paper says that the scores of a bin
are summed; its equation (5) averages, and so do we.
"""

from numpy import ndarray as Array

from . import roi_checks as checks
from .bilinear import Side
from .deform_roi_pool import DeformRoiPoolGrads
from .geometry import Pair
from .roi_bins import pool, pool_backward
from .roi_points import Rule
from .roi_pool import RoiPoolGrads


def ps_roi_pool(
    x: Array,
    rois: Array,
    output_size: int | Pair,
    *,
    spatial_scale: float = 1.0,
    group_size: int | Pair | None = None,
    bins: Rule = "paper",
    samples: int | None = None,
) -> Array:
    """Equation (5) with x_ij, the score map of bin (i, j), in place of x.

    x           N Cout*gh*gw H W, channel (o gh + a) gw + b
    group_size  (gh, gw); output_size unless given
    The others as in `roi_pool`. Returns R Cout kh kw.
    """
    geometry = checks.check_roi_pool(
        x, rois, output_size, spatial_scale=spatial_scale, bins=bins, samples=samples,
        group_size=group_size,
    )  # fmt: skip
    return pool(x, rois, None, geometry)


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
) -> RoiPoolGrads:
    """The gradient of `ps_roi_pool`, given grad_output R Cout kh kw."""
    geometry = checks.check_roi_pool(
        x, rois, output_size, spatial_scale=spatial_scale, bins=bins, samples=samples,
        group_size=group_size, grad_output=grad_output,
    )  # fmt: skip
    return RoiPoolGrads(pool_backward(grad_output, x, rois, None, geometry, "right")[0])


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
) -> Array:
    """Equation (6) with x_ij, the score map of bin (i, j), in place of x (Figure 4).

    x          N Cout*gh*gw H W, as in `ps_roi_pool`
    offset     R 2*P part_h part_w, normalised; bin (i, j) reads part (floor(i part_h / kh), ...)
    part_size  (part_h, part_w); output_size unless given
    The others as in `deform_roi_pool`. Returns R Cout kh kw.
    """
    geometry = checks.check_roi_pool(
        x, rois, output_size, spatial_scale=spatial_scale, bins=bins, samples=samples,
        offset=offset, gamma=gamma, group_size=group_size, part_size=part_size,
    )  # fmt: skip
    return pool(x, rois, offset, geometry)


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
) -> DeformRoiPoolGrads:
    """Equation (7') with x_ij, and the gradient of x, given grad_output R Cout kh kw."""
    geometry = checks.check_roi_pool(
        x, rois, output_size, spatial_scale=spatial_scale, bins=bins, samples=samples,
        offset=offset, gamma=gamma, group_size=group_size, part_size=part_size,
        grad_output=grad_output, side=side,
    )  # fmt: skip
    return DeformRoiPoolGrads(*pool_backward(grad_output, x, rois, offset, geometry, side))
