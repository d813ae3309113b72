"""What notebook 12 draws with: scenes made by hand, the places that layers read, small maps."""

import numpy as np
from figures import ARROW, BLUES, INK, P0, PN, P, Q, arrows, dots, picture
from matplotlib.colors import LinearSegmentedColormap
from receptive_figures import SIZE, objects

from deformable_convnets.reference import R

WEIGHTS = np.array([0.15, 0.8, 0.15, 0.8, 1, 0.8, 0.15, 0.8, 0.15])  # small outside the objects
HEADS = PN, P, Q, ARROW
SIGNED = LinearSegmentedColormap.from_list("signed", (P0, "white", Q))


def by_hand(rng):
    """A scene of two objects, an output on each, and where eight layers read: made by hand.

    Returns H W, two centres, and for `gallery` of each layer two pairs (places, weights or None).
    """
    parts = list(objects(SIZE))
    scene = 0.85 - 0.35 * sum(mask for *_, mask in parts)
    centres, shapes = [c for _, c, *_ in parts], [A for _, _, A, _ in parts]
    grid, theta = 4 * R(3), rng.uniform(-3.5, 3.5, (9, 2))
    middle, A = np.array(SIZE) / 2, np.array([[0.9, -0.3], [0.3, 0.9]])
    star = R(3)[[0, 1, 2, 3, 5, 6, 7, 8]] * np.arange(1, 3)[:, None, None]
    layers = {
        "convolution: nobody moves it": lambda c, shape: (c + grid, None),
        "atrous: dilated, by hand": lambda c, shape: (c + 2 * grid, None),
        "transformer: one warp per image": lambda c, shape: ((c + grid - middle) @ A.T + middle,
                                                             None),
        "active: one shape, learnt": lambda c, shape: (c + grid + theta, None),
        "deformable: by the place": lambda c, shape: (c + 0.7 * R(3) @ shape.T, None),
        "DCNv2: and how much": lambda c, shape: (c + 0.95 * R(3) @ shape.T, WEIGHTS),
        "dynamic filter: only how much": lambda c, shape: (c + grid, rng.random(9)),
        "attention: points of heads": lambda c, shape: (c + 0.35 * star @ shape.T,
                                                        rng.random((2, 8)) ** 2),
    }  # fmt: skip
    of_both = list(zip(centres, shapes, strict=True))
    return scene, centres, {title: [f(*o) for o in of_both] for title, f in layers.items()}


def gallery(axes, scene, centres, layers):
    """Of each layer the places that it reads for two outputs: (places, weights) or (places, None).

    layers  a title, and for each output (places ..., 2) and their weights (...) from 0 to 1
    """
    for ax, (title, reads) in zip(np.ravel(axes), layers.items(), strict=True):
        picture(ax, scene, title, vmin=0, vmax=1)
        ax.set(xlabel="", ylabel="", xticks=(), yticks=(), xlim=(-0.5, 95.5), ylim=(63.5, -0.5))
        for at, (places, weights) in zip(centres, reads, strict=True):
            each = np.ones(np.shape(places)[:-1]) if weights is None else weights
            for place, weight in zip(np.reshape(places, (-1, 2)), np.ravel(each), strict=True):
                dots(ax, place, P, size=2 + 26 * weight)
            dots(ax, at, P0, marker="X", size=32)


BARS = {"centres": ((20, 16), (20, 56)), "half": (13, 3), "lean": 35}


def bar(p, centre):
    """A bar that stands upright at its centre: 1 inside, fading to 0 over about two pixels."""
    out = np.abs(p - centre) - BARS["half"]
    return np.clip(0.5 - out / 2, 0, 1).prod(axis=-1)


def two_bars(size=(40, 72)):
    """Two bars that lean towards each other, the same upright, and where to look for each pixel.

    Returns H W, H W and H W 2: in each half, `upright` at p is `leaning` at places[p].
    """
    yx = np.moveaxis(np.indices(size), 0, -1).astype(float)
    turns, leaning = [], np.zeros(size)
    for centre, sign in zip(BARS["centres"], (1, -1), strict=True):
        angle = sign * np.deg2rad(BARS["lean"])
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        leaning += bar((yx - centre) @ turn + centre, centre)
        turns.append((yx - centre) @ turn.T + centre)
    left = yx[..., 1:] < size[1] / 2
    upright = sum(bar(yx, centre) for centre in BARS["centres"])
    return leaning, upright, np.where(left, *turns)


def parabolas(ax, f, a, q):
    """1-D: the values, the parabola below each, and the envelope with the points it comes from."""
    t = np.linspace(0, len(f) - 1, 400)
    for v, height in enumerate(f):
        ax.plot(t, height - a * (t - v) ** 2, color=Q if v in q else "0.8", lw=0.8, alpha=0.7)
    at = np.arange(len(f))
    ax.plot(at, f, "o", color=INK, ms=4, label="f(q)")
    ax.plot(at, f[q] - a * (at - q) ** 2, "D-", color=P0, ms=3.5, label="D(p)")
    ax.set(ylim=(min(f) - 1, max(f) + 0.4), xlabel="p, q (pixels)", title="the distance transform")
    ax.legend(loc="lower right", fontsize=8)


def parts_found(ax, scores, p0, anchors, found):
    """Where parts are expected from p0, and where they were found."""
    picture(ax, scores.max(axis=0), "parts, expected and found", cmap=BLUES)
    dots(ax, anchors, PN, "expected", size=60, hollow=True)
    arrows(ax, anchors, found)
    dots(ax, found, P, "found", size=40)
    dots(ax, p0, P0, "the object, $p_0$", marker="X", size=50)
    ax.legend(loc="lower right", fontsize=8)


def weights_of(ax, values, title, form=None):
    """A filter as a map with both signs; with a `form` what is not 0 is written into it."""
    largest = np.abs(values).max()
    ax.imshow(values, cmap=SIGNED, vmin=-1.3 * largest, vmax=1.3 * largest)
    ax.set(title=title, xticks=(), yticks=())
    for (y, x), value in np.ndenumerate(values):
        if form and value:
            colour = "white" if abs(value) > 0.7 * largest else "black"
            ax.text(x, y, form.format(value), ha="center", va="center", size=8, color=colour)


def curves(ax, at, lines, legend="best", **labels):
    """Lines over one axis, by their names; up to three, and all beyond five, are dashed."""
    styles = ("-", "--", "-.") if len(lines) <= 3 else ("-",)
    for i, (name, values) in enumerate(lines.items()):
        colour, style = (PN, Q, P, P0, INK)[i % 5], "--" if i >= 5 else styles[i % len(styles)]
        ax.plot(at, values, style, color=colour, label=name, lw=1.8)
    ax.set(**labels)
    if legend:
        ax.legend(fontsize=8, loc=legend)


def moved_bins(ax, k, centres, move):
    """Arrows from the centres of k x k bins to where they are moved."""
    start = centres.reshape(k * k, 2)
    dots(ax, start, PN, size=18, hollow=True)
    arrows(ax, start, start + move.reshape(k * k, 2), ARROW)


def queries(axes, maps, places, size=14):
    """On each map its points of every head, heads points 2; those of the second half as rings."""
    for ax, x, at in zip(axes, maps, places, strict=True):
        picture(ax, x, f"{x.shape[0]} x {x.shape[1]} pixels")
        for m, points in enumerate(at):
            dots(ax, points, HEADS[m % len(HEADS)], size=size, hollow=m >= len(HEADS))
        dots(ax, at.mean(axis=(0, 1)), P0, marker="X", size=3 * size)
    for ax in axes[1:]:
        ax.set(ylabel="")
