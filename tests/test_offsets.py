"""Offsets alone: where the taps read, effective dilation, and the layouts of other libraries."""

import inspect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deformable_convnets import reference
from deformable_convnets.reference.offsets import LAYOUTS
from deformable_convnets.reference.oracle import problems


def test_R_by_hand():
    assert reference.R(3)[[0, 1, 8]].tolist() == [[-1, -1], [-1, 0], [1, 1]]
    assert reference.R((1, 2), dilation=(1, 3)).tolist() == [[0, 0], [0, 3]]
    assert reference.R((3, 1), dilation=2).tolist() == [[-2, 0], [0, 0], [2, 0]]


def test_R_rejects():
    R = inspect.unwrap(reference.R)  # without the type checks of `test_shape_types`
    with pytest.raises(ValueError, match="kernel_size is 0, expected 1 or more"):
        R(0)
    with pytest.raises(TypeError, match=r"dilation is \(1, 1.0\), expected an int or a pair"):
        R(3, dilation=(1, 1.0))


def test_sampling_points_by_hand():
    """A 2x3 kernel with padding 1 above: its first tap reads (-1, 0), moved by its offset."""
    offset = np.zeros((1, 12, 4, 5))
    offset[0, 0], offset[0, 1] = 0.25, -0.5
    p = reference.sampling_points(offset, (2, 3), stride=(1, 2), padding=((1, 0), (0, 0)))
    assert p.shape == (1, 1, 6, 4, 5, 2)
    assert p[0, 0, 0, 0, 0].tolist() == [-0.75, -0.5]
    assert p[0, 0, 5, 3, 4].tolist() == [3, 10]


@settings(max_examples=60)
@given(recipe=problems.recipes("base", dtype="float64", N=2, groups=1))
def test_sampling_points_are_where_deform_conv2d_reads(recipe):
    """y is the weighted sum of `sample` at `sampling_points`, image by image and tap by tap."""
    problem = recipe.problem("float64")
    s, p = problem.shape, reference.sampling_points(
        problem.offset, problem.shape.kernel, **problem.options
    )  # fmt: skip
    y = np.zeros((s.N, s.O, *s.output))
    for n, g in np.ndindex(s.N, s.G):
        of_g = slice(g * s.C // s.G, (g + 1) * s.C // s.G)
        samples = reference.sample(problem.x[n, of_g], p[n, g], border=problem.border)
        weight = problem.weight[:, of_g].reshape(s.O, s.C // s.G, -1)
        y[n] += np.einsum("ock,ckhw->ohw", weight, samples)
    expected = reference.deform_conv2d(
        problem.x, problem.offset, problem.weight, border=problem.border, **problem.options
    )
    assert (y == expected).all()


def test_effective_dilation_of_a_plain_filter_is_its_dilation():
    for d in (1, 2, 4):
        flat = np.zeros((2, 2 * 18, 3, 4))
        assert (reference.effective_dilation(flat, 3, dilation=d) == d).all()
    assert (reference.effective_dilation(np.zeros((1, 18, 1, 1)), 3, dilation=(1, 3)) == 2).all()


def test_effective_dilation_does_not_change_with_rotation_and_translation():
    R = reference.R(3).astype(float)
    turned = R @ np.array([[0.6, -0.8], [0.8, 0.6]]) + (5, -7)
    offset = (turned - R).reshape(1, 18, 1, 1)
    assert np.allclose(reference.effective_dilation(offset, 3), 1, rtol=0, atol=1e-14)
    scaled = (3 * R - R).reshape(1, 18, 1, 1)
    assert reference.effective_dilation(scaled, 3).item() == 3


def test_effective_dilation_needs_two_taps():
    with pytest.raises(ValueError, match="kernel_size is 1, expected 2 taps or more"):
        reference.effective_dilation(np.zeros((1, 2, 3, 3)), 1)


def test_channels_of_each_layout_by_hand():
    """Which number stands first, second and last for a 1x2 kernel with dy = 1, 2 and dx = 3, 4."""
    offset = np.array([1.0, 3, 2, 4]).reshape(1, 4, 1, 1)
    mask = np.array([8.0, 9]).reshape(1, 2, 1, 1)
    first = {
        "torchvision": [1, 3, 2, 4], "mmcv": [1, 3, 2, 4], "mxnet": [1, 3, 2, 4],
        "onnx": [1, 3, 2, 4], "openvino": [1, 3, 2, 4], "paddle": [1, 3, 2, 4],
        "chainer": [3, 4, 1, 2], "mindspore": [3, 4, 1, 2, 8, 9],
        "dcnv3": [3, 1, 4, 2], "dpbench": [3, 1, 4, 2],
    }  # fmt: skip
    assert {*first, "mxnet-roi"} == set(LAYOUTS)
    for name, numbers in first.items():
        packed = mask if name == "mindspore" else None
        assert reference.to_layout(offset, name, (1, 2), mask=packed).ravel().tolist() == numbers
    # two classes, one part: x of class 0, y of class 0, x of class 1, y of class 1
    assert reference.to_layout(offset, "mxnet-roi").ravel().tolist() == [3, 1, 4, 2]


def test_groups_and_taps_of_each_layout_by_hand():
    """G = 2, a 2x2 kernel: a number g t d is offset group, tap row by row, and 0 dy or 1 dx."""
    offset = np.array(
        [g * 100 + t * 10 + d for g in (1, 2) for t in range(4) for d in (0, 1)], float
    )
    offset = offset.reshape(1, 16, 1, 1)
    mask = np.array([g * 100 + t * 10 + 9 for g in (1, 2) for t in range(4)], float).reshape(
        1, 8, 1, 1
    )
    dcnv3 = [g + t * 10 + d for g in (100, 200) for t in (0, 2, 1, 3) for d in (1, 0)]
    assert reference.to_layout(offset, "dcnv3", 2).ravel().tolist() == dcnv3
    planes = [g + t * 10 + d for d in (1, 0, 9) for g in (100, 200) for t in range(4)]
    packed = reference.to_layout(offset, "mindspore", 2, mask=mask)
    assert packed.ravel().tolist() == planes
    again = reference.from_layout(packed, "mindspore", 2)
    assert not np.shares_memory(again.mask, packed)
    one = offset[:, :8]
    dpbench = reference.to_layout(one, "dpbench", 2)
    assert dpbench.shape == (2, 2, 2, 1, 1)
    assert dpbench[1, 0, :, 0, 0].tolist() == [121, 120]
    assert reference.to_layout(one, "chainer", 2).ravel().tolist() == [
        101, 111, 121, 131, 100, 110, 120, 130,
    ]  # fmt: skip


def test_points_of_half_precision_offsets_are_in_single_precision():
    """Column 3001 with an offset of a quarter: half precision would round it to 3000."""
    offset = np.full((1, 2, 1, 3002), 0.25, np.float16)
    p = reference.sampling_points(offset, 1)
    assert p.dtype == np.float32
    assert p[0, 0, 0, 0, 3001].tolist() == [0.25, 3001.25]


def test_effective_dilation_of_offsets_not_finite():
    offset = np.zeros((1, 18, 1, 2))
    offset[0, 0, 0, 0], offset[0, 2, 0, 0] = np.inf, np.inf
    dilation = reference.effective_dilation(offset, 3)
    assert np.isnan(dilation[0, 0, 0, 0])
    assert dilation[0, 0, 0, 1] == 1


def test_layouts_take_arrays_of_real_numbers_only():
    to, back = inspect.unwrap(reference.to_layout), inspect.unwrap(reference.from_layout)
    for wrong in ([1.0], np.zeros((1, 18, 1, 1), int), "field"):
        with pytest.raises(TypeError, match="offset "):
            back(wrong, "onnx", 3)
    with pytest.raises(TypeError, match="mask is of type list"):
        to(np.zeros((1, 2, 1, 1)), "mindspore", 1, mask=[1])
    with pytest.raises(ValueError, match=r"name is \['onnx'\], expected one of"):
        to(np.zeros((1, 2, 1, 1)), ["onnx"], 1)


def test_taps_of_dcnv3_run_down_the_columns():
    """A 2x2 kernel: tap (1, 0) is third here and second there."""
    offset = np.zeros((1, 8, 1, 1))
    offset[0, 4] = 5  # dy of tap (1, 0)
    assert reference.to_layout(offset, "dcnv3", 2).ravel().tolist() == [0, 0, 0, 5, 0, 0, 0, 0]


@settings(max_examples=100)
@given(
    name=st.sampled_from(sorted(LAYOUTS)),
    sizes=st.tuples(*[st.integers(1, 3)] * 6),
    dtype=st.sampled_from(["f2", "f4", "f8"]),
)
def test_layouts_are_undone(name, sizes, dtype):
    N, G, kh, kw, Ho, Wo = sizes
    N, G = (1 if name == "dpbench" else N), (1 if name in ("dpbench", "chainer") else G)
    kernel = None if name == "mxnet-roi" else (kh, kw)
    K = 1 if kernel is None else kh * kw
    offset = np.arange(N * 2 * G * K * Ho * Wo).reshape(N, 2 * G * K, Ho, Wo).astype(dtype)
    mask = offset[:, : G * K] + 0.5 if name == "mindspore" else None
    array = reference.to_layout(offset, name, kernel, mask=mask)
    again = reference.from_layout(array, name, kernel)
    assert again.offset.dtype == offset.dtype
    assert (again.offset == offset).all()
    assert (again.mask is None) if mask is None else (again.mask == mask).all()
    assert array.size == offset.size + (0 if mask is None else mask.size)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda a: reference.to_layout(a, "caffe", 3), "name is 'caffe', expected one of 'torchv"),
        (lambda a: reference.to_layout(a, "chainer", 1), "offset has 9 offset groups, expected 1"),
        (lambda a: reference.to_layout(a, "dpbench", 3), "offset has 2 images, expected 1"),
        (lambda a: reference.to_layout(a, "mindspore", 3), "mask is None, expected an array"),
        (lambda a: reference.to_layout(a, "onnx", 3, mask=a), "mask is given, expected None"),
        (lambda a: reference.to_layout(a, "onnx"), "kernel_size is None, expected an int"),
        (lambda a: reference.to_layout(a, "onnx", 2), r"18 channels, expected .* = 8"),
        (lambda a: reference.from_layout(a, "onnx", 2), "a multiple of 8 in axis 1 for 'onnx'"),
        (lambda a: reference.from_layout(a, "dpbench", 3), "has 4 dimensions, expected 5"),
        (lambda a: reference.from_layout(a, "mxnet-roi", 3), "kernel_size is 3, expected None"),
        (lambda a: reference.from_layout(a, "chainer", 2), "expected 8 in axis 1 for 'chainer'"),
    ],
)
def test_layouts_reject(call, words):
    with pytest.raises(ValueError, match=words):
        call(np.zeros((2, 18, 3, 4)))
