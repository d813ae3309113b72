"""Calls of RoI pooling on which the reference and another library must agree."""

from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray as Array

from deformable_convnets import reference

Pair = tuple[int, int]
# (pooled, part, position-sensitive group) sizes on both axes
SIZES = {
    "mxnet": (((3, 3), 3, 3), ((4, 4), 3, 2), ((2, 2), 4, 1), ((5, 5), 1, 3), ((3, 3), 2, 2)),
    "openvino": (((3, 3), 3, 3), ((4, 4), 3, 4), ((2, 2), 4, 2), ((5, 5), 1, 5), ((1, 1), 1, 1)),
    "roi_align": (((3, 3), None, 1), ((2, 5), None, 1), ((1, 1), None, 1)),
    "ps_roi_align": (((3, 3), None, None), ((2, 4), None, None), ((1, 1), None, None)),
}
CLEARANCE = 1e-4  # pixels: float32 coordinates of at most some 50 pixels are off by less


class RoiCase(NamedTuple):
    """One call of `deform_ps_roi_pool`, and the gradient that its output receives."""

    x: Array
    rois: Array
    offset: Array | None
    output_size: Pair
    options: dict[str, Any]
    grad_output: Array

    def ours(self) -> Array:
        return reference.deform_ps_roi_pool(
            self.x, self.rois, self.offset, self.output_size, **self.options
        )

    def our_gradients(self) -> reference.DeformRoiPoolGrads:
        return reference.deform_ps_roi_pool_backward(
            self.grad_output, self.x, self.rois, self.offset, self.output_size, **self.options
        )


def random_case(seed: int, peer: str) -> RoiCase:
    """A small call in the sizes that the peer can do; its numbers fit float32, in float64.

    RoIs lie inside the map, partly or wholly outside, and some are empty or inverted. No point is
    so near a kink or the edge that rounding a coordinate could carry it across.
    """
    rng = np.random.default_rng(seed)
    output, part, group = SIZES[peer][seed % len(SIZES[peer])]
    gh, gw = output if group is None else (group, group)
    N, P, R = (int(n) for n in rng.integers(1, 4, 3))
    Cout, (H, W) = P * int(rng.integers(1, 3)), rng.integers(1, 12, 2)
    options = {
        "spatial_scale": (0.37, 0.93, 0.083)[seed % 3],
        "gamma": float(rng.choice([0.1, 0.7])), "bins": "mxnet" if part else "align",
        "samples": int(rng.integers(1, 5)), "group_size": (gh, gw),
    }  # fmt: skip
    offset = None
    if part and seed % 4:
        options["part_size"] = (part, part)
        offset = _single(rng.standard_normal((R, 2 * P, part, part)))
    x = _single(rng.standard_normal((N, Cout * gh * gw, H, W)))
    while True:
        rois = _rois(rng, R, N, (int(H), int(W)), options["spatial_scale"])
        case = RoiCase(x, rois, offset, output, options,
                       _single(rng.standard_normal((R, Cout, *output))))  # fmt: skip
        if clearance(case) > CLEARANCE:
            return case


def _rois(rng: np.random.Generator, R: int, N: int, size: Pair, scale: float) -> Array:
    H, W = size
    corners = rng.uniform(-0.6, 1.4, (R, 4)) * (W, H, W, H)
    ordered = rng.uniform(0, 1, (R, 1)) < 0.8
    first, last = np.minimum(*np.split(corners, 2, 1)), np.maximum(*np.split(corners, 2, 1))
    corners = np.where(ordered, np.hstack([first, last]), corners) / scale
    halves = rng.uniform(0, 1, (R, 1)) < 0.3  # where C's rounding and NumPy's differ
    corners = np.where(halves, np.floor(corners) + 0.5, corners)
    return _single(np.hstack([rng.integers(0, N, (R, 1)), corners]))


def _single(a: Array) -> Array:
    return a.astype(np.float32).astype(np.float64)


def points(case: RoiCase) -> tuple[Array, Array]:
    """The coordinates in pixels of all points on each axis, for bins="mxnet" and "align"."""
    found, options = [], case.options
    s, samples, rounded = options["spatial_scale"], options["samples"], options["bins"] == "mxnet"
    for d, k in enumerate(case.output_size):
        first, last = case.rois[:, 2 - d], case.rois[:, 4 - d]
        if rounded:
            first, last = _c_round(first), _c_round(last) + 1
        start, size = first * s - 0.5, (last - first) * s
        size = np.maximum(size, 0.1) if rounded else size
        fractions = (np.arange(k * samples) + (0 if rounded else 0.5)) / (k * samples)
        at = (start + size * fractions[:, None]).T[:, None]
        if case.offset is not None:
            fields = case.offset[:, d::2].reshape(len(first), -1, 1)
            at = at[:, :, None] + (options["gamma"] * size)[:, None, None, None] * fields[:, None]
        found.append(at.ravel())
    return found[0], found[1]


def clearance(case: RoiCase) -> float:
    """The least distance of a point from a whole number or from half a pixel outside the map."""
    distances = [1.0]
    for at, n in zip(points(case), case.x.shape[2:], strict=True):
        near = at[(at > -1.1) & (at < n + 0.1)]
        for kink in (np.round(near), -0.5, n - 0.5):
            distances.append(np.abs(near - kink).min(initial=1.0))
    return min(distances)


def _c_round(a: Array) -> Array:
    return np.sign(a) * np.floor(np.abs(a) + 0.5)


def _outside(case: RoiCase) -> Array:
    """How many of the four corners' coordinates of each RoI lie outside the map."""
    H, W = case.x.shape[2:]
    at = case.rois[:, 1:] * case.options["spatial_scale"]
    return ((at < 0) | (at > (W, H, W, H))).sum(axis=1)


FEATURES = {
    "offset": lambda c: c.offset is not None,
    "several class groups": lambda c: c.offset is not None and c.offset.shape[1] > 2,
    "several images": lambda c: len(set(c.rois[:, 0])) > 1,
    "a RoI inside": lambda c: (_outside(c) == 0).any(),
    "a RoI without points": lambda c: (c.ours() == 0).all(axis=(1, 2, 3)).any(),
    "a RoI partly outside": lambda c: ((_outside(c) > 0) & (_outside(c) < 4)).any(),
    "an inverted RoI": lambda c: (c.rois[:, 3:] < c.rois[:, 1:3]).any(),
    "corners at halves": lambda c: (c.rois[:, 1:] % 1 == 0.5).all(axis=1).any(),
    "parts are not bins": lambda c: c.options.get("part_size", c.output_size) != c.output_size,
    "groups are not bins": lambda c: c.options["group_size"] != c.output_size,
    "one sample": lambda c: c.options["samples"] == 1,
}
