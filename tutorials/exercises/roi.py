"""The exercises of notebook 7, on RoI pooling; see `exercises`."""

import numpy as np

import deformable_convnets.reference as reference
from deformable_convnets.reference.oracle.mistakes import MISTAKES, Mistake

from .grading import Exercise, of_operator


def boxes(rng, R=3):
    """RoIs with fractional corners, on a map of 12x14 pixels and a little beyond."""
    first = rng.uniform((-1, -1), (6, 5), (R, 2))
    return np.concatenate([np.zeros((R, 1)), first, first + rng.uniform(4, 9, (R, 2))], axis=1)


def score_maps(rng):
    return rng.normal(size=(1, 2 * 9, 12, 14)), boxes(rng), 3


def sampled(rng):
    k, samples = int(rng.integers(2, 5)), int(rng.choice([1, 2, 4]))
    return rng.normal(size=(1, 2, 12, 14)), boxes(rng), k, samples


def theirs(rng):
    k = 3
    data, trans = rng.normal(size=(1, 4 * k * k, 12, 14)), rng.uniform(-1, 1, (3, 4, k, k))
    return data, boxes(rng), trans, k, k, int(rng.choice([2, 4])), float(rng.choice([0.1, 0.25]))


def backward(rng):
    k = 3
    x, offset = rng.normal(size=(1, 2, 12, 14)), rng.uniform(-1, 1, (3, 2, k, k))
    return rng.normal(size=(3, 2, k, k)), x, boxes(rng), offset, k


def centred(x, rois, k, samples, steps=0.5, gamma=0.1):
    """The authors' points, each moved by so many of their distances."""
    offset = np.full((len(rois), 2, k, k), steps / (k * samples * gamma))
    return reference.deform_roi_pool(x, rois, offset, k, bins="mxnet", samples=samples)


def ours(run, order=lambda offset: offset):
    """Their arguments, given to `run` as ours."""

    def call(data, rois, trans, pooled_size, group_size, sample_per_part, trans_std):
        offset = order(reference.from_layout(trans, "mxnet-roi").offset)
        options = {"bins": "mxnet", "samples": sample_per_part, "gamma": trans_std}
        return run(data, rois, offset, pooled_size, group_size=group_size, **options)

    return call


EXERCISES = {
    "gather_maps": of_operator(
        "ps_roi_pool",
        score_maps,
        "x.reshape(1, -1, k, k, H, W)[:, :, i, j] are the score maps of bin (i, j), 1 Cout H W.",
        "Pool them with roi_pool, and keep bin (i, j) of the result.",
    ),
    "centred_pool": Exercise(
        centred,
        sampled,
        (
            "Two neighbouring points are 1 / (k samples) of the RoI apart; go half that way.",
            "A normalised offset is multiplied by gamma (h, w), and gamma is 0.1: divide by it.",
        ),
        (
            Mistake("the authors' points, not moved", lambda *a: centred(*a, steps=0)),
            Mistake("the opposite sign of the offset", lambda *a: centred(*a, steps=-0.5)),
            Mistake("a whole step, not half of one", lambda *a: centred(*a, steps=1)),
            Mistake("gamma forgotten", lambda *a: centred(*a, gamma=1)),
            Mistake(
                "half a step of bins, not of sub-bins",
                lambda x, rois, k, samples: centred(x, rois, k, samples, steps=samples / 2),
            ),
            Mistake(
                "a step of the RoI, the number of bins forgotten",
                lambda x, rois, k, samples: centred(x, rois, k, samples, steps=k / 2),
            ),
            Mistake(
                "RoIAlign, whose RoI has another size",
                lambda x, rois, k, samples: reference.roi_pool(
                    x, rois, k, bins="align", samples=samples
                ),
            ),
        ),
    ),
    "authors_call": Exercise(
        ours(reference.deform_ps_roi_pool),
        theirs,
        (
            'from_layout(trans, "mxnet-roi").offset has y first; it needs no kernel size.',
            'deform_ps_roi_pool(..., gamma=trans_std, group_size=..., bins="mxnet", samples=...).',
        ),
        tuple(Mistake(m.name, ours(m.run)) for m in MISTAKES["deform_ps_roi_pool"]),
    ),
    "bin_offset_gradient": of_operator(
        "deform_roi_pool_backward.offset",
        backward,
        "Each of the n points of bin (i, j) gets grad_output[r, :, i, j] / n, C numbers.",
        "The sum of their slopes is the gradient in pixels: times gamma h for dy, gamma w for dx.",
    ),
}
