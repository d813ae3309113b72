# %% [markdown]
# # 3. Deformable convolution
#
# Notebook 1 ended with a grid that was right for one size only. Here every output pixel gets a
# grid of its own: each of its taps is moved by an offset, and the offsets come from the image.
#
# The question: *what does equation (2) compute, and which number of the offset array moves which
# tap?*

# %%
import time

import exercises
import numpy as np
from figures import ARROW, P0, PN, P, arrows, dots, photograph, picture, plt, show
from widgets import drag_taps

from deformable_convnets.reference import (
    G,
    R,
    conv2d,
    deform_conv2d,
    deform_conv_module,
    effective_dilation,
    equations,
    from_layout,
    sample,
    sampling_points,
    to_layout,
)  # fmt: skip

rng = np.random.default_rng(0)

# %%
face, p0 = photograph(128), np.array([64, 69])
landmarks = np.array([53, 54, 21, 67, 53, 84, 68, 41, 70, 70, 68, 97, 81, 56, 94, 70, 81, 84])
moved, regular = landmarks.reshape(9, 2), p0 + R(3, dilation=16)
fig, axes = plt.subplots(1, 2, figsize=(8.4, 4.3), layout="constrained")
for ax, title in zip(axes, ("a regular grid", "moved by its offsets"), strict=True):
    picture(ax, face, title)
    dots(ax, regular, PN, "$p_0 + p_n$", size=55, hollow=True)
    dots(ax, p0, P0, "$p_0$", marker="X", size=70)

# %%
arrows(axes[1], regular, moved, colour=ARROW)
dots(axes[1], moved, P, r"$p_0 + p_n + \Delta p_n$", size=55)
axes[1].legend(loc="lower right")
show(fig, save="figures/deformed_grid.png")

# %% [markdown]
# On the left, the nine points that a 3x3 filter of dilation 16 reads for its output at the red
# cross. On the right each point has been moved, here by hand: to the eyes, the cap, the ears, the
# nose, the mouth and the chin. The weights stay with their taps.
#
# ## The equation
#
# > $$ y(p_0) = \sum_{p_n \in R} w(p_n) \cdot x(p_0 + p_n + \Delta p_n) \tag{2} $$
# >
# > section 2.1
#
# Each $\Delta p_n$ has two numbers, for y and for x, and there are $N = |R|$ taps: $2N = 18$
# channels of offsets for a 3x3 kernel. This $N$ counts taps, not channels of $x$. There is one set
# of 18 for **each output pixel of each image**; a convolution over the same $x$ predicts them, at
# test time as in training.
#
# ## By hand, on 3x4 pixels
#
# The map and the weights of notebook 1. There the output at $p_0 = (1, 1)$ was
# $2 + 4 + 2 + 5 - 4 = 9$. Now move the upper tap down by half a pixel: it reads halfway between 2
# and 1, that is 1.5, and the sum becomes 8.5.

# %%
x = np.array([[1.0, 2, 0, 3], [4, 1, 2, 0], [0, 5, 1, 2]])
w = np.array([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]])
offset = np.zeros((1, 18, 1, 2))
offset[0, 2 * 1 + 0, 0, 0] = 0.5  # tap 1 is (-1, 0); its channels are 2 (dy) and 3 (dx)
by_hand = 1.5 + 4 + 2 + 5 - 4 * 1
y = deform_conv2d(x[None, None], offset, w[None, None])
print(y)

# %% tags=["check"]
assert y[0, 0, 0, 0] == by_hand == 8.5
assert y[0, 0, 0, 1] == conv2d(x[None, None], w[None, None])[0, 0, 0, 1]  # its offsets are 0

# %% [markdown]
# `sampling_points` tells where every tap reads: $p = p_0 + p_n + \Delta p_n$, of shape N G K Ho Wo
# 2. An offset may point anywhere, between the pixels and out of the map too; there $x$ is 0, and it
# fades over one pixel ([notebook 2](02_bilinear_sampling.ipynb)).

# %% tags=["check"]
p = sampling_points(offset, 3)
assert p.shape == (1, 1, 9, 1, 2, 2)
assert np.array_equal(p[0, 0, 1, 0, 0], (0.5, 1))  # the moved tap
assert np.array_equal(p[0, 0, 4, 0, 0], (1, 1))  # the centre tap, at p0
assert not deform_conv2d(x[None, None], offset + 100, w[None, None]).any()  # far outside: 0

# %% [markdown]
# ## Four special fields
#
# The first figure of the paper shows what offsets can do to one grid. Here it is redrawn: the
# regular grid, moved at will, stretched, and turned.

# %%
turn = np.deg2rad(35)
rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
fields = {
    "regular": np.zeros((9, 2)),
    "deformed": rng.uniform(-0.7, 0.7, (9, 2)),
    "scaled: (A - I) $p_n$": R(3) * (0.9, 0.4),
    "turned: (A - I) $p_n$": R(3) @ (rotation - np.eye(2)).T,
}

# %%
fig, axes = plt.subplots(1, 4, figsize=(9.6, 2.7), layout="constrained", sharey=True)
for ax, (title, move) in zip(axes, fields.items(), strict=True):
    dots(ax, R(3), PN, size=55, hollow=True)
    arrows(ax, R(3), R(3) + move) if move.any() else None
    dots(ax, R(3) + move, P, size=35)
    dots(ax, (0, 0), P0, marker="X", size=25)
    ax.set(title=title, xlim=(-2.3, 2.3), ylim=(2.3, -2.3), aspect="equal", xlabel="x (pixels)")
    ax.grid(alpha=0.3)
axes[0].set(ylabel="y (pixels)")
show(fig)

# %% [markdown]
# **Zero offset is the plain convolution.** On small whole numbers all sums are exact, so the two
# must agree to the last bit, and they do.

# %%
xs = rng.integers(-8, 9, (2, 3, 9, 11)).astype(float)
ws = rng.integers(-4, 5, (4, 3, 3, 3)).astype(float)
zero = np.zeros((2, 18, 9, 11))
plain, deformed = conv2d(xs, ws, padding=1), deform_conv2d(xs, zero, ws, padding=1)

# %% tags=["check"]
assert np.array_equal(plain, deformed)

# %% [markdown]
# **$\Delta p_n = (d - 1)\, p_n$ is the atrous convolution of dilation d.** The same nine weights,
# a wider grid. Dilation and deformation go together: with `dilation=2` the offsets move the points
# of the dilated grid.


# %%
def everywhere(move):
    """The same nine offsets (9, 2) at all 9x11 output pixels of two images."""
    return np.tile(np.reshape(move, (1, 18, 1, 1)), (2, 1, 9, 11))


atrous = deform_conv2d(xs, everywhere(2.0 * R(3)), ws, padding=1)

# %% tags=["check"]
assert np.array_equal(atrous, conv2d(xs, ws, padding=3, dilation=3))
both = deform_conv2d(xs, everywhere(1.0 * R(3)), ws, padding=2, dilation=2)
assert np.array_equal(both, atrous)

# %% [markdown]
# **$\Delta p_n = (A - I)\, p_n$ reads a warped patch.** The points become $p_0 + A p_n$: a
# convolution on the map as seen through the matrix $A$. With a 41x41 kernel one can look at what
# the filter sees.

# %%
taps = R(41)
views = {"A = I": np.eye(2), "A scales by 2": 2 * np.eye(2), "A turns by 35 degrees": rotation}
fig, axes = plt.subplots(1, 3, figsize=(8.4, 3), layout="constrained")
for ax, (title, A) in zip(axes, views.items(), strict=True):
    seen = sample(face[None], p0 + taps + taps @ (A - np.eye(2)).T)
    picture(ax, seen.reshape(41, 41), title, extent=(-20.5, 20.5, 20.5, -20.5))
    ax.set(xlabel="x of the tap $p_n$", ylabel="y of the tap $p_n$")
    dots(ax, (0, 0), P0, marker="X")
show(fig)

# %% tags=["check"]
template = rng.normal(size=(1, 1, 41, 41))
move = (taps @ (rotation - np.eye(2)).T).reshape(1, -1, 1, 1)
window = face[44:85, 49:90]
steered = deform_conv2d(face[None, None, 44:85, 49:90], move, template)
seen = sample(window[None], np.array([20, 20]) + taps @ rotation.T)
assert np.isclose(steered[0, 0, 0, 0], (template.ravel() * seen[0]).sum())

# %% [markdown]
# The filter was not turned: the *reading* was. A spatial transformer warps the whole map with one
# matrix; here each place has a grid of its own, and the grid need not be affine.
#
# ## Equation (2) with real numbers
#
# Figure 2 of the paper shows the data flow: input, a convolution that makes the offset field, the
# offsets of one output location, the deformed samples, the output. Here are the numbers at one
# $p_0$ on the bridge of the nose, with a made-up branch and the weights of a vertical edge.

# %%
crop = np.round(face[48:60, 63:77] * 64) / 8
branch = rng.integers(-2, 3, (18, 1, 3, 3)) / 32
edge = np.array([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])
field = conv2d(crop[None, None], branch, padding=1)
here = (6, 7)
points = sampling_points(field, 3, padding=1)[0, 0][:, *here]
values = sample(crop[None], points)[0]
result = deform_conv2d(crop[None, None], field, edge[None, None], padding=1)[0, 0][here]

# %%
fig, (ax, text) = plt.subplots(1, 2, figsize=(9.6, 4.1), layout="constrained")
picture(ax, crop, "x, and the nine points of one output pixel", alpha=0.8)
ax.set(xlim=(3.5, 10.5), ylim=(9.5, 2.5))
dots(ax, here + R(3), PN, size=90, hollow=True)
arrows(ax, here + R(3), points)
dots(ax, points, P, size=60)
dots(ax, here, P0, marker="X", size=60)

# %%
columns = points - here - R(3), values, edge.flat
rows = [
    [n, f"{move[0]:+.2f}, {move[1]:+.2f}", f"{value:.2f}", f"{k:.0f}", f"{k * value:.2f}"]
    for n, (move, value, k) in enumerate(zip(*columns, strict=True))
]
rows += [["", "", "", "sum", f"{(edge.ravel() * values).sum():.2f}"]]
heads = ["n", r"$\Delta p_n$", "x(p)", "$w(p_n)$", "product"]

# %%
table = text.table(rows, colLabels=heads, loc="center", cellLoc="right", edges="horizontal")
table.auto_set_column_width(range(5))
table.scale(1.2, 1.45)
text.axis("off")
text.set_title(f"y(p0) = {result:.2f}")
show(fig)

# %% tags=["check"]
assert np.isclose((edge.ravel() * values).sum(), result, rtol=0, atol=1e-12)
by_equation = equations.deform_conv2d(
    equations.Layer(crop[None, None], field, edge[None, None], padding=((1, 1), (1, 1)))
)
assert np.isclose(by_equation[0, 0][here], result, rtol=0, atol=1e-12)

# %% [markdown]
# **Is the branch dilated too?** In the paper it is: the convolution that predicts the offsets has
# the kernel size and the dilation of the layer that they steer (section 2.1). The authors' R-FCN
# follows that; their DeepLab has dilation 1 there. There must be one set of offsets per output
# pixel, so it shares stride and padding with the layer as well. `deform_conv_module` is all of
# Figure 2 in one call.

# %%
wide = {"padding": 2, "dilation": 2}
wide_field = conv2d(crop[None, None], branch, **wide)
two_calls = deform_conv2d(crop[None, None], wide_field, edge[None, None], **wide)
one_call = deform_conv_module(crop[None, None], branch, np.zeros(18), edge[None, None], **wide)

# %% tags=["check"]
assert wide_field.shape == (1, 18, *crop.shape)
assert np.array_equal(one_call, two_calls)

# %% [markdown]
# ## A field of offsets
#
# The offsets are a map themselves: two numbers per tap and pixel. Below, the centre tap's two
# channels of a smooth field, drawn as arrows of two thirds of their length, and all the points that
# three output pixels read.

# %%
yx = np.moveaxis(np.indices((128, 128)), 0, -1) - (70, 70)
zoom = 0.012 * np.hypot(*np.moveaxis(yx, -1, 0))[..., None]
outwards = R(3)[:, None, None] * 5.0 + zoom * yx[None] * 0.25 + zoom * R(3)[:, None, None] * 6
smooth = np.moveaxis(outwards, -1, 1).reshape(1, 18, 128, 128)
fig, axes = plt.subplots(1, 2, figsize=(8.6, 4.1), layout="constrained", sharey=True)
picture(axes[0], face, "offsets of the centre tap, every tenth pixel")
s = np.arange(4, 128, 10)
dy, dx = smooth[0, 8:10, 4::10, 4::10]
_ = axes[0].quiver(s, s, dx, dy, color=P, angles="xy", scale_units="xy", scale=1.5, width=0.006)

# %%
reach = sampling_points(smooth, 3, padding=1)[0, 0]
picture(axes[1], face, "the nine points of three output pixels")
for place in [(70, 70), (40, 35), (100, 100)]:
    dots(axes[1], reach[:, *place], P, size=28)
    dots(axes[1], place, P0, marker="X", size=45)
show(fig)

# %% tags=["check"]
spread = effective_dilation(smooth, 3)[0, 0]
assert spread.shape == (128, 128)
assert spread[70, 70] < spread[40, 35] < spread[5, 5]
assert np.allclose(effective_dilation(np.zeros((1, 18, 1, 1)), 3, dilation=4), 4)

# %% [markdown]
# > "we define a metric called *effective dilation* for a deformable convolution filter. It is the mean of the distances between all adjacent pairs of sampling locations in the filter." (section 4.2)
#
# The paper does not say which pairs are adjacent. The library takes the 12 horizontal and vertical
# neighbours, so a plain filter of dilation d has d, as asserted above. One caution: the number
# also grows when the points are merely scattered.

# %% tags=["check"]
scattered = 4 * rng.normal(size=(1, 18, 40, 40))
assert effective_dilation(scattered, 3, dilation=2).mean() > 6  # disorder, not a larger grid

# %% [markdown]
# ## Which channel is which
#
# A frequent question, and a frequent bug. Here, channel $2n$ is **dy** of tap $n$ and channel
# $2n + 1$ is **dx**; taps are counted row by row. To see how other libraries order the same numbers, label each number with its place
# and let `to_layout` move the labels: `n.0` is dy of tap n, `n.1` is dx.

# %%
labels = (np.arange(9)[:, None] + np.array([0.0, 0.1])).reshape(1, 18, 1, 1)
mask = np.full((1, 9, 1, 1), np.nan)  # a mask is DCNv2 (Zhu et al. 2019), not in this paper
print("channel     ", "  ".join(f"{c:>3}" for c in range(18)))
for name in ("torchvision", "mmcv", "mxnet", "onnx", "chainer", "mindspore", "dcnv3"):
    packed = {"mask": mask} if name == "mindspore" else {}
    order = to_layout(labels, name, 3, **packed).ravel()[:18]
    print(f"{name:12}", "  ".join(f"{v:.1f}" for v in order))

# %% tags=["check"]
for name in ("torchvision", "mmcv", "mxnet", "onnx", "openvino", "paddle"):
    assert np.array_equal(to_layout(labels, name, 3), labels)  # the same order as here
chainer = to_layout(labels, "chainer", 3).ravel()
assert np.allclose(chainer, [n + 0.1 for n in range(9)] + list(range(9)))  # all dx, then all dy
dcnv3 = to_layout(labels, "dcnv3", 3).ravel()
assert np.allclose(dcnv3[:4], (0.1, 0.0, 3.1, 3.0))  # (dx, dy), and taps column by column
assert np.array_equal(from_layout(chainer.reshape(1, 18, 1, 1), "chainer", 3).offset, labels)

# %% [markdown]
# What to notice: a wrong order gives no error message, because the array has the right shape. A
# network trained from scratch does not notice: its branch learns the order in which it is read.
# Weights or offsets carried over from another library give wrong outputs, silently. The authors' own
# RoI pooling uses (x, y) where their convolution uses (y, x).
#
# ## Offset groups: 18 channels or 72
#
# All channels of $x$ may share one grid, as in the paper: 18 channels of offsets. The authors'
# detection networks split the channels into 4 *offset groups* with a grid each: 72. The library
# reads the number of groups from the shape.

# %%
four = rng.normal(size=(1, 8, 6, 7))
kernels = rng.normal(size=(2, 8, 3, 3))
offset72 = rng.uniform(-1, 1, (1, 72, 6, 7))
grouped = deform_conv2d(four, offset72, kernels, padding=1)
one_by_one = sum(
    deform_conv2d(four[:, 2 * i : 2 * i + 2], offset72[:, 18 * i : 18 * i + 18],
                  kernels[:, 2 * i : 2 * i + 2], padding=1) for i in range(4)
)  # fmt: skip

# %% tags=["check"]
assert np.allclose(grouped, one_by_one, rtol=0, atol=1e-12)
assert sampling_points(offset72, 3, padding=1).shape == (1, 4, 9, 6, 7, 2)

# %% [markdown]
# ## One equation, four programs
#
# 1. **Loops**: `equations.py`, all sums written out, over every $q$.
# 2. **Gather**: four reads per point and a mixture of them.
# 3. **Sparse**: $G$ as a matrix, then the weighted sum.
# 4. **Columns**: all samples as one matrix, then one product (im2col). The library is 3 followed
#    by 4.

# %%
xi, wi = rng.normal(size=(1, 2, 7, 8)), rng.normal(size=(3, 2, 3, 3))
oi = rng.uniform(-1.5, 1.5, (1, 18, 5, 6))


def loops(x, offset, weight):
    return equations.deform_conv2d(equations.Layer(x, offset, weight)).astype(float)


# %%
def gather(x, offset, weight):
    p = sampling_points(offset, 3)[0, 0] + 9  # the map gets a rim of nine zeros
    padded = np.pad(x[0], ((0, 0), (9, 9), (9, 9)))
    (i, j), (a, b) = np.moveaxis(np.floor(p).astype(int), -1, 0), np.moveaxis(p % 1, -1, 0)
    upper = (1 - b) * padded[:, i, j] + b * padded[:, i, j + 1]
    lower = (1 - b) * padded[:, i + 1, j] + b * padded[:, i + 1, j + 1]
    samples = (1 - a) * upper + a * lower
    return np.einsum("ock,ckhw->ohw", weight.reshape(*weight.shape[:2], -1), samples)[None]


# %%
def sparse(x, offset, weight):
    p = sampling_points(offset, 3)[0, 0]
    samples = (G(p, x.shape[2:]) @ x[0].reshape(len(x[0]), -1).T).T.reshape(-1, *p.shape[:-1])
    return np.einsum("ock,ckhw->ohw", weight.reshape(*weight.shape[:2], -1), samples)[None]


def columns(x, offset, weight):
    p = sampling_points(offset, 3)[0, 0]
    matrix = sample(x[0], p).reshape(-1, p[0].size // 2)  # C*K rows, Ho*Wo columns
    return (weight.reshape(len(weight), -1) @ matrix).reshape(1, -1, *p.shape[1:3])


# %% tags=["check"]
library = deform_conv2d(xi, oi, wi)
for program in (loops, gather, sparse, columns):
    assert np.allclose(program(xi, oi, wi), library, rtol=0, atol=1e-12), program.__name__

# %% [markdown]
# How long they take, as a multiple of the library's time, on the map of the check above and on one
# of 32 channels and 42x52 pixels (where the loops would take hours). The library is faster than
# `columns`, its own recipe, by the order in memory: it keeps the channels of a point side by side, and
# `sample` has to copy them all to return channels first.


# %% tags=["timing"]
def seconds(program, *args):
    starts = [(time.perf_counter(), program(*args), time.perf_counter()) for _ in range(3)]
    return min(end - start for start, _, end in starts)


def compare(programs, C, H, W):
    sizes = (1, C, H, W), (1, 18, H - 2, W - 2), (32, C, 3, 3)
    args = [rng.normal(size=size) for size in sizes]
    for program in programs:
        times = seconds(program, *args) / seconds(deform_conv2d, *args)
        print(f"{C:2} channels, {H}x{W}: {program.__name__:7} {times:6.1f} times the library")


# %% tags=["timing"]
compare((loops, gather, sparse, columns), 2, 7, 8)
compare((gather, sparse, columns), 32, 42, 52)

# %% [markdown]
# ## What kind of function it is
#
# Linear in $x$ and in $w$; not in the offset. Move the map and its offsets together by whole
# pixels and the output moves too.

# %% tags=["check"]
run = deform_conv2d
assert np.allclose(run(2 * xi, oi, wi), 2 * run(xi, oi, wi))
assert np.allclose(run(xi, oi, wi + 1), run(xi, oi, wi) + run(xi, oi, 0 * wi + 1))
assert not np.allclose(run(xi, 2 * oi, wi), 2 * run(xi, oi, wi))
shifted = np.pad(xi, ((0, 0), (0, 0), (3, 0), (2, 0)))
field = np.pad(oi, ((0, 0), (0, 0), (3, 0), (2, 0)))
assert np.allclose(run(shifted, field, wi)[:, :, 3:, 2:], run(xi, oi, wi))

# %% [markdown]
# ## Move one tap
#
# The bridge of the nose again, a little closer, with its nine taps. With a running kernel, drag a
# tap in the cell after the figure and watch its row of the sum; drag $p_0$, or click, for another
# output pixel.

# %%
board = drag_taps(crop[2:11, 3:12], edge, p0=(4, 4), offset=points - here - R(3))
board.figure()

# %% tags=["widget"]
board.play()


# %% [markdown]
# ## Exercise 1: equation (2) by gathering
#
# One image, no padding, stride 1, one offset group. Use `sampling_points` and `sample`.


# %%
def gather_and_sum(x, offset, weight):
    # FILL ME IN (about 4 lines): x is 1 C H W, offset 1 2K Ho Wo, weight O C kh kw
    raise NotImplementedError


# %%
exercises.check("gather_and_sum", gather_and_sum)

# %% [markdown]
# ## Exercise 2: two offset groups from one
#
# The offset has 36 channels: the first 18 move the first half of the channels of $x$. Write what the
# library does with 36 as calls of `deform_conv2d` with 18. (The check looks at the values alone.)


# %%
def two_groups(x, offset, weight):
    # FILL ME IN (about 4 lines)
    raise NotImplementedError


# %%
exercises.check("two_groups", two_groups)

# %% [markdown]
# ## Exercise 3: a tensor without a label
#
# You are given an offset array of a 3x3 layer and know only what it does: at every pixel it makes
# the grid 1.5 times as tall and no wider. Which library's order is it in: "torchvision", "chainer"
# or "dcnv3"?


# %%
def which_library(array):
    # FILL ME IN (about 6 lines): returns the name
    raise NotImplementedError


# %%
exercises.check("which_library", which_library)

# %% [markdown]
# ## What you now know
#
# * Equation (2) is equation (1) with points that have been moved, one offset per tap and output
#   pixel.
# * Plain, atrous, scaled and turned convolutions are special fields of offsets.
# * Channel $2n$ is dy and $2n + 1$ is dx, taps row by row; and how to convert from other orders.
# * 18 channels serve all channels of $x$; with 4 offset groups there are 72.
#
# **Next:** how the offsets learn. [Notebook 4](04_backward_pass.ipynb) differentiates equation
# (2).
