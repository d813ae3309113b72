"""What can be drawn on a board: plain dictionaries, for the browser and for matplotlib alike.

Places are (y, x) in pixels of the map; sizes of marks and letters are in pixels of the screen.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

Shape = dict[str, Any]


def dots(
    points: ArrayLike, colour: str, size: float = 8, *, hollow: bool = False, name: str = ""
) -> Shape:
    """Points (n, 2)."""
    return {"kind": "dots", "points": rows(points, 2), "colour": colour, "size": size,
            "hollow": hollow, "name": name}  # fmt: skip


def line(points: ArrayLike, colour: str, width: float = 1.5, *, dashed: bool = False) -> Shape:
    """A line through points (n, 2)."""
    points = rows(points, 2)
    return {"kind": "line", "points": points, "colour": colour, "width": width, "dashed": dashed}


def arrows(start: ArrayLike, end: ArrayLike, colour: str) -> Shape:
    """An arrow from each point of `start` (n, 2) to that of `end`."""
    pairs = np.stack((np.reshape(start, (-1, 2)), np.reshape(end, (-1, 2))), axis=1)
    return {"kind": "arrows", "points": rows(pairs, 4), "colour": colour}


def boxes(
    corners: ArrayLike, colour: str, width: float = 1.5, *, fill: str = "none", name: str = ""
) -> Shape:
    """Rectangles (n, 4): y and x of the upper left corner, height and width."""
    return {"kind": "boxes", "points": rows(corners, 4), "colour": colour, "width": width,
            "fill": fill, "name": name}  # fmt: skip


def texts(
    points: ArrayLike, words: list[str], colour: str, size: float = 12, *,
    anchor: str = "middle", bold: bool = False,
) -> Shape:  # fmt: skip
    """Words, each at its point of (n, 2); the point is their middle, start or end."""
    return {"kind": "texts", "points": rows(points, 2), "words": list(words), "colour": colour,
            "size": size, "anchor": anchor, "bold": bold}  # fmt: skip


def table(
    top: float, left: float, cell: tuple[float, float], values: np.ndarray, form: str = "{:.3f}"
) -> list[Shape]:
    """A small map as grey cells with its values written into them, 0 black and 1 white."""
    h, w = cell
    shapes = []
    for (i, j), value in np.ndenumerate(values):
        grey = round(255 * min(max(float(value), 0), 1))
        y, x = top + i * h, left + j * w
        shapes.append(boxes([(y, x, h, w)], "#ffffff", 1, fill=f"#{grey:02x}{grey:02x}{grey:02x}"))
        ink = "#ffffff" if grey < 140 else "#000000"
        shapes.append(texts([(y + h / 2, x + w / 2)], [form.format(value)], ink, 12))
    return shapes


def rows(points: ArrayLike, n: int) -> list[list[float]]:
    """As JSON has it: rows of n numbers; those that are not finite are left out."""
    array = np.reshape(np.asarray(points, float), (-1, n))
    return array[np.isfinite(array).all(axis=1)].tolist()
