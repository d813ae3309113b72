"""Reshapes and indices only: which channels and which offsets the bins of a RoI use.

x of C = Cout * gh * gw channels is seen as maps, one per image n, class group p and score group
(a, b), each of Cout / P channels. Plain RoI pooling has gh = gw = 1, and no offsets mean P = 1.

    pixels   N*P*gh*gw*H*W, Cout/P    one row per pixel of each map
    bins     R*P*kh*kw, Cout/P        one row per bin, in the order (r, p, i, j)
"""

import numpy as np
from jaxtyping import Float
from numpy import ndarray as Array

from .geometry import RoiGeometry
from .layout import Shape


def pixels(x: Float[Array, "N C H W"], at: RoiGeometry) -> Float[Array, "pixels channels"]:
    (N, _, H, W), (gh, gw), P = x.shape, at.group, at.classes
    split = x.reshape(N, P, at.channels // P, gh, gw, H * W).transpose(0, 1, 3, 4, 5, 2)
    return split.reshape(N * P * gh * gw * H * W, at.channels // P)


def from_pixels(pixels: Float[Array, "pixels channels"], shape: Shape, at: RoiGeometry) -> Array:
    (N, _, H, W), (gh, gw), P = shape, at.group, at.classes
    split = pixels.reshape(N, P, gh, gw, H * W, at.channels // P)
    return split.transpose(0, 1, 5, 2, 3, 4).reshape(shape)


def bins(y: Float[Array, "R Cout kh kw"], at: RoiGeometry) -> Float[Array, "bins channels"]:
    (kh, kw), P, R = at.output, at.classes, len(y)
    split = y.reshape(R, P, at.channels // P, kh, kw).transpose(0, 1, 3, 4, 2)
    return split.reshape(R * P * kh * kw, at.channels // P)


def from_bins(bins: Float[Array, "bins channels"], R: int, at: RoiGeometry) -> Array:
    (kh, kw), P = at.output, at.classes
    split = bins.reshape(R, P, kh, kw, at.channels // P).transpose(0, 1, 4, 2, 3)
    return split.reshape(R, at.channels, kh, kw)


def index(R: int, at: RoiGeometry) -> tuple[Array, Array, Array, Array]:
    """(r, p, i, j) of every bin."""
    r, p, i, j = np.indices((R, at.classes, *at.output)).reshape(4, -1)
    return r, p, i, j


def parts(i: Array, j: Array, at: RoiGeometry) -> tuple[Array, Array]:
    """The part whose offset moves bin (i, j)."""
    return i * at.part[0] // at.output[0], j * at.part[1] // at.output[1]


def maps(n: Array, p: Array, i: Array, j: Array, at: RoiGeometry) -> Array:
    """The map that bin (i, j) of class group p of a RoI on image n reads."""
    (gh, gw), (kh, kw) = at.group, at.output
    return ((n * at.classes + p) * gh + i * gh // kh) * gw + j * gw // kw


def map_count(N: int, at: RoiGeometry) -> int:
    return N * at.classes * at.group[0] * at.group[1]
