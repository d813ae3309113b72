"""The exercises of notebooks 1 and 2, on fixed grids and on samples; see `exercises`."""

import numpy as np

import deformable_convnets.reference as reference
from deformable_convnets.reference.oracle.mistakes import Mistake

from .grading import Exercise, of_operator
from .problems import (
    border_points,
    crosses,
    dense,
    field_of,
    near_the_grid,
    plain,
    points,
    stack,
    where,
)


def taps_first(x, weight):
    """A product with columns of which the taps are stacked outside the channels."""
    O, C, kh, kw = weight.shape
    mixed = weight.reshape(O, kh * kw, C).swapaxes(1, 2).reshape(weight.shape)
    return reference.conv2d(x, mixed)


def own_strides(kernels, strides, dilations):
    """A field whose steps are the stride of the layer before, not the product of all before."""
    steps = zip((1, *strides), dilations, kernels, strict=False)
    return 1 + sum(s * d * (k - 1) for s, d, k in steps)


def nearest(x, p):
    return reference.sample(x, np.clip(np.round(p), 0, np.array(x.shape[1:]) - 1))


def slope_alone(p, size):
    """The slope of the y factor, without the weights along x."""
    of_rows = dense(p * (1, 0), (size[0], 1))[0]
    return np.repeat(of_rows, size[1], axis=1)


def other_end(p, step, of=np.any):
    """Whether p and p + step lie in different cells."""
    return of(np.floor(p) != np.floor(p + step), axis=-1)


def repeated(x, p, inside):
    """The map with its last row and column repeated, times a test of the points."""
    edge = np.pad(x, ((0, 0), (0, 1), (0, 1)), mode="edge")
    return reference.sample(edge, p) * inside(p, np.array(x.shape[1:]))


EXERCISES = {
    "grid": Exercise(
        lambda k, d: reference.R(k, dilation=d),
        lambda rng: (int(rng.choice([3, 5, 7])), int(rng.integers(2, 5))),
        (
            "The taps of one axis are (0, 1, ..., k - 1) minus the centre, times d.",
            "Two nested loops over that list, y outside and x inside, give the rows of R.",
        ),
        (
            Mistake("taps written (x, y)", lambda k, d: reference.R(k, dilation=d)[:, ::-1]),
            Mistake("a grid that starts at its corner", lambda k, d: d * (reference.R(k) + k // 2)),
            Mistake("the dilation forgotten", lambda k, d: reference.R(k)),
        ),
    ),
    "conv_by_columns": of_operator(
        "conv2d",
        plain,
        "Each of the K taps gives one row per channel: x shifted by the tap, C Ho Wo numbers.",
        "Stack them as C K P with P = Ho Wo; weight.reshape(O, -1) multiplies that as (C K) P.",
        own=(Mistake("columns K C P, with the taps stacked before the channels", taps_first),),
    ),
    "receptive_field": Exercise(
        field_of,
        stack,
        (
            "One layer alone sees 1 + d (k - 1) of its own input pixels.",
            "A step on the input of layer i is the product of the strides of the layers before.",
        ),
        (
            Mistake("the dilation forgotten", lambda k, s, d: field_of(k, s, (1,) * len(d))),
            Mistake("the strides forgotten", lambda k, s, d: field_of(k, (1,) * len(s), d)),
            Mistake(
                "the stride of a layer counted in its own step",
                lambda k, s, d: 1 + s[0] * (field_of(k, (*s[1:], 1), d) - 1),
            ),
            Mistake("the stride of the layer before alone, not the product", own_strides),
            Mistake(
                "the layers taken last first", lambda k, s, d: field_of(k[::-1], s[::-1], d[::-1])
            ),
            Mistake("the missing 1", lambda k, s, d: field_of(k, s, d) - 1),
        ),
    ),
    "bilinear": of_operator(
        "sample",
        points,
        "g takes arrays: g(rows, p[:, :1]) has one row per point and one column per row of x.",
        'np.einsum("py,px,cyx->cp", of_y, of_x, x) is the double sum over q.',
        own=(Mistake("the nearest pixel of the map, without interpolation", nearest),),
    ),
    "slope_y": Exercise(
        lambda p, size: dense(p, size)[0],
        where,
        (
            "Equation (4) is a product, and only g(q_y, p_y) depends on p_y.",
            "The right-hand slope of g(q, p) is +1 for p in [q - 1, q) and -1 in [q, q + 1).",
        ),
        (
            Mistake(
                "the left-hand derivative at whole p_y",
                lambda p, size: dense(p, size, side="left")[0],
            ),
            Mistake(
                "a slope of 0 at whole p_y",
                lambda p, size: dense(p, size)[0] * (p[:, :1] % 1 != 0),
            ),
            Mistake("G_x, not G_y", lambda p, size: dense(p, size)[1]),
            Mistake("the opposite sign of the derivative", lambda p, size: -dense(p, size)[0]),
            Mistake("G, not its derivative", lambda p, size: reference.G(p, size).toarray()),
            Mistake("columns numbered x first", lambda p, size: dense(p[:, ::-1], size[::-1])[1]),
            Mistake("H and W exchanged", lambda p, size: dense(p, size[::-1])[0]),
            Mistake("the weights along x, g(q_x, p_x), forgotten", slope_alone),
        ),
    ),
    "differences_fail": Exercise(
        crosses,
        near_the_grid,
        (
            "Inside one cell the sample is linear in p_y and in p_x, and the difference is exact.",
            "p - step and p + step lie in one cell when their floors are the same.",
        ),
        (
            Mistake("the check along y alone", lambda p, step: crosses(p[:, :1], step)),
            Mistake("the check along x alone", lambda p, step: crosses(p[:, 1:], step)),
            Mistake(
                "along y and along x, where one is enough", lambda p, s: crosses(p, s, np.all)
            ),
            Mistake("the end p + step compared with p, not with p - step", other_end),
            Mistake(
                "the end p - step compared with p, not with p + step",
                lambda p, step: other_end(p - step, step),
            ),
            Mistake("whole coordinates alone", lambda p, step: (p % 1 == 0).any(axis=-1)),
            Mistake("the answer to where they work", lambda p, step: ~crosses(p, step)),
        ),
    ),
    "authors_border": of_operator(
        "sample",
        border_points,
        "Inside the map the rule repeats the last row and column: np.pad with mode='edge'.",
        "Outside 0 <= y < H, 0 <= x < W the value is 0: multiply by the test.",
        own=(
            Mistake(
                "points outside that are not 0", lambda x, p: repeated(x, p, lambda p, n: True)
            ),
            Mistake(
                "0 where the point is outside along both axes, not along either",
                lambda x, p: repeated(x, p, lambda p, n: ((p >= 0) & (p < n)).any(axis=1)),
            ),
            Mistake(
                "p <= H and p <= W, where the rule has p < H and p < W",
                lambda x, p: repeated(x, p, lambda p, n: ((p >= 0) & (p <= n)).all(axis=1)),
            ),
        ),
        border="dcnv1",
    ),
}  # fmt: skip
