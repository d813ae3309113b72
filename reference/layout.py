"""Reshapes only: how the arrays of equation (2) become rows and columns of matrices, and back.

Inside `deform_conv` there are four kinds of matrix, and P = Ho Wo output pixels per image:

    pixels    N*G*H*W, C/G          x, one row per pixel of each image and offset group
    points    N*G, P*K, d           offset (d = 2) or mask (d = 1), one entry per sampling point
    samples   N*G*P*K, C/G          x(p), one row per sampling point
    columns   groups, N*P, K*C/groups   the samples again, one row per output pixel
"""

from jaxtyping import Float
from numpy import ndarray as Array

from .geometry import Geometry

Shape = tuple[int, ...]


def pixels(x: Float[Array, "N C H W"], G: int) -> Float[Array, "pixels C_per_G"]:
    N, C, H, W = x.shape
    return x.reshape(N * G, C // G, H * W).swapaxes(1, 2).reshape(N * G * H * W, C // G)


def from_pixels(pixels: Float[Array, "pixels C_per_G"], G: int, shape: Shape) -> Array:
    N, C, H, W = shape
    return pixels.reshape(N * G, H * W, C // G).swapaxes(1, 2).reshape(shape)


def points(field: Float[Array, "N GKd Ho Wo"], geometry: Geometry) -> Float[Array, "NG PK d"]:
    (N, channels, Ho, Wo), (G, K) = field.shape, (geometry.offset_groups, taps(geometry))
    d = channels // (G * K)
    split = field.reshape(N, G, K, d, Ho * Wo).transpose(0, 1, 4, 2, 3)
    return split.reshape(N * G, Ho * Wo * K, d)


def from_points(points: Float[Array, "*any d"], geometry: Geometry, shape: Shape) -> Array:
    (N, channels, Ho, Wo), (G, K) = shape, (geometry.offset_groups, taps(geometry))
    split = points.reshape(N, G, Ho * Wo, K, channels // (G * K))
    return split.transpose(0, 1, 3, 4, 2).reshape(shape)


def columns(
    samples: Float[Array, "points C_per_G"], N: int, geometry: Geometry
) -> Float[Array, "groups NP KC"]:
    G, K, groups, P = _sizes(geometry)
    C = samples.shape[1] * G
    whole = samples.reshape(N, G, P, K, C // G).transpose(0, 2, 3, 1, 4)
    split = whole.reshape(N, P, K, groups, C // groups).transpose(3, 0, 1, 2, 4)
    return split.reshape(groups, N * P, K * C // groups)


def from_columns(
    columns: Float[Array, "groups NP KC"], N: int, geometry: Geometry
) -> Float[Array, "points C_per_G"]:
    G, K, groups, P = _sizes(geometry)
    C = columns.shape[2] * groups // K
    whole = columns.reshape(groups, N, P, K, C // groups).transpose(1, 2, 3, 0, 4)
    split = whole.reshape(N, P, K, G, C // G).transpose(0, 3, 1, 2, 4)
    return split.reshape(N * G * P * K, C // G)


def weights(weight: Float[Array, "O I kh kw"], groups: int) -> Float[Array, "groups Og KC"]:
    """w as one matrix per group, its columns in the order (tap, channel)."""
    O, I, kh, kw = weight.shape
    by_tap = weight.reshape(groups, O // groups, I, kh * kw).swapaxes(2, 3)
    return by_tap.reshape(groups, O // groups, kh * kw * I)


def from_weights(matrix: Float[Array, "groups Og KC"], shape: Shape) -> Array:
    O, I, kh, kw = shape
    groups = matrix.shape[0]
    return matrix.reshape(groups, O // groups, kh * kw, I).swapaxes(2, 3).reshape(shape)


def outputs(y: Float[Array, "N O Ho Wo"], groups: int) -> Float[Array, "groups Og NP"]:
    N, O, Ho, Wo = y.shape
    split = y.reshape(N, groups, O // groups, Ho * Wo).transpose(1, 2, 0, 3)
    return split.reshape(groups, O // groups, N * Ho * Wo)


def from_outputs(matrix: Float[Array, "groups Og NP"], N: int, geometry: Geometry) -> Array:
    groups, per_group, _ = matrix.shape
    Ho, Wo = geometry.output
    split = matrix.reshape(groups, per_group, N, Ho * Wo).transpose(2, 0, 1, 3)
    return split.reshape(N, groups * per_group, Ho, Wo)


def taps(geometry: Geometry) -> int:
    """K, the taps of the kernel."""
    return geometry.kernel[0] * geometry.kernel[1]


def _sizes(geometry: Geometry) -> tuple[int, int, int, int]:
    P = geometry.output[0] * geometry.output[1]
    return geometry.offset_groups, taps(geometry), geometry.groups, P
