"""What `check` says: one line, and nothing of what the answer itself prints."""

import contextlib
import re
import signal
import sys
import time

import numpy as np
import pytest
from tutorial_files import helper

exercises = helper("exercises")
calls, grading = helper("exercises.calls"), helper("exercises.grading")
LIMIT = 0.2
right = helper("solutions").solution("bilinear")


def raises(error):
    def answer(x, p):
        raise error

    return answer


def noisy(x, p):
    print("a print")
    sys.stderr.write("an error\n")
    sys.stdout = None
    return right(x, p)


def noisy_and_wrong(x, p):
    print("a print")
    raise ValueError("noise")


def loops_and_prints(x, p):
    end = time.monotonic() + 30 * LIMIT
    while time.monotonic() < end:
        print("a print")


@pytest.mark.parametrize("main", [True, False])
@pytest.mark.parametrize(
    ("answer", "says"),
    [(noisy, "right, on 3 hidden problems."), (noisy_and_wrong, "not yet. Your function raised"),
     (loops_and_prints, "not yet. Your function still ran")],
)  # fmt: skip
def test_what_a_function_prints_is_not_shown(answer, says, main, capsys, monkeypatch):
    monkeypatch.setattr(calls, "in_main_thread", lambda: main)
    before = sys.stdout, sys.stderr
    exercises.check("bilinear", answer, LIMIT)
    assert (sys.stdout, sys.stderr) == before
    said = capsys.readouterr()
    assert said.out.startswith(f"bilinear: {says}")
    assert (len(said.out.splitlines()), said.err) == (1, "")
    monkeypatch.setattr(calls, "silence", contextlib.nullcontext)
    monkeypatch.setattr(sys, "stdout", sys.stdout)  # which `noisy` spoils
    exercises.verdict("bilinear", answer, LIMIT)
    assert "a print" in capsys.readouterr().out


def test_scalars_and_text():
    field, library = helper("exercises").EXERCISES["receptive_field"], "which_library"

    def says(name, result):
        return exercises.verdict(name, lambda *args: result).split(". ", 1)[1]

    assert says("receptive_field", 7.5) == "Your result is 7.5, a float, expected an int."
    assert says("receptive_field", True) == "Your result is True, a bool, expected an int."
    assert re.match(r"Your result is -3, expected \d+ for \(\d", says("receptive_field", -3))
    assert says(library, 3) == "Your result is 3, an int, expected a str."
    assert re.match(r"Your result is 'mmcv', expected '\w+'\.$", says(library, "mmcv"))
    whole = exercises.verdict("receptive_field", lambda *args: np.int32(field.right(*args)))
    assert whole.startswith("receptive_field: right")
    assert "dtype int64, expected" in says("differences_fail", np.zeros(40, int))
    assert "expected True" in says("differences_fail", np.zeros(40, bool))


def test_a_tuple_is_judged_item_by_item():
    pair = grading.Exercise(lambda: (np.ones(2), np.eye(2)), lambda rng: (), ("",))

    def says(*result):
        return grading.complaint(pair, [(result, ())])

    assert says(np.ones(2), np.eye(2)) is None
    assert says(np.ones(2)) == "Your result is a tuple of 1, expected one of 2."
    assert says(np.ones(2), 3).startswith("Your result[1] is 3, an int, expected an array of shape")
    assert says(np.ones(3), np.eye(2)).startswith("Your result[0] has shape (3,), expected")
    assert says(np.ones(2), np.ones((2, 2))).startswith("Your result[1] differs most at index (0, ")
    listed = grading.complaint(pair, [([np.ones(2), np.eye(2)], ())])
    assert listed == "Your result is a list, expected a tuple of 2."


@pytest.mark.parametrize("does", [exercises.hint, exercises.solution, exercises.verdict])
def test_an_unknown_name(does, capsys):
    for name, words in (("bilinaer", "Did you mean 'bilinear'?"), (3, "See exercises.EXERCISES")):
        said = does(name, right) if does is exercises.verdict else does(name)
        text = said or capsys.readouterr().out
        assert text.startswith(f"There is no exercise {name!r}. {words}")
        assert len(text.splitlines()) == 1


def test_not_filled_in():
    wanted = "bilinear: not filled in yet. For a hint: exercises.hint('bilinear')"
    assert exercises.verdict("bilinear", raises(NotImplementedError)) == wanted
    assert exercises.verdict("bilinear", lambda x, p: NotImplemented) == wanted
    other = raises(NotImplementedError("the library lacks this"))
    assert "raised NotImplementedError: the library" in exercises.verdict("bilinear", other)


class Bare:
    """Says nothing of itself: looking at it raises."""

    def __getattr__(self, name):
        raise RuntimeError("no")

    def __call__(self, x, p):
        return 1


@pytest.mark.parametrize(
    ("name", "answer", "words"),
    [
        (
            "receptive_field",
            lambda *a: 10**5000,
            "Your answer cannot be judged: ValueError: Exceeds",
        ),
        ("bilinear", Bare, "Your answer cannot be judged: RuntimeError: no."),
        (["bilinear"], None, "There is no exercise ['bilinear']."),
        (None, None, "There is no exercise None."),
    ],
)
def test_what_cannot_be_judged_is_a_line_too(name, answer, words):
    text = exercises.verdict(name, Bare() if answer is Bare else answer)
    assert words in text
    assert len(text.splitlines()) == 1


@pytest.mark.parametrize("limit", [-1, 0, 1e-9, float("nan"), float("inf"), "a"])
def test_a_limit_that_is_none(limit):
    """It is not the learner's function that is blamed, and no alarm is left behind."""
    before = signal.getsignal(signal.SIGALRM)
    text = exercises.verdict("bilinear", lambda x, p: 1, limit)
    assert text == f"bilinear: limit is {limit!r}, expected seconds, 0.001 or more."
    assert signal.getsignal(signal.SIGALRM) is before


def test_settings_of_numpy_are_those_of_before():
    def sets(x, p):
        np.seterr(all="raise")
        return x

    before = np.geterr()
    exercises.verdict("bilinear", sets)
    assert np.geterr() == before
