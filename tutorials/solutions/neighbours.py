"""One solution for each exercise of notebook 12."""

import numpy as np

from deformable_convnets.reference import deform_conv2d_backward, sample


def composed_warps(steps):
    A, t = np.eye(2), np.zeros(2)
    for A_step, t_step in steps:
        A, t = A @ A_step, A @ t_step + t
    return A, t


def active_gradient(grad_output, x, theta, weight):
    N, _, Ho, Wo = grad_output.shape
    offset = np.tile(theta.reshape(1, -1, 1, 1), (N, 1, Ho, Wo))
    grads = deform_conv2d_backward(grad_output, x, offset, weight)
    return grads.offset.sum(axis=(0, 2, 3)).reshape(-1, 2)


def steered_twice(Gyy, Gxy, Gxx, angle):
    u_y, u_x = np.sin(angle), np.cos(angle)
    return u_y**2 * Gyy + 2 * u_y * u_x * Gxy + u_x**2 * Gxx


def one_head(x, p, offset, logits):
    read = sample(x, p[:, None] + offset)
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    weights = e / e.sum(axis=1, keepdims=True)
    return (read * weights).sum(axis=-1).T
