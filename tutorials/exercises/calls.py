"""A learner's function, called so that whatever it does ends in a result or in one line.

`call` stops a function that takes too long. In the main thread of Linux and macOS a timer raises
`TimeUp` inside the function; elsewhere the function gets a thread of its own and `TimeUp` is
raised there. Four things cannot be stopped: compiled code that never returns, such as one huge
NumPy product; a process that dies, by a segmentation fault or for lack of memory; a function that
calls itself and catches its RecursionError, for ever, as there is no room to raise anything else;
and, in a thread alone, a loop that catches everything. What a function prints, warnings too, goes
nowhere.
"""

import contextlib
import copy
import ctypes
import inspect
import itertools
import linecache
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Any

import numpy as np

AGAIN = 0.05  # seconds between attempts to stop a function that catches what stops it
ATTEMPTS = 100


class Trouble(Exception):
    """What is the matter with the learner's function, in one line."""


class TimeUp(BaseException):
    """Not an Exception, so that the learner's own `except Exception` does not catch it."""


def call(answer: Callable[..., Any], args: tuple[Any, ...], limit: float) -> Any:
    """answer(*args), with copies of the arguments; NotImplemented where it is not filled in."""
    given = copy.deepcopy(args)
    lines: list[str] = []  # where the function was when its time was over
    try:
        alarmed = hasattr(signal, "setitimer") and in_main_thread()
        with silence(), np.errstate():
            result = (with_alarm if alarmed else in_thread)(answer, given, limit, lines)
    except (KeyboardInterrupt, Trouble):
        raise
    except BaseException as error:
        if isinstance(error, NotImplementedError) and not error.args:
            return NotImplemented
        raise Trouble(f"Your function {failure(error, answer, limit, lines)}") from None
    for name, before, after in zip(names(answer), args, given, strict=False):
        if not unchanged(before, after):
            raise Trouble(f"Your function changes its argument {name}: work on a copy of it.")
    return result


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """What is printed in here goes nowhere."""
    with (
        open(os.devnull, "w", encoding="utf-8", errors="ignore") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        yield


def failure(
    error: BaseException, answer: Callable[..., Any], limit: float, lines: list[str]
) -> str:
    """What the learner's function did, from the error that ended it."""
    if lines or isinstance(error, TimeUp):
        where = next(filter(None, lines), "")
        return f"still ran after {limit:g} s{where}. Does it have a loop that never ends?"
    if isinstance(error, SystemExit):
        return "called exit: it has to return its result."
    frames = traceback.walk_tb(error.__traceback__)
    return f"raised {described(error)}{line(frames, answer)}."


def names(answer: Callable[..., Any]) -> Iterator[str]:
    """What the function itself calls its arguments."""
    count = 0
    with contextlib.suppress(TypeError, ValueError):
        for name, parameter in inspect.signature(answer, follow_wrapped=False).parameters.items():
            if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
                count += 1
                yield name
    while True:
        count += 1
        yield f"number {count}"


def unchanged(before: Any, after: Any) -> bool:
    if isinstance(before, np.ndarray):
        return before.shape == after.shape and before.tobytes() == after.tobytes()
    if isinstance(before, list | tuple):
        return len(before) == len(after) and all(map(unchanged, before, after))
    return not isinstance(before, dict | set) or before == after


def described(error: BaseException) -> str:
    """The type of an error and its message, in one short line."""
    try:
        message = " ".join(str(error).split()).rstrip(".")
    except Exception:
        message = ""
    message = message if len(message) <= 200 else f"{message[:200]}..."
    return type(error).__name__ + (message and f": {message}")


def line(frames: Iterable[tuple[FrameType, int]], answer: Callable[..., Any]) -> str:
    """The last line of the learner's own code among the frames: ', in line 3 ("y = x / 0")'."""
    ours = [(frame, number) for frame, number in frames if own(frame, answer)]
    if not ours:
        return ""
    frame, number = ours[-1]
    source = linecache.getline(frame.f_code.co_filename, number, frame.f_globals).strip()
    return f", in line {number}" + (f' ("{source}")' if source else "")


def own(frame: FrameType, answer: Callable[..., Any]) -> bool:
    """Whether a frame runs code of the notebook: all its cells share their global names."""
    return frame.f_globals is getattr(inspect.unwrap(answer), "__globals__", None)


def in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def with_alarm(answer: Callable[..., Any], args: Any, limit: float, lines: list[str]) -> Any:
    """answer(*args); a timer interrupts it, and again until it ends."""
    running, traced, began = True, sys.gettrace(), time.monotonic()

    def late(_signal: int, frame: FrameType | None) -> None:
        if running:
            stack = [*itertools.takewhile(inside, traceback.walk_stack(frame))][::-1]
            lines.append(line(stack, answer))
            if len(lines) > 1:  # it caught the first one
                raise_again([f for f, _ in stack if own(f, answer)], len(lines) - 1)
            raise TimeUp

    def inside(entry: tuple[FrameType, int]) -> bool:
        return entry[0].f_code is not with_alarm.__code__

    handler = signal.signal(signal.SIGALRM, late)
    left = interval = 0.0
    try:
        left, interval = signal.setitimer(signal.ITIMER_REAL, limit, AGAIN)
        result = answer(*args)
        running = False
    finally:
        running = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.settrace(traced)
        signal.signal(signal.SIGALRM, signal.SIG_DFL if handler is None else handler)
        if left:
            gone = time.monotonic() - began
            signal.setitimer(signal.ITIMER_REAL, max(left - gone, 1e-3), interval)
    if lines or time.monotonic() - began > limit:
        raise TimeUp  # which it caught, and returned; or it stopped the timer
    return result


def raise_again(frames: list[FrameType], count: int) -> None:
    """TimeUp after so many more lines of these frames: sooner or later outside of every `try`."""

    def trace(_frame: FrameType, event: str, _value: Any) -> Any:
        nonlocal count
        count -= event == "line"
        if count <= 0:
            raise TimeUp
        return trace

    for frame in frames:
        frame.f_trace = trace
    sys.settrace(lambda *_: None)


def in_thread(answer: Callable[..., Any], args: Any, limit: float, lines: list[str]) -> Any:
    """answer(*args), in a thread of its own."""
    outcome: list[tuple[Any, BaseException | None]] = []

    def run() -> None:
        with contextlib.suppress(TimeUp):
            try:
                outcome.append((answer(*args), None))
            except BaseException as error:
                outcome.append((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        thread.join(limit)
    finally:
        stop(thread, answer, lines)
    if thread.is_alive():
        raise Trouble("Your function does not end, and cannot be stopped: restart the kernel.")
    if lines:
        raise TimeUp
    result, error = outcome[0]
    if error is not None:
        raise error
    return result


def stop(thread: threading.Thread, answer: Callable[..., Any], lines: list[str]) -> None:
    """Raise TimeUp in a thread until it ends, or for some seconds."""
    for _ in range(ATTEMPTS):
        if not thread.is_alive():
            return
        frame = sys._current_frames().get(thread.ident or 0)
        lines.append(line(list(traceback.walk_stack(frame))[::-1], answer))
        ident = ctypes.c_ulong(thread.ident or 0)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(TimeUp))
        thread.join(AGAIN)
