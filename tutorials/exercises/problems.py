"""What the exercises draw, and the right answers that the library does not have as a function."""

import numpy as np

import deformable_convnets.reference as reference


def plain(rng):
    return rng.normal(size=(2, 3, 6, 8)), rng.normal(size=(4, 3, 3, 3))


def points(rng):
    return rng.normal(size=(2, 5, 7)), rng.uniform((-1.4, -1.4), (5.4, 7.4), (12, 2))


def layer(rng, G=1):
    """x, offset and weight of a 3x3 layer."""
    x, weight = rng.normal(size=(1, 4, 6, 8)), rng.normal(size=(2, 4, 3, 3))
    return x, rng.uniform(-1.2, 1.2, (1, 2 * G * 9, 4, 6)), weight


def backward(rng):
    return rng.normal(size=(1, 2, 4, 6)), *layer(rng)


def backward_at_zero(rng):
    """Small whole numbers and a zero offset: differences with a step of 2^-k are exact."""
    x, weight, grad_output = (
        rng.integers(-4, 5, size).astype(float)
        for size in ((1, 2, 5, 6), (2, 2, 3, 3), (1, 2, 3, 4))
    )
    return grad_output, x, np.zeros((1, 18, 3, 4)), weight


def module(rng):
    branch = rng.normal(size=(18, 4, 3, 3)) / 6, rng.normal(size=18) / 3
    grad_output, x, _, weight = backward(rng)
    return grad_output, x, *branch, weight


def stack(rng):
    return tuple(tuple(int(v) for v in rng.choice(c, 4)) for c in ((3, 5, 7), (1, 2), (1, 2, 4)))


def field_of(kernels, strides, dilations):
    """The receptive field of a stack of convolutions, in pixels of the input."""
    steps = np.cumprod((1, *strides))
    return 1 + sum(int(s) * d * (k - 1) for s, d, k in zip(steps, dilations, kernels, strict=False))


LIBRARIES = ("torchvision", "chainer", "dcnv3")


def stretched(Ho=3, Wo=5):
    """The offset field of a filter that is 1.5 times as tall, and no wider."""
    move = (reference.R(3) * (0.5, 0.0)).reshape(1, 18, 1, 1)
    return np.tile(move, (1, 1, Ho, Wo))


def mystery(rng):
    return (reference.to_layout(stretched(), LIBRARIES[rng.integers(3)], 3),)


def which_library(array):
    for name in LIBRARIES:
        try:
            offset = reference.from_layout(array, name, 3).offset
        except ValueError:
            continue
        if np.array_equal(offset, stretched(*offset.shape[2:])):
            return name


def crosses(p, step):
    """Whether p - step and p + step lie in different cells, for y or x."""
    return (np.floor(p - step) != np.floor(p + step)).any(axis=-1)


def near_the_grid(rng):
    p = rng.integers(0, 4, (40, 2)) + rng.choice([0.0, 1e-4, 0.002, 0.3, 0.5, 0.999], (40, 2))
    return p, float(rng.choice([1e-3, 1e-2]))


def dense(p, size, **options):
    return tuple(matrix.toarray() for matrix in reference.dG(p, size, **options))


def where(rng):
    return points(rng)[1], (5, 7)


def overwritten(grad_output, x, offset, weight):
    """The gradient of x of an assignment that forgets all but the last value of a pixel."""
    by_tap = weight.reshape(*weight.shape[:2], -1)
    grad_samples = np.einsum("ohw,ock->ckhw", grad_output[0], by_tap).reshape(len(x[0]), -1)
    entries = reference.G(reference.sampling_points(offset, 3), x.shape[2:]).tocoo()
    grad = np.zeros((len(x[0]), x[0, 0].size))
    grad[:, entries.col] = entries.data * grad_samples[:, entries.row]
    return grad.reshape(x.shape)
