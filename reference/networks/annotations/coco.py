"""COCO: the boxes of all images of a set in one JSON file, instances_*.json.

A box is x, y, w, h, with x and y from the image's left and top edge: x + w is exclusive already.
Category ids have gaps, 1 to 90 for 80 categories, and become classes without gaps. The outlines
of objects are not read, but their areas are: "small" and "large" are said of them.
"""

from collections.abc import Container
from pathlib import Path
from typing import NamedTuple

import numpy as np

from . import images as image_files
from .files import Entry, Objects, read_json

Row = tuple[list[float], int, bool, float]  # box, class, crowd, area
ROUNDING = 0.011  # COCO rounds x, y, w and h to hundredths, so x + w may be W + 0.01


class Instances(NamedTuple):
    """Names of classes, background first; the class of a category id; objects by image id."""

    classes: tuple[str, ...]
    of_category: dict[int, int]
    images: dict[int, Objects]


def instances(
    path: str | Path, images: str | Path | None = None, *, empty: str = "refuse"
) -> Instances:
    """The objects of all images of a set; classes are in the order of their category ids.

    images  the folder of the images' own files, whose sizes are compared if it is given
    empty   what becomes of a box of no width or no height: "refuse" or "drop". COCO's training set
            of 2017 has two, which the released code drops
    """
    if empty not in ("refuse", "drop"):
        raise ValueError(f"empty is {empty!r}, expected 'refuse' or 'drop'")
    top = read_json(path, "instances of COCO (JSON)")
    categories = _by_id(top["categories"])
    order = sorted(categories)
    of_category = {key: i for i, key in enumerate(order, 1)}
    names = tuple(categories[key]["name"].of(str, "a name") for key in order)
    files = _by_id(top["images"])
    rows: dict[int, list[Row]] = {key: [] for key in files}
    sizes = {key: (each["height"].whole(1), each["width"].whole(1)) for key, each in files.items()}
    for each in _by_id(top["annotations"]).values():
        image = _known(each["image_id"], sizes, "images")
        box = _box(each["bbox"], sizes[image], empty)
        kind = of_category[_known(each["category_id"], of_category, "categories")]
        crowd = bool(each["iscrowd"].whole(0, 1))
        if box is not None:
            rows[image].append((box, kind, crowd, _area(each, box)))
    found = {key: _objects(each, sizes[key], rows[key], images) for key, each in files.items()}
    return Instances(("background", *names), of_category, found)


def _by_id(entries: Entry) -> dict[int, Entry]:
    """The entries of a list by their ids, of which none is there twice."""
    found: dict[int, Entry] = {}
    for each in entries:
        key = each["id"].whole(0)
        if key in found:
            each["id"].fail(f"is {key} as at {found[key].place()}", "an id of its own")
        found[key] = each
    return found


def _known(entry: Entry, known: Container[int], where: str) -> int:
    key = entry.whole(0)
    if key not in known:
        entry.fail(f"is {key}", f"an id of `{where}`")
    return key


def _box(entry: Entry, size: tuple[int, int], empty: str) -> list[float] | None:
    """x1 y1 x2 y2, within the image but for the rounding, which is cut off."""
    x, y, w, h = entry.numbers("x y w h")
    H, W = size
    if min(w, h) < 0 or (min(w, h) == 0 and empty == "refuse"):
        entry.fail(f"is {entry.value}", "w > 0 and h > 0 (or empty='drop', where one is 0)")
    if min(x, y, W - x - w, H - y - h) < -ROUNDING:
        entry.fail(
            f"is {entry.value}", f"0 <= x <= x + w <= W = {W} and 0 <= y <= y + h <= H = {H}"
        )
    box = [max(x, 0.0), max(y, 0.0), min(x + w, float(W)), min(y + h, float(H))]
    if box[0] < box[2] and box[1] < box[3]:
        return box
    if empty == "refuse":
        entry.fail(f"is {entry.value}", "some of it in the image (or empty='drop')")
    return None


def _area(entry: Entry, box: list[float]) -> float:
    """That of the outline; of the box where the file says none."""
    if "area" not in entry.of(dict, "an object {...}"):
        return (box[2] - box[0]) * (box[3] - box[1])
    return entry["area"].area()


def _objects(
    entry: Entry, size: tuple[int, int], rows: list[Row], folder: str | Path | None,
) -> Objects:  # fmt: skip
    name = entry["file_name"].of(str, "the name of a file")
    if folder is not None:
        file = Path(folder) / name
        image_files.check_size(file, image_files.size(file), size, f"{entry.path}: {entry.place()}")
    return Objects(
        image=name,
        size=size,
        boxes=np.array([row[0] for row in rows], float).reshape(-1, 4),
        labels=np.array([row[1] for row in rows], int),
        ignored=np.array([row[2] for row in rows], bool),
        areas=np.array([row[3] for row in rows], float),
    )
