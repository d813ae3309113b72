"""Reshapes only: how the arrays of equation (2) become rows and columns of matrices, and back.

Inside `deform_conv` there are four kinds of matrix, and P = Ho Wo output pixels per image.
Volumes have the same four: there H W is D H W, Ho Wo is Do Ho Wo, and kh kw is kd kh kw.

    pixels    N*G*H*W, C/G          x, one row per pixel of each image and offset group
    points    N*G, P*K, d           offset (d = 2, 3) or mask (d = 1), one row per sampling point
    samples   N*G*P*K, C/G          x(p), one row per sampling point
    columns   groups, N*P, K*C/groups   the samples again, one row per output pixel
"""

from math import prod

from jaxtyping import Float
from numpy import ndarray as Array

from .geometry import AnyGeometry

Shape = tuple[int, ...]


def pixels(x: Float[Array, "N C *size"], G: int) -> Float[Array, "pixels C_per_G"]:
    (N, C), P = x.shape[:2], prod(x.shape[2:])
    return x.reshape(N * G, C // G, P).swapaxes(1, 2).reshape(N * G * P, C // G)


def from_pixels(pixels: Float[Array, "pixels C_per_G"], G: int, shape: Shape) -> Array:
    (N, C), P = shape[:2], prod(shape[2:])
    return pixels.reshape(N * G, P, C // G).swapaxes(1, 2).reshape(shape)


def points(field: Float[Array, "N GKd *output"], geometry: AnyGeometry) -> Float[Array, "NG PK d"]:
    (N, channels), (G, K, _, P) = field.shape[:2], _sizes(geometry)
    d = channels // (G * K)
    split = field.reshape(N, G, K, d, P).transpose(0, 1, 4, 2, 3)
    return split.reshape(N * G, P * K, d)


def from_points(points: Float[Array, "*any d"], geometry: AnyGeometry, shape: Shape) -> Array:
    (N, channels), (G, K, _, P) = shape[:2], _sizes(geometry)
    split = points.reshape(N, G, P, K, channels // (G * K))
    return split.transpose(0, 1, 3, 4, 2).reshape(shape)


def columns(
    samples: Float[Array, "points C_per_G"], N: int, geometry: AnyGeometry
) -> Float[Array, "groups NP KC"]:
    G, K, groups, P = _sizes(geometry)
    C = samples.shape[1] * G
    whole = samples.reshape(N, G, P, K, C // G).transpose(0, 2, 3, 1, 4)
    split = whole.reshape(N, P, K, groups, C // groups).transpose(3, 0, 1, 2, 4)
    return split.reshape(groups, N * P, K * C // groups)


def from_columns(
    columns: Float[Array, "groups NP KC"], N: int, geometry: AnyGeometry
) -> Float[Array, "points C_per_G"]:
    G, K, groups, P = _sizes(geometry)
    C = columns.shape[2] * groups // K
    whole = columns.reshape(groups, N, P, K, C // groups).transpose(1, 2, 3, 0, 4)
    split = whole.reshape(N, P, K, G, C // G).transpose(0, 3, 1, 2, 4)
    return split.reshape(N * G * P * K, C // G)


def weights(weight: Float[Array, "O I *kernel"], groups: int) -> Float[Array, "groups Og KC"]:
    """w as one matrix per group, its columns in the order (tap, channel)."""
    (O, I), K = weight.shape[:2], prod(weight.shape[2:])
    by_tap = weight.reshape(groups, O // groups, I, K).swapaxes(2, 3)
    return by_tap.reshape(groups, O // groups, K * I)


def from_weights(matrix: Float[Array, "groups Og KC"], shape: Shape) -> Array:
    (O, I), K, groups = shape[:2], prod(shape[2:]), matrix.shape[0]
    return matrix.reshape(groups, O // groups, K, I).swapaxes(2, 3).reshape(shape)


def outputs(y: Float[Array, "N O *output"], groups: int) -> Float[Array, "groups Og NP"]:
    (N, O), P = y.shape[:2], prod(y.shape[2:])
    split = y.reshape(N, groups, O // groups, P).transpose(1, 2, 0, 3)
    return split.reshape(groups, O // groups, N * P)


def from_outputs(matrix: Float[Array, "groups Og NP"], N: int, geometry: AnyGeometry) -> Array:
    groups, per_group, _ = matrix.shape
    split = matrix.reshape(groups, per_group, N, prod(geometry.output)).transpose(2, 0, 1, 3)
    return split.reshape(N, groups * per_group, *geometry.output)


def taps(geometry: AnyGeometry) -> int:
    """K, the taps of the kernel."""
    return prod(geometry.kernel)


def _sizes(geometry: AnyGeometry) -> tuple[int, int, int, int]:
    return geometry.offset_groups, taps(geometry), geometry.groups, prod(geometry.output)
