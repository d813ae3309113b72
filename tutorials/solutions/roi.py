"""One solution for each exercise of notebook 7."""

import numpy as np

from deformable_convnets.reference import (
    deform_ps_roi_pool,
    deform_roi_pool,
    equations,
    from_layout,
    roi_pool,
    sample_backward,
)


def gather_maps(x, rois, k):
    maps = x.reshape(1, -1, k, k, *x.shape[2:])
    y = np.zeros((len(rois), maps.shape[1], k, k))
    for i, j in np.ndindex(k, k):
        y[:, :, i, j] = roi_pool(maps[:, :, i, j], rois, k)[:, :, i, j]
    return y


def centred_pool(x, rois, k, samples):
    half_a_step = 1 / (2 * k * samples)
    offset = np.full((len(rois), 2, k, k), half_a_step / 0.1)
    return deform_roi_pool(x, rois, offset, k, bins="mxnet", samples=samples)


def authors_call(data, rois, trans, pooled_size, group_size, sample_per_part, trans_std):
    offset = from_layout(trans, "mxnet-roi").offset
    return deform_ps_roi_pool(
        data, rois, offset, pooled_size,
        group_size=group_size, gamma=trans_std, bins="mxnet", samples=sample_per_part,
    )  # fmt: skip


def bin_offset_gradient(grad_output, x, rois, offset, k):
    grad = np.zeros_like(offset)
    pooling = equations.Pooling(x, rois, offset, (k, k), gamma=0.1, part=(k, k))
    for r, i, j in np.ndindex(len(rois), k, k):
        points = np.array(pooling.points(r, 0, i, j))
        shares = np.repeat(grad_output[r, :, i, j, None] / len(points), len(points), axis=1)
        slope = sample_backward(shares, x[0], points).p.sum(axis=0)
        grad[r, :, i, j] = slope * 0.1 * np.array(pooling.size(r))
    return grad
