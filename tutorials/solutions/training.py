"""One solution for each exercise of notebook 8."""

import numpy as np

from deformable_convnets.reference import effective_dilation


def mean_iou(matrix):
    right = np.diag(matrix)
    union = matrix.sum(axis=0) + matrix.sum(axis=1) - right
    there = union > 0
    return (right[there] / union[there]).mean()


def dilation_by_class(offset, labels):
    dilations = effective_dilation(offset, 3, dilation=2)[:, 0]
    cells = [dilations[labels == k] for k in range(5)]
    return np.array([each.mean() if each.size else np.nan for each in cells])


def learning_rate(name, i, iterations, rate, beta):
    factor = beta if ".branch." in name else 1
    return rate * factor * (0.1 if 3 * i >= 2 * iterations else 1)


def ordered(values):
    steps = np.diff(values, axis=0) > 0
    means = np.diff(values.mean(axis=1)) > 0
    return bool(means.all()), int(steps.all(axis=0).sum())
