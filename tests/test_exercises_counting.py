"""The exercises of notebook 10: what is wrong is named, and the hidden problems show it."""

import pytest
from tutorial_files import helper, hidden_problems, spoilt

WRONG = {  # solution, what is put in place of what, and what the check then has to say
    "N": ("branch_parameters", "2 * N * groups", "N * groups", "an offset is y and x"),
    "bias": ("branch_parameters", " * N + outputs", " * N", "the bias forgotten"),
    "groups": ("branch_parameters", "2 * N * groups", "2 * N", "the offset groups forgotten"),
    "grouped": ("branch_parameters", "* C *", "* (C // groups) *", "a grouped convolution"),
    "3x3": ("branch_parameters", "C * N", "C * 9", "whatever the layer's kernel"),
    "1x1": ("branch_parameters", "C * N", "C", "a branch of 1x1"),
    "square": ("branch_parameters", "kernel[1]", "kernel[0]", "Your result is"),
    "one bias": ("branch_parameters", "N + outputs", "N + 1", "one bias for all"),
    "N of work": ("deformable_work", "(2 * k * k)", "(k * k)", "a branch of N outputs"),
    "D": ("deformable_work", "(2 * k * k)", "D", "the D outputs of the layer"),
    "channels": ("deformable_work", "k * C * 4", "k * 4", "once for all channels"),
    "four": ("deformable_work", "k * C * 4", "k * C", "one multiply-add for each sample"),
    "anew": ("deformable_work", "k * C * 4", "k * C * D * 4", "anew for each output"),
    "taps": ("deformable_work", "W * k * k * C * 4", "W * C * 4", "one sample for each cell"),
    "of D": ("deformable_work", "k * C * 4", "k * D * 4", "samples of the D output"),
    "padding": ("field_centre", " - p", "", "the padding forgotten"),
    "sign": ("field_centre", " - p", " + p", "the wrong sign"),
    "dilation": ("field_centre", "d * (k - 1) / 2", "(k - 1) / 2", "the dilation forgotten"),
    "strides": ("field_centre", "+= stride *", "+=", "the strides forgotten"),
    "too early": ("field_centre", "+= stride *", "+= stride * s *", "of the layer itself"),
    "half a cell": ("field_centre", "(k - 1)", "k", "k / 2 in place of"),
    "from the end": ("field_centre", "in layers:", "in layers[::-1]:", "from the last"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_spoilt_solution_is_diagnosed(case):
    name, right, wrong, words = WRONG[case]
    assert words in helper("exercises").verdict(name, spoilt(name, right, wrong))


def test_the_hidden_problems_meet_what_their_exercise_is_about():
    for _, (kh, kw), groups in hidden_problems("branch_parameters"):
        assert kh != kw
        assert groups > 1
    for C, D, H, W, k in hidden_problems("deformable_work"):
        assert len({C, D, 2 * k * k}) == 3
        assert H != W
    for (layers,) in hidden_problems("field_centre"):
        assert {p for _, _, p, _ in layers} == {0, 1, 3}
        assert max(d for *_, d in layers) == 3


def test_the_judge_is_the_library_s_own_count():
    """One offset convolution of ResNet-101, and the strides and centres of padded layers."""
    exercises = helper("exercises").EXERCISES
    assert exercises["branch_parameters"].right(512, (3, 3), 1) == 82_962
    assert exercises["branch_parameters"].right(512, (3, 3), 4) == 331_848
    plain, branch, samples = exercises["deformable_work"].right(512, 512, 38, 63, 3)
    assert 3 * branch == 595_703_808
    assert samples * 512 == 4 * plain
    assert exercises["field_centre"].right([(7, 2, 3, 1), (3, 2, 1, 1)]) == (4, 0.0)
    assert exercises["field_centre"].right([(3, 2, 0, 1), (3, 2, 0, 1)]) == (4, 3.0)
