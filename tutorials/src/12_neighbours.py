# %% [markdown]
# # 12. Neighbours, in code
#
# Section 3.1 of the paper compares its two modules with the work around them, in words. Others came
# after the paper and compare themselves with it. Nearly all of them can be written with the one
# function that reads a map between its pixels. So each takes a few sentences here, a cell that
# builds it, and a cell that ties it to something known.
#
# The question: *who says where a layer reads, who says with which weights, and what do they know
# when they say it?*

# %%
import exercises
import neighbour_figures as draw
import numpy as np
from figures import P, dots, photograph, picture, plt, show
from neighbours import distance_transform, envelope
from roi_figures import bins, region

from deformable_convnets.reference import (
    ConvLayer,
    G,
    R,
    conv2d,
    deform_conv2d,
    deform_conv2d_backward,
    deform_conv_module,
    deform_roi_pool,
    effective_receptive_field,
    equations,
    influence_spread,
    roi_pool,
    sample,
    sampling_points,
)  # fmt: skip

rng = np.random.default_rng(0)

# %%
scene, outputs, reads = draw.by_hand(rng)
fig, axes = plt.subplots(2, 4, figsize=(10.4, 4), layout="constrained")
draw.gallery(axes, scene, outputs, reads)
show(fig)

# %% [markdown]
# Eight layers, and the places (green) that each reads for two outputs (red crosses). A large dot
# has a large weight. All of it is made by hand: it shows what a layer *can* do.
#
# Look at the two objects in each picture. In the upper row the pattern does not know them. A
# spatial transformer sees the image, but moves all of it by one rule; active convolution has a
# shape of its own, the same everywhere. In the lower row each place decides for itself: where to
# look, or with which weights, or both.
#
# ## The equation
#
# > $$ x(p) = \sum_q G(q, p) \cdot x(q) \tag{3} $$
# >
# > section 2.1
#
# That is `sample`, and every layer below is a sum over what it reads, or a maximum:
#
# $$ y(p_0) = \sum_k a_k\, x(p_k) \qquad \text{or} \qquad y(p_0) = \max_k\, [\, x(p_k) - a_k\, ] $$
#
# A layer is described by who gives the places $p_k$ and who gives the numbers $a_k$. There are four
# who can: **nobody** (they are fixed), **training** (they are parameters, the same for all images),
# **the image** (another layer predicts them), or **a search** (those with the largest result).
#
# ## By hand: one row of seven pixels
#
# The row is 1, 2, 0, 3, 4, 1, 2, and the output is at $p_0 = 3$, whose pixel is 3.
#
# | layer | reads | weights | |
# |---|---|---|---|
# | convolution | 2, 3, 4 | 1, 2, 1 | 0 + 6 + 4 = 10 |
# | atrous, dilation 2 | 1, 3, 5 | 1, 2, 1 | 2 + 6 + 1 = 9 |
# | deformable, offsets -1/2, 0, +1/2 | 1.5, 3, 4.5 | 1, 2, 1 | 1 + 6 + 2.5 = 9.5 |
# | DCNv2, mask 1/2, 1, 1 | 1.5, 3, 4.5 | 1/2, 2, 1 | 0.5 + 6 + 2.5 = 9 |
# | dynamic filter | 2, 3, 4 | 0, 1/2, 1/2 | 1.5 + 2 = 3.5 |
# | one offset of +1/2 | 3.5 | 1 | (3 + 4) / 2 = 3.5 |
# | deformable part, cost $d^2/2$ | 0 to 6 | | max(3, 4 - 1/2, ...) = 3.5 |
# | spatial transformer, scale 2 | 0, 2, 4, 6 | | the row 1, 0, 4, 2 |

# %%
row = np.array([1.0, 2, 0, 3, 4, 1, 2]).reshape(1, 1, 7)


def at(*places):
    return sample(row, np.array([(0, x) for x in places], float))[0]


d = np.arange(-3, 4)
print(at(1.5, 3, 4.5), at(3.5), (at(*range(7)) - d**2 / 2).max(), at(0, 2, 4, 6))

# %% tags=["check"]
w3, moved = np.array([1.0, 2, 1]), np.zeros((1, 6, 1, 7))
moved[0, 1::2, 0, 3] = -0.5, 0, 0.5  # dx of the three taps, for the output at 3
y = deform_conv2d(row[None], moved, w3[None, None, None], padding=(0, 1))
assert y[0, 0, 0, 3] == at(1.5, 3, 4.5) @ w3 == 9.5
assert at(2, 3, 4) @ w3 == 10 and at(1, 3, 5) @ w3 == 9
assert at(1.5, 3, 4.5) @ (w3 * (0.5, 1, 1)) == 9
assert at(2, 3, 4) @ (0, 0.5, 0.5) == at(3.5) == (at(*range(7)) - d**2 / 2).max() == 3.5

# %% [markdown]
# What to notice: three layers answer 3.5, and for three reasons. The dynamic filter has found two
# weights, the offset one place, and the part has searched seven places and paid for one pixel.
#
# ## Spatial transformers
#
# *Jaderberg, Simonyan, Zisserman, Kavukcuoglu; NIPS 2015.* A small network looks at the whole image
# and predicts one transformation, for example an affine one, of six numbers; the map is sampled at
# $A p + t$ for every $p$, and that warped map goes on. **What it moves:** everything, by one rule;
# there is no weighted sum. The paper calls its own branch of offsets a very light spatial
# transformer: local and dense, and without parameters of a transformation.

# %%
x = rng.integers(-8, 9, (3, 9, 11)).astype(float)
yx = np.moveaxis(np.indices((9, 11)), 0, -1).astype(float)
A, t = np.array([[1, -0.5], [0.25, 0.75]]), np.array([1.5, 0.25])


def affine(p, A, t=(0, 0)):
    return p @ A.T + t


V = sample(x, affine(yx, A, t))  # the whole spatial transformer, but for who predicts A and t

# %% tags=["check"]
assert np.array_equal(sample(x, affine(yx, np.eye(2))), x)  # A = I, t = 0: nothing happens
shifted = sample(x, affine(yx, np.eye(2), (2, -3)))
assert np.array_equal(shifted[:, :-2, 3:], x[:, 2:, :-3]) and not shifted[:, -2:].any()
upside_down = sample(x, affine(yx, np.diag((-1, 1)), (8, 0)))
assert np.array_equal(upside_down, x[:, ::-1])

# %% [markdown]
# A convolution of the warped map reads $x$ at $A (p_0 + p_n) + t$. So the two together are a
# deformable convolution with $\Delta p_n = (A - I)(p_0 + p_n) + t$: its 18 numbers for each output
# are made from six. And where only the grid is turned, not the image,
# $\Delta p_n = (A - I)\, p_n$ everywhere: that is a convolution with the grid $A p_n$ in place of
# $R$.

# %%
w = rng.integers(-4, 5, (4, 3, 3, 3)).astype(float)
p = yx[1:-1, 1:-1, None] + R(3)  # p0 + p_n: Ho Wo 9 2


def field(move):
    """Ho Wo 9 2 as the offset array 1 18 Ho Wo."""
    return move.reshape(*move.shape[:2], 18).transpose(2, 0, 1)[None]


global_field, local_field = field(affine(p, A, t) - p), field(0 * p + affine(R(3), A) - R(3))

# %% tags=["check"]
assert np.array_equal(deform_conv2d(x[None], global_field, w), conv2d(V[None], w))  # bit for bit
warped_grid = sample(x, yx[1:-1, 1:-1, None] + affine(R(3), A))
by_sampling = np.einsum("ocn,cyxn->oyx", w.reshape(4, 3, 9), warped_grid)
assert np.array_equal(deform_conv2d(x[None], local_field, w)[0], by_sampling)
quarter = np.array([[0.0, 1], [-1, 0]])
turned_grid = deform_conv2d(x[None], field(0 * p + affine(R(3), quarter) - R(3)), w)
assert np.array_equal(turned_grid, conv2d(x[None], np.rot90(w, -1, axes=(2, 3))))

# %% [markdown]
# (The last line: to turn the grid is to turn the kernel the other way round.)
#
# What can six numbers not do? Here two bars lean towards each other, and both are to stand upright.
# Upright pixels have to be read along one direction for the left bar, and along another for the
# right one; a matrix sends "upright" to one direction. The right places are given here: the *best*
# six numbers come from them by least squares, and the offsets, two for each pixel, are the places
# themselves.

# %%
leaning, upright, places = draw.two_bars()
q = np.moveaxis(np.indices(upright.shape), 0, -1).astype(float)
on, six = upright > 0.5, np.dstack([q, np.ones_like(q[..., :1])])
fit = np.linalg.lstsq(six[on], places[on])[0]  # 3 x 2: A and t
by_six = sample(leaning[None], six @ fit)[0]
by_offsets = deform_conv2d(leaning[None, None], np.moveaxis(places - q, -1, 0)[None],
                           np.ones((1, 1, 1, 1)))[0, 0]  # fmt: skip

# %%
fig, axes = plt.subplots(1, 3, figsize=(9.6, 2.6), layout="constrained", sharey=True)
titles = "the input", "the best six numbers", "two offsets for each pixel"
for ax, image, title in zip(axes, (leaning, by_six, by_offsets), titles, strict=True):
    picture(ax, image, title, vmin=0, vmax=1)
show(fig)

# %% tags=["check"]
missed = np.linalg.norm(six @ fit - places, axis=-1)[on]
assert missed.max() > 5  # pixels
assert np.abs(by_six - upright).mean() > 10 * np.abs(by_offsets - upright).mean()
directions = places[21, [16, 56]] - places[19, [16, 56]]  # what "upright" has to become
assert np.allclose(fit[0], directions.mean(axis=0) / 2, atol=0.05)  # the six take the mean

# %% [markdown]
# What to notice: the six numbers read along the mean of both directions, which is right for neither
# bar, so both keep their lean. The offsets decide place by place. They cost two numbers for each
# pixel, and somebody has to predict all of them.
#
# ## Inverse spatial transformers
#
# *Lin, Lucey; CVPR 2017, "inverse compositional".* Several small warps in a row take the place of
# one large one. If each warps the map that the last one left, values are interpolated again and
# again. Here the *numbers* are passed on and composed, and every step samples the original. **What
# it moves:** everything, as above. The paper says of it that handing parameters on takes the place
# of warping features, which is expensive.
#
# Eight turns by 45 degrees are no turn at all:

# %%
face = photograph(96)[None]
pixels = np.moveaxis(np.indices((96, 96)), 0, -1).astype(float)
turn = np.array([[1, 1], [-1, 1]]) / np.sqrt(2)
shift = (np.eye(2) - turn) @ (47.5, 47.5)  # so that the middle stays

# %%
again, A8, t8 = face, np.eye(2), np.zeros(2)
for _ in range(8):
    again = sample(again, affine(pixels, turn, shift))
    A8, t8 = A8 @ turn, A8 @ shift + t8
once = sample(face, affine(pixels, A8, t8))

# %%
fig, axes = plt.subplots(1, 3, figsize=(9, 3.2), layout="constrained", sharey=True)
titles = "the input", "8 warps, each of the last", "8 warps composed, 1 sampling"
for ax, image, title in zip(axes, (face, again, once), titles, strict=True):
    picture(ax, image[0], title, vmin=0, vmax=1)
show(fig)

# %% tags=["check"]
disc = np.linalg.norm(pixels - 47.5, axis=-1) < 46
assert np.allclose(once, face, rtol=0, atol=1e-12)
assert np.abs(again - face)[0, disc].mean() > 0.02  # of 1
before, after = (np.diff(image, axis=1)[0, disc[1:]].std() for image in (face, again))
assert after < 0.75 * before  # what is lost are the fine details

# %% [markdown]
# The order is a trap: sampling $V(p) = x(A_1 p + t_1)$ at $A_2 p + t_2$ reads $x$ at
# $A_1 (A_2 p + t_2) + t_1$. The later warp is applied to the *places* first. Exercise 1 asks for it.
#
# ## Active convolution
#
# *Jeon, Kim; CVPR 2017.* A convolution whose taps have real positions, learnt by the same gradient
# as in equation (7). **What it moves:** each tap, but by one offset for the whole map and for all
# images. The paper names these two differences: offsets shared over all places, and parameters of
# the model in place of outputs of a layer.

# %%
batch = rng.integers(-8, 9, (2, 3, 9, 11)).astype(float)
theta = rng.choice(np.array([-7, -5, -3, -1, 1, 3, 5, 7]) / 8, (9, 2))
shared = np.tile(theta.reshape(1, 18, 1, 1), (2, 1, 7, 9))
active = deform_conv2d(batch, shared, w)
gy = rng.integers(-4, 5, active.shape).astype(float)
grad_theta = deform_conv2d_backward(gy, batch, shared, w).offset.sum(axis=(0, 2, 3)).reshape(9, 2)

# %% [markdown]
# It is the deformable convolution whose branch has lost its weights and kept its biases. The
# gradient of a shared offset is the sum of ours over places and images; on these small numbers a
# central difference is exact.

# %% tags=["check"]
no_weights = np.zeros((18, 3, 3, 3))
assert np.array_equal(active, deform_conv_module(batch, no_weights, theta.ravel(), w))
for k, axis in np.ndindex(9, 2):
    h = np.zeros_like(shared)
    h[:, 2 * k + axis] = 1 / 16  # the same step everywhere
    ends = [deform_conv2d(batch, shared + s * h, w) for s in (1, -1)]
    assert (gy * (ends[0] - ends[1])).sum() / (2 / 16) == grad_theta[k, axis]

# %% [markdown]
# Does the image matter, or only the freedom to move? [Notebook 8](08_a_small_deeplab.ipynb) trains
# both on the same data.
#
# ## The effective receptive field
#
# *Luo, Li, Urtasun, Zemel; NIPS 2016.* Not a layer but a measurement: how much each pixel counts
# for an output, that is the gradient of the output. For n plain layers it is nearly a Gaussian
# whose width grows like $\sqrt n$, while what can be seen grows like n. **What it moves:** nothing;
# it is the paper's argument that something should be moved.
# [Notebook 6](06_receptive_fields.ipynb) draws it.

# %%
depths = np.array((1, 4, 16, 64))
felt = [effective_receptive_field((0, 0), [ConvLayer(3)] * n, (2 * n + 1,) * 2)[0] for n in depths]
sigma = np.array([influence_spread(f)[0] for f in felt])
print(np.round(sigma, 2), np.round(4 * sigma / (2 * depths + 1), 2))

# %% tags=["check"]
assert np.allclose(sigma, np.sqrt(2 * depths / 3))
across, bell = np.arange(-16, 17), felt[2].sum(axis=0)
normal = np.exp(-(across**2) / (2 * sigma[2] ** 2)) / (sigma[2] * np.sqrt(2 * np.pi))
assert np.abs(bell - normal).max() < 0.02 * bell.max()

# %% tags=["check"]
stretched = np.tile((2.0 * R(3)).reshape(1, 18, 1, 1), (1, 1, 25, 25))  # p_n becomes 3 p_n
wide = [ConvLayer(3, stretched, padding=1)] * 4
wide_field = effective_receptive_field((12, 12), wide, (25, 25))[0]
assert np.allclose(influence_spread(wide_field), 3 * sigma[1])

# %% [markdown]
# The last check is what offsets can do for it: the field of four layers whose grids are three
# times as wide is three times as wide.
#
# ## Atrous convolution
#
# *Holschneider, Kronland-Martinet, Morlet, Tchamitchian, 1989; for segmentation Chen et al.'s
# DeepLab, and Yu, Koltun, ICLR 2016, as "dilated".* The weights stay and the grid is $d$ times as
# wide. **What it moves:** each tap by $(d - 1)\, p_n$, chosen by hand, for all images and places.

# %%
x5, d = rng.integers(-8, 9, (1, 3, 16, 17)).astype(float), 3
constant = np.tile(((d - 1.0) * R(3)).reshape(1, 18, 1, 1), (1, 1, 16, 17))
atrous = deform_conv2d(x5, constant, w, padding=1)

# %% tags=["check"]
assert np.array_equal(atrous, conv2d(x5, w, padding=d, dilation=d))  # bit for bit
between = deform_conv2d(x5, constant / 4, w, padding=1)  # d = 1.5, which no dilation can be
places_15 = np.moveaxis(np.indices((16, 17)), 0, -1)[..., None, :] + 1.5 * R(3)
assert np.array_equal(between[0], np.einsum("ocn,cyxn->oyx", w.reshape(4, 3, 9),
                                            sample(x5[0], places_15)))  # fmt: skip

# %% [markdown]
# ## Deformable part models
#
# *Felzenszwalb, Girshick, McAllester, Ramanan; PAMI 2010; as a network Girshick, Iandola, Darrell,
# Malik, CVPR 2015.* An object is a root and parts, each part has a place where it is expected, and
# may stand elsewhere at a quadratic cost. **What it moves:** each part to where score less cost is
# highest: a search, with no learnt regression. The paper: deformable RoI pooling is like it, and
# simpler, as its parts know nothing of each other; and part models are shallow, and not trained end
# to end.
#
# All these maxima at once are the *distance transform*, $D(p) = \max_q\, [f(q) - a\,|p - q|^2]$:
# every pixel carries a parabola, and D is the upper envelope (below, left). `neighbours.py` finds
# it in one pass along each axis (Felzenszwalb, Huttenlocher).

# %%
f, a = rng.uniform(0, 3, 24), 0.09
q = envelope(f, a)  # for each p the pixel whose parabola is highest there
D = f[q] - a * (np.arange(24) - q) ** 2

# %% tags=["check"]
by_all = (f - a * (np.arange(24)[:, None] - np.arange(24)) ** 2).max(axis=1)  # brute force
assert np.allclose(D, by_all, rtol=0, atol=1e-15) and len(set(q)) < 12

# %% tags=["check"]
whole = rng.integers(-8, 9, (9, 11)).astype(float)
D2, q2 = distance_transform(whole, (1 / 4, 1 / 2))
cost = ((yx[:, :, None, None] - yx) ** 2 * (1 / 4, 1 / 2)).sum(axis=-1)
assert np.array_equal(D2, (whole - cost).max(axis=(2, 3)))  # bit for bit
moved = (yx - q2) ** 2 @ (1 / 4, 1 / 2)
assert np.array_equal(sample(whole[None], q2.astype(float))[0] - moved, D2)
assert np.array_equal(distance_transform(whole, 1e3)[0], whole)  # too dear to move

# %% [markdown]
# The line before the last one is the bridge: D is `sample` at a moved place, less the cost of the
# move. The offset is the argument of the maximum. Now four parts of one object, whose scores have
# noise: every $p_0$ adds up what its parts can get.

# %%
expected = np.array([(-9, 0), (0, -9), (0, 9), (9, 0)])  # from p0: up, left, right, down
truth = np.array((15, 21)) + expected + [(-2, 2), (4, -1), (-4, 0), (1, 4)]
field40 = np.moveaxis(np.indices((31, 42)), 0, -1).astype(float)
spots = np.exp(-((field40 - truth[:, None, None]) ** 2).sum(axis=-1) / 8)
scores = spots + 0.1 * rng.normal(size=spots.shape)

# %%
best = [distance_transform(s, 0.01) for s in scores]
total = sum(sample(D[None], field40 + v)[0] for (D, _), v in zip(best, expected, strict=True))
p0 = np.array(np.unravel_index(total.argmax(), total.shape))
found = np.array([q[tuple(p0 + v)] for (_, q), v in zip(best, expected, strict=True)])

# %%
fig, (ax, right) = plt.subplots(1, 2, figsize=(9.8, 3.3), layout="constrained")
draw.parabolas(ax, f, a, q)
draw.parts_found(right, scores, p0, p0 + expected, found)
show(fig)

# %% tags=["check"]
assert np.abs(found - truth).max() <= 1
delta = found - (p0 + expected)  # what deformable RoI pooling would have to predict
read = [sample(s[None], (p0 + v + d).astype(float))[0]
        for s, v, d in zip(scores, expected, delta, strict=True)]  # fmt: skip
assert np.isclose(total.max(), sum(read) - 0.01 * (delta**2).sum())
rigid = sum(sample(s[None], field40 + v)[0] for s, v in zip(scores, expected, strict=True))
assert rigid.max() < 0.7 * total.max()  # parts that may not move find less

# %% [markdown]
# ## DeepID-Net: def-pooling
#
# *Ouyang et al.; CVPR 2015.* The same inside a network, as a pooling layer:
# $b(p_0) = \max_d\, [m(s\,p_0 + d) - \sum_n c_n d_n(d)]$ over a window of displacements $d$, with
# penalties $d_n$ and learnt weights $c_n$. **What it moves:** the place of the maximum, by search, at
# a learnt cost. Here with one penalty, $|d|^2$:


# %%
def def_pool(m, c, radius=2, stride=5):
    H, W = m.shape[1:]
    middle = np.moveaxis(np.indices((H, W)), 0, -1)[radius::stride, radius::stride, None]
    d = R(2 * radius + 1)
    return (sample(m, (middle + d).astype(float)) - c * (d**2).sum(axis=1)).max(axis=-1)


# %% tags=["check"]
m = rng.integers(-8, 9, (3, 10, 15)).astype(float)
blocks = m.reshape(3, 2, 5, 3, 5)
assert np.array_equal(def_pool(m, 0), blocks.max(axis=(2, 4)))  # free moves: max pooling
assert np.array_equal(def_pool(m, 1e3), m[:, 2::5, 2::5])  # dear ones: every fifth pixel
small = m[:, :5, :5]
D5 = [distance_transform(one, 1 / 2)[0][2, 2] for one in small]
assert np.array_equal(def_pool(small, 1 / 2)[:, 0, 0], D5)  # all in the window: the transform

# %%
costs, floats = np.linspace(0, 2, 200), 2 * rng.normal(size=(1, 10, 15))
pooled = np.array([def_pool(floats, c).ravel() for c in costs])
fig, ax = plt.subplots(figsize=(6.6, 2.7), layout="constrained")
draw.curves(ax, costs, dict(enumerate(pooled.T)), None, title="def-pooling of six windows",
            xlabel="c, the cost of a move (0: max pooling; large: sampling)", ylabel="b")  # fmt: skip
show(fig)

# %% tags=["check"]
slopes = np.diff(pooled, axis=0) / np.diff(costs)[:, None]
between_kinks = np.abs(np.diff(slopes, axis=0)) < 1e-9
squares = np.unique(np.round(-slopes[:-1][between_kinks], 6))
assert set(squares) <= {0, 1, 2, 4, 5, 8} and len(squares) > 2
bumps = np.eye(150).reshape(150, 10, 15) * 1e-6  # each pixel alone a little larger
changed = def_pool(floats[0] + bumps, 0.3) - def_pool(floats, 0.3) > 1e-7
assert (changed.sum(axis=0) == 1).all()  # one pixel for each output
assert ((G(rng.uniform(1, 8, (50, 2)), (10, 15)).toarray() > 0).sum(axis=1) == 4).all()

# %% [markdown]
# From left to right, max pooling becomes sampling, in straight pieces: on each piece one pixel wins,
# and its distance squared is the slope. One winner also means that the gradient goes to one pixel.
# A bilinear sample has four, and a slope with respect to its place.
#
# ## Spatial pyramids
#
# *Lazebnik, Schmid, Ponce, CVPR 2006; in networks He, Zhang, Ren, Sun, ECCV 2014.* A region is pooled
# into 1, 2 x 2, 4 x 4 bins, and all are concatenated. **What it moves:** nothing; the sizes are made
# by hand. (Jia, Huang and Darrell, CVPR 2012, choose regions from a large set, made by hand too.) The
# paper remarks that its own bins all have one size, and that several sizes would be possible, as
# in a pyramid. They are:


# %%
def pyramid(x, rois, offsets=(None, None, None), levels=(1, 2, 4)):
    pooled = [deform_roi_pool(x, rois, o, k) for o, k in zip(offsets, levels, strict=True)]
    return np.concatenate([y.reshape(len(rois), -1) for y in pooled], axis=1)


# %% tags=["check"]
x6 = rng.integers(-8, 9, (1, 3, 20, 26)).astype(float)
roi = np.array([[0.0, 3, 2, 19, 18]])  # 16 x 16 pixels
levels = [roi_pool(x6, roi, k) for k in (1, 2, 4)]
assert pyramid(x6, roi).shape == (1, 3 * (1 + 4 + 16))
assert np.array_equal(pyramid(x6, roi), np.concatenate([y.reshape(1, -1) for y in levels], 1))

# %% tags=["check"]
for level in (0, 1):
    k = 2**level
    finer = levels[level + 1].reshape(1, 3, k, 2, k, 2)
    assert np.array_equal(levels[level], finer.mean(axis=(3, 5)))

# %% [markdown]
# (With mean pooling and bins that do not overlap, a level says nothing that the next one does not
# know: its bins are means of four. With offsets this is no longer so.) Here each level has offsets of
# its own, made by hand: the bins go towards the nose.

# %%
big, roi128 = photograph(128)[None, None], np.array([[0.0, 30, 26, 94, 90]])
middles = [(25.5, 29.5) + 64 * (np.moveaxis(np.indices((k, k)), 0, -1) + 0.5) / k
           for k in (1, 2, 4)]  # fmt: skip
moves = [pull * (np.array((70, 70)) - c)
         for pull, c in zip((0.6, 0.35, 0.25), middles, strict=True)]  # fmt: skip
offsets = [np.moveaxis(move / (0.1 * 64), -1, 0)[None] for move in moves]

# %%
fig, axes = plt.subplots(1, 3, figsize=(9.6, 3.4), layout="constrained", sharey=True)
for ax, k, middle, move in zip(axes, (1, 2, 4), middles, moves, strict=True):
    picture(ax, big[0, 0], f"{k} x {k} bins" if k > 1 else "1 bin")
    region(ax, roi128[0])
    bins(ax, roi128[0], k, move)
    draw.moved_bins(ax, k, middle, move)
show(fig)

# %% tags=["check"]
deformed = pyramid(big, roi128, offsets)
assert deformed.shape == (1, 21)
assert sum(o.size for o in offsets) == 2 * (1 + 4 + 16)  # numbers for each RoI
inside = np.array((26, 30)) + np.moveaxis(np.indices((64, 64)), 0, -1)  # the pixels of the RoI
assert np.isclose(deformed[0, 0], sample(big[0], inside + moves[0][0, 0]).mean())  # level 1
assert np.abs(deformed[0, 0] - deformed[0, 1:5].mean()) > 0.01  # and not the mean of level 2

# %% [markdown]
# ## Transformation-invariant features
#
# SIFT (*Lowe, 1999*), ORB (*Rublee et al., ICCV 2011*) and scattering networks are built for known
# transformations; TI-pooling (*Laptev et al., CVPR 2016*) and others learn features, for
# transformations that are known too. **What they move:** the filter or the image, through a list
# that is fixed beforehand. The paper: what is not on the list, they cannot handle. TI-pooling with
# the four quarter turns, as filters:


# %%
def over_quarter_turns(x, w):
    return np.max([conv2d(x, np.rot90(w, k, axes=(2, 3))) for k in range(4)], axis=0)


# %% tags=["check"]
image = rng.integers(-8, 9, (1, 3, 9, 11)).astype(float)
turned_input = over_quarter_turns(np.rot90(image, axes=(2, 3)), w)
assert np.array_equal(turned_input, np.rot90(over_quarter_turns(image, w), axes=(2, 3)))
plain = conv2d(np.rot90(image, axes=(2, 3)), w)
assert not np.array_equal(plain, np.rot90(conv2d(image, w), axes=(2, 3)))

# %% [markdown]
# Now a pattern, turned and scaled by any amount, and a filter that has the pattern itself as its
# weights. What is measured is the correlation of the weights with what the filter reads at the
# middle: 1 if it sees the pattern as it was. The offsets $(A - I)\, p_n$ are right for every $A$. But here
# they are *told* $A$. A network has to predict it from $x$ (notebook 5).


# %%
def stroke(along, across):
    return np.exp(-((along / 8) ** 4) - (across / 3) ** 2)


def pattern(p):  # a hook
    return stroke(p[..., 0], p[..., 1]) + stroke(p[..., 1] - 5, p[..., 0] - 6)


# %%
taps, canvas = R(21), np.moveaxis(np.indices((85, 85)), 0, -1) - 42.0
template = pattern(taps)


def response(A, grid):
    seen = pattern(canvas @ np.linalg.inv(A).T)[None]  # the pattern, transformed by A
    return np.corrcoef(sample(seen, 42 + grid)[0], template)[0, 1]


# %%
def rotation(degrees):
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[c, -s], [s, c]])


def three(A):
    eight = max(response(A, taps @ rotation(a).T) for a in range(0, 360, 45))
    return response(A, 1.0 * taps), eight, response(A, taps @ A.T)


# %%
angles, scales = np.arange(0, 181, 7.5), np.geomspace(0.5, 2, 21)
by_angle = np.array([three(rotation(a)) for a in angles]).T
by_scale = np.array([three(s * np.eye(2)) for s in scales]).T
names = "one filter", "the best of 8 turns", "offsets, told A"
fig, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3), layout="constrained", sharey=True)
draw.curves(left, angles, dict(zip(names, by_angle, strict=True)), None, ylabel="correlation")
draw.curves(right, scales, dict(zip(names, by_scale, strict=True)))

# %%
left.set(xlabel="a turn (degrees): on the list", xticks=range(0, 181, 45))
right.set(xscale="log", xlabel="a scale: not on the list", xticks=(0.5, 1, 2))
right.set_xticks((0.5, 1, 2), ("1/2", "1", "2"))
right.minorticks_off()
show(fig)

# %% tags=["check"]
assert np.allclose(by_angle[1, ::6], 1, atol=0.01)  # at multiples of 45 degrees
assert by_angle[0].min() < 0 and 0.7 < by_angle[1].min() < 0.8
assert np.allclose(by_scale[1], by_scale[0], atol=0.06)  # the list of turns does not help
assert by_scale[1, [0, -1]].max() < 0.75
assert min(by_angle[2].min(), by_scale[2].min()) > 0.99

# %% [markdown]
# ## Dynamic filters
#
# *De Brabandere, Jia, Tuytelaars, Van Gool; NIPS 2016.* Another layer predicts the *weights* of a
# filter, for each image or for each place, and the filter reads its regular grid. **What it moves:**
# nothing. The image says how much; in deformable convolution it says where.


# %%
def dynamic_filter(x, weights):  # C H W, and H W 25: weights of their own for each place
    regular = np.moveaxis(np.indices(x.shape[1:]), 0, -1)[..., None, :] + R(5)
    return np.einsum("cyxk,yxk->cyx", sample(x, regular.astype(float)), weights)


# %% [markdown]
# Both can shift a map by parts of a pixel. The filter needs 25 numbers, which are one row of the
# matrix $G$; the offset needs two. Once the shift leaves the window, the filter has nothing to read:


# %%
def weights_for(shift):  # of a 5x5 window whose middle is p0: G of the place p0 + shift
    return G(2 + shift.reshape(-1, 2), (5, 5)).toarray().reshape(*shift.shape[:-1], 25)


by_place = rng.integers(-16, 17, (9, 11, 2)) / 8.0  # up to two pixels, different everywhere
filtered = dynamic_filter(x, weights_for(by_place))
distances = np.linspace(0, 5, 41)
sideways = [np.broadcast_to((0.0, s), (9, 11, 2)) for s in distances]
apart = [np.abs(dynamic_filter(x, weights_for(s)) - sample(x, yx + s)).mean() for s in sideways]

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(8.6, 2.9), width_ratios=(1, 1.7),
                                  layout="constrained")  # fmt: skip
window = weights_for(np.array((-0.5, 1.25))).reshape(5, 5)
draw.weights_of(left, window, "a shift of (-0.5, 1.25)", "{:.3f}")
draw.curves(right, distances, {"": apart}, None, title="25 weights against 2 offsets",
            xlabel="shift (pixels)", ylabel="mean difference")  # fmt: skip
show(fig)

# %% tags=["check"]
one_tap = np.moveaxis(by_place, -1, 0)[None]  # the same as a deformable 1x1 convolution
by_offset = deform_conv2d(x[None], one_tap, np.eye(3)[:, :, None, None])[0]
assert np.array_equal(filtered, by_offset)  # bit for bit
assert max(apart[:17]) < 1e-13 and min(apart[24:]) > 1  # within 2 pixels, and beyond 3
assert not weights_for(np.array((0.0, 3.0))).any()
blurred = dynamic_filter(x, np.full((9, 11, 25), 1 / 25))  # and what no single place can give
assert np.isclose(blurred[0, 4, 5], x[0, 2:7, 3:8].mean())

# %% [markdown]
# Within two pixels the two agree to the last digit. Then a growing part of what is wanted lies
# outside the window, and from three pixels on all weights are 0. But 25 weights can also blur or
# sharpen, which no single place can.
#
# ## Steerable filters, and combinations of Gaussian derivatives
#
# *Freeman, Adelson; PAMI 1991.* The derivative of a Gaussian along any direction is a combination of
# two fixed filters, $\cos\alpha\, G_x + \sin\alpha\, G_y$, exactly. So a filter is turned without
# touching its grid. (Perona's *deformable kernels*, CVPR 1991, are of this kind, for scales as
# well; the paper remarks that the word means something else there.) **What it moves:** nothing; the
# weights are combined. (In this section $G_x$ and $G_y$ are such derivatives, not the matrix $G$.)

# %%
r, alpha = R(13), np.deg2rad(35)
gauss = np.exp(-(r**2).sum(axis=1) / (2 * 2**2))  # 2 pixels wide
Gy, Gx = -r[:, 0] * gauss, -r[:, 1] * gauss
steered = np.cos(alpha) * Gx + np.sin(alpha) * Gy
along = np.array((np.sin(alpha), np.cos(alpha)))  # the direction, (y, x)
made_anew = -(r @ along) * gauss


# %%
def x_to(alpha):  # the matrix that turns the x axis to this direction
    c, s = np.cos(alpha), np.sin(alpha)
    return np.array([[c, s], [-s, c]])


# %% [markdown]
# The other way: keep the weights of $G_x$, and turn the grid by offsets, $(A - I)\, p_n$. On a
# slope, where interpolation is exact, both give the same.

# %% tags=["check"]
assert np.allclose(steered, made_anew, rtol=0, atol=1e-15)
assert np.allclose(x_to(alpha) @ (0, 1), along)

# %% tags=["check"]
slope = np.array((0.7, -0.4))
ramp = (canvas @ slope)[None]
regular, turned_grid = sample(ramp, 42.0 + r)[0], sample(ramp, 42 + r @ x_to(alpha).T)[0]
assert np.isclose(regular @ steered, turned_grid @ Gx, rtol=1e-12)
assert np.isclose(regular @ steered / (regular @ Gx), slope @ along / slope[1])  # as the slope says

# %%
spot, degrees = np.array((47.0, 27.0)), np.arange(0, 181, 5)
patch = sample(face, spot + r)[0]
by_steering = [patch @ (np.cos(a) * Gx + np.sin(a) * Gy) for a in np.deg2rad(degrees)]
by_turning = [sample(face, spot + r @ x_to(a).T)[0] @ Gx for a in np.deg2rad(degrees)]

# %%
fig, axes = plt.subplots(1, 5, figsize=(11, 2.5), width_ratios=(1, 1, 1, 1, 1.7),
                         layout="constrained")  # fmt: skip
filters = {"$G_x$": Gx, "$G_y$": Gy, "steered by 35 degrees": steered}
for ax, (title, values) in zip(axes[:3], filters.items(), strict=True):
    draw.weights_of(ax, values.reshape(13, 13), title)

# %%
picture(axes[3], face[0], "$G_x$, its grid turned", vmin=0, vmax=1)
dots(axes[3], spot + (r @ x_to(alpha).T)[(r % 2 == 0).all(axis=1)], P, size=9)
axes[3].set(xlim=(10, 44), ylim=(64, 30), xlabel="", ylabel="")
draw.curves(axes[4], degrees, {"weights steered": by_steering, "grid turned": by_turning},
            xlabel="angle (degrees)", title="the response at that place")  # fmt: skip
show(fig)

# %% tags=["check"]
largest = np.abs(np.subtract(by_steering, by_turning)).max()
assert 0 < largest < 0.05 * np.abs(by_steering).max()  # on a photograph interpolation differs

# %% [markdown]
# *Jacobsen, van Gemert, Lou, Smeulders; CVPR 2016* make all filters of a network like this: a basis
# of Gaussian derivatives up to order 4, and only its coefficients are learnt, 15 for a filter of any
# size. The paper: combined filters of several scales can look like what its own filter does, but
# what is learnt are weights, not places.

# %%
line = np.arange(-6, 7) / 2
hermite = [np.polynomial.hermite_e.hermeval(line, np.eye(5)[n]) for n in range(5)]
orders = [(i, j) for i in range(5) for j in range(5 - i)]  # of the derivatives in y and x
basis = np.array([np.outer(hermite[i], hermite[j]) for i, j in orders]) * gauss.reshape(13, 13)
coefficients = rng.normal(size=len(basis))
combined = np.tensordot(coefficients, basis, 1)

# %% tags=["check"]
assert basis.shape == (15, 13, 13)
assert np.allclose(-2 * basis[orders.index((1, 0))].ravel(), Gy)
assert np.allclose(-2 * basis[orders.index((0, 1))].ravel(), Gx)
each = conv2d(face[None], basis[:, None])[0]
response_to_all = conv2d(face[None], combined[None, None])[0, 0]
assert np.allclose(response_to_all, np.tensordot(coefficients, each, 1))

# %% [markdown]
# ## DCNv2
#
# *Zhu, Hu, Lin, Dai; CVPR 2019.* The same branch also predicts a mask, $\Delta m_k$ from 0 to 1 for
# each tap, and there are more deformable layers. **What it moves:** as here; and each place says how
# much it counts, which can also switch a tap off. The reference has it: `mask`.
#
# $$ y(p) = \sum_k w_k\, x(p + p_k + \Delta p_k)\, \Delta m_k $$

# %%
offset = rng.choice(np.arange(-15, 16, 2) / 8, (2, 18, 9, 11))
mask = rng.integers(0, 5, (2, 9, 9, 11)) / 4
v2 = deform_conv2d(batch, offset, w, padding=1, mask=mask)
v1 = deform_conv2d(batch, offset, w, padding=1)

# %% tags=["check"]
assert np.array_equal(deform_conv2d(batch, offset, w, padding=1, mask=np.ones_like(mask)), v1)
taps_read = sample(batch[0], sampling_points(offset, 3, padding=1)[0, 0])  # C 9 H W
by_mask = np.einsum("ock,ckyx,kyx->oyx", w.reshape(4, 3, 9), taps_read, mask[0])
assert np.array_equal(v2[0], by_mask)

# %% tags=["check"]
gy9 = rng.integers(-4, 5, v2.shape).astype(float)
grads = deform_conv2d_backward(gy9, batch, offset, w, padding=1, mask=mask)
by_hand = np.einsum("oyx,ock,ckyx->kyx", gy9[0], w.reshape(4, 3, 9), taps_read)
assert np.array_equal(grads.mask[0], by_hand)  # w_k x(.), summed over what shares the mask

# %% [markdown]
# The branch starts at zero. Its text takes a sigmoid, so that a mask starts as 1/2; so does
# `ModulatedDeformConv2dPack` of mmcv. MXNet's layer for Gluon, `ModulatedDeformableConvolution`, takes
# twice the sigmoid, and starts as the plain convolution. For RoIs a bin is multiplied by its mask:
# `deform_roi_pool(...) * mask`.

# %% tags=["check"]
sigmoid_of_0 = np.full_like(mask, 1 / (1 + np.exp(-0.0)))
assert np.array_equal(deform_conv2d(batch, offset, w, padding=1, mask=sigmoid_of_0), v1 / 2)
assert np.array_equal(deform_conv2d(batch, offset, w, padding=1, mask=2 * sigmoid_of_0), v1)

# %% [markdown]
# ## DCNv3
#
# *Wang et al., InternImage; CVPR 2023.* Channels are cut into groups; each group has offsets and a
# mask of its own, and the masks of its taps go through a **softmax**. The weights no longer belong to
# taps: each tap is weighted by its mask alone, and a group has one matrix $w_g$.
#
# $$ y(p) = \sum_g w_g \sum_k m_{gk}\, x_g(p + p_k + \Delta p_{gk}) $$


# %%
def softmax(a, axis):
    e = np.exp(a - a.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def v3(x, offset, mask, w_g):  # w_g of all groups: O C 1 1
    each_channel = np.ones((x.shape[1], 1, 3, 3))  # depthwise, and no weights
    return conv2d(deform_conv2d(x, offset, each_channel, padding=1, mask=mask), w_g)


# %%
x8, w_g = rng.normal(size=(1, 6, 9, 11)), rng.normal(size=(4, 6, 1, 1))
offset3, logits = rng.normal(size=(1, 2 * 18, 9, 11)), rng.normal(size=(1, 2, 9, 9, 11))
mask3 = softmax(logits, axis=2).reshape(1, 18, 9, 11)  # 2 groups of 9 taps
y3 = v3(x8, offset3, mask3, w_g)

# %% tags=["check"]
direct = np.zeros((4, 9, 11))
for g in range(2):  # the sum as it is written above, group by group
    p = sampling_points(offset3, 3, padding=1)[0, g]
    read = (sample(x8[0, 3 * g : 3 * g + 3], p) * mask3[0, 9 * g : 9 * g + 9]).sum(axis=1)
    direct += np.tensordot(w_g[:, 3 * g : 3 * g + 3, 0, 0], read, 1)
assert np.allclose(y3[0], direct)

# %% tags=["check"]
assert np.allclose(mask3.reshape(2, 9, -1).sum(axis=1), 1)
start = v3(x8, 0 * offset3, np.full_like(mask3, 1 / 9), w_g)  # logits and offsets of zero
assert np.allclose(start, conv2d(conv2d(x8, np.full((6, 1, 3, 3), 1 / 9), padding=1), w_g))

# %% [markdown]
# (The last check: before training it is a mean filter, not a convolution with nine weights. Its
# code also has x before y and enumerates taps column by column; `from_layout(..., "dcnv3")` knows.)
#
# ## DCNv4
#
# *Xiong et al.; CVPR 2024.* The softmax goes, and the masks are any numbers, as the weights of a
# convolution are. (Its other half is a kernel that reads memory less often; nothing here measures
# that.) Why does it matter? Weights that are positive and sum to 1 give a mean: what a group reads
# stays between the smallest and the largest value that it sees. No sharpening filter can do that.

# %%
edge = np.repeat([0.2, 0.8], 10) * np.ones((1, 1, 9, 1))
sharpen = np.array([0, -1, 0, -1, 5, -1, 0, -1, 0.0]).reshape(1, 9, 1, 1) * np.ones((9, 20))
zero, one_by_one = np.zeros((1, 18, 9, 20)), np.ones((1, 1, 1, 1))
v4 = v3(edge, zero, sharpen, one_by_one)  # the same function, free masks
v3_edge = v3(edge, zero, softmax(sharpen, axis=1), one_by_one)

# %%
fig, ax = plt.subplots(figsize=(6.6, 2.8), layout="constrained")
profiles = {"x": edge, "free masks": v4, "the same masks, softmax": v3_edge}
draw.curves(ax, np.arange(4, 16), {name: v[0, 0, 4, 4:16] for name, v in profiles.items()},
            "upper left", xlabel="x (pixels)", ylabel="y", title="sharpening an edge")  # fmt: skip
ax.axhspan(0.2, 0.8, color="0.93", zorder=0)
show(fig)

# %% tags=["check"]
inner = np.s_[:, :, 1:-1, 1:-1]  # away from the padding, which is read as 0
assert np.allclose(v4[inner], conv2d(edge, sharpen[0, :, 0, 0].reshape(1, 1, 3, 3)))
assert v4[inner].max() > 0.8 + 0.5 and v4[inner].min() < 0.2 - 0.5
many = [v3(edge, zero, softmax(9 * rng.normal(size=(1, 9, 9, 20)), 1), one_by_one) for _ in "abc"]
assert all(v[inner].min() > 0.2 - 1e-12 and v[inner].max() < 0.8 + 1e-12 for v in many)
assert not v3(edge, zero, 0 * sharpen, one_by_one).any()  # free masks start as 0

# %% [markdown]
# Grey is between the smallest and the largest value. (The matrix $w_g$ behind it can subtract one
# *group* from another; within a group there is no way out.)
#
# ## Deformable attention
#
# *Zhu, Su, Lu, Li, Wang, Dai, Deformable DETR; ICLR 2021.* A query $q$ with a reference point
# $\hat p_q$ reads K points around it, for each of M heads on each of L maps, with weights that a
# softmax over L and K makes. **What it moves:** the points, and how much each counts; offsets and
# logits are linear in the query. (In the encoder a query is itself a pixel of one of the maps.)
#
# $$ y_q = \sum_m W_m \Big[ \sum_l \sum_k A_{mlqk}\, W'_m\, x^l\big(\phi_l(\hat p_q) + \Delta p_{mlqk}\big) \Big] $$
#
# $\hat p$ is normalised to 0 ... 1; $\phi_l$ takes it to map l, where the middle of the first pixel is
# 0 (its edge is -1/2).


# %%
def attention(maps, p, offset, logits, W_out, W_in):  # p: Q 2; logits: Q M L K; offset: one 2 more
    Q, M, L, K = logits.shape
    A = softmax(logits.reshape(Q, M, L * K), axis=2).reshape(logits.shape)
    y = np.zeros((len(W_out[0]), Q))
    for m, l in np.ndindex(M, L):
        points = (p * maps[l].shape[1:] - 0.5)[:, None] + offset[:, m, l]
        read = sample(np.tensordot(W_in[m], maps[l], 1), points)  # D Q K
        y += W_out[m] @ (read * A[:, m, l]).sum(axis=-1)
    return y


# %%
Q, M, L, K, C, D = 5, 3, 2, 4, 6, 2
maps = [rng.normal(size=(C, 9, 11)), rng.normal(size=(C, 5, 6))]
where, offset4 = rng.random((Q, 2)), 2 * rng.normal(size=(Q, M, L, K, 2))
logits4 = rng.normal(size=(Q, M, L, K))
W_out, W_in = rng.normal(size=(M, C, D)), rng.normal(size=(M, D, C))
attended = attention(maps, where, offset4, logits4, W_out, W_in)

# %% [markdown]
# First a direct loop over everything, with the sampling of `equations`, which is a sum over *all* q.

# %% tags=["check"]
looped, e = np.zeros((C, Q)), np.exp(logits4)
for q, m, l, k in np.ndindex(Q, M, L, K):
    at_q = where[q] * maps[l].shape[1:] - 0.5 + offset4[q, m, l, k]
    value = np.array([equations.sample(channel, at_q) for channel in maps[l]])
    looped[:, q] += W_out[m] @ (e[q, m, l, k] / e[q, m].sum() * (W_in[m] @ value))
assert np.allclose(attended, looped)

# %% [markdown]
# And the way back: with one map, one point for each head, and nine heads, the softmax of one number
# is 1, and attention *is* deformable convolution. The weights of tap k are the matrix of head k.

# %% tags=["check"]
queries = yx.reshape(-1, 2)  # a query at every pixel
nine = np.moveaxis(offset[0].reshape(9, 2, -1), 2, 0) + R(3)  # Q 9 2
as_heads = np.moveaxis(w.reshape(4, 3, 9), 2, 0)  # W_m: O C
no_logits, W_in9 = np.zeros((99, 9, 1, 1)), [np.eye(3)] * 9
y9 = attention([batch[0]], (queries + 0.5) / (9, 11), nine[:, :, None, None], no_logits,
               as_heads, W_in9)  # fmt: skip
assert np.allclose(y9.reshape(4, 9, 11), v1[0], rtol=0, atol=1e-9)

# %% [markdown]
# Offsets of zero would be bad here: all points of all heads would coincide, with nothing to tell
# them apart. The released code starts with eight heads that look in eight directions, and point k
# is k steps away; the weights start equal. One query on three maps:

# %%
steps = np.array([(0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1)])
initial = steps[:, None] * np.arange(1, 5)[:, None]  # 8 heads, 4 points: (y, x) in pixels of a map
pyramid_maps = [photograph(n) for n in (96, 48, 24)]
query = np.array((0.57, 0.53))
fig, axes = plt.subplots(1, 3, figsize=(9.4, 3.3), layout="constrained")
draw.queries(axes, pyramid_maps, [query * len(m) - 0.5 + initial for m in pyramid_maps])
show(fig)

# %% tags=["check"]
assert initial.shape == (8, 4, 2) and np.abs(initial).max() == 4  # pixels, on each of the maps

# %% tags=["check"]
with_offsets, without = (
    attention([m[None] for m in pyramid_maps], query[None], o * np.ones((1, 8, 3, 4, 2)),
              np.zeros((1, 8, 3, 4)), np.ones((8, 1, 1)) / 8, np.ones((8, 1, 1)))
    for o in (initial[None, :, None], 0.0))  # fmt: skip
three_reads = [sample(m[None], query * len(m) - 0.5)[0] for m in pyramid_maps]
assert np.isclose(without[0, 0], np.mean(three_reads))  # without offsets 96 points are three
assert not np.isclose(with_offsets[0, 0], without[0, 0])

# %% [markdown]
# The same four pixels are four times as far on a map of a quarter of the size: that is how one query
# sees near and far.
#
# ## One sampler, many layers
#
# | layer | who gives the places | for what | who gives the weights | before training |
# |---|---|---|---|---|
# | convolution | nobody | | training | |
# | atrous | nobody: $d\, p_n$ | | training | |
# | spatial transformer | the image: six numbers | an image | nobody: 1 | as it was set |
# | active convolution | training | all images | training | a convolution |
# | **deformable convolution** | the image | an output pixel | training | a convolution |
# | part model, def-pooling | a search, at a cost | a part | training: the cost | |
# | **deformable RoI pooling** | the image | a bin of a RoI | nobody: a mean | RoI pooling |
# | SIFT, TI-pooling | a list of transformations | an image | fixed, or training | |
# | dynamic filter | nobody | | the image | |
# | steerable filter | nobody | | a combination of fixed filters | |
# | DCNv2 | the image | an output pixel | training, times the image | a convolution, or half of it |
# | DCNv3 | the image | a pixel and a group | the image, by a softmax | a mean filter |
# | DCNv4 | the image | a pixel and a group | the image | zero |
# | deformable attention | the query | a head and a map | the query, by a softmax | eight directions |
#
# Read it downwards: after the paper, what moved from *training* to *the image* were the weights.
#
# ## Exercise 1: compose warps
#
# `steps` has the pairs `(A, t)` of warps, the first one first: the first one samples the image at
# $A p + t$, the second one samples the *result* of the first, and so on. Which one warp of the image
# does the same? Returns `(A, t)`.


# %%
def composed_warps(steps):
    # FILL ME IN (about 4 lines): returns (A, t), arrays 2 2 and 2
    raise NotImplementedError


# %%
exercises.check("composed_warps", composed_warps)

# %% [markdown]
# ## Exercise 2: train an active convolution
#
# `theta` (K 2) are the offsets of the taps, (y, x), the same for all places and images. Returns the
# gradient of `theta` from `deform_conv2d_backward`; no padding.


# %%
def active_gradient(grad_output, x, theta, weight):
    # FILL ME IN (about 5 lines): returns K 2
    raise NotImplementedError


# %%
exercises.check("active_gradient", active_gradient)

# %% [markdown]
# ## Exercise 3: steer the second derivative
#
# `Gyy`, `Gxy` and `Gxx` are the second derivatives of a Gaussian as filters. Make the second
# derivative along the direction at `angle` (radians from the x axis towards the y axis).


# %%
def steered_twice(Gyy, Gxy, Gxx, angle):
    # FILL ME IN (about 2 lines): the derivative along u is u_y d/dy + u_x d/dx, twice
    raise NotImplementedError


# %%
exercises.check("steered_twice", steered_twice)

# %% [markdown]
# ## Exercise 4: one head of deformable attention
#
# One map `x` (C H W), Q queries at `p` (Q 2, in pixels of x) with `offset` (Q K 2) and `logits`
# (Q K). Returns Q C: for each query the mean of its K points, weighted by the softmax of its logits.


# %%
def one_head(x, p, offset, logits):
    # FILL ME IN (about 4 lines): call sample
    raise NotImplementedError


# %%
exercises.check("one_head", one_head)

# %% [markdown]
# ## What you now know
#
# * The layers around the paper differ in two things: who gives the places, and who the weights.
# * A warp and a convolution are one deformable convolution with offsets from six numbers; atrous and
#   active convolution are those with constant offsets. All of it bit for bit.
# * A part model finds its offsets by searching, at a cost; a distance transform does all searches in
#   one pass. Deformable RoI pooling predicts them.
# * Dynamic and steerable filters change weights and keep the grid. They do the same within their
#   window, with more numbers.
# * DCNv2, v3 and v4 and deformable attention let the image say how much as well. Attention with one
#   point for each of nine heads is the paper's layer again.
#
# **Next:** you have a layer of your own? [Notebook 13](13_check_your_own_kernel.ipynb) puts a kernel
# to every test that the paper's equations promise.
