"""Notebook 7: drag the bins of a RoI, equation (6)."""

from functools import partial
from typing import Any

import numpy as np
from figures import ARROW, INK, PN, P

from deformable_convnets.reference import deform_roi_pool, equations, roi_pool

from . import shapes
from .board import Board, Handle, Scene


def drag_bins(
    x: np.ndarray, roi: np.ndarray, k: int = 3, *, offset: np.ndarray | None = None,
    gamma: float = 0.1,
) -> Board:  # fmt: skip
    """A Board on which the k x k bins of a RoI (5,) can be dragged over x (H W).

    offset  1 2 k k, normalised, as in `deform_roi_pool`: where the bins start; 0 unless given
    """
    H, W = x.shape
    h, w = roi[4] - roi[2], roi[3] - roi[1]
    start = centres(roi, k)
    if offset is not None:
        start = start + gamma * np.moveaxis(offset[0], 0, -1).reshape(-1, 2) * (h, w)
    names = list(np.ndindex(k, k))
    handles = [
        Handle(f"bin {name}", *at, P, f"{name[0]}{name[1]}")
        for name, at in zip(names, start, strict=True)
    ]
    return Board(
        "Drag a bin: equation (6)", x, view=(-0.5, -0.5, H - 0.5, 1.54 * W - 0.5),
        handles=handles, draw=partial(draw, x, np.array(roi, float), k, gamma), snap=0.25,
        click=False, help="Drag a green bin; bin 12 is row 1, column 2. "
        "Keys: Tab, then the arrows; with Shift, smaller steps.",
    )  # fmt: skip


def corners(roi: np.ndarray, k: int) -> np.ndarray:
    """The bins of equation (5), k*k 4: y and x of the upper left corner, height and width."""
    _, x1, y1, x2, y2 = roi
    found = []
    for i, j in np.ndindex(k, k):
        rows, cols = equations.bin_range(i, k, y2 - y1), equations.bin_range(j, k, x2 - x1)
        found.append((y1 + rows[0] - 0.5, x1 + cols[0] - 0.5, len(rows), len(cols)))
    return np.array(found)


def centres(roi: np.ndarray, k: int) -> np.ndarray:
    """The middles of the bins, k*k 2."""
    boxes = corners(roi, k)
    return boxes[:, :2] + boxes[:, 2:] / 2


def normalised(roi: np.ndarray, k: int, gamma: float, handles: np.ndarray) -> np.ndarray:
    """The offset 1 2 k k that moves the middles of the bins to these places."""
    h, w = roi[4] - roi[2], roi[3] - roi[1]
    moves = (handles - centres(roi, k)) / (gamma * np.array((h, w)))
    return np.moveaxis(moves.reshape(k, k, 2), -1, 0)[None]


def draw(
    x: np.ndarray, roi: np.ndarray, k: int, gamma: float, handles: np.ndarray, _: dict[str, Any]
) -> Scene:
    """The RoI, its bins before and after, and three tables: (5), (6) and the offsets."""
    offset = normalised(roi, k, gamma, handles)
    plain = roi_pool(x[None, None], roi[None], k)[0, 0]
    y = deform_roi_pool(x[None, None], roi[None], offset, k, gamma=gamma)[0, 0]
    boxes, start = corners(roi, k), centres(roi, k)
    moved = boxes.copy()
    moved[:, :2] += handles - start
    h, w = roi[4] - roi[2], roi[3] - roi[1]
    frame = (roi[2] - 0.5, roi[1] - 0.5, h, w)
    marks = [
        shapes.boxes(boxes, PN, 1), shapes.boxes([frame], ARROW, 3.5),
        shapes.arrows(start, handles, ARROW), shapes.boxes(moved, P, 2.5),
        *tables(x.shape, plain, y, offset[0]),
    ]  # fmt: skip
    far = np.unravel_index(np.abs(offset[0]).max(axis=0).argmax(), (k, k))
    dy, dx = offset[0][:, *far]
    note = "All offsets are 0: this is plain RoI pooling, equation (5)."
    if np.abs(offset).max() > 1e-9:
        pixels = f"({dy * gamma * h:+.2f}, {dx * gamma * w:+.2f}) pixels"
        note = (
            f"Bin ({far[0]}, {far[1]}) has the largest offset, Δp̂ = ({dy:+.2f}, {dx:+.2f}): times "
            f"gamma (h, w) = {gamma:g} ({h:g}, {w:g}) it is {pixels}."
        )
    change = np.abs(y - plain).max()
    readout = [("mean of y", f"{y.mean():.3f}"), ("largest change", f"{change:.3f}")]
    return Scene(marks, readout, note)


def tables(
    size: tuple[int, int], plain: np.ndarray, y: np.ndarray, offset: np.ndarray
) -> list[shapes.Shape]:
    """y of (5), y of (6) and the normalised offsets, beside the map."""
    H, W = size
    k, left, each = len(y), 1.03 * W, H / 3
    h, w = 0.76 * each / k, 0.5 * W / k
    marks, tops = [], [each * n + 0.17 * each - 0.5 for n in range(3)]
    heads = ("y, equation (5)", "y, equation (6)", "Δp̂ = (dy, dx), normalised")
    for top, head in zip(tops, heads, strict=True):
        marks.append(shapes.texts([(top - 0.07 * each, left)], [head], INK, 12.5, anchor="start"))
    marks += shapes.table(tops[0], left, (h, w), plain)
    marks += shapes.table(tops[1], left, (h, w), y)
    for i, j in np.ndindex(k, k):
        dy, dx = offset[:, i, j] + 0.0
        cell = tops[2] + i * h, left + j * w
        word = f"{dy:+.1f} {dx:+.1f}" if np.abs(offset[:, i, j]).max() > 1e-9 else "0 0"
        marks.append(shapes.boxes([(*cell, h, w)], "#999999", 1))
        marks.append(shapes.texts([(cell[0] + h / 2, cell[1] + w / 2)], [word], INK, 11.5))
    return marks
