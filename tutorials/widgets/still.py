"""A board as a figure: what `board.js` draws in the browser, drawn by matplotlib."""

import textwrap
from typing import Any

import numpy as np
from figures import INK, plt, show
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from .board import Board, Handle
from .shapes import Shape

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 640, 46, 10, 26, 38  # as in board.js, in pixels of the screen
POINT = 0.72  # of a pixel, at 100 dots per inch


def figure(board: Board, handles: Any, options: dict[str, Any]) -> Any:
    """The board with its handles at these places, as a PNG."""
    y0, x0, y1, x1 = board.view
    scale = (WIDTH - LEFT - RIGHT) / (x1 - x0)
    inner, places = scale * (y1 - y0), np.reshape(handles, (-1, 2))
    scene, height = board.scene(places, **options), inner + TOP + BOTTOM
    fig = plt.figure(figsize=(WIDTH / 100, height / 100))
    box = LEFT / WIDTH, BOTTOM / height, 1 - (LEFT + RIGHT) / WIDTH, inner / height
    ax = fig.add_axes(box, xlim=(x0, x1), ylim=(y1, y0))
    axes(ax, board)
    for shape in scene.shapes:
        DRAW[shape["kind"]](ax, shape)
    for handle, place in zip(board.handles, places, strict=True):
        knob(ax, handle, place)
    readout = "     ".join(f"{label} {value}" for label, value in scene.readout)
    said = "\n".join(textwrap.wrap(readout, 96, replace_whitespace=False))
    note = "\n".join(textwrap.wrap(scene.note, 100))
    fig.text(LEFT / WIDTH, -0.01, said, va="top", color="black", size=9.5)
    drop = 17 * (1 + said.count("\n")) / height
    fig.text(LEFT / WIDTH, -0.015 - drop, note, va="top", color=INK, size=8.5)
    return show(fig)


def axes(ax: Any, board: Board) -> None:
    """The map, its first pixel centred at 0, 0, and the numbers along its axes."""
    H, W = board.image.shape
    extent = (-0.5, W - 0.5, H - 0.5, -0.5)
    ax.imshow(board.pixels(), extent=extent, interpolation="nearest", aspect="auto", zorder=0)
    y0, x0, y1, x1 = board.view
    marks = board.marks()
    ax.set(xlim=(x0, x1), ylim=(y1, y0), xticks=marks["x"], yticks=marks["y"])
    for axis, name, low, high in ((ax.xaxis, "x", x0, x1), (ax.yaxis, "y", y1, y0)):
        at = (np.mean(marks[name][:: len(marks[name]) - 1 or 1]) - low) / (high - low)
        axis.set_label_text(f"{name} (pixels)", **{name if name == "x" else "y": at})
    ax.set_title(board.title, loc="left", size=10)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=3, color="0.6")


def knob(ax: Any, handle: Handle, place: np.ndarray) -> None:
    """A handle, as the browser shows it."""
    y, x = place
    ax.scatter(x, y, (18 * POINT) ** 2, fc=handle.colour, ec="white", lw=1.4, zorder=5)
    ax.text(x, y, handle.text, color="white", size=8, weight="bold", zorder=6,
            ha="center", va="center_baseline", clip_on=True)  # fmt: skip


def dots(ax: Any, shape: Shape) -> None:
    y, x = np.reshape(shape["points"], (-1, 2)).T
    face = "none" if shape["hollow"] else shape["colour"]
    edge, width = (shape["colour"], 1.4) if shape["hollow"] else ("white", 0.5)
    ax.scatter(x, y, (shape["size"] * POINT) ** 2, fc=face, ec=edge, lw=width, zorder=3)


def line(ax: Any, shape: Shape) -> None:
    y, x = np.reshape(shape["points"], (-1, 2)).T
    style = (0, (4, 3)) if shape["dashed"] else "-"
    width = shape["width"] * POINT
    ax.add_line(Line2D(x, y, color=shape["colour"], lw=width, ls=style, zorder=3))


def arrows(ax: Any, shape: Shape) -> None:
    style = {"arrowstyle": "-|>", "color": shape["colour"], "lw": 1.2, "shrinkA": 0, "shrinkB": 3}
    for y0, x0, y1, x1 in shape["points"]:
        if (y0, x0) != (y1, x1):
            ax.annotate("", (x1, y1), (x0, y0), arrowprops=style, zorder=3)


def boxes(ax: Any, shape: Shape) -> None:
    for y, x, h, w in shape["points"]:
        width = shape["width"] * POINT
        look = {"ec": shape["colour"], "fc": shape["fill"], "lw": width, "zorder": 3}
        ax.add_patch(Rectangle((x, y), w, h, **look))


def texts(ax: Any, shape: Shape) -> None:
    side = {"middle": "center", "start": "left", "end": "right"}[shape["anchor"]]
    weight = "bold" if shape["bold"] else "normal"
    look = {"color": shape["colour"], "size": shape["size"] * POINT, "weight": weight}
    for (y, x), word in zip(shape["points"], shape["words"], strict=True):
        ax.text(x, y, word, ha=side, va="center_baseline", zorder=3, clip_on=True, **look)


DRAW = {"dots": dots, "line": line, "arrows": arrows, "boxes": boxes, "texts": texts}
