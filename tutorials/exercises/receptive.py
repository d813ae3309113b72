"""The exercises of notebook 6, on receptive fields; see `exercises`."""

import numpy as np

import deformable_convnets.reference as reference
from deformable_convnets.reference import ConvLayer, R
from deformable_convnets.reference.oracle.mistakes import Mistake

from .grading import Exercise


def filters(rng, M=4):
    """The points of M filters: a grid of any scale and angle, disturbed; the last one mirrored."""
    scale, angle = rng.uniform(0.5, 3, (2, M, 1, 1))
    c, s = np.cos(angle), np.sin(angle)
    turn = np.concatenate([np.concatenate([c, s], 2), np.concatenate([-s, c], 2)], 1)
    p = scale * R(3) @ turn + rng.normal(size=(M, 9, 2)) + rng.uniform(-5, 5, (M, 1, 2))
    p[-1, :, 0] *= -1
    return (p,)


def distances(p, *pairs):
    """The mean distance over pairs of slices of the 3x3 points of each filter."""
    grid = p.reshape(-1, 3, 3, 2)
    each = [(grid[:, a, b] - grid[:, c, d]).reshape(len(p), -1, 2) for a, b, c, d in pairs]
    return np.linalg.norm(np.concatenate(each, axis=1), axis=-1).mean(axis=1)


UP, DOWN, ALL = slice(None, -1), slice(1, None), slice(None)
DOWNWARDS, ACROSS = (DOWN, ALL, UP, ALL), (ALL, DOWN, ALL, UP)
DIAGONALS = (DOWN, DOWN, UP, UP), (DOWN, UP, UP, DOWN)


def with_diagonals(p):
    return distances(p, DOWNWARDS, ACROSS, *DIAGONALS)


def all_pairs(p):
    return np.mean([np.linalg.norm(p[:, a] - p[:, b], axis=1)
                    for a in range(9) for b in range(a)], axis=0)  # fmt: skip


def by_rows(p):
    return np.linalg.norm(np.diff(p, axis=1), axis=-1).mean(axis=1)


def by_fit(p):
    move = np.moveaxis(p - R(3), 0, -1).reshape(1, 18, 1, -1)
    return reference.grid_fit(move, 3).scale[0, 0, 0]


def mirrored_too(p):
    """By the singular values of the products, without the sign of their determinant."""
    return np.linalg.svd(R(3).T @ p, compute_uv=False).sum(axis=1) / 12


def spread(p):
    return np.sqrt(((p - p.mean(axis=1, keepdims=True)) ** 2).sum(axis=(1, 2)) / 12)


def unturned(p):
    return (p * R(3)).sum(axis=(1, 2)) / 12


def two_fields(rng, H=7, W=8):
    """A pixel, on the border or not, and the fields of two layers that move points outside too."""
    below, top = rng.uniform(-1.7, 1.7, (2, 1, 18, H, W))
    return (int(rng.integers(0, H)), int(rng.choice([0, 3, W - 1]))), below, top


def eighty_one(p0, below, top):
    layers = [ConvLayer(3, below, padding=1), ConvLayer(3, top, padding=1)]
    return reference.stacked_points(p0, layers)


def composed(p0, below, top, *, at=lambda p, regular: p, order=(0, 1), grid=True):
    """Two levels of points, the lower field read at `at(point, regular point)`."""

    def moves(field, p):
        offset = reference.sample(field[0], p).reshape(9, 2, *p.shape[:-1])
        return np.moveaxis(offset, (0, 1), (-2, -1))[..., order]

    pn = R(3) if grid else 0 * R(3)
    regular = np.array(p0, float) + R(3)
    nine = np.array(p0, float) + pn + moves(top, np.array(p0, float))
    return nine[:, None] + pn + moves(below, at(nine, regular))


def points_first(p0, below, top):
    nine = eighty_one(p0, 0 * below, top)[:, 4]
    return nine[:, None] + R(3) + reference.sample(below[0], nine).reshape(9, 9, 2)


def eighty_one_as(name, **options):
    return Mistake(name, lambda p0, below, top: composed(p0, below, top, **options))


EIGHTY_ONE_MISTAKES = (
    eighty_one_as("the nearest pixel's offsets, not interpolated", at=lambda p, _: np.round(p)),
    eighty_one_as("the lower field read at the points before they are moved", at=lambda _, r: r),
    eighty_one_as("the lower field read at p0, the same nine offsets everywhere",
                  at=lambda p, r: np.tile(r[4], (9, 1))),
    eighty_one_as("a clamped border: the offsets of the edge, also outside",
                  at=lambda p, _: np.clip(p, 0, (6, 7))),
    eighty_one_as("the x-first channel order", order=(1, 0)),
    eighty_one_as("the offsets without p_n", grid=False),
    Mistake("the fields of the two layers exchanged",
            lambda p0, below, top: eighty_one(p0, top, below)),
    Mistake("the field of the top layer in both layers",
            lambda p0, below, top: eighty_one(p0, top, top)),
    Mistake("the result of sample read as points first: its 18 channels are first", points_first),
    Mistake("the axes of the two layers exchanged",
            lambda *args: np.swapaxes(eighty_one(*args), 0, 1)),
)  # fmt: skip


def at_the_edge(rng, size=(6, 7)):
    """A pixel on the edge of the map, and its offsets."""
    p0 = [int(rng.integers(0, n)) for n in size]
    axis = int(rng.integers(0, 2))
    p0[axis] = int(rng.choice([0, size[axis] - 1]))
    return tuple(p0), rng.uniform(-0.9, 0.9, 18), size


def on_the_map(p, size):
    return ((p >= 0) & (p <= np.array(size) - 1)).all(axis=1)


def paired(p0, offset, size, on_the_map=on_the_map):
    regular = p0 + R(3)
    return (regular + offset.reshape(9, 2))[on_the_map(regular, size)]


def up_to_size(p, size):
    return ((p >= 0) & (p <= np.array(size))).all(axis=1)


def without_first(p, size):
    return ((p > 0) & (p < np.array(size))).all(axis=1)


def paired_too_late(p0, offset, size):
    regular = (p0 + R(3))[on_the_map(p0 + R(3), size)]
    return regular + offset.reshape(9, 2)[: len(regular)]


def dropped_when_moved(p0, offset, size):
    moved = p0 + R(3) + offset.reshape(9, 2)
    return moved[on_the_map(moved, size)]


EXERCISES = {
    "mean_distance": Exercise(
        lambda p: distances(p, DOWNWARDS, ACROSS),
        filters,
        (
            "grid = p.reshape(-1, 3, 3, 2): neighbours along axis 1 are below each other.",
            "np.diff(grid, axis=1) and np.diff(grid, axis=2) are the 6 + 6 steps; np.linalg.norm"
            " over the last axis gives their lengths.",
        ),
        (
            Mistake("the mean over diagonal pairs too", with_diagonals),
            Mistake("the mean over all 36 pairs", all_pairs),
            Mistake("the mean over the pairs across alone", lambda p: distances(p, ACROSS)),
            Mistake("the mean over the pairs downwards alone", lambda p: distances(p, DOWNWARDS)),
            Mistake("the mean over taps n and n + 1, across the ends of rows", by_rows),
        ),
    ),
    "fitted_scale": Exercise(
        by_fit,
        filters,
        (
            "As numbers y + ix, points are z_n = grid and u_n = p; a turned, scaled grid is a z_n.",
            "Least squares gives a = sum(conj(z) u) / sum(|z|^2), and sum(|z|^2) is 12.",
            "Without complex numbers: a = (sum of dot products, sum of cross products) / 12.",
        ),
        (
            Mistake("the spread of the points, which grows with disorder", spread),
            Mistake("the scale of a grid that is not turned: the dot products alone", unturned),
            Mistake("the scale of the points fitted onto the grid, turned round",
                    lambda p: spread(p) ** 2 / by_fit(p)),
            Mistake("the square of the scale", lambda p: by_fit(p) ** 2),
            Mistake("a grid that may be mirrored too: the sign of the determinant forgotten",
                    mirrored_too),
        ),
    ),
    "eighty_one": Exercise(
        eighty_one,
        two_fields,
        (
            "The nine points of the top layer: p0 + R(3) + top[0, :, y, x].reshape(9, 2).",
            "sample(below[0], nine) interpolates all 18 channels at once: its shape is (18, 9).",
            "It is 9 taps x 2 by 9 points; the result wants 9 points, then 9 taps, then 2.",
        ),
        EIGHTY_ONE_MISTAKES,
        problems=5,
    ),
    "points_on_map": Exercise(
        paired,
        at_the_edge,
        (
            "Print p0 + R(3) and the offset each point gets, for p0 = (0, 0).",
            "Which offset belongs to the first point that is left? Drop after pairing.",
        ),
        (
            Mistake("the bug: taps left out before they meet their offsets", paired_too_late),
            Mistake("the points without those outside after the move", dropped_when_moved),
            Mistake("all nine points, none left out",
                    lambda p0, offset, size: p0 + R(3) + offset.reshape(9, 2)),
            Mistake("size itself counts as inside: the last pixel is size - 1",
                    lambda *args: paired(*args, up_to_size)),
            Mistake("0 counts as outside: it is the first pixel",
                    lambda *args: paired(*args, without_first)),
        ),
        problems=8,
    ),
}  # fmt: skip
