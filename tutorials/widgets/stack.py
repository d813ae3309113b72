"""Notebook 6: click an activation, and see the 9, 81 or 729 points that it reads."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from figures import ARROW, INK, P0, PN, P

from deformable_convnets.reference import ConvLayer, stacked_points, stacked_shares

from . import shapes
from .board import Board, Handle, Scene

ROOM = 6  # what is seen around the map, in pixels


def click_activation(x: np.ndarray, layers: Sequence[ConvLayer], p: tuple[int, int]) -> Board:
    """A Board on which an activation of a stack of layers can be chosen over a picture x (H W).

    layers  from the input up; each of them gives as many pixels as it reads, H W
    p       the activation at the start
    """
    H, W = x.shape
    counts = [9**n for n in range(len(layers), 0, -1)]
    return Board(
        "Click an activation: the points that it reads", x,
        view=(-ROOM, -ROOM, H - 1 + ROOM, W - 1 + ROOM),
        handles=[Handle("the activation", *p, P0, whole=True)], options={"points": counts},
        draw=partial(draw, x.shape, list(layers)),
        help="Click, or drag the red handle. Keys: Tab, then the arrows.",
    )  # fmt: skip


def draw(
    size: tuple[int, int], layers: list[ConvLayer], handles: np.ndarray, options: dict[str, Any]
) -> Scene:
    """The points of the lowest layers, the nine of the topmost of them, and the plain square."""
    n = round(np.log(options["points"]) / np.log(9))
    p, stack = handles[0], layers[:n]
    points = stacked_points(p, stack).reshape(-1, 2)
    plain = stacked_points(p, [replace(layer, offset=None) for layer in stack]).reshape(-1, 2)
    on_padding = stacked_shares(p, stack, size).ravel() < 1 - 1e-9
    low, high = plain.min(axis=0), plain.max(axis=0)
    square = [low, (low[0], high[1]), high, (high[0], low[1]), low]
    diameter = {9: 9, 81: 7}.get(len(points), 5)
    marks = [
        shapes.dots(points[on_padding], ARROW, diameter),
        shapes.dots(points[~on_padding], P, diameter),
        *([shapes.dots(stacked_points(p, stack[-1:]), PN, 13, hollow=True)] if n > 1 else []),
        shapes.line(square, "white", 4), shapes.line(square, INK, 1.5, dashed=True),
    ]  # fmt: skip
    height, width = np.ptp(points, axis=0)
    across = np.ptp(plain, axis=0)
    readout = [
        ("activation", f"({p[0]:.0f}, {p[1]:.0f})"), ("points", str(len(points))),
        ("height, width", f"{height:.1f}, {width:.1f}"),
        ("without offsets", f"{across[0]:.0f}, {across[1]:.0f}"),
        ("on padding", str(int(on_padding.sum()))),
    ]  # fmt: skip
    rings = "Orange rings: the nine points of the top layer. " if n > 1 else ""
    note = f"{rings}Dashed: the square that the same layers fill without offsets."
    return Scene(marks, readout, note + (" Yellow: on padding." if on_padding.any() else ""))
