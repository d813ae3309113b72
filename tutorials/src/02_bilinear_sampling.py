# %% [markdown]
# # 2. Bilinear sampling is a matrix
#
# A grid that can move does not stop at whole pixels. So the map has to have a value between them,
# and that value has to have a derivative with respect to the *place*, or nothing could learn where
# to look.
#
# The question: *what is x(p) when p lies between pixels, and how does it change when p moves?*

# %%
import exercises
import numpy as np
from figures import BLUES, INK, P, Q, dots, photograph, picture, plt, show
from widgets import drag_p

from deformable_convnets.reference import G, dG, equations, g, sample, sample_backward

rng = np.random.default_rng(0)

# %%
face, p = photograph(128), np.array([[52.3, 53.8]])
corners = [(52, 53), (52, 54), (53, 53), (53, 54)]
fig, axes = plt.subplots(1, 3, figsize=(9.5, 3.2), layout="constrained")
for ax, half, title in zip(axes, (50, 10, 1.6), ("a point p", "closer", "G(q, p)"), strict=True):
    picture(ax, face, title)
    ax.set(xlim=(53.5 - half, 53.5 + half), ylim=(52.5 + half, 52.5 - half))

# %%
for q in corners:
    outside = (q[1] + (0.35 if q[1] == 54 else -0.35), q[0] + (0.4 if q[0] == 53 else -0.25))
    box = {"fc": "white", "ec": "none", "pad": 1}
    axes[2].text(*outside, f"{equations.G(q, p[0]):.2f}", color=Q, ha="center", bbox=box)
dots(axes[2], corners, Q, "q", marker="s")
for ax in axes:
    dots(ax, p, P, "p", size=60)
axes[2].set(xticks=(52, 53, 54, 55), yticks=(51, 52, 53, 54))
axes[2].legend(loc="upper right")
show(fig)

# %% [markdown]
# The green point lies between four pixels. Its value is a mean of theirs, and the nearer ones
# count more: the blue numbers are the weights, and they add up to 1.
#
# ## The equations
#
# > $$ x(p) = \sum_q G(q, p) \cdot x(q) \tag{3} $$
# >
# > $$ G(q, p) = g(q_x, p_x) \cdot g(q_y, p_y), \qquad g(a, b) = \max(0, 1 - |a - b|) \tag{4} $$
# >
# > $q$ runs over all whole locations of $x$; section 2.1
#
# $g$ is a hat: 1 where $a = b$, and 0 from a distance of one pixel on.

# %%
b = np.linspace(-1.5, 5.5, 400)
fig, ax = plt.subplots(figsize=(8, 2.2), layout="constrained")
for a in range(5):
    ax.plot(b, g(a, b), color=Q if a == 2 else "0.7", lw=2, label="g(2, b)" if a == 2 else None)
ax.plot(b, sum(g(a, b) for a in range(5)), color=INK, ls=":", label="the sum of all five")
ax.set(xlabel="b (pixels)", ylabel="g(a, b)", title="Five pixels a = 0 ... 4 and their hats")
fig.legend(loc="outside right upper")
show(fig)

# %% tags=["check"]
assert g(2, 2) == 1 and g(2, 2.25) == 0.75 and g(2, 3) == 0 and g(2, 7) == 0
inside = b[(b >= 0) & (b <= 4)]
assert np.allclose(sum(g(a, inside) for a in range(5)), 1)

# %% [markdown]
# ## By hand, on 3x4 pixels
#
# Take $p = (0.25, 1.5)$. In y it is a quarter of the way from row 0 to row 1, so the rows weigh
# 0.75 and 0.25. In x it is halfway between columns 1 and 2.

# %%
x = np.array([[1.0, 2, 0, 3], [4, 1, 2, 0], [0, 5, 1, 2]])
by_hand = 0.75 * (0.5 * 2 + 0.5 * 0) + 0.25 * (0.5 * 1 + 0.5 * 2)
by_library = sample(x[None], np.array([0.25, 1.5]))
by_hand, by_library

# %% tags=["check"]
assert by_hand == by_library[0] == 1.125
assert equations.sample(x, (0.25, 1.5)) == 1.125  # the sum over all twelve q, literally

# %% [markdown]
# ## G as a matrix
#
# Equation (3) is linear in $x$. So for a list of points, $G$ is a matrix: one row per point $p$,
# one column per pixel $q$. Here is all of it for three points on a 5x5 map. Each row is drawn as
# the 5x5 image that its 25 columns are.

# %%
three = np.array([[1.3, 2.6], [3.0, 1.0], [-0.4, 3.5]])
rows = G(three, (5, 5)).toarray()
images = rows.reshape(3, 5, 5)

# %%
fig, axes = plt.subplots(1, 3, figsize=(9, 3.3), layout="constrained")
for ax, image, point in zip(axes, images, three, strict=True):
    title = f"p = ({point[0]}, {point[1]}), sum {image.sum():.2f}"
    picture(ax, image, title, cmap=BLUES, vmin=0, vmax=1.5)
    for q in np.argwhere(image):
        ax.text(q[1], q[0] + 0.38, f"{image[*q]:.2f}", ha="center", color=INK)
    dots(ax, point, P)
    ax.set(ylim=(4.5, -1.1))
show(fig)

# %% tags=["check"]
dense = np.array([[equations.G(q, point) for q in np.ndindex(5, 5)] for point in three])
assert np.allclose(rows, dense, rtol=0, atol=1e-15)
assert np.allclose(rows.sum(axis=1), (1, 1, 0.6))
assert np.count_nonzero(rows[1]) == 1  # a whole point reads one pixel

# %% [markdown]
# What to notice:
#
# * **A row sums to 1** while $p$ is inside the map, so a constant map is sampled as the constant.
# * **Outside, it sums to less.** The third point is 0.4 of a pixel above the first row. What is
#   outside counts as 0, so the value fades over one pixel. That is equation (3) read literally.
# * **At most four entries of a row are not 0**, however large the map. A dense matrix would waste
#   almost everything, so the library stores the four: a sparse matrix.

# %%
many = rng.uniform(0, 127, (1000, 2))
sparse = G(many, face.shape)
print(
    f"{sparse.shape[0]} x {sparse.shape[1]} = {np.prod(sparse.shape):,} entries, {sparse.nnz:,} stored"
)

# %% tags=["check"]
assert sparse.nnz == 4 * len(many)
assert np.allclose(np.asarray(sparse.sum(axis=1)), 1)
assert np.allclose(sparse @ face.ravel(), sample(face[None], many)[0], rtol=0, atol=1e-15)

# %% [markdown]
# ## Three products
#
# Everything the paper needs from sampling is a product with such a matrix.
#
# | what | product |
# |---|---|
# | the samples, equation (3) | $x(p) = G\,x$ |
# | the gradient of $x$ | $\partial L/\partial x = G^\mathsf{T}\, \partial L/\partial x(p)$ |
# | how a sample changes when $p$ moves down | $\partial x(p)/\partial p_y = G_y\, x$ |
#
# The transpose gives each pixel back what was read from it, with the same weights. That is the
# *adjoint*: $\langle Gx, s\rangle = \langle x, G^\mathsf{T}s\rangle$ for any $x$ and $s$.

# %%
s = rng.normal(size=1000)
left_side = (sparse @ face.ravel()) @ s
right_side = face.ravel() @ (sparse.T @ s)
grads = sample_backward(s[None], face[None], many)

# %% tags=["check"]
assert np.isclose(left_side, right_side, rtol=1e-12)
assert np.allclose(grads.x.ravel(), sparse.T @ s, rtol=0, atol=1e-14)

# %% [markdown]
# $G_y$ has the same four columns in each row as $G$. Only the factor of y is replaced by its slope: -1 for the
# pixel above $p$, +1 for the pixel below. So $G_y x$ is the lower pixels minus the upper ones, mixed
# along x.

# %%
G_y, G_x = dG(many, face.shape)
step = 2.0**-20
down = np.array([step, 0])
difference = (sample(face[None], many + down) - sample(face[None], many - down))[0] / (2 * step)

# %% tags=["check"]
safe = np.abs(many[:, 0] - np.round(many[:, 0])) > step
assert safe.sum() > 990
assert np.allclose((G_y @ face.ravel())[safe], difference[safe], rtol=0, atol=1e-8)
assert np.allclose(grads.p, s[:, None] * np.stack((G_y @ face.ravel(), G_x @ face.ravel()), axis=1))

# %% [markdown]
# ## The kinks
#
# Inside a cell the sample is linear in $p_y$, so its slope is constant. At a whole coordinate one
# cell ends and another begins, and there are two slopes. This is not a rare accident: an offset
# branch that starts at zero puts *every* sample on such a kink. Take one row of four pixels, $x =
# [5, 2, 7, 4]$.

# %%
line = np.array([[[5.0, 2, 7, 4]]])
at = np.array([[0.0, 1.0]])
one = np.ones((1, 1))
right = sample_backward(one, line, at, side="right").p[0, 1]
left = sample_backward(one, line, at, side="left").p[0, 1]
h, nudge = 2.0**-10, np.array([0, 2.0**-10])
central = (sample(line, at + nudge) - sample(line, at - nudge))[0, 0] / (2 * h)
print(f"at p = 1: left {left:+.0f}, right {right:+.0f}, central difference {central:+.0f}")

# %% tags=["check"]
assert left == 2 - 5 and right == 7 - 2
assert central == (left + right) / 2 == 1

# %% [markdown]
# The central difference is the mean of the two slopes, and neither of them. A gradient check that
# lands on a kink therefore reports an error where there is none. The library returns the
# right-hand slope (the cell that `floor` chooses), or the left one with `side="left"`. Both are
# right.
#
# ## Three rules for the border
#
# The equations say what is outside: nothing, 0. The authors' first code did something else, and
# other people's code clamps. On the same four pixels:
#
# * **zero**: equations (3) and (4); the value fades to 0 over one pixel.
# * **dcnv1**: the 2017 code; 0 unless $0 \le p < W$, and the last pixel is repeated up to $W$.
# * **clamp**: $p$ is moved to the nearest point of the map. This is not an option of the library.

# %%
t = np.linspace(-1.75, 5.25, 1401)
path = np.stack((0 * t, t), axis=1)
curves = {
    "zero, equation (3)": sample(line, path)[0],
    '"dcnv1", the authors\' code': sample(line, path, border="dcnv1")[0],
    "clamp": sample(line, np.clip(path, 0, (0, 3)))[0],
}

# %%
fig, axes = plt.subplots(1, 3, figsize=(9.5, 2.8), layout="constrained", sharey=True)
for ax, (name, curve) in zip(axes, curves.items(), strict=True):
    jump = np.abs(np.diff(curve, append=0)) > 1
    ax.plot(t, np.where(jump, np.nan, curve), color=P, lw=2)
    dots(ax, [(v, i) for i, v in enumerate(line[0, 0])], Q, marker="s")
    ax.axvspan(0, 3, color="0.93", zorder=0)
    ax.set(title=name, xlabel="p (pixels)", xticks=range(-1, 6))
axes[0].set_ylabel("x(p)")
show(fig)

# %% tags=["check"]
at = np.array([[0, -0.5], [0, 3.4], [0, 3.99]])
assert np.allclose(sample(line, at), (2.5, 2.4, 0.04))
assert np.allclose(sample(line, at, border="dcnv1"), (0, 4, 4))
assert np.allclose(sample(line, np.clip(at, 0, (0, 3))), (5, 4, 4))

# %% [markdown]
# What to notice: the curve of equation (3) is continuous, and the other code's has two jumps, from
# 0 to 5 at $p = 0$ and from 4 to 0 at $p = 4$. The slope of that rule beyond the last pixel is 0,
# so an offset that has wandered there gets no gradient to bring it back along that axis. Under the
# zero rule this happens more than a pixel outside the map.

# %% tags=["check"]
beyond = np.array([[0, 3.5]])
assert sample_backward(one, line, beyond).p[0, 1] == -4
assert sample_backward(one, line, beyond, border="dcnv1").p[0, 1] == 0
assert sample_backward(one, line, np.array([[0, 4.5]])).p[0, 1] == 0

# %% [markdown]
# ## Drag p
#
# Blue are the four pixels next to $p$ and their weights $G(q, p)$; beside the map and below it is
# $x$ along the column and the row of $p$, orange its slope there. With a running kernel, the cell
# after the figure lets you drag $p$. Cross a line of the grid, then leave the map; then try the
# other border.

# %%
board = drag_p(x, p=(0.6, 1.2))
board.figure()

# %% tags=["widget"]
board.play()


# %% [markdown]
# ## Exercise 1: the sample, from g alone
#
# Write equation (3) with both of its sums, for a map of several channels and a list of points. Use
# `g` from the library.


# %%
def bilinear(x, p):
    # FILL ME IN (about 2 lines): x is C H W and p is n 2; returns C n
    raise NotImplementedError


# %%
exercises.check("bilinear", bilinear)

# %% [markdown]
# ## Exercise 2: build G_y
#
# The dense matrix of the derivative with respect to $p_y$, one row per point, one column per
# pixel; pixels are numbered row by row. At a whole $p_y$, take the right-hand derivative: there the
# pixel itself counts as the one above.


# %%
def slope_y(p, size):
    # FILL ME IN (about 4 lines): p is n 2 and size is (H, W); returns n H*W
    raise NotImplementedError


# %%
exercises.check("slope_y", slope_y)

# %% [markdown]
# ## Exercise 3: where do finite differences fail?
#
# Kinks are at whole coordinates. For each point, say whether the two ends of a central difference,
# $p$ - step and $p$ + step, lie in different cells, along y or along x.


# %%
def differences_fail(p, step):
    # FILL ME IN (about 1 line): p is n 2; returns n booleans
    raise NotImplementedError


# %%
exercises.check("differences_fail", differences_fail)

# %% [markdown]
# ## Exercise 4: the authors' border
#
# Write `sample(x, p, border="dcnv1")` in terms of `sample(x, p)`. The rule holds along y as along
# x. Which larger map has the same values inside, and which points count as 0? (The check looks at
# the values alone.)


# %%
def authors_border(x, p):
    # FILL ME IN (about 3 lines): x is C H W and p is n 2; returns C n
    raise NotImplementedError


# %%
exercises.check("authors_border", authors_border)

# %% [markdown]
# ## What you now know
#
# * A bilinear sample is a row of $G$ times the map, and the row has at most four entries.
# * $G$, $G^\mathsf{T}$ and $G_y, G_x$ give the value, the gradient of the map, and the gradient of
#   the place.
# * At whole coordinates there are two slopes; a central difference gives their mean.
# * The border rule is a choice, and one of the choices has jumps.
#
# **Next:** [notebook 3](03_deformable_convolution.ipynb) puts the two halves together.
