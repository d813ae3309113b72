"""Equations (6) and (7'): deformable RoI pooling, each bin moved by its offset."""

from typing import NamedTuple

from numpy import ndarray as Array

from . import roi_checks as checks
from .bilinear import Side
from .geometry import Pair
from .roi_bins import pool, pool_backward
from .roi_points import Rule


class DeformRoiPoolGrads(NamedTuple):
    """The gradients of the deformable RoI operators; `offset` is None where it was."""

    x: Array
    offset: Array | None


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
) -> Array:
    """Equation (6): y(i, j) = sum over p in bin(i, j) of x(p0 + p + Delta p_ij) / n_ij.

    offset  R 2*P kh kw, normalised: bin (i, j) moves by gamma (h, w) times its offset, h and w the
            size of the RoI in pixels of x. Channel 2 p is dy of class group p, the next one dx;
            channel o of y belongs to group o // (C / P). None: no offsets, equation (5)
    gamma   0.1 in the paper
    The others as in `roi_pool`. Returns R C kh kw.
    """
    geometry = checks.check_roi_pool(
        x, rois, output_size, spatial_scale=spatial_scale, bins=bins, samples=samples,
        offset=offset, gamma=gamma,
    )  # fmt: skip
    return pool(x, rois, offset, geometry)


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
) -> DeformRoiPoolGrads:
    """Equation (7'), the gradient of the normalised offset, and that of x.

    grad_output is R C kh kw; side chooses the derivative at whole coordinates, as in `bilinear`.
    """
    geometry = checks.check_roi_pool(
        x, rois, output_size, spatial_scale=spatial_scale, bins=bins, samples=samples,
        offset=offset, gamma=gamma, grad_output=grad_output, side=side,
    )  # fmt: skip
    return DeformRoiPoolGrads(*pool_backward(grad_output, x, rois, offset, geometry, side))
