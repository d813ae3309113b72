"""The tape, layers and optimisers: what is recorded, what comes out of it, and what is kept."""

import gc
import weakref

import numpy as np
import pytest
from small_network import net

from deformable_convnets import reference
from deformable_convnets.reference.networks import Tape, layers, optimisers, primitives

RNG = np.random.default_rng(0)


def whole(*shape):
    return RNG.integers(-3, 4, shape).astype(float)


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


def test_no_two_gradients_share_memory():
    """Clipping one in place does not clip another."""
    a, b = whole(2, 3), whole(2, 3)
    for given in (np.ones((2, 3)), np.ones((6,))):
        tape = Tape({"a": a, "b": b})
        y = tape.add(a, b)
        y = y if given.ndim == 2 else tape.reshape(y, (6,))
        gradients = tape.gradients(y, given)
        gradients["a"] *= 0.5
        assert gradients["a"].tolist() == np.full((2, 3), 0.5).tolist()
        assert gradients["b"].tolist() == np.ones((2, 3)).tolist()
        assert (given == 1).all()


def test_a_target_that_depends_on_parameters():
    a = whole(2, 3)
    tape = Tape({"a": a})
    loss = tape.smooth_l1(whole(2, 3), tape.relu(a))
    with pytest.raises(ValueError, match="smooth_l1 has no gradient of target, which depends on"):
        tape.gradients(loss)


def test_a_failed_backward_leaves_nothing(monkeypatch):
    a = whole(2, 3)
    tape = Tape({"a": a})
    y = tape.relu(tape.call(lambda x: x + 1, lambda grad_output, x: 1 / 0, a))
    with pytest.raises(ZeroDivisionError):
        tape.gradients(y, np.ones_like(y))
    assert not tape.records
    assert tape.live == {id(a)}


def test_functions_of_a_call_are_not_kept():
    held = whole(2, 3)
    known = weakref.ref(held)
    tape = Tape({"a": whole(2, 3)})
    tape.call(lambda x, held=held: x + held, lambda *a: None, tape.parameters["a"])
    del tape, held
    gc.collect()
    assert known() is None


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
