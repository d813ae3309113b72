"""ResNet trunks: names, strides, dilation, pooling, and which layers are the last n."""

import numpy as np
import pytest

from deformable_convnets.reference.networks import Tape, layers, resnet
from deformable_convnets.reference.networks.layers import DeformConv2d
from deformable_convnets.reference.networks.resnet import CAFFE, TORCHVISION

RNG = np.random.default_rng(0)


def small(depth=101, **options):
    options = {"width": 4, "top": 16, "dtype": np.float64} | options
    return resnet.trunk(np.random.default_rng(1), depth, **options)


def image(*size, channels=3):
    return np.random.default_rng(2).normal(size=(1, channels, *size))


@pytest.mark.parametrize("depth", [18, 50, 101])
@pytest.mark.parametrize("layout", [CAFFE, TORCHVISION])
def test_both_maps_have_stride_16(depth, layout):
    net = small(depth, **layout)
    odd = (2, 3) if layout == CAFFE else (3, 4)  # pooling makes 8 rows of conv1's 17, or 9
    for size, cells in (((32, 48), (2, 3)), ((33, 50), odd), ((16, 16), (1, 1))):
        res4, top = net.stages(Tape(), image(*size))
        assert res4.shape[2:] == top.shape[2:] == cells
        assert top.shape[1] == 16
        assert min(res4.min(), top.min()) >= 0  # after ReLU
    assert res4.shape[1] == (16 if depth == 18 else 64)


def test_names_are_those_of_caffe():
    names = [name.removesuffix("_branch2b") for name in resnet.layers3x3(small())]
    assert names[:4] == ["res2a", "res2b", "res2c", "res3a"]
    assert names[4:10] == ["res3b1", "res3b2", "res3b3", "res4a", "res4b1", "res4b2"]
    assert names[-4:] == ["res4b22", "res5a", "res5b", "res5c"]
    assert len(names) == 33
    assert list(resnet.layers3x3(small(18)))[-3:] == [
        "res5a_branch2b", "res5b_branch2a", "res5b_branch2b"
    ]  # fmt: skip
    assert "res4f_branch2b" in resnet.layers3x3(small(50))


def test_the_last_layers_of_table_1():
    net = small()
    name_of = {path: name for name, path in resnet.layers3x3(net).items()}
    of_table = {
        0: [], 1: ["res5c"], 2: ["res5b", "res5c"], 3: ["res5a", "res5b", "res5c"],
        6: ["res4b20", "res4b21", "res4b22", "res5a", "res5b", "res5c"],
    }  # fmt: skip
    for n, expected in of_table.items():
        paths = resnet.last(net, n)
        assert [name_of[path].removesuffix("_branch2b") for path in paths] == expected
        made = layers.deformable(net, paths)
        found = [p for p in resnet.layers3x3(made).values() if type(_at(made, p)) is DeformConv2d]
        assert found == paths
    branch = made.res5[2].branch2b.conv.branch
    assert branch.weight.shape == (18, 32, 3, 3)
    assert branch.dilation == branch.padding == 2
    for n in (-1, 34):
        with pytest.raises(ValueError, match=f"n is {n}, expected 0 to 33"):
            resnet.last(net, n)


def _at(net, path):
    for step in path.split("."):
        net = net[int(step)] if step.isdecimal() else getattr(net, step)
    return net


def test_a_deformable_trunk_computes_what_the_plain_one_does():
    net = small(50)
    x = image(40, 56)
    for n in (1, 6):
        made = layers.deformable(net, resnet.last(net, n))
        for a, b in zip(net.stages(Tape(), x), made.stages(Tape(), x), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-12 * abs(a).max())
        made.res5[-1].branch2b.conv.branch.bias[0] = 0.5
        assert abs(made.stages(Tape(), x)[1] - net.stages(Tape(), x)[1]).max() > 1e-6


def test_where_strides_and_dilations_lie():
    for layout, at in ((CAFFE, "branch2a"), (TORCHVISION, "branch2b")):
        for stride in (16, 32):
            net = small(50, stride=stride, **layout)
            strided = {
                f"{block.name}_{part}"
                for stage in resnet.STAGES for block in getattr(net, stage)
                for part in ("branch1", "branch2a", "branch2b", "branch2c")
                if (unit := getattr(block, part)) and unit.conv.stride == 2
            }  # fmt: skip
            stages = ("3", "4", "5") if stride == 32 else ("3", "4")
            assert strided == {f"res{s}a_{part}" for s in stages for part in ("branch1", at)}
            dilations = [block.branch2b.conv.dilation for block in net.res5]
            assert dilations == [1 if stride == 32 else 2] * 3
    assert small(50, dilation=4).res5[0].branch2b.conv.padding == 4  # of Table 3
    assert {b.branch2a.conv.dilation for b in small(18).res5} == {2}


def test_norms_are_frozen_and_variances_do_not_double():
    net = small()
    assert not any("norm" in name for name in layers.parameters(net))
    assert sum("norm" in name for name in layers.arrays(net)) == 4 * (1 + 3 * 33 + 4)
    res4, top = net.stages(Tape(), image(64, 64))
    assert 0.1 < res4.std() < 100
    assert 0.1 < top.std() < 100


def test_without_top_and_without_res5():
    x, net = image(32, 32), small(50, top=None)
    assert net.stages(Tape(), x)[1].shape[1] == 128
    net = small(50, top=None, blocks=(1, 1, 1, 0))
    res4, top = net.stages(Tape(), x)
    assert res4.shape == (1, 64, 2, 2)
    assert top is None


def test_a_classifier():
    net = small(50, stride=32, classes=7, top=None)
    assert net.classify(Tape(), image(64, 64)).shape == (1, 7)
    with pytest.raises(ValueError, match="this trunk has no fc: build it with classes=1000"):
        small().classify(Tape(), image(64, 64))


def test_caffes_pooling():
    """All windows at even places, the last ones with what is left."""
    for H, W in ((5, 6), (6, 7), (8, 8), (2, 1)):
        x = RNG.permutation(H * W * 2).reshape(1, 2, H, W).astype(float)
        y = resnet.whole_max_pool(x)
        Ho, Wo = (max(-(-(n - 3) // 2), 0) + 1 for n in (H, W))  # Caffe rounds up
        assert y.shape == (1, 2, Ho, Wo)
        for i, j in np.ndindex(Ho, Wo):
            window = x[:, :, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
            np.testing.assert_array_equal(y[:, :, i, j], window.max(axis=(2, 3)))
        grad = RNG.normal(size=y.shape)
        back = resnet.whole_max_pool_backward(grad, x).x
        v = RNG.integers(-1, 2, x.shape) / 8  # whole numbers keep their order
        np.testing.assert_allclose(
            (back * v).sum(), (grad * (resnet.whole_max_pool(x + v) - y)).sum(), rtol=1e-12
        )


def test_the_layouts_differ():
    """Weights of one do not fit the other: the same numbers, other maps."""
    x = image(48, 48)
    nets = [small(50, **layout) for layout in (CAFFE, TORCHVISION)]
    each = [net.stages(Tape(), x)[1] for net in nets]
    for a, b in zip(*(layers.arrays(net).values() for net in nets), strict=True):
        np.testing.assert_array_equal(a, b)
    assert abs(each[0] - each[1]).max() > 0.1 * each[0].std()


def test_what_is_refused():
    for x in (image(15, 40), image(40, 8)):
        with pytest.raises(ValueError, match="expected at least 16 x 16: the stride of res4"):
            small(50).stages(Tape(), x)
    with pytest.raises(ValueError, match="x has 2 channels, expected"):
        small(50).stages(Tape(), image(32, 32, channels=2))
    for wrong, said in (
        ({"depth": 34}, "depth is 34, expected one of"), ({"stride": 8}, "stride is 8"),
        ({"stride_in": "2x2"}, "stride_in is '2x2'"), ({"blocks": (1, 2)}, "4 numbers to 26"),
        ({"depth": 50, "blocks": (1, 1, 27, 1)}, r"\(1, 1, 27, 1\), expected 1 or more, 4"),
        ({"width": 0}, "width is 0, blocks"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            small(**wrong)
