"""Equation (5): RoI pooling, the mean over the pixels of a bin.

torchvision's and mmcv's functions of this name take the maximum; the paper takes the average.
"""

from typing import NamedTuple

from numpy import ndarray as Array

from . import roi_checks as checks
from .geometry import Pair
from .roi_bins import pool, pool_backward
from .roi_points import Rule


class RoiPoolGrads(NamedTuple):
    """The gradient of `roi_pool` and `ps_roi_pool`; RoIs have none."""

    x: Array


def roi_pool(
    x: Array,
    rois: Array,
    output_size: int | Pair,
    *,
    spatial_scale: float = 1.0,
    bins: Rule = "paper",
    samples: int | None = None,
) -> Array:
    """Equation (5): y(i, j) = sum over p in bin(i, j) of x(p0 + p) / n_ij.

    x              N C H W
    rois           R 5, floating: batch index, x1, y1, x2, y2; times spatial_scale, pixels of x
    output_size    (kh, kw) bins, or an int for both
    bins, samples  which points a bin has: "paper", "mxnet" or "align" with samples**2 of them (4
                   unless given); see `roi_points`
    Returns R C kh kw in the dtype of x; float16 is computed in float32. rois may be float32 where
    x is float16. A bin without points is 0. Raises ValueError or TypeError, see `roi_checks`.
    """
    geometry = checks.check_roi_pool(
        x, rois, output_size, spatial_scale=spatial_scale, bins=bins, samples=samples
    )
    return pool(x, rois, None, geometry)


def roi_pool_backward(
    grad_output: Array,
    x: Array,
    rois: Array,
    output_size: int | Pair,
    *,
    spatial_scale: float = 1.0,
    bins: Rule = "paper",
    samples: int | None = None,
) -> RoiPoolGrads:
    """The gradient of equation (5), given grad_output R C kh kw: each point gets 1 / n_ij of it."""
    geometry = checks.check_roi_pool(
        x, rois, output_size, spatial_scale=spatial_scale, bins=bins, samples=samples,
        grad_output=grad_output,
    )  # fmt: skip
    return RoiPoolGrads(pool_backward(grad_output, x, rois, None, geometry, "right")[0])
