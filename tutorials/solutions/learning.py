"""One solution for each exercise of notebook 5."""

import numpy as np

from deformable_convnets.reference import (
    conv2d,
    conv2d_backward,
    deform_conv2d,
    deform_conv2d_backward,
    deform_conv_module_backward,
    sampling_points,
)


def branch_gradient(grad_output, x, offset_weight, offset_bias, weight):
    offset = conv2d(x, offset_weight, offset_bias)
    grad_offset = deform_conv2d_backward(grad_output, x, offset, weight).offset
    return conv2d_backward(grad_offset, x, offset_weight, offset_bias).weight


def stops_learning(offset, size):
    p = sampling_points(offset, 3, padding=1)
    return ((p <= -1) | (p >= np.array(size))).any(axis=-1)


def one_step(grad_output, x, offset_weight, offset_bias, weight, rate, beta):
    grads = deform_conv_module_backward(grad_output, x, offset_weight, offset_bias, weight)
    return (
        offset_weight - beta * rate * grads.offset_weight,
        offset_bias - beta * rate * grads.offset_bias,
        weight - rate * grads.weight,
    )


def quarter_turn(x, target, weight):
    offset = np.zeros(18)
    for _ in range(150):
        field = np.tile(offset.reshape(1, 18, 1, 1), (1, 1, *target.shape[2:]))
        error = deform_conv2d(x, field, weight) - target
        grads = deform_conv2d_backward(2 * error / error.size, x, field, weight)
        offset -= 1.0 * grads.offset.sum(axis=(0, 2, 3))
    return np.round(offset.reshape(9, 2))
