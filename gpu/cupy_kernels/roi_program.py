"""The RoI operators as an array program: lines on the axes, their products, then matmul.

reference.roi_bins      here                           why it differs
M, a sparse matrix      rows of H*W numbers, dense     cuBLAS multiplies them; no indices are built
all bins at once        a few RoIs of one image        memory for NUMBERS numbers of M, or one RoI
maps, reshaped          one score group at a time      its bins are a block of the kh x kw bins
np.add.at over parts    one part at a time             the same block of bins: no atomics

`xp` is the array module, cupy or numpy. float16 is computed in float32, results are rounded once.
Arrays of bins have the axes P R kh kw: class groups first, for the batched product. x is assumed
finite: M is 0 where a bin does not read, and 0 x is 0.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from deformable_convnets.reference.geometry import Pair, RoiGeometry

from .. import arrays
from ..registry import Version
from .bilinear import computed
from .roi_lines import Lines, lines, span

Array = Any
NUMBERS = 2**25  # the largest M, 128 MB in float32
NAMES = ("roi_pool", "deform_roi_pool", "ps_roi_pool", "deform_ps_roi_pool")


class Block(NamedTuple):
    """The bins that read one score group, or one part: rows i and columns j of the kh x kw."""

    a: int
    b: int
    i: slice
    j: slice


class Bins(NamedTuple):
    """Some RoIs of one image: their lines, n_ij (P R kh kw, 1 where it is 0), and sizes (R 2)."""

    y: Lines
    x: Lines
    count: Array
    sizes: Array

    def rows(self, block: Block, of_y: Array, of_x: Array) -> Array:
        """M for the bins of a block, P R*I*J H*W: the products of two lines."""
        y, x = of_y[:, :, block.i, block.j, :, None], of_x[:, :, block.i, block.j, None, :]
        return (y * x).reshape(y.shape[0], -1, y.shape[4] * x.shape[5])


def roi_pool(
    xp: Any, x: Array, rois: Array, offset: Array | None = None, *, geometry: RoiGeometry
) -> Array:
    """Equations (5) and (6): y = M x / n_ij."""
    y = xp.empty((len(rois), geometry.channels, *geometry.output), x.dtype)
    for n, chosen in chunks(xp, x.shape, rois, geometry):
        at = bins_of(xp, x.shape, rois, offset, chosen, geometry)
        result = xp.zeros((*at.count.shape, geometry.channels // geometry.classes), at.sizes.dtype)
        for block in blocks(geometry.group, geometry.output):
            pixels = maps(x[n], block, geometry).swapaxes(1, 2)
            product = xp.matmul(at.rows(block, at.y.g, at.x.g), pixels)
            into = result[:, :, block.i, block.j]
            into[...] = product.reshape(into.shape)
        result /= at.count[..., None]
        y[chosen] = result.transpose(1, 0, 4, 2, 3).reshape(-1, *y.shape[1:]).astype(y.dtype)
    return y


def roi_pool_backward(
    xp: Any, grad_output: Array, x: Array, rois: Array, offset: Array | None = None, *,
    geometry: RoiGeometry, side: str = "right", wrt: tuple[str, ...],
) -> dict[str, Array]:  # fmt: skip
    """Equation (7'), and M^T grad / n_ij, those of them that `wrt` names; deterministic."""
    given = {"x": x, "offset": offset}
    grads = {name: xp.zeros(given[name].shape, computed(x).dtype) for name in wrt}
    for n, chosen in chunks(xp, x.shape, rois, geometry):
        at = bins_of(xp, x.shape, rois, offset, chosen, geometry, side)
        grad = by_bin(grad_output[chosen], geometry) / at.count[..., None]
        if "x" in wrt:
            finite = xp.where(xp.isnan(at.count)[..., None], grad.dtype.type(0), grad)
            add_grad_x(xp, grads["x"][n], at, finite, geometry)
        if "offset" in wrt:
            grad_p = slopes(xp, x[n], at, grad, geometry)
            grads["offset"][chosen] = by_part(xp, grad_p, at.sizes, geometry)
    return {name: grads[name].astype(given[name].dtype) for name in wrt}


def add_grad_x(xp: Any, grad_x: Array, at: Bins, grad: Array, geometry: RoiGeometry) -> None:
    """Equation (6), its adjoint: adds M^T grad to the gradient of one image, C H W."""
    for block in blocks(geometry.group, geometry.output):
        of_block = grad[:, :, block.i, block.j].reshape(grad.shape[0], -1, grad.shape[-1])
        total = maps(grad_x, block, geometry)
        total += xp.matmul(of_block.swapaxes(1, 2), at.rows(block, at.y.g, at.x.g))


def slopes(xp: Any, x: Array, at: Bins, grad: Array, geometry: RoiGeometry) -> Array:
    """Equation (7'): the gradient of the position of each bin, 2 P R kh kw."""
    grad_p = xp.zeros((2, *at.count.shape), grad.dtype)
    for block in blocks(geometry.group, geometry.output):
        of_block = grad[:, :, block.i, block.j]
        pixels = maps(x, block, geometry).swapaxes(1, 2)
        for d, (of_y, of_x) in enumerate(((at.y.dg, at.x.g), (at.y.g, at.x.dg))):
            product = xp.matmul(at.rows(block, of_y, of_x), pixels)
            into = grad_p[d][:, :, block.i, block.j]
            into[...] = (of_block * product.reshape(of_block.shape)).sum(axis=-1)
    return grad_p


def by_part(xp: Any, grad_p: Array, sizes: Array, geometry: RoiGeometry) -> Array:
    """Equation (7'): the gradient of the offset, R 2*P part_h part_w, from that of the bins."""
    _, P, R, _, _ = grad_p.shape
    factors = sizes * sizes.dtype.type(geometry.gamma)
    grad_p = grad_p.transpose(2, 1, 0, 3, 4) * factors[:, None, :, None, None]
    grad = xp.zeros((R, P, 2, *geometry.part), grad_p.dtype)
    for a, b, i, j in blocks(geometry.part, geometry.output):
        grad[..., a, b] = grad_p[..., i, j].sum(axis=(-2, -1))
    return grad.reshape(R, 2 * P, *geometry.part)


def bins_of(
    xp: Any, shape: tuple[int, ...], rois: Array, offset: Array | None, chosen: Array,
    geometry: RoiGeometry, side: str = "right",
) -> Bins:  # fmt: skip
    """Equation (6): the lines of the chosen RoIs, whose bins move by gamma (h, w) offset."""
    (kh, kw), rule, samples = geometry.output, geometry.bins, geometry.samples
    corners = computed(rois[chosen])[:, 1:, None, None]
    f = corners.dtype
    y_at = span(xp, corners[:, 1], corners[:, 3], geometry.scale, rule)
    x_at = span(xp, corners[:, 0], corners[:, 2], geometry.scale, rule)
    dy = dx = xp.zeros((geometry.classes, len(chosen), kh, kw), f)
    if offset is not None:
        field = computed(offset[chosen]).reshape(len(chosen), -1, 2, *geometry.part)
        with np.errstate(invalid="ignore", over="ignore"):  # an infinite offset, an empty RoI
            field = by_part_of_bin(xp, field, geometry) * f.type(geometry.gamma)
            dy, dx = field[:, :, 0] * y_at.size, field[:, :, 1] * x_at.size
    i, j = xp.arange(kh, dtype=f)[:, None], xp.arange(kw, dtype=f)
    y = lines(xp, rule, y_at, i, kh, dy, shape[2], samples, side)
    x = lines(xp, rule, x_at, j, kw, dx, shape[3], samples, side)
    count = y.count * x.count + xp.zeros_like(dy)
    sizes = xp.concatenate([y_at.size, x_at.size], axis=1)[..., 0]
    return Bins(y, x, xp.where(count == 0, xp.ones_like(count), count), sizes)


def by_part_of_bin(xp: Any, field: Array, geometry: RoiGeometry) -> Array:
    """The offset that each bin reads, P R 2 kh kw, from R P 2 part_h part_w."""
    (kh, kw), (part_h, part_w) = geometry.output, geometry.part
    a, b = np.arange(kh) * part_h // kh, np.arange(kw) * part_w // kw
    return field[..., xp.asarray(a)[:, None], xp.asarray(b)].swapaxes(0, 1)


def by_bin(grad_output: Array, geometry: RoiGeometry) -> Array:
    """Equation (5): the gradient of some RoIs, R Cout kh kw, as P R kh kw Cout/P."""
    split = computed(grad_output).reshape(len(grad_output), geometry.classes, -1, *geometry.output)
    return split.transpose(1, 0, 3, 4, 2)


def maps(x: Array, block: Block, geometry: RoiGeometry) -> Array:
    """The maps of one image that a score group has, P Cout/P H*W; a view where nothing is cast."""
    split = computed(x).reshape(geometry.classes, -1, *geometry.group, x.shape[1] * x.shape[2])
    return split[:, :, block.a, block.b]


def blocks(groups: Pair, k: Pair) -> Iterator[Block]:
    """The bins (i, j) with floor(i groups / k) = (a, b), for each (a, b) that has any."""
    (gh, gw), (kh, kw) = groups, k
    for a in range(gh):
        for b in range(gw):
            i = slice(-(-a * kh // gh), -(-(a + 1) * kh // gh))
            j = slice(-(-b * kw // gw), -(-(b + 1) * kw // gw))
            if i.start < i.stop and j.start < j.stop:
                yield Block(a, b, i, j)


def chunks(
    xp: Any, shape: tuple[int, ...], rois: Array, geometry: RoiGeometry
) -> Iterator[tuple[int, Array]]:
    """(n, indices of RoIs of image n), so few that M has NUMBERS numbers at most, or one RoI.

    Of more images than one it copies the batch indices to host memory, for which it waits.
    """
    N, _, H, W = shape
    images = np.zeros(len(rois)) if N == 1 else arrays.to_numpy(rois[:, 0])
    read = blocks(geometry.group, geometry.output)
    bins = max((at.i.stop - at.i.start) * (at.j.stop - at.j.start) for at in read)
    few = max(1, NUMBERS // (geometry.classes * bins * H * W))
    for n in range(N):
        of_n = np.flatnonzero(images == n)
        for first in range(0, len(of_n), few):
            yield n, xp.asarray(of_n[first : first + few])


def operators(xp: Any) -> dict[str, Version]:
    """The program on one array module, as a version of a backend."""
    forward, backward = Version(partial(roi_pool, xp)), Version(partial(roi_pool_backward, xp))
    return dict.fromkeys(NAMES, forward) | {f"{name}_backward": backward for name in NAMES}
