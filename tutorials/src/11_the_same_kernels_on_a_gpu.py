# %% [markdown]
# # 11. The same kernels on a GPU
#
# The equations of notebooks 2 to 4 once more, as kernels for a GPU: from the naive one up, one
# change at a step. Each step has a specification in NumPy, a kernel, the question *does it still
# match?*, and a count of what it asks of memory, which needs no GPU.
#
# The question: *the formula says what to compute; what does it leave open that decides the speed?*

# %%
import inspect
from importlib.resources import files
from pathlib import Path

import exercises
import numpy as np
import puzzle_figures
from exercises.gpu import by_destination, launched
from figures import ARROW, INK, P0, PN, Q, picture, plt, show
from puzzles import SIMULATED, WHERE, cuda, launch, watch

from deformable_convnets.gpu.bench_record import FOLDER, newest
from deformable_convnets.gpu.bench_report import markdown
from deformable_convnets.gpu.numba_kernels import deform_conv as v1
from deformable_convnets.gpu.numba_kernels import deform_conv_columns as v2
from deformable_convnets.gpu.numba_kernels.bilinear import sample, slopes
from deformable_convnets.reference import (
    deform_conv2d,
    deform_conv2d_backward,
    sample_backward,
    sampling_points,
)
from deformable_convnets.reference import sample as sample_spec

rng, NAN = np.random.default_rng(0), np.float32(np.nan)
print(f"The kernels are run by {WHERE}.")

# %% [markdown]
# ## Puzzle 1: a map
#
# A **kernel** is a function that many threads execute, each with a number of its own:
# `cuda.grid(1)`. It returns nothing and writes its result into an array. Here 3 blocks of 4
# threads share out 11 numbers.


# %%
def map_spec(x):
    return 2 * x + 1


def mapped(x, y):
    i = cuda.grid(1)
    if i < y.size:
        y[i] = 2 * x[i] + 1


# %%
x = np.arange(11, dtype=np.float32)
run = launch(mapped, (3, 4), x, np.full(11, NAN))
fig, ax = plt.subplots(figsize=(8, 2.6), layout="constrained")
puzzle_figures.threads(ax, run, "x", "y", "a map: who reads and writes what")
show(fig)

# %% [markdown]
# The thick lines part the blocks. Yellow threads work; the grey one, number 11, has no number to work
# on. Blue arrows are reads of
# global memory, green ones writes. `launch` first *watches* the kernel, as plain Python on arrays
# that note each access, then hands it to Numba. The table adds up all threads; *per thread* is the
# mean of the reads, *sectors* comes in puzzle 6. It is what the kernel asks for: on a device, the
# compiler may merge reads, and caches serve some.

# %%
print(run)

# %% tags=["check"]
assert np.array_equal(run["y"], map_spec(x))  # does it match?
assert run.reads["x"] == run.writes["y"] == 11
assert 11 not in {thread for thread, *_ in run.accesses}

# %% [markdown]
# The `if` is the **guard**. Without it thread 11 reads what is not its own. On a GPU that may go
# unnoticed; here it is an error.


# %%
def unguarded(x, y):
    i = cuda.grid(1)
    y[i] = 2 * x[i] + 1


try:
    launch(unguarded, (3, 4), x, np.full(11, NAN))
except IndexError as error:
    caught = str(error)
    print(caught)

# %% tags=["check"]
assert caught == "thread 11 of 12 reads x[11], of shape (11,)"

# %% [markdown]
# ## Puzzle 2: a bilinear sample
#
# > $$ x(p) = \sum_q G(q, p) \cdot x(q) \tag{3} $$
# >
# > $$ G(q, p) = g(q_x, p_x) \cdot g(q_y, p_y), \quad g(a, b) = \max(0, 1 - |a - b|) \tag{4} $$
#
# $G$ is a sparse matrix in notebook 2. A thread stores nothing: it finds the four pixels of its
# point and their weights in its registers, which are no global memory. That is a *device function*
# of the library, `sample(x, py, px, dcnv1)`; its last argument chooses the authors' border.
#
# ## By hand, on 3x4 pixels
#
# The map of notebook 1. Halfway between its 2 and the 1 below, at $p = (0.5, 1)$, it is 1.5: half of
# each, and nothing of the other two. The third point below is half outside the map, where nothing
# is read. The last one is the last pixel of the map: the other three of its cell are outside. (A
# whole point in the middle reads all four, three of them with weight 0.)


# %%
def sample_points(x, p, y):
    i = cuda.grid(1)
    if i < y.size:
        y[i] = sample(x, p[i, 0], p[i, 1], False)


pixels = np.array([[1, 2, 0, 3], [4, 1, 2, 0], [0, 5, 1, 2]], np.float32)
p = np.array([(0.5, 1), (1.25, 2.5), (-0.5, 0), (2, 3)], np.float32)
run = launch(sample_points, (1, 4), pixels, p, np.full(4, NAN))
print(run["y"])
print(run)

# %% tags=["check"]
assert run["y"][0] == (2 + 1) / 2 == 1.5
assert np.array_equal(run["y"], sample_spec(pixels[None], p)[0])
assert run.reads["p"] == 2 * 4
assert run.reads["x"] == 4 + 4 + 2 + 1  # of the last two cells, two and three pixels are outside
in_the_middle = watch(sample_points, (1, 1), pixels, np.float32([[1, 1]]), np.full(1, NAN))
assert in_the_middle.reads["x"] == 4

# %% [markdown]
# ## Puzzle 3: the naive deformable convolution
#
# > $$ y(p_0) = \sum_{p_n \in R} w(p_n) \cdot x(p_0 + p_n + \Delta p_n) \tag{2} $$
#
# The simplest kernel is the equation: a thread owns one output, and loops over the channels and
# the taps. It is version 1 of the library's Numba kernels, and here is its inner loop.

# %%
lines = inspect.getsource(v1.forward.py_func).splitlines()
print("\n".join(lines[4:]))

# %% [markdown]
# A layer of C = 4 channels to O = 3, 3x3 taps, without padding, on 7x8 pixels. All values are small
# whole numbers, and offsets quarters: every sum is exact, so *match* means bit for bit. The points
# are kept inside the map, so that each sample reads four pixels and the counts are round.

# %%
C, O, K, H, W, Ho, Wo = 4, 3, 9, 7, 8, 5, 6
P = Ho * Wo  # output pixels
x = rng.integers(-8, 9, (1, C, H, W)).astype(np.float32)
w = rng.integers(-4, 5, (O, C, 3, 3)).astype(np.float32)
regular = sampling_points(np.zeros((1, 18, Ho, Wo)), 3)[0, 0]
wanted = np.round(4 * (regular + rng.uniform(-2, 2, regular.shape))) / 4
move = np.clip(wanted, 0, (H - 1.25, W - 1.25)) - regular
offset = np.moveaxis(move, -1, 1).reshape(1, 18, Ho, Wo).astype(np.float32)
spec = deform_conv2d(x, offset, w)

# %%
no_bias, no_mask, zero = np.zeros(1, np.float32), np.zeros((1, 1, 1, 1), np.float32), np.float32(0)
layout = (1, 1, 0, 0, 1, 1)  # stride, padding, dilation
given = x, offset, w, no_bias, False, no_mask, False
naive = launch(v1.forward, (3, 32), *given, np.full(spec.shape, NAN), layout, 1, False, zero)
print(naive)

# %% tags=["check"]
assert np.array_equal(naive["y"], spec)
assert naive.reads["offset"] == O * P * 2 * C * K
assert naive.reads["x"] == O * P * 4 * C * K
assert naive.reads["weight"] == O * P * C * K

# %% [markdown]
# That is $7CK$ reads for each output. For each channel and tap seven: four pixels, two numbers of
# the offset, one weight. The offset is the same for all channels and all outputs of a pixel, so that
# each of its numbers is read $OC$ times.
#
# ## Puzzle 4: columns, then a product
#
# The samples do not depend on the output channel $o$. So take each once, write them down as a
# matrix of $CK$ rows, the **columns** (im2col), and leave the sum over $c$ and $n$ to a matrix
# product. The first kernel gives each number of the columns a thread.


# %%
def columns_spec(x, offset):
    return sample_spec(x[0], sampling_points(offset, 3)[0, 0]).reshape(1, C, K, P)


# %%
def columns_per_channel(x, offset, columns):
    t, Wo = cuda.grid(1), offset.shape[3]
    K, P = columns.shape[2:]
    if t < columns.size:
        c, k, p0 = t // (K * P), t // P % K, t % P
        oy, ox = p0 // Wo, p0 % Wo
        py = oy + k // 3 + offset[0, 2 * k, oy, ox]
        px = ox + k % 3 + offset[0, 2 * k + 1, oy, ox]
        columns[0, c, k, p0] = sample(x[0, c], py, px, False)


# %%
empty = np.full((1, C, K, P), NAN)
per_channel = launch(columns_per_channel, (17, 64), x, offset, empty)
columns = per_channel["columns"]
y = np.full(spec.shape, NAN)
product = launch(v2.product, (3, 32), columns, w, no_bias, False, y, zero)
print(per_channel, product, sep="\n")

# %% tags=["check"]
assert np.array_equal(columns, columns_spec(x, offset))
assert np.array_equal(product["y"], spec)
assert naive.reads["x"] == O * per_channel.reads["x"]
assert naive.reads["offset"] == O * per_channel.reads["offset"]
assert product.reads["columns"] == O * C * K * P

# %% [markdown]
# The gathering has become $O$ times cheaper, for $CKP$ writes. The naive product reads each number
# of the columns $O$ times; a library's product reads it a few times, as it keeps blocks of both
# matrices in the registers and the shared memory of many threads.
#
# ## Puzzle 5: the coordinates once for all channels
#
# The point $p_0 + p_n + \Delta p_n$, its cell and its four weights are the same for every channel.
# Version 2 of the library's kernels has a thread for each point, which loops over the channels.

# %%
grid = (5, 64)
arguments = x, offset, no_mask, False, empty, 3, layout, 1, False, zero
per_point = launch(v2.sample_columns, grid, *arguments)
print(per_point)

# %% tags=["check"]
assert np.array_equal(per_point["columns"], columns)
assert per_channel.reads["offset"] == C * per_point.reads["offset"]
assert per_point.reads["offset"] == 2 * K * P  # each number once
assert per_point.reads["x"] == per_channel.reads["x"]

# %% [markdown]
# The reads of the offset fell by $C$, and with them the arithmetic of the coordinates, which no
# table here shows. With 512 channels that leaves 2 reads of the offset beside 2048 of $x$ for each
# point.

# %%
steps = {
    "3: naive": [naive],
    "4: columns": [per_channel, product],
    "5: shared points": [per_point, product],
}
arrays = {"x": Q, "offset": ARROW, "weight": P0, "columns": PN}
totals = {a: [sum(r.reads[a] for r in runs) / (O * P) for runs in steps.values()] for a in arrays}

# %%
fig, ax = plt.subplots(figsize=(7, 2.4), layout="constrained")
left = np.zeros(len(steps))
for name, values in totals.items():
    ax.barh(list(steps), values, left=left, color=arrays[name], label=name, height=0.6)
    left += values
ax.set(xlabel="reads of global memory for one output, C = 4, O = 3", xlim=(0, 7.5 * C * K))
ax.invert_yaxis()
ax.legend(loc="lower right")
show(fig)

# %% tags=["check"]
assert left[0] == 7 * C * K
assert left[0] > left[1] > left[2]

# %% [markdown]
# ## Puzzle 6: neighbours read neighbours
#
# Threads go in **warps** of 32, which execute an instruction together. Memory answers a warp's
# request in **sectors** of 32 bytes, 8 numbers of float32: the 32 threads get their numbers in 4
# sectors if these are neighbours and begin at a sector (else 5), in up to 32 if not. `run.sectors`
# looks up how many sectors each request touched.
#
# Offsets send the threads to places that nobody knows before. But all channels of a point go to the
# same place. So put the channels last in memory, and let neighbouring threads take neighbouring
# channels of one point. Below, 20 points of 8 channels on 15x24 pixels, in both layouts.


# %%
def planes(x, p, y):  # x is C H W, y is C P
    t, P = cuda.grid(1), p.shape[0]
    if t < y.size:
        c, i = t // P, t % P
        y[c, i] = sample(x[c], p[i, 0], p[i, 1], False)


def channels_last(x, p, y):  # x is H W C, y is P C
    t, C = cuda.grid(1), x.shape[2]
    if t < y.size:
        i, c = t // C, t % C
        y[i, c] = sample(x[:, :, c], p[i, 0], p[i, 1], False)


# %%
maps = rng.integers(-8, 9, (8, 15, 24)).astype(np.float32)
p = (rng.integers(0, (14 * 4, 23 * 4), (20, 2)) / 4).astype(np.float32)
rows = np.ascontiguousarray(np.moveaxis(maps, 0, -1))
by_plane = launch(planes, (3, 64), maps, p, np.full((8, 20), NAN))
by_pixel = launch(channels_last, (3, 64), rows, p, np.full((20, 8), NAN))
print(by_plane, by_pixel, sep="\n")

# %%
fig, axes = plt.subplots(1, 2, figsize=(9.4, 3.2), layout="constrained")
pictured = (("x as C H W", by_plane), ("x as H W C", by_pixel))
for ax, (title, run) in zip(axes, pictured, strict=True):
    count = len({i // 8 for i in run.requests("x")[0]})
    puzzle_figures.sectors(ax, run, "x", f"{title}: 32 numbers in {count} sectors")
show(fig)

# %% tags=["check"]
assert np.array_equal(by_plane["y"], sample_spec(maps, p))
assert np.array_equal(by_pixel["y"].T, by_plane["y"])
assert by_plane.reads["x"] == by_pixel.reads["x"] == 4 * maps.shape[0] * len(p)
assert by_pixel.sectors("x") == by_pixel.sectors("y") == 4  # the least for 32 different numbers
assert 6 < by_plane.sectors("x") / by_pixel.sectors("x") < 8

# %% [markdown]
# Each picture is the memory of x, 80 numbers a row, and one request of the first warp. Dark cells are
# the numbers that it reads, light ones what is fetched with them and not used. In C H W that warp has 20
# points of channel 0 and 12 of channel 1, so it stays in the upper quarter. As many reads, from a
# seventh of the sectors. Eight channels fill a sector; with a multiple of 32, all threads of a warp
# read at the same pixel.
#
# Points at random are the worst case of C H W. In a layer without offsets neighbouring points read
# neighbours, and smooth offsets leave them near each other; noise does not.

# %%
regular = np.moveaxis(np.indices((38, 63)), 0, -1).reshape(-1, 2)
smooth = np.sin(2 * np.pi * (regular @ [[1 / 38, 1 / 38], [1 / 63, -1 / 63]]))
fields = {"zero": 0 * smooth, "smooth, 1 pixel": smooth, "smooth, 4 pixels": 4 * smooth,
          "noise, 1 pixel": rng.normal(size=smooth.shape),
          "anywhere": rng.uniform((0, 0), (37, 62), smooth.shape) - regular}  # fmt: skip


# %%
def asked_for(move):
    moved, one_map = (regular + move).astype(np.float32), np.zeros((1, 38, 63), np.float32)
    return watch(planes, (19, 128), one_map, moved, np.full((1, 38 * 63), NAN)).sectors("x")


sectors = {name: asked_for(move) for name, move in fields.items()}
print(*[f"{name:18}{count:5.1f} sectors a request" for name, count in sectors.items()], sep="\n")

# %% tags=["check"]
few, smooth_1, smooth_4, noise, anywhere = sectors.values()
assert 4 < few < 5 < smooth_1 < smooth_4 < 11 < noise < anywhere
assert 28 < anywhere <= 32

# %% [markdown]
# So with zero offsets C H W needs about 5 sectors, with smooth ones 5 to 10. Channels last needs 4,
# wherever the points are.
#
# ## Puzzle 7: the gradient of the offset
#
# > $$ \frac{\partial y(p_0)}{\partial \Delta p_n}
# > = w(p_n) \cdot \sum_q \frac{\partial G(q, p_0 + p_n + \Delta p_n)}{\partial \Delta p_n} x(q) \tag{7} $$
#
# without the sum over $p_n$ that is printed in front of it by mistake (notebook 4). An offset moves
# its point in all channels, so its gradient is a sum over them. If each channel has a thread of its
# own, all of them add to the same two numbers. Such an addition must be **atomic**: a read and a
# write that nobody comes between.

# %%
grad_output = rng.integers(-4, 5, spec.shape).astype(np.float32)
grads = deform_conv2d_backward(grad_output, x, offset, w)
through = launch(v2.grad_columns, (5, 64), grad_output, w, empty, zero)["grad_columns"]


# %%
def slopes_per_channel(through, x, offset, grad):
    t, Wo = cuda.grid(1), offset.shape[3]
    K, P = through.shape[2:]
    if t < through.size:
        c, k, oy, ox = t // (K * P), t // P % K, t % P // Wo, t % P % Wo
        py = oy + k // 3 + offset[0, 2 * k, oy, ox]
        px = ox + k % 3 + offset[0, 2 * k + 1, oy, ox]
        by_y, by_x = slopes(x[0, c], py, px, False, True)
        cuda.atomic.add(grad, (0, 2 * k, oy, ox), through[0, c, k, t % P] * by_y)
        cuda.atomic.add(grad, (0, 2 * k + 1, oy, ox), through[0, c, k, t % P] * by_x)


# %%
nothing = np.zeros_like(offset)
atomics = launch(slopes_per_channel, (17, 64), through, x, offset, nothing)
rest = no_mask, False, nothing, 3, layout, 1, False, True, zero
reduced = launch(v2.grad_offset, (5, 64), through, x, offset, *rest)
print(atomics, reduced, sep="\n")

# %% tags=["check"]
assert np.array_equal(atomics["grad"], grads.offset)
assert np.array_equal(reduced["grad_offset"], grads.offset)
assert atomics.atomics["grad"] == C * offset.size
assert atomics.reads["x"] == reduced.reads["x"] == 8 * C * K * P
assert reduced.atomics["grad_offset"] == 0
assert reduced.writes["grad_offset"] == offset.size  # each number once, by its owner

# %% [markdown]
# (The tables show 8 reads of x for a sample: `slopes` reads the four pixels once for y and once for
# x; the CUDA kernel below reads them once.)
#
# The second kernel, version 2 of the library, gives a point to one thread, which adds up in its
# registers. No atomics, each number written once, always in the same order: the result repeats to
# the last bit. That is a **reduction**; the CUDA kernel below shares it out to a few neighbours.
#
# ## Puzzle 8: the gradient of x
#
# Equation (3) read four pixels for each point. Its adjoint adds to four pixels:
# $\partial L / \partial x(q) = \sum_p G(q, p)\, \partial L / \partial x(p)$, and here the points
# that meet in one pixel are known only at run time. One channel, 60 points, 240 corners; `q`, `g`
# and `source` say which pixel a corner is, its weight, and the point that it belongs to.

# %%
size, points = (6, 9), (rng.integers(0, (5 * 4, 8 * 4), (60, 2)) / 4).astype(np.float32)
start, source, g = by_destination(points, size)  # the corners, sorted by their pixel
q = np.repeat(np.arange(54), np.diff(start))
grad = rng.integers(-8, 9, 60).astype(np.float32)
grad_spec = sample_backward(grad[None], np.zeros((1, *size), np.float32), points).x[0]
grad_x = np.zeros(54, np.float32)


# %%
def overwriting(q, source, g, grad, grad_x):
    t = cuda.grid(1)
    if t < q.size:
        grad_x[q[t]] += g[t] * grad[source[t]]


def scattered(q, source, g, grad, grad_x):
    t = cuda.grid(1)
    if t < q.size:
        cuda.atomic.add(grad_x, q[t], g[t] * grad[source[t]])


# %% [markdown]
# `+=` is a read, an addition and a write. If two threads read before either has written, one of the
# additions is lost. `together=True` watches just that: all threads read before the first one
# writes. One after the other nothing is lost: a race shows when it wants to. `run.races` tells from
# the accesses that there is one.

# %%
corners = q, source, g, grad, grad_x
lost = watch(overwriting, (4, 64), *corners, together=True)
in_turn = watch(overwriting, (4, 64), *corners)
atomic = launch(scattered, (4, 64), *corners)
print(lost, atomic, sep="\n")
print(f"{lost.races['grad_x']} of 54 pixels are written by more than one thread")

# %%
shown = {
    "right, by atomics": atomic["grad_x"],
    "with lost updates": lost["grad_x"],
    "lost": grad_spec.ravel() - lost["grad_x"],
}
fig, axes = plt.subplots(1, 3, figsize=(9.4, 2.3), layout="constrained", sharey=True)
signed = {"cmap": puzzle_figures.SIGNED, "vmin": -14, "vmax": 14}
for ax, (title, values) in zip(axes, shown.items(), strict=True):
    picture(ax, values.reshape(size), title, **signed)
show(fig)

# %% [markdown]
# Blue and orange are the two signs, on one scale in all three pictures.

# %% tags=["check"]
assert np.array_equal(atomic["grad_x"].reshape(size), grad_spec)
assert not np.array_equal(lost["grad_x"].reshape(size), grad_spec)
assert np.array_equal(in_turn["grad_x"], atomic["grad_x"])  # one after the other
assert lost.races == in_turn.races  # which the accesses tell all the same
assert lost.races["grad_x"] > 0
assert not atomic.races

# %% [markdown]
# Atomics are right, but their order is not defined. Where sums round, another order gives other
# last bits, so that two runs of one training differ (notebook 4).


# %%
def scatter_in(order):
    numbers = np.random.default_rng(1).normal(size=60).astype(np.float32)
    return watch(scattered, (4, 64), q[order], source[order], g[order], numbers, grad_x)["grad_x"]


first, second = scatter_in(np.arange(240)), scatter_in(rng.permutation(240))
print(f"{(first != second).sum()} of 54 pixels differ in their last bits")

# %% tags=["check"]
assert not np.array_equal(first, second)
assert np.allclose(first, second, rtol=0, atol=1e-5)

# %% [markdown]
# **The deterministic way** turns the sum around: a thread owns a pixel and gathers. Version 1 asks
# every point of the layer whether it read the pixel, which is simple and slow. Here it does so for
# the first channel.

# %%
arguments = offset, w[:, :1], no_mask, False, np.full((1, 1, H, W), NAN), layout, 1, False, zero
asking = launch(v1.grad_x, (1, 64), grad_output, *arguments)
print(asking)
print(f"the offset is read {asking.reads['offset'] / offset.size:g} times")

# %% tags=["check"]
assert np.array_equal(asking["grad_x"], grads.x[:, :1])
assert not asking.atomics
assert not asking.races
assert asking.reads["offset"] == H * W * offset.size  # every pixel asks for all of it

# %% [markdown]
# Better is to sort the corners by their pixel first, once for all channels; then a pixel's corners
# are neighbours. That is exercise 4.
#
# ## The same in CUDA C++
#
# The library's fastest version is in CUDA C++, and takes all of these steps. Here are lines of its
# source, as they are. `T` is the dtype of x, `A` that of the sums, `VEC` the channels of a load,
# `Vec` and `Wide` so many numbers as one, `LANES` the threads of a team; `FIRST` and `STEP` are
# `cuda.grid(1)` and `cuda.gridsize(1)`.


# %%
def excerpt(begin, end="}", name="deform_conv.cu"):
    text = (files("deformable_convnets.gpu.cupy_kernels") / name).read_text().splitlines()
    first = next(i for i, line in enumerate(text) if begin in line)
    last = next(i for i, line in enumerate(text) if i > first and line.rstrip() == end)
    return "\n".join(text[first : last + 1])


# %% [markdown]
# **Puzzles 4 to 6.** `points` has found the cell of every point, once. A thread of `columns` takes
# `VEC` neighbouring channels of a point in one load from each of the four pixels, channels last, and
# writes them to columns whose channels are last too.

# %%
vectors = excerpt("void columns(const T* x")
print(vectors)

# %% [markdown]
# **Puzzle 7.** A team of threads owns a point, each of them a part of its channels; their sums go
# through registers alone.

# %%
reduction = excerpt("A team_sum(A value)")
print(reduction)

# %% [markdown]
# **Puzzle 8.** With `deterministic=True` a pixel gathers its corners, whose keys have been sorted:
# the upper half of a key is the pixel, the lower half says which point and corner. Otherwise
# threads add, four neighbouring channels by one instruction (float32, from compute capability 9.0 on;
# else one `atomicAdd` each).

# %%
gather = excerpt("for (Index e = begin; e < corners", end=" " * 12 + "}")
addition = excerpt("void add_four", name="primitives.cuh")
print(gather, addition, sep="\n\n")

# %% tags=["check"]
assert "read(x, pixels[point], s.W, s.C, c)" in vectors
assert "__shfl_xor_sync" in reduction
assert "atomic" not in gather
assert "red.global.add.v4.f32" in addition

# %% [markdown]
# ## What bounds the speed: a roofline
#
# A device computes at most so many operations a second, and its memory delivers at most so many
# bytes. Whether a kernel can be fast depends on its **intensity**, operations for each byte: below
# the ridge memory is the bound, above it arithmetic. The layer: 38x63 pixels, 512 channels to 512,
# 3x3, float32: the last stage of a network that sees 600x1000 pixels at stride 16. The device: an
# H200, 67 TFLOP/s in float32 by its data sheet; 4.3 TB/s from memory, nine tenths of the 4.8 there,
# as no kernel gets all of it; and 128 bytes a cycle from the level-1 cache of each of its 132
# processors, at 1.98 GHz, the clock of those 67 TFLOP/s.

# %%
P, C, O, K = 38 * 63, 512, 512, 9
flop = 2 * P * C * K * O
each_once = 4 * (C * P + 2 * K * P + O * C * K + O * P)  # x, offset, weight and y, in bytes
columns_too = 2 * 4 * C * K * P  # written and read again
traffic = {"naive": 4 * 7 * C * K * O * P, "columns": each_once + columns_too, "fused": each_once}
intensity = {name: flop / count for name, count in traffic.items()}

# %%
peak, memory, cache = 67e12, 4.3e12, 132 * 128 * 1.98e9  # FLOP/s, bytes/s and bytes/s
for name, value in intensity.items():
    print(f"{name:8}{value:8.3g} FLOP a byte: {100 * min(1, value * memory / peak):.3g} % at most")
of_caches = intensity["naive"] * cache / peak
print(f"naive, if caches served every read: {100 * of_caches:.3g} % at most")

# %% tags=["check"]
assert np.isclose(flop, 11.3e9, rtol=0.01)
assert intensity["naive"] == 2 / 28  # 7 reads of 4 bytes for 2 operations, whatever the layer
assert intensity["naive"] < peak / memory < intensity["columns"] < intensity["fused"]
assert of_caches < 1 / 27
assert np.isclose(peak, 132 * 128 * 2 * 1.98e9, rtol=0.01)  # 128 products and sums a cycle
assert 8 * C * K * P / flop == 4 / O < 0.01  # eight operations to interpolate a sample

# %%
fig, ax = plt.subplots(figsize=(7, 3), layout="constrained")
at = np.logspace(-2, 4, 200)
ax.loglog(at, np.minimum(peak, memory * at) / 1e12, color=INK, label="from memory")
ax.loglog(at, np.minimum(peak, cache * at) / 1e12, color=INK, ls=":", lw=1, label="from caches")
for (name, value), colour in zip(intensity.items(), (P0, Q, ARROW), strict=True):
    ax.plot(value, min(peak, memory * value) / 1e12, "o", color=colour, ms=8, label=name, mec=INK)
ax.plot(intensity["naive"], of_caches * peak / 1e12, "o", color="white", ms=8, mec=P0)
ax.set(xlabel="FLOP for a byte", ylabel="TFLOP/s, at most")
ax.legend(loc="lower right")
show(fig)

# %% [markdown]
# *Naive* counts each read of puzzle 3 as a read of memory. That is too hard on it, as caches serve
# most of them; but if they served all (the hollow point), it would still stay at 1/28 of the peak, at
# any clock: 28 bytes for two operations, and 128 bytes a cycle beside 256 operations. *Columns*
# counts each array once and the columns twice, *fused* has columns that never leave the chip. Both
# are above the ridge: in float32 such a layer is bound by arithmetic, like a convolution, and
# interpolating adds less than 1 % to it.
#
# With tensor cores, `precision="tf32"` in the library, the ridge moves: 495 TFLOP/s by the data sheet
# (dense) put it at about 115 FLOP a byte, above *columns*. There the traffic of the columns is the bound, unless they stay in the
# level-2 cache: the reason to fuse, or to work in chunks. In float16, 989 TFLOP/s, it is the same:
# half the bytes, and a ridge at 230. These bounds are computed. They say what is possible, not what
# a kernel reaches.

# %% tags=["check"]
assert np.isclose((2 / 28) * 128 / 256, 1 / 28)
assert np.isclose(of_caches, 1 / 28, rtol=0.01)
for ridge, count, fused in ((495e12 / memory, 105, 582), (989e12 / memory, 210, 1164)):
    bytes_each = 4 * 105 / count  # 4 in float32, 2 in float16
    assert np.isclose(flop / (traffic["columns"] * bytes_each / 4), count, rtol=0.01)
    assert count < ridge < fused

# %% [markdown]
# ## Recorded times
#
# What has been measured on a GPU is in the newest record of the library's benchmark.

# %%
record = newest(Path("..") / FOLDER)
print("not yet measured on a GPU" if record is None else markdown(record))

# %% [markdown]
# `make bench-gpu` makes a record. On a machine with an NVIDIA GPU, this notebook gives the same
# kernels to the GPU and counts as it does here, for the counting is done in plain Python before
# each launch; with `NUMBA_ENABLE_CUDASIM=1` it stays in the simulator.

# %% tags=["check"]
assert ("simulator" in WHERE) == SIMULATED
assert record is None or (record["device"] and record["date"])

# %% [markdown]
# ## Exercise 1: any number of threads
#
# The map of puzzle 1 with fewer threads than numbers, or more. Every number is read and written
# once. An answer is a kernel, without `@cuda.jit`; `launched` turns it into a function that `check`
# can call. The kernels are watched, as above: `check` sees what they read.


# %%
def strided_map(x, y):
    # FILL ME IN (about 2 lines): y[i] = 2 * x[i] + 1 for every i, with cuda.gridsize(1) threads
    raise NotImplementedError


# %%
exercises.check("strided_map", launched(strided_map))

# %% [markdown]
# ## Exercise 2: each offset once
#
# The columns of a 3x3 layer, without padding, of one image: x is C H W, the offset 18 Ho Wo, and
# the columns C K P with P = Ho Wo. There are at least K P threads. Each number of the offset may be
# read only once.


# %%
def read_once(x, offset, columns):
    # FILL ME IN (about 9 lines): columns[c, k, p0] = sample(x[c], py, px, False)
    raise NotImplementedError


# %%
exercises.check("read_once", launched(read_once))

# %% [markdown]
# ## Exercise 3: neighbours read neighbours
#
# This kernel is right, and slow: x is H W C, but neighbouring threads take neighbouring points.
#
#     t, P = cuda.grid(1), p.shape[0]
#     if t < y.size:
#         c, i = t // P, t % P
#         y[i, c] = sample(x[:, :, c], p[i, 0], p[i, 1], False)
#
# Write it so that a request of a warp to x, or to y, touches 4 sectors at most. Some points are
# outside the map, and there may be more threads than numbers.


# %%
def coalesced(x, p, y):
    # FILL ME IN (about 4 lines): x is H W C, p is P 2, y is P C
    raise NotImplementedError


# %%
exercises.check("coalesced", launched(coalesced))

# %% [markdown]
# ## Exercise 4: the deterministic gather
#
# The gradient of x without atomics. The corners are sorted by their pixel: those of pixel q have
# the numbers `start[q]` to `start[q + 1]`, the latter excluded; `source[e]` is the point that corner
# e belongs to, and `g[e]` its weight. Any number of threads, each pixel written once. `grad_x` comes
# filled with NaN: write every pixel, also one without corners, and do not add to it.


# %%
def gathered(start, source, g, grad, grad_x):
    # FILL ME IN (about 5 lines): grad_x[q] = the sum over its corners e of g[e] * grad[source[e]]
    raise NotImplementedError


# %%
exercises.check("gathered", launched(gathered))

# %% [markdown]
# ## What you now know
#
# * A kernel is the equation for one thread; the guard and the strided loop make it right for any
#   number of threads.
# * Columns save the samples a factor O, shared coordinates save the offset a factor C; channels last
#   make the four reads of a sample cheap *wherever the points are*.
# * A sum has an owner, or needs atomics. Owners give the same bits each time.
# * What can be counted without a GPU: reads, writes, atomics, sectors, races. What cannot: time.
#
# **Next:** [notebook 12](12_neighbours.ipynb) writes the layers around the paper with the same
# sampler. Or, with a kernel of your own, [notebook 13](13_check_your_own_kernel.ipynb) puts it to
# every test that the paper's equations promise.
