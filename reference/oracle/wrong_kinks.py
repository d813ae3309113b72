"""How a derivative of RoI pooling goes wrong at whole coordinates, where there are two."""

from typing import Any

import numpy as np

from .. import bilinear
from .. import roi_layout as layout
from .roi_bounds import by_part
from .roi_coordinates import Points, points, weights
from .wrong_pooling import Call


def flat(c: Call) -> Any:
    """A whole coordinate has slope 0 along its axis: floor and ceil of it are one pixel, MXNet's.

    So it is the right-hand derivative, less what the points at whole coordinates add to it.
    """
    grads = c(side="right")
    if not c.moves:
        return grads
    at, R, size = c.geometry, len(c.rois), c.x.shape[2:]
    r, p, i, j = layout.index(R, at)
    maps = layout.maps(c.rois[r, 0].astype(int), p, i, j, at)
    pixels = layout.pixels(bilinear.computed(c.x), at)
    planes = pixels.reshape(layout.map_count(len(c.x), at), *size, -1)[maps]
    grad = layout.bins(bilinear.computed(c.grad_output), at) / c.bins.count
    y, x = points(at, c.rois, c.offset, size)
    pairs = ((_steps(y, at.bins), weights(x, 0)[0]), (weights(y, 0)[0], _steps(x, at.bins)))
    slopes = [
        c.gamma * c.sizes[r, 0, d, 0, 0] * np.einsum("by,bx,byxc,bc->b", *pair, planes, grad)
        for d, pair in enumerate(pairs)
    ]
    lost = by_part(slopes, R, at)
    return grads._replace(offset=(grads.offset - lost).astype(c.offset.dtype))


def _steps(at: Points, bins: str) -> Any:
    """dg/dp from the right of the points at whole coordinates, summed, per bin and pixel."""
    pixels = np.arange(at.n)
    whole = at.read & (at.raw == np.floor(at.raw)) & (at.raw == at.p)
    whole &= (at.raw < at.n - 1) | (bins == "paper")  # there is 0 outside, elsewhere no slope
    here, beside = (at.raw[:, :, None] == pixels - n for n in (0, 1))
    return (whole[:, :, None] * (beside * 1.0 - here)).sum(axis=1)
