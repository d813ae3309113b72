"""One solution for each exercise of notebook 10."""


def branch_parameters(C, kernel, groups):
    N = kernel[0] * kernel[1]
    outputs = 2 * N * groups
    return outputs * C * N + outputs


def deformable_work(C, D, H, W, k):
    layer = H * W * D * C * k * k
    branch = H * W * (2 * k * k) * C * k * k
    samples = H * W * k * k * C * 4
    return layer, branch, samples


def field_centre(layers):
    stride, centre = 1, 0.0
    for k, s, p, d in layers:
        centre += stride * (d * (k - 1) / 2 - p)
        stride *= s
    return stride, centre
