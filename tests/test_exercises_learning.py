"""The exercises of notebook 5: what is wrong is named, and the hidden problems can be solved."""

import numpy as np
import pytest
from tutorial_files import helper, spoilt

learning = helper("learning")
WRONG = {  # solution, what is put in place of what, and what the check then has to say
    "dy dx": ("branch_gradient", "x, offset, weight).offset",
              "x, offset, weight).offset.reshape(2, 9, 2, 4, 6)[:, :, ::-1].reshape(2, 18, 4, 6)",
              "the offset gradient with dy and dx swapped"),
    "sign": ("branch_gradient", "grad_offset = ", "grad_offset = -",
             "the opposite sign of the offset gradient"),
    "weights": ("branch_gradient", "x, offset, weight).offset", "x, offset, weight ** 0).offset",
                "the offset gradient without w(p_n)"),
    "at zero": ("branch_gradient", "x, offset, weight)", "x, 0 * offset, weight)",
                "the offset gradient at the regular grid"),
    "images": ("branch_gradient", "offset_bias).weight", "offset_bias).weight / len(x)",
               "averaged over the images"),
    "zero": ("branch_gradient", "return conv2d_backward", "return 0 * conv2d_backward",
             "a gradient of zero, where only the branch is zero"),
    "branch bias": ("branch_gradient", "conv2d(x, offset_weight, offset_bias)",
                    "conv2d(x, offset_weight)", "the bias of the branch forgotten"),
    "image 0": ("branch_gradient", "conv2d_backward(grad_offset, x,",
                "conv2d_backward(grad_offset[:1], x[:1],", "the first image alone"),
    "dcnv1": ("stops_learning", "p <= -1", "p < 0", "the authors' border (dcnv1)"),
    "beta of the bias": ("one_step", "offset_bias - beta * rate", "offset_bias - rate",
                         "the bias of the branch without beta"),
    "not rounded": ("quarter_turn", "np.round(offset.reshape(9, 2))", "offset.reshape(9, 2)",
                    "right, but not rounded"),
    "too early": ("quarter_turn", "range(150)", "range(20)", "end too early"),
    "ascent": ("quarter_turn", "offset -= ", "offset += ", "steps up the gradient"),
    "too long": ("quarter_turn", "2 * error / error.size", "error", "steps that are too long"),
    "pixels": ("stops_learning", "(p <= -1) | (p >= np.array(size))",
               "(p < 0) | (p > np.array(size) - 1)", "every point outside the pixels"),
    "both": ("stops_learning", ".any(", ".all(", "out along both axes"),
    "h w": ("stops_learning", "np.array(size)", "np.array(size)[::-1]", "H and W exchanged"),
    "alive": ("stops_learning", "return ", "return ~", "the points that still learn"),
    "no beta": ("one_step", "beta * rate * grads.offset_weight,\n        offset_bias - beta * rate",
                "rate * grads.offset_weight,\n        offset_bias - rate", "forgets beta"),
    "beta for all": ("one_step", "weight - rate * grads.weight",
                     "weight - beta * rate * grads.weight", "beta on the layer's weight too"),
    "bias": ("one_step", "offset_bias - beta * rate * grads.offset_bias", "offset_bias",
             "a branch whose bias stays"),
    "uphill": ("one_step", "return (", "rate = -rate\n    return (", "a step up the gradient"),
    "points": ("quarter_turn", "offset.reshape(9, 2))",
               "offset.reshape(9, 2)) + sampling_points(0 * field, 3)[0, 0, :, 0, 0] - 1",
               "the points p_n + the offsets"),
    "x y": ("quarter_turn", "offset.reshape(9, 2))", "offset.reshape(9, 2)[:, ::-1])",
            "the turned grid's (x, y)"),
    "still": ("quarter_turn", "range(150)", "range(0)", "offsets that never moved"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_spoilt_solution_is_diagnosed(case):
    name, right, wrong, words = WRONG[case]
    assert words in helper("exercises").verdict(name, spoilt(name, right, wrong))


def test_the_hidden_problems_have_a_zero_branch_and_another():
    """With the seeds of `verdict`: a zero branch shows who thinks that it cannot learn."""
    exercise, zlib = helper("exercises").EXERCISES["branch_gradient"], helper("zlib")
    names = (f"branch_gradient {i}".encode() for i in range(exercise.problems))
    drawn = [exercise.problem(np.random.default_rng(zlib.crc32(n))) for n in names]
    assert {bool(args[2].any()) for args in drawn} == {True, False}


@pytest.mark.parametrize("seed", range(6))
def test_the_quarter_turn_is_learnt_whatever_the_seed(seed):
    """With plain steps, and with the Adam of `learn_shared`."""
    args = helper("exercises.learning").quarter(np.random.default_rng(seed))
    right = helper("exercises.learning").which_turn(*args)
    assert np.array_equal(helper("solutions").solution("quarter_turn")(*args), right)
    assert np.array_equal(np.round(learning.learn_shared(*args)[0][-1]), right)
