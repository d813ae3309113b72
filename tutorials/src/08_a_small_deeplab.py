# %% [markdown]
# # 8. A small DeepLab
#
# The paper's evidence is networks that were trained: DeepLab with ResNet-101, on street scenes and
# photographs, on eight GPUs. This notebook has a network of 70,000 weights that trains in a minute on
# a CPU, and asks it the same questions.
#
# The question: *does a network that decides where to look label things of all sizes better than one
# with fixed places, and which parts of Tables 1, 2 and 3 (upper half) does it repeat?*

# %%
import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import exercises
import numpy as np
import segmentation_figures as draw
from experiments import report, runs, segmentation, worlds
from experiments.runs import Run
from experiments.tables import TABLES
from experiments.weights import trained
from figures import plt, show
from segmentation_figures import table

from deformable_convnets.reference import (
    ConvLayer,
    disordered_offset,
    effective_dilation,
    stacked_points,
    stacked_shares,
)
from deformable_convnets.reference.networks import layers, metrics, scale_world, segmenter
from deformable_convnets.reference.networks.scale_world import Thing
from deformable_convnets.reference.networks.segmenter import RES5
from deformable_convnets.reference.networks.tape import Tape
from deformable_convnets.reference.networks.training import load, train

rng = np.random.default_rng(0)

# %%
pictures = np.random.default_rng(133)
drawn = [scale_world.scene(pictures) for _ in range(4)]
fig, axes = plt.subplots(2, 4, figsize=(9.6, 5.2), layout="constrained", sharex="row", sharey="row")
draw.scenes(axes, drawn)
draw.legend_of_classes(fig, scale_world.CLASSES)
show(fig)

# %% [markdown]
# Four pictures of **ScaleWorld**, and below each what the network has to say of it: a class for each
# cell of 4x4 pixels, that at its centre. A program draws them, so there is no download and no end
# to them. One to three shapes that do not touch, 1 on a background of 0, and noise of standard
# deviation 0.3 over both. The four classes have the same area, $\pi r^2$, and r goes from 4 to 24
# pixels.
#
# ## The equation
#
# > $$ y(p_0) = \sum_{p_n \in R} w(p_n) \cdot x(p_0 + p_n + \Delta p_n) \tag{2} $$
# >
# > section 2.1
#
# Here $\Delta p_n$ comes from a second convolution of the same $x$, the *branch* (Figure 2), which
# starts at zero. So each cell of each picture has offsets of its own. The plain network is the same
# formula with $\Delta p_n = 0$.
#
# ## Why size matters: a window, by hand
#
# Inside a shape every pixel is 1 plus noise. What class it is, only the edge tells. Below: a disk, a
# square, a triangle and a plus of $r = 20$, and the largest window about the centre in which all four
# look alike.


# %%
def shapes(r):
    """The four shapes of this size, in the middle of a picture, and where each is."""
    things = [Thing(kind, 31.5, 31.5, r, 0.0) for kind in (1, 2, 3, 4)]
    return things, np.array([thing.covers(*np.indices((64, 64))) for thing in things])


def blind(r):
    """Half the side of the largest window in which the four are equal."""
    same = (shapes(r)[1] == shapes(r)[1][0]).all(axis=0)
    return max(n for n in range(32) if same[32 - n : 32 + n, 32 - n : 32 + n].all())


# %%
things, masks = shapes(20)
fig, axes = plt.subplots(1, 4, figsize=(9.6, 2.7), layout="constrained", sharey=True)
for ax, thing in zip(axes, things, strict=True):
    draw.window(ax, thing, blind(20), scale_world.CLASSES[thing.kind])
show(fig)

# %%
for r in (5, 10, 20):
    print(f"r = {r:2}: alike in {2 * blind(r):2} x {2 * blind(r):2} pixels")

# %% tags=["check"]
areas = masks.sum(axis=(1, 2))
assert np.allclose(areas, np.pi * 20**2, rtol=0.06)  # but for the pixels at the edge
arm = np.sqrt(np.pi / 3) / 2  # half the width of the plus, in r: the first edge that comes
assert [blind(r) for r in (5, 10, 20)] == [round(arm * r) for r in (5, 10, 20)]

# %% [markdown]
# The window grows with r. So the receptive field that a cell needs is that of its object, and one
# picture has objects of r = 5 and r = 20. That is the argument of the paper's section 1 for offsets,
# made into a data set. It favours deformable convolution on purpose: what follows shows whether the
# mechanism works, not how much it helps on photographs.
#
# ## mIoU, by hand
#
# The paper's measure for segmentation. For each class: the cells that have it *and* were given it,
# divided by the cells that have it *or* were given it. Then the mean over the classes. On 3x4 cells:

# %%
labels = np.array([[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 2]])
given = np.array([[0, 0, 0, 0], [0, 1, 2, 0], [0, 1, 1, 2]])
matrix = metrics.confusion(given, labels, 3)
fig, axes = plt.subplots(1, 2, figsize=(6, 2.6), layout="constrained")
draw.classes(axes[0], labels, "labels")
draw.classes(axes[1], given, "given")
show(fig)
print(matrix)

# %% [markdown]
# Rows are labels, columns what was given: one cell of class 1 was called 2. Class 0: 7 of 7. Class 1: 3
# in both, 4 + 3 - 3 in one of them. Class 2: 1 in both, 1 + 2 - 1 in one of them.

# %% tags=["check"]
assert np.isclose(metrics.mean_iou(matrix), (7 / 7 + 3 / 4 + 1 / 2) / 3)
assert np.trace(matrix) / matrix.sum() == 11 / 12  # right cells: a much kinder number

# %%
_, cells, _ = worlds.batch("scale", rng, 200)
lazy = metrics.confusion(np.zeros_like(cells), cells, 5)
print(f"always background: {(cells == 0).mean():.0%} right, mIoU {metrics.mean_iou(lazy):.0%}")

# %% tags=["check"]
assert (cells == 0).mean() > 0.8
assert metrics.mean_iou(lazy) < 0.2  # four of the five classes have 0

# %% [markdown]
# ## The network
#
# A `Trunk` has a stem of three convolutions, which makes cells of 4x4 pixels, and six residual blocks
# of one 3x3 convolution each. They bear the names of ResNet-101's last ones. As in the paper those of
# res5 have dilation 2. A 1x1 convolution gives five scores.

# %%
plain = segmenter.segmenter(np.random.default_rng(0))
net = layers.deformable(plain, ["res5a", "res5b", "res5c"])
for name in ("res4c", "res5c"):
    print(f"{name}: {type(getattr(net, name)).__name__}, dilation {getattr(net, name).dilation}")
weights = {n: sum(a.size for a in layers.parameters(each).values())
           for n, each in (("plain", plain), ("deformable", net))}  # fmt: skip
print(weights, f"+{weights['deformable'] / weights['plain'] - 1:.0%}")

# %% [markdown]
# `layers.deformable` copies a network and gives the named layers a branch of zeros. All other weights
# stay. So before training nothing has changed: up to rounding, since the sums are taken in another
# order, and bit for bit where nothing is rounded. For that the second check gives all weights whole
# numbers.

# %% tags=["check"]
images = np.stack([scene.image for scene in drawn])
y, of_net = (each(Tape(), images) for each in (plain, net))
assert np.allclose(of_net, y, rtol=0, atol=1e-5 * np.abs(y).max())
assert all((a == 0).all() for name, a in layers.parameters(net).items() if ".branch." in name)

# %% tags=["check"]
exact = segmenter.segmenter(np.random.default_rng(0), width=16, dtype=np.float64)
for a in layers.parameters(exact).values():
    a[...] = np.sign(a) * (np.abs(a) > a.std())  # -1, 0 and 1
whole = rng.integers(-2, 3, images.shape).astype(float)
y, of_net = (each(Tape(), whole) for each in (exact, layers.deformable(exact, RES5)))
assert 10 < np.abs(y).max() < 2**45  # whole numbers, far from where float64 rounds them
assert np.array_equal(of_net, y)

# %% [markdown]
# A branch has $2N = 18$ maps here, of 32 channels. Relative to the network that is a lot. In
# ResNet-101 the three branches have 18 of 512 channels; the paper's Table 4 has 46.0 million weights
# for DeepLab and 46.1 with them. So we need a control that the paper does not need: a plain network
# with as many weights. It comes below, as *wider*.

# %% tags=["check"]
per_layer = 18 * 32 * 9 + 18
assert weights["deformable"] - weights["plain"] == 3 * per_layer
assert 3 * (18 * 512 * 9 + 18) == 248_886  # in ResNet-101: 0.25 million, printed as 0.1

# %% [markdown]
# ## One training, live
#
# Adam, a rate from 0.002 down to 0 along a cosine, and $\beta = 0.1$: the branches learn ten times
# slower ([notebook 5](05_learning_the_offsets.ipynb) shows what $\beta = 1$ does). A full run has 800
# iterations of 8 pictures. This one has 60: a plain network, and one with res5c deformable.
#
# **Before you run it:** which of the two has the lower loss after 60 steps? And after 800?


# %%
def steps(run, until, checkpoint=None, state=None):
    """A run up to an iteration."""
    state = state or runs.started(run)
    return train(
        state, lambda rng: segmentation.draw(rng, run), segmentation.loss,
        iterations=until, rate=runs.cosine(run), checkpoint=checkpoint,
    )  # fmt: skip


# %%
short = Run(iterations=60, batch=8, tested=40)
one_layer = replace(short, deformable=("res5c",))
live = {"plain": steps(short, 60)}

# %%
live["res5c deformable"] = steps(one_layer, 60)
fig, axes = plt.subplots(1, 2, figsize=(9.4, 2.9), layout="constrained")
draw.losses(axes, {name: state.losses for name, state in live.items()})
show(fig)

# %%
for state, run in zip(live.values(), (short, one_layer), strict=True):
    miou = segmentation.measured(state.net, run)["miou"]
    print(f"{len(run.deformable)} deformable layers, 60 iterations: mIoU {miou:.1%}")

# %% tags=["check"]
first, second = (np.array(state.losses) for state in live.values())
assert (Run().iterations, Run().batch, short.batch) == (800, 8, 8)
assert np.isclose(first[0], second[0], rtol=1e-5)  # the same network, the same pictures
assert first[1] != second[1]  # one step later the branch has moved
assert max(each[-10:].mean() / each[:10].mean() for each in (first, second)) < 0.5
assert np.abs(second - first)[10:].mean() < np.abs(np.diff(first))[10:].mean() / 3

# %% [markdown]
# **A run as short as this says nothing about the order at the end.** Both have learnt little more
# than what is background. Their losses differ by much less than from one step to the next (on the
# right), since the branch starts at zero and moves slowly. Three seeds of full runs follow, from a
# file.
#
# ## A checkpoint that resumes to the same bits
#
# Full runs take a minute each and a table has fifteen of them or more, so they get interrupted. What a run
# will do next is decided by its weights, by what the optimiser remembers, by the random numbers and
# by how far it is. A checkpoint has all four. Six steps at once, and three, a checkpoint, and three
# more by a network that was made anew:

# %%
tiny = Run(iterations=6, batch=2, deformable=("res5c",))
at_once = steps(tiny, 6)
with TemporaryDirectory() as folder:
    path = Path(folder, "run.npz")
    steps(tiny, 3, path)
    resumed = steps(tiny, 6, path)
    other = runs.started(tiny)
    load(path, other)

# %% tags=["check"]
assert resumed.losses == at_once.losses
for name, a in layers.arrays(at_once.net).items():
    assert np.array_equal(a, layers.arrays(resumed.net)[name]), name
for name, a in at_once.optimiser.state.items():
    assert np.array_equal(a, resumed.optimiser.state[name]), name

# %% tags=["check"]
assert other.iteration == 6
tried = runs.started(tiny)
tried.rng = np.random.default_rng(7)  # as if a checkpoint had forgotten the random numbers
assert steps(tiny, 6, state=tried).losses[0] != at_once.losses[0]

# %% [markdown]
# ## Table 1: how many deformable layers
#
# The results of three seeds are in `experiments/results`, made by `make experiment NAME=table1`.
# Each line is a network with so many of its last layers deformable; the plain one comes with dilation
# 1 in res5 as well, the dilation of all other layers. All have equally many
# iterations; tests are 400 pictures that no training has seen. A ± is the standard deviation of
# the seeds. The last two columns are the paper's own, DeepLab on VOC (V) and on Cityscapes (C).


# %%
def told(name):
    """The results of an experiment."""
    return json.loads(Path("experiments", "results", f"{name}.json").read_text())


# %%
def verdicts(section):
    """What the paper says, and whether it is so here: in the mean, and in how many seeds."""
    for claim in section["claims"]:
        word = report.judged(claim).strip("*").upper()
        print(f"{word} ({claim['seeds']} of {claim['of']} seeds): {claim['says']}")


table1 = told("table1")
depth = table1["sections"][0]
table(depth)
verdicts(depth)

# %%
by_number = depth | {"rows": [row for row in depth["rows"] if row["label"].isdigit()]}
fig, axes = plt.subplots(1, 2, figsize=(9, 3.1), layout="constrained")
draw.rising(axes[0], by_number, "mIoU", "mean", draw.Q)
draw.printed(axes[1], by_number)
for ax, title in zip(axes, ("here: the mean, and three seeds", "in the paper"), strict=True):
    ax.set(title=title, xlabel="deformable layers", ylabel="mIoU (%)")
axes[1].legend()
show(fig)

# %% [markdown]
# One seed makes the same first network and the same pictures in every row. So rows are compared
# *within* a seed, along the thin lines, however far apart the seeds are.
#
# The verdicts are not typed: they are computed from the seeds, and the check below computes them
# again. A claim *agrees* if the means are in its order, and in most seeds the values; in how many
# says how sure that is. (A claim that is not the paper's, but ours, *holds*.) How much of such a gap is only that a network learns in fewer steps comes below, under
# *Controls*.


# %%
def again(name):
    """The verdicts of an experiment, from the values of its seeds."""
    found = told(name)
    for part, section in zip(TABLES[name].sections, found["sections"], strict=True):
        values = {(row["label"], column): v["seeds"]
                  for row in section["rows"] for column, v in row["values"].items()}  # fmt: skip
        yield [report.verdict(claim, values, found["seeds"]) for claim in part.claims]


# %% tags=["check"]
for name in ("table1", "table2", "table3_upper", "controls"):
    assert list(again(name)) == [section["claims"] for section in told(name)["sections"]]
    assert told(name)["seeds"] >= 3
    assert not told(name)["quick"]
assert len({row["iterations"] for row in depth["rows"]}) == 1
assert [row["label"] for row in by_number["rows"]] == list("01236")

# %%
means = dict(zip("01236", draw.spreads(by_number, "mIoU")[0], strict=True))
ours = (means["1"] - means["0"]) / (means["3"] - means["0"])
print(f"of the gain of three layers, the first brings {ours:.0%};", end=" ")
print(f"in the paper {(73.9 - 69.7) / (75.2 - 69.7):.0%} on VOC")
print(f"from three layers to six: {means['6'] - means['3']:+.1f}, in the paper {74.8 - 75.2:+.1f}")

# %% [markdown]
# What such networks say of four pictures: seed 0, without deformable layers and with three. Their
# weights come with the tutorials, in half precision.

# %%
nets = {name: trained(name)[0] for name in ("segmenter-plain", "segmenter")}
scores = [net(Tape(), images) for net in nets.values()]
maps = [scene.labels(4) for scene in drawn], *(each.argmax(axis=1) for each in scores)
fig, axes = plt.subplots(3, 4, figsize=(7.6, 6.2), layout="constrained", sharex=True, sharey=True)
for row, found, words in zip(axes, maps, ("labels", "plain", "3 deformable"), strict=True):
    for ax, each in zip(row, found, strict=True):
        draw.classes(ax, each, words if ax is row[0] else "")
draw.legend_of_classes(fig, scale_world.CLASSES)
show(fig)

# %%
things, right = [label > 0 for label in maps[0]], {}
for name, found in zip(("plain", "3 deformable"), maps[1:], strict=True):
    both = zip(found, maps[0], things, strict=True)
    right[name] = [int((f == t)[here].sum()) for f, t, here in both]
    print(f"{name:12} has {right[name]} of {[int(t.sum()) for t in things]} object cells right")

# %% [markdown]
# The gain is in the second picture; the smallest objects are wrong with both. Four pictures show
# what it looks like, and decide nothing: the tables do.

# %% tags=["check"]
gain = np.subtract(right["3 deformable"], right["plain"])
assert gain[1] > 5 and np.abs(np.delete(gain, 1)).max() < 5
alike = [(each == maps[0]).mean() for each in maps[1:]]
assert min(alike) > 0.8
assert all(weights[k] == sum(a.size for a in layers.parameters(net).values())
           for k, net in zip(weights, nets.values(), strict=True))  # fmt: skip

# %% [markdown]
# ## Table 3, upper half: every fixed dilation is somebody's wrong one
#
# A larger dilation sees more, and skips more. Here pictures have 96 pixels and the map has 24 x 24
# cells. Plain networks with res5 at dilation 1, 2, 3 and 4, and the deformable one; the columns
# after mIoU are the cells that are right, by the size of the object they lie on.

# %%
table3 = told("table3_upper")
sweep = table3["sections"][0]
table(sweep)
verdicts(sweep)

# %%
fig, axes = plt.subplots(1, 2, figsize=(9.4, 3.4), layout="constrained")
draw.by_dilation(axes[0], sweep, {"mIoU": draw.Q})
draw.by_dilation(axes[1], sweep, draw.SIZES)
axes[0].set(title="mIoU")
axes[1].set(title="right cells on objects of each size")
axes[1].legend(loc="center left", bbox_to_anchor=(1, 0.5))
show(fig)

# %%
fixed = {c: draw.spreads(sweep, c)[0][:-1] for c in ("mIoU", *draw.SIZES)}
best = {c: sweep["rows"][int(values.argmax())]["label"] for c, values in fixed.items()}
for column, label in best.items():
    value, deformable = fixed[column].max(), draw.spreads(sweep, column)[0][-1]
    print(f"{column:8} best fixed: {label}, {value:.1f}; deformable {deformable:.1f}")

# %% tags=["check"]
assert len({best[size] for size in draw.SIZES}) > 1  # no dilation is the best for all sizes
assert best["small"] == "dilation 1" != best["large"]
assert all(draw.spreads(sweep, c)[0][-1] > values.max() for c, values in fixed.items())

# %% [markdown]
# The star and the dotted line are the deformable network. What is best for small objects costs large
# ones dearly, and the other way round; mIoU alone does not show it. Where seeds lie far apart, some of
# the networks had not got far yet when their iterations were over.
#
# The paper has on VOC 69.7, 73.1, 73.6 and 73.2 at dilations 2, 4, 6 and 8 of a map of stride 16, and
# 75.3 deformable. There the default of 2 is the worst dilation and 6 the best; the first line printed
# above says what is best here. Both have the deformable network above all. The paper's dilations are larger since its maps are: on 24 cells 6 in three layers leaves the map.
#
# Two things to know about the printed Table 3.
#
# * It says **75.3** for the deformable DeepLab on VOC, where Table 1 says **75.2** for the same network.
# * The text says that larger dilations are better than the default for all tasks. For Faster R-CNN
#   the table has 78.1, 78.6, 78.5, **77.8** at an overlap of 0.5 and 62.1, 63.1, 62.3, **61.8** at
#   0.7: at both, dilation 8 is worse than the default.

# %% tags=["check"]
faster = dict(zip((2, 4, 6, 8), (62.1, 63.1, 62.3, 61.8), strict=True))  # Table 3
assert faster[8] < faster[2]
assert "75.3 (Table 1 has 75.2" in sweep["printed"]
assert sweep["rows"][-1]["label"] == "deformable"

# %% [markdown]
# ## Table 2: how far the filters look
#
# > "we define a metric called *effective dilation* for a deformable convolution filter. It is the mean of the distances between all adjacent pairs of sampling locations in the filter." (section 4.2)
#
# First one trained network, seed 0, which comes with the tutorials: three deformable layers, a
# full run. The offsets of all filters on 80 test pictures, by what the filter's centre lies on.

# %%
deformable_net, run = nets["segmenter"], Run(deformable=RES5)
fields, radii = [], []
for images, _, r in segmentation.tested(replace(run, tested=80)):
    tape = segmentation.Offsets()
    deformable_net(tape, images)
    fields.append([offset for offset, _ in tape.offsets])
    radii.append(r)
offsets = dict(zip(RES5, map(np.concatenate, zip(*fields, strict=True)), strict=True))
places = worlds.places(np.concatenate(radii), run.size)

# %%
dilations = {name: effective_dilation(o, 3, dilation=2)[:, 0] for name, o in offsets.items()}
spoilt = {name: disordered_offset(o, 3, np.random.default_rng(1), keep="lengths")
          for name, o in offsets.items()}  # fmt: skip
control = {name: effective_dilation(o, 3, dilation=2)[:, 0] for name, o in spoilt.items()}
fig, axes = plt.subplots(1, 3, figsize=(10.4, 3.5), layout="constrained", sharey=True)
for ax, name in zip(axes, RES5, strict=True):
    draw.violins(ax, *({p: each[name][here] for p, here in places.items()}
                       for each in (dilations, control)), name)  # fmt: skip

# %%
axes[0].set(ylabel="effective dilation (cells)")
axes[2].legend(loc="upper left", ncols=2, fontsize=8)
show(fig)

# %% tags=["check"]
found = {p: dilations["res5c"][here].mean() for p, here in places.items()}
assert found["small"] < found["medium"] < found["large"]
assert found["small"] < 2 < found["large"] - 0.2  # from 2, filters shrink as well as grow
assert all(abs(dilations[n][places["large"]].mean() - 2) < 0.05 for n in ("res5a", "res5b"))
assert not found["medium"] < found["background"] < found["large"]  # as it is in the paper
of_5a = {p: dilations["res5a"][here].mean() for p, here in places.items()}
assert found["large"] - found["small"] > of_5a["large"] - of_5a["small"]
assert all(found[p] < control["res5c"][here].mean() for p, here in places.items())

# %% [markdown]
# Before training all filters have 2, the dilation of the layer. On small objects they have shrunk; on
# large ones they have grown in res5c, and stayed near 2 in res5a and res5b. So in res5c the sizes are
# further apart. The dashes are explained below.

# %% [markdown]
# Now the three seeds, as means over the filters, beside the paper's Table 2. That one is of an R-FCN on
# VOC 2007, in cells of 16 pixels, with boxes split at 96 and 224 pixels; ours is of a segmenter, in
# cells of 4 pixels, with r split at 7.3 and 13.2. So orders can be compared, numbers cannot. In
# parentheses, the paper's.

# %%
table2 = told("table2")
parts = {section["title"]: section for section in table2["sections"]}
main = parts["scale world: effective dilation"]
structured = parts["structured world: effective dilation"]
table(main | {"title": "effective dilation"})
verdicts(main)

# %%
shorter = {
    "random control: displacements as long, turned at random": "random control",
    "scale of the grid that fits best": "scale of the fitted grid",
    "samples outside the map": "outside the map of 16x16",
    "samples outside the map without offsets": "outside without offsets",
}
for title, words in shorter.items():
    table(parts[f"scale world: {title}"] | {"title": words})
    print()

# %% [markdown]
# **Read the first table beside the others.** The effective dilation grows with disorder as it does
# with scale ([notebook 6](06_receptive_fields.ipynb)). The control has displacements as long as the
# learnt ones, in random directions: a learnt dilation *below* its control is no scatter. The scale of
# the fitted grid hardly grows with disorder, so it says whether the grids themselves are larger on
# larger objects:

# %%
scale = parts["scale world: scale of the grid that fits best"]
random = parts["scale world: random control: displacements as long, turned at random"]
for i, row in enumerate(main["rows"]):
    compared = {"dilation": main, "scale": scale, "control": random}.items()
    of_size = {n: [draw.spreads(part, p)[0][i] for p in draw.SIZES] for n, part in compared}
    growth = {n: v[2] / v[0] - 1 for n, v in of_size.items()}
    print(f"{row['label']}, from small to large:", end=" ")
    print(", ".join(f"{n} {g:+.0%}" for n, g in growth.items()))

# %% [markdown]
# In the paper the background lies between medium and large objects: recognising it takes a large
# receptive field too (section 4.2). Flat background takes none. So there is a second world, with
# bands behind the shapes, as bright as they are and as wide as small ones. Trained on that:

# %%
table(structured | {"title": "structured background"})

# %%
for i, row in enumerate(structured["rows"]):
    values = {p: draw.spreads(structured, p)[0][i] for p in places}
    word = "" if values["medium"] < values["background"] < values["large"] else "not "
    apart = max(values.values()) - min(values.values())
    print(f"{row['label']}: background {word}between medium and large;", end=" ")
    print(f"the places are {apart:.2f} cells apart")

# %% [markdown]
# ## Figure 6: 729 points
#
# The paper draws them on photographs: three levels of deformable filters have $9^3 = 729$ points for
# one output. `stacked_points` finds them from the offsets of res5a, res5b and res5c on this picture.

# %%
scene = scale_world.scene(np.random.default_rng(3454))
middle = {worlds.size_bin(thing.r, 64): (thing.y, thing.x) for thing in scene.things}
at = {p: np.round((np.array(middle[p]) - 1.5) / 4) for p in ("small", "large")}  # in cells
free = np.argwhere(scene.labels(4) == 0)
free = free[((free > 2) & (free < 13)).all(axis=1)]  # not at the border
edges = [np.linalg.norm(4 * free + 1.5 - (t.y, t.x), axis=1) - t.reach for t in scene.things]
at["background"] = free[np.min(edges, axis=0).argmax()].astype(float)

# %%
tape = segmentation.Offsets()
deformable_net(tape, scene.image[None])
learnt = [ConvLayer(3, offset, padding=2, dilation=2) for offset, _ in tape.offsets]
atrous = [ConvLayer(3, padding=2, dilation=2)] * 3
points = {p: stacked_points(p0, learnt) for p, p0 in at.items()}
shares = {p: stacked_shares(p0, learnt, (16, 16)) for p, p0 in at.items()}

# %%
fig, axes = plt.subplots(1, 3, figsize=(10.2, 3.6), layout="constrained", sharey=True)
for ax, (p, p0) in zip(axes, at.items(), strict=True):
    draw.points729(ax, scene, p0, points[p], shares[p], p)
axes[2].legend(loc="lower right", fontsize=8)
show(fig)

# %%
for p, p0 in at.items():
    far = np.linalg.norm(points[p].reshape(-1, 2) - p0, axis=-1)
    plain_far = np.linalg.norm(stacked_points(p0, atrous).reshape(-1, 2) - p0, axis=-1)
    print(f"{p:11} rms distance {4 * np.sqrt((far**2).mean()):4.1f} pixels,", end=" ")
    print(f"without offsets {4 * np.sqrt((plain_far**2).mean()):4.1f};", end=" ")
    print(f"share on the map {shares[p].mean():.0%}")

# %% tags=["check"]
assert all(each.shape == (9, 9, 9, 2) for each in points.values())
reach = {p: np.linalg.norm(points[p].reshape(-1, 2) - p0, axis=-1).mean() for p, p0 in at.items()}
assert reach["small"] < reach["large"]
assert all(0 < share.mean() <= 1 for share in shares.values())
centre = at["large"]
assert np.array_equal(stacked_points(centre, atrous).mean(axis=(0, 1, 2)), centre)

# %% [markdown]
# One picture shows nothing by itself; the means over pictures are in Table 2. And two things that
# such a drawing leaves out. A residual block adds its input, so most paths from an output down pass
# through fewer than three filters. And the points are cells, each of which sees what the six layers
# below it see.
#
# ## Controls
#
# The paper's tables compare networks after equally many iterations. So do ours, and such a comparison
# leaves open *why* one is better. Four other reasons, each
# with its control:
#
# * **More time.** A deformable step takes longer. So: a *long* run of 2.5 times the iterations, plain and
#   deformable. The long plain one takes a little longer than the shorter deformable one.
# * **More weights.** A *wider* plain network, with about as many weights.
# * **More freedom.** *Active convolution* learns one offset for each tap, the same everywhere: a
#   better fixed grid.
# * **A kind picture.** The same on structured background. And on figures of limbs, stiff or bent: in
#   section 4.2 the paper expects the most of objects that are not rigid.

# %%
controls = told("controls")
by_title = {section["title"]: section for section in controls["sections"]}
chosen = [by_title[title] for title in (
    "training length", "capacity and freedom", "flat against structured background",
    "rigid against articulated figures")]  # fmt: skip
for section in chosen:
    table(section)
    verdicts(section)
    print()

# %%
fig, axes = plt.subplots(2, 2, figsize=(8.6, 4.8), layout="constrained", sharex=True)
for ax, section in zip(axes.flat, chosen, strict=True):
    draw.rows(ax, section)
show(fig)

# %% [markdown]
# Ticks are the seeds, dots their means; green rows sample off the grid, blue ones on it.
#
# **How much of it is speed of learning?** The gap between plain and deformable after the usual
# iterations, and after a long run of both: what is gone by then was a head start, or both come near what can be reached. What *equal time* means is
# measured as well, by the steps of these runs.

# %%
length = chosen[0]
miou = dict(zip((r["label"] for r in length["rows"]), draw.spreads(length, "mIoU")[0], strict=True))
early, late = miou["deformable"] - miou["plain"], miou["deformable long"] - miou["plain long"]
equal_time = miou["deformable"] - miou["plain long"]
ms = {row["label"]: row["ms_per_image"] for row in length["rows"]}
longer = ms["deformable long"] / ms["plain long"]
print(f"gap at equal iterations {early:+.1f}, plain trained longer {equal_time:+.1f}, ", end="")
print(f"after a long run of both {late:+.1f}")
print(f"speed of learning: {1 - late / early:.0%} of the gap at equal iterations")
print(f"a deformable step took {longer:.1f} times as long as a plain one")

# %%
free = by_title["capacity and freedom"]
gains = dict(zip((r["label"] for r in free["rows"]), draw.spreads(free, "mIoU")[0], strict=True))
for name in [name for name in gains if name not in ("plain", "deformable")]:
    share = (gains[name] - gains["plain"]) / (gains["deformable"] - gains["plain"])
    print(f"{name}: {gains[name] - gains['plain']:+.1f} over plain, {share:.0%} of the gap")

# %% [markdown]
# The first lines say how much of Table 1 may be a head start here: deformable layers let these small
# networks learn in fewer steps, and what is left after a long run is what they can do besides. The
# lines below them say how much of the gap something simpler closes. The paper trains all its networks
# equally long and has no such rows, so it cannot tell how much of its own gaps is speed or size.

# %% tags=["check"]
long = {row["label"]: row["iterations"] for row in length["rows"]}
assert long["plain"] == long["deformable"] < long["plain long"] == long["deformable long"]
wide = {row["label"]: row["parameters"] for row in chosen[1]["rows"]}
assert 1 < wide["wider"] / wide["deformable"] < 1.2
assert wide["active convolution"] == wide["plain"] + 3 * 18  # what it trains: biases alone
assert 2 < long["plain long"] / long["plain"] < 3
assert 1 < longer < 5

# %% [markdown]
# ## What agrees, what does not
#
# All verdicts on segmentation, from the files:

# %%
for section in (depth, sweep, main, structured, *chosen):
    print(section["title"])
    verdicts(section)

# %% [markdown]
# How to read them.
#
# * The pictures were made so that size matters. What is seen here says something of the mechanism,
#   how large a gap is says nothing about photographs.
# * Equal iterations and equal time may give two answers. Which of them counts depends on what you pay
#   for.
# * Three seeds, 400 pictures: a verdict in 2 of 3 seeds is weak, for or against.
# * What *holds* or *does not hold* is ours: the paper has no such controls.
# * The paper contradicts itself in small things (75.2 and 75.3; dilation 8), and does not say which
#   pairs of points are *adjacent*. We take the 12 neighbours along rows and columns, so that a plain
#   filter of dilation d has d.
#
# **To run a cell of a table yourself,** `make experiment NAME=table1` in the project's folder trains
# what is not trained yet, and goes on where it was interrupted; `ARGS=--quick` takes a minute and says
# only that everything runs. One row alone: `runs.finish(Run(deformable=("res5c",)), Path("mine"))`.
#
# ## Exercise 1: mean intersection over union
#
# From a confusion matrix, rows the labels, columns what was given. A class that is neither there
# nor given has no union and is left out. Do not use `metrics`.


# %%
def mean_iou(matrix):
    # FILL ME IN (about 4 lines): matrix is C C, the result is a number
    raise NotImplementedError


# %%
exercises.check("mean_iou", mean_iou)

# %% [markdown]
# ## Exercise 2: a row of Table 2
#
# `offset` is N 18 H W, of a 3x3 layer of dilation 2 and stride 1; `labels` is N H W with classes 0
# to 4. Return the mean effective dilation of the filters whose centre lies on each class: five
# numbers, NaN for a class that is on no picture.


# %%
def dilation_by_class(offset, labels):
    # FILL ME IN (about 3 lines)
    raise NotImplementedError


# %%
exercises.check("dilation_by_class", dilation_by_class)

# %% [markdown]
# ## Exercise 3: the learning rate of a parameter
#
# The paper's schedule is a step: `rate` in the first two thirds of the iterations, a tenth of it in
# the last third (section 4.1). And the parameters of an offset branch, those with `.branch.` in their
# name, learn with `beta` times that. Return the rate of the parameter `name` at iteration `i`,
# which counts from 0.


# %%
def learning_rate(name, i, iterations, rate, beta):
    # FILL ME IN (about 2 lines)
    raise NotImplementedError


# %%
exercises.check("learning_rate", learning_rate)

# %% [markdown]
# ## Exercise 4: does it agree?
#
# `values` has a row for each row of a table, from the one that should be worst to the one that
# should be best, and a column for each seed. Return two things: whether the means over the seeds
# increase from row to row, and in how many seeds the values do. Equal is not better.


# %%
def ordered(values):
    # FILL ME IN (about 3 lines): values is rows x seeds; return a bool and a number
    raise NotImplementedError


# %%
exercises.check("ordered", ordered)

# %% [markdown]
# **A question without a check.** Take one row of a table, say two deformable layers on structured
# background, and write down where you expect its mIoU and which claim could fail. Then run it.
#
# ## What you now know
#
# * Turning a plain network into a deformable one changes nothing until it learns: the branches are
#   zero, all other weights stay.
# * A fixed dilation is a compromise between sizes; the table by size shows it, the mean hides it.
# * An effective dilation needs its company: a random control, a fitted scale, the map, what is outside.
# * Equal iterations compare two things at once, what a network can learn and how fast. Longer runs,
#   equal weights and equal freedom tell them apart.
# * A verdict is computed from seeds, says in how many it is so, and is printed also where it
#   does not agree.
#
# **Next:** boxes instead of cells. [Notebook 9](09_a_small_detector.ipynb) trains a small detector, with
# the lower half of Table 3.
