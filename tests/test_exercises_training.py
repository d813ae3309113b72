"""The exercises of notebook 8: what is wrong is named, and the hidden problems show it."""

import numpy as np
import pytest
from tutorial_files import helper, hidden_problems, spoilt

WRONG = {  # solution, what is put in place of what, and what the check then has to say
    "no union": ("mean_iou", "(right[there] / union[there]).mean()",
                 "right.sum() / matrix.sum()", "the share of right cells"),
    "absent": ("mean_iou", "(right[there] / union[there]).mean()",
               "(right / np.maximum(union, 1)).mean()", "counted as 0"),
    "absent is perfect": ("mean_iou", "(right[there] / union[there]).mean()",
                          "np.where(there, right / np.maximum(union, 1), 1).mean()",
                          "counted as 1"),
    "0 / 0": ("mean_iou", "(right[there] / union[there])", "(right / union)", "0 / 0, for a class"),
    "invented": ("mean_iou", "there = union > 0", "there = matrix.sum(axis=1) > 0",
                 "the classes without a label left out"),
    "recall": ("mean_iou", "union = matrix.sum(axis=0) + matrix.sum(axis=1) - right",
               "union = matrix.sum(axis=1)", "divided by the labels of a class"),
    "precision": ("mean_iou", "union = matrix.sum(axis=0) + matrix.sum(axis=1) - right",
                  "union = matrix.sum(axis=0)", "divided by what was predicted"),
    "twice": ("mean_iou", "matrix.sum(axis=1) - right", "matrix.sum(axis=1)",
              "counts the intersection twice"),
    "Dice": ("mean_iou", "(right[there] / union[there])",
             "(2 * right[there] / (union + right)[there])", "Dice"),
    "background": ("mean_iou", "union[there]).mean()", "union[there])[1:].mean()",
                   "the background left out"),
    "one ratio": ("mean_iou", "(right[there] / union[there]).mean()", "right.sum() / union.sum()",
                  "one ratio of sums"),
    "median": ("mean_iou", "return (right[there] / union[there]).mean()",
               "return np.median(right[there] / union[there])", "the median"),
    "grid": ("dilation_by_class", "dilation=2", "dilation=1",
             "the layer's dilation of 2 forgotten"),
    "first": ("dilation_by_class", "dilation=2)[:, 0]",
              "dilation=2)[:1, 0]\n    labels = labels[:1]", "the first picture alone"),
    "zero": ("dilation_by_class", "else np.nan", "else 0.0", "0 for a class that is on no picture"),
    "all cells": ("dilation_by_class", "each.mean()", "each.sum() / labels.size",
                  "the number of all cells"),
    "no beta": ("learning_rate", "factor = beta if", "factor = 1 if", "beta forgotten"),
    "the layer": ("learning_rate", '".branch." in name', '"res5c" in name', "on all of the layer"),
    "all": ("learning_rate", 'if ".branch." in name else 1', "", "beta on all parameters"),
    "weight": ("learning_rate", '".branch."', '".branch.weight"', "not on its bias"),
    "turned": ("learning_rate", '".branch." in', '".branch." not in', "all parameters but those"),
    "first third": ("learning_rate", "2 * iterations", "iterations", "after the first third"),
    "no step": ("learning_rate", "(0.1 if 3 * i >= 2 * iterations else 1)", "1", "no step"),
    "late": ("learning_rate", ">=", ">", "one iteration too late"),
    "stays": ("learning_rate", "return rate * factor",
              'return rate * factor if factor != 1 else rate * factor', "does not fall"),
    "ties": ("ordered", "np.diff(values, axis=0) > 0", "np.diff(values, axis=0) >= 0", "equal"),
    "ends": ("ordered", "steps = np.diff(values, axis=0)",
             "values = values[[0, -1]]\n    steps = np.diff(values, axis=0)", "the first row and"),
    "every": ("ordered", "return bool(means.all())", "return bool(steps.all())",
              "if it does in every seed"),
    "most": ("ordered", "return bool(means.all())",
             "return bool(2 * steps.all(axis=0).sum() > values.shape[1])", "if it does in most"),
    "steps": ("ordered", "steps.all(axis=0).sum()", "steps.sum()", "not the seeds"),
    "any": ("ordered", "steps.all(axis=0)", "steps.any(axis=0)", "any of its steps"),
    "down": ("ordered", "steps = np", "values = values[::-1]\n    steps = np", "that decrease"),
    "best seed": ("ordered", "values.mean(axis=1)", "values.max(axis=1)", "the best seed"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("case", WRONG)
def test_a_spoilt_solution_is_diagnosed(case):
    name, right, wrong, words = WRONG[case]
    assert words in helper("exercises").verdict(name, spoilt(name, right, wrong))


def test_every_matrix_has_a_class_that_is_not_there_and_one_that_is_invented():
    for (matrix,) in hidden_problems("mean_iou"):
        there, given = matrix.sum(axis=1) > 0, matrix.sum(axis=0) > 0
        for labelled, predicted in ((False, False), (True, False), (False, True)):
            assert ((there == labelled) & (given == predicted)).sum() == 1


def test_the_pictures_lack_one_class_and_their_dilations_differ():
    solution = helper("solutions").solution("dilation_by_class")
    for offset, labels in hidden_problems("dilation_by_class"):
        found = solution(offset, labels)
        assert np.isnan(found).sum() == 1
        assert np.nanstd(found) > 0.1
        assert set(np.unique(labels)) < set(range(5))


def test_rates_are_asked_for_on_both_sides_of_the_step():
    asked = {3 * i - 2 * n for _, i, n, *_ in hidden_problems("learning_rate")}
    assert {0, -3} <= asked


def test_means_and_seeds_do_not_always_agree():
    solution = helper("solutions").solution("ordered")
    verdicts = {solution(*args) for args in hidden_problems("ordered")}
    assert {holds for holds, _ in verdicts} == {True, False}
    assert any(holds and count < 4 for holds, count in verdicts)
