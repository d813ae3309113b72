"""What notebook 10 draws with: counts beside the paper's, and cells over the pixels they see."""

import numpy as np
from figures import INK, P0, PN, P, Q
from matplotlib.patches import Rectangle

GOOD, BAD = "#CDEBDD", "#F4F4F4"


def additions(ax, rows, title):
    """Bars of parameters in millions, one piece after the other, and where the paper's can be.

    rows  (name, {piece: number}, (low, high) in millions) of each
    """
    colours = {}
    for at, (_, pieces, (low, high)) in enumerate(rows):
        left = 0.0
        for piece, number in pieces.items():
            new = piece not in colours
            colour = colours.setdefault(piece, (Q, PN, "0.6")[len(colours) % 3])
            ax.barh(at, number / 1e6, 0.5, left, color=colour, label=piece if new else None)
            left += number / 1e6
        label = None if at else "the paper, as it is rounded"
        ax.plot([low, high], [at, at], color=P0, lw=3, marker="|", ms=16, mew=3, label=label)
        ax.text(max(left, high) + 0.07, at, f"{left:.3f}", va="center", size=8)
    ax.set_yticks(range(len(rows)), [name for name, *_ in rows])
    ax.invert_yaxis()
    ax.set(title=title, xlabel="million parameters", xlim=(0, 3.1))
    ax.legend(loc="upper right", fontsize=8)


def missing(ax, named, title):
    """Bars of numbers in millions, each with its value."""
    at = np.arange(len(named))
    ax.barh(at, list(named.values()), 0.5, color=P)
    for y, value in enumerate(named.values()):
        ax.text(value + 0.03, y, f"{value:.2f}", va="center", size=8)
    ax.set_yticks(at, list(named))
    ax.invert_yaxis()
    ax.set(title=title, xlabel="million parameters", xlim=(0, 1.85))


def verdicts(ax, numbers, fits, rows, columns, title):
    """A table of numbers in millions; those that fit are on green."""
    for (i, j), number in np.ndenumerate(numbers):
        colour = GOOD if fits[i, j] else BAD
        ax.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, fc=colour, ec="white", lw=2))
        weight = "bold" if fits[i, j] else "normal"
        ax.text(j, i, f"{number / 1e6:.3f}", ha="center", va="center", weight=weight)
    H, W = numbers.shape
    ax.set(xlim=(-0.5, W - 0.5), ylim=(H - 0.5, -0.5), title=title)
    ax.set_xticks(range(W), columns)
    ax.set_yticks(range(H), rows)
    ax.tick_params(length=0)
    for side in ax.spines.values():
        side.set_visible(False)


def overheads(ax, rows):
    """Of each (name, share of multiply-adds, share of time) two dots, in percent."""
    for at, (_, work, seconds) in enumerate(rows):
        ax.plot([100 * work, 100 * seconds], [at, at], color="0.8", lw=3, zorder=1)
        for share, colour, marker in ((work, Q, "o"), (seconds, P0, "s")):
            name = ("more multiply-adds, counted", "more time, not re-verified")[colour == P0]
            ax.plot(100 * share, at, marker, color=colour, ms=8, label=None if at else name)
            ax.annotate(f"{100 * share:.1f} %", (100 * share, at), (0, 8), ha="center", size=8,
                        textcoords="offset points")  # fmt: skip
    ax.set_yticks(range(len(rows)), [name for name, *_ in rows])
    ax.set_xscale("log")
    ax.set_xticks([0.5, 1, 2, 5, 10, 20, 40], ["0.5", "1", "2", "5", "10", "20", "40"])
    ax.minorticks_off()
    ax.set(xlim=(0.4, 50), ylim=(len(rows) - 0.5, -0.7), xlabel="%, of the plain network",
           title="three deformable layers, and RoI layers where there are any")  # fmt: skip
    ax.legend(loc="upper right", fontsize=8)


def by_stage(ax, networks):
    """Bars of the weights of each stage in millions, of {network: {stage: number}}."""
    width = 0.8 / len(networks)
    for n, ((name, stages), colour) in enumerate(zip(networks.items(), (P, Q), strict=False)):
        at = np.arange(len(stages)) + (n - (len(networks) - 1) / 2) * width
        numbers = [number / 1e6 for number in stages.values()]
        ax.bar(at, numbers, 0.92 * width, color=colour, label=f"{name}: {sum(numbers):.2f}")
        for x, number in zip(at, numbers, strict=True):
            ax.text(x, number + 0.5, f"{number:.2f}", ha="center", size=7.5)
        ax.set_xticks(range(len(stages)), list(stages))
    ax.set(title="weights without norms, in millions", ylabel="millions", ylim=(0, 43))
    ax.legend()


def tower(ax, size, layers, cell, title):
    """One axis: pixels below, then the cells of each layer, each above the pixel at its centre.

    layers  (stride, padding) of layers of 3 taps
    cell    of the last map: what it sees is drawn, with its centre and the pixel it is projected to
    """
    pixels, stride, centre = np.arange(size), 1, 0
    ax.plot(pixels, np.zeros(size), "s", color=Q, ms=9, mfc="white", zorder=3)
    maps = [(pixels, size, 0)]
    for level, (s, p) in enumerate(layers, start=1):
        count = (maps[-1][1] + 2 * p - 3) // s + 1
        centre, stride = centre + stride * (1 - p), stride * s
        places = centre + stride * np.arange(count)
        ax.plot(places, np.full(count, level), "o", color=INK, ms=8, mfc="white", zorder=3)
        maps.append((places, count, (s, p)))
    seen = {cell}
    for level in range(len(layers), 0, -1):
        places, _, (s, p) = maps[level]
        below, count, _ = maps[level - 1]
        pairs = [(i, s * i - p + tap) for i in seen for tap in range(3)]
        for i, j in pairs:
            if 0 <= j < count:
                ax.plot([places[i], below[j]], [level, level - 1], color=PN, lw=1.2, zorder=1)
        seen = {j for _, j in pairs if 0 <= j < count}
    ax.plot(sorted(seen), np.zeros(len(seen)), "s", color=Q, ms=9, zorder=4)
    ends = maps[-1][0][cell], stride * cell
    ax.plot(ends[0], -0.45, "^", color=P, ms=10, label="centre of what it sees", clip_on=False)
    ax.plot(ends[1], -0.85, "^", color=P0, ms=10, label="where it is projected", clip_on=False)
    ax.plot(ends[0], len(layers), "o", color=P, ms=11, zorder=5)
    ax.set_yticks(
        range(len(layers) + 1), ["pixels", *(f"layer {n + 1}" for n in range(len(layers)))]
    )
    ax.set(xlim=(-0.7, size - 0.3), ylim=(-1.2, len(layers) + 0.4), title=title, xticks=pixels)


def drifts(ax, named):
    """How far the centres are from where cells are projected, over the maps of networks.

    named  {network: centres in pixels}
    """
    for (name, values), colour in zip(named.items(), (P, Q, P0), strict=False):
        ax.plot(np.arange(len(values)), values, ".-", color=colour, label=name, lw=1.6)
    ax.axhline(0, color=INK, lw=0.6)
    ax.set(xlabel="map, from conv1 to the last block", ylabel="pixels",
           title="centre of the receptive field - projected place")  # fmt: skip
    ax.legend(fontsize=8)
