"""Figure 2: the offset branch and the operator together."""

import inspect

import numpy as np
import pytest

from deformable_convnets import reference

OPTIONS = {"stride": (1, 2), "padding": ((2, 1), (0, 2)), "dilation": (2, 1)}


def arguments(rng, scale=1.0):
    """x, offset_weight, offset_bias, weight, bias: 3 channels in, 4 out, a 3x2 kernel, G = 3."""
    sizes = ((2, 3, 6, 7), (36, 3, 3, 2), (36,), (4, 1, 3, 2), (4,))
    x, offset_weight, offset_bias, weight, bias = (rng.normal(size=s) for s in sizes)
    return x, scale * offset_weight, scale * offset_bias, weight[:3], bias[:3]


def test_a_branch_of_zeros_is_a_plain_convolution():
    x, _, _, weight, bias = arguments(np.random.default_rng(0))
    branch = reference.zero_offset_branch(weight, 3, offset_groups=3)
    assert [b.shape for b in branch] == [(36, 3, 3, 2), (36,)]
    assert not any(b.any() for b in branch)
    y = reference.deform_conv_module(x, *branch, weight, bias, **OPTIONS)
    plain = reference.conv2d(x, weight, bias, **OPTIONS)
    assert np.abs(y - plain).max() <= 1e-14 * np.abs(plain).max()


def test_a_branch_of_zeros_learns_while_its_term_in_x_is_zero():
    rng = np.random.default_rng(1)
    x, _, _, weight, bias = arguments(rng)
    branch = reference.zero_offset_branch(weight, 3, offset_groups=3)
    grad = rng.normal(size=reference.conv2d(x, weight, bias, **OPTIONS).shape)
    grads = reference.deform_conv_module_backward(grad, x, *branch, weight, bias, **OPTIONS)
    assert np.abs(grads.offset_weight).max() > 1
    offset = np.zeros((2, 36, *grad.shape[2:]))
    alone = reference.deform_conv2d_backward(grad, x, offset, weight, bias, **OPTIONS)
    assert (grads.x == alone.x).all()


@pytest.mark.parametrize("border", ["zero", "dcnv1"])
def test_every_gradient_is_a_central_difference(border):
    """A step of 1e-6 in a random direction of each argument, with offsets away from kinks."""
    rng = np.random.default_rng(2)
    given = list(arguments(rng, scale=1e-3))
    given[2] = given[2] + 0.4  # every offset near 0.4, a cell's inside
    y = reference.deform_conv_module(*given, border=border, **OPTIONS)
    grad = rng.normal(size=y.shape)
    grads = reference.deform_conv_module_backward(grad, *given, border=border, **OPTIONS)
    for i, name in enumerate(grads._fields):
        direction, ends = rng.normal(size=given[i].shape), []
        for h in (1e-6, -1e-6):
            moved = [*given[:i], given[i] + h * direction, *given[i + 1 :]]
            ends.append(
                (grad * reference.deform_conv_module(*moved, border=border, **OPTIONS)).sum()
            )
        slope = (ends[0] - ends[1]) / 2e-6
        exact = (getattr(grads, name) * direction).sum()
        assert abs(slope - exact) <= 1e-7 * max(1, abs(exact)), name


def test_the_side_of_kinks_reaches_the_branch():
    """A branch of zeros puts every sample on a kink; its gradient is that of the side asked for."""
    rng = np.random.default_rng(4)
    x, _, _, weight, bias = arguments(rng)
    branch = reference.zero_offset_branch(weight, 3, offset_groups=3)
    grad = rng.normal(size=reference.conv2d(x, weight, bias, **OPTIONS).shape)
    offset, found = np.zeros((2, 36, *grad.shape[2:])), {}
    for side in ("right", "left"):
        layer = reference.deform_conv2d_backward(grad, x, offset, weight, side=side, **OPTIONS)
        expected = reference.conv2d_backward(layer.offset, x, *branch, **OPTIONS)
        found[side] = reference.deform_conv_module_backward(
            grad, x, *branch, weight, bias, side=side, **OPTIONS
        )
        assert (found[side].offset_weight == expected.weight).all()
    assert (found["left"].offset_weight != found["right"].offset_weight).any()


def test_offsets_are_not_rounded_to_half_precision():
    """float16 arrays, offsets near 37: as good as float32 with one rounding at the end."""
    rng = np.random.default_rng(5)
    given = [a.astype(np.float16) for a in arguments(rng, scale=4.0)]
    single = [a.astype(np.float32) for a in given]
    y, exact = (reference.deform_conv_module(*a, **OPTIONS) for a in (given, single))
    assert y.dtype == np.float16
    assert (y == exact.astype(np.float16)).all()
    grads = reference.deform_conv_module_backward(y, *given, **OPTIONS)
    expected = reference.deform_conv_module_backward(y.astype(np.float32), *single, **OPTIONS)
    for name, value in expected._asdict().items():
        assert (getattr(grads, name) == value.astype(np.float16)).all(), name


def test_without_the_branch_term_the_gradient_of_x_is_wrong():
    rng = np.random.default_rng(3)
    given = arguments(rng, scale=1e-1)
    y = reference.deform_conv_module(*given, **OPTIONS)
    grads = reference.deform_conv_module_backward(np.ones_like(y), *given, **OPTIONS)
    offset = reference.conv2d(*given[:3], **OPTIONS)
    alone = reference.deform_conv2d_backward(
        np.ones_like(y), given[0], offset, *given[3:], **OPTIONS
    )
    assert np.abs(grads.x - alone.x).max() > 0.1


def test_it_takes_what_deform_conv2d_takes():
    own = inspect.signature(inspect.unwrap(reference.deform_conv_module)).parameters
    operator = inspect.signature(inspect.unwrap(reference.deform_conv2d)).parameters
    assert set(operator) - set(own) == {"offset", "mask"}
