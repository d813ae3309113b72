"""Table 5's test at several scales (M): an image is judged at each, and what is found is joined.

Section 4.3 gives the short sides, 480 to 1400 pixels, and no more. Here the boxes of all scales go
through suppression together, and through the box average if that is asked for.

    predicted = at_scales(judge, images, (480, 576, 688))      or two_stage.detect(short_sides=)
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy import ndarray as Array

from ..bilinear import g
from ..geometry import Pair, pair, per_axis
from .boxes import checked
from .detections import Predicted, joined
from .door import images_of, namespace

Judge = Callable[[Array, Sequence[Array] | None], list[Predicted]]


def at_scales(
    judge: Judge, images: Array, short_sides: Sequence[int],
    proposals: Sequence[Array] | None = None,
) -> list[Predicted]:  # fmt: skip
    """Of each image, what is predicted at all scales, with boxes in pixels of `images`.

    judge        predicts at one scale, from images and proposals R_n 4, or None, of that scale
    images       N C H W, which equation (3) resizes
    short_sides  in pixels, one or more
    """
    if not isinstance(short_sides, Sequence):
        raise TypeError(f"short_sides is {short_sides!r}, expected one or more in a list or tuple")
    size = images_of(images).shape[2:]
    sizes = [resized(size, side) for side in short_sides]
    parts = []
    for at in sizes:
        given = None if proposals is None else [
            moved(f"proposals of image {n}", each, size, at) for n, each in enumerate(proposals)
        ]  # fmt: skip
        parts.append(judge(resize(images, at), given))
    if not parts:
        raise ValueError(f"short_sides is {short_sides}, expected one or more, in pixels")
    return [joined(each, sizes, size) for each in zip(*parts, strict=True)]


def resize(x: Array, size: Pair) -> Array:
    """Equation (3): x N C H W at Ho x Wo points, whose pixels cover the same area as those of x.

    As boxes are scaled, so are edges of pixels: p = (j + 1/2) W / Wo - 1/2, within the map.
    """
    xp, matrices = namespace(x), []
    for n, points in zip(x.shape[2:], size, strict=True):
        p = np.clip((np.arange(points) + 1 / 2) * (n / points) - 1 / 2, 0, n - 1)
        matrices.append(xp.asarray(g(np.arange(n), p[:, None]), x.dtype))
    return matrices[0] @ x @ matrices[1].T


def resized(size: Pair, short_side: int) -> tuple[int, int]:
    """(H, W) of an image of `size` whose short side becomes `short_side`; the ratio is rounded."""
    H, W = pair("size", size, at_least=1)
    (side,) = per_axis("short_side", short_side, 1, at_least=1, expected="an int")
    return round(H * side / min(H, W)), round(W * side / min(H, W))


def moved(name: str, given: Array, size: Pair, goal: Pair) -> Array:
    """Boxes R 4 of an image of `size` in one of the size `goal`, both (H, W)."""
    (H, W), (h, w) = size, goal
    high = np.array([w, h, w, h], float)
    return np.minimum(checked(name, given, size) * (high / (W, H, W, H)), high)
