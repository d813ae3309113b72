"""What notebook 9 draws with: boxes, parts of RoIs, precision, and numbers beside the paper's."""

import numpy as np
from figures import ARROW, INK, P0, PN, P, Q, arrows, dots, picture
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Rectangle
from segmentation_figures import CLASS_COLOURS

from deformable_convnets.reference.networks import boxes
from deformable_convnets.reference.networks.metrics import Detections

SIZES = ("small", "medium", "large")
COLOURS = (Q, PN, P, P0)
TWO_SIDES = LinearSegmentedColormap.from_list("two sides", (P0, "white", Q))


def scene(ax, image, title=""):
    """A noisy picture 1 S S, without ticks."""
    picture(ax, image[0], title, vmin=-0.8, vmax=1.6)
    ax.set(xlabel="", ylabel="", xticks=[], yticks=[])


def box(ax, found, colour, text="", lw=1.6, **options):
    """Boxes (..., 4), x1, y1, x2, y2 with x2 and y2 exclusive; a text at the first one."""
    for at, (x1, y1, x2, y2) in enumerate(np.reshape(found, (-1, 4))):
        place = (x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1
        ax.add_patch(Rectangle(*place, fc="none", ec=colour, lw=lw, zorder=3, **options))
        if text and not at:
            label(ax, (x1, x2), y1, text, colour)


def label(ax, x, y, text, colour):
    """A text above a place, or below it where it would leave the picture; left or right of it."""
    above, right = y > 6, x[0] > 42
    place = min(x[1], 63) if right else max(x[0], 0), y - 1 if above else y + 1
    aligned = {"ha": "right" if right else "left", "va": "bottom" if above else "top"}
    behind = {"fc": colour, "ec": "none", "pad": 1.2}
    ax.text(*place, text, color="white", size=8, zorder=5, bbox=behind, **aligned)


def detected(ax, found, names, least=0.5, colours=CLASS_COLOURS[1:]):
    """The detections {class: Detections} of a score of `least` or more."""
    for kind, (near, scores) in found.items():
        for one, score in zip(near, scores, strict=True):
            if score >= least:
                colour = colours[(kind - 1) % len(colours)]
                box(ax, one, colour, f"{names[kind]} {score:.2f}")


def surest(found, most=0.5):
    """Of detections {class: Detections} that overlap by more than this only the surest."""
    kinds = np.repeat(list(found), [len(each.scores) for each in found.values()])
    near, scores = (np.concatenate(parts) for parts in zip(*found.values(), strict=True))
    kept = boxes.suppress(near, scores, most)
    return {k: Detections(near[kept][kinds[kept] == k], scores[kept][kinds[kept] == k])
            for k in found}  # fmt: skip


def nine(ax, roi, move=None, k=3, colour=PN, **options):
    """The bins of a RoI x1, y1, x2, y2, of equal size, moved by `move` (k, k, 2) in pixels."""
    x1, y1, x2, y2 = roi
    h, w = (y2 - y1) / k, (x2 - x1) / k
    for i, j in np.ndindex(k, k):
        dy, dx = (0, 0) if move is None else move[i, j]
        x, y = x1 + j * w + dx, y1 + i * h + dy
        box(ax, [x, y, x + w, y + h], colour, lw=1.3, **options)


def parts(ax, image, roi, move, title):
    """Figure 7: a RoI in yellow, its bins, and the bins moved, around the RoI alone."""
    scene(ax, image, title)
    x1, y1, x2, y2 = roi
    nine(ax, roi, colour=PN, ls=":")
    box(ax, roi, ARROW, lw=2.6)
    nine(ax, roi, move, colour=P)
    h, w = y2 - y1, x2 - x1
    grid = [((i + 0.5) * h / 3 + y1, (j + 0.5) * w / 3 + x1) for i, j in np.ndindex(3, 3)]
    centres = np.array(grid) - 0.5
    arrows(ax, centres, centres + move.reshape(9, 2), P0)
    rim, (H, W) = 0.35 * max(h, w), image.shape[1:]
    left, right = max(x1 - rim, 0) - 0.5, min(x2 + rim, W) - 0.5
    ax.set(xlim=(left, right), ylim=(min(y2 + rim, H) - 0.5, max(y1 - rim, 0) - 0.5))


def moved_bins(ax, image, roi, moved, title, rim=6):
    """Figure 7 of `parts.moved_parts`: a RoI in yellow, and its bins k k 4 after their move.

    rim  how much of the image is seen around them, in pixels
    """
    scene(ax, image, title)
    box(ax, roi, ARROW, lw=2.4)
    box(ax, moved, P, lw=1.6 if moved.shape[0] < 5 else 0.7)
    (x1, y1), (x2, y2) = (f(np.vstack([np.reshape(moved, (-1, 4)), roi]), axis=0)[at]
                          for f, at in ((np.min, slice(2)), (np.max, slice(2, 4))))  # fmt: skip
    H, W = image.shape[1:]
    ax.set(xlim=(max(x1 - rim, 0) - 0.5, min(x2 + rim, W) - 0.5),
           ylim=(min(y2 + rim, H) - 0.5, max(y1 - rim, 0) - 0.5))  # fmt: skip


def score_map(ax, x, roi, i, j, limit, k=3):
    """A score map in cells, and the bin (i, j) of a RoI in cells, which reads it."""
    ax.imshow(x, cmap=TWO_SIDES, vmin=-limit, vmax=limit)
    x1, y1, x2, y2 = roi
    h, w = (y2 - y1) / k, (x2 - x1) / k
    box(ax, roi, "0.6", lw=0.8)
    box(ax, [x1 + j * w, y1 + i * h, x1 + (j + 1) * w, y1 + (i + 1) * h], INK, lw=1.8)
    ax.set(xticks=[], yticks=[])
    ax.set_title(f"bin ({i}, {j})", size=8)


def centres_of(ax, proposal, truth):
    """A proposal, the box of its object, and the way from centre to centre."""
    box(ax, proposal, PN, "proposal")
    box(ax, truth, P, "object", ls="--")
    middle = [((b[1] + b[3] - 1) / 2, (b[0] + b[2] - 1) / 2) for b in (proposal, truth)]
    dots(ax, middle[0], PN, size=45)
    dots(ax, middle[1], P, size=45)
    arrows(ax, middle[:1], middle[1:], P0)


def precision_curve(ax, recall, precision, largest, title):
    """The precision at each detection, and the largest from there on."""
    edges = np.concatenate([[0], recall, [recall[-1], 1]])
    heights = np.concatenate([largest[:1], largest, [0, 0]])
    ax.fill_between(edges, heights, step="pre", color=Q, alpha=0.15)
    ax.step(edges, heights, where="pre", color=Q, label="largest from there on")
    ax.plot(recall, precision, "o", color=P0, label="after each detection", zorder=3)
    ax.set(title=title, xlabel="recall", ylabel="precision", ylim=(0, 1.09), xlim=(0, 1.02))


def by_kind(ax, rows, columns, title, within=None, factor=100):
    """A line for each column over the rows of a section; small dots are seeds.

    within  "paper" where the numbers are the paper's
    """
    at = np.arange(len(rows))
    for column, colour in zip(columns, COLOURS, strict=False):
        if within == "paper":
            values = [row["paper"][column] for row in rows]
        else:
            values = [factor * row["values"][column]["mean"] for row in rows]
            seeds = [[factor * v for v in row["values"][column]["seeds"]] for row in rows]
            ax.plot(at, seeds, ".", color=colour, ms=4, alpha=0.7)
        ax.plot(at, values, "o-", color=colour, label=column, ms=5)
    names = [row["label"].replace("deformable ", "def. ").replace(" pooling", "") for row in rows]
    names = [name.replace("convolution", "conv.").replace(", ", ",\n") for name in names]
    ax.set_xticks(at, names, size=8)
    ax.set(title=title, ylabel="%")
    ax.grid(axis="y", color="0.9")
    ax.legend(fontsize=7)


def by_threshold(ax, named, title):
    """Average precision over the thresholds of overlap, {name: {"50": ...}}."""
    for (name, found), colour in zip(named.items(), COLOURS, strict=False):
        steps = [k for k in found if k.isdigit()]
        ax.plot([int(k) / 100 for k in steps], [100 * found[k] for k in steps], "o-", ms=4,
                color=colour, label=name)  # fmt: skip
    ax.set(title=title, xlabel="overlap that counts as right", ylabel="AP (%)", ylim=(0, 102))
    ax.grid(color="0.9")
    ax.legend()


def gains(ax, named, title):
    """Bars of what deformable modules add on small, medium and large objects.

    named  {name: numbers of each size, a mean and maybe those of seeds}
    """
    width = 0.8 / len(named)
    for n, ((name, found), colour) in enumerate(zip(named.items(), COLOURS, strict=False)):
        at = np.arange(3) + (n - (len(named) - 1) / 2) * width
        ax.bar(at, [np.mean(found[s]) for s in SIZES], 0.9 * width, color=colour, label=name)
        for x, size in zip(at, SIZES, strict=True):
            several = np.atleast_1d(found[size])
            if len(several) > 1:
                ax.plot([x] * len(several), several, ".", color=INK, ms=5)
    ax.axhline(0, color=INK, lw=0.8)
    ax.set_xticks(range(3), SIZES)
    ax.set(title=title, ylabel="gain (points of AP)")
    ax.legend(fontsize=8)
