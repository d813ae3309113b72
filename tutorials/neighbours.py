"""What notebook 12 computes with: the distance transform of deformable part models.

D(p) = max over q of f(q) - a_y (p_y - q_y)^2 - a_x (p_x - q_x)^2 for all p of a map, in one pass
over its rows and one over its columns: Felzenszwalb and Huttenlocher, "Distance transforms of
sampled functions", which has the minimum where a part model has the maximum. Not of this paper.
"""

import numpy as np


def envelope(f, a):
    """For each p of 0 .. n - 1 the q with the largest f(q) - a (p - q)^2.

    f  n values, finite
    a  the cost of one pixel, above 0
    Each q is a parabola that opens downwards; the highest ones form the envelope. As all have one
    width, a parabola overtakes one to its left once, and stays above it. Of equal ones, any.
    """
    f, (a,) = _checked(f, 1, a)
    highest, start = [], []  # the parabolas of the envelope, and the place where each begins
    for q in range(len(f)):
        while highest:
            v = highest[-1]
            begins = (q + v) / 2 - (f[q] - f[v]) / (2 * a * (q - v))
            if begins > start[-1]:
                break
            highest.pop()  # overtaken before it begins
            start.pop()
        highest.append(q)
        start.append(begins if start else -np.inf)
    return np.array(highest)[np.searchsorted(start, np.arange(len(f)), side="right") - 1]


def distance_transform(f, a):
    """The transform of a map and where it comes from.

    f  H W, finite
    a  the cost of a displacement of one pixel, or (a_y, a_x)
    Returns D, H W, and q, H W 2: the (y, x) whose value, less its cost, is D there.
    """
    f, (a_y, a_x) = _checked(f, 2, a)
    y, x = np.indices(f.shape)
    q_y = np.stack([envelope(column, a_y) for column in f.T], axis=1)
    f = f[q_y, x] - a_y * (y - q_y) ** 2
    q_x = np.stack([envelope(row, a_x) for row in f])
    return f[y, q_x] - a_x * (x - q_x) ** 2, np.stack([q_y[y, q_x], q_x], axis=-1)


def _checked(f, dimensions, a):
    """f in float64, as differences of bytes would wrap around, and a cost for each axis."""
    if np.ndim(f) != dimensions or np.size(f) == 0:
        raise ValueError(f"f has shape {np.shape(f)}, expected {dimensions} axes, none empty")
    if not np.isfinite(f).all():
        raise ValueError(f"f has {np.sum(~np.isfinite(f))} values that are not finite")
    costs = np.ravel(a)
    if len(costs) not in (1, dimensions) or not (np.isfinite(costs) & (costs > 0)).all():
        one_for_each = ", or one for y and one for x" * (dimensions == 2)
        raise ValueError(f"a is {a}, expected a cost above 0{one_for_each}")
    return np.asarray(f, float), np.broadcast_to(costs, dimensions).astype(float)
