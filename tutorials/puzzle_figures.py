"""What notebook 11 draws with: the accesses of a `puzzles.Run` to memory."""

import numpy as np
from figures import ARROW, INK, P0, P, Q
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Rectangle

COLOURS = {"read": Q, "write": P, "atomic": P0}
SIGNED = LinearSegmentedColormap.from_list("signed", (Q, "white", P0))


def cells(ax, y, numbers, title, fill):
    """A row of numbered cells, one to a number; `fill` says the colour of each."""
    for i in numbers:
        ax.add_patch(Rectangle((i - 0.45, y - 0.3), 0.9, 0.6, fc=fill(i), ec=INK, lw=0.7))
        ax.text(i, y, i, ha="center", va="center", size=8, color=INK)
    ax.text(-0.9, y, title, ha="right", va="center")


def threads(ax, run, above, below, title=""):
    """Which thread reads which element of the array above, and writes which of the one below."""
    busy = {a[0] for a in run.accesses}
    rows = {above: 2.0, below: 0.0}
    cells(ax, 1, range(run.threads), "threads", lambda t: ARROW if t in busy else "#DDDDDD")
    for name, y in rows.items():
        cells(ax, y, range(run[name].size), f"{name}[i]", lambda i: "white")
    for edge in range(run.block, run.threads, run.block):
        ax.plot((edge - 0.5, edge - 0.5), (0.6, 1.4), color=INK, lw=2)
    for thread, kind, name, i, *_ in run.accesses:
        ends = ((i, 1.68), (thread, 1.32)) if name == above else ((thread, 0.68), (i, 0.32))
        style = {"arrowstyle": "-|>", "color": COLOURS[kind], "lw": 1.1, "shrinkA": 0, "shrinkB": 0}
        ax.annotate("", ends[1], ends[0], arrowprops=style)
    widest = max(run.threads, *(run[name].size for name in rows))
    ax.set(xlim=(-3, widest), ylim=(-0.5, 2.5), title=title)
    ax.axis("off")


def sectors(ax, run, name, title, number=0, across=10):
    """The memory of an array, `across` sectors a row: what one request of a warp touches."""
    a = run[name]
    each = 32 // a.itemsize
    image = np.full(-(-a.size // (each * across)) * each * across, 0.0)
    image[a.size :] = np.nan
    elements = run.requests(name)[number]
    for i in elements:
        first = i // each * each
        image[first : first + each] = np.maximum(image[first : first + each], 0.35)
        image[i] = 1
    ax.imshow(image.reshape(-1, each * across), cmap="Blues", vmin=0, vmax=1.2, aspect="auto")
    for x in range(each, each * across, each):
        ax.axvline(x - 0.5, color="#CCCCCC", lw=0.5)
    ax.set(title=title, xticks=[], yticks=[], xlabel=f"{across} sectors a row")
