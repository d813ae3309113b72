"""What the notebooks draw with. Points are (y, x), in pixels, y downwards; Okabe-Ito colours."""

import io

import matplotlib
import numpy as np
from IPython.display import Image
from matplotlib.cbook import get_sample_data
from PIL import Image as Pillow

matplotlib.use("agg")
import matplotlib.pyplot as plt

P0, PN, P, Q, ARROW, INK = "#D55E00", "#E69F00", "#009E73", "#0072B2", "#F0E442", "#333333"
BLUES = matplotlib.colors.LinearSegmentedColormap.from_list("q", ("white", Q))
GREYS = np.arange(0, 256, 5)
plt.rcParams |= {"axes.titlesize": 10, "axes.labelsize": 9, "font.size": 9, "figure.dpi": 100}


def photograph(height=64):
    """Grace Hopper, from matplotlib's sample data: H H, grey, in 256ths from 0 to 1."""
    with get_sample_data("grace_hopper.jpg") as file:
        image = Pillow.open(file).convert("L").crop((50, 20, 450, 420))
    return np.asarray(image.resize((height, height), Pillow.Resampling.BOX)) / 256


def picture(ax, x, title="", **options):
    """A map as an image, its pixel (0, 0) centred at y = 0, x = 0."""
    ax.imshow(x, **{"cmap": "gray", "interpolation": "nearest", **options})
    ax.set(title=title, xlabel="x (pixels)", ylabel="y (pixels)")


def dots(ax, points, colour, label=None, marker="o", size=40, hollow=False):
    """Points (..., 2), each (y, x)."""
    y, x = np.moveaxis(np.reshape(points, (-1, 2)), -1, 0)
    face, edge, width = ("none", colour, 1.6) if hollow else (colour, "white", min(1, size / 60))
    ax.scatter(x, y, size, label=label, marker=marker, fc=face, ec=edge, lw=width, zorder=3)


def arrows(ax, start, end, colour=INK):
    style = {"arrowstyle": "-|>", "color": colour, "lw": 1.2, "shrinkA": 0, "shrinkB": 3}
    for (y0, x0), (y1, x1) in zip(start, end, strict=True):
        ax.annotate("", (x1, y1), (x0, y0), arrowprops=style, zorder=2)


def few_colours(image):
    """Of 256 colours: greys, and others such that no pixel is far from its own, pale or rare."""
    others = image.quantize(256 - len(GREYS), method=Pillow.Quantize.MAXCOVERAGE).getpalette()
    palette = np.concatenate([np.repeat(GREYS, 3), others]).reshape(-1, 3)
    packed = np.asarray(image) @ np.array([1 << 16, 1 << 8, 1])
    colours, place = np.unique(packed, return_inverse=True)
    apart = np.stack([colours >> 16, colours >> 8 & 255, colours & 255], 1)[:, None] - palette
    nearest = (apart**2).sum(axis=2).argmin(axis=1)
    few = Pillow.fromarray(nearest[place].reshape(packed.shape).astype(np.uint8))
    few.putpalette(palette.astype(np.uint8).tobytes())
    return few


def show(fig, save=None):
    """The figure as a PNG of few colours, which keeps the notebooks small; its titles, as words."""
    large, small = io.BytesIO(), io.BytesIO()
    titles = [fig.get_suptitle(), *(a.get_title(at) for a in fig.axes for at in ("left", "center"))]
    labels = [f"{a.get_ylabel() or 'a picture'} by {a.get_xlabel()}" for a in fig.axes]
    said = "; ".join(filter(None, titles)) or "; ".join(labels)
    fig.savefig(large, format="png", bbox_inches="tight")
    plt.close(fig)
    image = few_colours(Pillow.open(large).convert("RGB"))
    for file in (small, save) if save else (small,):
        image.save(file, format="png", optimize=True)
    return Image(small.getvalue(), alt=said.replace("$", ""))
