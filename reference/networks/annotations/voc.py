"""Pascal VOC: boxes in XML, classes of pixels in PNG, lists of images in text.

In VOC's files the first pixel is 1, and a box contains its last one: xmin = 1 and xmax = W for a
box as wide as the image, which is x1 = 0 and x2 = W here.
"""

from pathlib import Path

import numpy as np
from numpy import ndarray as Array

from ..metrics import sizes
from . import images
from .files import Element, Objects, broken, read, read_xml

CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair",
    "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
    "train", "tvmonitor",
)  # fmt: skip
VOID = 255  # the index of the borders of objects, and of what is too difficult


def objects(path: str | Path, image: str | Path | None = None) -> Objects:
    """The objects of an annotation; the parts of people in it are left out.

    image  the image's own file, whose size is compared if it is given
    """
    root = read_xml(path, "an annotation of VOC (XML)")
    if root.tag != "annotation":
        root.fail("is the root", "<annotation>")
    sides = root.child("size")
    H, W = (sides.child(name).whole(1) for name in ("height", "width"))
    if image is not None:
        images.check_size(image, images.size(image), (H, W), str(path))
    found = root.all("object")
    boxes = np.array([_box(each.child("bndbox"), (H, W)) for each in found], float).reshape(-1, 4)
    return Objects(
        image=root.child("filename").text.strip(),
        size=(H, W),
        boxes=boxes,
        labels=np.array([_class(each.child("name")) for each in found], int),
        ignored=np.array([_difficult(each) for each in found], bool),
        areas=sizes(boxes),
    )


def _class(name: Element) -> int:
    if (text := name.text.strip()) not in CLASSES[1:]:
        name.fail(f"is {text!r}", f"one of {', '.join(CLASSES[1:])}")
    return CLASSES.index(text)


def _difficult(each: Element) -> bool:
    """VOC leaves the flag out where it is 0."""
    flags = each.all("difficult")
    return bool(flags and each.child("difficult").whole(0, 1))


def _box(box: Element, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """x1 y1 x2 y2 with x2 and y2 exclusive, of the first and last pixels, counted from 1."""
    x1, y1, x2, y2 = (box.child(name).number() for name in ("xmin", "ymin", "xmax", "ymax"))
    H, W = size
    if not (1 <= x1 <= x2 <= W and 1 <= y1 <= y2 <= H):
        rule = f"1 <= xmin <= xmax <= W = {W} and 1 <= ymin <= ymax <= H = {H}"
        box.fail(f"is x {x1:g} to {x2:g}, y {y1:g} to {y2:g}", rule)
    return x1 - 1, y1 - 1, x2, y2


def labels(path: str | Path, size: tuple[int, int] | None = None) -> Array:
    """The class of each pixel, H W: -1 where VOC's index is 255, void.

    size  (H, W) of the image, which is compared if it is given
    """
    classes = {i: i for i in range(len(CLASSES))} | {VOID: -1}
    return images.labels(path, classes, f"0 to {len(CLASSES) - 1}, or {VOID}", size)


def names(path: str | Path) -> tuple[str, ...]:
    """The images of a set, from ImageSets/*/*.txt: a name on each line."""
    lines = read(path, "a list of names").decode("utf-8", "replace").splitlines()
    found: set[str] = set()
    for i, line in enumerate(lines, 1):
        if len(line.split()) != 1 or line.strip() in found:
            broken(path, f"at line {i}: it is {line!r}", "one name, which no other line has")
        found.add(line.strip())
    return tuple(line.strip() for line in lines)
