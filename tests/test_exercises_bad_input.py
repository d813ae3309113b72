"""Whatever a learner's function does, `check` says one helpful line and the notebook goes on."""

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


def late():
    """True for ever, as far as a limit of LIMIT is concerned; the test itself has an end."""
    return time.monotonic() < late.end


@pytest.fixture(autouse=True)
def _clock():
    late.end = time.monotonic() + 30 * LIMIT


class Unspeakable(Exception):
    def __str__(self):
        raise ValueError


class Rude(BaseException):
    pass


def raises(error):
    def answer(x, p):
        raise error

    return answer


def deep(x, p):
    return deep(x, p)


def leaves(x, p):
    sys.exit("enough")


def in_the_library(x, p):
    return np.einsum("ij->", p[0])


def loops(x, p):
    while late():
        pass


def catches_exceptions(x, p):
    while late():
        try:  # noqa: SIM105
            time.sleep(0.001)
        except Exception:
            pass


def catches_everything(x, p):
    while late():
        try:
            while late():
                time.sleep(0.001)
        except:  # noqa: E722
            pass


def stops_the_clock(x, p):
    if calls.in_main_thread():
        signal.setitimer(signal.ITIMER_REAL, 0)
    time.sleep(2 * LIMIT)
    return right(x, p)


def gives_up(x, p):
    try:
        loops(x, p)
    except BaseException:
        return right(x, p)


def breaks(x, p):
    try:
        loops(x, p)
    finally:
        raise ValueError("interrupted")


def mutates(x, p):
    y = right(x, p)
    p += 1
    return y


def fills(x, p):
    x[0, 0] = np.nan
    return right(x, p)


def generates(x, p):
    yield right(x, p)


def one_nan(x, p):
    y = right(x, p)
    y[1, 4] = np.nan
    return y


BAD = {  # an answer, what `check` has to say, and whose work that is
    "raises": (raises(ValueError("no\n  such\nthing")), r"raised ValueError: no such thing, in line"
               r' \d+ \("raise error"\)\.$', "call"),
    "raises nothing": (raises(KeyError()), r"raised KeyError, in line", "call"),
    "raises much": (raises(ValueError("very " * 99)), r"(very ){40}\.\.\., in line", "call"),
    "cannot say": (raises(Unspeakable()), r"raised Unspeakable, in line", "call"),
    "no Exception": (raises(Rude("x")), r"raised Rude: x, in line", "call"),
    "memory": (raises(MemoryError()), r"raised MemoryError, in line", "call"),
    "library": (in_the_library, r'raised ValueError: .*"return np.einsum\(', "call"),
    "recursion": (deep, r'raised RecursionError: .*"return deep\(x, p\)"', "call"),
    "exit": (leaves, r"called exit: it has to return its result", "call"),
    "loops": (loops, r"still ran after 0\.2 s, in line \d+ \(.*never ends\?", "call"),
    "catches": (catches_exceptions, r"still ran after 0\.2 s, in line \d+ \(", "call"),
    "catches all": (catches_everything, r"still ran after 0\.2 s, in line \d+ \(", "call"),
    "stops the clock": (stops_the_clock, r"still ran after 0\.2 s", "call"),
    "gives up": (gives_up, r"still ran after 0\.2 s, in line \d+ \(", "call"),
    "breaks": (breaks, r"still ran after 0\.2 s, in line \d+ \(", "call"),
    "mutates": (mutates, r"changes its argument p: work on a copy of it", "call"),
    "fills": (fills, r"changes its argument x: work on a copy of it", "call"),
    "too few": (lambda x: 1, r"takes \(x\), expected bilinear\(x, p\)", "fits"),
    "too many": (lambda x, p, q: 1, r"takes \(x, p, q\), expected bilinear\(x, p\)", "fits"),
    "called": (right(np.ones((1, 2, 3)), np.zeros((4, 2))), r"is an array of shape \(1, 4\) and"
               r" dtype float64, not a function: .*\.check\('bilinear', bilinear\)\.", "fits"),
    "a name": ("bilinear", r"gave is 'bilinear', a str, not a function", "fits"),
    "None": (lambda x, p: None, r"returned None: is there a return", "complaint"),
    "text": (lambda x, p: "y" * 99, r"is 'y{59}\.\.\., a str, expected an array", "wrong_type"),
    "list": (lambda x, p: right(x, p).tolist(), r"is a list, expected an array of shape"
             r" \(2, 12\) and dtype float64\.$", "wrong_type"),
    "generator": (generates, r"is a generator, expected an array", "wrong_type"),
    "number": (lambda x, p: 2.5, r"is 2\.5, a float, expected an array", "wrong_type"),
    "shape": (lambda x, p: right(x, p).T, r"has shape \(12, 2\), expected an array of shape"
              r" \(2, 12\)", "wrong_type"),
    "float32": (lambda x, p: right(x, p).astype("f4"), r"has dtype float32, expected an array of"
                r" shape \(2, 12\) and dtype float64\.$", "wrong_type"),
    "objects": (lambda x, p: right(x, p).astype(object), r"has dtype object", "wrong_type"),
    "complex": (lambda x, p: right(x, p) + 0j, r"has dtype complex128", "wrong_type"),
    "NaN": (one_nan, r"is nan where a number is expected: at 1 of 24 places, the first is index"
            r" \(1, 4\)", "difference"),
    "infinity": (lambda x, p: right(x, p) + np.inf, r"is inf where a number", "difference"),
    "other": (lambda x, p: right(x, p) + 1, r"differs most at index \(\d, \d+\): ", "difference"),
}  # fmt: skip
UNPROTECTED = {
    "call": (exercises, lambda answer, args, limit: answer(*args)),
    "fits": (exercises, lambda name, answer, args: None),
    "complaint": (exercises, lambda exercise, tried: "Wrong."),
    "wrong_type": (grading, lambda result, right: None),
    "difference": (grading, lambda result, right, args: "Wrong."),
}
cases = pytest.mark.parametrize("case", BAD)


def limit(words):
    """Little time for those that never end, and the usual time for the others."""
    return LIMIT if "still ran" in words else None


@cases
def test_one_helpful_line(case, capsys):
    answer, words, _ = BAD[case]
    assert exercises.check("bilinear", answer, limit(words)) is None
    text = capsys.readouterr().out
    assert re.fullmatch(r"bilinear: not yet\. [^\n]+\n", text), text
    assert re.search(words, text.strip()), text
    assert len(text) < 330


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@cases
def test_without_its_protection_there_is_no_such_line(case, monkeypatch):
    answer, words, protection = BAD[case]
    late.end = time.monotonic() + 2 * LIMIT
    module, plain = UNPROTECTED[protection]
    monkeypatch.setattr(module, protection, plain)
    try:
        text = exercises.verdict("bilinear", answer, limit(words))
    except BaseException as error:
        text = repr(error)
    assert not re.search(words, text), text


@cases
def test_a_thread_does_what_the_alarm_does(case, monkeypatch):
    """As on Windows, and in the other threads of a kernel."""
    answer, words, protection = BAD[case]
    monkeypatch.setattr(calls, "in_main_thread", lambda: False)
    monkeypatch.setattr(calls, "ATTEMPTS", 5)
    if protection == "call":
        said = exercises.verdict("bilinear", answer, limit(words))
        assert re.search(words, said) or (case == "catches all" and "cannot be stopped" in said)
    assert exercises.verdict("bilinear", right).startswith("bilinear: right")


def test_a_thread_that_cannot_be_stopped_is_left(monkeypatch):
    def sleeps(x, p):
        time.sleep(10 * LIMIT)  # as in compiled code: nothing is raised before it returns

    monkeypatch.setattr(calls, "in_main_thread", lambda: False)
    monkeypatch.setattr(calls, "ATTEMPTS", 2)
    verdict = exercises.verdict("bilinear", sleeps, LIMIT)
    assert verdict.endswith("does not end, and cannot be stopped: restart the kernel.")


@pytest.mark.parametrize("main", [True, False])
def test_an_interrupt_of_the_learner_gets_through(main, monkeypatch):
    monkeypatch.setattr(calls, "in_main_thread", lambda: main)
    with pytest.raises(KeyboardInterrupt):
        exercises.verdict("bilinear", raises(KeyboardInterrupt()))


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer that raises")
@pytest.mark.parametrize("answer", [right, loops, raises(KeyboardInterrupt())])
def test_another_alarm_is_kept(answer):
    rang = []
    before = signal.signal(signal.SIGALRM, lambda *_: rang.append(1))
    try:
        signal.setitimer(signal.ITIMER_REAL, 60)
        with contextlib.suppress(KeyboardInterrupt):
            exercises.verdict("bilinear", answer, LIMIT)
        left, _ = signal.setitimer(signal.ITIMER_REAL, 0)
        assert 50 < left < 60
        signal.raise_signal(signal.SIGALRM)
        assert rang == [1]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_tracing_is_restored():
    before = sys.gettrace()
    exercises.verdict("bilinear", catches_everything, LIMIT)
    assert sys.gettrace() is before
