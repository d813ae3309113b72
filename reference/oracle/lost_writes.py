"""A clue to a wrong gradient of x: right where one sample reads the pixel, wrong only where several
do.

So it comes out where the shares of the samples overwrite each other: `grad_x[at] += share` with a
pixel twice in `at`, or threads that add without atomics. Which share is left depends on the order
of writing, so no single known mistake gives the result.
"""

from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray as Array

import deformable_convnets.reference as reference

from ..bilinear import computed
from ..deform_conv import locations
from .wrong_calls import Call

SURE = 3  # pixels in wrong results: right and with one share, or wrong and with a share left


class Readers(NamedTuple):
    """How many samples reach each element of x.

    reads    those less than 1 from it on every axis
    touches  those that a program may make write to it, be it a share of 0: no more than 1 from it,
             or off the map, and then moved to its edge or to pixel 0
    """

    reads: Array
    touches: Array


def lost(name: str, each: Any) -> bool:
    """Whether this is what the wrong gradients of x (`diagnosis.Case`) have in common."""
    alone = some = 0
    for case in each:
        if not case.wrong:
            continue
        n, bad = readers(name, case.arguments), _wrong(case)
        if n is None:
            return False
        left = (n.touches > 1) & (case.result == 0)  # of one sample's share, if another wrote 0
        if (bad & (n.reads < 2) & ~left).any():
            return False
        alone += int(np.count_nonzero((n.reads == 1) & (case.right != 0) & ~bad))
        some += int(np.count_nonzero(bad & (case.result != 0)))
    return alone >= SURE and some >= SURE


def readers(name: str, a: dict[str, Any]) -> Readers | None:
    """Of every element of x; None where it is not counted: of RoI pooling, and of (1).

    name  "sample_backward", "deform_conv2d_backward" or "deform_conv3d_backward"
    """
    if not a["x"].size or "rois" in a or ("p" not in a and a.get("offset") is None):
        return None
    c = Call(getattr(reference, name), (), a)
    maps = 1 if "p" in a else len(c.x) * c.layer.offset_groups
    p = c.p.reshape(1, -1, 2) if "p" in a else locations(computed(c.offset), c.layer)
    size = c.x.shape[-p.shape[-1] :]
    channels = c.x.size // (maps * prod(size))  # that are read at the same points
    each = [_along(p, axis, size) for axis in range(len(size))]
    found = []
    for near in zip(*each, strict=True):
        n = np.all(np.broadcast_arrays(*near), axis=0).sum(axis=1)
        found.append(n.reshape(maps, 1, *size).repeat(channels, axis=1).reshape(c.x.shape))
    return Readers(*found)


def _along(p: Array, axis: int, size: tuple[int, ...]) -> Readers:
    """Which pixels a point reaches along an axis: maps, points, and then the axes of the map."""
    last, at = size[axis] - 1, p[..., axis, None]
    q, off = np.arange(size[axis]), ~((at >= 0) & (at <= last))
    touches = (np.abs(np.clip(at, 0, last) - q) <= 1) | (off & (q == 0))
    others = tuple(2 + i for i in range(len(size)) if i != axis)
    return Readers(*(np.expand_dims(a, others) for a in (np.abs(at - q) < 1, touches)))


def _wrong(case: Any) -> Array:
    """Which elements are wrong; rounding is not."""
    largest = np.abs(case.right[np.isfinite(case.right)]).max(initial=0)
    few = 64 * float(np.finfo(case.right.dtype).eps) * largest
    return ~np.isclose(case.result, case.right, rtol=0, atol=few, equal_nan=True)
