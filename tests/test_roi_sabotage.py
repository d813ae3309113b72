"""Every law of RoI pooling catches its own deliberate bug, by name."""

import numpy as np
import pytest
from bugs import bug

from deformable_convnets import reference
from deformable_convnets.reference.oracle import roi_problems
from deformable_convnets.reference.oracle.implementation import REFERENCE
from deformable_convnets.reference.oracle.roi_laws import ROI_LAWS

Y, GRADS = "deform_ps_roi_pool", "deform_ps_roi_pool_backward"


def on_arguments(change, *, backward=True):
    """The right operator on changed arguments."""

    def forward(x, rois, offset, size, **options):
        given = {"x": x, "rois": rois, "offset": offset, "output_size": size, **options}
        return reference.deform_ps_roi_pool(**{**given, **change(**given)})

    def gradients(grad_output, x, rois, offset, size, **options):
        given = {"x": x, "rois": rois, "offset": offset, "output_size": size, **options}
        return reference.deform_ps_roi_pool_backward(grad_output, **{**given, **change(**given)})

    return bug(**{Y: forward} | ({GRADS: gradients} if backward else {}))


def on_y(change):
    def wrong(x, rois, offset, size, **options):
        y = reference.deform_ps_roi_pool(x, rois, offset, size, **options)
        return change(y, x, rois, size)

    return bug(**{Y: wrong})


def on_grads(change):
    def wrong(grad_output, x, rois, offset, size, **options):
        grads = reference.deform_ps_roi_pool_backward(grad_output, x, rois, offset, size, **options)
        return grads._replace(**change(grads, rois=rois, **options))

    return bug(**{GRADS: wrong})


def swapped(offset):
    if offset is None:
        return None
    R, channels, *part = offset.shape
    return offset.reshape(R, channels // 2, 2, *part)[:, :, ::-1].reshape(offset.shape)


def offset_of(grads, change):
    return {} if grads.offset is None else {"offset": change(grads.offset)}


def one_more(rois, **_):
    """x2 and y2 taken as inclusive."""
    return {"rois": rois + np.array([0, 0, 0, 1, 1], rois.dtype)}


def first_roi(rois, **_):
    return {"rois": np.repeat(rois[:1], len(rois), axis=0)}


def one_map(x, group_size, **_):
    """The first score map read by every bin."""
    gh, gw = (group_size, group_size) if isinstance(group_size, int) else group_size
    maps = x.reshape(x.shape[0], -1, gh * gw, *x.shape[2:])
    return {"x": np.repeat(maps[:, :, :1], gh * gw, axis=2).reshape(x.shape)}


def without_edge(x, **_):
    cut = x.copy()
    cut[:, :, -1] = 0
    return {"x": cut}


def written_to(x, rois, offset, size, **options):
    y = reference.deform_ps_roi_pool(x, rois, offset, size, **options)
    if len(rois):
        rois[:, 1] += 1
    return y


def by_position(y, x, rois, size):
    """A result that depends on where the RoI is on the map."""
    return y + rois[:, 1, None, None, None].astype(y.dtype)


def plain_by_sum(x, rois, size, **options):
    """Bins summed, not averaged."""
    return 2 * reference.roi_pool(x, rois, size, **options)


SABOTAGE = [
    ("roi_forward_is_exact", "offsets x first",
     on_arguments(lambda offset, **_: {"offset": swapped(offset)})),
    ("roi_forward_is_exact", "corners inclusive", on_arguments(one_more)),
    ("roi_backward_is_exact", "gradient of the offset x first",
     on_grads(lambda g, **_: offset_of(g, swapped))),
    ("plain_operators_are_group_one", "bins summed, not averaged", bug(roi_pool=plain_by_sum)),
    ("zero_offset_is_plain_pooling", "corners inclusive", on_arguments(one_more)),
    ("pooling_is_adjoint", "gradient of x not divided by n_ij",
     on_grads(lambda g, **_: {"x": 2 * g.x})),
    ("offset_gradients_are_central_differences", "gamma forgotten in the gradient",
     on_grads(lambda g, gamma, **_: offset_of(g, lambda a: a / gamma))),
    ("offset_gradients_are_central_differences", "gradient of the offset x first",
     on_grads(lambda g, **_: offset_of(g, swapped))),
    ("means_lie_between", "bins summed", on_y(lambda y, *_: 4 * y)),
    ("constant_map_pools_to_itself", "last row never read", on_arguments(
        lambda x, **_: {"x": x * (np.arange(x.shape[-1]) < 5).astype(x.dtype)})),
    ("map_and_rois_move_together", "y depends on where the RoI is", on_y(by_position)),
    ("gamma_scales_the_offset", "gamma ignored", on_arguments(lambda **_: {"gamma": 0.1})),
    ("each_bin_reads_its_score_map", "all bins read the first map", on_arguments(one_map)),
    ("rois_are_independent", "all RoIs are the first", on_arguments(first_roi)),
    ("the_last_row_and_column_are_read", "gradient of the last row lost",
     on_grads(lambda g, **_: {"x": without_edge(g.x)["x"]})),
    ("offsets_not_finite", "NaN read as 0", on_arguments(
        lambda offset, **_: {"offset": None if offset is None else np.nan_to_num(offset)})),
    ("sides_of_bins_differ_in_the_offset_alone", "left side loses weight", bug(**{
        GRADS: lambda *a, side="right", **o: (lambda g: g._replace(x=g.x / 2) if side == "left"
                                              else g)(reference.deform_ps_roi_pool_backward(
                                                  *a, side=side, **o))})),
    ("float_sums_stay_within_bounds", "x rounded to half precision",
     on_arguments(lambda x, **_: {"x": x.astype(np.float16).astype(x.dtype)})),
    ("float_sums_stay_within_bounds", "gradient of the offset off by a thousandth",
     on_grads(lambda g, **_: offset_of(g, lambda a: a * a.dtype.type(1.001)))),
    ("pooling_leaves_its_arguments_alone", "rois written to", bug(**{Y: written_to})),
]  # fmt: skip


def verdicts(law, implementation):
    for dtype in law.dtypes:
        for problem in roi_problems.some(
            60, *law.families, dtype=dtype, rules=law.rules, **law.limits
        ):
            try:
                law.check(implementation, problem)
                yield None
            except AssertionError as error:
                yield error


@pytest.mark.parametrize(
    ("law", "name", "wrong"), SABOTAGE, ids=[f"{s[0]}: {s[1]}" for s in SABOTAGE]
)
def test_law_catches(law, name, wrong):
    errors = [error for error in verdicts(ROI_LAWS[law], wrong) if error is not None]
    assert errors, f"{law} did not notice: {name}"


@pytest.mark.parametrize("law", ROI_LAWS.values(), ids=ROI_LAWS)
def test_law_lets_the_reference_pass(law):
    assert not any(verdicts(law, REFERENCE))


def test_every_law_has_its_bug():
    assert {row[0] for row in SABOTAGE} == set(ROI_LAWS)
