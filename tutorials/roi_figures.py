"""What notebook 7 draws with: regions, their bins and the values of the bins."""

import numpy as np
from figures import ARROW, PN, P
from matplotlib.patches import Rectangle

from deformable_convnets.reference import equations


def frame(ax, y, x, h, w, colour, lw=1.6, **options):
    """The outline of h x w pixels, the first of which is (y, x); its edge is half a pixel out."""
    options = {"fc": "none", "ec": colour, "lw": lw, "zorder": 3, **options}
    ax.add_patch(Rectangle((x - 0.5, y - 0.5), w, h, **options))


def region(ax, roi, colour=ARROW, **options):
    """A RoI (n, x1, y1, x2, y2), x2 and y2 exclusive."""
    _, x1, y1, x2, y2 = roi
    frame(ax, y1, x1, y2 - y1, x2 - x1, colour, lw=2.2, **options)


def bins(ax, roi, k, move=None, chosen=None, **options):
    """The bins of equation (5), or of (6) with `move` (k, k, 2) in pixels; those of `chosen`."""
    _, x1, y1, x2, y2 = roi
    for i, j in np.ndindex(k, k):
        if chosen is None or (i, j) in chosen:
            rows, cols = (equations.bin_range(b, k, s) for b, s in ((i, y2 - y1), (j, x2 - x1)))
            dy, dx = (0, 0) if move is None else move[i, j]
            colour = options.get("colour", PN if move is None else P)
            frame(ax, y1 + rows[0] + dy, x1 + cols[0] + dx, len(rows), len(cols), colour, lw=1.5)


def numbers(ax, x, size=9, form="{:.0f}", dark_below=-np.inf):
    """The values of a small map, written into its pixels: white where they are below a limit."""
    for (y, j), value in np.ndenumerate(x):
        colour = "white" if value < dark_below else "black"
        ax.text(j, y, form.format(value), ha="center", va="center", size=size, color=colour)
