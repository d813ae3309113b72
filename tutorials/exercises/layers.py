"""The exercises of notebooks 3 and 4, and those of 13; see `exercises`."""

import numpy as np

import deformable_convnets.reference as reference
from deformable_convnets.reference.oracle.mistakes import MISTAKES, Mistake

from .grading import Exercise, of_operator
from .problems import (
    any_layer,
    anywhere,
    backward,
    backward_at_zero,
    layer,
    module,
    mystery,
    not_a_number,
    of_one_point,
    overwritten,
    read_one,
    where_finite,
    which_library,
    without_max,
)


def by_halves(offsets, channels=lambda C: (slice(None, C // 2), slice(C // 2, None))):
    """Two groups as two layers, with the offsets that `offsets` gives each of them."""

    def run(x, offset, weight):
        halves = zip(channels(x.shape[1]), offsets(offset), strict=True)
        return sum(reference.deform_conv2d(x[:, c], o, weight[:, c]) for c, o in halves)

    return run


def halved_outputs(x, offset, weight):
    """Each half of the output from one half of x."""
    o, c, n = len(weight) // 2, x.shape[1] // 2, offset.shape[1] // 2
    first = reference.deform_conv2d(x[:, :c], offset[:, :n], weight[:o, :c])
    second = reference.deform_conv2d(x[:, c:], offset[:, n:], weight[o:, c:])
    return np.concatenate([first, second], axis=1)


def not_moved(*args):
    """The gradient K Ho Wo 2 of the points, reshaped to that of the offset as it is."""
    grad = reference.deform_conv2d_backward(*args).offset
    return np.moveaxis(grad.reshape(-1, 2, *grad.shape[2:]), 1, -1).reshape(grad.shape)


def without_bias(grad_output, x, offset_weight, offset_bias, weight):
    layer = x, offset_weight, 0 * offset_bias, weight
    return reference.deform_conv_module_backward(grad_output, *layer).x


EXERCISES = {
    "gather_and_sum": of_operator(
        "deform_conv2d",
        any_layer,
        "sampling_points(offset, kernel_size) gives every p, and sample(x[0], p[0, 0]) reads them.",
        "The samples are C K Ho Wo; the weight, as O C K, sums over C and K.",
    ),
    "two_groups": of_operator(
        "deform_conv2d",
        lambda rng: layer(rng, G=2),
        "Equation (2) is a sum over channels: the first half of them is a layer of its own.",
        "Channels 0 to 17 of the offset move the first C/2 channels of x, the rest the others.",
        own=(
            Mistake(
                "the offsets of the two groups exchanged",
                by_halves(lambda o: (o[:, o.shape[1] // 2 :], o[:, : o.shape[1] // 2])),
            ),
            Mistake(
                "every other channel of the offset, not one half and the other",
                by_halves(lambda o: (o[:, ::2], o[:, 1::2])),
            ),
            Mistake("output channels halved too, each half from one group", halved_outputs),
        ),
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
        own=(Mistake("K Ho Wo 2 reshaped as it is, its last axis not moved", not_moved),),
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
        own=(Mistake("the bias of the branch forgotten", without_bias),),
    ),
    "first_kernel": of_operator(
        "deform_conv2d",
        layer,
        "The report's diagnosis says in which order the kernel wants the channels of the offset.",
        "Ours is (9, 2): reshape to 1 9 2 Ho Wo, turn dy and dx round, then exchange the two axes.",
    ),
    "second_kernel": of_operator(
        "deform_conv2d",
        layer,
        "With zero offset it is not a convolution: diagnose such a result first.",
        "Undo the first mistake in the arguments, then diagnose again, with offsets.",
    ),
    "read_anywhere": Exercise(
        read_one,
        anywhere,
        (
            "With of_y and of_x, a weight for each row and column, it is one sum over y and x.",
            'np.einsum("y,x,cyx->c", of_y, of_x, image); NumPy\'s maximum of 0 and NaN is NaN.',
        ),
        (
            Mistake("0 where a coordinate is NaN", lambda *a: np.nan_to_num(read_one(*a))),
            Mistake("NaN where a coordinate is infinite", not_a_number),
            Mistake("1 - |q - p| without max(0, .)", without_max),
            *(Mistake(m.name, of(m.run)) for m in MISTAKES["sample"]
              for of in (of_one_point, where_finite)),
        ),
        problems=24,
    ),
}  # fmt: skip

# The operator's own mistake visits the samples pixel by pixel, a learner's tap by tap.
OVERWRITING = Mistake("a gradient of x that overwrites instead of adding", overwritten)
EXERCISES["input_gradient"].wrong += (OVERWRITING,)
