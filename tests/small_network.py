"""A network of a few numbers, with every kind of layer."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from deformable_convnets.reference.networks import layers
from deformable_convnets.reference.networks.layers import BatchNorm, Conv2d


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
