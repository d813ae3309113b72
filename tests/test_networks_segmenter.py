"""The small segmentation network of the experiments: its sums, and where its ReLUs stand."""

import numpy as np

from deformable_convnets import reference
from deformable_convnets.reference.networks import Tape, segmenter

WIDTH = 4
BLOCKS = ("res4a", "res5a", "res5b")


def scores(net, x, relu_first=False):
    """A block adds to what it is given, and a ReLU follows the sum."""
    for layer, stride in zip(net.stem, (2, 2, 1), strict=True):
        x = np.maximum(reference.conv2d(x, layer.weight, layer.bias, stride=stride, padding=1), 0)
    for name in BLOCKS:
        layer, d = getattr(net, name), 2 if name.startswith("res5") else 1
        more = reference.conv2d(x, layer.weight, layer.bias, padding=d, dilation=d)
        x = x + np.maximum(more, 0) if relu_first else np.maximum(x + more, 0)
    return reference.conv2d(x, net.head.weight, net.head.bias)


def test_the_network_by_hand():
    net = segmenter.segmenter(np.random.default_rng(0), 3, width=WIDTH, blocks=BLOCKS)
    x = np.random.default_rng(1).standard_normal((2, 1, 12, 16), np.float32)
    found = net(Tape(), x)
    assert found.shape == (2, 3, 3, 4)
    assert net.res4b is None
    np.testing.assert_array_equal(found, scores(net, x))
    assert abs(found - scores(net, x, relu_first=True)).max() > 0.01
