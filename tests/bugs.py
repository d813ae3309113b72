"""Deliberate bugs: the reference with one thing wrong, for the sabotage table."""

from dataclasses import replace
from typing import Any

import numpy as np

from deformable_convnets import reference
from deformable_convnets.reference.oracle.implementation import REFERENCE, Implementation


def bug(**wrong: Any) -> Implementation:
    """The reference with these callables in place of its own."""
    return replace(REFERENCE, name="a deliberate bug", call={**REFERENCE.call, **wrong})


def on_arguments(change, *, forward=True, backward=False):
    """A bug that changes the arguments of deform_conv2d (by name) before the right code runs."""

    def wrong_forward(x, offset, weight, bias=None, **options):
        given = {"x": x, "offset": offset, "weight": weight, "bias": bias, **options}
        return reference.deform_conv2d(**{**given, **change(**given)})

    def wrong_backward(grad_output, x, offset, weight, bias=None, **options):
        given = {"x": x, "offset": offset, "weight": weight, "bias": bias, **options}
        return reference.deform_conv2d_backward(grad_output, **{**given, **change(**given)})

    call = {}
    if forward:
        call["deform_conv2d"] = wrong_forward
    if backward:
        call["deform_conv2d_backward"] = wrong_backward
    return bug(**call)


def on_grads(change, operator="deform_conv2d"):
    """A bug that changes the gradients after the right code ran; gets them and the call."""
    right = getattr(reference, f"{operator}_backward")

    def wrong(grad_output, *args, **options):
        grads = right(grad_output, *args, **options)
        return grads._replace(**change(grads, grad_output, *args, **options))

    return bug(**{f"{operator}_backward": wrong})


def computed_in(dtype):
    """deform_conv2d in another precision, the result cast back."""

    def wrong(x, offset, weight, bias=None, *, mask=None, **options):
        cast = [a if a is None else a.astype(dtype) for a in (x, offset, weight, bias, mask)]
        *args, mask = cast
        return reference.deform_conv2d(*args, mask=mask, **options).astype(x.dtype)

    return wrong


def halved_coordinates(x, offset, weight, bias=None, **options):
    """p0 + p_n + offset rounded to half precision, by an offset that makes up the difference."""
    shape = {k: options[k] for k in ("stride", "padding", "dilation")}
    p = reference.sampling_points(offset, weight.shape[2:], **shape)
    p = np.moveaxis(p, -1, 3).reshape(offset.shape)
    wrong = (p.astype(np.float16).astype(p.dtype) - p).astype(offset.dtype)
    return reference.deform_conv2d(x, offset + wrong, weight, bias, **options)


def swapped(offset):
    """dy and dx exchanged in every pair of channels."""
    N, channels, Ho, Wo = offset.shape
    return offset.reshape(N, channels // 2, 2, Ho, Wo)[:, :, ::-1].reshape(offset.shape)


def rounded_points(p):
    return np.floor(p + p.dtype.type(0.5))
