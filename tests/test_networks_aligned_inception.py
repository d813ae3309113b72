"""Aligned-Inception-ResNet: its layers, and that its cells look where they are projected."""

import numpy as np
import pytest

from deformable_convnets.reference.networks import Tape, layers, resnet
from deformable_convnets.reference.networks import aligned_inception as inception
from deformable_convnets.reference.networks.aligned_inception import Cells

RNG = np.random.default_rng(0)


def small(**options):
    options = {"width": 4, "blocks": (1, 1, 2, 1), "top": 8, "dtype": np.float64} | options
    return inception.aligned_inception(np.random.default_rng(1), **options)


def reached(net, size, block):
    """Which rows of an image the middle cell of the top map depends on: NaN goes everywhere."""
    x = np.zeros((size, 1, size, 16), np.float32)
    x[np.arange(size), :, np.arange(size)] = np.nan
    top = net.stages(Tape(), x)[1]
    middle = top.shape[2] // 2
    rows = np.flatnonzero(np.isnan(top[:, 0, middle]).any(axis=1))
    return middle, rows[0], rows[-1]


@pytest.mark.parametrize(
    ("make", "centre"), [(inception.aligned_inception, 0), (resnet.trunk, 2)], ids=str
)
def test_cells_look_where_the_arithmetic_says(make, centre):
    """Each cell of Aligned-Inception-ResNet at 16 i; Caffe's ResNet two pixels further."""
    options = {"width": 2, "blocks": (1, 1, 1, 1), "channels": 1, "top": None}
    net = make(np.random.default_rng(1), **options)
    found = [*inception.alignment(net).values()][-1]
    assert found[:2] == (16, centre)
    i, first, last = reached(net, found.size + 64, net.res5[0])
    assert (first + last) / 2 == 16 * i + centre
    assert last - first + 1 == found.size


def test_every_map_is_aligned():
    for stride in (16, 32):
        found = inception.alignment(small(stride=stride))
        assert {cells.centre for cells in found.values()} == {0}
        assert [cells.stride for cells in found.values()] == [2, 4, 4, 8, 16, 16, stride]
    assert list(found) == ["conv1", "pool1", "conv2_1", "conv3_1", "conv4_1", "conv4_2", "conv5_1"]


def test_what_is_not_padded_is_not_aligned():
    """One layer of a branch: the ways through its block no longer agree. A stem: all below."""
    net = small()
    net.res4[1].branch1b.conv.padding = 0
    with pytest.raises(ValueError, match="the ways through conv4_2 are centred on 0, 16, 0"):
        inception.alignment(net)
    net = small()
    net.conv1.conv.padding = 0
    assert {cells.centre for cells in inception.alignment(net).values()} == {3}
    conv = layers.Conv2d(np.zeros((1, 1, 3, 3)))
    strided = layers.Conv2d(conv.weight, stride=2)
    # the first layers of Inception-ResNet-v2: 3x3 of stride 2, 3x3, 3x3 padded, pooling of stride 2
    stem = [strided, conv, layers.Conv2d(conv.weight, padding=1), strided]
    assert inception.cells(stem) == Cells(4, 1 + 2 + 0 + 2, 3 + 4 + 4 + 4)


def test_figure_8():
    net = inception.aligned_inception(np.random.default_rng(0), width=8, top=None)
    assert [len(getattr(net, stage)) for stage in resnet.STAGES] == [3, 4, 23, 3]
    for stage, D in zip(resnet.STAGES, (32, 64, 128, 256), strict=True):
        for i, block in enumerate(getattr(net, stage)):
            C = block.branch1a.conv.weight.shape[1]
            shapes = [unit.conv.weight.shape for unit in vars(block).values()
                      if isinstance(unit, resnet.Unit)]  # fmt: skip
            assert shapes == [(D, C, 1, 1)] * (i == 0) + [
                (D // 4, C, 1, 1), (D // 4, D // 4, 3, 3),
                (D // 8, C, 1, 1), (D // 8, D // 8, 3, 3), (D // 8, D // 8, 3, 3),
                (D, 3 * D // 8, 1, 1),
            ]  # fmt: skip
            assert (block.shortcut is None) == (i > 0)


def test_the_last_3x3_layers():
    """In the order of execution, three of each block: branch1b, branch2b, branch2c."""
    net = small()
    assert resnet.last(net, 4) == [
        "res4.1.branch2c.conv", "res5.0.branch1b.conv", "res5.0.branch2b.conv",
        "res5.0.branch2c.conv",
    ]  # fmt: skip
    assert list(resnet.layers3x3(net))[-1] == "conv5_1_branch2c"
    made = layers.deformable(net, resnet.last(net, 3))
    x = RNG.normal(size=(2, 3, 35, 50))
    for a, b in zip(net.stages(Tape(), x), made.stages(Tape(), x), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)
        assert a.shape[2:] == (3, 4)
    branch = made.res5[0].branch2c.conv.branch
    assert branch.dilation == branch.padding == 2


def test_concat():
    x, z = RNG.normal(size=(2, 3, 4, 5)), RNG.normal(size=(2, 1, 4, 5))
    tape = Tape({"x": x, "z": z})
    y = tape.call(inception.concat, inception.concat_backward, x, z)
    assert y.shape == (2, 4, 4, 5)
    grad = RNG.normal(size=y.shape)
    found = tape.gradients(y, grad)
    np.testing.assert_array_equal(found["x"], grad[:, :3])
    np.testing.assert_array_equal(found["z"], grad[:, 3:])
    with pytest.raises(ValueError, match="z"):
        inception.concat(x, z[:, :, 1:])


def test_what_is_refused():
    with pytest.raises(ValueError, match="width is 3, expected an even number"):
        small(width=3)
    with pytest.raises(ValueError, match="stride is 8, expected 16 or 32"):
        small(stride=8)
    with pytest.raises(ValueError, match=r"blocks \(1, 1, 1\), expected 1 or more, 4 n"):
        small(blocks=(1, 1, 1))


def test_a_block_by_hand():
    """Figure 8: ReLU after every layer but the last, and after the sum; shortcuts have none."""
    for block in (small().res4[0], small().res4[1]):  # with a shortcut, and without
        for i, part in enumerate(vars(block).values()):
            if isinstance(part, resnet.Unit):
                part.norm.shift[...] = np.random.default_rng(i).normal(size=part.norm.shift.shape)

        def of(unit, x):
            y = layers.Conv2d(unit.conv.weight, None, unit.conv.stride, unit.conv.padding)
            return y(Tape(), x) * unit.norm.scale[:, None, None] / np.sqrt(
                1 + 1e-5) + unit.norm.shift[:, None, None]  # fmt: skip

        x = RNG.normal(size=(2, block.branch1a.conv.weight.shape[1], 5, 6))
        one = np.maximum(of(block.branch1b, np.maximum(of(block.branch1a, x), 0)), 0)
        two = np.maximum(of(block.branch2b, np.maximum(of(block.branch2a, x), 0)), 0)
        two = np.maximum(of(block.branch2c, two), 0)
        y = of(block.joined, np.concatenate([one, two], axis=1))
        y += x if block.shortcut is None else of(block.shortcut, x)
        assert (y < 0).any()
        np.testing.assert_allclose(block(Tape(), x), np.maximum(y, 0), rtol=0, atol=1e-12)
