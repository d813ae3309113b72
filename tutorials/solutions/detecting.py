"""One solution for each exercise of notebook 9."""

import numpy as np

from deformable_convnets.reference.networks.metrics import overlaps


def box_targets(proposals, truths):
    centre, side = (proposals[:, :2] + proposals[:, 2:]) / 2, proposals[:, 2:] - proposals[:, :2]
    goal, size = (truths[:, :2] + truths[:, 2:]) / 2, truths[:, 2:] - truths[:, :2]
    moves = np.hstack([(goal - centre) / side, np.log(size / side)])
    return moves / (0.1, 0.1, 0.2, 0.2)


def overlap_table(a, b):
    low = np.maximum(a[:, None, :2], b[:, :2])
    high = np.minimum(a[:, None, 2:], b[:, 2:])
    both = np.maximum(high - low, 0).prod(axis=-1)
    of_a, of_b = ((c[:, 2:] - c[:, :2]).prod(axis=-1) for c in (a, b))
    return both / (of_a[:, None] + of_b - both)


def all_point_ap(right, scores, total):
    right = right[np.argsort(-scores)]
    precision = np.cumsum(right) / np.arange(1, len(right) + 1)
    largest = np.maximum.accumulate(precision[::-1])[::-1]
    return float(largest[right].sum() / total)


def kept_boxes(boxes, scores, threshold):
    kept = []
    for row in np.argsort(-scores):
        if not (overlaps(boxes[[row]], boxes[kept]) > threshold).any():
            kept.append(row)
    return np.array(kept, int)
