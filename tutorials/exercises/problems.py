"""What the exercises draw, and the right answers that the library does not have as a function."""

import numpy as np

import deformable_convnets.reference as reference

KERNELS = (3, 3), (3, 2), (1, 3)


def plain(rng):
    return rng.normal(size=(2, 3, 6, 8)), rng.normal(size=(4, 3, *rng.choice(KERNELS)))


def points(rng):
    return rng.normal(size=(2, 5, 7)), rng.uniform((-1.4, -1.4), (5.4, 7.4), (12, 2))


def border_points(rng):
    """As `points`, and one exactly at H and one at W."""
    x, p = points(rng)
    p[:2] = (5.0, 2.3), (1.6, 7.0)
    return x, p


def layer(rng, G=1, kernel=(3, 3)):
    """x, offset and weight of a layer."""
    kh, kw = kernel
    x, weight = rng.normal(size=(1, 4, 6, 8)), rng.normal(size=(2, 4, kh, kw))
    return x, rng.uniform(-1.2, 1.2, (1, 2 * G * kh * kw, 7 - kh, 9 - kw)), weight


def any_layer(rng):
    return layer(rng, kernel=rng.choice(KERNELS))


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


def crosses(p, step, of=np.any):
    """Whether p - step and p + step lie in different cells, for y or x."""
    return of(np.floor(p - step) != np.floor(p + step), axis=-1)


def near_the_grid(rng):
    p = rng.integers(0, 4, (40, 2)) + rng.choice([0.0, 1e-4, 0.002, 0.3, 0.5, 0.9995], (40, 2))
    return p, float(rng.choice([1e-3, 1e-2]))


def dense(p, size, **options):
    return tuple(matrix.toarray() for matrix in reference.dG(p, size, **options))


def where(rng):
    """Points, every third of them a pixel or next to the map."""
    p = points(rng)[1]
    p[::3] = np.round(p[::3])
    return p, (5, 7)


def overwritten(grad_output, x, offset, weight):
    """The gradient of x of an assignment that forgets all but the last value of a pixel."""
    by_tap = weight.reshape(*weight.shape[:2], -1)
    grad_samples = np.einsum("ohw,ock->ckhw", grad_output[0], by_tap).reshape(len(x[0]), -1)
    entries = reference.G(reference.sampling_points(offset, 3), x.shape[2:]).tocoo()
    grad = np.zeros((len(x[0]), x[0, 0].size))
    grad[:, entries.col] = entries.data * grad_samples[:, entries.row]
    return grad.reshape(x.shape)


def anywhere(rng):
    """A map and one point: in every other problem, a coordinate may be infinite or NaN."""
    p = rng.uniform((-1.7, -1.7), (4.7, 6.7))
    if rng.integers(0, 2):
        odd = rng.choice([np.nan, np.inf, -np.inf, 1.0, 0.5, 2.5], 2)
        p = np.where(rng.integers(0, 3, 2) > 0, odd, p)
    return rng.normal(size=(3, 4, 6)), float(p[0]), float(p[1])


def of_one_point(run):
    """A function of a map and points, as one of a map, py and px."""
    return lambda image, py, px: run(image, np.array([[py, px]]))[:, 0]


read_one = of_one_point(reference.sample)


def where_finite(run):
    """`run` of a map and points, but the right result at a point that is not finite."""

    def one(image, py, px):
        finite = np.isfinite(py) and np.isfinite(px)
        return of_one_point(run)(image, py, px) if finite else read_one(image, py, px)

    return one


def without_max(image, py, px):
    """Weights 1 - |q - p| for all rows and columns, also below 0."""
    of_y = 1 - np.abs(np.arange(image.shape[1]) - py)
    of_x = 1 - np.abs(np.arange(image.shape[2]) - px)
    with np.errstate(all="ignore"):
        return np.einsum("y,x,cyx->c", of_y, of_x, image)


def not_a_number(image, py, px):
    return read_one(image, py, px) if np.isfinite(py + px) else np.full(len(image), np.nan)
