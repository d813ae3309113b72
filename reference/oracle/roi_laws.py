"""The laws of RoI pooling: what equations (5), (6) and (7') promise, on exact problems.

They hold for all three rules of `roi_points` unless they say which. `ROI_LAWS` has them by name.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy import ndarray as Array

from .compare import assert_between, assert_same, assert_within
from .implementation import REFERENCE, Implementation
from .laws import assert_same_grads, strange_numbers
from .roi_bounds import tolerances
from .roi_problems import FAMILIES, RULES, RoiProblem

Check = Callable[[Implementation, RoiProblem], None]


@dataclass(frozen=True)
class RoiLaw:
    """A promise: its name, what it says, of which problems, and the check; see `laws.Law`."""

    name: str
    says: str
    check: Check = field(repr=False)
    families: tuple[str, ...] = FAMILIES
    dtypes: tuple[str, ...] = ("float32", "float64")
    rules: tuple[str, ...] = RULES
    limits: dict[str, Any] = field(default_factory=dict)
    follows: bool = True


ROI_LAWS: dict[str, RoiLaw] = {}


def law(**about: Any) -> Callable[[Check], Check]:
    def register(check: Check) -> Check:
        says = (check.__doc__ or "").splitlines()[0]
        ROI_LAWS[check.__name__] = RoiLaw(check.__name__, says, check, **about)
        return check

    return register


def forward(i: Implementation, problem: RoiProblem, **changes: Any) -> Array:
    """y of a problem by `deform_ps_roi_pool`, some of its arguments changed."""
    p = problem.with_(**changes)
    part = None if p.offset is None else p.shape.part
    return i.deform_ps_roi_pool(
        p.x, p.rois, p.offset, p.shape.output,
        gamma=p.gamma, group_size=p.shape.group, part_size=part, **p.rule,
    )  # fmt: skip


def backward(i: Implementation, problem: RoiProblem, *, side: str = "right", **changes: Any) -> Any:
    """Both gradients of a problem, some of its arguments changed."""
    p = problem.with_(**changes)
    part = None if p.offset is None else p.shape.part
    return i.deform_ps_roi_pool_backward(
        p.grad_output, p.x, p.rois, p.offset, p.shape.output,
        gamma=p.gamma, group_size=p.shape.group, part_size=part, side=side, **p.rule,
    )  # fmt: skip


@law(follows=False, dtypes=("float32", "float64", "float16"))
def roi_forward_is_exact(i: Implementation, problem: RoiProblem) -> None:
    """(5) and (6): y equals the reference in float64, bit for bit (float16: rounded once)."""
    expected = forward(REFERENCE, problem.cast("float64")).astype(problem.x.dtype)
    assert_same("y", forward(i, problem), expected)


@law(follows=False, dtypes=("float32", "float64", "float16"))
def roi_backward_is_exact(i: Implementation, problem: RoiProblem) -> None:
    """(7') and the gradient of x equal the reference in float64, on both sides of kinks."""
    for side in ("right", "left"):
        exact = backward(REFERENCE, problem.cast("float64"), side=side)
        cast = [v if v is None else v.astype(problem.x.dtype) for v in exact]
        assert_same_grads(backward(i, problem, side=side), type(exact)(*cast))


@law(limits={"group": (1, 1)}, follows=False)
def plain_operators_are_group_one(i: Implementation, problem: RoiProblem) -> None:
    """With one score map, `roi_pool` and `deform_roi_pool` are the position-sensitive operators."""
    p = problem.with_(shape=problem.shape.limited(part=problem.shape.output))
    size, options = p.shape.output, p.rule
    if p.offset is not None and p.offset.shape[2:] == size:
        args = (p.x, p.rois, p.offset, size)
        assert_same("y", i.deform_roi_pool(*args, gamma=p.gamma, **options), forward(i, p))
        grads = i.deform_roi_pool_backward(p.grad_output, *args, gamma=p.gamma, **options)
        assert_same_grads(grads, backward(i, p))
    plain, boxes = p.with_(offset=None), (p.x, p.rois, size)
    assert_same("y without offsets", i.roi_pool(*boxes, **options), forward(i, plain))
    x = i.roi_pool_backward(p.grad_output, *boxes, **options).x
    assert_same("grads.x without offsets", x, backward(i, plain).x)


@law()
def zero_offset_is_plain_pooling(i: Implementation, problem: RoiProblem) -> None:
    """(6) with zero offset is (5), and the gradient of x is the same."""
    args = (problem.x, problem.rois, problem.shape.output)
    options = {"group_size": problem.shape.group, **problem.rule}
    if problem.offset is not None:
        flat = problem.with_(offset=0 * problem.offset)
        assert_same("y", forward(i, flat), i.ps_roi_pool(*args, **options))
        x = i.ps_roi_pool_backward(problem.grad_output, *args, **options).x
        assert_same("grads.x", backward(i, flat).x, x)


@law()
def pooling_is_adjoint(i: Implementation, problem: RoiProblem) -> None:
    """y is linear in x: <grad_output, y> = <grad_x, x>, exactly."""
    total = _dot(problem.grad_output, forward(i, problem))
    assert_same("<grad_x, x>", _dot(backward(i, problem).x, problem.x), total)


@law(families=("odd",), dtypes=("float64",))
def offset_gradients_are_central_differences(i: Implementation, problem: RoiProblem) -> None:
    """Between kinks y is linear along each axis, also where points leave the map or are clamped."""
    grad, rng = backward(i, problem).offset, np.random.default_rng(problem.seed)
    for _ in range(6 if grad is not None and grad.size else 0):
        at, ends = tuple(map(int, rng.integers(0, grad.shape))), []
        for h in (2.0**-12, -(2.0**-12)):
            moved = problem.offset.copy() if problem.offset is not None else grad
            moved[at] += h
            ends.append(_dot(problem.grad_output, forward(i, problem, offset=moved)))
        slope = (ends[0] - ends[1]) * 2.0**11
        assert_same(f"grads.offset{list(at)}", grad[at].reshape(1), slope)


@law(limits={"group": (1, 1)})
def means_lie_between(i: Implementation, problem: RoiProblem) -> None:
    """A mean of samples lies between the least and the largest of the map and 0."""
    if problem.x.size:
        y = forward(i, problem)
        low, high = min(problem.x.min(), 0), max(problem.x.max(), 0)
        assert_between("y", y, np.full_like(y, low), np.full_like(y, high))


@law(limits={"group": (1, 1), "size": (9, 11)})
def constant_map_pools_to_itself(i: Implementation, problem: RoiProblem) -> None:
    """The weights of a bin inside the map add to 1, and moving it there changes nothing."""
    s, dtype = problem.shape, problem.x.dtype
    inside = np.stack([0 * problem.rois[:, 0], *[np.full(s.rois, v) for v in (3, 2, 8, 7)]], axis=1)
    small = None if problem.offset is None else np.full_like(problem.offset, 1 / 16)
    given = problem.with_(
        x=np.ones_like(problem.x), rois=inside.astype(dtype), offset=small, spatial_scale=1.0
    )
    y = forward(i, given)
    assert np.abs(y - 1).max(initial=0) <= 8 * np.finfo(dtype).eps, f"y is {y}, expected 1"
    slope = backward(i, given).offset
    if slope is not None:
        assert np.abs(slope).max(initial=0) <= 1e-4, f"grads.offset is {slope}, expected 0"


@law()
def map_and_rois_move_together(i: Implementation, problem: RoiProblem) -> None:
    """Two rows and three columns of zeros before the map, and RoIs moved by them: the same y.

    For "mxnet" and "align", whose points are clamped to the map, zeros surround it from the start.
    """
    around = ((0, 0), (0, 0), (8, 8), (8, 8))
    moved, by = problem.rois.copy(), problem.rois.dtype.type(1 / problem.spatial_scale)
    moved[:, [1, 3]] += 8 * by
    moved[:, [2, 4]] += 8 * by
    first = problem.with_(x=np.pad(problem.x, around), rois=moved)
    moved = moved.copy()
    moved[:, [1, 3]] += 4 * by
    moved[:, [2, 4]] += 2 * by
    second = problem.with_(x=np.pad(first.x, ((0, 0), (0, 0), (2, 0), (4, 0))), rois=moved)
    if problem.bins == "paper":
        assert_same("y", forward(i, first), forward(i, problem))
    near = np.zeros_like(problem.offset) if problem.offset is not None else None
    a, b = (forward(i, given, offset=near) for given in (first, second))
    assert_same("y", b, a)


@law()
def gamma_scales_the_offset(i: Implementation, problem: RoiProblem) -> None:
    """Half of gamma with twice the offset gives the same y, and half of the offset's gradient."""
    if problem.offset is not None:
        other = problem.with_(gamma=problem.gamma / 2, offset=problem.offset * 2)
        assert_same("y", forward(i, other), forward(i, problem))
        grads, expected = backward(i, other), backward(i, problem)
        assert_same("grads.x", grads.x, expected.x)
        assert_same("grads.offset", grads.offset, expected.offset / 2)


@law()
def each_bin_reads_its_score_map(i: Implementation, problem: RoiProblem) -> None:
    """Bin (i, j) of the position-sensitive operator is that of plain pooling of its own maps."""
    s, (gh, gw), (kh, kw) = problem.shape, problem.shape.group, problem.shape.output
    y = forward(i, problem)
    maps = problem.x.reshape(s.N, s.Cout, gh, gw, *s.size)
    for a, b in np.ndindex(kh, kw):
        x = np.ascontiguousarray(maps[:, :, a * gh // kh, b * gw // kw])
        plain = forward(i, problem, x=x, shape=s.limited(group=(1, 1)))
        assert_same(f"y[:, :, {a}, {b}]", y[:, :, a, b].copy(), plain[:, :, a, b].copy())


@law()
def rois_are_independent(i: Implementation, problem: RoiProblem) -> None:
    """Each RoI gives what it gives alone, in any order; their gradients of x add up."""
    y, grads, total = forward(i, problem), backward(i, problem), np.zeros_like(problem.x)
    for r in reversed(range(len(problem.rois))):
        one = slice(r, r + 1)
        offset = None if problem.offset is None else problem.offset[one]
        shape = problem.shape.limited(rois=1)
        alone = problem.with_(
            rois=problem.rois[one], offset=offset, grad_output=problem.grad_output[one], shape=shape
        )
        assert_same(f"y[{r}]", forward(i, alone), y[one])
        total += backward(i, alone).x
    assert_same("the sum of grads.x", total, grads.x)


@law(limits={"group": (1, 1), "classes": 1})
def the_last_row_and_column_are_read(i: Implementation, problem: RoiProblem) -> None:
    """A RoI over the whole map reads every pixel of its edges, and their gradient is not 0."""
    (H, W), s = problem.shape.size, problem.shape
    last = 1 if problem.bins == "mxnet" else 0
    roi = np.array([[0, 0, 0, W - last, H - last]], problem.rois.dtype)
    given = problem.with_(
        rois=roi, offset=None, spatial_scale=1.0, shape=s.limited(rois=1), samples=None,
        grad_output=np.ones((1, s.Cout, *s.output), problem.x.dtype),
    )  # fmt: skip
    if all(size <= 3 * k for size, k in zip((H, W), s.output, strict=True)):
        edge = backward(i, given).x[0]
        assert (edge[:, -1, -1] > 0).all(), f"grads.x at the last pixel is {edge[:, -1, -1]}"


@law(families=("odd",))
def offsets_not_finite(i: Implementation, problem: RoiProblem) -> None:
    """An infinite or huge offset gives 0 and no gradient, NaN stays NaN, and none reaches x."""
    if problem.offset is not None:
        strange = problem.with_(offset=strange_numbers(problem.seed, problem.offset))
        assert_same("y", forward(i, strange), forward(REFERENCE, strange))
        grads = backward(i, strange)
        assert_same_grads(grads, backward(REFERENCE, strange))
        assert np.isfinite(grads.x).all(), "grads.x is not finite"


@law()
def sides_of_bins_differ_in_the_offset_alone(i: Implementation, problem: RoiProblem) -> None:
    """`side` chooses a derivative at kinks: the gradient of x does not depend on it."""
    right, left = (backward(i, problem, side=side).x for side in ("right", "left"))
    assert_same("grads.x", left, right)


@law(follows=False)
def pooling_leaves_its_arguments_alone(i: Implementation, problem: RoiProblem) -> None:
    """No argument is written to."""
    names = ("x", "rois", "offset", "grad_output")
    kept = {n: None if getattr(problem, n) is None else getattr(problem, n).copy() for n in names}
    forward(i, problem)
    backward(i, problem)
    for name, a in kept.items():
        if a is not None:
            assert_same(f"{name} after the call", getattr(problem, name), a)


@law(families=("odd",), follows=False)
def float_sums_stay_within_bounds(i: Implementation, problem: RoiProblem) -> None:
    """On ordinary numbers in x, at exact points, only sums round: u (4 terms + 8) sum |terms|."""
    rng, dtype = np.random.default_rng(problem.seed), problem.x.dtype
    x, grad = (rng.normal(size=a.shape).astype(dtype) for a in (problem.x, problem.grad_output))
    given = problem.with_(x=x, grad_output=grad)
    exact = given.cast("float64")
    bounds = tolerances(exact, float(np.finfo(dtype).eps) / 2)
    assert_within("y", forward(i, given), forward(REFERENCE, exact), bounds[0])
    grads, expected = backward(i, given), backward(REFERENCE, exact)
    assert_within("grads.x", grads.x, expected.x, bounds[1])
    if expected.offset is not None:
        assert_within("grads.offset", grads.offset, expected.offset, bounds[2])


def _dot(a: Array, b: Array) -> Array:
    return np.sum(a.astype(np.float64) * b.astype(np.float64)).reshape(1)
