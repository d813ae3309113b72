"""Figure 7: where the bins of a RoI are in the image after their move, in Faster R-CNN and R-FCN.

    found = moved_parts(net, images, rois)       of a network whose RoI layers are deformable
    found.moved[r, i, j]                         x1, y1, x2, y2 of bin (i, j) of RoI r

The RoI of the best detection of class k of an image of `size`, from detector.rois_of:

    rois = rois_of([two_stage.detect(net, images, proposals)[0][k].boxes[:1]], size)

Equation (6) moves bin (i, j) by gamma * offset_ij, in sides of the RoI. In Faster R-CNN (Figure 3)
all classes share the offsets; in R-FCN (Figure 4) each class has its own, so the bins go to other
places for another class. Bins are drawn with equal sides, of which those of equation (5) are the
whole pixels that they touch; they may reach beyond the image.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray as Array

from . import boxes
from .door import images_of, on_cpu
from .layers import Linear
from .roi_layers import DeformPsRoiPool, DeformRoiPool
from .tape import Tape
from .two_stage import TwoStage


class Parts(NamedTuple):
    """Of R RoIs: their bins as they are and after their move, both R kh kw 4 in pixels of the
    image, and the class R whose offsets moved them."""

    still: Array
    moved: Array
    kinds: Array


def moved_parts(
    net: TwoStage, images: Array, rois: Array, kinds: Any = None, *, ops: Any = None
) -> Parts:
    """The bins of rois R 5 (batch index, x1, y1, x2, y2), moved by the deformable layer of scores.

    kinds  the class R of each, from 0, the background, on; None: the surest one that is not
    ops    as of `Tape`
    Raises ValueError for a network whose RoI layer is plain, for boxes that are empty or outside,
    and for a class that it does not have.
    """
    layer = _layer(net)
    if getattr(rois, "shape", ())[1:] != (5,):
        found = f"has shape {rois.shape}" if hasattr(rois, "shape") else f"is {type(rois).__name__}"
        raise ValueError(f"rois {found}, expected an array R 5: batch index, x1, y1, x2, y2")
    rois = on_cpu(rois)
    boxes.checked("boxes of rois", rois[:, 1:], images_of(images).shape[2:])
    tape, top = Tape(ops=ops), net.maps(Tape(ops=ops), images)[1]
    if kinds is None:
        kinds = 1 + on_cpu(net.judged(tape, top, rois)[0])[:, 1:].argmax(axis=1)
    kinds = _checked(kinds, len(rois), net.head.classes)
    offset = on_cpu(layer.offset(tape, top, net.as_read(rois, top)))
    R, channels, kh, kw = offset.shape
    groups = channels // 2
    of_class = np.minimum(kinds * groups // net.head.classes, groups - 1)
    own = offset.reshape(R, groups, 2, kh, kw)[np.arange(R), of_class]
    still = bins_of(rois[:, 1:], (kh, kw), released=layer.bins == "mxnet")
    sides = (still[:, -1, -1, 2:] - still[:, 0, 0, :2])[:, ::-1]  # h and w
    move = layer.gamma * own.transpose(0, 2, 3, 1) * sides[:, None, None]
    return Parts(still, still + np.tile(move[..., ::-1], 2), kinds)


def bins_of(given: Array, size: tuple[int, int], *, released: bool = False) -> Array:
    """The bins kh kw of boxes R 4, of equal sides: R kh kw 4.

    released  by the rule "mxnet": corners are rounded
    """
    kh, kw = size
    if released:
        given = np.trunc(given + np.copysign(0.5, given))
    x1, y1, x2, y2 = given.astype(float).T[:, :, None]
    x = x1 + np.arange(kw + 1) * (x2 - x1) / kw
    y = y1 + np.arange(kh + 1) * (y2 - y1) / kh
    made = np.empty((len(given), kh, kw, 4))
    made[..., 0], made[..., 2] = x[:, None, :-1], x[:, None, 1:]
    made[..., 1], made[..., 3] = y[:, :-1, None], y[:, 1:, None]
    return made


def _layer(net: TwoStage) -> DeformRoiPool | DeformPsRoiPool:
    """The deformable layer of scores."""
    if not hasattr(net, "head"):
        raise ValueError(f"{type(net).__name__} has no RoI layer, expected Faster R-CNN or R-FCN")
    layer = getattr(net.head, "pool", None) or net.head.score
    if isinstance(layer, Linear) or not hasattr(layer, "offset"):
        raise ValueError(
            f"the RoI layer is a plain {type(layer).__name__}, expected a deformable one: see"
            " layers.deformable"
        )
    return layer


def _checked(kinds: Any, R: int, classes: int) -> Array:
    kinds = np.asarray(kinds)
    if kinds.shape != (R,) or (R and kinds.dtype.kind not in "iu"):
        raise ValueError(
            f"kinds are {kinds.dtype} of shape {kinds.shape}, expected a whole number for each of"
            f" {R} RoIs"
        )
    wrong = kinds[(kinds < 0) | (kinds >= classes)]
    if wrong.size:
        raise ValueError(f"a kind is {wrong[0]}, expected 0 to {classes - 1}")
    return kinds.astype(int)
