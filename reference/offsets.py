"""Offsets on their own: where the taps read, how far they spread, and other libraries' layouts."""

from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray as Array

from . import checks, layout, offset_checks
from .bilinear import computed
from .deform_conv import locations
from .geometry import Pair, Sides, pair


def sampling_points(
    offset: Array,
    kernel_size: int | Pair,
    *,
    stride: int | Pair = 1,
    padding: int | Pair | Sides = 0,
    dilation: int | Pair = 1,
) -> Array:
    """p = p0 + p_n + Delta p_n of equation (2): where each tap of each output pixel reads.

    offset  N 2*G*K Ho Wo, as in `deform_conv2d`
    Returns N G K Ho Wo 2, (y, x) in pixels of x (float32 for float16).
    """
    geometry = offset_checks.check_offset(offset, kernel_size, stride, padding, dilation)
    N, G, K, (Ho, Wo) = (
        offset.shape[0],
        geometry.offset_groups,
        layout.taps(geometry),
        geometry.output,
    )
    p = locations(computed(offset), geometry).reshape(N, G, Ho, Wo, K, 2)
    return np.moveaxis(p, 4, 2).copy()


def effective_dilation(
    offset: Array, kernel_size: int | Pair, *, dilation: int | Pair = 1
) -> Array:
    """Section 4.2: the mean distance between adjacent sampling points of a filter, in pixels.

    The paper does not define adjacency. Here it is the horizontal and vertical neighbours in the
    kernel, 12 pairs for 3x3, so that a plain filter of dilation d has d. It grows with disorder as
    well as with scale. Returns N G Ho Wo; not finite where an offset is not. Raises ValueError for
    a kernel of one tap.
    """
    geometry = offset_checks.check_offset(offset, kernel_size, 1, 0, dilation)
    kh, kw = kernel = geometry.kernel
    if kh * kw == 1:
        checks.Call(offset=offset).fail(f"kernel_size is {kernel_size!r}, expected 2 taps or more")
    points = sampling_points(offset, kernel, dilation=dilation)
    N, G, _, Ho, Wo, _ = points.shape
    grid = points.reshape(N, G, kh, kw, Ho, Wo, 2)
    with np.errstate(invalid="ignore"):  # infinity less infinity
        steps = [np.diff(grid, axis=2), np.diff(grid, axis=3)]
    distances = [
        np.hypot(d[..., 0], d[..., 1]).reshape(N, G, d.shape[2] * d.shape[3], Ho, Wo) for d in steps
    ]
    return np.concatenate(distances, axis=2).mean(axis=2)


class Layout(NamedTuple):
    """The offsets (and the mask, if the library keeps it in the same array) of `deform_conv2d`."""

    offset: Array
    mask: Array | None


class _Pattern(NamedTuple):
    """The axes of a library's array: n image, g offset group, y x the tap, d which number, h w
    the output pixel. A word is an axis of the array, its letters from slow to fast. `d` names the
    numbers in their order: y and x of the offset, m the mask."""

    axes: str
    d: str


_TAP_BY_TAP = _Pattern("n gyxd h w", "yx")
LAYOUTS = {
    "torchvision": _TAP_BY_TAP,
    "mmcv": _TAP_BY_TAP,
    "mxnet": _TAP_BY_TAP,
    "onnx": _TAP_BY_TAP,
    "openvino": _TAP_BY_TAP,
    "paddle": _TAP_BY_TAP,
    "mxnet-roi": _Pattern("n gd h w", "xy"),  # deformable RoI pooling: no taps, g is the class
    "chainer": _Pattern("n dyx h w", "xy"),  # all x, then all y; no offset groups
    "mindspore": _Pattern("n dgyx h w", "xym"),  # all x, all y, then the mask
    "dcnv3": _Pattern("n h w gxyd", "xy"),  # channels last, taps column by column
    "dpbench": _Pattern("y x d h w", "xy"),  # one image
}


def from_layout(offset: Array, name: str, kernel_size: int | Pair | None = None) -> Layout:
    """Another library's offset array as the `offset` of `deform_conv2d` (or `deform_roi_pool`).

    name  "torchvision", "mmcv", "mxnet", "onnx", "openvino", "paddle" (all as here), "mxnet-roi",
          "chainer", "mindspore", "dcnv3" or "dpbench"
    kernel_size  int or (y, x); None for "mxnet-roi", which has no taps
    Returns Layout(offset, mask), new arrays; mask is None but for "mindspore", which packs one.
    Only the order changes: what a library adds to or divides offsets by stays in the numbers.
    Raises ValueError or TypeError for an unknown name and for a shape that is not the library's.
    """
    offset_checks.check_layout(offset, None)
    pattern, kernel = _pattern(name, kernel_size)
    words = pattern.axes.split()
    if offset.ndim != len(words):
        raise ValueError(f"offset has {offset.ndim} dimensions, expected {len(words)} for {name!r}")
    sizes = {"y": kernel[0], "x": kernel[1], "d": len(pattern.d), "n": 1, "g": 1}
    known = set("d") | (set("yx") if kernel_size is not None else set())
    for word, length in zip(words, offset.shape, strict=True):
        (factor, unknown) = _factor(word, sizes, known)
        if length % factor or (not unknown and length != factor):
            raise ValueError(
                f"offset has shape {offset.shape}, expected {'a multiple of ' * bool(unknown)}"
                f"{factor} in axis {words.index(word)} for {name!r} and kernel {kernel}"
            )
        sizes |= dict.fromkeys(unknown, length // factor)
    letters = pattern.axes.replace(" ", "")
    whole = offset.reshape([sizes[a] for a in letters])
    whole = _moved(whole, letters, "ngyxdhw")
    N, G, kh, kw, _, Ho, Wo = whole.shape
    both = whole[:, :, :, :, [pattern.d.index("y"), pattern.d.index("x")]]
    mask = whole[:, :, :, :, pattern.d.index("m")] if "m" in pattern.d else None
    return Layout(
        both.reshape(N, G * kh * kw * 2, Ho, Wo),
        None if mask is None else mask.reshape(N, G * kh * kw, Ho, Wo).copy(),
    )


def to_layout(
    offset: Array, name: str, kernel_size: int | Pair | None = None, *, mask: Array | None = None
) -> Array:
    """The inverse of `from_layout`: our `offset` (and mask) as another library's array.

    mask  N G*K Ho Wo, for "mindspore" alone, which packs it with the offsets and needs it
    Raises ValueError or TypeError where the layout has no room for the groups, images or mask.
    """
    offset_checks.check_layout(offset, mask)
    pattern, (kh, kw) = _pattern(name, kernel_size)
    geometry = offset_checks.check_offset(offset, (kh, kw), 1, 0, 1)
    N, G, (Ho, Wo) = offset.shape[0], geometry.offset_groups, geometry.output
    if ("m" in pattern.d) != (mask is not None):
        raise ValueError(
            f"mask is {'None' if mask is None else 'given'}, expected"
            f" {'an array' if mask is None else 'None'} for {name!r}"
        )
    for letter, size in (("n", N), ("g", G)):
        if letter not in pattern.axes and size != 1:
            words = {"n": "images", "g": "offset groups"}
            raise ValueError(f"offset has {size} {words[letter]}, expected 1 for {name!r}")
    whole = offset.reshape(N, G, kh, kw, 2, Ho, Wo)
    planes = {"y": whole[:, :, :, :, 0], "x": whole[:, :, :, :, 1]}
    if mask is not None:
        if mask.shape != (N, G * kh * kw, Ho, Wo):
            raise ValueError(f"mask has shape {mask.shape}, expected {(N, G * kh * kw, Ho, Wo)}")
        planes["m"] = mask.reshape(N, G, kh, kw, Ho, Wo)
    stacked = np.stack([planes[letter] for letter in pattern.d], axis=4)
    letters = pattern.axes.replace(" ", "")
    sizes = dict(zip("ngyxdhw", stacked.shape, strict=True))
    moved = _moved(stacked, "ngyxdhw", letters)
    return moved.reshape([int(np.prod([sizes[a] for a in w])) for w in pattern.axes.split()])


def _pattern(name: Any, kernel_size: int | Pair | None) -> tuple[_Pattern, Pair]:
    if not isinstance(name, str) or name not in LAYOUTS:
        raise ValueError(f"name is {name!r}, expected one of {', '.join(map(repr, LAYOUTS))}")
    pattern = LAYOUTS[name]
    if ("y" in pattern.axes) != (kernel_size is not None):
        expected = "None" if kernel_size is not None else "an int or a pair of ints (y, x)"
        raise ValueError(f"kernel_size is {kernel_size!r}, expected {expected} for {name!r}")
    return pattern, (1, 1) if kernel_size is None else pair("kernel_size", kernel_size, at_least=1)


def _factor(word: str, sizes: dict[str, int], known: set[str]) -> tuple[int, str]:
    """The product of a word's known letters, and the one letter that is not known, if any."""
    factor = int(np.prod([sizes[a] for a in word if a in known]))
    return factor, "".join(a for a in word if a not in known)


def _moved(a: Array, old: str, new: str) -> Array:
    """Axes in the order `new`; an axis that either side lacks has size 1."""
    for letter in new:
        if letter not in old:
            a, old = a[..., None], old + letter
    kept = [old.index(letter) for letter in new]
    dropped = [i for i in range(len(old)) if i not in kept]
    return a.transpose(kept + dropped).reshape([a.shape[i] for i in kept])
