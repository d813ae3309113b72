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


def other_maps(x, k):
    """The score maps of bin (j, i) in the place of those of bin (i, j)."""
    return x.reshape(1, -1, k, k, *x.shape[2:]).swapaxes(2, 3).reshape(x.shape)


def sampled(rng):
    k, samples = (int(v) for v in rng.permutation([2, 3, 4])[:2])
    return rng.normal(size=(1, 2, 12, 14)), boxes(rng), k, samples


def theirs(rng):
    k, group = ((3, 3), (3, 1), (4, 2), (2, 4))[rng.integers(0, 4)]
    trans = rng.uniform(-1, 1, (3, 4, k, k))
    data = rng.normal(size=(1, 4 * max(k, group) ** 2, 12, 14))  # for either as the group size
    samples, gamma = int(rng.integers(2, 5)), float(rng.choice([0.1, 0.25]))
    return data, boxes(rng), trans, k, group, samples, gamma


def backward(rng):
    k = 3
    x, offset = rng.normal(size=(1, 2, 12, 14)), rng.uniform(-1, 1, (3, 2, k, k))
    return rng.normal(size=(3, 2, k, k)), x, boxes(rng), offset, k


def centred(x, rois, k, samples, steps=0.5, gamma=0.1):
    """The authors' points, each moved by so many of their distances."""
    offset = np.full((len(rois), 2, k, k), steps / (k * samples * gamma))
    return reference.deform_roi_pool(x, rois, offset, k, bins="mxnet", samples=samples)


def ours(run, **other):
    """Their arguments, given to `run` as ours, but for `other` ones."""

    def call(data, rois, trans, pooled_size, group_size, sample_per_part, trans_std):
        offset = reference.from_layout(trans, "mxnet-roi").offset
        options = {"bins": "mxnet", "samples": sample_per_part, "gamma": trans_std}
        options = options | {"group_size": group_size} | other
        return run(data, rois, offset, pooled_size, **options)

    return call


EXERCISES = {
    "gather_maps": of_operator(
        "ps_roi_pool",
        score_maps,
        "x.reshape(1, -1, k, k, H, W)[:, :, i, j] are the score maps of bin (i, j), 1 Cout H W.",
        "Pool them with roi_pool, and keep bin (i, j) of the result.",
        own=(
            Mistake(
                "bin (j, i) of the pooled maps of bin (i, j)",
                lambda x, rois, k: reference.ps_roi_pool(other_maps(x, k), rois, k).swapaxes(2, 3),
            ),
        ),
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
                "samples forgotten (always 4)",
                lambda x, rois, k, samples: centred(x, rois, k, samples, steps=samples / 8),
            ),
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
        problems=6,
    ),
    "authors_call": Exercise(
        ours(reference.deform_ps_roi_pool),
        theirs,
        (
            'from_layout(trans, "mxnet-roi").offset has y first; it needs no kernel size.',
            'deform_ps_roi_pool(..., gamma=trans_std, group_size=..., bins="mxnet", samples=...).',
        ),
        (
            Mistake(
                "group_size forgotten, which is then output_size",
                ours(reference.deform_ps_roi_pool, group_size=None),
            ),
            *(Mistake(m.name, ours(m.run)) for m in MISTAKES["deform_ps_roi_pool"]),
        ),
        problems=6,
    ),
    "bin_offset_gradient": of_operator(
        "deform_roi_pool_backward.offset",
        backward,
        "Each of the n points of bin (i, j) gets grad_output[r, :, i, j] / n, C numbers.",
        "The sum of their slopes is the gradient in pixels: times gamma h for dy, gamma w for dx.",
    ),
}
