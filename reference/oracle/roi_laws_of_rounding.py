"""Laws of RoI pooling in floating point: what rounding may change, and where it may not.

With `samples` a bin may begin at (i h) / k or at i (h / k): these differ by rounding, and the bound
of a rounded coordinate covers both. For "paper" the ends of a bin are whole numbers, and of whole h
every one is exact as (i h) / k. There i (h / k) reads a pixel too many: that is a mistake.
"""

import numpy as np

from .compare import assert_same, assert_within
from .implementation import REFERENCE, Implementation
from .law import given
from .roi_bounds import tolerances
from .roi_laws import GRADS, backward, forward, law
from .roi_problems import RoiProblem, ordinary

WHOLE = (5, 29, 57)
"""Lengths h of RoIs: 7 (h / 7) is more than 29 in float64, and more than 57 in float32."""


@law(
    families=("odd",), rules=("paper",),
    limits={"N": 1, "output": (7, 7), "part": (1, 1), "group": (1, 1), "classes": 1,
            "channels": 1, "size": (6, 7)},
)  # fmt: skip
def bins_end_with_their_roi(i: Implementation, problem: RoiProblem) -> None:
    """ceil((i + 1) h / k) is exact: a RoI of whole corners reads nothing at x2, y2 or beyond."""
    s, dtype, (bottom, right) = problem.shape, problem.rois.dtype, (4, 4)
    rois = np.array([[0, right - size, bottom - size, right, bottom] for size in WHOLE], dtype)
    beyond = np.zeros_like(problem.x)
    beyond[:, :, bottom:], beyond[:, :, :, right:] = 1, 1
    grad = np.ones((len(WHOLE), s.Cout, *s.output), dtype)
    whole = problem.with_(
        x=beyond, rois=rois, offset=None, spatial_scale=1.0, grad_output=grad,
        shape=s.limited(rois=len(WHOLE)),
    )  # fmt: skip
    assert_same("y", forward(i, whole), np.zeros_like(grad))
    if i.offers(GRADS):
        for _, x in given(backward(i, whole), "x"):
            assert_same("grads.x beyond the RoI", x * beyond, np.zeros_like(x))


@law(families=("odd", "means"), follows=False, prepare=ordinary)
def float_sums_stay_within_bounds(i: Implementation, problem: RoiProblem) -> None:
    """Ordinary numbers in x, exact points, any number of them: u (4 terms + 8) sum |terms|."""
    _assert_within_bounds(i, ordinary(problem))


@law(families=("floats",), follows=False, prepare=ordinary)
def rounded_points_stay_within_bounds(i: Implementation, problem: RoiProblem) -> None:
    """Ordinary RoIs, offsets, scales and gammas too: what a rounded coordinate may change more."""
    _assert_within_bounds(i, ordinary(problem))


def _assert_within_bounds(i: Implementation, floats: RoiProblem) -> None:
    """The forward and the gradients, within the bounds derived in `roi_bounds`."""
    exact, u = floats.cast("float64"), float(np.finfo(floats.x.dtype).eps) / 2
    bounds = dict(zip(("y", "x", "offset"), tolerances(exact, u), strict=True))
    assert_within("y", forward(i, floats), forward(REFERENCE, exact), bounds["y"])
    if i.offers(GRADS):
        expected = backward(REFERENCE, exact)
        for name, value in given(backward(i, floats), "x", "offset"):
            assert_within(f"grads.{name}", value, getattr(expected, name), bounds[name])
