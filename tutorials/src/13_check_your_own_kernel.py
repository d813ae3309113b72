# %% [markdown]
# # 13. Check your own kernel
#
# You have written a deformable convolution: in CUDA, in Triton, in JAX, in C++, for a chip. It runs,
# and a comparison with another library looks fine.
#
# The question: *how do you find out whether it is right, and if it is not, where it is wrong?*
#
# The answer of this project is one call, `verify`. It needs Hypothesis, the extra `oracle`.

# %%
import math

import exercises
import kernels
import numpy as np
from figures import BLUES, INK, P0, PN, P, Q, dots, picture, plt, show

from deformable_convnets.reference import (
    conv2d,
    deform_conv2d,
    deform_conv2d_backward,
    sample,
    sampling_points,
)  # fmt: skip
from deformable_convnets.reference.oracle import diagnose, verify

rng = np.random.default_rng(0)

# %%
image = np.add.outer([2.0, 4, 1, 3, 2], [3.0, 1, 4, 2, 0, 2, 1])[None]
tried = np.random.default_rng(1).uniform((0, 0), (4, 6), (60, 2))
lines = np.arange(-1.475, 5.5, 0.05), np.arange(-1.475, 7.5, 0.05)
everywhere = np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1)
one, other = (sample(image, everywhere, border=b)[0] for b in ("zero", "dcnv1"))

# %%
fig, axes = plt.subplots(1, 2, figsize=(9, 3.3), layout="constrained", sharey=True)
titles = "x(p), as one kernel reads it", "how far off another kernel is"
for ax, values, title in zip(axes, (one, abs(one - other)), titles, strict=True):
    picture(ax, values, title, cmap=BLUES, vmin=0, vmax=9, extent=(-1.5, 7.5, 5.5, -1.5))
    ax.add_patch(plt.Rectangle((0, 0), 6, 4, fc="none", ec=INK, ls=":"))
    dots(ax, tried, P0, "the points of a test", size=14)
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center")
show(fig)

# %% [markdown]
# Two kernels read a map of 5x7 pixels, whose outer pixels lie on the dotted line. On the map they
# agree, and the sixty points of a test, drawn there at random, see no difference. Around it, where
# every padded layer reads, they do not. This notebook is about tests that look everywhere.
#
# ## The equation
#
# > $$ y(p_0) = \sum_{p_n \in R} w(p_n) \cdot x(p_0 + p_n + \Delta p_n) \tag{2} $$
# >
# > section 2.1
#
# Here $x(p)$ is bilinear sampling, equations (3) and (4) of
# [notebook 2](02_bilinear_sampling.ipynb). This is what a kernel promises, and what follows from
# it for shifts, sums, groups and gradients.
#
# ## A kernel
#
# This one is in plain Python, so that it runs here and can be changed here; otherwise it is as
# people write them, one output element at a time. `verify` does not look inside: it wants a
# callable with the signature of the reference, on NumPy arrays.
#
# First, where every tap reads: $p = p_0 + p_n + \Delta p_n$.


# %%
def points(offset, kernel, stride, padding, dilation):
    (N, _, Ho, Wo), (kh, kw) = offset.shape, kernel
    p = offset.reshape(N, kh * kw, 2, Ho, Wo)
    for k, (i, j) in enumerate(np.ndindex(kh, kw)):
        p[:, k, 0] += np.arange(Ho)[:, None] * stride[0] - padding[0][0] + i * dilation[0]
        p[:, k, 1] += np.arange(Wo) * stride[1] - padding[1][0] + j * dilation[1]
    return p


# %% [markdown]
# Then one bilinear read, of all channels of an image at a point.


# %%
def read(image, py, px):
    H, W = image.shape[1:]
    if py < 0 or py >= H or px < 0 or px >= W:
        return 0 * image[:, 0, 0]
    i, j = int(py), int(px)
    below, right = min(i + 1, H - 1), min(j + 1, W - 1)
    a, b = py - i, px - j
    upper = (1 - b) * image[:, i, j] + b * image[:, i, right]
    lower = (1 - b) * image[:, below, j] + b * image[:, below, right]
    return (1 - a) * upper + a * lower


# %% [markdown]
# And equation (2). The kernel has no groups, and refuses them.

# %%
BY_ONE = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1)}


def forward(x, offset, weight, bias=None, *, stride, padding, dilation):
    (O, C, kh, kw), size = weight.shape, offset.shape[2:]
    if x.shape[1] != C:
        raise NotImplementedError("groups")
    p = points(offset, (kh, kw), stride, padding, dilation)
    y = np.zeros((len(x), O, *size), x.dtype)
    for n, k, *p0 in np.ndindex(len(x), kh * kw, *size):
        y[n, :, *p0] += weight[:, :, k // kw, k % kw] @ read(x[n], *p[n, k, :, *p0])
    return y if bias is None else y + bias[:, None, None]


# %% [markdown]
# ## The usual check
#
# Two tests that most repositories have. With random offsets the result must be close to that of a
# library we trust; the points are drawn on the map, since what happens outside is a matter of
# convention, one thinks. And with zero offset it must be a convolution, padding and all.

# %%
x, weight = rng.normal(size=(1, 3, 9, 11)), rng.normal(size=(4, 3, 3, 3))
padding = {"padding": ((1, 1), (1, 1))}
p = rng.uniform(0, 1, (1, 9, 2, 7, 9)) * np.reshape((8, 10), (2, 1, 1))  # anywhere on the map
grid = np.moveaxis(sampling_points(np.zeros((1, 18, 7, 9)), 3)[0], -1, 2)
offset = (p - grid).reshape(1, 18, 7, 9)
kept = offset.copy()

# %% tags=["check"]
expected = deform_conv2d(x, offset, weight)
assert np.allclose(forward(x, offset, weight, **BY_ONE), expected)
zero = np.zeros((1, 18, 9, 11))
assert np.allclose(forward(x, zero, weight, **BY_ONE | padding), conv2d(x, weight, padding=1))

# %% [markdown]
# Both pass, to 5 digits and more. One could stop here. There are three bugs in the kernel.
#
# ## The report
#
# `verify` draws problems, small ones and strange ones, and holds the kernel to every **law** that
# the equations promise. What a kernel cannot do is no bug, if one says so. Ours has no groups and one
# set of offsets for all channels, does not know the border rule of the authors' 2017 code, and
# promises nothing for coordinates that are infinite or NaN. (`oracle.features.WORDS` has all the
# words there are.)

# %%
LACKS = ("groups", "offset groups", "the dcnv1 border", "points not finite")
report = verify(forward, dtype="float32", lacks=LACKS, examples=30)
print(report)

# %% tags=["check"]
assert not report.ok
causes = [failures[0].law for failures in report.causes()]
assert causes == ["forward_is_exact", "arguments_are_left_alone"]
assert report.failures[0].diagnosis == "y equals the dcnv1 border"

# %% [markdown]
# Read the first block from top to bottom.
#
# * **law**: which promise is broken. `(2)` is the equation of the paper.
# * **found**: the first wrong number, its index, and the right one.
# * **diagnosis**: the wrong results of this kernel, here and on some dozens of other problems, are
#   exactly those of a *known mistake*: the map does not end where it should.
# * **picture**: where the samples of one wrong element went, on a larger problem if there is little
#   to see on the smallest. `report.html("report.html")` draws it.
# * **example**: Python that shows it again, on the smallest problem that was found.
# * **so are**: other laws that are broken for the same reason. One bug breaks many laws; repair the
#   cause, not the laws.
#
# The second block is another bug, and at the end stands what held and what was not checked.
#
# ## The smallest case, by hand
#
# The example above makes the problem from its seed. The failure also keeps the call itself.

# %%
smallest = report.failures[0].call
for name in ("x", "offset", "weight", "bias"):
    print(f"{name:7}", getattr(smallest.arguments[name], "tolist", lambda: None)())
print("result ", smallest.result.tolist())

# %% [markdown]
# A map of one pixel, at (0, 0), and one tap: everything fits on a line of paper. The point is the
# offset itself, (7/8, 1/8), and equation (4) gives the pixel the weight
# $g(0, p_y) \cdot g(0, p_x) = (1 - 7/8)(1 - 1/8) = 7/64$. Times 6, that is 0.65625.

# %% tags=["check"]
by_hand = 1 * (1 - 7 / 8) * (1 - 1 / 8) * 6 + 0
assert smallest.arguments["offset"].ravel().tolist() == [7 / 8, 1 / 8]
assert by_hand == report.failures[0].difference.allowed["expected"] == 0.65625
assert smallest.result.item() == 6  # the pixel in full

# %% [markdown]
# Our kernel takes the whole pixel, although the point has left it. To see the rule at work, probe
# it with **one-hot maps**: five channels, each a column of five pixels with a single 1. What a read
# returns are then the weights of all five pixels. Move the point from above the map to below it.

# %%
one_hot = np.eye(5)[:, :, None]
p = np.linspace(-2, 6, 801)


def weights_of(read):
    return np.array([read(one_hot, py, 0.0) for py in p])


hats = np.maximum(0, 1 - np.abs(np.arange(5) - p[:, None]))  # equation (4)
ours = weights_of(read)


# %%
def compare(ours, title):
    fig, axes = plt.subplots(1, 2, figsize=(9.4, 2.7), layout="constrained", sharey=True)
    for ax, curves, name in zip(axes, (hats, ours), ("equation (4)", title), strict=True):
        ax.axvspan(0, 4, color="0.92", label="the map")
        for q, colour in enumerate((P0, PN, P, Q, INK)):
            ax.plot(p, curves[:, q], color=colour, lw=1.6, label=f"q = {q}")
        ax.set(title=name, xlabel=r"$p_y$ (pixels)", xlim=(-2, 6))
    axes[0].set_ylabel("weight of pixel q")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=8)
    return show(fig)


# %%
compare(ours, "our kernel")

# %% tags=["check"]
inner = (p >= 0) & (p <= 4)
assert np.allclose(ours[inner], hats[inner])  # all that the usual check looked at
assert not np.allclose(ours, hats)
assert ours[p == -0.5].tolist() == [[0] * 5]
assert ours[p == 4.5].tolist() == [[0, 0, 0, 0, 1]]

# %% [markdown]
# In the paper the map is 0 outside, so a point that leaves it fades over one pixel. Ours drops at
# the first row and holds on to the last one. That is the rule of the authors' own code of 2017,
# and it is an option of the reference, `border="dcnv1"`. Right or wrong, it is not what we said the
# kernel computes.
#
# ## Repair what was found
#
# The border: ask for each of the four corners whether it is on the map.


# %%
cell = int


def corners(H, W, py, px):
    if -1 <= py < H and -1 <= px < W:
        i, j = cell(py), cell(px)
        a, b = py - i, px - j
        for q, of_y in ((i, 1 - a), (i + 1, a)):
            for r, of_x in ((j, 1 - b), (j + 1, b)):
                if 0 <= q < H and 0 <= r < W:
                    yield q, r, of_y * of_x


# %%
def read(image, py, px):
    value = np.zeros_like(image[:, 0, 0])
    for q, r, g in corners(*image.shape[1:], py, px):
        value += g * image[:, q, r]
    return value


# %% [markdown]
# And the second block of the report: the kernel *writes to its arguments*. `reshape` returned a
# view, so the coordinates were added to the caller's own offsets. The usual check has had this
# happen to it, and did not look. Then try the two laws again; `laws` chooses among them.

# %% tags=["check"]
assert not np.array_equal(offset, kept)

# %%
offset, in_place = kept, points


def points(offset, *geometry):
    return in_place(offset.copy(), *geometry)


broken = ("forward_is_exact", "arguments_are_left_alone")
report = verify(forward, dtype="float32", lacks=LACKS, examples=30, laws=broken)
for failure in report.failures:
    print(f"{failure.law}\n  {failure.message}\n  {failure.diagnosis}")

# %% tags=["check"]
assert [failure.law for failure in report.failures] == ["forward_is_exact"]
assert [kept.law for kept in report.kept] == ["arguments_are_left_alone"]
assert report.failures[0].diagnosis.startswith("y equals int(p)")

# %% [markdown]
# The second bug is gone, and behind the first one stands a third: as long as nothing outside the
# map was read, it could not be seen. The diagnosis names it too. That is not always so: a new
# mistake has no name, and then the smallest case and a picture like this are what one has.

# %%
ours = weights_of(read)
compare(ours, "after the repair")

# %% tags=["check"]
assert np.allclose(ours[p >= 0], hats[p >= 0])
assert ours[p == -0.5].tolist() == [[1.5, -0.5, 0, 0, 0]]
assert int(-0.5) == 0 != np.floor(-0.5) == -1

# %% [markdown]
# Between -1 and 0 the weights are 1.5 and -0.5: the line through pixels 0 and 1 goes on upwards. A
# cast to `int` rounds *towards zero*, in C and CUDA as in Python, so -0.5 falls into cell 0 and not
# into cell -1. Points with negative coordinates are no rarity: with padding every layer has them.

# %%
cell = math.floor
report = verify(forward, dtype="float32", lacks=LACKS, examples=30)
print(report)

# %% tags=["check"]
assert report.ok
report.assert_ok()  # the same as a test of your own: where a law is broken, it raises the report
assert np.allclose(weights_of(read), hats)

# %% [markdown]
# ## What was not checked
#
# OK means: of the laws that were tried, none is broken. It does not mean that all were tried, and
# so the report ends with a list of those that were not, and why. A law gets onto that list
#
# * because of `lacks`, as the offset groups did;
# * because the callable does not take the keyword, as `mask` and, below, `side`;
# * because it raised `NotImplementedError`, as ours does for groups, had we not said so before;
# * because there was no backward to ask.
#
# None of them counts as kept. If nothing could be tried, the report is not OK.

# %% tags=["check"]
not_checked = {entry.law: entry.reason for entry in report.not_checked}
assert not_checked["mask_multiplies"] == "needs mask"
assert not_checked["offset_groups_split_channels"] == "needs offset groups"
nothing = verify(forward, dtype="float32", lacks=LACKS[1:], laws="groups_are_blocks", examples=1)
assert [entry.reason for entry in nothing.not_checked] == ["needs groups"]
assert not nothing.failures
assert not nothing.ok

# %% [markdown]
# ## Why bit for bit
#
# `forward_is_exact` asks for *equality*, of floats, and of a kernel that may add in any order. That
# is possible because the problems are **exact**: every value is a small dyadic number, such as a
# whole number or an odd eighth, so every product and every partial sum is one too. Nothing is ever
# rounded, whatever the order.

# %% tags=["check"]
assert (smallest.arguments["x"] % 1 == 0).all()
assert (8 * smallest.arguments["offset"] % 2 == 1).all()  # odd eighths
assert 64 * by_hand % 1 == 0  # a product of two of them has 64ths
eighths = rng.integers(-64, 65, 1000).astype("f4") / 8
assert {eighths[rng.permutation(1000)].cumsum()[-1] for _ in range(20)} == {eighths.sum()}

# %% [markdown]
# What does that buy? Here is a kernel that computes its coordinates in half precision, as happens
# where the offsets come in that dtype and nobody thinks of what is added to them. The usual check
# has a tolerance, say one percent of the largest result.

# %%
exactly = points


def points(offset, *geometry):
    with np.errstate(over="ignore"):
        return exactly(offset, *geometry).astype(np.float16).astype(offset.dtype)


usual = np.abs(forward(x, offset, weight, **BY_ONE) - expected).max() / np.abs(expected).max()
print(f"the usual check: off by {usual:.1%} of the largest result")
options = {"dtype": "float32", "lacks": LACKS, "laws": "forward_is_exact"}
found = verify(forward, **options, examples=60).failures[0]
print(f"{found.law}\n  {found.message}\n  {found.diagnosis}")
print(f"  {found.problem.family}: x is {found.call.arguments['x'].shape}")

# %% tags=["check"]
assert usual < 0.01
assert found.law == "forward_is_exact"
assert found.problem.family == "far"
assert max(found.call.arguments["x"].shape) > 2000

# %% [markdown]
# The word `far` is the family of the problem: maps of more than 2000 pixels. Half precision has 11
# bits. Beyond 1024 it knows whole numbers only, and all interpolation is lost; beyond 2048 only
# every second pixel can be read.

# %%
row = rng.normal(size=(1, 1, 4096))
at = np.exp(rng.uniform(0, np.log(4095), 1500))
halves = at.astype(np.float16).astype(float)
right, wrong = (np.array([read(row, 0.0, px)[0] for px in px_s]) for px_s in (at, halves))

# %%
fig, ax = plt.subplots(figsize=(8.2, 2.8), layout="constrained")
ax.plot(at, np.abs(wrong - right), ".", color=P0, ms=3, label="error of x(p)")
ax.plot(at, np.abs(halves - at), ".", color=INK, ms=1, label="error of p")
ax.axhline(1e-2, color=Q, ls="--", label="0.01")
ax.set(xscale="log", yscale="log", xlabel="p (pixels)", ylabel="error", ylim=(1e-5, 9))
fig.legend(loc="outside right center", fontsize=8)
show(fig)

# %% tags=["check"]
assert np.abs(halves - at)[at < 11].max() < 1e-2  # the map of the usual check
assert np.abs(halves - at)[at > 2048].max() > 0.9
assert np.abs(wrong - right)[at > 1024].max() > 1
points = exactly

# %% [markdown]
# On ordinary floats, where rounding is allowed, the law `floats_stay_within_bounds` holds each
# element to a bound that is derived from its own sum, not to a tolerance that somebody chose.
#
# ## The gradients
#
# The backward pass returns the gradients by name, in a dict or a named tuple. The slope of a
# corner's weight with respect to $p_y$ and $p_x$ is the derivative of equation (4).


# %%
def slopes(q, r, py, px):
    return [(1 if q > py else -1) * (1 - abs(r - px)), (1 if r > px else -1) * (1 - abs(q - py))]


def one_sample(grads, x, w, g, n, k, p0, p):
    i, j = divmod(k, w.shape[3])
    to_sample = g @ w[:, :, i, j]
    for q, r, weight in corners(*x.shape[2:], *p):
        grads["x"][n, :, q, r] += weight * to_sample
        grads["weight"][:, :, i, j] += weight * np.outer(g, x[n, :, q, r])
        grads["p"][n, :, :, *p0] += np.multiply(slopes(q, r, *p), to_sample @ x[n, :, q, r])


# %%
def backward(grad_output, x, offset, weight, bias=None, *, stride, padding, dilation):
    p = points(offset, weight.shape[2:], stride, padding, dilation)
    grads = {"x": np.zeros_like(x), "weight": np.zeros_like(weight), "p": np.zeros_like(p)}
    for n, k, *p0 in np.ndindex(*p.shape[:2], *p.shape[3:]):
        one_sample(grads, x, weight, grad_output[n, :, *p0], n, k, p0, p[n, k, :, *p0])
    grads["offset"] = grads.pop("p").reshape(offset.shape)
    return grads | {"bias": None if bias is None else grad_output.sum(axis=(0, 2, 3))}


# %%
both = {"backward": backward, "lacks": LACKS, "examples": 20}
laws = ("backward_is_exact", "gradients_are_adjoint", "gradients_are_central_differences")
report = verify(forward, dtype="float64", laws=laws, **both)
for failure in report.failures:
    print(f"{failure.law}\n  {failure.message}\n  {failure.diagnosis}")

# %% tags=["check"]
assert not report.ok
assert report.failures[0].law == "backward_is_exact"
assert report.failures[0].diagnosis == "grads.offset equals the stray sum of equation (7)"
assert "gradients_are_adjoint" in [kept.law for kept in report.kept]  # x and weight are right

# %% [markdown]
# In the last line of `one_sample` the slope is added to `[n, :]`, that is to *all* taps. This is
# equation (7) as it is printed, with a sum too many; [notebook 4](04_backward_pass.ipynb) measures
# it. The oracle has seen it before, and names it. The slope belongs to tap k alone.


# %%
as_printed = one_sample


def one_sample(grads, x, w, g, n, k, p0, p):
    i, j = divmod(k, w.shape[3])
    to_sample = g @ w[:, :, i, j]
    for q, r, weight in corners(*x.shape[2:], *p):
        grads["x"][n, :, q, r] += weight * to_sample
        grads["weight"][:, :, i, j] += weight * np.outer(g, x[n, :, q, r])
        grads["p"][n, k, :, *p0] += np.multiply(slopes(q, r, *p), to_sample @ x[n, :, q, r])


report = verify(forward, dtype="float64", **both)
print(report.headline())

# %% tags=["check"]
report.assert_ok()
assert {"backward_is_exact", "gradients_are_central_differences"} <= {k.law for k in report.kept}

# %% [markdown]
# ## Kinks: which derivatives are right
#
# Where a point is a pixel, the derivative does not exist: there is one from the right and one from
# the left. Libraries differ here, and none of them is wrong. So a kernel that takes no `side` may
# return **any value between the two**. Ours returns the right-hand one; one that returns their mean
# passes as well.


# %%
def mean_of_sides(*args, **options):
    right, left = (deform_conv2d_backward(*args, **options, side=s) for s in ("right", "left"))
    return right._replace(offset=(right.offset + left.offset) / 2)


def middle(grad_output, x, offset, weight, bias=None, *, stride, padding, dilation):
    options = {"stride": stride, "padding": padding, "dilation": dilation}
    return mean_of_sides(grad_output, x, offset, weight, bias, **options)


at_kinks = {"dtype": "float64", "laws": "kinks_give_a_one_sided_derivative"}
means = verify(forward, **at_kinks, **both | {"backward": middle})

# %% [markdown]
# Not everything passes. Automatic differentiation of $1 - |q - p|$ over the cell of `floor` takes
# the slope of $|q - p|$ at 0 to be 0. That is a fine answer for $|q - p|$ and no derivative of
# $x(p)$ at all: one of the two pixels of the difference is missing. Where it falls between the two
# slopes, it does so by accident. (Of all of equation (4) it depends on the tie of max: both neighbours
# of the pixel are at that tie, and the result is $c\,(x(p + 1) - x(p - 1))$, where c is what the
# framework takes for the slope there. 1/2 gives the mean of both sides; 0 or 1 does not.)

# %%
with_floor = slopes


def slopes(q, r, py, px):
    return np.sign([q - py, r - px]) * [1 - abs(r - px), 1 - abs(q - py)]


signs = verify(forward, **at_kinks, **both)
print(signs.failures[0].message)

# %% tags=["check"]
assert means.ok
assert not signs.ok
found = signs.failures[0].difference
assert not found.allowed["low"] <= found.actual <= found.allowed["high"]

# %%
column = np.array([0.0, 3, 1, 2, -1, 0])[None, :, None]
fig, ax = plt.subplots(figsize=(8.2, 2.7), layout="constrained")
rise = np.diff(column[0, :, 0])
ax.vlines(range(1, 5), rise[:-1], rise[1:], color="0.8", lw=7, label="allowed at the pixel")
for i, (slope, colour, mark) in enumerate(((with_floor, P, ">"), (slopes, P0, "X"))):
    at = [sum(slope(q, 0, p, 0.0)[0] * column[0, q, 0] for q in (p, p + 1)) for p in range(1, 5)]
    ax.plot(range(1, 5), at, mark, color=colour, ms=8, label=("q > p", "sign(q - p)")[i])
ax.set(xlabel="p (pixels)", ylabel="dx(p) / dp", xticks=range(1, 5))
fig.legend(loc="outside right center", fontsize=8)
show(fig)

# %% tags=["check"]
of_both_sides = (rise[:-1] + rise[1:]) / 2
for c, is_mean in ((0, False), (1 / 2, True), (1, False)):
    by_max = c * (column[0, 2:, 0] - column[0, :-2, 0])
    assert np.array_equal(by_max, of_both_sides) == is_mean

# %%
slopes = with_floor

# %% [markdown]
# ## A kernel that hangs, or takes the process with it
#
# A loop without an end, or an index that is wrong in compiled code, ends the search as well as the
# kernel. With `isolated=True` the kernel runs in a process of its own, and a call has
# `time_limit` seconds. Here is one that goes over each row in four strides, and forgets that a
# quarter of a short row is nothing.


# %%
def in_strides(x, offset, weight, bias=None, *, stride, padding, dilation):
    y = forward(x, offset, weight, bias, stride=stride, padding=padding, dilation=dilation)
    done, start = np.zeros_like(y), 0
    while start < y.shape[3]:
        part = np.s_[..., start : start + y.shape[3] // 4]
        done[part] = y[part]
        start += y.shape[3] // 4
    return done


# %%
careful = {"isolated": True, "time_limit": 1.0, "laws": "forward_is_exact"}
report = verify(in_strides, dtype="float32", lacks=LACKS, **careful)
print(report.failures[0].message)

# %% tags=["check"]
assert [failure.kind for failure in report.failures] == ["hung"]

# %% [markdown]
# ## In your own project
#
# * **Other arrays.** `arrays="torch"`, `"cupy"` or `"jax"` hands your callable such arrays, and
#   takes them back: `verify(my_op, dtype="float32", arrays="torch")`.
# * **In a test.** `verify(my_op, dtype="float32", examples=200).assert_ok()`; when it fails, the
#   report is the message. More examples find rarer mistakes: 30, as here, is little.
# * **Other operators.** `op="roi_pool"`, and all the others of the paper.
# * **From the command line.** `dcn-verify my_module:my_op --op deform_conv2d --html report.html` does
#   the same and writes a page with pictures, as `report.html("report.html")` does here.
#
# ## Exercise 1: a kernel without a source
#
# `kernels.first` has been compiled by somebody else. It is a deformable convolution, but it wants
# its arguments in another way than here. Find out in which, with `verify`, and call it so that the
# result is right. Your answer may call it and NumPy, and nothing else.

# %%
quick = {"dtype": "float64", "lacks": LACKS, "examples": 10, "shrink": False}
print(verify(kernels.first, **quick).headline())


# %%
def first_kernel(x, offset, weight):
    # FILL ME IN (about 3 lines): return kernels.first(...), and x is 1 C H W, the kernel 3x3
    raise NotImplementedError


# %%
exercises.check("first_kernel", first_kernel)

# %% [markdown]
# ## Exercise 2: two mistakes at once
#
# Of `kernels.second` two things are wrong, and no single mistake explains the results. Make one of
# them invisible: which law is about a special case? `diagnose` says what explains one result that
# you made yourself. Then undo in the arguments what the kernel does to them.

# %%
print(verify(kernels.second, **quick).headline())
print(diagnose("deform_conv2d", kernels.second(x, offset, weight), x, offset, weight))


# %%
def second_kernel(x, offset, weight):
    # FILL ME IN (about 2 lines): return kernels.second(...)
    raise NotImplementedError


# %%
exercises.check("second_kernel", second_kernel)

# %% [markdown]
# ## Exercise 3: a shorter list
#
# Our kernel promises nothing for coordinates that are infinite or NaN. The reference does: a point
# with a coordinate that is NaN gives NaN in all channels; else an infinite one gives 0. What does
# `verify` say when `LACKS` is one word shorter?

# %%
finite = verify(forward, **quick | {"lacks": LACKS[:3], "laws": "points_not_finite"})
print(finite.headline())
print(*[f"{failure.law}: {failure.message}" for failure in finite.failures], sep="\n")

# %% [markdown]
# Write `read` again. Equation (4) as it stands, $\max(0, 1 - |q - p|)$ for all rows and all columns,
# has no case to forget. Name it `read` in the end, and run the cell above once more.


# %%
def read_anywhere(image, py, px):
    # FILL ME IN (about 3 lines): image is C H W; returns C values
    raise NotImplementedError


# %%
exercises.check("read_anywhere", read_anywhere)

# %% [markdown]
# ## What you now know
#
# * A comparison of a few random cases says little: three bugs passed it.
# * `verify` gives the law that is broken, the smallest case, and often the name of the mistake.
# * On exact problems a right kernel agrees bit for bit, so nothing needs a tolerance.
# * What a kernel lacks is listed as not checked, never as passed.
# * At a kink any value between the two one-sided derivatives is right, and others are not.
#
# **Next:** your own kernel.
