# %% [markdown]
# # 5. Learning the offsets
#
# Notebook 4 derived a gradient for every offset. Here offsets *move* along it: first nine offsets
# that a whole image shares, then offsets that a convolution predicts at each place.
#
# The question: *how does a layer learn where to look, and what goes wrong on the way?*

# %%
import inspect
import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before NumPy: on arrays this small, threads only wait

import exercises
import learning
import numpy as np
from figures import BLUES, PN, P, Q, dots, photograph, picture, plt, show
from learning_figures import (
    at_the_border,
    curves,
    descents,
    filters_at,
    landscape,
    lattice,
    on_the_way,
)
from scipy.ndimage import gaussian_filter

from deformable_convnets.reference import (
    R,
    conv2d,
    conv2d_backward,
    deform_conv2d,
    deform_conv2d_backward,
    deform_conv_module,
    deform_conv_module_backward,
    effective_dilation,
    sample,
    sample_backward,
    sampling_points,
    zero_offset_branch,
)  # fmt: skip

rng = np.random.default_rng(0)

# %%
turn = np.deg2rad(35)
A = 1.3 * np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
face = gaussian_filter(photograph(64), 2)[None, None]
w = rng.normal(size=(16, 1, 3, 3))  # sixteen filters, which stay as they are
regular = R(3, dilation=4)
goal = regular @ (A - np.eye(2)).T
target = deform_conv2d(face, learning.everywhere(goal, (56, 56)), w, dilation=4)
path, losses = learning.learn_shared(face, target, w, dilation=4)

# %%
fig, axes = plt.subplots(1, 3, figsize=(9.6, 3.5), layout="constrained", sharey=True)
p0 = np.array([34, 34])
for ax, step in zip(axes, (0, 20, 99), strict=True):
    picture(ax, face[0, 0], f"step {step}: loss {losses[step]:.4f}")
    on_the_way(ax, p0 + regular, goal, path[: step + 1])
    ax.set(xlim=(16, 52), ylim=(52, 16))
axes[0].legend(loc="lower right")
show(fig)

# %% [markdown]
# Sixteen filters read a blurred photograph. What they *should* return is known: what they would
# return with their nine points turned by 35 degrees and spread by 1.3 (the rings). Nobody tells the
# layer where the rings are. It sees only that its outputs are wrong, and by how much. The offsets
# start at zero and follow their gradient.
#
# ## The equations
#
# > $$ y(p_0) = \sum_{p_n \in R} w(p_n) \cdot x(p_0 + p_n + \Delta p_n) \tag{2} $$
# >
# > section 2.1
#
# $$ \frac{\partial y(p_0)}{\partial \Delta p_n} = w(p_n) \cdot \sum_q \frac{\partial G(q, p_0 + p_n + \Delta p_n)}{\partial \Delta p_n} \, x(q) \tag{7} $$
#
# (7) is quoted without the stray sum over $p_n$ of the printed one (notebook 4). With a loss $L$ and
# the learning rate $\eta$, a step of gradient descent for offsets that are parameters is
#
# $$ \Delta p_n \leftarrow \Delta p_n - \eta \, \frac{\partial L}{\partial \Delta p_n} $$
#
# In the paper's layer they are not: a convolution, the *branch*, predicts them, and its weights step,
#
# $$ W_\text{off} \leftarrow W_\text{off} - \beta \, \eta \, \frac{\partial L}{\partial W_\text{off}} $$
#
# where $\beta$ is the paper's multiplier of the learning rate of the offset layers (section 2.3): 1
# by default, and 0.01 for the fully connected one of Faster R-CNN.
#
# ## By hand: one tap, one pixel, one step
#
# A 1x1 kernel of weight 2 and the map of notebook 1. The output at $p_0 = (1, 1)$ reads at
# $(1.5, 1.5)$, between 1, 2 (above) and 5, 1 (below): the mean, 2.25. So $y = 4.5$. We want 6.5.
#
# * $L = (4.5 - 6.5)^2 / 2 = 2$, and $\partial L / \partial y = -2$.
# * Down, x grows by $(5 + 1)/2 - (1 + 2)/2 = 1.5$ per pixel; to the right, by
#   $(2 + 1)/2 - (1 + 5)/2 = -1.5$.
# * (7) times $\partial L / \partial y$: $-2 \cdot 2 \cdot (1.5, -1.5) = (-6, 6)$.
# * With $\eta = 1/32$ the point moves *against* it, down and to the left, by $(6, -6)/32$.

# %%
x = np.array([[1.0, 2, 0, 3], [4, 1, 2, 0], [0, 5, 1, 2]])[None, None]
offset, weight = np.zeros((1, 2, 3, 4)), np.full((1, 1, 1, 1), 2.0)
offset[0, :, 1, 1] = 0.5
grad_y = np.zeros((1, 1, 3, 4))
grad_y[0, 0, 1, 1] = deform_conv2d(x, offset, weight)[0, 0, 1, 1] - 6.5
grad = deform_conv2d_backward(grad_y, x, offset, weight).offset
moved = offset - grad / 32
print(moved[0, :, 1, 1], "reads", deform_conv2d(x, moved, weight)[0, 0, 1, 1])

# %% tags=["check"]
assert grad_y[0, 0, 1, 1] == 2 * 2.25 - 6.5 == -2
assert grad[0, :, 1, 1].tolist() == [-6, 6]  # dy, dx
assert moved[0, :, 1, 1].tolist() == [0.5 + 6 / 32, 0.5 - 6 / 32]
y = deform_conv2d(x, moved, weight)[0, 0, 1, 1]
assert y == 5.9765625 and (y - 6.5) ** 2 / 2 < 0.14  # the loss was 2

# %% [markdown]
# ## The landscape
#
# How does the loss look as a function of *where* one tap reads? For one output pixel, x is
# interpolated cell by cell, so the loss is a patchwork: smooth inside a cell, with a kink on every
# line between cells, and flat where nothing is read any more. Left: 9x11 pixels of smooth noise,
# one tap, and the paths of descent from five starts (crosses).

# %%
patch = learning.smooth(rng, (1, 9, 11), 1.2)
wanted = sample(patch, np.array([3.4, 6.3]))


def descend(start, steps=150, rate=0.4):
    at = [np.array(start)]
    for _ in range(steps):
        error = sample(patch, at[-1]) - wanted
        at.append(at[-1] - rate * sample_backward(error, patch, at[-1]).p)
    return np.array(at)


# %%
starts = (1.6, 4.5), (5.7, 8.6), (6.3, 2.4), (0.6, 9.4), (-1.5, 3.5)
paths = [descend(start) for start in starts]
places = lattice(np.arange(-2.5, 10.51, 0.1), np.arange(-2.5, 12.51, 0.1))
one = (sample(patch, places)[0] - wanted) ** 2 / 2

# %% [markdown]
# On the right, the loss that many pixels share: 196 pixels of another map, which all read at an
# offset, and should read at the offset (1.5, -1.25).

# %%
field, true = learning.smooth(rng, (1, 32, 32), 2), np.array([1.5, -1.25])
pixels = lattice(np.arange(9.0, 23), np.arange(9.0, 23))
moves = lattice(np.arange(-5, 5.1, 0.25), np.arange(-5, 5.1, 0.25))
error = sample(field, moves[:, :, None, None] + pixels) - sample(field, pixels + true)
many = (error[0] ** 2).mean(axis=(2, 3)) / 2

# %%
fig, axes = plt.subplots(1, 3, figsize=(10.4, 3.3), layout="constrained", width_ratios=(11, 9, 9))
landscape(axes[0], one, places, "one pixel: root of the loss, by p")
descents(axes[0], paths)
axes[1].plot(places[0, :, 1], one[59], color=Q)
axes[1].set(title="the loss at $p_y = 3.4$: kinks", xlabel="x (pixels)", xticks=range(-2, 13, 2))
axes[1].grid(axis="x", alpha=0.5)

# %%
landscape(axes[2], many, moves, "196 pixels: root of the loss, by offset")
dots(axes[2], true, P)
axes[2].set(xlabel="dx (pixels)", ylabel="dy (pixels)")
show(fig)

# %% tags=["check"]
px = np.arange(4, 5.01, 0.125)
cell = [(sample(patch, np.array([3.4, v]))[0] - wanted[0]) ** 2 for v in (*px, 5.125)]
assert np.abs(np.diff(cell[:-1], 3)).max() < 1e-12  # a parabola inside the cell
assert np.abs(np.diff(cell, 3)).max() > 1e-6  # not across its edge
assert np.array_equal(paths[4][-1], starts[4])  # outside the map: flat, it never moves
assert max(np.abs(sample(patch, p[-1]) - wanted).max() for p in paths[1:3]) < 1e-3
assert np.abs(sample(patch, paths[3][-1]) - wanted) > 0.01 and abs(paths[3][-1][0] - 2) < 0.3
best = moves[np.unravel_index(many.argmin(), many.shape)]
assert np.array_equal(best, true) and many.min() < 1e-12

# %% [markdown]
# What to notice (white is 0, dark is large). One pixel alone has whole *lines* of perfect places,
# wherever the brightness is right. Three starts found three of them; the one at the upper right got stuck on row
# 2, where two cells fall towards their common edge: a kink can be a valley. The mean over many
# pixels that share an offset has one bowl around the truth; beyond its edge the slope points
# elsewhere. And the start outside the map stays where it is: there the loss is flat.
#
# ## One offset per tap, for the whole image
#
# First the simplest thing that can learn: nine offsets shared by all places. This is *Active
# Convolution* (Jeon and Kim 2017), and it is exactly a deformable convolution whose branch has only
# its bias: at every pixel the branch then says the same. The gradient of the bias is the sum of the
# offset gradients of all pixels.

# %%
only_bias = np.zeros((18, 1, 3, 3)), path[20].ravel()
y = deform_conv_module(face, *only_bias, w, dilation=4)
same = deform_conv2d(face, learning.everywhere(path[20], (56, 56)), w, dilation=4)
error = same - target
grads = deform_conv_module_backward(error, face, *only_bias, w, dilation=4)
fields = learning.everywhere(path[20], (56, 56))
each = deform_conv2d_backward(error, face, fields, w, dilation=4).offset

# %% tags=["check"]
assert np.allclose(y, same, rtol=0, atol=1e-12)
assert np.allclose(grads.offset_bias, each.sum(axis=(0, 2, 3)))

# %% [markdown]
# The whole program of the first figure: forward, error, backward, step. Adam (Kingma and Ba 2015)
# divides each gradient by its recent size, so that a step is about `rate` pixels long.

# %%
print(inspect.getsource(learning.learn_shared))

# %% [markdown]
# The nine points as they learn, with their trails. They do not turn as a rigid body, because nothing
# holds them together: each tap follows its own gradient, and some take a detour.

# %%
fig, axes = plt.subplots(1, 6, figsize=(10.4, 2.3), layout="constrained", sharey=True)
for ax, step in zip(axes, (0, 6, 12, 25, 50, 99), strict=True):
    on_the_way(ax, regular, goal, path[: step + 1], colour="0.6", size=28)
    ax.set(title=f"step {step}", xlim=(-9, 9), ylim=(9, -9), aspect="equal")
show(fig)

# %% tags=["check"]
far = np.abs(path - goal).max(axis=(1, 2))
assert far[0] > 3 and far[-1] < 0.1  # the furthest tap, in pixels
assert losses[-1] < losses[0] / 1000
start = deform_conv2d(face, 0 * fields, w, dilation=4)  # step 0: the plain, dilated convolution
assert np.allclose(start, conv2d(face, w, dilation=4), rtol=0, atol=1e-12)

# %% [markdown]
# ## How far can a tap see
#
# Equation (7) looks at four pixels. What is further away pulls at a tap only if the map *slopes*
# towards it. So the reach of learning is the smoothness of the map. Below, a grid of dilation 2 has
# to turn by 90 degrees, its corners by four pixels, on noise that is blurred over 0.5, 1 and 2 pixels.

# %%
quarter = 2 * R(3) @ (np.array([[0, 1], [-1, 0]]) - np.eye(2)).T
arrived, moving = {}, np.arange(9) != 4  # the centre tap is where it has to be
for width in (0.5, 1, 2):
    noise = learning.smooth(np.random.default_rng(0), (1, 1, 32, 32), width)
    turned = deform_conv2d(noise, learning.everywhere(quarter, (28, 28)), w, dilation=2)
    ends, _ = learning.learn_shared(noise, turned, w, dilation=2)
    arrived[width] = int((np.abs(ends[-1] - quarter).max(axis=1) < 0.2)[moving].sum())
print("of the eight taps that have to move, arrived by blur in pixels:", arrived)

# %% tags=["check"]
assert arrived[0.5] <= 3 and arrived[2] >= 6
assert arrived[0.5] <= arrived[1] <= arrived[2]

# %% [markdown]
# On rough maps most taps end in a valley nearby. Learning follows slopes; it does not search.
#
# ## Offsets from the image
#
# In the paper the offsets are not parameters: a convolution over the same $x$ predicts them, for
# each place its own (Figure 2). Give it something to predict from. $x$ has two channels, a texture
# and a *cue*, such as an earlier layer might have made: 0 where things are small, 1 where they are
# large. The target reads the texture with dilation 1 where the cue is 0, and with dilation 2 where
# it is 1. No fixed grid is right in both. The target is made by a layer of the same form, so a perfect
# branch exists.


# %%
def texture_and_cue(size=24):
    cue = learning.smooth(rng, (1, 1, size, size), 5) > 0
    both = np.concatenate([learning.smooth(rng, (1, 1, size, size), 1.5), cue], axis=1)
    return both.astype(np.float32)


filters = np.zeros((9, 2, 3, 3), np.float32)
filters[:, 0] = rng.normal(size=(9, 3, 3))  # they read the texture alone

# %%
zero_weight, zero_bias = zero_offset_branch(filters, 2)
teacher = zero_weight.copy()
teacher[:, 1, 1, 1] = R(3).ravel()  # the offset is the cue times p_n
pictures = [texture_and_cue() for _ in range(150)]
examples = [(x, deform_conv_module(x, teacher, zero_bias, filters)) for x in pictures]


# %%
def learn_branch(start, steps=150, rate=0.03, gamma=1.0, shared=False):
    net, adam, losses = {"weight": start.copy(), "bias": zero_bias.copy()}, learning.Adam(), []
    for x, wanted in examples[:steps]:
        branch = gamma * net["weight"], gamma * net["bias"]
        error = deform_conv_module(x, *branch, filters) - wanted
        losses.append((error**2).mean())
        grads = deform_conv_module_backward(2 * error / error.size, x, *branch, filters)
        step = {"weight": gamma * grads.offset_weight, "bias": gamma * grads.offset_bias}
        adam.step(net, step, {"weight": 0 if shared else rate, "bias": rate})
    return net, losses


# %%
bias_only, bias_losses = learn_branch(zero_weight, shared=True)
branch, branch_losses = learn_branch(zero_weight)
x, cue = pictures[0], pictures[0][0, 1, 1:-1, 1:-1]
spread = {
    name: effective_dilation(conv2d(x, net["weight"], net["bias"]), 3)[0, 0]
    for name, net in (("bias only", bias_only), ("predicted", branch))
}

# %%
fig, axes = plt.subplots(1, 4, figsize=(10.4, 2.7), layout="constrained", width_ratios=(3, 3, 3, 4))
picture(axes[0], cue, "the cue: 0 or 1", cmap=BLUES, vmax=2.5)
curves(axes[3], {"predicted": branch_losses, "bias only": bias_losses}, colours=(P, PN))

# %%
for ax, (name, dilation) in zip(axes[1:3], spread.items(), strict=True):
    picture(ax, dilation, f"{name}: dilation", cmap=BLUES, vmin=0, vmax=2.5)
    for value in (0, 1):
        row, column = np.argwhere(cue == value)[(cue == value).sum() // 2]
        at = f"{dilation[row, column]:.1f}"
        ax.text(column, row, at, ha="center", va="center", color="white", weight="bold")
show(fig)

# %% tags=["check"]
small, large = cue == 0, cue == 1
middle = spread["bias only"]
assert np.ptp(middle) < 1e-5 and 1.2 < middle.mean() < 1.8  # a compromise, everywhere the same
assert abs(spread["predicted"][small].mean() - 1) < 0.2
assert abs(spread["predicted"][large].mean() - 2) < 0.2
assert np.mean(branch_losses[-20:]) < np.mean(bias_losses[-20:]) / 8

# %% [markdown]
# What to notice: the shared grid settles between the two sizes and is wrong everywhere. "Learnt" is
# not enough; the offsets have to depend on the place.
#
# ## Why the branch starts at zero
#
# The paper initialises the branch with zeros (section 2.3). Two questions are always asked. *What
# does the layer compute then?* A plain convolution: a trained network can be taken as it is, and
# nothing changes at first. *Can something that is zero learn?* Yes:
#
# $$ \frac{\partial L}{\partial W_\text{off}(c, p_n)} = \sum_\text{images} \sum_{p_0} x_c(p_0 + p_n)\, \frac{\partial L}{\partial \Delta p(p_0)} $$
#
# ($c$ the channels of $x$, $p_n$ the taps of the branch) has $x$ and the gradient of the offsets in it,
# not $W_\text{off}$. What *is* zero at first is the
# gradient that $x$ gets **through** the branch, since that one is multiplied by $W_\text{off}$.

# %%
x, wanted = examples[0]
x, wanted, layer = x.astype(float), wanted.astype(float), filters.astype(float)
start = zero_offset_branch(layer, 2)
plain = conv2d(x, layer)
first = deform_conv_module_backward(plain - wanted, x, *start, layer)
nothing = deform_conv_module_backward(plain - wanted, x, *start, 0 * layer)

# %% tags=["check"]
assert np.allclose(deform_conv_module(x, *start, layer), plain, rtol=0, atol=1e-12)
assert np.abs(first.offset_weight).max() > 1 and np.abs(first.offset_bias).max() > 1
assert np.allclose(first.x, conv2d_backward(plain - wanted, x, layer).x)  # no branch term
assert not nothing.offset_weight.any()  # branch and layer both zero: nothing ever moves

# %% [markdown]
# The last line is the case to avoid: (7) is multiplied by $w(p_n)$, so a tap of weight zero has no
# gradient for its offset.
#
# Does it have to be exactly zero? Three starts: zeros; small normal numbers, of deviation 0.01; and
# the usual one for a convolution, He's (Kaiming), with $\sqrt{2 / (C \cdot 9)}$. A loop over all
# layers that initialises "every convolution" overwrites the zeros silently with the third.

# %%
sizes = {"zero": 0, "N(0, 0.01)": 0.01, "Kaiming": np.sqrt(2 / 18)}
normal = rng.normal(size=zero_weight.shape)
begin = {name: (scale * normal).astype(np.float32) for name, scale in sizes.items()}
by_start = {name: learn_branch(weight)[1] for name, weight in begin.items()}
spans = {name: conv2d(pictures[0], weight) for name, weight in begin.items()}

# %%
fig, axes = plt.subplots(1, 4, figsize=(10.4, 2.7), layout="constrained", width_ratios=(3, 3, 3, 4))
p0 = lattice((5, 16), (5, 16)).reshape(-1, 2)
for ax, (name, span) in zip(axes, spans.items(), strict=False):
    points = sampling_points(span, 3)[0, 0][:, *p0.T]
    filters_at(ax, pictures[0][0, 0], f"step 0: {name}", p0 + 1, points)
curves(axes[3], by_start)
show(fig)

# %% tags=["check"]
early = {name: np.mean(values[:10]) for name, values in by_start.items()}
late = {name: np.mean(values[-20:]) for name, values in by_start.items()}
assert not spans["zero"].any() and np.abs(spans["Kaiming"]).max() > 2  # pixels, before any step
assert early["Kaiming"] > 1.5 * early["zero"]
assert late["Kaiming"] > 1.5 * late["zero"]
assert 0.5 < late["N(0, 0.01)"] / late["zero"] < 2  # small is as good as zero
tenfold = conv2d(10 * pictures[0], begin["Kaiming"])
assert np.allclose(tenfold, 10 * spans["Kaiming"], atol=1e-3)

# %% [markdown]
# Small random numbers do no harm here. Kaiming's scatter the points before anything has been learnt,
# and the layer has to find its way back. The branch is linear: features ten times as large scatter
# the points ten times as far.
#
# ## How fast: the multiplier $\beta$
#
# Now a network that classifies: pictures of one disk in noise, small or large, and each pixel of a
# 16x16 map has to say *background*, *small* or *large*. The inside of a disk looks the same in both
# cases, so a pixel must see as far as the edge. A stem of stride 2, the layer of Figure 2 with
# 3x3 taps, a 1x1 head: `learning.py`. Everything is trained by Adam, in 120 steps of four pictures,
# with three seeds; the branch's rate is multiplied by $\beta$. Two rows are controls: no learning of
# offsets, with the plain grid and with dilation 2.

# %%
rows = {
    "plain grid": {"beta": 0},
    "dilation 2": {"beta": 0, "dilation": 2},
    "beta = 0.01": {"beta": 0.01},
    "beta = 0.1": {"beta": 0.1},
    "beta = 1": {"beta": 1},
    "beta = 1, clipped": {"beta": 1, "limit": 2},
}


# %%
def trained(names):
    return {n: [learning.train(seed, **rows[n])[0] for seed in range(3)] for n in names}


nets = trained(["plain grid", "dilation 2"])

# %%
nets |= trained(["beta = 0.01", "beta = 0.1"])

# %%
nets |= trained(["beta = 1", "beta = 1, clipped"])

# %%
test = learning.scenes(np.random.default_rng(99), 48)
measured = {
    name: [learning.report(net, *test, rows[name].get("limit", np.inf)) for net in nets[name]]
    for name in rows
}
table = {n: {k: np.array([r[k] for r in runs]) for k in runs[0]} for n, runs in measured.items()}

# %%
print("mean of 3 seeds      loss  accuracy   on disks: dilation (each seed)   outside the map")
for name, of in table.items():
    loss, accuracy, outside = (of[k].mean() for k in ("loss", "accuracy", "outside"))
    each = "  ".join(f"{d:4.1f}" for d in of["dilation"])
    print(f"{name:18} {loss:7.3f} {accuracy:8.1%}", f"{each:>28} {outside:>20.0%}")

# %%
k = int(np.argmax((test[1] == 2).sum(axis=(1, 2))))  # the picture with the largest disk
here = np.round(np.argwhere(test[1][k] == 2).mean(axis=0)).astype(int)
fig, axes = plt.subplots(1, 2, figsize=(8.4, 4), layout="constrained", sharey=True)
for ax, name in zip(axes, ("beta = 0.1", "beta = 1"), strict=True):
    offset = learning.forward(nets[name][0], test[0][k : k + 1])["offset"]
    points = sampling_points(offset, 3, padding=1)[0, 0, :, *here]
    filters_at(ax, test[0][k, 0, ::2, ::2], f"{name}: nine points", here, points, size=25)
    ax.set(xlim=(-24, 40), ylim=(40, -24))
show(fig)

# %% tags=["check"]
fast, slow, plain = (table[n] for n in ("beta = 1", "beta = 0.1", "plain grid"))
assert fast["dilation"].mean() > 2 * slow["dilation"].mean() and slow["dilation"].mean() < 3
assert fast["outside"].min() > 0.05 and slow["outside"].max() < 0.02
assert abs(fast["accuracy"].mean() - plain["accuracy"].mean()) < 0.02  # it does not show here
assert slow["loss"].mean() < plain["loss"].mean()
assert table["beta = 0.01"]["dilation"].mean() < min(1.5, slow["dilation"].mean())
assert table["beta = 1, clipped"]["outside"].max() < fast["outside"].min()

# %% [markdown]
# What to notice. The last two columns are about the pixels on disks, where the branch has something
# to say.
#
# * With $\beta = 1$ the points fly apart, in every seed. The map is 16 cells wide; a good part of the
#   points is outside it and reads zeros. **Accuracy does not tell**: those networks classify about as
#   well as the plain one. Who prints the loss alone never sees it. Print the effective dilation and
#   the fraction outside with it.
# * With $\beta = 0.1$ they go where they are useful, and the loss is lower than with the plain grid.
# * With $\beta = 0.01$ they have hardly left the grid in 120 steps.
# * The best $\beta$ belongs to an optimiser, a task and a number of steps. Adam makes large steps
#   where gradients are small, and the paper's $\beta = 1$ is for SGD with pre-trained features.
#   Deformable ConvNets v2 (Zhu et al. 2019) uses 0.1.
#
# ## Outside the map nothing is learnt
#
# Why do the points not come back? A sample that is more than a pixel outside reads 0 wherever it is.
# Its value has slope 0, so its offset gets no gradient; neither does x; nor the weight of its tap,
# whose gradient is the sample times `grad_output`. Below, one point that walks down a column of the
# 9x11 map of the landscape, at $p_x = 3.4$. The other curve is the same point, *clamped* to the map.

# %%
walk = np.stack([np.arange(-3, 11.01, 0.125), np.full(113, 3.4)], axis=-1)
held = np.clip(walk, 0, (8, 10))
free = (walk >= 0) & (walk < (8, 10))  # a clamped coordinate has no slope
ones = np.ones((1, 113))
values = sample(patch, walk)[0], sample(patch, held)[0]
slopes = sample_backward(ones, patch, walk).p, sample_backward(ones, patch, held).p * free

# %%
fig, axes = plt.subplots(1, 3, figsize=(10.4, 2.8), layout="constrained")
at_the_border(axes[0], walk[:, 0], *values, "value")
for i, ax in enumerate(axes[1:]):
    name = rf"$\partial x(p) / \partial p_{'yx'[i]}$"
    at_the_border(ax, walk[:, 0], slopes[0][:, i], slopes[1][:, i], name)
axes[2].legend(loc="lower left")
show(fig)

# %% tags=["check"]
outside = (walk[:, 0] < -1) | (walk[:, 0] >= 9)
assert not values[0][outside].any() and not slopes[0][outside].any()
assert np.abs(slopes[0][(walk[:, 0] > -1) & (walk[:, 0] < 0)]).min() > 0.01  # outside, but in reach
assert values[1][outside].all() and slopes[1][outside, 1].all()  # clamped: x still moves it
assert not slopes[1][outside, 0].any()
gone = np.full((1, 2, 9, 11), -30.0)
dead = deform_conv2d_backward(np.ones((1, 1, 9, 11)), patch[None], gone, np.ones((1, 1, 1, 1)))
assert not dead.x.any() and not dead.offset.any() and not dead.weight.any()

# %% [markdown]
# Only something else can bring such a point back: the branch's weights serve all places, and have the
# gradients of *other places*, as long as there are some. Four remedies, all in use.
#
# * **$\beta$**, or a warm-up: small steps of the branch until the layer above is of use to it.
# * **Clipping**, or a tanh: offsets within a limit. The last row of the table keeps within 2 pixels
#   what $\beta = 1$ would have lost. A clipped offset has gradient 0 too, but its sample reads
#   something, and the weight of its tap goes on learning.
# * **Normalising**: the branch predicts $\Delta \hat p$, and $\Delta p$ is $\gamma$ times a size times
#   $\Delta \hat p$, as in deformable RoI pooling (notebook 7). For the step, $\gamma$ times the size is
#   a multiplier: from a branch of zeros it acts with Adam as a $\beta$ of its value, and with plain
#   gradient descent as a $\beta$ of its square, since it enters twice.
# * **The border**: clamped points keep a value, so their weights and one coordinate go on learning.
#   It is another operator than equation (3), and not what other libraries compute (notebook 2).


# %%
def two_steps(gamma, rate):
    """Plain gradient descent on a branch whose result is multiplied by gamma."""
    net = [array.astype(float) for array in start]
    for _ in range(2):
        branch = [gamma * array for array in net]
        error = deform_conv_module(x, *branch, layer) - wanted
        grads = deform_conv_module_backward(error, x, *branch, layer)
        net[0] -= rate * gamma * grads.offset_weight
        net[1] -= rate * gamma * grads.offset_bias
    return gamma * net[0]


# %% tags=["check"]
assert np.allclose(two_steps(0.1, 1e-2), two_steps(1, 0.1**2 * 1e-2), rtol=1e-9)
assert not np.allclose(two_steps(0.1, 1e-2), two_steps(1, 0.1 * 1e-2), rtol=0.5)
scaled, _ = learn_branch(zero_weight, steps=12, gamma=0.1)
slower, _ = learn_branch(zero_weight, steps=12, rate=0.1 * 0.03)
assert np.allclose(0.1 * scaled["weight"], slower["weight"], rtol=0, atol=1e-4)
assert np.abs(slower["weight"]).max() > 0.01

# %% [markdown]
# ## Does it always help
#
# No. Look at the table again: **dilation 2, with no learning of offsets, does better than
# $\beta = 0.1$**, with these three seeds. On these pictures a wider grid is all one needs. The layer found one by itself, which
# is worth something when nobody knows the right dilation, or when it differs from place to place, as
# with the cue above. But a comparison with the plain grid alone would have sold it for more.
#
# The paper's gains, too, shrink against the best fixed dilation: DeepLab on VOC has a mIoU (intersection
# over union, the mean of the classes) of 69.7 by default, 73.6 with dilation 6, and 75.3 deformable
# (Table 3). Users report, without controls:
#
# * on MNIST a training that diverged, with offsets of a thousand (`msracver/Deformable-ConvNets` #129),
#   and an accuracy that fell (`unsky/Deformable-ConvNets-caffe` #21);
# * elsewhere, in a detector on VOC offsets of 0.01 to 0.001, and in a classifier points out of the map
#   (`1zb/deformable-convolution-pytorch` #9).
#
# So compare with the best fixed dilation, with shared offsets, and at equal time.

# %% tags=["check"]
slow, fixed, plain = (table[n]["loss"].mean() for n in ("beta = 0.1", "dilation 2", "plain grid"))
assert fixed < 0.9 * slow and slow < 0.9 * plain
assert table["dilation 2"]["accuracy"].mean() > table["beta = 0.1"]["accuracy"].mean()
assert bias_losses[-1] > 5 * branch_losses[-1]  # where the place decides, no fixed grid will do

# %% [markdown]
# ## Exercise 1: the gradient of the branch
#
# $\partial L / \partial W_\text{off}$, of shape 18 C 3 3. No padding. In some of the hidden problems
# the branch is zero; its gradient is not.


# %%
def branch_gradient(grad_output, x, offset_weight, offset_bias, weight):
    # FILL ME IN (about 3 lines): conv2d, deform_conv2d_backward, conv2d_backward
    raise NotImplementedError


# %%
exercises.check("branch_gradient", branch_gradient)

# %% [markdown]
# ## Exercise 2: who stops learning
#
# A 3x3 layer with `padding=1`, stride 1, and the paper's border; `size` is (H, W) of x. Which of its
# sampling points read nothing and get no gradient, whatever x is? True or False for each, of the
# shape N G K Ho Wo of `sampling_points`, less its last axis. (No point is exactly at a limit.)


# %%
def stops_learning(offset, size):
    # FILL ME IN (about 2 lines): sampling_points(offset, 3, padding=1)
    raise NotImplementedError


# %%
exercises.check("stops_learning", stops_learning)

# %% [markdown]
# ## Exercise 3: one step, with $\beta$
#
# One step of plain gradient descent on the layer's weight, and on its branch with the multiplier.
# No padding. Return the three new arrays: `offset_weight, offset_bias, weight`.


# %%
def one_step(grad_output, x, offset_weight, offset_bias, weight, rate, beta):
    # FILL ME IN (about 5 lines): deform_conv_module_backward gives all gradients at once
    raise NotImplementedError


# %%
exercises.check("one_step", one_step)

# %% [markdown]
# ## Exercise 4: learn a quarter turn
#
# `target` is what the filters `weight` (O 1 3 3) read from `x` with their grid turned by 90 degrees, to
# one side or the other; no padding. Learn nine shared offsets from zero and return them, *rounded to
# whole pixels*, as (9, 2). The map is smooth enough; the loop is yours.


# %%
def quarter_turn(x, target, weight):
    # FILL ME IN (about 7 lines): 150 plain steps of the mean squared error with a rate of 1
    raise NotImplementedError


# %%
exercises.check("quarter_turn", quarter_turn)

# %% [markdown]
# ## What you now know
#
# * A tap learns where to read from the slope of the map in its own cell. The loss is smooth inside
#   cells, has kinks between them, and is flat outside the map.
# * Shared offsets are Active Convolution; predicted ones differ from place to place, and there is the
#   point of the layer.
# * A branch of zeros is the plain convolution, and learns from the first step. The layer's weight must
#   not be zero as well.
# * On this task $\beta$ decided whether points go where they help or out of the map, and accuracy did
#   not show it: print the effective dilation and the fraction of points outside the map.
# * A sample that is more than a pixel outside reads nothing and learns nothing. And where it all works,
#   a fixed dilation may do as well or better.
#
# **Next:** what a unit sees through *several* layers whose points have moved.
# [Notebook 6](06_receptive_fields.ipynb) follows the 9, 81 and 729 points of the paper's Figures 5 and
# 6, and measures receptive fields.
