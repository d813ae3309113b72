"""The tape, layers and optimisers: what is recorded, what comes out of it, and what is kept."""

import gc
import weakref
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from deformable_convnets import reference
from deformable_convnets.reference.networks import Tape, layers, optimisers, primitives
from deformable_convnets.reference.networks.layers import BatchNorm, Conv2d, DeformConv2d

RNG = np.random.default_rng(0)


def whole(*shape):
    return RNG.integers(-3, 4, shape).astype(float)


@dataclass
class Net:
    """Two convolutions with a shortcut, batch norm and a classifier: every kind of layer."""

    first: Conv2d
    norm: BatchNorm
    second: list[Any]
    head: layers.Linear

    def __call__(self, tape, x):
        x = tape.relu(self.norm(tape, self.first(tape, x)))
        z = tape.relu(self.second[0](tape, x))
        x = tape.max_pool2d(tape.add(x, z), 2, 2)
        return self.head(tape, tape.reshape(x, (len(x), -1)))


def net(dtype=np.float64):
    rng = np.random.default_rng(1)
    zeros, ones = np.zeros(4, dtype), np.ones(4, dtype)
    return Net(
        layers.conv(rng, 2, 4, padding=1, dtype=dtype),
        BatchNorm(ones.copy(), zeros.copy(), zeros.copy(), ones.copy()),
        [layers.conv(rng, 4, 4, padding=2, dilation=2, dtype=dtype)],
        layers.linear(rng, 4 * 3 * 4, 3, dtype=dtype),
    )


IMAGES, LABELS = RNG.normal(size=(3, 2, 6, 8)), np.array([0, 2, 1])


def loss_of(network, tape, x=IMAGES):
    return tape.softmax_loss(network(tape, x), LABELS)


@pytest.fixture
def deformed():
    """A network with a branch that is not zero any more."""
    made = layers.deformable(net(), ["second.0"])
    branch = made.second[0].branch
    branch.weight += 0.1 * np.random.default_rng(2).normal(size=branch.weight.shape)
    branch.bias += 0.3
    return made


def test_gradients_of_a_whole_network(deformed):
    """Along a random direction of each parameter, by two central differences (see operators)."""
    parameters = layers.parameters(deformed)
    tape = Tape(parameters)
    gradients = tape.gradients(loss_of(deformed, tape))
    assert list(gradients) == list(parameters)
    assert "second.0.branch.weight" in gradients
    h = 2.0**-14
    for name, w in parameters.items():
        v, kept = RNG.normal(size=w.shape), w.copy()

        def along(t, w=w, v=v, kept=kept):
            w[...] = kept + t * v
            value = float(loss_of(deformed, Tape(parameters)))
            w[...] = kept
            return value

        near, far = ((along(s) - along(-s)) / (2 * s) for s in (h, 2 * h))
        found = float((gradients[name] * v).sum())
        assert abs(near - found) <= abs(far - near) + 1e-9, name
        if name != "first.bias":  # which batch norm takes away again
            assert abs(found) > 1e-4  # far above what is forgiven


def test_a_lost_term_is_seen(deformed, monkeypatch):
    """Without the sum of two gradients, x of the shortcut gets one of them."""
    tape = Tape(layers.parameters(deformed))
    right = tape.gradients(loss_of(deformed, tape))
    monkeypatch.setattr(
        "deformable_convnets.reference.networks.primitives.add_backward",
        lambda grad_output, x, z: primitives.AddGrads(grad_output, 0 * grad_output),
    )
    tape = Tape(layers.parameters(deformed))
    wrong = tape.gradients(loss_of(deformed, tape))
    assert not wrong["second.0.weight"].any()
    assert right["second.0.weight"].any()
    assert (wrong["first.weight"] != right["first.weight"]).any()


def test_an_operator_by_hand():
    x, w = whole(1, 1, 4, 5), whole(1, 1, 3, 3)
    tape = Tape({"w": w, "x": x})
    y = tape.conv2d(x, w)
    grad = whole(*y.shape)
    gradients = tape.gradients(y, grad)
    expected = reference.conv2d_backward(grad, x, w)
    np.testing.assert_array_equal(gradients["x"], expected.x)
    np.testing.assert_array_equal(gradients["w"], expected.weight)


def test_an_array_that_is_used_twice():
    x = whole(2, 3)
    tape = Tape({"x": x})
    y = tape.add(tape.add(x, x), x)
    np.testing.assert_array_equal(tape.gradients(y, np.ones_like(x))["x"], np.full_like(x, 3))


def test_the_modules_of_figure_2_are_operators_too():
    x, weight = whole(1, 2, 4, 5), whole(3, 2, 3, 3)
    branch = reference.zero_offset_branch(weight, 2)
    tape = Tape({"offset_weight": branch[0], "weight": weight})
    y = tape.deform_conv_module(x, *branch, weight, padding=1)
    found = tape.gradients(y, np.ones_like(y))
    expected = reference.deform_conv_module_backward(np.ones_like(y), x, *branch, weight, padding=1)
    for name, grad in found.items():
        np.testing.assert_array_equal(grad, getattr(expected, name))


@pytest.mark.parametrize("trained", [False, True])
def test_what_is_kept(trained):
    """A forward without gradients keeps no activations, and gradients free them."""
    network = net()
    tape = Tape(layers.parameters(network) if trained else None)
    seen = []
    relu = tape.relu
    object.__setattr__(tape, "relu", lambda x: seen.append(weakref.ref(y := relu(x))) or y)
    loss = loss_of(network, tape)
    gc.collect()
    assert [ref() is not None for ref in seen] == [trained] * 2
    assert len(tape.records) == 10 * trained
    if trained:
        tape.gradients(loss)
        assert not tape.records
        assert [ref() for ref in seen] == [None, None]


def test_only_what_leads_to_a_parameter_is_recorded():
    network = net()
    tape = Tape({"head.weight": network.head.weight})
    gradients = tape.gradients(loss_of(network, tape))
    assert list(gradients) == ["head.weight"]
    tape = Tape({"head.weight": network.head.weight})
    loss_of(network, tape)
    assert [record.forward.__name__ for record in tape.records] == ["linear", "softmax_loss"]


def test_an_ops_with_wrt_is_asked_for_what_is_live():
    """As those of `gpu`, which compute no gradient that nobody wants."""
    asked = []

    class Ops:
        @staticmethod
        def conv2d(x, weight, bias=None, *, padding=0):
            return reference.conv2d(x, weight, bias, padding=padding)

        @staticmethod
        def conv2d_backward(grad_output, x, weight, bias=None, *, wrt=None, padding=0):
            asked.append(wrt)
            return reference.conv2d_backward(grad_output, x, weight, bias, padding=padding)

    x, w = whole(1, 2, 4, 5), whole(2, 2, 3, 3)
    tape = Tape({"w": w}, ops=Ops)
    y = tape.conv2d(tape.conv2d(x, w, padding=1), w, padding=1)
    tape.gradients(y, np.ones_like(y))
    assert asked == [["x", "weight"], ["weight"]]


def test_errors():
    x, w = whole(1, 2, 4, 5), whole(2, 2, 3, 3)
    tape = Tape({"w": w, "other": x.copy()})
    y = tape.conv2d(x, w)
    with pytest.raises(ValueError, match=r"the result has shape \(1, 2, 2, 3\): its grad_output"):
        tape.gradients(y)
    with pytest.raises(ValueError, match=r"grad_output has shape \(2,\), expected \(as the"):
        tape.gradients(y, np.ones(2))
    with pytest.raises(ValueError, match="not computed by this tape"):
        tape.gradients(y + 0)
    with pytest.raises(ValueError, match="the result does not depend on other"):
        tape.gradients(y, np.ones_like(y))
    with pytest.raises(AttributeError, match="no operator 'convolve' with a convolve_backward"):
        tape.convolve(x)


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


def test_a_network_learns():
    """Three images by heart, in float32; and with another sign it does not."""
    for sign, better in ((1, True), (-1, False)):
        network = layers.deformable(net(np.float32), ["second.0"])
        parameters, adam = layers.parameters(network), optimisers.Adam()
        x, values = IMAGES.astype(np.float32), []
        for _ in range(40):
            tape = Tape(parameters)
            loss = loss_of(network, tape, x)
            assert loss.dtype == np.float32
            values.append(float(loss))
            adam.step(parameters, tape.gradients(loss), sign * 0.01)
        assert (values[-1] < values[0] / 10) == better
        assert {a.dtype.name for a in parameters.values()} == {"float32"}
        assert network.second[0].branch.weight.any()
