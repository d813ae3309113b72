"""Notebook 1: turn and stretch the grid R over an image, equation (1)."""

from functools import partial
from typing import Any

import numpy as np
from figures import INK, P0, PN

from deformable_convnets.reference import R, sample

from . import shapes
from .board import Board, Handle, Scene


def turn_grid(
    x: np.ndarray, p0: tuple[float, float], dilation: float = 12.0, degrees: float = 30.0
) -> Board:
    """A Board on which p0 and the last tap of a 3x3 grid can be dragged over x (H W)."""
    H, W = x.shape
    corner = np.add(p0, grid(dilation, degrees)[8])
    return Board(
        "Turn and stretch R", x, view=(-0.5, -0.5, H - 0.5, 1.54 * W - 0.5),
        handles=[Handle("p0", *p0, P0, "p₀"), Handle("the last tap", *corner, PN, "8")],
        draw=partial(draw, x), carry=True, snap=0.5, limits=(0, 0, H - 1, W - 1),
        help="Drag tap 8 to turn and stretch the grid; drag p₀, or click, to move it. "
        "Keys: Tab, then the arrows; with Shift, smaller steps.",
    )  # fmt: skip


def grid(dilation: float, degrees: float) -> np.ndarray:
    """R(3), stretched and turned: 9 2."""
    a = np.deg2rad(degrees)
    return dilation * R(3) @ np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]])


def draw(x: np.ndarray, handles: np.ndarray, _: dict[str, Any]) -> Scene:
    """The nine points, and the nine values that the filter sees."""
    p0, (y, z) = handles[0], handles[1] - handles[0]
    dilation = np.hypot(y, z) / np.sqrt(2)
    degrees = (np.rad2deg(np.arctan2(z, y)) - 45 + 180) % 360 - 180
    points = p0 + grid(dilation, degrees)
    values = sample(x[None], points)[0].reshape(3, 3)
    W, cell = x.shape[1], 0.5 * x.shape[1] / 3
    marks = [
        shapes.line(points[[0, 2, 8, 6, 0]], PN, 1.5, dashed=True),
        shapes.dots(points, PN, 11),
        shapes.texts([(0.06 * W, 1.03 * W)], ["what the filter sees"], INK, 13, anchor="start"),
        *shapes.table(0.1 * W, 1.03 * W, (cell, cell), values, "{:.2f}"),
    ]
    outside = int(((points < 0) | (points > np.subtract(x.shape, 1))).any(axis=1).sum())
    note = f"{outside} of the nine points lie outside the map and fade to 0." if outside else ""
    readout = [("dilation", f"{dilation:.1f}"), ("turned by", f"{degrees:.0f}°"),
               ("mean of the nine values", f"{values.mean():.3f}")]  # fmt: skip
    return Scene(marks, readout, note)
