"""Notebook 3: drag the nine taps of one output pixel, equation (2)."""

from functools import partial
from typing import Any

import numpy as np
from figures import INK, P0, PN, P

from deformable_convnets.reference import R, conv2d, deform_conv2d, sample, sampling_points

from . import shapes
from .board import Board, Handle, Scene

HEADS = ("tap", "Δpₙ", "w(pₙ)", "x(p)", "product")
STOPS = (38, 134, 182, 236, 296)  # right ends of the columns of the table, in 590ths of the board


def drag_taps(
    x: np.ndarray, weight: np.ndarray, p0: tuple[int, int], offset: np.ndarray | None = None
) -> Board:
    """A Board on which the taps of the filter `weight` (3 3) can be dragged over x (H W).

    offset  9 2: where each tap starts, relative to p0 + p_n; nothing is moved unless given
    """
    H, W = x.shape
    points = np.add(p0, R(3)) + (0 if offset is None else offset)
    taps = [Handle(f"tap {n}", y, z, P, str(n)) for n, (y, z) in enumerate(points)]
    return Board(
        "Drag a tap: one output pixel of equation (2)", x, view=(-0.5, -0.5, H - 0.5, 2 * W - 0.5),
        handles=[Handle("p0", *p0, P0, "p₀", whole=True), *taps], carry=True,
        limits=(-0.5, -0.5, H - 0.5, W - 0.5), colour_range=(x.min(), x.max()),
        draw=partial(draw, x, weight),
        help="Drag a green tap. Drag p₀, or click, for another output pixel; its taps go along. "
        "Keys: Tab, then the arrows; with Shift, smaller steps.",
    )  # fmt: skip


def output(x: np.ndarray, weight: np.ndarray, p0: np.ndarray, moves: np.ndarray) -> Any:
    """y(p0) of the deformable convolution and of the plain one, and p0 + p_n + Delta p_n (9 2)."""
    offset = np.zeros((1, 18, *x.shape))
    offset[0, :, *p0] = moves.ravel()
    x, weight = x[None, None], weight[None, None]
    y = deform_conv2d(x, offset, weight, padding=1)[0, 0, *p0]
    plain = conv2d(x, weight, padding=1)[0, 0, *p0]
    return y, plain, sampling_points(offset, 3, padding=1)[0, 0][:, *p0]


def draw(x: np.ndarray, weight: np.ndarray, handles: np.ndarray, _: dict[str, Any]) -> Scene:
    """The regular grid, where its taps have gone, and a row of the sum for each."""
    p0 = handles[0].astype(int)
    moves = handles[1:] - handles[0] - R(3)
    y, plain, points = output(x, weight, p0, moves)
    values = sample(x[None], points)[0]
    marks = [
        shapes.boxes([(*(p0 - 0.5), 1, 1)], P0, 2.5),
        shapes.dots(p0 + R(3), PN, 17, hollow=True),
        shapes.arrows(p0 + R(3), points, P),
        *rows(x.shape, moves, weight.ravel(), values, y),
    ]
    away = np.hypot(*moves.T)
    far = int(away.argmax())
    note = "All offsets are 0: this is the plain convolution."
    if away[far] > 1e-9:
        note = (
            f"Tap {far} has moved furthest, by {away[far]:.2f} pixels. Its offset is in channels "
            f"{2 * far} (dy) and {2 * far + 1} (dx), at output pixel ({p0[0]}, {p0[1]})."
        )
    readout = [("p₀", f"({p0[0]}, {p0[1]})"), ("y(p₀)", f"{y:.3f}"),
               ("plain convolution", f"{plain:.3f}")]  # fmt: skip
    return Scene(marks, readout, note)


def rows(
    size: tuple[int, int], moves: np.ndarray, weights: np.ndarray, values: np.ndarray, y: float
) -> list[shapes.Shape]:
    """The table of the sum beside the map."""
    H, W = size
    step = H / 11.5
    lines = [HEADS]
    for n, (move, w, value) in enumerate(zip(moves + 0.0, weights, values, strict=True)):
        delta = f"{move[0]:+.2f}, {move[1]:+.2f}" if np.abs(move).max() > 1e-9 else "0, 0"
        lines.append((str(n), delta, f"{w:g}", f"{value:.3f}", f"{w * value:.3f}"))
    lines.append(("", "", "", "sum", f"{y:.3f}"))
    marks = []
    for k, line in enumerate(lines):
        at = [(step * (k + 0.8) - 0.5, W - 0.5 + 2 * W * stop / 590) for stop in STOPS]
        bold = k in (0, len(lines) - 1)
        marks.append(shapes.texts(at, list(line), INK, 12.5, anchor="end", bold=bold))
    level = step * 10.3 - 0.5
    return [*marks, shapes.line([(level, W), (level, 2 * W - 0.5)], INK, 1)]
