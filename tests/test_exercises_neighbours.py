"""The exercises of notebook 12: what is wrong is named, and the hidden problems show it."""

import numpy as np
import pytest
from tutorial_files import helper, hidden_problems, spoilt

from deformable_convnets.reference import deform_conv2d, sample

WRONG = {  # solution, what is put in place of what, and what the check then has to say
    "order": ("composed_warps", "in steps:", "in steps[::-1]:", "the warps in the other order"),
    "sum": ("composed_warps", "A @ t_step + t", "t_step + t", "the shifts added up"),
    "own": ("composed_warps", "A @ t_step + t", "A @ A_step @ t_step + t", "its own step"),
    "p @ A": ("composed_warps", "A @ A_step, A", "A @ A_step.T, A", "the matrices transposed"),
    "last": ("composed_warps", "return A, t", "return A_step, t_step", "the last warp alone"),
    "shift": ("composed_warps", "return A, t", "return A, 0 * t", "but no shift"),
    "one item": ("composed_warps", "return A, t", "return A", "expected a tuple of 2"),
    "swapped": ("composed_warps", "return A, t", "return t, A", "Your result[0] has shape (2,)"),
    "mean": ("active_gradient", "offset.sum(", "offset.mean(", "the mean over places and images"),
    "image": ("active_gradient", "grads.offset.sum", "grads.offset[:1].sum", "the first image"),
    "split": ("active_gradient", ".reshape(-1, 2)", ".reshape(2, -1).T", "channels read as all dy"),
    "laid": ("active_gradient", "theta.reshape(1", "theta.T.reshape(1", "theta laid down as all"),
    "zero": ("active_gradient", "np.tile(theta", "np.tile(0 * theta", "theta is not used"),
    "x first": ("active_gradient", ".reshape(-1, 2)", ".reshape(-1, 2)[:, ::-1]", "x before y"),
    "flat": ("active_gradient", ".reshape(-1, 2)", "", "Your result has shape"),
    "2 a b": ("steered_twice", "2 * u_y", "u_y", "the mixed derivative once"),
    "no mixed": ("steered_twice", "2 * u_y * u_x", "0", "the mixed derivative forgotten"),
    "opposite": ("steered_twice", "2 * u_y", "-2 * u_y", "the opposite angle"),
    "y axis": ("steered_twice", "np.sin(angle), np.cos(angle)", "np.cos(angle), np.sin(angle)",
               "sine and cosine exchanged"),
    "once": ("steered_twice", "u_y**2 * Gyy + 2 * u_y * u_x * Gxy + u_x**2 * Gxx",
             "u_y * Gyy + u_x * Gxx", "the rule of the first derivative"),
    "degrees": ("steered_twice", "np.sin(angle), np.cos(angle)",
                "np.sin(np.deg2rad(angle)), np.cos(np.deg2rad(angle))", "Your result differs"),
    "v4": ("one_head", "(read * weights)", "(read * logits)", "without a softmax (DCNv4)"),
    "v2": ("one_head", "(read * weights)", "(read / (1 + np.exp(-logits)))", "a sigmoid"),
    "queries": ("one_head", "e / e.sum(axis=1", "e / e.sum(axis=0",
                "Your result differs"),  # after the largest of each query was taken off
    "softmax of queries": ("one_head", "e = np.exp(logits - logits.max(axis=1, keepdims=True))\n"
                           "    weights = e / e.sum(axis=1", "e = np.exp(logits)\n"
                           "    weights = e / e.sum(axis=0", "the softmax over the queries"),
    "no sum": ("one_head", "e = np.exp(logits - logits.max(axis=1, keepdims=True))\n"
               "    weights = e / e.sum(axis=1, keepdims=True)", "weights = np.exp(logits)",
               "not divided by their sum"),
    "equal": ("one_head", "(read * weights).sum(", "read.mean(", "logits not used"),
    "sign": ("one_head", "np.exp(logits - logits.max(axis=1, keepdims=True))", "np.exp(-logits)",
             "the weights of -logits"),
    "no offset": ("one_head", "p[:, None] + offset", "p[:, None] + 0 * offset", "the offset forg"),
    "no query": ("one_head", "p[:, None] + offset", "offset", "the query's place forgotten"),
    "x, y": ("one_head", "p[:, None] + offset", "(p[:, None] + offset)[..., ::-1]",
             "the x-first order of the places"),
    "dx, dy": ("one_head", "+ offset", "+ offset[..., ::-1]", "x-first offsets"),
    "C Q": ("one_head", ".sum(axis=-1).T", ".sum(axis=-1)", "the transposed result"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_spoilt_solution_is_diagnosed(case):
    name, right, wrong, words = WRONG[case]
    assert words in helper("exercises").verdict(name, spoilt(name, right, wrong))


def test_the_hidden_problems_meet_what_their_exercise_is_about():
    for (steps,) in hidden_problems("composed_warps"):
        assert len(steps) > 2  # two do not tell all orders apart
        assert not np.allclose(steps[0][0] @ steps[1][0], steps[1][0] @ steps[0][0])
    problems = hidden_problems("active_gradient")
    assert all(len(x) == 2 for _, x, *_ in problems)
    assert len({weight.shape for *_, weight in problems}) > 1
    for *_, angle in hidden_problems("steered_twice"):
        assert abs(np.sin(2 * angle)) > 0.1
    for _, p, offset, _ in hidden_problems("one_head"):
        assert len(p) != offset.shape[1]


def test_the_judges_are_what_sampling_gives():
    """Warp after warp on a plane, which interpolation does not change; a difference of theta; a
    second difference along a direction; one query by hand."""
    exercises = helper("exercises").EXERCISES
    (steps,) = hidden_problems("composed_warps")[0]
    A, t = exercises["composed_warps"].right(steps)
    p = np.random.default_rng(0).normal(size=(5, 2))
    nested = p
    for A_step, t_step in reversed(steps):
        nested = nested @ A_step.T + t_step
    assert np.allclose(p @ A.T + t, nested)

    gy, x, theta, weight = hidden_problems("active_gradient")[0]
    slopes = exercises["active_gradient"].right(gy, x, theta, weight)
    for k, axis in ((0, 0), (1, 1)):
        h = np.zeros_like(theta)
        h[k, axis] = 1e-6
        ends = [
            deform_conv2d(
                x, np.tile((theta + s * h).reshape(1, -1, 1, 1), (2, 1, *gy.shape[2:])), weight
            )
            for s in (1, -1)
        ]
        assert np.isclose((gy * (ends[0] - ends[1])).sum() / 2e-6, slopes[k, axis], rtol=1e-5)

    x, p, offset, logits = hidden_problems("one_head")[0]
    weights = np.exp(logits[0]) / np.exp(logits[0]).sum()
    by_hand = sum(w * sample(x, p[0] + o) for w, o in zip(weights, offset[0], strict=True))
    assert np.allclose(exercises["one_head"].right(x, p, offset, logits)[0], by_hand)


def test_the_second_derivative_along_a_direction():
    """The judge of `steered_twice` against a difference of a Gaussian that is as wide."""
    judge = helper("exercises").EXERCISES["steered_twice"].right
    s, angle, h = 1.7, 0.9, 1e-3
    y, x = np.indices((7, 9)) - np.array((3, 4)).reshape(2, 1, 1)

    def bell(step):
        dy, dx = step * np.sin(angle), step * np.cos(angle)
        return np.exp(-((y + dy) ** 2 + (x + dx) ** 2) / (2 * s * s))

    Gyy, Gxx = ((v**2 / s**4 - 1 / s**2) * bell(0) for v in (y, x))
    steered = judge(Gyy, y * x / s**4 * bell(0), Gxx, angle)
    assert np.allclose(steered, (bell(h) - 2 * bell(0) + bell(-h)) / h**2, atol=1e-6)
