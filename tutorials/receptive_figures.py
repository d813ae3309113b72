"""What notebook 6 draws with: a scene of two objects, points level by level, influence as a map."""

import numpy as np
from figures import BLUES, INK, P0, PN, P, dots, picture

SIZE = 64, 96
OBJECTS = {"large": ((36, 34), (23, 11), 35), "small": ((20, 76), (7, 7), 0)}


def shape(axes, degrees):
    """The matrix that takes a unit circle to an ellipse of these half axes, turned."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    turn = np.array([[c, -s], [s, c]])
    return turn @ np.diag(axes) @ turn.T


def objects(size=SIZE):
    """Per object: its centre, its matrix, and a mask H W, from 1 inside to 0 outside."""
    yx = np.moveaxis(np.indices(size), 0, -1)
    for name, (centre, axes, degrees) in OBJECTS.items():
        matrix = shape(axes, degrees)
        distance = np.linalg.norm((yx - centre) @ np.linalg.inv(matrix).T, axis=-1)
        yield name, np.array(centre), matrix, np.clip(3 * (1.17 - distance), 0, 1)


def scene(rng, size=SIZE):
    """An image H W of the objects, bright on a grey noise, and the pixels of each object."""
    inside = {name: mask > 0.5 for name, _, _, mask in objects(size)}
    image = 0.5 + 0.05 * rng.normal(size=size)
    return np.where(sum(inside.values()), 0.9, image), inside


def levels(ax, image, title, *points):
    """Points of one output: itself, then those of one layer, of two, ..., smaller each time."""
    picture(ax, image, title, vmin=0, vmax=1)
    sizes = {1: (60,), 2: (60, 8), 3: (60, 28, 7)}[len(points)]
    colours = (P0, P) if len(points) == 2 else (P0, PN, P)
    words = {1: "output", 9: "9 points", 81: "81 points", 729: "729 points"}
    for level in reversed(range(len(points))):
        form = {"marker": "X"} if level == 0 else {"hollow": level + 1 < len(points)}
        label = words.get(np.size(points[level]) // np.size(points[0]))
        dots(ax, points[level], colours[level], label, size=sizes[level], **form)


def influence(ax, values, title, outline=None):
    """|influence| H W, its square root as the colour; `outline` is a mask drawn as a line."""
    picture(ax, np.sqrt(np.abs(values) / np.abs(values).max()), title, cmap=BLUES)
    if outline is not None:
        ax.contour(outline, [0.5], colors=[INK], linewidths=1)
