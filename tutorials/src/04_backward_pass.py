# %% [markdown]
# # 4. The backward pass
#
# The offsets of notebook 3 were made by hand. A network has to learn them, and for that a loss
# must have a derivative with respect to *where a filter looks*.
#
# The question: *what is the gradient of a deformable convolution, and how do you make sure that it
# is right?*

# %%
import exercises
import numpy as np
from figures import ARROW, BLUES, INK, P0, P, arrows, dots, photograph, picture, plt, show

from deformable_convnets.reference import (
    G,
    R,
    conv2d,
    conv2d_backward,
    deform_conv2d,
    deform_conv2d_backward,
    deform_conv_module,
    deform_conv_module_backward,
    equations,
    sample_backward,
    sampling_points,
    zero_offset_branch,
)  # fmt: skip

rng = np.random.default_rng(0)

# %%
face, (i, j) = photograph(128)[None, None], (64, 69)
landmarks = np.array([53, 54, 21, 67, 53, 84, 68, 41, 70, 70, 68, 97, 81, 56, 94, 70, 81, 84])
offset = np.zeros((1, 18, 128, 128))
offset[0, :, i, j] = (landmarks.reshape(9, 2) - (i, j) - R(3) + (0.3, 0.4)).ravel()
grad_output = np.zeros((1, 1, 128, 128))
grad_output[0, 0, i, j] = 1
grads = deform_conv2d_backward(grad_output, face, offset, np.ones((1, 1, 3, 3)), padding=1)
p = sampling_points(offset, 3, padding=1)[0, 0, :, i, j]

# %%
fig, axes = plt.subplots(1, 2, figsize=(8.6, 4.2), layout="constrained")
picture(axes[0], face[0, 0], "the points: where y grows fastest")
slope = grads.offset[0, :, i, j].reshape(9, 2)
arrows(axes[0], p, p + 14 * slope / np.hypot(*slope.T)[:, None], ARROW)
picture(axes[1], grads.x[0, 0], "the pixels: shares of one point", cmap=BLUES, vmax=0.8)
axes[1].set(xlim=(51.5, 57.5), ylim=(56.5, 50.5))
for q in np.argwhere(grads.x[0, 0, :70, :60]):
    axes[1].text(q[1], q[0] + 0.4, f"{grads.x[0, 0, *q]:.2f}", ha="center", clip_on=True)

# %%
dots(axes[0], (i, j), P0, "$p_0$", marker="X", size=60)
for ax in axes:
    dots(ax, p, P, "p", size=40)
axes[0].legend(loc="lower right")
show(fig)

# %% [markdown]
# Nine samples make one output. Backwards, two messages leave it. To the **points** (left): which
# way is brighter, from the slope of the map inside one cell; the arrows have equal lengths on
# purpose. To the **pixels** (right, magnified: the point on the left eye): four pixels were read per
# point, and each gets its share. A third, to the weights, is below.
#
# ## The equation, and a misprint
#
# > $$ \frac{\partial y(p_0)}{\partial \Delta p_n} = \sum_{p_n \in R} w(p_n) \cdot \sum_q \frac{\partial G(q, p_0 + p_n + \Delta p_n)}{\partial \Delta p_n} \, x(q) \tag{7, as printed} $$
# >
# > appendix A; its last form
#
# On the left, $n$ is one given tap. On the right, the first sum runs over all of them with the
# same letter. It cannot do both. Moving tap $n$ changes one term of equation (2), so there is
# nothing to sum:
#
# $$ \frac{\partial y(p_0)}{\partial \Delta p_n} = w(p_n) \cdot \sum_q \frac{\partial G(q, p_0 + p_n + \Delta p_n)}{\partial \Delta p_n} \, x(q) \tag{7} $$
#
# This is a departure from the printed text. We do not ask to be believed: the two versions are
# compared with finite differences below.
#
# ## By hand, on 3x4 pixels
#
# The example of notebook 3: the upper tap, moved down by half a pixel, reads between 2 and 1.
# Moving it further changes what it reads at the rate $1 - 2 = -1$, and its weight is 1.

# %%
x = np.array([[1.0, 2, 0, 3], [4, 1, 2, 0], [0, 5, 1, 2]])[None, None]
w = np.array([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]])[None, None]
offset = np.zeros((1, 18, 1, 2))
offset[0, 2, 0, 0] = 0.5
only_first = np.array([[1.0, 0]])[None, None]
by_hand = 1 * (1 - 2)
grads = deform_conv2d_backward(only_first, x, offset, w)

# %% tags=["check"]
assert grads.offset[0, 2, 0, 0] == by_hand == -1
assert grads.offset[0, :, 0, 1].tolist() == [0] * 18  # the other output pixel was not asked
assert grads.x[0, 0, 0, 1] == grads.x[0, 0, 1, 1] + 4 == 0.5  # half each; (1, 1) has -4 too

# %% [markdown]
# ## The stray sum, measured
#
# One output pixel, nine taps, the y direction. A central difference with a step that stays inside
# a cell is exact up to rounding, because the sample is linear there.

# %%
xs, ws = rng.normal(size=(1, 1, 7, 8)), rng.normal(size=(1, 1, 3, 3))
eighths = np.array([-7, -5, -3, -1, 1, 3, 5, 7]) / 8
shifts = rng.choice(eighths, (1, 18, 5, 6))
layer, here = equations.Layer(xs, shifts, ws), (2, 3)
printed = equations.offset_gradient_as_printed(layer, 0, 0, here)[0]
single = [equations.offset_gradient(layer, 0, 0, here, k)[k][0] for k in range(9)]


# %%
def difference(channel, h=1 / 16):
    """How y at `here` changes with one number of the offset."""
    step = np.zeros_like(shifts)
    step[0, channel, *here] = h
    change = deform_conv2d(xs, shifts + step, ws) - deform_conv2d(xs, shifts - step, ws)
    return change[0, 0][here] / (2 * h)


# %%
measured = [difference(2 * k) for k in range(9)]

# %%
fig, ax = plt.subplots(figsize=(8, 2.7), layout="constrained")
ax.bar(np.arange(9) - 0.2, measured, 0.4, color="0.75", label="finite difference")
ax.plot(np.arange(9) + 0.2, single, "D", color=P, label="equation (7), one term")
ax.axhline(printed, color=P0, ls="--", label="as printed, the same for every tap")
ax.set(xlabel="tap n", ylabel=r"$\partial y / \partial \Delta p_{n,y}$", xticks=range(9))
ax.set_ylim(-2.9, 3.4)
ax.legend(loc="lower right")
show(fig)

# %% tags=["check"]
assert np.allclose(single, measured, rtol=0, atol=1e-12)
assert np.isclose(printed, sum(single))
assert max(abs(printed - m) for m in measured) > 1

# %% [markdown]
# ## Every gradient, in words
#
# Let $L$ be a loss and `grad_output` its derivative with respect to every $y$. Write `s` for one
# sample $x(p)$. Then
#
# * to a **sample** goes the weight of its tap times `grad_output`, summed over the output
#   channels;
# * to the **weight** of a tap goes the sample times `grad_output`, summed over images and pixels;
# * to the **bias** goes the sum of `grad_output`;
# * to **x** goes what its samples got, through $G^\mathsf{T}$;
# * to an **offset** goes what its samples got, times the slopes $G_y x$ and $G_x x$, summed over
#   the channels that share the grid. This is the sum that equation (7) really meets: over
#   channels, not over taps. `sample_backward(to_samples, x, p)` of notebook 2 has both, what goes
#   to the map as `x` and what goes to the points as `p`.

# %%
x3, w3 = rng.normal(size=(2, 4, 7, 8)), rng.normal(size=(3, 4, 3, 3))
o3, b3 = rng.choice(eighths, (2, 18, 5, 6)), rng.normal(size=3)
gy = rng.normal(size=(2, 3, 5, 6))
grads = deform_conv2d_backward(gy, x3, o3, w3, b3)
p = sampling_points(o3, 3)[0, 0]
to_samples = np.einsum("ohw,ock->ckhw", gy[0], w3.reshape(3, 4, 9))
slopes = [equations.sample_slope(x3[0, c], p[5, 2, 3]) for c in range(4)]
to_points = sample_backward(to_samples, x3[0], p).p  # K Ho Wo 2

# %% tags=["check"]
assert np.allclose(grads.bias, gy.sum(axis=(0, 2, 3)))
matrix = G(p, (7, 8))
assert np.allclose(grads.x[0].reshape(4, -1), (matrix.T @ to_samples.reshape(4, -1).T).T)
assert np.allclose(grads.offset[0, 10:12, 2, 3], to_samples[:, 5, 2, 3] @ slopes)
assert np.allclose(grads.offset[0, 10:12, 2, 3], to_points[5, 2, 3])

# %% [markdown]
# ## A protocol for gradient checks
#
# Many gradient checks of this layer fail for a reason that is not a bug. Four rules avoid that.
#
# 1. **float64.**
# 2. **Offsets away from whole numbers** by more than the step. Inside a cell $y$ is linear in each
#    offset.
# 3. **The step a power of two.** With dyadic numbers everywhere, such as odd eighths and a step of
#    1/16, the difference is not nearly the derivative: it *is* the derivative, bit for bit.
# 4. For large problems, **one random direction** instead of every number.

# %%
exact = [rng.integers(-4, 5, a.shape).astype(float) for a in (gy, x3)]
args = [exact[1], o3, rng.integers(-4, 5, w3.shape).astype(float)]
grads = deform_conv2d_backward(exact[0], *args)


def loss(x, offset, weight):
    return (exact[0] * deform_conv2d(x, offset, weight)).sum()


# %%
def derivative(which, index, h=1 / 16):
    more, less = [[a.copy() for a in args] for _ in range(2)]
    more[which][index] += h
    less[which][index] -= h
    return (loss(*more) - loss(*less)) / (2 * h)


# %% tags=["check"]
for which, grad in enumerate((grads.x, grads.offset, grads.weight)):
    for _ in range(20):
        index = tuple(rng.integers(0, n) for n in grad.shape)
        assert derivative(which, index) == grad[index]  # equal, not close

# %% [markdown]
# The same idea without any difference at all: $y$ is linear in $x$ and in $w$, so a gradient must
# satisfy $\langle y(x'), g \rangle = \langle x', \nabla_x \rangle$ for *every* $x'$. Such
# **adjoint identities** test all of a gradient with one number. The offset has none: $y$ is not
# linear in it.

# %% tags=["check"]
grads = deform_conv2d_backward(gy, x3, o3, w3)
other_x, other_w = rng.normal(size=x3.shape), rng.normal(size=w3.shape)
assert np.isclose((deform_conv2d(other_x, o3, w3) * gy).sum(), (other_x * grads.x).sum())
assert np.isclose((deform_conv2d(x3, o3, other_w) * gy).sum(), (other_w * grads.weight).sum())
assert np.isclose((grads.x * x3).sum(), (grads.weight * w3).sum())  # both are <y, g>

# %% [markdown]
# ## The kink at the start
#
# The paper starts the offset branch at zero. Then every point is a pixel, every derivative is
# one-sided, and a central difference returns the mean of two slopes.

# %%
zero = np.zeros((1, 18, 5, 6))
one = np.zeros((1, 1, 5, 6))
one[0, 0][here] = 1
right, left = [deform_conv2d_backward(one, xs, zero, ws, side=s).offset for s in ("right", "left")]
shifts, kept = zero, shifts
central = [difference(c) for c in range(18)]
shifts = kept

# %%
fig, ax = plt.subplots(figsize=(8, 2.6), layout="constrained")
ax.vlines(range(18), left[0, :, *here], right[0, :, *here], color="0.8", lw=5)
ax.plot(right[0, :, *here], ">", color=P, label="right-hand")
ax.plot(left[0, :, *here], "<", color=P0, label="left-hand")
ax.plot(central, "_", color=INK, ms=12, label="central difference")
ax.set(xlabel="offset channel at zero offset", ylabel="derivative", xticks=range(0, 18))
ax.legend(loc="best")
show(fig)

# %% tags=["check"]
assert np.allclose(central, (left + right)[0, :, *here] / 2, rtol=0, atol=1e-12)
assert np.abs(left - right).max() > 1

# %% [markdown]
# The library returns the right-hand derivative, as `floor` does in most code, or the left-hand one
# with `side="left"`. Training does not mind: after the first step hardly any point is a pixel.
# Gradient checks do.
#
# ## x is read twice
#
# In the complete layer (Figure 2) the offsets come from a convolution of the same $x$. So $x$
# decides *what* is read and also *where*, and it receives **two** gradients. Both are in
# `deform_conv_module_backward`; here they are apart.

# %%
branch_w, branch_b = rng.normal(size=(18, 4, 3, 3)) / 8, rng.normal(size=18) / 4
predicted = conv2d(x3, branch_w, branch_b)
sampling = deform_conv2d_backward(gy, x3, predicted, w3)
branch = conv2d_backward(sampling.offset, x3, branch_w, branch_b)
whole = deform_conv_module_backward(gy, x3, branch_w, branch_b, w3)

# %% tags=["check"]
assert np.allclose(whole.x, sampling.x + branch.x)
assert np.array_equal(whole.offset_weight, branch.weight)
direction, h = rng.normal(size=x3.shape), 1e-7
ends = [deform_conv_module(x3 + s * direction, branch_w, branch_b, w3) for s in (h, -h)]
slope = (gy * (ends[0] - ends[1])).sum() / (2 * h)
assert np.isclose(slope, (whole.x * direction).sum(), rtol=1e-5)
assert not np.isclose(slope, (sampling.x * direction).sum(), rtol=1e-2)

# %% [markdown]
# At the start the branch is zero, so nothing flows back to $x$ *through* it. The branch's own
# gradient is not zero, and that is why it leaves zero at the first step.

# %% tags=["check"]
start = zero_offset_branch(w3, in_channels=4)
first = deform_conv_module_backward(gy, x3, *start, w3)
assert np.allclose(first.x, conv2d_backward(gy, x3, w3).x)
assert np.abs(first.offset_weight).max() > 1

# %% [markdown]
# ## Why GPU gradients differ from run to run
#
# Many samples read the same pixel, so its gradient is a sum. A GPU adds its terms with atomic
# operations, in whatever order they arrive. Rounding depends on the order. Shuffle the terms and
# see.

# %%
terms = (rng.normal(size=(512, 63)) * rng.choice([1, 1e-3], (512, 63))).astype(np.float32)


def totals(values, runs=20):
    sums = [np.cumsum(rng.permuted(values, axis=1), axis=1)[:, -1] for _ in range(runs)]
    return np.array(sums)


shuffled, steady = totals(terms), totals(rng.integers(-64, 65, terms.shape).astype(np.float32) / 8)
print(f"different sums of one pixel in 20 orders: {len(set(shuffled[:, 0].tolist()))}")

# %% tags=["check"]
assert (np.ptp(shuffled, axis=0) > 0).mean() > 0.9  # nearly every pixel depends on the order
assert np.ptp(shuffled, axis=0).max() < 1e-4  # and by very little
assert (np.ptp(steady, axis=0) == 0).all()  # sums that are exact do not

# %% [markdown]
# What to notice: none of the sums is wrong. Where every partial sum is exact, as with small
# eighths, the order cannot matter; the tests of this project use such numbers to compare GPU
# kernels bit for bit.
#
# ## Exercise 1: the gradient of the offset
#
# One image, no padding, one offset group. Use `sampling_points` and `sample_backward`, as above.


# %%
def offset_gradient(grad_output, x, offset, weight):
    # FILL ME IN (about 5 lines): the gradient has the shape of offset, 1 2K Ho Wo
    raise NotImplementedError


# %%
exercises.check("offset_gradient", offset_gradient)

# %% [markdown]
# ## Exercise 2: repair three backward passes
#
# Each of these runs, returns the right shape, and is wrong. Read what the check says, then mend
# it. The second is a gradient of $x$, the others are gradients of the offset; the last one is asked
# at zero offset, where the right-hand derivative is wanted.


# %%
def offset_gradient_by_the_book(grad_output, x, offset, weight):
    layer = equations.Layer(x, offset, weight)
    grad = np.zeros((9, 2, *offset.shape[2:]))
    for o, *p0 in np.ndindex(grad_output.shape[1:]):
        dy, dx = equations.offset_gradient_as_printed(layer, 0, o, p0)
        grad[:, :, *p0] += grad_output[0, o, *p0] * np.array([dy, dx], float)
    return grad.reshape(offset.shape)


exercises.check("offset_gradient", offset_gradient_by_the_book)


# %%
def input_gradient(grad_output, x, offset, weight):
    by_tap = weight.reshape(*weight.shape[:2], -1)
    grad_samples = np.einsum("ohw,ock->ckhw", grad_output[0], by_tap).reshape(len(x[0]), -1)
    entries = G(sampling_points(offset, 3), x.shape[2:]).tocoo()
    grad = np.zeros((len(x[0]), x[0, 0].size))
    grad[:, entries.col] += entries.data * grad_samples[:, entries.row]
    return grad.reshape(x.shape)


exercises.check("input_gradient", input_gradient)


# %%
def offset_gradient_at_zero(grad_output, x, offset, weight, h=2.0**-10):
    grad = np.zeros_like(offset)
    for index in np.ndindex(offset.shape):
        step = np.zeros_like(offset)
        step[index] = h
        change = deform_conv2d(x, offset + step, weight) - deform_conv2d(x, offset - step, weight)
        grad[index] = (grad_output * change).sum() / (2 * h)
    return grad


exercises.check("offset_gradient_at_zero", offset_gradient_at_zero)

# %% [markdown]
# ## Exercise 3: both gradients of x
#
# The gradient of $x$ in the complete layer of Figure 2. No padding, no biases but the branch's.


# %%
def module_gradient(grad_output, x, offset_weight, offset_bias, weight):
    # FILL ME IN (about 4 lines): conv2d, deform_conv2d_backward, conv2d_backward
    raise NotImplementedError


# %%
exercises.check("module_gradient", module_gradient)

# %% [markdown]
# ## What you now know
#
# * The printed equation (7) has a sum too many; one term is the derivative.
# * All gradients are a few products: with the weights, with $G^\mathsf{T}$, with the slopes.
# * Inside a cell a difference is exact; on a kink it is the mean of two answers.
# * In the complete layer $x$ receives two gradients, and a branch of zeros still learns.
# * Sums in another order round differently.
#
# **Next:** [notebook 5](05_learning_the_offsets.ipynb) lets the offsets follow these gradients. Or
# read the reference behind these notebooks, which is short: `reference/equations.py`, then
# `reference/deform_conv.py`.
