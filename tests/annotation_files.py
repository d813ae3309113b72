"""Tiny annotations for the tests: three objects, as files and as the pixels that they cover."""

import json

import numpy as np
from PIL import Image

H, W = 6, 9
EXTENTS = np.array([[2, 1, 5, 4], [0, 0, 9, 1], [8, 5, 9, 6]])  # x1 y1 x2 y2, exclusive


def save(path, pixels, colours=None):
    image = Image.fromarray(np.asarray(pixels, np.uint8))
    if colours:
        image.putpalette(list(range(256)) * 3)
    image.save(path)
    return path


def written(path, data):
    path.write_text(data if isinstance(data, str) else json.dumps(data, indent=1))
    return path


def place_of(path, data, keys):
    """How an error of the JSON file begins: where this entry is, found by a mark in its stead."""
    data = json.loads(json.dumps(data))
    entry = data
    for key in keys[:-1]:
        entry = entry[key]
    entry[keys[-1]] = "MARK"
    lines = json.dumps(data, indent=1).splitlines()
    (line,) = (i for i, each in enumerate(lines) if '"MARK"' in each)
    place = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys)
    column = lines[line].index('"MARK"') + 1
    return f"{path} at line {line + 1}, column {column}, {place.removeprefix('.')}: it "


def pixels_of(boxes):
    """The pixels that boxes cover."""
    y, x = np.indices((H, W))
    return np.array([(x1 <= x) & (x < x2) & (y1 <= y) & (y < y2) for x1, y1, x2, y2 in boxes])


def covers(found):
    """Whether boxes cover the pixels of the objects, no more and no fewer, and are their size."""
    sides = found.boxes[:, 2:] - found.boxes[:, :2]
    right = np.array_equal(pixels_of(found.boxes), pixels_of(EXTENTS))
    return right and np.array_equal(sides.prod(axis=1), pixels_of(EXTENTS).sum(axis=(1, 2)))
