"""What notebook 5 learns with: its gradients and its data; and that a fault shows."""

import numpy as np
import pytest
from spoilt import spoilt
from tutorial_files import helper

from deformable_convnets import reference

learning = helper("learning")


def net_in_float64(module, rng):
    """A network with a branch that moves every point, far enough from whole pixels."""
    net = {name: a.astype(np.float64) for name, a in module.network(rng).items()}
    net["offset"] += 0.05 * rng.normal(size=net["offset"].shape)
    net["offset_bias"] += rng.uniform(-1.2, 1.2, 18)
    return {k: a + 0.1 * rng.normal(size=a.shape) if "bias" in k else a for k, a in net.items()}


def check_gradients(module, limit):
    """Along one random direction for each parameter, against a central difference."""
    rng = np.random.default_rng(0)
    net = net_in_float64(module, rng)
    x, label = module.scenes(rng, 2)
    x = x.astype(np.float64)
    at = module.forward(net, x, limit)
    if np.isfinite(limit):
        assert 0.05 < (at["free"] != at["offset"]).mean() < 0.95
    grads = module.backward(net, at, module.cross_entropy(at["scores"], label)[1])
    assert grads.keys() == net.keys()
    for name, parameter in net.items():
        direction, h = rng.normal(size=parameter.shape), 1e-7
        ends = [
            module.cross_entropy(
                module.forward(net | {name: parameter + s * direction}, x, limit)["scores"], label
            )[0]
            for s in (h, -h)
        ]
        slope = (ends[0] - ends[1]) / (2 * h)
        assert slope == pytest.approx((grads[name] * direction).sum(), rel=1e-4, abs=1e-7), name


@pytest.mark.parametrize("limit", [np.inf, 0.5])
def test_the_gradients_of_the_network(limit):
    check_gradients(learning, limit)


FAULTS = {
    "the branch term forgotten": ("(read.x + branch.x)", "read.x", np.inf),
    "the sampling term forgotten": ("(read.x + branch.x)", "branch.x", np.inf),
    "the ReLU after the layer": ('head.x * (at["layer"] > 0)', "head.x", np.inf),
    "the ReLU of the stem": (' * (at["stem"] > 0)', "", np.inf),
    "the padding of the branch": ('net["offset_bias"], padding=1)\n    grad_h',
                                  'net["offset_bias"], padding=1)\n    branch = branch._replace('
                                  'weight=branch.weight[..., ::-1])\n    grad_h', np.inf),
    "the clip forgotten": (' * (at["free"] == at["offset"])', "", 0.5),
    "the softmax forgotten": ("((q - hot) / label.size)", "(-hot / label.size)", np.inf),
    "the sum, not the mean": ("((q - hot) / label.size)", "(q - hot)", np.inf),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_gradient_is_noticed(fault):
    right, wrong, limit = FAULTS[fault]
    with pytest.raises(AssertionError):
        check_gradients(spoilt(learning, right, wrong), limit)


def test_without_a_limit_the_layer_is_the_module_of_the_library():
    rng = np.random.default_rng(1)
    net = net_in_float64(learning, rng)
    at = learning.forward(net, rng.normal(size=(2, 1, 32, 32)))
    arguments = [net[k] for k in ("offset", "offset_bias", "layer", "layer_bias")]
    y = reference.deform_conv_module(at["h"], *arguments, padding=1)
    assert np.allclose(at["layer"], y, rtol=0, atol=1e-12)


def check_adam(module):
    """Two steps by hand, from the gradients 4 and -2."""
    adam, parameters = module.Adam(), {"a": np.array([1.0]), "b": np.array([1.0])}
    adam.step(parameters, {"a": np.array([4.0]), "b": np.array([4.0])}, {"a": 0.5, "b": 0.0})
    assert parameters["a"] == pytest.approx([0.5])  # 0.5 times 4 / |4|, to the left
    adam.step(parameters, {"a": np.array([-2.0]), "b": np.array([9.0])}, {"a": 0.5, "b": 0.0})
    mean = (0.9 * 0.1 * 4 + 0.1 * -2) / (1 - 0.9**2)
    square = (0.999 * 0.001 * 16 + 0.001 * 4) / (1 - 0.999**2)
    assert parameters["a"] == pytest.approx([0.5 - 0.5 * mean / square**0.5])
    assert parameters["b"] == [1]


def test_adam():
    check_adam(learning)


ADAM = {
    "up the gradient": ("parameters[name] -= rates", "parameters[name] += rates"),
    "the bias of the mean": ("mean / (1 - 0.9**self.steps)", "mean"),
    "the bias of the square": ("square / (1 - 0.999**self.steps)", "square"),
    "the root": ("np.sqrt(square)", "square"),
    "a mean of this step alone": ("0.9 * self.mean.get(name, 0)", "0"),
}


@pytest.mark.parametrize("fault", ADAM)
def test_a_wrong_adam_is_noticed(fault):
    with pytest.raises(AssertionError):
        check_adam(spoilt(learning, *ADAM[fault]))


def check_scenes(module):
    x, label = module.scenes(np.random.default_rng(0), 200)
    assert (x.shape, x.dtype, label.shape) == ((200, 1, 32, 32), np.float32, (200, 16, 16))
    assert set(np.unique(label)) == {0, 1, 2}
    cells = x[:, 0, ::2, ::2]
    assert [cells[label == c].mean() for c in range(3)] == pytest.approx([0, 1, 1], abs=0.02)
    assert cells[label == 0].std() == pytest.approx(0.3, abs=0.01)
    assert not label[:, 0].any()  # a disk is inside the picture
    radius = np.sqrt(4 * (label > 0).sum(axis=(1, 2)) / np.pi)  # a cell is 2x2 pixels
    small, large = radius[label.max(axis=(1, 2)) == 1], radius[label.max(axis=(1, 2)) == 2]
    assert min(len(small), len(large)) > 50
    assert 1.5 < small.min() < small.max() < 4.5 < large.min() < large.max() < 9
    assert all(len(set(np.unique(one)) - {0}) == 1 for one in label)


def test_the_scenes():
    check_scenes(learning)


@pytest.mark.parametrize(
    "fault",
    [("[kind - 1]", "[2 - kind]"), ("inside * kind", "(1 - inside) * kind"),
     ("::2, ::2]", "1::2, 1::2][:, ::-1]"), ("0.3 * rng", "0.6 * rng")],
)  # fmt: skip
def test_wrong_scenes_are_noticed(fault):
    with pytest.raises(AssertionError):
        check_scenes(spoilt(learning, *fault))


def check_shared(module):
    rng = np.random.default_rng(3)
    x, weight = module.smooth(rng, (1, 1, 18, 20), 2), rng.normal(size=(6, 1, 3, 3))
    goal = rng.uniform(-0.8, 0.8, (9, 2))
    target = reference.deform_conv2d(x, module.everywhere(goal, (16, 18)), weight)
    path, losses = module.learn_shared(x, target, weight, steps=60)
    assert (path.shape, losses.shape) == ((61, 9, 2), (60,))
    assert not path[0].any()
    assert np.abs(path[-1] - goal).max() < 0.05
    assert losses[-1] < losses[0] / 100
    field = module.everywhere(path[7], (16, 18))
    error = reference.deform_conv2d(x, field, weight) - target
    assert losses[7] == pytest.approx((error**2).mean())
    assert np.isclose(x.std(), 1)


def test_shared_offsets_find_their_goal():
    check_shared(learning)


@pytest.mark.parametrize(
    "fault",
    [("deform_conv2d(*layer, dilation=dilation) - target",
      "target - deform_conv2d(*layer, dilation=dilation)"),
     (".sum(axis=(0, 2, 3)).reshape(9, 2)", ".sum(axis=(0, 2, 3)).reshape(9, 2)[:, ::-1]"),
     ("path.append(offset.copy())", "path.append(offset)"),
     ("noise / noise.std()", "noise")],
)  # fmt: skip
def test_wrong_learning_is_noticed(fault):
    with pytest.raises(AssertionError):
        check_shared(spoilt(learning, *fault))


def check_report(module):
    rng = np.random.default_rng(0)
    test = module.scenes(rng, 6)
    plain, wide = module.network(rng), module.network(rng, dilation=2)
    far = wide | {"offset_bias": np.full(18, 17.5, np.float32)}
    reports = [module.report(net, *test) for net in (plain, wide, far)]
    assert [r["dilation"] for r in reports] == pytest.approx([1, 2, 1])
    assert [r["outside"] for r in reports] == pytest.approx([0, 0.03, 1], abs=0.07)
    assert module.report(far, *test, limit=0.0)["outside"] == 0
    certain = plain | {"head": 0 * plain["head"], "head_bias": np.array([30, 0, 0], np.float32)}
    told = module.report(certain, *test)
    assert told["accuracy"] == pytest.approx((test[1] == 0).mean())
    assert told["loss"] == pytest.approx(30 * (test[1] > 0).mean(), rel=0.1)


def test_the_report():
    check_report(learning)


@pytest.mark.parametrize(
    "fault",
    [("(dilation - 1) * R(3)", "dilation * R(3)"), ("(points >= MAP)", "(points >= 2 * MAP)"),
     ("label > 0", "label >= 0"), ("== label", "!= label")],
)  # fmt: skip
def test_a_wrong_report_is_noticed(fault):
    with pytest.raises(AssertionError):
        check_report(spoilt(learning, *fault))


def check_training(module):
    frozen, _ = module.train(0, beta=0, steps=6)
    slow, losses = module.train(0, beta=0.1, steps=6)
    again, same = module.train(0, beta=0.1, steps=6)
    assert not np.concatenate([frozen["offset"].ravel(), frozen["offset_bias"]]).any()
    assert 0 < np.abs(slow["offset"]).max() <= 6 * 0.1 * 0.03 * 1.01  # Adam's steps at the start
    assert np.abs(slow["layer"] - module.network(np.random.default_rng(0))["layer"]).max() > 0.05
    assert losses == same
    assert all(np.array_equal(slow[k], again[k]) for k in slow)
    assert all(a.dtype == np.float32 for a in slow.values())
    assert np.mean(module.train(0, beta=0.1, steps=30)[1][-5:]) < losses[0] / 2


def test_training():
    check_training(learning)


@pytest.mark.parametrize(
    "fault",
    [("(beta if name", "(1 if name"), ('startswith("offset")', 'startswith("layer")'),
     ("now * (beta", "-now * (beta"), ("np.random.default_rng(seed)", "np.random.default_rng()")],
)  # fmt: skip
def test_wrong_training_is_noticed(fault):
    with pytest.raises(AssertionError):
        check_training(spoilt(learning, *fault))
