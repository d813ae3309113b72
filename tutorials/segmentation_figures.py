"""What notebook 8 shows with: pictures and their classes, losses, tables, Figure 6.

`told` is the content of a file of experiments/results; a `section` is one of its parts.
"""

import numpy as np
from experiments import report
from figures import INK, P0, PN, P, Q, dots, picture
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch

CLASS_COLOURS = "#EEEEEE", P0, PN, P, Q  # background, disk, square, triangle, plus
CLASSES = ListedColormap(CLASS_COLOURS)
SIZES = {"small": P0, "medium": PN, "large": P}
STRIDE = 4


def classes(ax, labels, title=""):
    """A map of classes, one cell of 4 x 4 pixels each."""
    ax.imshow(labels, cmap=CLASSES, vmin=-0.5, vmax=4.5, interpolation="nearest")
    ax.set(title=title, xlabel="x (cells)", ylabel="y (cells)")
    ax.set(xticks=range(0, labels.shape[1], 5), yticks=range(0, labels.shape[0], 5))
    ax.label_outer()


def legend_of_classes(fig, names):
    """One patch for each class, below the figure."""
    patches = [Patch(color=c, label=n) for c, n in zip(CLASS_COLOURS, names, strict=True)]
    fig.legend(handles=patches, loc="outside lower center", ncols=len(names), frameon=False)


def scenes(axes, drawn):
    """Pictures above, the classes of their cells below."""
    for (above, below), scene in zip(np.transpose(axes), drawn, strict=True):
        picture(above, scene.image[0], vmin=-0.6, vmax=1.6)
        above.label_outer(remove_inner_ticks=False)
        classes(below, scene.labels(STRIDE))
    axes[0, 0].set(title="pictures")
    axes[1, 0].set(title="classes of their cells")


def window(ax, thing, half, title):
    """A shape without noise, and the window about its centre in which no class shows."""
    y, x = np.indices((64, 64))
    picture(ax, thing.covers(y, x), title)
    across, down = np.array([-1, 1, 1, -1, -1]), np.array([-1, -1, 1, 1, -1])
    ax.plot(thing.x + half * across, thing.y + half * down, color=P0, lw=2)
    ax.label_outer()


def table(section):
    """Print a section: means and standard deviations of the seeds, and the paper's numbers."""
    own, unit, rows = section["columns"], section["unit"], section["rows"]
    paper = [name for name in rows[-1]["paper"] if name not in own]
    lines = [[section["title"], *own, *(f"paper {name}" for name in paper)]]
    for row in rows:
        beside = {c: f" ({row['paper'][c]})" for c in own if c in row["paper"]}
        cells = [report.shown(row["values"][c], unit) + beside.get(c, "") for c in own]
        lines.append([row["label"], *cells, *(str(row["paper"].get(name, "")) for name in paper)])
    print("\n".join(f"{line[0]:24}" + "".join(f"{c:>18}" for c in line[1:]) for line in lines))


def losses(axes, runs, over=5):
    """Loss curves by label, each the mean over some steps; and the second less the first."""
    for (label, values), colour, style in zip(runs.items(), (INK, P), ("-", "--"), strict=True):
        means = np.convolve(values, np.ones(over) / over, mode="valid")
        axes[0].plot(np.arange(len(means)) + over, means, style, color=colour, label=label)
    axes[0].set(title=f"loss, mean of {over} steps", ylabel="loss", ylim=(0, 1.2))
    axes[0].legend()
    first, second = runs.values()
    axes[1].plot(np.arange(len(first)) + 1, np.subtract(second, first), color=P)
    axes[1].plot(np.arange(len(first) - 1) + 2, np.diff(first), color=INK, lw=0.7, zorder=0)
    axes[1].set(title="green: deformable - plain; black: plain, from step to step")
    axes[1].set(ylim=(-0.3, 0.3))
    for ax in axes:
        ax.set(xlabel="iteration")


def spreads(section, column, rows=None):
    """The values of a column in its unit: means R, and seeds R S."""
    factor = 100 if section["unit"] == "%" else 1
    values = [r["values"][column] for r in section["rows"] if rows is None or r["label"] in rows]
    return [factor * np.array([v[k] for v in values], float) for k in ("mean", "seeds")]


def rising(ax, section, column, label, colour):
    """The rows of a section along x: their means as a thick line, every seed as a thin one."""
    means, seeds = spreads(section, column)
    names = [row["label"] for row in section["rows"]]
    ax.plot(names, means, "o-", lw=2.5, color=colour, label=label)
    ax.plot(names, seeds, ".-", lw=0.7, color=colour, alpha=0.7)


def printed(ax, section, markers=("s-", "^-")):
    """The paper's own numbers of the rows of a section."""
    names = [row["label"] for row in section["rows"]]
    for (column, form), colour in zip(
        zip(section["rows"][0]["paper"], markers, strict=False), (PN, P), strict=False
    ):
        values = [row["paper"][column] for row in section["rows"]]
        ax.plot(names, values, form, color=colour, label=column)


def by_dilation(ax, section, columns, labels=None):
    """Columns over the fixed dilations, and for the deformable row a line and a star."""
    *fixed, last = [row["label"] for row in section["rows"]]
    at = [int(label.split()[-1]) for label in fixed]
    for column, colour in columns.items():
        means, seeds = spreads(section, column)
        ax.plot(at, means[:-1], "o-", color=colour, label=(labels or {}).get(column, column))
        ax.plot(at, seeds[:-1], ".-", lw=0.6, color=colour, alpha=0.5)
        ax.axhline(means[-1], color=colour, ls=":", lw=1)
        ax.plot([max(at) + 1], means[-1:], "*", ms=12, color=colour)
    ax.set(
        xticks=[*at, max(at) + 1], xticklabels=[*at, last], xlabel="dilation of res5", ylabel="%"
    )


def violins(ax, values, controls, title):
    """Distributions by place, and the means of their controls as dashes."""
    places = list(values)
    parts = ax.violinplot([values[p] for p in places], showextrema=False, widths=0.8)
    for body, colour in zip(parts["bodies"], (*SIZES.values(), Q), strict=True):
        body.set(facecolor=colour, alpha=0.6)
    at = np.arange(1, len(places) + 1)
    ax.plot(at, [np.mean(values[p]) for p in places], "o", color=INK, ms=4, label="mean")
    ax.plot(
        at,
        [np.mean(controls[p]) for p in places],
        "_",
        color=INK,
        ms=16,
        label="mean of the control",
    )
    ax.axhline(2, color=INK, ls=":", lw=1, label="before training")
    ax.set(title=title, xticks=at, xticklabels=places, ylim=(1, 4.7))


def pixels(cells):
    """Places in cells as places in pixels of the picture."""
    return STRIDE * np.asarray(cells) + (STRIDE - 1) / 2


def points729(ax, scene, p0, points, shares, title):
    """Figure 6: the points that three layers read for one output, on the picture."""
    picture(ax, scene.image[0], title, vmin=-0.6, vmax=1.6)
    read = points.reshape(-1, 2)[shares.ravel() >= 0.5]
    dots(ax, pixels(read), P, "counts", size=9)
    gone = points.reshape(-1, 2)[shares.ravel() < 0.5]
    dots(ax, pixels(gone), PN, "lost in padding", size=9)
    dots(ax, pixels(p0), P0, "output", marker="X", size=80)
    ax.set(xlim=(-10.5, 73.5), ylim=(73.5, -10.5))
    ax.label_outer()


def rows(ax, section, column="mIoU"):
    """A section as a plot of its rows, downwards: the mean, and every seed."""
    means, seeds = spreads(section, column)
    names = [row["label"] for row in section["rows"]]
    for i, (mean, each) in enumerate(zip(means, seeds, strict=True)):
        ax.plot(each, [i] * len(each), "|", color=INK, ms=9)
        ax.plot(mean, i, "o", color=P if "deform" in names[i] or "active" in names[i] else Q)
    ax.set(yticks=range(len(names)), yticklabels=names, xlabel=f"{column} (%)")
    ax.set(title=section["title"], ylim=(len(names) - 0.5, -0.5))
    ax.grid(axis="x", color="0.9")
