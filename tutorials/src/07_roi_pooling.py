# %% [markdown]
# # 7. RoI pooling
#
# A detector first proposes rectangles, *regions of interest* or RoIs, and then asks of each what is
# in it. The rectangles have all sizes; the layers that answer need always the same number of
# values.
#
# The question: *how does a rectangle of any size become k x k values, how can its bins move, and
# what does a score map have to do with a position?*

# %%
import exercises
import numpy as np
from figures import ARROW, BLUES, INK, P0, PN, P, Q, arrows, dots, photograph, picture, plt, show
from roi_figures import bins, frame, numbers, region
from widgets import drag_bins

from deformable_convnets.reference import (
    deform_ps_roi_pool,
    deform_ps_roi_pool_backward,
    deform_roi_pool,
    deform_roi_pool_backward,
    equations,
    from_layout,
    ps_roi_pool,
    roi_pool,
    roi_pool_backward,
    sample,
    sample_backward,
)  # fmt: skip
from deformable_convnets.reference.oracle.mistakes import diagnose

rng = np.random.default_rng(0)

# %%
face, roi = photograph(128)[None, None], np.array([[0.0, 30, 40, 90, 100]])  # n, x1, y1, x2, y2
parts = np.array([54, 52, 42, 69, 54, 86, 72, 44, 67, 69, 72, 95, 86, 56, 95, 70, 86, 83])
parts = parts.reshape(3, 3, 2)
centres = np.stack(np.meshgrid((49.5, 69.5, 89.5), (39.5, 59.5, 79.5), indexing="ij"), axis=-1)
move = parts - centres
offset = (move / (0.1 * 60)).transpose(2, 0, 1)[None]
plain, deformed = roi_pool(face, roi, 3), deform_roi_pool(face, roi, offset, 3)

# %%
fig, axes = plt.subplots(1, 2, figsize=(8.4, 4.3), layout="constrained")
for ax, title in zip(axes, ("a RoI and its 3x3 bins", "each bin moved by its offset"), strict=True):
    picture(ax, face[0, 0], title)
    region(ax, roi[0])

# %%
bins(axes[0], roi[0], 3)
bins(axes[1], roi[0], 3, move)
arrows(axes[1], centres.reshape(9, 2), parts.reshape(9, 2), ARROW)
dots(axes[1], parts, P, "bin centres, moved", size=35)
axes[1].legend(loc="lower right")
show(fig)

# %% [markdown]
# The yellow rectangle is a proposal, and not a good one: the face is further to the right. On the
# left its nine bins, of which each is averaged into one value. On the right the bins have been
# moved, here by hand, to the forehead, the eyes, the ears, the nose, the mouth and the chin. The
# rectangle stays where it is.
#
# ## The equation
#
# > $$ y(i, j) = \sum_{p \in bin(i, j)} x(p_0 + p) \,/\, n_{ij} \tag{5} $$
# >
# > bin $(i, j)$: $\lfloor i \frac{w}{k} \rfloor \le p_x < \lceil (i + 1) \frac{w}{k} \rceil$ and
# > $\lfloor j \frac{h}{k} \rfloor \le p_y < \lceil (j + 1) \frac{h}{k} \rceil$; section 2.2
#
# The RoI is $w \times h$ pixels large and $p_0$ is its top left corner; $n_{ij}$ is the number of
# pixels of the bin. Two departures, of notation alone. In the paper $i$ goes with $w$, so it counts
# columns; here $(i, j)$ is (row, column), like all positions. And k may be two numbers, (kh, kw).
#
# Two things are easy to overlook. It is a **mean**, although pooling often means a maximum. And one
# end of a bin is a floor, the other a ceiling.
#
# ## By hand, on 3x7 pixels
#
# The RoI is the whole map, $w = 7$, $h = 3$ and $k = 3$. Along x the bins go from
# $\lfloor 0 \rfloor$ to $\lceil 2.33 \rceil$, from $\lfloor 2.33 \rfloor$ to $\lceil 4.67 \rceil$
# and from $\lfloor 4.67 \rfloor$ to $\lceil 7 \rceil$: [0, 3), [2, 5) and [4, 7).

# %%
x = np.array([[1.0, 2, 6, 4, 2, 0, 1], [0, 3, 3, 9, 0, 3, 3], [5, 5, 2, 1, 0, 2, 1]])[None, None]
whole = np.array([[0.0, 0, 0, 7, 3]])
by_hand = [[(1 + 2 + 6) / 3, (6 + 4 + 2) / 3, (2 + 0 + 1) / 3], [2, 4, 2], [4, 1, 1]]
y = roi_pool(x, whole, 3)[0, 0]
ranges = [list(equations.bin_range(j, 3, 7)) for j in range(3)]
read = sum(np.isin(np.arange(7), r).astype(int) for r in ranges)

# %%
fig, axes = plt.subplots(1, 2, figsize=(8.6, 2.6), layout="constrained", width_ratios=(7, 3))
picture(axes[0], x[0, 0], "x, and the bins of a RoI of 3x7 pixels", cmap=BLUES, vmax=20)
numbers(axes[0], x[0, 0])
for i, j in np.ndindex(3, 3):
    edge = 0.05 + 0.07 * (j == 1)
    frame(axes[0], i + edge, ranges[j][0] + edge, 1 - 2 * edge, 3 - 2 * edge, (P0, P, PN)[j], lw=2)

# %%
picture(axes[1], y, "y, the mean of each bin", cmap=BLUES, vmin=0, vmax=20)
numbers(axes[1], y)
axes[0].set(yticks=range(3))
axes[1].set(xlabel="bin j", ylabel="bin i", xticks=range(3), yticks=range(3))
show(fig)

# %% tags=["check"]
assert np.array_equal(y, by_hand)
assert ranges == [[0, 1, 2], [2, 3, 4], [4, 5, 6]]
assert read.tolist() == [1, 1, 2, 1, 2, 1, 1]
assert np.array_equal(equations.roi_pool(equations.Pooling(x, whole, None, (3, 3)))[0, 0], y)

# %% [markdown]
# What to notice: where k does not divide the size, **bins overlap**. Columns 2 and 4 are read
# twice. A bin that ended at a floor would be a different operator, and so would a maximum. The
# checker of the exercises knows both.

# %%
maximum = np.array([[x[0, 0, i, r].max() for r in ranges] for i in range(3)])[None, None]
floor_ends = np.array([[x[0, 0, i, a:b].mean() for a, b in ((0, 2), (2, 4), (4, 7))]
                       for i in range(3)])[None, None]  # fmt: skip
print("a result that", diagnose("roi_pool", maximum, x, whole, 3))
print("a result that", diagnose("roi_pool", floor_ends, x, whole, 3))

# %% tags=["check"]
assert diagnose("roi_pool", maximum, x, whole, 3).startswith("equals the maximum over a bin")
assert "floor, not the ceiling" in diagnose("roi_pool", floor_ends, x, whole, 3)

# %% [markdown]
# torchvision's and mmcv's functions named `roi_pool` take the **maximum**. Only the name is the
# same.
#
# ## Any size in, k x k out
#
# Two RoIs on the photograph, of 64x60 and 17x22 pixels, and their 7x7 values.

# %%
two = np.array([[0.0, 38, 38, 98, 102], [0, 0, 12, 22, 29]])
pooled = roi_pool(face, two, 7)
fig, axes = plt.subplots(1, 3, figsize=(9, 3.2), layout="constrained")
picture(axes[0], face[0, 0], "two RoIs")
for k, box in enumerate(two):
    region(axes[0], box)
    picture(axes[k + 1], pooled[k, 0], f"RoI {k}, averaged", vmin=0, vmax=1)
    axes[k + 1].set(xlabel="bin j", ylabel="bin i")
show(fig)

# %% tags=["check"]
assert pooled.shape == (2, 1, 7, 7)
assert np.allclose(roi_pool(0 * face + 3, two, 7), 3)  # a constant stays what it is
assert np.isclose(roi_pool(face, two, 1)[0, 0, 0, 0], face[0, 0, 38:102, 38:98].mean())
shifted, by = np.roll(face, (5, -3), axis=(2, 3)), np.array([0, -3, 5, -3, 5])
assert np.allclose(roi_pool(shifted, two[:1] + by, 7), pooled[:1])  # moves with its RoI

# %% [markdown]
# ## Which points: three rules
#
# Equation (5) averages pixels. The authors' released operator does something else, and RoIAlign
# (He et al. 2017, not this paper) something else again. All three are *the mean of bilinear samples
# over the points of a bin*; `bins=` chooses how the points are laid.
#
# | `bins` | RoI | points of a bin | outside the map |
# |---|---|---|---|
# | `"paper"` | $h = y_2 - y_1$: x2 and y2 are exclusive | all its pixels | x is 0, and $n_{ij}$ counts it |
# | `"mxnet"` | corners rounded, then inclusive: $h = y_2 + 1 - y_1$, from $y_1 - 0.5$ | a grid, at the *starts* of sub-bins | dropped if further than half a pixel, else moved to the edge |
# | `"align"` | $h = y_2 - y_1$, from $y_1 - 0.5$ | a grid, at the *centres* of sub-bins | 0 if further than a pixel, else moved to the edge |
#
# The grid has `samples` points per axis, 4 unless given. In a few lines, for one axis of a RoI with
# whole corners, inside the map:


# %%
def points_on_axis(rule, first, last, i, k=2, samples=4):
    if rule == "paper":
        return first + 1.0 * np.array(equations.bin_range(i, k, last - first))
    h = last - first + (rule == "mxnet")
    s = np.arange(samples) + (0.5 if rule == "align" else 0)
    return first - 0.5 + (i + s / samples) * h / k


def points_of(rule, i, j, **options):
    y, x = (points_on_axis(rule, 0, 3, b, **options) for b in (i, j))
    return np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(-1, 2)


# %%
def squared(ax, title):
    """Empty pixels (0, 0) to (3, 3)."""
    ax.set(title=title, xlabel="x (pixels)", ylabel="y (pixels)", aspect="equal")
    ax.set(xlim=(-0.8, 3.8), ylim=(3.8, -0.8), xticks=range(4), yticks=range(4))
    for edge in np.arange(-0.5, 4):
        ax.axhline(edge, color="0.85", lw=1)
        ax.axvline(edge, color="0.85", lw=1)


# %% [markdown]
# The box [0, 0, 3, 3] on the 8x8 map 0, 1, 2, ..., 63, in 2x2 bins:

# %%
counting, box = np.arange(64.0).reshape(1, 1, 8, 8), np.array([[0.0, 0, 0, 3, 3]])
colours, rings = (P0, PN, P, Q), (420, 250, 125, 40)
fig, axes = plt.subplots(1, 3, figsize=(9.6, 3.5), layout="constrained")
for ax, rule in zip(axes, ("paper", "mxnet", "align"), strict=True):
    squared(ax, f'bins="{rule}"')
    frame(ax, 0, 0, *(4, 4) if rule == "mxnet" else (3, 3), INK, lw=2)
    for at, (i, j) in enumerate(np.ndindex(2, 2)):
        dots(ax, points_of(rule, i, j), colours[at], size=rings[at] if rule == "paper" else 30)
show(fig)

# %%
print("            samples   bin (0,0)  (0,1)  (1,0)  (1,1)")
for rule, samples in [("paper", None), ("mxnet", 2), ("mxnet", 4), ("align", 2), ("align", 4)]:
    values = roi_pool(counting, box, 2, bins=rule, samples=samples).ravel()
    print(f"{rule:8} {samples or 'pixels':>10} ", "".join(f"{v:9.3f}" for v in values))

# %% [markdown]
# One colour per bin. With `"paper"` some points have rings of several colours: a RoI of 3 pixels
# has the bins [0, 2) and [1, 3), which share the middle row and column.
#
# **Inclusive or exclusive.** Whether the box [0, 0, 3, 3] has 3 or 4 pixels on a side is a
# convention, and libraries differ. The paper says only how large a RoI is. Here x2 and y2 are
# exclusive; the authors' code adds 1. To get the pooling of an inclusive box, add 1 to x2 and y2.

# %% tags=["check"]
exclusive = roi_pool(counting, box, 2).ravel()
inclusive = roi_pool(counting, box + np.array([0, 0, 0, 1, 1]), 2).ravel()
assert exclusive.tolist() == [4.5, 5.5, 12.5, 13.5]
assert inclusive.tolist() == [4.5, 6.5, 20.5, 22.5]  # as PSROIPooling of MXNet and of Paddle
for samples, values in {2: [2.25, 4, 16.25, 18], 4: [3.375, 5.25, 18.375, 20.25]}.items():
    authors = roi_pool(counting, box, 2, bins="mxnet", samples=samples)
    assert authors.ravel().tolist() == values  # as DeformablePSROIPooling without offsets

# %% tags=["check"]
for rule in ("paper", "mxnet", "align"):
    for i, j in np.ndindex(2, 2):
        p = np.clip(points_of(rule, i, j), 0, 7)  # half a pixel outside is moved to the edge
        value = sample(counting[0], p).mean()
        assert np.isclose(value, roi_pool(counting, box, 2, bins=rule)[0, 0, i, j])

# %% [markdown]
# **The 3/8.** On a map whose value is its row, pooling returns the mean row of the points. The mean
# of four starts is at 3/8 of the bin, not in its middle: with `"mxnet"` every bin looks an eighth of
# a bin too far up and to the left.

# %%
rows = np.repeat(np.arange(40.0), 40).reshape(1, 1, 40, 40)
place = {}
for samples in (1, 2, 4, 8):
    value = roi_pool(rows, np.array([[0.0, 8, 8, 23, 23]]), 2, bins="mxnet", samples=samples)
    place[samples] = (value[0, 0, 0, 0] - 7.5) / 8  # its first bin is 8 pixels from 7.5 on

# %%
centred = roi_pool(rows, np.array([[0.0, 8, 8, 24, 24]]), 2, bins="align")[0, 0, 0, 0]
pixels = roi_pool(rows, np.array([[0.0, 8, 8, 24, 24]]), 2)[0, 0, 0, 0]

# %%
fig, ax = plt.subplots(figsize=(8, 2.1), layout="constrained")
for line, (samples, at) in enumerate(place.items()):
    told = ("samples", "their mean") if line == 0 else (None, None)
    dots(ax, [(line, s / samples) for s in range(samples)], Q, told[0], size=45)
    dots(ax, (line + 0.25, at), P0, told[1], marker="X", size=60)

# %%
ax.axvline(0.5, color=INK, ls=":", label="the middle of the bin")
ax.axvline(1, color="0.7")
ax.set(xlim=(-0.03, 1.42), ylim=(3.6, -0.6), yticks=range(4), xticks=np.arange(5) / 4)
ax.set(xlabel="place in the bin", ylabel="samples", yticklabels=place)
ax.legend(loc="right")
show(fig)

# %% tags=["check"]
assert place == {1: 0, 2: 1 / 4, 4: 3 / 8, 8: 7 / 16}
assert all(at == (s - 1) / (2 * s) for s, at in place.items())
assert centred == pixels == 11.5 == 7.5 + 8 / 2  # both are in the middle

# %% [markdown]
# So without offsets the authors' operator is not equation (5), with few samples or many. Corners
# that are not whole differ too: `"mxnet"` rounds them, half away from zero as C does; NumPy's
# `round` rounds half to even.

# %% tags=["check"]
halves = np.array([[0.0, 2.5, 2.5, 8.5, 8.5]])
authors = roi_pool(face, halves, 3, bins="mxnet")
assert np.array_equal(authors, roi_pool(face, halves + 0.5 * (halves > 0), 3, bins="mxnet"))
assert not np.allclose(authors, roi_pool(face, np.round(halves), 3, bins="mxnet"))
for samples in (1, 2, 4, 16, 64):
    authors = roi_pool(counting, box, 2, bins="mxnet", samples=samples).ravel()
    assert not np.allclose(authors, exclusive) and not np.allclose(authors, inclusive)

# %% [markdown]
# ## Bins that move
#
# > $$ y(i, j) = \sum_{p \in bin(i, j)} x(p_0 + p + \Delta p_{ij}) \,/\, n_{ij}, \qquad \Delta p_{ij} = \gamma \cdot \Delta \hat p_{ij} \circ (w, h), \quad \gamma = 0.1 \tag{6} $$
# >
# > section 2.2
#
# One offset per **bin**, not per point: a bin moves as a whole. In general it does not move by whole
# pixels, so x is sampled bilinearly (notebook 2). What is given to `deform_roi_pool` is the
# *normalised* offset $\Delta \hat p$, of shape R 2 k k: channel 0 is dy and channel 1 is dx.
#
# By hand: bin (1, 1) of the 3x7 map has the pixels 3, 9, 0 and the mean 4. Moved down by half a
# pixel it reads halfway to 2, 1, 0, whose mean is 1. So 2.5. To move by half a pixel in a RoI three
# pixels high, the normalised offset must be $0.5 / (0.1 \cdot 3)$.

# %%
half_down = np.zeros((1, 2, 3, 3))
half_down[0, 0, 1, 1] = 0.5 / (0.1 * 3)
moved = deform_roi_pool(x, whole, half_down, 3)[0, 0]
print(moved)

# %% tags=["check"]
assert np.isclose(moved[1, 1], 2.5)
others = np.arange(9) != 4
assert np.array_equal(moved.ravel()[others], y.ravel()[others])
assert np.array_equal(deform_roi_pool(x, whole, 0 * half_down, 3), roi_pool(x, whole, 3))

# %% [markdown]
# The same on the photograph. The middle bin of the proposal is moved up and to the right, onto the
# nose; the other eight values do not change.


# %%
def one_bin(i, j, dy, dx):
    """The 3x3 values of the proposal before and after bin (i, j) has moved."""
    shift, one = np.zeros((3, 3, 2)), [(i, j)]
    shift[i, j] = 6 * dy, 6 * dx  # gamma times h and w, 0.1 * 60
    values = [deform_roi_pool(face, roi, s.transpose(2, 0, 1)[None] / 6, 3)[0, 0]
              for s in (0 * shift, shift)]  # fmt: skip
    fig, axes = plt.subplots(1, 3, figsize=(9, 3.1), layout="constrained")
    picture(axes[0], face[0, 0], f"normalised offset ({dy:+.2f}, {dx:+.2f})")
    return draw_one(fig, axes, shift, one, values)


# %%
def draw_one(fig, axes, shift, one, values):
    region(axes[0], roi[0])
    bins(axes[0], roi[0], 3, chosen=one)
    bins(axes[0], roi[0], 3, shift, chosen=one)
    for ax, value, title in zip(axes[1:], values, ("y, equation (5)", "equation (6)"), strict=True):
        picture(ax, value, title, vmin=0, vmax=1)
        numbers(ax, value, form="{:.3f}", dark_below=0.5)
        frame(ax, *one[0], 1, 1, PN if ax is axes[1] else P, lw=3)
        ax.set(xlabel="bin j", ylabel="bin i", xticks=range(3), yticks=range(3))
    return show(fig)


# %%
one_bin(1, 1, -0.5, 1.5)

# %% [markdown]
# With a running kernel, the cell after the next figure lets you drag all nine bins. The upper two
# tables are what is pooled, before and after; the lower one is the normalised offset of each bin.

# %%
board = drag_bins(face[0, 0], roi[0], offset=offset)
board.figure()

# %% tags=["widget"]
board.play()

# %% [markdown]
# ## Why the offsets are normalised
#
# The same face at half the size has a RoI of half the size. To follow the same parts its bins must
# move by half as many pixels. With $\gamma\,(w, h)$ in front, the *same* nine offsets do it: what
# has been learnt from large objects serves the small ones.

# %%
small, half_roi = photograph(64)[None, None], np.array([[0.0, 15, 20, 45, 50]])
fig, axes = plt.subplots(1, 2, figsize=(8.4, 4.2), layout="constrained")
for ax, image, r in zip(axes, (face, small), (roi, half_roi), strict=True):
    w, h = r[0, 3:] - r[0, 1:3]
    picture(ax, image[0, 0], f"a RoI of {h:.0f}x{w:.0f} pixels, the same offsets")
    region(ax, r[0])
    bins(ax, r[0], 3, 0.1 * np.moveaxis(offset[0], 0, -1) * (h, w))
show(fig)

# %% tags=["check"]
normalised = deform_roi_pool(small, half_roi, offset, 3)
in_pixels = deform_roi_pool(small, half_roi, 2 * offset, 3)  # as many pixels as in the large RoI
assert np.abs(normalised - deformed).max() < 0.005 < 0.15 < np.abs(in_pixels - deformed).max()
unscaled = deform_roi_pool(small, half_roi, offset / 30, 3)
assert "not normalised" in diagnose("deform_roi_pool", unscaled, small, half_roi, offset, 3)

# %% [markdown]
# The authors' code calls $\gamma$ `trans_std`. For `"mxnet"` and `"align"`, $(h, w)$ is the size of
# the table above, in pixels of x, after `spatial_scale`.
#
# ## The gradient
#
# > $$ \frac{\partial y(i, j)}{\partial \Delta p_{ij}} = \frac{1}{n_{ij}} \sum_{p \in bin(i, j)} \sum_q \frac{\partial G(q, p_0 + p + \Delta p_{ij})}{\partial \Delta p_{ij}} \, x(q) \tag{7'} $$
# >
# > appendix A, where it has the number (7) or, in the arXiv version, (8)
#
# The slope of a bin's mean is the mean of the slopes at its points. Here the sum over $p$ is right:
# all points of a bin move together. For the normalised offset multiply by $\gamma\,(h, w)$, and sum
# over the channels that the offset moves. To **x** each point sends $1 / n_{ij}$ of what the bin
# got, through $G^\mathsf{T}$.
#
# By hand, for bin (1, 1) of the 3x7 map, which stands half a pixel down. Its three points lie
# between 3, 9, 0 and 2, 1, 0, so their slopes in y are -1, -8 and 0, and the mean is -3. Times
# $\gamma h = 0.1 \cdot 3$ that is -0.9. `sample_backward` of notebook 2 gives the slopes, a row for
# each point.

# %%
three = np.array([[1.5, 2], [1.5, 3], [1.5, 4]])
at_points = sample_backward(np.ones((1, 3)), x[0], three).p
only_one = (np.arange(9) == 4).reshape(1, 1, 3, 3).astype(float)
by_library = deform_roi_pool_backward(only_one, x, whole, half_down, 3).offset

# %% tags=["check"]
assert at_points[:, 0].tolist() == [-1, -8, 0]
assert np.isclose(by_library[0, 0, 1, 1], -3 * 0.1 * 3)
assert not by_library.reshape(2, 9)[:, others].any()  # no other bin was asked

# %% [markdown]
# The gradient of x, for a `grad_output` of ones:

# %%
ones, tall = np.ones((1, 1, 3, 3)), np.array([[0.0, 3, 2, 10, 9]])
blank, nudge = np.zeros((1, 1, 12, 14)), rng.uniform(-2, 2, (1, 2, 3, 3))
shares = [deform_roi_pool_backward(ones, blank, tall, s, 3).x[0, 0] for s in (0 * nudge, nudge)]
fig, axes = plt.subplots(1, 2, figsize=(8.6, 3.6), layout="constrained")
for ax, share, s in zip(axes, shares, (0, 1), strict=True):
    picture(ax, share, ("bins of equation (5)", "moved bins")[s], cmap=BLUES, vmin=0, vmax=0.5)
    bins(ax, tall[0], 3, 0.7 * np.moveaxis(nudge[0], 0, -1) if s else None)
show(fig)

# %% [markdown]
# On the left the strips that two bins share are
# darker, and where four meet darkest. On the right a bin between pixels sends to a rim of pixels
# less than to its inside.
#
# The check follows the protocol of notebook 4. With a RoI of 8x8 pixels, $\gamma = 1/8$ and small
# dyadic numbers, a central difference is the derivative, bit for bit.

# %%
x3, eight = rng.integers(-8, 9, (1, 2, 12, 13)).astype(float), np.array([[0.0, 2, 3, 10, 11]])
o3 = rng.choice(np.array([-7, -5, -3, -1, 1, 3, 5, 7]) / 8, (1, 2, 4, 4))
gy = rng.integers(-4, 5, (1, 2, 4, 4)).astype(float)
grads = deform_roi_pool_backward(gy, x3, eight, o3, 4, gamma=1 / 8)


# %%
def difference(array, index, h=1 / 16):
    step = np.zeros_like(array)
    step[index] = h
    moves = [(x3 + s * step, o3) if array is x3 else (x3, o3 + s * step) for s in (1, -1)]
    more, less = (deform_roi_pool(a, eight, b, 4, gamma=1 / 8) for a, b in moves)
    return (gy * (more - less)).sum() / (2 * h)


# %% tags=["check"]
assert np.array_equal([difference(o3, i) for i in np.ndindex(o3.shape)], grads.offset.ravel())
assert np.array_equal([difference(x3, i) for i in np.ndindex(x3.shape)], grads.x.ravel())
other = rng.normal(size=x3.shape)
pooled = deform_roi_pool(other, eight, o3, 4, gamma=1 / 8)
assert np.isclose((pooled * gy).sum(), (other * grads.x).sum())  # the adjoint
pooling = equations.Pooling(x3, eight, o3, (4, 4), gamma=1 / 8, part=(4, 4))
assert np.array_equal(equations.roi_pool_backward(gy, pooling)[1], grads.offset)

# %% [markdown]
# Zero offsets and whole corners put every point on a pixel, and so on a kink. There `side="right"`
# and `side="left"` differ, and a central difference is their mean.
#
# ## Where the offsets come from: Figure 3
#
# For RoI pooling, **a fully connected layer** on the plainly pooled RoI predicts the offsets.
# Pooling makes a vector of fixed length from a RoI of any size, and each bin's offset may then
# depend on all of the RoI. There is one set of offsets per RoI, where a convolution has one per
# output pixel. In NumPy it is three lines:

# %%
features, k = rng.normal(size=(1, 5, 20, 24)), 3
boxes = np.array([[0.0, 2, 1, 14, 13], [0, 5, 6, 22, 17]])
fc, fc_bias = rng.normal(size=(2 * k * k, 5 * k * k)) / 4, rng.normal(size=2 * k * k) / 4


def layer(x, fc, fc_bias):
    pooled = roi_pool(x, boxes, k).reshape(len(boxes), -1)
    offset = (pooled @ fc.T + fc_bias).reshape(-1, 2, k, k)
    return deform_roi_pool(x, boxes, offset, k), pooled, offset


# %% tags=["check"]
start, pooled, _ = layer(features, 0 * fc, 0 * fc_bias)
assert np.array_equal(start, roi_pool(features, boxes, k))  # the layer starts as a plain one
gy = rng.normal(size=start.shape)
grad_offset = deform_roi_pool_backward(gy, features, boxes, np.zeros((2, 2, k, k)), k).offset
assert np.abs(grad_offset.reshape(2, -1).T @ pooled).max() > 0.1  # and fc learns at once

# %% [markdown]
# As in notebook 4, x is read twice, once to be pooled and once to decide where; it receives two
# gradients.

# %%
y3, pooled, predicted = layer(features, fc, fc_bias)
sampling = deform_roi_pool_backward(gy, features, boxes, predicted, k)
to_pooled = (sampling.offset.reshape(2, -1) @ fc).reshape(2, 5, k, k)
branch = roi_pool_backward(to_pooled, features, boxes, k)

# %% tags=["check"]
direction, h = rng.normal(size=features.shape), 1e-6
ends = [layer(features + s * direction, fc, fc_bias)[0] for s in (h, -h)]
slope = (gy * (ends[0] - ends[1])).sum() / (2 * h)
assert np.isclose(slope, ((sampling.x + branch.x) * direction).sum(), rtol=1e-5)
assert not np.isclose(slope, (sampling.x * direction).sum(), rtol=1e-2)
assert 2 * 49 * (49 * 256) + 2 * 49 == 1_229_410  # its parameters for 7x7 bins of 256 channels

# %% [markdown]
# The learning rate of such a layer is $\beta$ times that of the others: 1 in general, and 0.01 for
# the fully connected layer of Faster R-CNN (section 2.3).
#
# ## Position-sensitive score maps
#
# R-FCN has no weights after the pooling. Instead, a convolution makes $k^2 (C + 1)$ *score maps*, for
# C classes and the background: one map for each bin of each class. The map of bin (0, 0) says how
# much a place looks like the upper left part of the object. In (5) and (6), x becomes $x_{i,j}$,
# the score map of bin $(i, j)$. Nothing else changes.
#
# Here channel $(o \cdot k + a) \cdot k + b$ is the map of class $o$ for bin $(a, b)$. Give each map
# its own number, and see which bin reads which:

# %%
labels = np.arange(18.0)[None, :, None, None] + np.zeros((1, 18, 12, 12))
by_bin = ps_roi_pool(labels, np.array([[0.0, 1, 2, 10, 11]]), 3)
print(by_bin[0])

# %% tags=["check"]
assert np.array_equal(by_bin[0].ravel(), np.arange(18))  # 2 classes of 9 maps
maps = rng.normal(size=(1, 6, 12, 12))
r = np.array([[0.0, 1.5, 2, 10, 11]])
assert np.array_equal(ps_roi_pool(maps, r, 3, group_size=1), roi_pool(maps, r, 3))

# %% [markdown]
# With `group_size=1` all bins read the same map, and the operator is plain RoI pooling.
#
# Now score maps for a face. A network would learn them; these are made by hand, a soft spot at the
# eyes, the nose and so on. They have a quarter of the image's resolution, as maps of deep layers
# do; `spatial_scale` takes RoIs in pixels of the image to pixels of the map.

# %%
yx = np.moveaxis(np.indices((32, 32)), 0, -1)
distance = np.linalg.norm(yx - parts.reshape(9, 1, 1, 2) / 4, axis=-1)
spots = np.exp(-(distance**2) / (2 * 2.2**2))[None]  # 9 score maps of one class
good = np.array([[0.0, 40, 40, 100, 100]])

# %%
fig, axes = plt.subplots(3, 3, figsize=(5.6, 5.9), layout="constrained", sharex=True, sharey=True)
for c, (i, j) in enumerate(np.ndindex(3, 3)):
    picture(axes[i, j], spots[0, c], f"map {c}: bin ({i}, {j})", cmap=BLUES, vmin=0, vmax=1.2)
    bins(axes[i, j], good[0] / 4, 3, colour="0.75")
    bins(axes[i, j], good[0] / 4, 3, chosen=[(i, j)], colour=P0)
    axes[i, j].set(xlabel="", ylabel="", xlim=(7, 28), ylim=(28, 7))

# %%
fig.supxlabel("x (pixels of the map)", size=9)
fig.supylabel("y (pixels of the map)", size=9)
show(fig)

# %% [markdown]
# Each bin reads its own map, here outlined. **The vote** of a class, in R-FCN, is the mean of its
# k x k values: high when every part is where it should be, as in a RoI that fits. Slide the RoI
# sideways, and the vote falls to nearly nothing. With all spots in one map, read by all bins, it
# falls by less than half (next figure).


# %%
def slid(r, s):
    return r + np.array([0, s, 0, s, 0])


def vote(r, offset=None):
    return deform_ps_roi_pool(spots, r, offset, 3, spatial_scale=1 / 4).mean()


slides = np.arange(-28, 29, 4)
votes = [vote(slid(good, s)) for s in slides]
one_map = spots.max(axis=1, keepdims=True)
blind = [roi_pool(one_map, slid(good, s), 3, spatial_scale=1 / 4).mean() for s in slides]

# %% [markdown]
# ## Deformable, and what (7') does with it
#
# Let the offsets of a RoI climb the gradient of its vote. Nothing else pulls them: neither the
# places of the parts nor the photograph.


# %%
def climb(r, steps=60, rate=40.0):
    offset, all_bins = np.zeros((1, 2, 3, 3)), np.full((1, 1, 3, 3), 1 / 9)
    for _ in range(steps):
        grads = deform_ps_roi_pool_backward(all_bins, spots, r, offset, 3, spatial_scale=1 / 4)
        offset = offset + rate * grads.offset
    return offset


learnt = climb(roi)
climbed = [vote(r, climb(r)) for r in (slid(good, s) for s in slides)]

# %%
fig, (ax, curve) = plt.subplots(1, 2, figsize=(9, 4.1), layout="constrained")
picture(ax, face[0, 0], f"the vote climbs from {vote(roi):.2f} to {vote(roi, learnt):.2f}")
region(ax, roi[0])
bins(ax, roi[0], 3)
bins(ax, roi[0], 3, 0.1 * 60 * np.moveaxis(learnt[0], 0, -1))
dots(ax, parts, Q, "spots of the score maps", size=40)

# %%
for values, label, style in ((votes, "position-sensitive", "o-"), (climbed, "and deformable", "D-"),
                             (blind, "one map for all bins", "s--")):  # fmt: skip
    colour = {"o": PN, "D": P, "s": "0.6"}[style[0]]
    curve.plot(slides, values, style, color=colour, label=label)
curve.set(xlabel="the RoI slides in x (pixels)", ylabel="the vote", ylim=(0, 0.75))
curve.legend(loc="lower center")
ax.legend(loc="lower right")
show(fig)

# %% tags=["check"]
middle = len(slides) // 2
assert slides[middle] == 0 and votes.index(max(votes)) == middle
assert max(votes[0], votes[-1]) < votes[middle] / 10
assert min(blind) > blind[middle] / 2
assert vote(roi, learnt) > 1.5 * vote(roi)
assert min(climbed) > max(votes)

# %% [markdown]
# The bins of a badly placed RoI leave the rectangle and move onto the object, as in Figure 7 of the
# paper. One difference: in a network nobody climbs for each RoI. The offsets are predicted in one
# step, by a layer that has learnt from such gradients.
#
# ## Where the offsets come from: Figure 4
#
# R-FCN has no fully connected layer, and neither has its deformable form. A second convolution
# makes $2 k^2 (C + 1)$ **offset maps**, and the *same* position-sensitive pooling turns them into
# the normalised offsets of a RoI, for each class. `offset` then has 2P channels for P class groups,
# here $P = C + 1$: channel $2c$ is dy of class $c$, channel $2c + 1$ is dx. (In the authors' R-FCN
# this holds for the class scores; the box coordinates of all classes share one set of offsets,
# $P = 1$. So whoever draws the parts of a detection takes the two channels of its class.)

# %%
classes, k = 3, 3
score_maps = rng.normal(size=(1, classes * k * k, 20, 24))
offset_maps = rng.normal(size=(1, 2 * classes * k * k, 20, 24))
offsets = ps_roi_pool(offset_maps, boxes, k)
y4 = deform_ps_roi_pool(score_maps, boxes, offsets, k)
scores = y4.mean(axis=(2, 3))  # the vote

# %% tags=["check"]
assert offsets.shape == (2, 2 * classes, k, k) and y4.shape == (2, classes, k, k)
only_class_1 = deform_ps_roi_pool(score_maps[:, 9:18], boxes, offsets[:, 2:4], k)
assert np.allclose(y4[:, 1:2], only_class_1)  # a class has its maps and its offsets
assert scores.shape == (2, classes)
C, n = 20, 7 * 7
assert n * (C + 1) == 1029 and 2 * n * (C + 1) == 2058  # VOC: score maps, offset maps
assert 2058 * 1024 + 2058 == 2_109_450  # parameters of the 1x1 convolution from 1024 channels

# %% [markdown]
# **Sum or mean.** The paper's text says that the scores of a bin are *summed*; its equation (5)
# divides by $n_{ij}$. The library averages. This is a departure from the text, not from the
# equation. A sum would make large RoIs score higher than small ones on the same constant maps.

# %% tags=["check"]
constant = np.ones((1, 9, 20, 24))
assert np.allclose(ps_roi_pool(constant, boxes, 3), 1)  # whatever the size of the RoI
nine_maps, nine_by_nine = rng.normal(size=(1, 9, 12, 12)), np.array([[0.0, 2, 1, 11, 10]])
summed = 9 * ps_roi_pool(nine_maps, nine_by_nine, 3)  # bins of 3x3 pixels
found = diagnose("ps_roi_pool", summed, nine_maps, nine_by_nine, 3)
assert found.startswith("equals the sum over a bin")

# %% [markdown]
# ## The authors' argument names
#
# Their one operator, DeformablePSROIPooling, serves both forms. Its arguments in terms of
# `deform_ps_roi_pool` with `bins="mxnet"`:
#
# | there | here |
# |---|---|
# | `pooled_size`, `group_size`, `part_size` | `output_size`, `group_size` (1: plain), `part_size` (0 there: `output_size`) |
# | `sample_per_part` | `samples` |
# | `trans_std` | `gamma` |
# | `no_trans` | `offset=None`; this is not equation (5), but the first table above |
# | `output_dim` | the channels of x divided by `group_size` squared |
# | `trans`, channels $2c$, $2c + 1$ | `offset`, channels $2c + 1$, $2c$: there **x comes first** |
#
# The last line is a trap of this paper alone: the same authors' deformable convolution has y first
# (notebook 3). `from_layout` knows it as "mxnet-roi".

# %% tags=["check"]
theirs = rng.normal(size=(2, 2 * classes, k, k))
ours = from_layout(theirs, "mxnet-roi").offset
assert np.array_equal(ours[:, 0::2], theirs[:, 1::2]) and np.array_equal(
    ours[:, 1::2], theirs[:, 0::2]
)
unconverted = deform_ps_roi_pool(score_maps, boxes, theirs, k, bins="mxnet")
found = diagnose("deform_ps_roi_pool", unconverted, score_maps, boxes, ours, k, bins="mxnet")
assert found == "equals the x-first offset order (MXNet's)"

# %% [markdown]
# ## Exercise 1: gather the score maps
#
# Position-sensitive pooling from plain pooling: nine calls of `roi_pool`, of which each gives one
# bin. One image; `x` is 1 (Cout k k) H W.


# %%
def gather_maps(x, rois, k):
    # FILL ME IN (about 6 lines): call roi_pool only; returns R Cout k k
    raise NotImplementedError


# %%
exercises.check("gather_maps", gather_maps)

# %% [markdown]
# ## Exercise 2: find the bias, and undo it
#
# `bins="mxnet"` with k x k bins, `samples` points per axis and $\gamma = 0.1$. Choose an offset that
# moves every point from the start of its sub-bin to its centre.


# %%
def centred_pool(x, rois, k, samples):
    # FILL ME IN (about 3 lines): deform_roi_pool(x, rois, ..., bins="mxnet", samples=samples)
    raise NotImplementedError


# %%
exercises.check("centred_pool", centred_pool)

# %% [markdown]
# ## Exercise 3: a call of the authors' operator
#
# You have the arrays and numbers of a DeformablePSROIPooling call, with its `trans`. Make the same
# call here.


# %%
def authors_call(data, rois, trans, pooled_size, group_size, sample_per_part, trans_std):
    # FILL ME IN (about 5 lines): from_layout, deform_ps_roi_pool
    raise NotImplementedError


# %%
exercises.check("authors_call", authors_call)

# %% [markdown]
# ## Exercise 4: the gradient of the normalised offset
#
# Equation (7') and the chain rule, `bins="paper"`, one class group. `pooling.points(r, 0, i, j)` of
# `equations.Pooling(x, rois, offset, (k, k), gamma=0.1, part=(k, k))` are the points of a bin, and
# `pooling.size(r)` is (h, w).


# %%
def bin_offset_gradient(grad_output, x, rois, offset, k):
    # FILL ME IN (about 9 lines): sample_backward(grad_samples, x[0], points).p has one row per point
    raise NotImplementedError


# %%
exercises.check("bin_offset_gradient", bin_offset_gradient)

# %% [markdown]
# ## What you now know
#
# * RoI pooling of the paper is a mean over pixels, in bins that overlap where k does not divide the
#   size. The released operator and RoIAlign lay other points.
# * A bin moves as a whole, by $\gamma\,(h, w)$ times its normalised offset, and its gradient is the
#   mean of the slopes.
# * The offsets come from a fully connected layer on the pooled RoI, or from offset maps that are
#   pooled like score maps.
# * Position-sensitive pooling gives each bin a map of its own; the vote is the mean over the bins.
# * y comes first here, and x in the authors' RoI operator.
#
# **Next:** networks that learn with these layers: [notebook 8](08_a_small_deeplab.ipynb) trains a
# small DeepLab. Or read `reference/roi_points.py`, the three rules on one axis,
# then `reference/roi_bins.py`, where each bin is a row of a sparse matrix.
