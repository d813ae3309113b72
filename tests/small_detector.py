"""A detector of a few numbers, and pictures for it."""

import numpy as np

from deformable_convnets.reference.networks import detector, layers, scale_world


def new(head, deformed=False, dtype=np.float64):
    """A detector of few numbers; deformed: with branches that are not zero any more."""
    blocks = ("res4a", "res5c")
    net = detector.detector(
        np.random.default_rng(1), 5, head=head, width=8, blocks=blocks, dtype=dtype
    )
    if not deformed:
        return net
    net = layers.deformable(net, [*detector.roi_layers(net), "res5c"])
    rng = np.random.default_rng(2)
    for name, a in layers.parameters(net).items():
        if ".branch." in name:
            a += (0.2 * rng.normal(size=a.shape)).astype(dtype)
    return net


def scenes(count=2, seed=0, size=32):
    rng = np.random.default_rng(seed)
    return [scale_world.scene(rng, size) for _ in range(count)]


def drawn(count=2, dtype=np.float64, **options):
    made = detector.batch(np.random.default_rng(3), scenes(count), **options)
    return made._replace(images=made.images.astype(dtype))


def empty_scene(size=32):
    image = np.random.default_rng(0).normal(size=(1, size, size)).astype(np.float32)
    return scale_world.Scene(image, ())
