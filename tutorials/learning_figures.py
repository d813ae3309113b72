"""What notebook 5 draws with: points on their way, landscapes of a loss, and curves."""

import numpy as np
from figures import ARROW, BLUES, P0, PN, P, Q, dots, picture


def lattice(y, x):
    """All points (y, x) of two lists of coordinates: len(y) len(x) 2."""
    return np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1)


def on_the_way(ax, start, goal, path, colour=ARROW, size=40):
    """Points start + path[-1] with their trails, and rings where they should go."""
    dots(ax, start + goal, PN, "the goal", size=2 * size, hollow=True)
    for trail in np.moveaxis(start + path, 1, 0):
        ax.plot(*trail.T[::-1], color=colour, lw=1.5)
    dots(ax, start + path[-1], P, r"$p_0 + p_n + \Delta p_n$", size=size)
    ax.set(xlabel="x (pixels)", ylabel="y (pixels)")
    ax.label_outer()


def landscape(ax, loss, places, title):
    """The root of a loss over a lattice of places; white is 0."""
    (y0, x0), (y1, x1) = places[0, 0], places[-1, -1]
    picture(ax, np.sqrt(loss), title, cmap=BLUES, extent=(x0, x1, y1, y0))


def descents(ax, paths):
    """Paths of one point each: a cross at the start, a dot at the end."""
    for path in paths:
        ax.plot(*path.T[::-1], color=P0, lw=1.6)
        dots(ax, path[-1], P, size=30)
        dots(ax, path[0], P0, marker="X", size=40)


def curves(ax, named, title="loss", colours=(P, Q, P0)):
    """The losses of several trainings, on a logarithmic axis."""
    for (name, values), colour in zip(named.items(), colours, strict=False):
        ax.semilogy(values, color=colour, label=name, lw=1.2)
    ax.set(xlabel="step", title=title)
    ax.legend()


def filters_at(ax, x, title, p0, points, size=14):
    """The points (... 2) that some output pixels p0 read from x."""
    picture(ax, x, title, alpha=0.6)
    dots(ax, points, P, size=size)
    dots(ax, p0, P0, marker="X", size=25)


def at_the_border(ax, at, zero, clamped, title):
    """One quantity along a walk through rows -1 to 9, under two rules."""
    ax.plot(at, clamped, color=Q, label="clamped")
    ax.plot(at, zero, color=P, ls="--", label="zero border")
    for edge in ((at[0], -1), (9, at[-1])):
        ax.axvspan(*edge, color="0.9")
    ax.set(title=title, xlabel=r"$p_y$; grey: more than a pixel outside", xlim=at[[0, -1]])
