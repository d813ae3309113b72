"""One solution for each exercise of notebook 6."""

import numpy as np

from deformable_convnets.reference import R, sample


def mean_distance(p):
    grid = p.reshape(-1, 3, 3, 2)
    steps = [np.diff(grid, axis=axis).reshape(len(p), 6, 2) for axis in (1, 2)]
    return np.linalg.norm(np.concatenate(steps, axis=1), axis=-1).mean(axis=1)


def fitted_scale(p):
    z = R(3) @ (1, 1j)
    u = p @ (1, 1j)
    return np.abs(u @ z.conj()) / 12


def eighty_one(p0, below, top):
    nine = p0 + R(3) + top[0, :, *p0].reshape(9, 2)
    offset = sample(below[0], nine).reshape(9, 2, 9)
    return nine[:, None] + R(3) + np.moveaxis(offset, 2, 0)


def points_on_map(p0, offset, size):
    regular = p0 + R(3)
    moved = regular + offset.reshape(9, 2)
    inside = ((regular >= 0) & (regular < size)).all(axis=1)
    return moved[inside]
