"""Figures 3 and 4: an offset branch and deformable RoI pooling together."""

import numpy as np
import pytest

from deformable_convnets import reference

ROIS = np.array([[0, 1.3, 0.6, 6.1, 5.2], [1, -0.7, 2.2, 4.4, 7.9], [0, 2.1, 1.1, 7.7, 4.3]])
RULES = [{"bins": "paper"}, {"bins": "mxnet", "samples": 2}, {"bins": "align", "samples": 3}]


def figure3(rng, scale=0.3):
    """x, rois, fc_weight, fc_bias for 2x3 bins of 3 channels."""
    return (
        rng.normal(size=(2, 3, 7, 8)),
        ROIS,
        *(scale * rng.normal(size=size) for size in ((12, 18), (12,))),
    )


def figure4(rng, scale=0.3):
    """x, rois and two branches for 2x3 bins, 4 output channels in 2 class groups."""
    sizes = ((24, 3, 1, 1), (24,), (24, 3, 1, 1), (24,))
    x, (score, score_bias, offset, offset_bias) = (
        rng.normal(size=(2, 3, 7, 8)), [rng.normal(size=size) for size in sizes],
    )  # fmt: skip
    return x, ROIS, score, score_bias, scale * offset, scale * offset_bias


FIGURES = [
    (reference.deform_roi_pool_module, reference.deform_roi_pool_module_backward, figure3),
    (reference.deform_ps_roi_pool_module, reference.deform_ps_roi_pool_module_backward, figure4),
]


@pytest.mark.parametrize("rule", RULES, ids=[rule["bins"] for rule in RULES])
@pytest.mark.parametrize(("forward", "backward", "made"), FIGURES, ids=["figure 3", "figure 4"])
def test_every_gradient_is_a_central_difference(forward, backward, made, rule):
    rng = np.random.default_rng(0)
    given = list(made(rng))
    y = forward(*given, (2, 3), **rule)
    grad = rng.normal(size=y.shape)
    grads = backward(grad, *given, (2, 3), **rule)
    differentiable = [i for i in range(len(given)) if i != 1]
    for i, value in zip(differentiable, grads, strict=True):
        direction, ends = rng.normal(size=given[i].shape), []
        for h in (1e-7, -1e-7):
            moved = [*given[:i], given[i] + h * direction, *given[i + 1 :]]
            ends.append((grad * forward(*moved, (2, 3), **rule)).sum())
        exact = (value * direction).sum()
        assert abs((ends[0] - ends[1]) / 2e-7 - exact) <= 1e-5 * max(1, abs(exact)), i


@pytest.mark.parametrize("rule", RULES, ids=[rule["bins"] for rule in RULES])
def test_branches_of_zeros_are_plain_pooling(rule):
    rng = np.random.default_rng(1)
    x, rois, weight, bias = figure3(rng, scale=0)
    y = reference.deform_roi_pool_module(x, rois, weight, bias, (2, 3), **rule)
    assert (y == reference.roi_pool(x, rois, (2, 3), **rule)).all()
    x, rois, score, score_bias, *branch = figure4(rng, scale=0)
    y = reference.deform_ps_roi_pool_module(x, rois, score, score_bias, *branch, (2, 3), **rule)
    scores = reference.conv2d(x, score, score_bias)
    assert (y == reference.ps_roi_pool(scores, rois, (2, 3), **rule)).all()


def test_halves_are_rounded_once():
    rng = np.random.default_rng(2)
    half = [a.astype(np.float16) for a in figure3(rng)]
    single = [a.astype(np.float32) for a in half]
    y = reference.deform_roi_pool_module(*half, (2, 3))
    assert (y == reference.deform_roi_pool_module(*single, (2, 3)).astype(np.float16)).all()


def test_bad_branches():
    rng = np.random.default_rng(3)
    x, rois, weight, bias = figure3(rng)
    with pytest.raises(
        ValueError, match=r"fc_weight has shape \(12, 17\), expected .* = \(12, 18\)"
    ):
        reference.deform_roi_pool_module(x, rois, weight[:, :17], bias, (2, 3))
    with pytest.raises(ValueError, match=r"fc_bias has shape \(5,\)"):
        reference.deform_roi_pool_module(x, rois, weight, bias[:5], (2, 3))
    x, rois, score, score_bias, offset, offset_bias = figure4(rng)
    with pytest.raises(ValueError, match=r"offset_weight makes 18 maps, expected a multiple of 2"):
        reference.deform_ps_roi_pool_module(
            x, rois, score, score_bias, offset[:18], offset_bias[:18], (2, 3)
        )
