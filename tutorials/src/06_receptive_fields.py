# %% [markdown]
# # 6. Receptive fields
#
# An output of a deep network is computed from pixels that its own layer never touches: the layer
# reads nine points of a map, each of which was computed from nine points of the map before.
#
# The question: *which pixels of the input does one output of several layers see, how much does each
# of them count, and what do offsets change?*

# %%
import exercises
import numpy as np
from figures import INK, P0, PN, P, Q, arrows, dots, picture, plt, show
from receptive_figures import SIZE, influence, levels, objects, scene
from widgets import click_activation

from deformable_convnets.reference import (
    ConvLayer,
    R,
    deform_conv2d,
    disordered_offset,
    effective_dilation,
    effective_receptive_field,
    g,
    grid_fit,
    influence_spread,
    sample,
    sampling_points,
    stacked_points,
    stacked_shares,
)  # fmt: skip

rng = np.random.default_rng(0)
image, inside = scene(rng)


# %%
def field_by_hand(layers, pull=0.3):
    """Offsets of a 3x3 layer of dilation 2: in an object p_n becomes A p_n, towards its centre."""
    A, shift = np.tile(2 * np.eye(2), (*SIZE, 1, 1)), np.zeros((*SIZE, 2))
    for _, centre, matrix, mask in objects():
        A += mask[..., None, None] * (matrix / layers - A)
        towards = pull * (centre - np.moveaxis(np.indices(SIZE), 0, -1))
        shift += mask[..., None] * (towards - shift)
    move = np.einsum("yxab,nb->nyxa", A - 2 * np.eye(2), R(3)) + shift
    return np.moveaxis(move, -1, 1).reshape(1, 18, *SIZE)


# %%
atrous = ConvLayer(3, padding=2, dilation=2)
deformable = ConvLayer(3, field_by_hand(layers=2), padding=2, dilation=2)
fig, axes = plt.subplots(1, 2, figsize=(9.4, 3.7), layout="constrained")
for ax, layer in zip(axes, (atrous, deformable), strict=True):
    p0 = np.array([(44, 39), (19, 75)])
    nine, points = stacked_points(p0, [layer]), stacked_points(p0, [layer, layer])
    levels(ax, image, "without offsets" if layer is atrous else "with offsets", p0, nine, points)
axes[0].legend(loc="lower right")
show(fig)

# %% [markdown]
# > "fixed receptive field in standard convolution (a) and the adaptive receptive field in deformable convolution (b), using two layers" (Figure 5)
#
# That figure, redrawn. Two outputs (crosses), one on a large object, one on a small one.
# The last layer reads nine points (rings). At each of them the layer below reads nine more: 81
# (dots). On the left two layers of dilation 2: the same square for both outputs. On the right the
# offsets are different in different places.
#
# These offsets are **made by hand**, from the outlines of the objects: `field_by_hand` fits the grid
# to the object and pulls it towards the centre. A network would have to learn them. What follows
# holds for any offsets; what these do to these objects is no evidence of what training finds.
#
# ## The equation
#
# > $$ y(p_0) = \sum_{p_n \in R} w(p_n) \cdot x(p_0 + p_n + \Delta p_n) \tag{2} $$
# >
# > section 2.1
#
# In a stack, $x$ is the output of another layer, so equation (2) stands inside itself:
#
# $$ x(p) = \sum_q G(q, p)\, x(q), \qquad
# x(q) = \sum_{p_m \in R} w'(p_m) \cdot x'(q + p_m + \Delta p'_m(q)) $$
#
# The place $p$ may lie between pixels. Then equation (3), the left one, mixes up to four outputs of
# the layer below, each with offsets of its own. The point that stands for tap $m$ of all four has
# the same mixture of their offsets. So the offset field is sampled like any map:
#
# $$ p' = p + p_m + \sum_q G(q, p)\, \Delta p'_m(q) $$
#
# With a stride, padding or dilation, $p + p_m$ is the place of $p$ on the map below plus a tap of
# the dilated grid, as for every convolution.
#
# ## By hand, on 5x6 pixels
#
# Two layers with padding 1. The output is (2, 2), and one tap of the top layer is moved: tap 5,
# which is (0, 1), goes from (2, 3) to (2, 3.5). That is the middle between the pixels (2, 3) and (2, 4).
# In the layer below all offsets are 0 but one: at (2, 3) the centre tap has dx = 1. Halfway to
# (2, 4) it is 1/2, and the centre tap reads at $(2, 3.5) + (0, 0) + (0, 0.5) = (2, 4)$.

# %%
top, below = np.zeros((2, 1, 18, 5, 6))
top[0, 2 * 5 + 1, 2, 2] = 0.5
below[0, 2 * 4 + 1, 2, 3] = 1
two = [ConvLayer(3, below, padding=1), ConvLayer(3, top, padding=1)]  # from the input up
nine, points = stacked_points((2, 2), two[1:]), stacked_points((2, 2), two)
print(nine.shape, points.shape, nine[5], points[5, 4])

# %%
upper = (2, 2), nine, 5, "the top layer"
lower = nine[5], points[5], 4, "the layer below, for tap 5"
fig, axes = plt.subplots(1, 2, figsize=(8.4, 3.2), layout="constrained", sharey=True)
for ax, (at, read, moved, title) in zip(axes, (upper, lower), strict=True):
    picture(ax, below[0, 9], title, cmap="Greys", vmax=5)
    dots(ax, at + R(3), PN, size=110, hollow=True)
    arrows(ax, (at + R(3))[[moved]], read[[moved]])
    dots(ax, read, P)
    dots(ax, at, P0, marker="X")
show(fig)

# %% [markdown]
# Grey: the pixel where the layer below moves its centre tap. Rings: $p_n$ around the place; dots: the
# points that are read.

# %% tags=["check"]
assert np.array_equal(nine[5], (2, 3.5))
assert np.array_equal(points[5, 4], (2, 4))
assert points.shape == (9, 9, 2)  # by tap: first of the top layer, then of the layer below

# %% [markdown]
# `stacked_points` takes a list of layers, from the input up, and an output location. It returns the
# points **by tap**: `points[5, 4]` is tap 4 of the layer below, read for tap 5 of the top layer.

# %% tags=["check"]
half = sample(below[0], nine[5]).reshape(9, 2)  # the nine offsets between two pixels
assert np.array_equal(half[4], (0, 0.5))
assert np.array_equal(points[5], nine[5] + R(3) + half)

# %% tags=["check"]
strided = [ConvLayer(3, stride=2, padding=1)] * 2
assert np.array_equal(stacked_points((3, 5), strided)[4, 4], (4 * 3, 4 * 5))  # the centre taps
assert np.array_equal(stacked_points((3, 5), strided)[0, 4], (4 * 3 - 2, 4 * 5 - 2))

# %% [markdown]
# (Without offsets, and two layers of stride 2: tap 0 of the top layer is one of its pixels up and to
# the left, which is two pixels of the input.)
#
# Why the mixture of the offsets is right: $p + p_m$ is a mixture of the $q + p_m$ with the same
# weights. So the point is the mean of the four pixels' points, weighted as their values are.

# %% tags=["check"]
y, x, lower = 40.3, 31.6, [deformable]
q = np.array([(40, 31), (40, 32), (41, 31), (41, 32)])
weights = g(q[:, 0], y) * g(q[:, 1], x)  # equation (4)
mean = np.tensordot(weights, stacked_points(q, lower), 1)
assert np.allclose(stacked_points((y, x), lower), mean, rtol=0, atol=1e-12)

# %% [markdown]
# ## How much each pixel counts
#
# The points say where. How much a pixel counts is the derivative of the output with respect to it,
# the **effective receptive field** (Luo et al. 2016, not this paper). The reference has all it
# takes: put a 1 at the output and call the backward functions, layer by layer.
# `effective_receptive_field` does that; without `weight` each layer has equal weights, 1/K.
#
# If all offsets are whole numbers, the pixels with influence are exactly the points.

# %%
whole = [ConvLayer(3, rng.integers(-2, 3, (1, 18, 21, 23)).astype(float), padding=1) for _ in "ab"]
felt = effective_receptive_field((10, 12), whole, (21, 23))[0]
places = stacked_points((10, 12), whole).reshape(81, 2).astype(int)

# %% tags=["check"]
assert set(map(tuple, places)) == set(map(tuple, np.argwhere(felt)))
counted = np.zeros((21, 23))
np.add.at(counted, tuple(places.T), 1 / 81)  # a pixel that is read twice counts twice
assert np.allclose(felt, counted, rtol=0, atol=1e-15)

# %% [markdown]
# It is what the layers compute: as $y(p_0)$ is linear in $x$, it must equal the sum of derivative
# times pixel.

# %% tags=["check"]
xs = rng.normal(size=(1, 1, 21, 23))
ninth = np.full((1, 1, 3, 3), 1 / 9)
middle = deform_conv2d(xs, whole[0].offset, ninth, padding=1)
last = deform_conv2d(middle, whole[1].offset, ninth, padding=1)
assert np.isclose(last[0, 0, 10, 12], (felt * xs[0, 0]).sum())

# %% [markdown]
# ## A point through n plain layers
#
# First without offsets. The output of n layers of 3x3 sees $2n + 1$ pixels along each axis, but not
# equally: there are many paths to the middle and one to each corner.

# %%
depths = (1, 2, 4, 8, 16, 32, 64)
fields = {n: effective_receptive_field((0, 0), [ConvLayer(3)] * n, (2 * n + 1,) * 2)[0]
          for n in depths}  # fmt: skip
sigma = np.array([influence_spread(field)[0] for field in fields.values()])
print("  n   pixels   sigma   4 sigma / pixels")
for n, s in zip(depths, sigma, strict=True):
    print(f"{n:3} {2 * n + 1:8} {s:7.2f} {4 * s / (2 * n + 1):12.2f}")

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(9.4, 3.2), layout="constrained")
for n, colour in zip((1, 4, 16), (PN, P, Q), strict=True):
    at = np.arange(-n, n + 1)
    left.plot(at, fields[n].sum(axis=0), "o", ms=4, color=colour, label=f"n = {n}")
    t, s = np.linspace(-13, 13, 400), np.sqrt(2 * n / 3)
    left.plot(t, np.exp(-(t**2) / (2 * s**2)) / (s * np.sqrt(2 * np.pi)), color=colour, lw=1)
left.set(xlim=(-13, 13), xlabel="x (pixels from p0)", ylabel="influence")
left.set(title="influence, and Gaussians (lines)")
_ = left.legend()

# %%
right.loglog(depths, 2 * np.array(depths) + 1, "s-", color=PN, label="2n + 1, what can be seen")
right.loglog(depths, 4 * sigma, "o", color=Q, label=r"4$\sigma$, measured")
right.loglog(depths, 4 * np.sqrt(2 * np.array(depths) / 3), color=Q, label=r"4 (2n/3)$^{1/2}$")
right.set(xlabel="n, layers", ylabel="pixels", xticks=depths, xticklabels=depths)
right.set(title="the size of the field", yticks=(3, 10, 30, 100), yticklabels=(3, 10, 30, 100))
right.minorticks_off()
right.legend()
show(fig)

# %% [markdown]
# A layer with equal weights at k taps spreads what comes in like one step of a random walk: the
# variance of one step is $(k^2 - 1)/12$, and n independent steps add up,
#
# $$ \sigma^2 = n\, \frac{k^2 - 1}{12}, \qquad \text{for } k = 3:\ \sigma = \sqrt{2n/3}. $$
#
# The sum of many steps is nearly a Gaussian, of which $\pm 2\sigma$ holds 95 %: so $4\sigma$ is taken
# as the size of what counts. For one layer it is no Gaussian yet, hence the 1.09. What can be seen
# grows like n, what counts like $\sqrt n$; their ratio falls like $1/\sqrt n$.

# %% tags=["check"]
assert np.allclose(sigma**2, np.array(depths) * (3**2 - 1) / 12)
slope = np.polyfit(np.log(depths), np.log(sigma), 1)[0]
assert np.isclose(slope, 1 / 2)
used = [round(4 * s / (2 * n + 1), 2) for n, s in zip(depths, sigma, strict=True)]
assert (used[0], used[2], used[4], used[6]) == (1.09, 0.73, 0.4, 0.2)

# %% tags=["check"]
t, profile = np.arange(-16, 17), fields[16].sum(axis=0)
normal = np.exp(-(t**2) / (2 * 32 / 3)) / np.sqrt(2 * np.pi * 32 / 3)
assert np.abs(profile - normal).max() < 0.02 * profile.max()
assert np.isclose(profile[np.abs(t) < 2 * sigma[4]].sum(), 0.95, atol=0.01)  # within 2 sigma
spread5 = influence_spread(effective_receptive_field((0, 0), [ConvLayer(5)] * 3, (13, 13)))
assert np.allclose(spread5**2, 3 * (5**2 - 1) / 12)

# %% [markdown]
# Equal weights are the simple case. With random weights the influence is rough, with both signs, and
# the law holds for its square on average: `influence_spread(..., power=2)`.
#
# ## Dilation makes combs
#
# A dilation d widens each step by d at the same cost. But three layers of 3x3 have only
# $9^3 = 729$ paths to the input, and with one dilation for all most of them end on the same pixels.

# %%
combs = {"1, 1, 1": (1, 1, 1), "8, 8, 8": (8, 8, 8), "9, 3, 1": (9, 3, 1)}
seen = {name: effective_receptive_field(
            (25, 25), [ConvLayer(3, padding=d, dilation=d) for d in ds], (51, 51))[0]
        for name, ds in combs.items()}  # fmt: skip
fig, axes = plt.subplots(1, 3, figsize=(9.2, 3.2), layout="constrained", sharey=True)
for ax, (name, field) in zip(axes, seen.items(), strict=True):
    influence(ax, field, f"dilations {name}: {np.count_nonzero(field)} pixels")
show(fig)

# %% tags=["check"]
assert [np.count_nonzero(field) for field in seen.values()] == [7**2, 7**2, 27**2]
assert np.allclose(seen["9, 3, 1"][12:39, 12:39], 1 / 729)  # each pixel of 27x27 once
for name, ds in combs.items():
    variance = sum(d**2 for d in ds) * 8 / 12
    assert np.allclose(influence_spread(seen[name]) ** 2, variance)

# %% [markdown]
# What to notice: dilations (8, 8, 8) span 49x49 pixels and read 49 of them, a comb. The atrous
# convolutions that the paper compares with leave such gaps (Table 3 has (8, 8, 8) as well).
#
# ## 9, 81, 729
#
# Figure 6 of the paper draws three levels of points. Nine, then nine for each, then nine for each of
# those: `stacked_points` on three layers.

# %%
three = [ConvLayer(3, field_by_hand(layers=3), padding=2, dilation=2)] * 3
p0 = {"background": (52, 76), "small": (20, 75), "large": (44, 39)}
fig, axes = plt.subplots(1, 3, figsize=(10.2, 2.7), layout="constrained", sharey=True)
for ax, (name, at) in zip(axes, p0.items(), strict=True):
    levels(ax, image, name, at, stacked_points(at, three))
axes[0].legend(loc="lower left")
show(fig)

# %% tags=["check"]
points = {name: stacked_points(at, three) for name, at in p0.items()}
assert points["large"].shape == (9, 9, 9, 2)
spread = {name: p.reshape(-1, 2).std(axis=0).max() for name, p in points.items()}
assert spread["small"] < spread["background"] < spread["large"]
regular = stacked_points(p0["background"], [atrous] * 3)
assert np.array_equal(points["background"], regular)  # there the offsets are zero

# %% [markdown]
# The order small, background, large was put in by hand; that the 729 points show it is the claim.
#
# With a running kernel, click on the map in the cell after the next figure, and choose between one,
# two and three layers. Try the edge of an object, and a corner of the map.

# %%
board = click_activation(image, three, p=p0["large"])
board.figure()

# %% tags=["widget"]
board.play()

# %% [markdown]
# ## At the border
#
# Two questions arise where a point leaves a map.
#
# **Which offset belongs to which tap?** The order never changes: tap n has channels $2n$ and
# $2n + 1$ also where its neighbours are outside. The authors' drawing script leaves out the
# points outside first and pairs the rest with the offsets from the first one on, so near a border
# the offsets go to the wrong taps. You will repair that in exercise 4. It also rounds the points
# of one layer to pixels before it goes on to the next.
#
# **What is the offset of a point that is itself outside?** There is no output, so there is no
# offset. The reference reads equation (3) literally: the field is zero outside, so the offset
# fades out over one pixel and the points beyond are regular. It hardly matters: such a point reads
# padding. `stacked_shares` says how much of each point counts: 1 on the map, 0 a pixel outside.

# %%
corner, two = (0, 1), [ConvLayer(3, np.full((1, 18, *SIZE), 0.5), padding=1)] * 2
points, share = stacked_points(corner, two), stacked_shares(corner, two, SIZE)
fig, ax = plt.subplots(figsize=(5.6, 3.9), layout="constrained")
for colour, chosen in ((INK, share == 0), (PN, (share > 0) & (share < 1)), (P, share == 1)):
    words = {INK: "share 0", PN: "between", P: "share 1"}
    dots(ax, points[chosen], colour, words[colour], size=30)
dots(ax, corner, P0, "p0", marker="X", size=70)
_ = ax.fill_between((-0.5, 4.7), -0.5, 3.6, color="0.9", zorder=0, label="the map")

# %%
ax.set(xlim=(-2, 4.7), ylim=(3.6, -2.4), xlabel="x (pixels)", ylabel="y (pixels)", aspect="equal")
ax.set(title="81 points, all offsets (1/2, 1/2)")
ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
show(fig)

# %% tags=["check"]
assert np.array_equal(stacked_points(corner, two[:1]), corner + R(3) + 0.5)  # all nine, in order
outside = ConvLayer(3, np.full((1, 18, *SIZE), 2.0), padding=1)
for y, fraction in ((0, 1), (-0.25, 0.75), (-0.5, 0.5), (-1, 0), (-4, 0)):
    expected = np.array((y, 5)) + R(3) + 2 * fraction
    assert np.array_equal(stacked_points((y, 5), [outside]), expected)

# %% [markdown]
# The shares are what the gradient knows. With whole offsets and equal weights the influence of all
# pixels adds up to the mean share, at the border too.

# %% tags=["check"]
for at in ((0, 0), (0, 22), (20, 3), (10, 12)):
    total = effective_receptive_field(at, whole, (21, 23)).sum()
    assert np.isclose(total, stacked_shares(at, whole, (21, 23)).mean())
assert stacked_shares((0, 0), whole, (21, 23)).mean() < 1

# %% [markdown]
# ## Effective dilation
#
# > "we define a metric called *effective dilation* for a deformable convolution filter. It is the mean of the distances between all adjacent pairs of sampling locations in the filter. It is a rough measure of the receptive field size of the filter." (section 4.2)
#
# The paper does not define *adjacent*. With the 12 horizontal and vertical neighbours a plain
# filter of dilation d has effective dilation d; with the diagonals it would have more.
# It does not change when the points are turned or moved together, and it mixes the two axes.


# %%
def moved_by(points):
    """The offsets that take a grid of dilation 1 to nine given points."""
    return (points - R(3)).reshape(1, 18, 1, 1).astype(float)


turn = np.array([[0.8, 0.6], [-0.6, 0.8]])
wide = R(3) * (1, 3)

# %% tags=["check"]
for d in (1, 2, 4):
    assert effective_dilation(np.zeros((1, 18, 1, 1)), 3, dilation=d).item() == d
    assert np.isclose(effective_dilation(moved_by(d * R(3) @ turn + (5, -7)), 3).item(), d)
assert effective_dilation(moved_by(wide), 3).item() == 2  # (1 + 3) / 2, like a dilation of 2

# %% [markdown]
# ## Scale or disorder
#
# It also grows when the points are merely scattered. Below: a grid of dilation 2 and offsets drawn
# from a normal distribution, ever larger. The grid behind them does not change.

# %%
noise = rng.normal(size=(1, 18, 100, 100))
widths = np.array([0, 0.5, 1, 1.5, 2, 3, 4])
measured = [effective_dilation(s * noise, 3, dilation=2).mean() for s in widths]
fitted = [grid_fit(s * noise, 3, dilation=2).scale.mean() for s in widths]
nearest = np.abs(effective_dilation(2 * noise, 3, dilation=2) - 4)[0, 0].argmin()
scattered = 2 * R(3) + 2 * noise.reshape(9, 2, -1)[:, :, nearest]

# %%
fig, axes = plt.subplots(1, 3, figsize=(10, 3.3), layout="constrained", width_ratios=(1, 1, 1.5))
pairs = [(n, n + 1) for n in range(9) if n % 3 < 2] + [(n, n + 3) for n in range(6)]
filters = {"dilation 4": 4 * R(3), "dilation 2, scattered": scattered}
for ax, (title, nine) in zip(axes[:2], filters.items(), strict=True):
    for a, b in pairs:
        ax.plot(*nine[[a, b]].T[::-1], color=INK, lw=0.8)
    dots(ax, nine, P)
    ax.set(title=title, xlim=(-8, 8), ylim=(8, -8), aspect="equal", xlabel="x (pixels)")
_ = axes[0].set_ylabel("y (pixels)")

# %%
axes[2].plot(widths, measured, "o-", color=P0, label="effective dilation")
axes[2].plot(widths, fitted, "s-", color=Q, label="scale of the fitted grid")
axes[2].axhline(2, color=INK, ls=":", label="the dilation behind it")
axes[2].set(xlabel="standard deviation of the offsets (pixels)", ylabel="pixels", ylim=(0, 8))
axes[2].legend()
show(fig)

# %% tags=["check"]
drawn = [effective_dilation(moved_by(nine), 3).item() for nine in filters.values()]
assert np.allclose(drawn, 4, atol=0.01)  # one number for two very different filters
expected = {0.5: 2.13, 1: 2.57, 2: 3.98, 4: 7.3}
for s, value in expected.items():
    assert np.isclose(measured[list(widths).index(s)], value, atol=0.05)
assert np.all(np.array(fitted)[:5] < 2.25)
assert np.isclose(fitted[-1], 2.4, atol=0.05)  # at 4 pixels

# %% [markdown]
# Two remedies, neither of them in the paper.
#
# * `grid_fit` finds the grid of dilation 1 that lies nearest to the nine points when it may be
#   scaled, turned and moved (a Procrustes fit). It returns the scale, the angle, and the scatter: how
#   far the points are from that grid, root mean square.
# * `disordered_offset` is a **random control**: at each output pixel the same displacements, dealt to
#   the taps at random. Compare the effective dilation of a field with that of its control: if they
#   are not alike, the displacements have an order.


# %%
def report(name, offset, here):
    points = sampling_points(offset, 3, dilation=2, padding=2)[0, 0][:, here]
    out = ((points < 0) | (points > np.array(offset.shape[2:]) - 1)).any(axis=-1).mean()
    control = disordered_offset(offset, 3, np.random.default_rng(1))
    scale, _, scatter = grid_fit(offset, 3, dilation=2)
    ed, of_control = (effective_dilation(o, 3, dilation=2) for o in (offset, control))
    maps = ed, of_control, scale, scatter
    values = [each[0, 0][here].mean() for each in maps]
    print(f"{name:12}" + "".join(f"{v:10.2f}" for v in values) + f"{out:10.1%}")
    return values


# %%
ordered = np.tile((2.0 * R(3)).reshape(1, 18, 1, 1), (1, 1, 40, 50))
fields40 = {"dilated": ordered, "random": 2 * rng.normal(size=ordered.shape)}
background = ~(inside["large"] | inside["small"])
heads = "        ED   control     scale   scatter   outside"
print(f"on 40x50    {heads}")
both = {name: report(name, o, np.full((40, 50), True)) for name, o in fields40.items()}
print(f"on {SIZE[0]}x{SIZE[1]}    {heads}")
regions = {**inside, "background": background}
table = {name: report(name, three[0].offset, here) for name, here in regions.items()}

# %% tags=["check"]
assert np.allclose(both["dilated"], (4, 3.6, 4, 0), atol=0.1)  # ED, control, scale, scatter
assert np.isclose(*both["random"][:2], rtol=0.02)  # noise: nothing is lost by dealing it again
assert both["random"][2] < 2.5 < 3.8 < both["random"][0]
assert table["small"][0] < table["large"][0] < table["large"][1]
apart = np.linalg.norm(R(3)[:, None] - R(3), axis=-1).sum() / (9 * 8)  # the mean of all pairs
assert np.isclose(apart, 1.64, atol=0.01)
dealt = disordered_offset(1.4 * ordered, 3, np.random.default_rng(1))
assert np.allclose(effective_dilation(dealt, 3, dilation=2).mean(), 2 + 2.8, atol=0.05)

# %% [markdown]
# The first two rows have the same effective dilation, 4. The random field is its own control. The
# dilated one loses its order when it is dealt again, and still has 3.6: most of the number is the
# size of the offsets, whatever they do. So a large effective dilation by itself does not say that a
# filter has a large grid; here the fitted scale does.
#
# The last three rows are the field made by hand, which is in perfect order. Yet on the large object
# the control is *larger* than the field. Dealt at random, two neighbours get the offsets of any two
# taps, which are 1.64 steps of the grid apart in the mean, and not of taps that are one step apart.
# Between the two there is a dilation of 4.8 whose control is 4.8 too: a control that is equal does
# not prove disorder. Nor is the scatter disorder on the large object, which is twice as long as wide.
#
# **What the effective dilation does not tell.**
#
# * Not whether the points are ordered: report a fitted grid beside it. In Table 2 of the paper
#   res5c has 8.4 ± 4.5 on large objects; how much of it is dilation and how much scatter cannot
#   be told from the number.
# * Not where the points are: a filter that reads beside the object, or outside the map, has it too.
#   State the size of the map and how many points are outside.
# * Not how tall or wide: (1, 3) has 2.
# * Not what the output sees. That is a matter of all layers, and of their weights.
#
# ## What a deformable stack sees
#
# Now the influence, for the three layers of the 729 points. Colours are the square root of the
# influence; the lines are the outlines of the objects.

# %%
cases = {"without offsets": [atrous] * 3, "large": three, "small": three}
felt = {name: effective_receptive_field(p0.get(name, p0["large"]), layers, SIZE)[0]
        for name, layers in cases.items()}  # fmt: skip
fig, axes = plt.subplots(1, 3, figsize=(10.2, 2.7), layout="constrained", sharey=True)
for ax, (name, field) in zip(axes, felt.items(), strict=True):
    influence(ax, field, name, sum(inside.values()))
    dots(ax, p0.get(name, p0["large"]), P0, marker="X", size=45)
show(fig)

# %%
for name, field in felt.items():
    sy, sx = influence_spread(field)
    print(f"{name:16} sigma {sy:5.2f} (y), {sx:5.2f} (x);  {np.count_nonzero(field)} pixels")

# %% tags=["check"]
sizes = {name: influence_spread(field) for name, field in felt.items()}
assert np.allclose(sizes["without offsets"] ** 2, 3 * 2**2 * 8 / 12)  # as in theory, d = 2
assert (sizes["large"] > 1.5 * sizes["without offsets"]).all()
assert (sizes["small"] < sizes["without offsets"]).all()
assert np.isclose(felt["large"].sum(), 1)  # no influence is lost, it is elsewhere
pixels = {name: np.count_nonzero(field) for name, field in felt.items()}
assert pixels["without offsets"] == 49 < pixels["small"] < pixels["large"]  # gaps are filled

# %% [markdown]
# The same weights, the same number of paths, the same sum: the offsets only decide where the paths
# end. And this answers a question that is asked often: how can a *local* layer read far away? Its
# offsets are computed from a 3x3 neighbourhood, but the point they lead to may be anywhere.
#
# Two limits of such pictures. The layers here are linear: a ReLU between them would switch paths
# off. And the offsets are taken as given; in a network they depend on $x$ too, through the offset
# branch ([notebook 4](04_backward_pass.ipynb)).

# %% tags=["check"]
weights = rng.normal(size=(3, 1, 1, 3, 3))
rough = [
    ConvLayer(3, layer.offset, w, padding=2, dilation=2)
    for layer, w in zip(three, weights, strict=True)
]
signs = effective_receptive_field(p0["large"], rough, SIZE)[0]
assert (signs < 0).any()
assert (signs > 0).any()  # with other weights: the same places, other signs and sizes
assert np.all(signs[felt["large"] == 0] == 0)

# %% [markdown]
# ## Exercise 1: effective dilation
#
# The points of M filters of 3x3 taps, of shape M 9 2, taps row by row. Return the M effective
# dilations.


# %%
def mean_distance(p):
    # FILL ME IN (about 3 lines): p is M 9 2, the result has M numbers
    raise NotImplementedError


# %%
exercises.check("mean_distance", mean_distance)

# %% [markdown]
# ## Exercise 2: a scale that disorder hardly enlarges
#
# Again the points of M filters. Return for each the scale of the grid `R(3)` that is nearest to
# them in least squares, when it may be scaled, turned and moved, not mirrored. The grid has its mean at 0, and
# the squares of its coordinates add up to 12. (A scale is a length and never negative, so disorder
# does enlarge it a little: in the figure above, at 4 pixels, it is 2.4 for a dilation of 2.)


# %%
def fitted_scale(p):
    # FILL ME IN (about 3 lines)
    raise NotImplementedError


# %%
exercises.check("fitted_scale", fitted_scale)

# %% [markdown]
# ## Exercise 3: 81 points
#
# Two 3x3 layers of stride 1, dilation 1 and padding 1. `p0` is an output pixel (y, x); `below` and
# `top` are their offset fields, 1 18 H W. Return 9 9 2, indexed by the taps of the top layer, then by
# those of the layer below. Use `sample` for the field below.


# %%
def eighty_one(p0, below, top):
    # FILL ME IN (about 3 lines)
    raise NotImplementedError


# %%
exercises.check("eighty_one", eighty_one)

# %% [markdown]
# ## Exercise 4: find the bug
#
# This function has the bug of the authors' drawing script. It should return the moved points of a
# 3x3 filter at the pixel `p0`, without the taps whose regular place $p_0 + p_n$ is outside the map.
# The checker names the bug. Repair the function.


# %%
def points_on_map(p0, offset, size):
    p = p0 + R(3)  # p0 is (y, x), offset has 18 numbers, size is (H, W)
    p = p[((p >= 0) & (p < size)).all(axis=1)]
    return p + offset.reshape(9, 2)[: len(p)]


exercises.check("points_on_map", points_on_map)

# %% [markdown]
# Such a bug is easy to miss: in the middle of a map it does nothing, and where all offsets are equal
# it does nothing either.

# %% tags=["check"]
offsets = rng.uniform(-1, 1, 18)
in_the_middle = points_on_map((3, 3), offsets, (7, 8))
assert np.array_equal(in_the_middle, np.array((3, 3)) + R(3) + offsets.reshape(9, 2))
at_the_corner = points_on_map((0, 0), np.full(18, 0.5), (7, 8))
assert np.array_equal(at_the_corner, R(3)[[4, 5, 7, 8]] + 0.5)

# %% [markdown]
# ## What you now know
#
# * An output of n plain layers sees $2n + 1$ pixels, and mostly uses $4\sigma$ of them, with
#   $\sigma = \sqrt{2n/3}$.
# * The points of a stack are found from the output down: 9, 81, 729. A point between pixels has the
#   interpolated offset, and every tap keeps its own offset at the border.
# * Effective dilation measures size and disorder together; a fitted grid tells them apart. Equal
#   values of a random control do not prove disorder.
# * Offsets do not change how much influence there is, but where it comes from.
#
# **Next:** the paper's second layer. [Notebook 7](07_roi_pooling.ipynb) pools regions of any size,
# and moves their bins.
