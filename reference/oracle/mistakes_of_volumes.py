"""The known mistakes in `deform_conv3d`: a part of the table in `mistakes`.

These are what a third axis adds, and of the mistakes with two axes those that show what a law of
volumes sees; the others are in `mistakes_of_convolution`.
"""

import numpy as np
from numpy import ndarray as Array

from . import wrong_calls as w
from . import wrong_gradients as wg
from .mistakes_of_convolution import x_first_sizes
from .mistakes_of_sampling import BORDERS, NAN, OUTSIDE
from .wrong_calls import Call, Wrong, gathered, scaled, with_offset, with_points
from .wrong_gradients import run_on, turned, twice
from .wrong_numbers import half


def x_first(field: Array) -> Array:
    """N G K 3 Do Ho Wo, its coordinates in the opposite order."""
    return field[:, :, :, ::-1]


def from_the_last_axis(taps: Array, c: Call) -> Array:
    """Axis 2, the K taps, in the order in which a reader finds them who counts z the fastest."""
    kd, kh, kw = c.layer.kernel
    return taps[:, :, np.arange(kd * kh * kw).reshape(kw, kh, kd).T.ravel()]


def without_z(field: Array) -> Array:
    """N G K 3 Do Ho Wo with 0 for dz."""
    return np.concatenate([0 * field[:, :, :, :1], field[:, :, :, 1:]], axis=3)


def whole_z(p: Array) -> Array:
    """The points in the plane of floor(p_z)."""
    return np.concatenate([np.floor(p[:, :, :, :1]), p[:, :, :, 1:]], axis=3)


def mirrored(a: Array) -> Array:
    return a[:, :, ::-1, ::-1, ::-1].copy()


SIZES = x_first_sizes("(x, y, z)")
LAYOUTS: Wrong = {
    "the x-first channel order (dx, dy, dz)": gathered(lambda f, layer: x_first(f)),
    "the split layout (all dz, then all dy, then all dx)": gathered(lambda f, layer: w.split(f)),
    "only the first offset group": gathered(lambda f, layer: w.repeated(f, 1)),
    "the first image's offsets for all images": gathered(lambda f, layer: w.repeated(f, 0)),
    "the opposite sign of the offset": scaled(lambda c: -1),
}
VOLUME: Wrong = {
    **LAYOUTS,
    **SIZES,
    "offsets of taps numbered from the last axis": with_offset(
        lambda c: from_the_last_axis(c.field, c)
    ),
    "the offset of the plane alone (dz forgotten)": with_offset(lambda c: without_z(c.field)),
    "bilinear in the plane of floor(p_z), not trilinear": with_points(lambda p, c: whole_z(p)),
    "the nearest pixel": with_points(lambda p, c: np.floor(p + 0.5)),
    "a half-pixel shift": with_points(lambda p, c: p - 0.5),
    "a clamped border": with_points(lambda p, c: np.clip(p, 0, w.size(c) - 1)),
    "coordinates in half precision": with_points(lambda p, c: half(p)),
    NAN: with_offset(lambda c: np.where(np.isnan(c.field), OUTSIDE, c.field)),
    **BORDERS,
    "a flipped kernel (true convolution)": lambda c: c(weight=mirrored(c.weight)),
    "the last channel of each group alone (assigned, not added)": lambda c: w.only_channels(
        c, w.last_of(c.layer.groups, c.x.shape[1])
    ),
    "groups of every other channel": w.with_channels(w.every_other),
    "the mask forgotten": lambda c: c(mask=None),
    "the mask applied twice": w.with_mask(lambda m, c: m * m),
    "the bias forgotten": lambda c: c(bias=None),
}
VOLUME_BACKWARD: Wrong = {
    "the offset gradient with dz and dx swapped": turned(
        "offset", lambda a, c: x_first(w.by_tap(a, c.layer))
    ),
    "the opposite sign of the offset gradient": turned("offset", lambda a, c: -a),
    "the offset gradient added twice": twice("offset"),
    "the offset gradient without dz": turned(
        "offset", lambda a, c: without_z(w.by_tap(a, c.layer))
    ),
    "the stray sum of equation (7)": turned(
        "offset", lambda a, c: 0 * c.field + w.by_tap(a, c.layer).sum(axis=2, keepdims=True)
    ),
    "the offset gradient of taps numbered from the last axis": turned(
        "offset", lambda a, c: from_the_last_axis(w.by_tap(a, c.layer), c)
    ),
    "the offset gradient of the first channel of a group alone": turned(
        "offset", lambda a, c: wg.first_inputs(c).offset
    ),
    "the offset gradient of the first offset group alone": turned("offset", wg.of_first_group),
    **wg.sides("offset"),
    "the mask forgotten in the offset gradient": run_on("offset", mask=lambda c: None),
    "the mask forgotten in the gradient of x": run_on("x", mask=lambda c: None),
    "the mask forgotten in the weight gradient": run_on("weight", mask=lambda c: None),
    "the gradient of x added twice": twice("x"),
    "a gradient of x that overwrites instead of adding": wg.deform_last_written,
    "the weight gradient of the last image alone": turned(
        "weight", lambda a, c: wg.last_image(c).weight
    ),
    "the bias gradient averaged, not summed": turned(
        "bias", lambda a, c: a / max(c.grad_output[:, 0].size, 1)
    ),
    "the mask gradient without w(p_n)": run_on("mask", weight=lambda c: np.ones_like(c.weight)),
    "the mask gradient added twice": twice("mask"),
    **BORDERS,
    **LAYOUTS,
    **SIZES,
    "coordinates in half precision": with_points(lambda p, c: half(p)),
}
