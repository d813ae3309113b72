"""The exercises of notebooks 1 to 4, and those of 13; see `exercises`."""

import deformable_convnets.reference as reference
from deformable_convnets.reference.oracle.mistakes import Mistake

from .grading import Exercise, of_operator
from .problems import (
    backward,
    backward_at_zero,
    crosses,
    dense,
    field_of,
    layer,
    module,
    mystery,
    near_the_grid,
    overwritten,
    plain,
    points,
    stack,
    where,
    which_library,
)

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
            Mistake("the missing 1", lambda k, s, d: field_of(k, s, d) - 1),
        ),
    ),
    "bilinear": of_operator(
        "sample",
        points,
        "g takes arrays: g(rows, p[:, :1]) has one row per point and one column per row of x.",
        'np.einsum("py,px,cyx->cp", of_y, of_x, x) is the double sum over q.',
    ),
    "slope_y": Exercise(
        lambda p, size: dense(p, size)[0],
        where,
        (
            "Equation (4) is a product, and only its first factor depends on p_y.",
            "The right-hand slope of g(q, p) is +1 for p in [q - 1, q) and -1 in [q, q + 1).",
        ),
        (
            Mistake("G_x, not G_y", lambda p, size: dense(p, size)[1]),
            Mistake("the opposite sign of the derivative", lambda p, size: -dense(p, size)[0]),
            Mistake("G, not its derivative", lambda p, size: reference.G(p, size).toarray()),
            Mistake("columns numbered x first", lambda p, size: dense(p[:, ::-1], size[::-1])[1]),
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
            Mistake("whole coordinates alone", lambda p, step: (p % 1 == 0).any(axis=-1)),
            Mistake("the answer to where they work", lambda p, step: ~crosses(p, step)),
        ),
    ),
    "authors_border": of_operator(
        "sample",
        points,
        "Inside the map the rule repeats the last row and column: np.pad with mode='edge'.",
        "Outside 0 <= y < H, 0 <= x < W the value is 0: multiply by the test.",
        border="dcnv1",
    ),
    "gather_and_sum": of_operator(
        "deform_conv2d",
        layer,
        "sampling_points(offset, kernel_size) gives every p, and sample(x[0], p[0, 0]) reads them.",
        "The samples are C K Ho Wo; the weight, as O C K, sums over C and K.",
    ),
    "two_groups": of_operator(
        "deform_conv2d",
        lambda rng: layer(rng, G=2),
        "Equation (2) is a sum over channels: the first half of them is a layer of its own.",
        "Channels 0 to 17 of the offset move the first C/2 channels of x, the rest the others.",
    ),
    "which_library": Exercise(
        which_library,
        mystery,
        (
            "from_layout(array, name, 3).offset is the field in our order, if the name is right.",
            "A wrong name either raises ValueError or gives a field that is no stretch.",
        ),
        problems=6,
    ),
    "offset_gradient": of_operator(
        "deform_conv2d_backward.offset",
        backward,
        "Each sample has its own gradient: w(p_n) times grad_output, summed over output channels.",
        "sample_backward(grad_samples, x[0], p[0, 0]).p is K Ho Wo 2; the offset is (K 2) Ho Wo.",
    ),
    "offset_gradient_at_zero": of_operator(
        "deform_conv2d_backward.offset",
        backward_at_zero,
        "A central difference across a kink is the mean of two different slopes.",
        "The right-hand derivative only looks to the right: (y(offset + h) - y(offset)) / h.",
    ),
    "input_gradient": of_operator(
        "deform_conv2d_backward.x",
        backward,
        "Several samples read the same pixel, and each of them sends its share back.",
        "a[index] += b adds once per different index; np.add.at(a, index, b) adds every time.",
    ),
    "module_gradient": of_operator(
        "deform_conv_module_backward.x",
        module,
        "Call conv2d for the offsets, then deform_conv2d_backward: that is the sampling term.",
        "The gradient of the offset is the grad_output of the branch: conv2d_backward.",
    ),
    "first_kernel": of_operator(
        "deform_conv2d",
        layer,
        "The report's diagnosis says in which order the kernel wants the channels of the offset.",
        "An offset of our order, (9, 2) channels of dy and dx, becomes theirs by to_layout.",
    ),
    "second_kernel": of_operator(
        "deform_conv2d",
        layer,
        "With zero offset it is not a convolution: diagnose such a result first.",
        "Undo the first mistake in the arguments, then diagnose again, with offsets.",
    ),
}  # fmt: skip

# The operator's own mistake visits the samples pixel by pixel, a learner's tap by tap.
OVERWRITING = Mistake("a gradient of x that overwrites instead of adding", overwritten)
EXERCISES["input_gradient"].wrong += (OVERWRITING,)
