"""Cityscapes: classes of pixels in *_labelIds.png, and polygons in *_polygons.json.

Its files have 34 ids, of which 19 are trained and tested, with the numbers 0 to 18. The paper
speaks of 19 categories plus a background one (section 4.1); its released code has the 19 alone.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy import ndarray as Array

from . import images
from .files import Entry, read_json

IDS = {
    "unlabeled": 0, "ego vehicle": 1, "rectification border": 2, "out of roi": 3, "static": 4,
    "dynamic": 5, "ground": 6, "road": 7, "sidewalk": 8, "parking": 9, "rail track": 10,
    "building": 11, "wall": 12, "fence": 13, "guard rail": 14, "bridge": 15, "tunnel": 16,
    "pole": 17, "polegroup": 18, "traffic light": 19, "traffic sign": 20, "vegetation": 21,
    "terrain": 22, "sky": 23, "person": 24, "rider": 25, "car": 26, "truck": 27, "bus": 28,
    "caravan": 29, "trailer": 30, "train": 31, "motorcycle": 32, "bicycle": 33, "license plate": -1,
}  # fmt: skip
CLASSES = (
    "background", "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light",
    "traffic sign", "vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus",
    "train", "motorcycle", "bicycle",
)  # fmt: skip
TRAIN_IDS = {IDS[name]: i for i, name in enumerate(CLASSES[1:])}  # of the ids in the files


class Region(NamedTuple):
    """A polygon: its name, the number in training, -1 for none, and its corners K 2, x and y.

    group  whether it is a group, which cannot be told apart: "cargroup"
    """

    name: str
    train_id: int
    group: bool
    corners: Array


def labels(
    path: str | Path, size: tuple[int, int] | None = None, *, background: bool = False
) -> Array:
    """The class of each pixel of a *_labelIds.png, H W: 0 to 18, and -1 for all that is not tested.

    size        (H, W) of the image, which is compared if it is given
    background  count as the paper does: 0 for what is not tested, then the 19, 1 to 19 (`CLASSES`)
    """
    classes = {i: TRAIN_IDS.get(i, -1) + background for i in range(34)}
    return images.labels(path, classes, "0 to 33, the ids of a *_labelIds.png", size)


def polygons(
    path: str | Path, size: tuple[int, int] | None = None
) -> tuple[tuple[int, int], list[Region]]:
    """(H, W), and the regions of a *_polygons.json, where later ones lie over earlier ones.

    Regions that were deleted are left out. A corner may lie outside the image.
    """
    top = read_json(path, "polygons of Cityscapes (JSON)")
    own = top["imgHeight"].whole(1), top["imgWidth"].whole(1)
    images.check_size(path, own, size, "its image")
    return own, [_region(each) for each in top["objects"] if not _deleted(each)]


def _deleted(each: Entry) -> bool:
    return "deleted" in each.of(dict, "an object {...}") and bool(each["deleted"].whole(0, 1))


def _region(each: Entry) -> Region:
    text = each["label"].of(str, "a name")
    group = text not in IDS and text.endswith("group")
    name = text.removesuffix("group") if group else text
    if name not in IDS:
        each["label"].fail(f"is {text!r}", f"one of {', '.join(IDS)}")
    corners = [corner.numbers("x y") for corner in each["polygon"]]
    if len(corners) < 3:
        each["polygon"].fail(f"has {len(corners)} corners", "3 or more")
    return Region(name, TRAIN_IDS.get(IDS[name], -1), group, np.array(corners))
