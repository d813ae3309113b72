"""The laws of RoI pooling: what equations (5), (6) and (7') promise, on exact problems.

They hold for all three rules of `roi_points` unless they say which, and for `roi_pool`,
`deform_roi_pool` and `ps_roi_pool` alone, as special cases of `deform_ps_roi_pool`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import ndarray as Array

from . import law as laws
from .compare import ABSENT, assert_between, assert_same, assert_true
from .implementation import REFERENCE, Implementation
from .law import Check, assert_same_grads, given
from .laws import dot, takes_sides
from .roi_problems import FAMILIES, RoiProblem, not_finite

Y, GRADS = "deform_ps_roi_pool", "deform_ps_roi_pool_backward"


def law(**about: Any) -> Callable[[Check], Check]:
    """`law.law` for RoI pooling."""
    return laws.law(**{"operator": Y, "families": FAMILIES, **about})


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


@law(follows=False, dtypes=("float32", "float64", "float16"), gradients=True)
def roi_backward_is_exact(i: Implementation, problem: RoiProblem) -> None:
    """(7') and the gradient of x equal the reference in float64, on both sides of kinks."""
    assert_right_grads(i, problem)


def assert_right_grads(i: Implementation, problem: RoiProblem) -> None:
    """As `laws.assert_right_grads`, for RoI pooling."""
    ends = []
    for side in ("right", "left"):
        exact = backward(REFERENCE, problem.cast("float64"), side=side)
        cast = [v if v is None else v.astype(problem.x.dtype) for v in exact]
        ends.append(type(exact)(*cast))
        if takes_sides(i):
            assert_same_grads(backward(i, problem, side=side), ends[-1])
    if not takes_sides(i):
        grads = backward(i, problem)
        assert_same_grads(grads, ends[0]._replace(offset=ABSENT))
        for _, got in given(grads, "offset"):
            low, high = (f(ends[0].offset, ends[1].offset) for f in (np.minimum, np.maximum))
            assert_between("grads.offset", got, low, high)


@law(limits={"group": (1, 1)}, follows=False, others=("roi_pool", "deform_roi_pool"))
def plain_operators_are_group_one(i: Implementation, problem: RoiProblem) -> None:
    """With one score map, `roi_pool` and `deform_roi_pool` are the position-sensitive operators."""
    p = problem.with_(shape=problem.shape.limited(part=problem.shape.output))
    size, options = p.shape.output, p.rule
    if p.offset is not None and p.offset.shape[2:] == size:
        args = (p.x, p.rois, p.offset, size)
        assert_same("y", i.deform_roi_pool(*args, gamma=p.gamma, **options), forward(i, p))
        if i.offers("deform_roi_pool_backward"):
            grads = i.deform_roi_pool_backward(p.grad_output, *args, gamma=p.gamma, **options)
            assert_same_grads(grads, backward(REFERENCE, p))
    plain, boxes = p.with_(offset=None), (p.x, p.rois, size)
    assert_same("y without offsets", i.roi_pool(*boxes, **options), forward(i, plain))
    if i.offers("roi_pool_backward"):
        x = i.roi_pool_backward(p.grad_output, *boxes, **options).x
        assert_same("grads.x without offsets", x, backward(REFERENCE, plain).x)


@law(needs=("offset",))
def zero_offset_is_plain_pooling(i: Implementation, problem: RoiProblem) -> None:
    """(6) with zero offset is (5), and the gradient of x is the same."""
    args = (problem.x, problem.rois, problem.shape.output)
    options = {"group_size": problem.shape.group, **problem.rule}
    if problem.offset is not None:
        flat = problem.with_(offset=0 * problem.offset)
        assert_same("y", forward(i, flat), REFERENCE.ps_roi_pool(*args, **options))
        if i.offers(GRADS):
            plain = REFERENCE.ps_roi_pool_backward(problem.grad_output, *args, **options)
            for _, grad in given(backward(i, flat), "x"):
                assert_same("grads.x", grad, plain.x)


@law(gradients=True)
def pooling_is_adjoint(i: Implementation, problem: RoiProblem) -> None:
    """y is linear in x: <grad_output, y> = <grad_x, x>, exactly."""
    total = dot(problem.grad_output, forward(i, problem))
    for _, grad in given(backward(i, problem), "x"):
        assert_same("<grad_x, x>", dot(grad, problem.x), total)


@law(families=("odd",), dtypes=("float64",), gradients=True, needs=("offset",))
def offset_gradients_are_central_differences(i: Implementation, problem: RoiProblem) -> None:
    """Between kinks y is linear along each axis, also where points leave the map or are clamped."""
    rng = np.random.default_rng(problem.seed)
    for _, grad in given(backward(i, problem), "offset"):
        for _ in range(6 if grad.size else 0):
            at, ends = tuple(map(int, rng.integers(0, grad.shape))), []
            for h in (2.0**-12, -(2.0**-12)):
                moved = np.array(problem.offset)
                moved[at] += h
                ends.append(dot(problem.grad_output, forward(i, problem, offset=moved)))
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
    ones = problem.with_(
        x=np.ones_like(problem.x), rois=inside.astype(dtype), offset=small, spatial_scale=1.0
    )
    y = forward(i, ones)
    assert_true(f"y is {y}, expected 1", np.abs(y - 1).max(initial=0) <= 8 * np.finfo(dtype).eps)
    if i.offers(GRADS):
        for _, slope in given(backward(i, ones), "offset"):
            flat = np.abs(slope).max(initial=0) <= 1e-4
            assert_true(f"grads.offset is {slope}, expected 0", flat)


@law()
def map_and_rois_move_together(i: Implementation, problem: RoiProblem) -> None:
    """Two rows and three columns of zeros before the map, and RoIs moved by them: the same y.

    For "mxnet" and "align", whose points are clamped to the map, zeros surround it from the start.
    C's round, away from zero, is not the same after a move: corners of "mxnet" are rounded before.
    """
    if problem.bins == "mxnet":
        away = problem.rois + np.copysign(problem.rois.dtype.type(1 / 2), problem.rois)
        problem = problem.with_(rois=np.trunc(away))
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
    a, b = (forward(i, one, offset=near) for one in (first, second))
    assert_same("y", b, a)


@law(needs=("offset",))
def gamma_scales_the_offset(i: Implementation, problem: RoiProblem) -> None:
    """Half of gamma with twice the offset gives the same y, and half of the offset's gradient."""
    if problem.offset is not None:
        other = problem.with_(gamma=problem.gamma / 2, offset=problem.offset * 2)
        assert_same("y", forward(i, other), forward(i, problem))
        if i.offers(GRADS):
            grads, expected = backward(i, other), backward(i, problem)
            for _, grad in given(expected, "x"):
                assert_same("grads.x", grads.x, grad)
            for _, grad in given(expected, "offset"):
                assert_same("grads.offset", grads.offset, grad / 2)


@law(needs=("score maps",))
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
    y, shape, alone = forward(i, problem), problem.shape.limited(rois=1), []
    for r in reversed(range(len(problem.rois))):
        one = slice(r, r + 1)
        offset = None if problem.offset is None else problem.offset[one]
        alone.append(problem.with_(
            rois=problem.rois[one], offset=offset, grad_output=problem.grad_output[one], shape=shape
        ))  # fmt: skip
        assert_same(f"y[{r}]", forward(i, alone[-1]), y[one])
    if i.offers(GRADS):
        for _, grad in given(backward(i, problem), "x"):
            total = sum((backward(i, roi).x for roi in alone), np.zeros_like(grad))
            assert_same("the sum of grads.x", total, grad)


@law(limits={"group": (1, 1), "classes": 1}, gradients=True, needs=("maps unlike bins",))
def the_last_row_and_column_are_read(i: Implementation, problem: RoiProblem) -> None:
    """A RoI over the whole map reads every pixel of its edges, and their gradient is not 0."""
    (H, W), s = problem.shape.size, problem.shape
    last = 1 if problem.bins == "mxnet" else 0
    roi = np.array([[0, 0, 0, W - last, H - last]], problem.rois.dtype)
    whole = problem.with_(
        rois=roi, offset=None, spatial_scale=1.0, shape=s.limited(rois=1), samples=None,
        grad_output=np.ones((1, s.Cout, *s.output), problem.x.dtype),
    )  # fmt: skip
    if all(size <= 3 * k for size, k in zip((H, W), s.output, strict=True)):
        for _, grad in given(backward(i, whole), "x"):
            edge = grad[0, :, -1, -1]
            assert_true(f"grads.x at the last pixel is {edge}", (edge > 0).all())


@law(families=("odd",), needs=("offset", "points not finite"), prepare=not_finite)
def offsets_not_finite(i: Implementation, problem: RoiProblem) -> None:
    """An infinite or huge offset gives 0 and no gradient, NaN stays NaN, and none reaches x."""
    if problem.offset is not None:
        strange = not_finite(problem)
        assert_same("y", forward(i, strange), forward(REFERENCE, strange))
        if i.offers(GRADS):
            grads = backward(i, strange)
            assert_same_grads(grads, backward(REFERENCE, strange))
            for _, grad in given(grads, "x"):
                assert_true("grads.x is not finite", np.isfinite(grad).all())


@law(gradients=True, needs=("the left derivative",))
def sides_of_bins_differ_in_the_offset_alone(i: Implementation, problem: RoiProblem) -> None:
    """`side` chooses a derivative at kinks: the gradient of x does not depend on it."""
    right, left = (backward(i, problem, side=side) for side in ("right", "left"))
    assert_same_grads(left, right._replace(offset=ABSENT))


@law(follows=False)
def pooling_gives_the_same_again(i: Implementation, problem: RoiProblem) -> None:
    """The same exact problem gives the same bits again, whatever the memory held before."""
    assert_same("y, the second time", forward(i, problem), forward(i, problem))
    if i.offers(GRADS):
        assert_same_grads(backward(i, problem), backward(i, problem))
