"""Figures 3 and 4: an offset branch and the deformable RoI pooling that it steers, as one layer.

Figure 3. The RoI is pooled plainly, and a fully connected layer makes the normalised offsets:

    pooled = roi_pool(x)        offset = fc(pooled)        y = deform_roi_pool(x, offset)

Figure 4. Two 1x1 convolutions of the same x make score maps and offset maps; the offset maps are
pooled position-sensitively:

    scores = conv2d(x)    offset = ps_roi_pool(conv2d(x))    y = deform_ps_roi_pool(scores, offset)

Both branches start at zero (section 2.3), so that y is plain pooling. x is read twice, so its
gradient has two terms.
"""

from typing import Any, NamedTuple

from numpy import ndarray as Array

from .bilinear import Side, as_given, computed
from .convolution import conv2d, conv2d_backward
from .deform_roi_pool import deform_roi_pool, deform_roi_pool_backward
from .geometry import Pair
from .ps_roi_pool import (
    deform_ps_roi_pool,
    deform_ps_roi_pool_backward,
    ps_roi_pool,
    ps_roi_pool_backward,
)
from .roi_checks import check_fc, check_maps
from .roi_points import Rule
from .roi_pool import roi_pool, roi_pool_backward


class DeformRoiPoolModuleGrads(NamedTuple):
    """The gradients of `deform_roi_pool_module`."""

    x: Array
    fc_weight: Array
    fc_bias: Array


class DeformPsRoiPoolModuleGrads(NamedTuple):
    """The gradients of `deform_ps_roi_pool_module`."""

    x: Array
    score_weight: Array
    score_bias: Array
    offset_weight: Array
    offset_bias: Array


def deform_roi_pool_module(
    x: Array,
    rois: Array,
    fc_weight: Array,
    fc_bias: Array,
    output_size: int | Pair,
    *,
    spatial_scale: float = 1.0,
    gamma: float = 0.1,
    bins: Rule = "paper",
    samples: int | None = None,
) -> Array:
    """Figure 3: equation (6) with the offsets that a fully connected layer predicts.

    x          N C H W, and rois R 5, as in `roi_pool`
    fc_weight  2*kh*kw C*kh*kw, and fc_bias 2*kh*kw: the branch; all dy first, then all dx
    Returns R C kh kw in the dtype of x; float16 is computed in float32. Raises as `roi_pool` does.
    """
    check_fc(x, rois, fc_weight, fc_bias, output_size)
    options: dict[str, Any] = {"spatial_scale": spatial_scale, "bins": bins, "samples": samples}
    x_c = computed(x)
    rois, offset, _ = _fc(x_c, rois, fc_weight, fc_bias, output_size, options)
    return as_given(deform_roi_pool(x_c, rois, offset, output_size, gamma=gamma, **options), x)


def deform_roi_pool_module_backward(
    grad_output: Array,
    x: Array,
    rois: Array,
    fc_weight: Array,
    fc_bias: Array,
    output_size: int | Pair,
    *,
    spatial_scale: float = 1.0,
    gamma: float = 0.1,
    bins: Rule = "paper",
    samples: int | None = None,
    side: Side = "right",
) -> DeformRoiPoolModuleGrads:
    """The chain rule through Figure 3: grad_x = the sampling term + the branch term."""
    check_fc(x, rois, fc_weight, fc_bias, output_size)
    options: dict[str, Any] = {"spatial_scale": spatial_scale, "bins": bins, "samples": samples}
    x_c = computed(x)
    rois, offset, pooled = _fc(x_c, rois, fc_weight, fc_bias, output_size, options)
    sampling = deform_roi_pool_backward(
        computed(grad_output), x_c, rois, offset, output_size, gamma=gamma, side=side, **options
    )
    assert sampling.offset is not None  # offset was given
    grad_fc = sampling.offset.reshape(offset.shape[0], -1)
    grad_pooled = (grad_fc @ computed(fc_weight)).reshape(pooled.shape)
    branch = roi_pool_backward(grad_pooled, x_c, rois, output_size, **options)
    return DeformRoiPoolModuleGrads(
        as_given(sampling.x + branch.x, x),
        as_given(grad_fc.T @ pooled.reshape(len(pooled), -1), fc_weight),
        as_given(grad_fc.sum(axis=0), fc_bias),
    )


def deform_ps_roi_pool_module(
    x: Array,
    rois: Array,
    score_weight: Array,
    score_bias: Array,
    offset_weight: Array,
    offset_bias: Array,
    output_size: int | Pair,
    *,
    spatial_scale: float = 1.0,
    gamma: float = 0.1,
    bins: Rule = "paper",
    samples: int | None = None,
) -> Array:
    """Figure 4: equation (6) on score maps, with offsets pooled from maps of their own.

    x              N C H W, and rois R 5, as in `ps_roi_pool`
    score_weight   Cout*kh*kw C 1 1, and score_bias Cout*kh*kw: k**2 (C + 1) maps in the paper
    offset_weight  2*P*kh*kw C 1 1, and offset_bias 2*P*kh*kw, for P class groups
    Returns R Cout kh kw in the dtype of x; float16 is computed in float32.
    """
    check_maps(x, rois, score_weight, score_bias, offset_weight, offset_bias, output_size)
    options: dict[str, Any] = {"spatial_scale": spatial_scale, "bins": bins, "samples": samples}
    x_c, rois = computed(x), computed(rois)
    scores = conv2d(x_c, computed(score_weight), computed(score_bias))
    maps = conv2d(x_c, computed(offset_weight), computed(offset_bias))
    offset = ps_roi_pool(maps, rois, output_size, **options)
    return as_given(
        deform_ps_roi_pool(scores, rois, offset, output_size, gamma=gamma, **options), x
    )


def deform_ps_roi_pool_module_backward(
    grad_output: Array,
    x: Array,
    rois: Array,
    score_weight: Array,
    score_bias: Array,
    offset_weight: Array,
    offset_bias: Array,
    output_size: int | Pair,
    *,
    spatial_scale: float = 1.0,
    gamma: float = 0.1,
    bins: Rule = "paper",
    samples: int | None = None,
    side: Side = "right",
) -> DeformPsRoiPoolModuleGrads:
    """The chain rule through Figure 4: grad_x = the term of the scores + that of the offsets."""
    check_maps(x, rois, score_weight, score_bias, offset_weight, offset_bias, output_size)
    options: dict[str, Any] = {"spatial_scale": spatial_scale, "bins": bins, "samples": samples}
    x_c, rois = computed(x), computed(rois)
    score_branch = (x_c, computed(score_weight), computed(score_bias))
    offset_branch = (x_c, computed(offset_weight), computed(offset_bias))
    scores, maps = conv2d(*score_branch), conv2d(*offset_branch)
    offset = ps_roi_pool(maps, rois, output_size, **options)
    pooling = deform_ps_roi_pool_backward(
        computed(grad_output), scores, rois, offset, output_size, gamma=gamma, side=side, **options
    )
    assert pooling.offset is not None  # offset was given
    grad_maps = ps_roi_pool_backward(pooling.offset, maps, rois, output_size, **options)
    to_scores = conv2d_backward(pooling.x, *score_branch)
    to_maps = conv2d_backward(grad_maps.x, *offset_branch)
    return DeformPsRoiPoolModuleGrads(
        as_given(to_scores.x + to_maps.x, x),
        as_given(to_scores.weight, score_weight),
        as_given(to_scores.bias, score_bias),
        as_given(to_maps.weight, offset_weight),
        as_given(to_maps.bias, offset_bias),
    )


def _fc(
    x: Array, rois: Array, weight: Array, bias: Array, output_size: Any, options: dict[str, Any]
) -> tuple[Array, Array, Array]:
    """RoIs, normalised offsets and pooled features in the dtype of the arithmetic."""
    rois = computed(rois)
    pooled = roi_pool(x, rois, output_size, **options)
    made = pooled.reshape(len(pooled), -1) @ computed(weight).T + computed(bias)
    return rois, made.reshape(len(pooled), 2, *pooled.shape[2:]), pooled
