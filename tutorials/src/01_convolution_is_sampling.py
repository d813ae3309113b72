# %% [markdown]
# # 1. Convolution is sampling plus a weighted sum
#
# A convolution looks like one operation. It is two: **read** nine pixels around a place, and
# **add** them up with nine weights. This notebook separates the two, because the paper changes
# only the first of them.
#
# The question: *what does a convolution do at one pixel, and which part of it is the same
# everywhere?*

# %%
import inspect

import exercises
import numpy as np
from figures import P0, PN, dots, photograph, picture, plt, show
from scipy.signal import convolve2d, correlate2d
from widgets import turn_grid

from deformable_convnets.reference import R, conv2d, sample, sampling_points

rng = np.random.default_rng(0)

# %%
face, p0 = photograph(128), np.array([53, 54])
fig, axes = plt.subplots(1, 3, figsize=(9.5, 3.4), layout="constrained")
for ax, d in zip(axes, (1, 4, 12), strict=True):
    picture(ax, face, f"dilation {d}")
    dots(ax, p0 + R(3, dilation=d), PN, "$p_0 + p_n$", size=12 + 2 * d)
    dots(ax, p0, P0, "$p_0$", marker="X", size=20 + 2 * d)
    ax.set(xlim=(33.5, 97.5), ylim=(89.5, 25.5))
axes[2].legend(loc="lower right")
show(fig)

# %% [markdown]
# The nine orange dots are where a 3x3 filter reads when it computes its output at the red cross,
# for three dilations. The photograph is a feature map with one channel: 128 rows, 128 columns.
# Positions are `(y, x)` in pixels, y first and downwards, here and in all the notebooks.
#
# ## The equation
#
# > $$ y(p_0) = \sum_{p_n \in R} w(p_n) \cdot x(p_0 + p_n) \tag{1} $$
# >
# > $R = \{(-1,-1), (-1,0), \ldots, (0,1), (1,1)\}$, section 2.1
#
# $x$ is the input map, $y$ the output map, $w$ the weights. $R$ is the *grid*: which neighbours are
# read, relative to $p_0$. The library has it as an array, one row per tap.

# %%
R(3)

# %% tags=["check"]
assert R(3).shape == (9, 2)
assert tuple(R(3)[0]) == (-1, -1) and tuple(R(3)[1]) == (-1, 0)
assert tuple(R(3)[4]) == (0, 0) and tuple(R(3)[8]) == (1, 1)

# %% [markdown]
# ## By hand, on 3x4 pixels
#
# The weights below are -4 in the middle and 1 above, below, left and right. Around $p_0 = (1, 1)$,
# where $x$ is 1, the four neighbours are 2, 4, 2 and 5, so $y(p_0) = 2 + 4 + 2 + 5 - 4 \cdot 1 =
# 9$.

# %%
x = np.array([[1.0, 2, 0, 3], [4, 1, 2, 0], [0, 5, 1, 2]])
w = np.array([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]])
by_hand = 2 + 4 + 2 + 5 - 4 * 1
terms = [(pn, weight, x[1 + pn[0], 1 + pn[1]]) for pn, weight in zip(R(3), w.flat, strict=True)]
for pn, weight, value in terms:
    print(f"p_n = ({pn[0]:2d}, {pn[1]:2d})   w = {weight:4.0f}   x(p0 + p_n) = {value:2.0f}")

# %% tags=["check"]
assert by_hand == 9
assert sum(weight * value for _, weight, value in terms) == by_hand

# %% [markdown]
# The library call takes batches and channels, so $x$ becomes an array of shape N C H W and $w$ one
# of O C kh kw. Without padding, $p_0$ stays one pixel away from the edge: the output has 1x2
# pixels.

# %%
y = conv2d(x[None, None], w[None, None])
y

# %% tags=["check"]
assert y.shape == (1, 1, 1, 2)
assert y[0, 0, 0, 0] == by_hand
assert y[0, 0, 0, 1] == 0 + 1 + 0 + 1 - 4 * 2

# %% [markdown]
# ## The two halves
#
# **Sampling** is a function of its own, `sample(x, p)`: the values of a map at a list of points.
# At whole points it only reads pixels. **The weighted sum** is one `einsum`. Together they are
# equation (1), for every $p_0$ at once.

# %%
p0s = np.array([(1, 1), (1, 2)])
points = (p0s[:, None] + R(3)).astype(float)
samples = sample(x[None], points)
print("points ", points.shape, "  p0, tap, (y, x)")
print("samples", samples.shape, "  channel, p0, tap")
in_two_steps = np.einsum("cpn,n->p", samples, w.ravel())

# %% tags=["check"]
assert np.array_equal(in_two_steps, y[0, 0, 0])

# %% [markdown]
# What to notice: the weights never moved, and the sampling never saw the weights. Notebook 3 keeps
# the second line and lets `points` depend on the image. That is the whole of deformable
# convolution.
#
# ## Dilation changes R, and nothing else
#
# An *atrous* (dilated) convolution reads with gaps. Its weights and its sum are the same.

# %%
patch = face[40:68, 40:72]
weight = rng.integers(-3, 4, (1, 1, 3, 3)).astype(float)
dilated = conv2d(patch[None, None], weight, dilation=4)
centre = np.array([10, 12])
reads = sample(patch[None], (centre + R(3, dilation=4)).astype(float))
by_sampling = (reads * weight.ravel()).sum()

# %% tags=["check"]
assert np.array_equal(R(3, dilation=4), 4 * R(3))
assert dilated[0, 0, 10 - 4, 12 - 4] == by_sampling

# %% [markdown]
# The output pixel of $p_0 = (10, 12)$ is number $(6, 8)$: without padding the first $p_0$ that
# fits is $(4, 4)$.
#
# ## Stride and padding choose p0
#
# Neither of them touches $R$ or $w$. The **stride** takes every second (third, …) $p_0$.
# **Padding** lets $p_0$ come so close to the edge that $p_0 + p_n$ falls outside; what is read
# there is 0. Below: 5x7 pixels, stride 2, padding 1.

# %%
grids = sampling_points(np.zeros((1, 18, 3, 4)), 3, stride=2, padding=1)[0, 0]
fig, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
for ax, (i, j) in zip(axes, ((0, 0), (1, 2)), strict=True):
    picture(ax, np.full((5, 7), 0.8), f"the grid of output pixel ({i}, {j})", vmin=0, vmax=1)
    dots(ax, grids[:, i, j], PN, "$p_0 + p_n$", hollow=True, size=110)
    dots(ax, grids[4], P0, "every $p_0$", marker="X")
    ax.set(xlim=(-1.6, 6.6), ylim=(4.6, -1.6), xticks=range(-1, 7), yticks=range(-1, 5))
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
show(fig)

# %% tags=["check"]
every = np.pad(x, 1)
strided = conv2d(x[None, None], w[None, None], stride=2, padding=1)[0, 0]
dense = conv2d(x[None, None], w[None, None], padding=1)[0, 0]
assert np.array_equal(strided, dense[::2, ::2])
assert np.array_equal(dense, conv2d(every[None, None], w[None, None])[0, 0])
assert tuple(grids[4, 0, 0]) == (0, 0) and tuple(grids[0, 0, 0]) == (-1, -1)

# %% [markdown]
# ## An independent witness, and a word about names
#
# SciPy has a function for the sum in equation (1). It is called `correlate2d`. The *convolution*
# of mathematics flips the kernel first, and `convolve2d` does. Deep learning calls equation (1) a
# convolution all the same, and so do we.

# %%
kernel = weight[0, 0]
ours = conv2d(patch[None, None], weight)[0, 0]
correlated = correlate2d(patch, kernel, mode="valid")
convolved = convolve2d(patch, kernel, mode="valid")

# %% tags=["check"]
assert np.allclose(ours, correlated, rtol=0, atol=1e-12)
assert not np.allclose(ours, convolved)
assert np.allclose(ours, convolve2d(patch, kernel[::-1, ::-1], mode="valid"), rtol=0, atol=1e-12)

# %% [markdown]
# ## What a fixed grid cannot do
#
# Make a filter that looks for one thing: the eye under the red cross. Its weights are the 9x9
# patch itself, brought to mean 0, so the response is largest where the map looks like the patch.
# Then show it the same face, twice as large.

# %%
eye = face[49:58, 50:59]
detector = ((eye - eye.mean()) / np.square(eye - eye.mean()).sum())[None, None]
grid2 = np.moveaxis(np.indices((200, 200)), 0, -1) / 2
large = sample(face[None], grid2)[0]
at_size_1 = conv2d(face[None, None], detector, padding=4)[0, 0]
at_size_2 = conv2d(large[None, None], detector, padding=4)[0, 0]
dilated_2 = conv2d(large[None, None], detector, padding=8, dilation=2)[0, 0]

# %%
fig, axes = plt.subplots(1, 3, figsize=(9.5, 3.5), layout="constrained")
cases = (face, 1, 1, at_size_1), (large, 2, 1, at_size_2), (large, 2, 2, dilated_2)
for ax, (image, size, d, response) in zip(axes, cases, strict=True):
    y, x0 = place = size * p0
    picture(ax, image, f"size {size}, dilation {d}: response {response[y, x0]:.2f}")
    dots(ax, place + R(9, dilation=d), PN, size=6 * d if size == d else 4)
    ax.set(xlim=(x0 - 12 * size, x0 + 20 * size), ylim=(y + 16 * size, y - 16 * size))
    dots(ax, place, P0, marker="X", size=30)
show(fig)

# %% tags=["check"]
small, double = tuple(p0), tuple(2 * p0)
assert np.isclose(at_size_1[small], 1)
assert at_size_2[double] < 0.7
assert np.isclose(dilated_2[double], at_size_1[small], rtol=0, atol=1e-12)

# %% [markdown]
# What to notice:
#
# * The filter that answers 1 to the eye answers much less to the same eye at twice the size,
#   because its 81 points no longer cover the eye.
# * The *same weights* answer exactly 1 again when the grid is twice as wide. Nothing was wrong
#   with the weights; the grid was.
# * A layer has one dilation, for every place and every image. A picture with a large face and a
#   small one has no right choice. The paper lets the grid be chosen at each place, from the image.
#
# ## Play with R
#
# Drag the last tap, number 8, and the grid turns and stretches; drag $p_0$, and it moves. Where do
# the nine points have to go to cover the face? The figure is the start; the cell after it needs a
# running kernel.

# %%
board = turn_grid(face, p0=(64, 68))
board.figure()

# %% tags=["widget"]
board.play()


# %% [markdown]
# ## Exercise 1: write R
#
# Fill in the function and run the check below it. The check compares it with the library on
# problems that you do not see, and where it knows the mistake, it names it. It says one line,
# whatever the function does: what the function prints is not shown, and one that runs for more than
# ten seconds is stopped.
# `exercises.hint("grid")` gives a hint, and a second one when asked again; after the last hint
# `exercises.solution("grid")` shows a solution. All exercises of these notebooks work like this.


# %%
def grid(k, d):
    # FILL ME IN (about 2 lines): the taps of a k x k kernel, k odd, of dilation d, row by row:
    # whole numbers, an array of shape (k * k, 2)
    raise NotImplementedError


# %%
exercises.check("grid", grid)

# %% [markdown]
# ## Exercise 2: convolution as one matrix product
#
# Collect the samples of every output pixel as columns of a matrix (*im2col*): one row per channel
# and tap, one column per output pixel. Then equation (1) is a single product. No padding, stride 1,
# so the output has H - kh + 1 rows and W - kw + 1 columns. `x` is N C H W and `weight` is O C kh kw.


# %%
def conv_by_columns(x, weight):
    # FILL ME IN (about 5 lines): K shifted copies of x, stacked, times weight.reshape(O, -1)
    raise NotImplementedError


# %%
exercises.check("conv_by_columns", conv_by_columns)

# %% [markdown]
# ## Exercise 3: the receptive field of a stack
#
# Each layer of a stack has a kernel size, a stride and a dilation. How many pixels of the input,
# along one axis, from the first to the last, can one output pixel see? Two layers of three taps see
# 5: the second reads three neighbours, and each of them sees 3 pixels. If the first has stride 2,
# those neighbours are two pixels apart, and it is 7.


# %%
def receptive_field(kernels, strides, dilations):
    # FILL ME IN (about 4 lines): three lists of whole numbers, first layer first; returns an int
    raise NotImplementedError


# %%
exercises.check("receptive_field", receptive_field)

# %% [markdown]
# ## How the library does it
#
# The reference is meant to be read. This is the gradient-free half of its `convolution.py`.

# %%
print(inspect.getsource(conv2d).split('"""')[2])

# %% [markdown]
# ## What you now know
#
# * Equation (1) is sampling on a grid $R$, then a weighted sum.
# * Dilation changes $R$; stride and padding choose $p_0$; the weights know nothing of either.
# * What deep learning calls a convolution does not flip its kernel: it is SciPy's `correlate2d`.
# * A filter fails on a larger object because of its grid, and the grid can be mended alone.
#
# **Next:** points between the pixels. [Notebook 2](02_bilinear_sampling.ipynb) reads $x$ at any
# $p$.
