"""The oracle sees kernels that are short of threads, registers or reach, and says of what."""

import numpy as np
import pytest

from deformable_convnets import reference
from deformable_convnets.reference.oracle import verify


def loses(cut, op="deform_conv2d"):
    """A kernel right but for what `cut` puts to 0 in y, the weight or the offset."""

    def kernel(x, offset, weight, bias=None, **options):
        given = {"offset": offset.copy(), "weight": weight.copy()}
        cut(given)
        y = getattr(reference, op)(x, **given, bias=bias, **options)
        cut({"y": y})
        return y

    return kernel


def of_y(*places):
    def cut(given):
        if "y" in given and given["y"].size:
            given["y"].reshape(*given["y"].shape[:2], -1)[places] = 0

    return cut


def of_weight(*places):
    def cut(given):
        if "weight" in given:
            given["weight"].reshape(*given["weight"].shape[:2], -1)[places] = 0

    return cut


def every_number_from_65535(given):
    if "y" in given:
        given["y"].ravel()[65535:] = 0


ALL = slice(None)
SHORT = {
    "one block of threads": (of_y(ALL, ALL, slice(256, None)), "output pixels"),
    "one block of a larger GPU": (of_y(ALL, ALL, slice(1024, None)), "output pixels"),
    "an array of taps": (of_weight(ALL, ALL, slice(32, None)), "taps"),
    "a warp of channels": (of_weight(ALL, slice(64, None)), "channels"),
    "a tile of outputs": (of_y(ALL, slice(64, None)), "output channels"),
    "images of one step": (of_y(slice(32, None)), "images"),
    "a grid of blocks": (every_number_from_65535, "output pixels"),
}


@pytest.mark.parametrize("name", SHORT)
def test_a_short_kernel_is_seen_and_told_of_what(name):
    cut, what = SHORT[name]
    report = verify(loses(cut), dtype="float32", laws="forward_is_exact", shrink=False)
    (failure,) = report.failures
    assert failure.problem.family == "long"
    assert f" {what} or more: right ones have up to " in failure.diagnosis
    assert "no known mistake gives it" in failure.diagnosis


@pytest.mark.parametrize("name", ["one block of threads", "a warp of channels"])
def test_on_volumes(name):
    cut, what = SHORT[name]
    report = verify(
        loses(cut, "deform_conv3d"), "deform_conv3d", dtype="float32",
        laws="forward_is_exact", shrink=False,
    )  # fmt: skip
    assert f" {what} or more: " in report.failures[0].diagnosis


@pytest.mark.parametrize("op", ["deform_conv2d", "deform_conv3d"])
@pytest.mark.parametrize("most", [20, 1000])
def test_offsets_that_are_cut_short_are_seen(op, most):
    def clipped(given):
        if "offset" in given:
            np.clip(given["offset"], -most, most, out=given["offset"])

    report = verify(loses(clipped, op), op, dtype="float32", laws="forward_is_exact", shrink=False)
    assert report.failures[0].problem.family in ("across", "far")


@pytest.mark.parametrize("most", [8, 16])
def test_bins_of_many_points_are_read(most):
    """A kernel that reads at most so many rows of a bin."""

    def kernel(x, rois, output_size, *, spatial_scale=1.0, bins="paper", **options):
        y = reference.roi_pool(
            x, rois, output_size, spatial_scale=spatial_scale, bins=bins, **options
        )
        high = (rois[:, 4] - rois[:, 2]) * spatial_scale / output_size[0]
        y[high > most] /= 2
        return y

    report = verify(kernel, "roi_pool", dtype="float64", shrink=False)
    assert [failure.law for failure in report.failures] == ["float_sums_stay_within_bounds"]


def test_a_law_is_tried_on_every_long_problem():
    """With the usual number of examples, also where the law has many families."""
    seen = set()

    def kernel(x, offset, weight, bias=None, **options):
        y = reference.deform_conv2d(x, offset, weight, bias, **options)
        seen.add((len(x), x.shape[1], *weight.shape[::2], y[0:1].size))
        return y

    assert verify(kernel, dtype="float64", laws="forward_is_exact").ok
    for at, least in enumerate((70, 130, 130, 7, 65_535)):
        assert max(each[at] for each in seen) >= least


def test_calls_without_images_are_no_evidence():
    """A bias gradient that is wrong wherever it is not empty shares nothing but that."""

    def backward(grad_output, *given, **options):
        grads = reference.deform_conv2d_backward(grad_output, *given, **options)
        return grads._replace(weight=grads.weight / 3)

    report = verify(
        reference.deform_conv2d, backward=backward, dtype="float64", laws="backward_is_exact",
        shrink=False,
    )  # fmt: skip
    assert "offsets that are not whole" not in report.failures[0].diagnosis


def test_the_settings_of_the_call_are_shown():
    """Those that are not the usual ones."""
    report = verify(
        loses(of_weight(ALL, ALL, slice(1, None))), dtype="float32", laws="forward_is_exact",
        shrink=False,
    )  # fmt: skip
    (failure,) = report.failures
    given = failure.call.arguments
    assert f"padding={given['padding']}" in failure.where()
    for name in ("stride", "dilation"):
        assert (f"{name}=" in failure.where()) == (set(given[name]) != {1})


def test_a_kernel_that_wants_whole_padding_is_told_what_comes():
    def kernel(x, offset, weight, bias=None, *, padding, **options):
        return reference.deform_conv2d(x, offset, weight, bias, padding=padding[0] + 1, **options)

    (failure,) = verify(kernel, dtype="float32", laws="forward_is_exact").failures
    assert failure.diagnosis.startswith("it raises in all ")
    assert failure.diagnosis.endswith("padding=((0, 0), (0, 0)), and so on")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"laws": "forward_is_exac"}, "; did you mean 'forward_is_exact'[?]"),
        ({"dtype": "float23"}, "; did you mean 'float32'[?]"),
        ({"lacks": None}, "lacks is None, expected some of"),
        ({"time_limit": "3"}, "time_limit is 3, expected a number of seconds above 0"),
    ],
)
def test_what_is_meant(given, said):
    with pytest.raises(ValueError, match=said):
        verify(reference.deform_conv2d, **{"dtype": "float32"} | given)
    assert verify(
        reference.deform_conv2d, dtype="float32", examples=np.int64(8), laws="bias_is_added"
    ).ok
