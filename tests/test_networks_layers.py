"""Layers and deformable(): names, groups, shared layers, and what they refuse."""

import numpy as np
import pytest
from small_network import net

from deformable_convnets import reference
from deformable_convnets.reference.networks import Tape, layers, optimisers
from deformable_convnets.reference.networks.layers import BatchNorm, Conv2d, DeformConv2d

RNG = np.random.default_rng(0)


def test_groups_are_those_of_the_layer_alone():
    """Its branch is a convolution of all channels, as in Figure 2."""
    layer = Conv2d(RNG.normal(size=(4, 2, 3, 3)), padding=1, groups=2)
    made = layers.deformable([layer], ["0"])[0]
    assert made.branch.weight.shape == (18, 4, 3, 3)
    x = RNG.normal(size=(1, 4, 5, 6))
    np.testing.assert_allclose(made(Tape(), x), layer(Tape(), x), rtol=0, atol=1e-13)
    for wrong in (layer, made):
        with pytest.raises(ValueError, match=r"x has 2 channels, expected groups \* weight.shape"):
            wrong(Tape(), x[:, :2])
    four = layers.deformable([layer], ["0"], offset_groups=4)[0]
    assert four.branch.weight.shape == (72, 4, 3, 3)
    assert four(Tape(), x).shape == (1, 4, 5, 6)


def test_a_shared_layer_is_stepped_once():
    layer = layers.conv(RNG, 2, 2, padding=1, dtype=np.float64)
    net, x = [layer, layer], RNG.normal(size=(1, 2, 4, 5))
    assert list(layers.parameters(net)) == ["0.weight", "0.bias"]
    tape = Tape(layers.parameters(net))
    y = net[1](tape, net[0](tape, x))
    gradients = tape.gradients(y, np.ones_like(y))
    before = layer.weight.copy()
    optimisers.SGD(momentum=0).step(layers.parameters(net), gradients, 1.0)
    np.testing.assert_array_equal(layer.weight, before - gradients["0.weight"])


def test_a_tuple_of_layers():
    layer = layers.conv(RNG, 2, 2)
    assert list(layers.parameters((layer,))) == ["0.weight", "0.bias"]
    with pytest.raises(ValueError, match="layer 0 is in a tuple, which cannot be changed: use a"):
        layers.deformable((layer,), ["0"])


def test_the_message_names_plain_convolutions_alone():
    rng = np.random.default_rng(0)
    net = layers.deformable(
        [layers.conv(rng, 2, 2), layers.linear(rng, 3, 4), layers.conv(rng, 2, 2)], ["0"]
    )
    assert isinstance(net[0], DeformConv2d)
    with pytest.raises(ValueError, match=r"which has 0.branch, 2$"):
        layers.deformable(net, ["1"])


def test_an_empty_batch_leaves_the_statistics():
    norm = BatchNorm(np.ones(2), np.zeros(2), np.full(2, 3.0), np.full(2, 4.0))
    norm._remember(np.zeros((0, 2, 4, 5)))
    assert norm.mean.tolist() == [3, 3]
    assert norm.variance.tolist() == [4, 4]


def test_converted_and_plain_outputs_are_equal():
    """Section 2.3: before training, bit for bit on exact problems."""
    plain = net()
    for a in layers.parameters(plain).values():
        a[...] = np.random.default_rng(3).integers(-2, 3, a.shape)
    made = layers.deformable(plain, ["first", "second.0"])
    assert isinstance(made.first, DeformConv2d)
    assert isinstance(made.second[0], DeformConv2d)
    assert type(plain.first) is Conv2d
    for name, a in layers.parameters(plain).items():
        np.testing.assert_array_equal(layers.parameters(made)[name], a)
        assert not np.shares_memory(layers.parameters(made)[name], a)
    x = np.random.default_rng(4).integers(-3, 4, (2, 2, 6, 8)).astype(float)
    for part in ("first", "second"):  # before batch norm divides
        ours, theirs = (getattr(n, part) for n in (plain, made))
        ours, theirs = (p[0] if part == "second" else p for p in (ours, theirs))
        given = x if part == "first" else np.concatenate([x, -x], axis=1)
        np.testing.assert_array_equal(ours(Tape(), given), theirs(Tape(), given))
    made.first.branch.bias[0] = 0.5  # a network that was changed is another
    assert (made.first(Tape(), x) != plain.first(Tape(), x)).any()


def test_a_layer_that_is_no_plain_convolution():
    for path in ("head", "second", "second.1", "nothing", "first.weight"):
        with pytest.raises(ValueError, match=f"'{path}' is not a plain convolution"):
            layers.deformable(net(), [path])
    with pytest.raises(TypeError, match=r"layers is 'first', expected paths: \['first'\]"):
        layers.deformable(net(), "first")
    made = layers.deformable(net(), ["first"])
    with pytest.raises(ValueError, match="'first' is not a plain convolution"):
        layers.deformable(made, ["first"])


def test_names():
    assert list(layers.parameters(net())) == [
        "first.weight", "first.bias", "norm.scale", "norm.shift", "second.0.weight",
        "second.0.bias", "head.weight", "head.bias",
    ]  # fmt: skip
    assert set(layers.arrays(net())) - set(layers.parameters(net())) == {
        "norm.mean", "norm.variance"
    }  # fmt: skip


def test_batch_norm_frozen_and_trained():
    network, x = net(), RNG.normal(3, 2, (4, 4, 5, 6))
    norm = network.norm
    tape = Tape(layers.parameters(network))
    y = norm(tape, x)
    np.testing.assert_allclose(y.mean(axis=(0, 2, 3)), 0, atol=1e-14)
    np.testing.assert_allclose(norm.mean, 0.1 * x.mean(axis=(0, 2, 3)), rtol=1e-14)
    unbiased = x.var(axis=(0, 2, 3), ddof=1)
    np.testing.assert_allclose(norm.variance, 1 + 0.1 * (unbiased - 1), rtol=1e-14)
    kept = norm.mean.copy(), norm.variance.copy()
    norm(Tape(), x)  # not trained: the running statistics, which stay
    norm.frozen = True
    assert {"norm.scale", "norm.shift"}.isdisjoint(layers.parameters(network))
    fixed = norm(Tape(layers.parameters(network)), x)
    np.testing.assert_array_equal(fixed, norm(Tape(), x))
    np.testing.assert_array_equal(norm.mean, kept[0])
    np.testing.assert_array_equal(norm.variance, kept[1])
    assert abs(fixed - y).max() > 0.1


def test_the_border_of_a_deformable_layer():
    """Samples beyond the last row: 0, or by dcnv1 that row again."""
    made = layers.deformable(net(), ["first"]).first
    made.branch.bias[...] = 0.5
    x = RNG.normal(size=(1, 2, 6, 8))
    found = []
    for made.border in ("zero", "dcnv1"):
        found.append(made(Tape(), x))
        offset = np.full((1, 18, 6, 8), 0.5)
        settings = made.settings() | {"border": made.border}
        expected = reference.deform_conv2d(x, offset, made.weight, made.bias, **settings)
        np.testing.assert_array_equal(found[-1], expected)
    assert (found[0] != found[1]).any()
