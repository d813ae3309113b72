"""DeepLab: every parameter's gradient, steps with falling loss, and what it predicts."""

import numpy as np
import pytest

from deformable_convnets.reference.networks import Tape, deeplab, layers, primitives, resnet
from deformable_convnets.reference.networks.aligned_inception import aligned_inception
from deformable_convnets.reference.networks.optimisers import SGD

OPTIONS = {"width": 4, "blocks": (1, 1, 1, 2), "top": 8, "dtype": np.float64}
TRUNKS = {
    "ResNet-18": lambda rng: resnet.trunk(rng, 18, **OPTIONS),
    "ResNet-50": lambda rng: resnet.trunk(rng, 50, **OPTIONS, **resnet.TORCHVISION),
    "ResNet-101": lambda rng: resnet.trunk(rng, 101, **OPTIONS),
    "Aligned-Inception-ResNet": lambda rng: aligned_inception(rng, **OPTIONS),
}
every_trunk = pytest.mark.parametrize("name", TRUNKS)


def network(name, moved=True):
    """Of 4 classes, the last 2 layers deformable, with branches that are not zero."""
    rng = np.random.default_rng(1)
    net = deeplab.deeplab(rng, TRUNKS[name](rng), 4, channels=8, dtype=np.float64)
    net = layers.deformable(net, resnet.last(net, 2))
    for path, a in layers.parameters(net).items():
        if ".branch." in path and moved:
            a += 0.2 * rng.normal(size=a.shape)
    return net


def pictures(N=1):
    """Squares on noise, and their pixels, with some that do not count."""
    rng = np.random.default_rng(2)
    images = rng.normal(size=(N, 3, 35, 48))
    labels = np.zeros((N, 35, 48), int)
    for n in range(N):
        kind, y, x = rng.integers(1, 4), *rng.integers(0, 16, 2)
        labels[n, y : y + 18, x : x + 24] = kind
        images[n, kind - 1, y : y + 18, x : x + 24] += 3
    labels[:, :2] = -1
    return images, labels


def assert_gradients(net, compute):
    """Along a random direction of each parameter, by a central difference.

    The step is 2^-20: with some ten thousand ReLUs hardly one changes its side within it.
    """
    images, labels = pictures()
    trained = layers.parameters(net)
    tape = Tape(trained)
    gradients = tape.gradients(compute(net, tape, images, labels))
    rng, h = np.random.default_rng(3), 2.0**-20
    for name, a in trained.items():
        v, kept = rng.normal(size=a.shape), a.copy()
        ends = []
        for t in (h, -h):
            a[...] = kept + t * v
            ends.append(float(deeplab.loss(net, Tape(), images, labels)))
        a[...] = kept
        found = float((gradients[name] * v).sum())
        assert abs((ends[0] - ends[1]) / (2 * h) - found) <= 1e-8 + 1e-5 * abs(found), name
        assert abs(found) > 1e-6, name


@every_trunk
def test_gradients(name):
    net = network(name)
    assert_gradients(net, deeplab.loss)
    assert sum(".branch." in path for path in layers.parameters(net)) == 4


def test_another_gradient_is_seen(monkeypatch):
    right = primitives.relu_backward
    monkeypatch.setattr(
        primitives, "relu_backward", lambda g, x: primitives.XGrads(right(g, x).x * 1.001)
    )
    with pytest.raises(AssertionError):
        assert_gradients(network("ResNet-50"), deeplab.loss)


@every_trunk
def test_it_learns(name):
    net, (images, labels) = network(name, moved=False), pictures(2)
    trained, optimiser, values = layers.parameters(net), SGD(momentum=0.9), []
    for _ in range(8):
        tape = Tape(trained)
        value = deeplab.loss(net, tape, images, labels)
        values.append(float(value))
        optimiser.step(trained, tape.gradients(value), 0.005)
    assert values[-1] < 0.8 * values[0]
    branches = [a for path, a in trained.items() if ".branch." in path]
    assert all(abs(a).max() > 0 for a in branches)


def test_scores_and_classes():
    net, (images, _) = network("ResNet-18"), pictures(2)
    scores = net(Tape(), images)
    cells = net.cells(Tape(), images)
    assert scores.shape == (2, 4, 35, 48)
    assert cells.shape == (2, 4, 3, 3)
    corners = np.ix_(range(2), range(4), (0, -1), (0, -1))
    np.testing.assert_allclose(scores[corners], cells[corners], rtol=1e-12)
    classes = deeplab.predict(net, images)
    np.testing.assert_array_equal(classes, scores.argmax(axis=1))


def test_what_is_refused():
    net, (images, labels) = network("ResNet-18"), pictures()
    with pytest.raises(ValueError, match="a label is 4, expected 0 to 3, or -1, which is ignored"):
        deeplab.loss(net, Tape(), images, np.where(labels == 1, 4, labels) | (labels == 0) * 4)
    with pytest.raises(ValueError, match="expected at least 16 x 16"):
        net(Tape(), images[:, :, :12])
    with pytest.raises(ValueError, match="classes is 1, expected 2 or more"):
        deeplab.deeplab(np.random.default_rng(0), net.trunk, 1)
    for nothing in (-1, 255):  # no pixel counts
        labels[...] = nothing
        assert float(deeplab.loss(net, Tape(), images, labels, ignored=nothing)) == 0
