"""Notebook 2: drag p over a small map, and read equations (3), (4) and the inner sum of (7)."""

from functools import partial
from typing import Any

import numpy as np
from figures import BLUES, INK, PN, P, Q

from deformable_convnets.reference import sample, sample_backward

from . import shapes
from .board import Board, Handle, Scene

ROOM = 1.6  # what is seen around the map, in pixels
HEIGHT = 1.9  # of the two profiles, in pixels of the map


def drag_p(x: np.ndarray, p: tuple[float, float] = (0.6, 1.2)) -> Board:
    """A Board on which p can be dragged over the map x (H W)."""
    H, W = x.shape
    return Board(
        "Drag p: its weights, its value, its slopes", x,
        view=(-ROOM, -ROOM, H - 1 + ROOM + 0.5 + HEIGHT, W - 1 + ROOM + 0.5 + HEIGHT),
        limits=(-1.5, -1.5, H + 0.5, W + 0.5), handles=[Handle("p", *p, P, "p")],
        draw=partial(draw, x), options={"border": ("zero", "dcnv1")}, colours=BLUES,
        colour_range=(x.min(), x.max() + 0.6 * np.ptp(x)),
        ticks=(range(-1, H + 1), range(-1, W + 1)),
        help="Drag p, or click. Keys: Tab to p, then the arrows; with Shift, smaller steps.",
    )  # fmt: skip


def at_p(x: np.ndarray, p: np.ndarray, border: str, side: str = "right") -> tuple[float, Any]:
    """x(p), and its slopes along y and x."""
    value = sample(x[None], p[None], border=border)[0, 0]
    slopes = sample_backward(np.ones((1, 1)), x[None], p[None], border=border, side=side).p[0]
    return float(value), slopes


def draw(x: np.ndarray, handles: np.ndarray, options: dict[str, Any]) -> Scene:
    """The four pixels next to p, the profiles through it, and the numbers."""
    p, border = handles[0], options["border"]
    value, slopes = at_p(x, p, border)
    of_left = at_p(x, p, border, "left")[1]
    weights = corners(x, p, border)
    pixels, around = list(np.ndindex(x.shape)), ring(x.shape)
    marks = [
        shapes.texts([(y - 0.2, z) for y, z in around], ["0"] * len(around), "#999999", 13),
        shapes.boxes([(y - 0.5, z - 0.5, 1, 1) for y, z in weights], Q, 2.5),
        shapes.texts([(y - 0.2, z) for y, z in pixels], [f"{x[q]:g}" for q in pixels], INK, 15),
        shapes.texts(
            [(y + 0.27, z + 0.2 * np.sign(z - p[1])) for y, z in weights],  # p hides none
            [f"{w:.2f}" for w in weights.values()], Q, 14, bold=True,
        ),
        *profiles(x, p, border),
    ]  # fmt: skip
    kinked = ["" if a == b else f" (left {a:+.2f})" for a, b in zip(of_left, slopes, strict=True)]
    readout = [
        ("p", f"({p[0]:.2f}, {p[1]:.2f})"), ("x(p)", f"{value:.3f}"),
        ("∂x/∂p_y", f"{slopes[0]:+.2f}{kinked[0]}"), ("∂x/∂p_x", f"{slopes[1]:+.2f}{kinked[1]}"),
        ("sum of the weights", f"{sum(weights.values()):.2f}"),
    ]  # fmt: skip
    return Scene(marks, readout, " ".join(crossing(x, p, border, axis) for axis in (0, 1)))


def ring(size: tuple[int, int]) -> list[tuple[int, int]]:
    """The pixels around a map."""
    (H, W), places = size, np.ndindex(size[0] + 2, size[1] + 2)
    return [(y - 1, z - 1) for y, z in places if y in (0, H + 1) or z in (0, W + 1)]


def corners(x: np.ndarray, p: np.ndarray, border: str) -> dict[tuple[int, int], float]:
    """The pixels q at the corners of the cell of p, those on the map, and their G(q, p)."""
    G = sample_backward(np.ones((1, 1)), x[None], p[None], border=border).x[0]  # G transposed
    y, z = (int(low) for low in np.floor(p))
    near = [(y + i, z + j) for i, j in np.ndindex(2, 2)]
    return {q: float(G[q]) for q in near if 0 <= q[0] < x.shape[0] and 0 <= q[1] < x.shape[1]}


def crossing(x: np.ndarray, p: np.ndarray, border: str, axis: int) -> str:
    """What jumps at the grid line that is nearest to p along an axis."""
    line, there = int(np.floor(p[axis] + 0.5)), p.copy()
    there[axis] = line
    before, after = (at_p(x, there, border, side)[1][axis] for side in ("left", "right"))
    tiny = np.eye(2)[axis] * 2.0**-40
    low, high = (at_p(x, there + s * tiny, border)[0] for s in (-1, 1))
    name = "yx"[axis]
    slope = f"the slope along {name} jumps from {before:+.2f} to {after:+.2f}"
    if np.isclose(before, after):
        slope = f"the slope along {name} stays {after:+.2f}"
    jump = f"the value jumps from {low:.2f} to {high:.2f}"
    value = "the value does not jump" if np.isclose(low, high) else jump
    return f"At {name} = {line} {slope}; {value}."


def profiles(x: np.ndarray, p: np.ndarray, border: str) -> list[shapes.Shape]:
    """x along the row and along the column of p, below and to the right of the map."""
    H, W = x.shape
    low, high = min(0.0, x.min()), max(1e-9, x.max())
    marks = []
    for axis, size, start in ((1, W, H - 1 + ROOM + 0.4), (0, H, W - 1 + ROOM + 0.4)):
        t = np.arange(-1.5, size + 0.5 + 1e-9, 1 / 64)
        path = np.tile(p, (len(t), 1))
        path[:, axis] = t
        up = (sample(x[None], path, border=border)[0] - low) / (high - low) * (HEIGHT - 0.3)
        value, slopes = at_p(x, p, border)
        here = (value - low) / (high - low) * (HEIGHT - 0.3)
        rise = slopes[axis] / (high - low) * (HEIGHT - 0.3)
        run = 0.45 / np.hypot(1, rise)
        tangent = [(p[axis] + s * run, here + s * run * rise) for s in (-1, 1)]
        base = start + HEIGHT if axis else start  # the row's profile stands on its lower edge
        turn = (lambda a, b: (base - b, a)) if axis else (lambda a, b: (a, base + b))  # noqa: B023
        for line in range(-1, size + 1):
            marks.append(shapes.line([turn(line, 0), turn(line, HEIGHT - 0.2)], "#dddddd", 1))
        marks.append(shapes.line([turn(-1.5, 0), turn(size + 0.5, 0)], "#999999", 1))
        marks.append(shapes.line([turn(a, b) for a, b in zip(t, up, strict=True)], Q, 2))
        marks.append(shapes.line([turn(*end) for end in tangent], PN, 4))
        marks.append(shapes.dots([turn(p[axis], here)], P, 11))
        word = f"x along the {('column', 'row')[axis]} of p"
        at = turn(-1.5, HEIGHT) if axis else turn(size + 0.75, HEIGHT)
        marks.append(shapes.texts([at], [word], INK, 12, anchor="start" if axis else "end"))
    return marks
