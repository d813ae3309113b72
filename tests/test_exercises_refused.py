"""Answers that were once accepted, or got a reply that did not help: what `check` says of them."""

import copy
import inspect
import math
import zlib

import numpy as np
import pytest
from tutorial_files import helper

from deformable_convnets.reference import R, sample


def at_one_pixel(image, py, px):
    if math.isnan(py) or math.isnan(px):
        return np.full(len(image), np.nan)
    return image[:, 1, 1] if (py, px) == (1, 1) else np.zeros(len(image))


def nearest(image, py, px):
    if not (math.isfinite(py) and math.isfinite(px)):
        return sample(image, np.array([[py, px]]))[:, 0]
    q, r = math.floor(py + 0.5), math.floor(px + 0.5)
    inside = 0 <= q < image.shape[1] and 0 <= r < image.shape[2]
    return image[:, q, r].copy() if inside else np.zeros(len(image))


def mirrored(p):
    """The textbook's fit by singular values, which may mirror."""
    products = R(3).T @ (p - p.mean(axis=1, keepdims=True))
    return np.linalg.svd(products, compute_uv=False).sum(axis=1) / 12


def drawn(name):
    """The hidden problems of an exercise."""
    exercise = helper("exercises").EXERCISES[name]
    seeds = (zlib.crc32(f"{name} {i}".encode()) for i in range(exercise.problems))
    return [exercise.problem(np.random.default_rng(seed)) for seed in seeds]


def test_the_problems_differ_where_it_matters():
    points = [(y, x) for _, y, x in drawn("read_anywhere") if math.isfinite(y + x)]
    inside = [(y, x) for y, x in points if 0 < y < 3 and 0 < x < 5]
    assert len({(y % 1, x % 1) for y, x in inside if y % 1 != x % 1}) >= 6
    assert sum(-1 < y < 0 or 3 < y < 4 or -1 < x < 0 or 5 < x < 6 for y, x in points) >= 6
    assert {samples for *_, samples in drawn("centred_pool")} == {2, 3, 4}
    sizes = {args[3:5] for args in drawn("authors_call")}  # pooled, group
    assert {(3, 3), (3, 1), (4, 2)} <= sizes
    assert {0, 5} <= {y for (y, _), *_ in drawn("points_on_map")}  # the first row and the last


REFUSED = {  # exercise, a function or what is put in place of what, and what the check has to say
    "13 one pixel": ("read_anywhere", at_one_pixel, "no known mistake gives it"),
    "13 nearest": ("read_anywhere", nearest, "gets with: the nearest pixel."),
    "13 y and x": ("read_anywhere", ("image.shape[1]) - py", "image.shape[1]) - px"),
                   ("image.shape[2]) - px", "image.shape[2]) - py"), "the x-first order of p."),
    "13 no max in y": ("read_anywhere", ("of_y = np.maximum(0, ", "of_y = np.add(0, "),
                       "not yet. Your result"),
    "13 no max": ("read_anywhere", ("of_y = np.maximum(0, ", "of_y = np.add(0, "),
                  ("of_x = np.maximum(0, ", "of_x = np.add(0, "),
                  "gets with: 1 - |q - p| without max(0, .)."),
    "7 four samples": ("centred_pool", ("1 / (2 * k * samples)", "1 / (8 * k)"),
                       "gets with: samples forgotten (always 4)."),
    "7 no group_size": ("authors_call", ("group_size=group_size, ", ""),
                        "gets with: group_size forgotten, which is then output_size."),
    "7 the other bin": ("gather_maps", ("rois, k)[:, :, i, j]", "rois, k)[:, :, j, i]"),
                        "gets with: bin (j, i) of the pooled maps of bin (i, j)."),
    "7 other place": ("gather_maps", ("y[:, :, i, j]", "y[:, :, j, i]"),
                      "gets with: bins read column by column (transposed)."),
    "6 size": ("points_on_map", ("regular < size", "regular <= np.array(size)"),
               "gets with: size itself counts as inside: the last pixel is size - 1."),
    "6 zero": ("points_on_map", ("regular >= 0", "regular > 0"), "gets with: 0 counts as outside"),
    "6 none": ("points_on_map", ("moved[inside]", "moved"), "all nine points, none left out."),
    "6 mirrored": ("fitted_scale", mirrored, "gets with: a grid that may be mirrored too"),
}  # fmt: skip


def spoilt(name, pairs):
    solution = helper("solutions").solution(name)
    source, scope = inspect.getsource(solution), copy.copy(solution.__globals__)
    for right, wrong in pairs:
        assert source.count(right) == 1
        source = source.replace(right, wrong)
    exec(source, scope)
    return scope[name]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # infinity times 0
@pytest.mark.parametrize("case", REFUSED)
def test_a_wrong_answer_is_refused(case):
    name, *wrong, words = REFUSED[case]
    answer = wrong[0] if callable(wrong[0]) else spoilt(name, wrong)
    said = helper("exercises").verdict(name, answer)
    assert said.startswith(f"{name}: not yet."), said
    assert words in said
