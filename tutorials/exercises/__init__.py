"""The exercises: `check` compares an answer with the oracle and names the mistake it finds.

    exercises.check("grid", grid)     right, not filled in yet, or what is the matter
    exercises.hint("grid")            the next hint
    exercises.solution("grid")        a solution, after the last hint or a right answer

Each prints one line, and nothing that an answer does ends the notebook: `calls` says how that is
done, and what it cannot do. The problems are drawn from seeds that the notebooks do not show. The
known mistakes are those of `deformable_convnets.reference.oracle.mistakes`; a few exercises add
their own.
"""

import difflib
import importlib
import inspect
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from . import (
    counting,
    detecting,
    gpu,
    layers,
    learning,
    neighbours,
    receptive,
    roi,
    sampling,
    training,
)
from .calls import Trouble, call, described
from .grading import a_value, complaint

MODULES = (sampling, layers, roi, receptive, learning, training, detecting, counting, neighbours,
           gpu)  # fmt: skip
EXERCISES = {name: exercise for m in MODULES for name, exercise in m.EXERCISES.items()}


def verdict(name: str, answer: Callable[..., Any], limit: float | None = None) -> str:
    """What `check` says."""
    if not known(name):
        return unknown(name)
    if limit is not None and not (isinstance(limit, int | float) and 0.001 <= limit < 1e6):
        return f"{name}: limit is {limit!r}, expected seconds, 0.001 or more."
    exercise, tried, trouble = EXERCISES[name], [], None
    for i in range(exercise.problems):
        args = exercise.problem(np.random.default_rng(zlib.crc32(f"{name} {i}".encode())))
        try:
            guarded(fits, name, answer, args)
            result = call(answer, args, limit or exercise.limit)
        except Trouble as found:
            trouble = str(found)
            break
        if result is NotImplemented:
            return f"{name}: not filled in yet. For a hint: exercises.hint({name!r})"
        tried.append((result, args))
    try:
        trouble = guarded(complaint, exercise, tried) or trouble
    except Trouble as found:
        trouble = str(found)
    if trouble:
        return " ".join(f"{name}: not yet. {trouble}".split())
    exercise.solved = True
    return f"{name}: right, on {exercise.problems} hidden problems."


def guarded(judge: Callable[..., Any], *args: Any) -> Any:
    """What a judge says, or `Trouble` where the answer makes it fail: an object that raises."""
    try:
        return judge(*args)
    except Trouble:
        raise
    except Exception as error:
        raise Trouble(f"Your answer cannot be judged: {described(error)}.") from None


def known(name: Any) -> bool:
    return isinstance(name, str) and name in EXERCISES


def fits(name: str, answer: Any, args: tuple[Any, ...]) -> None:
    """Raise `Trouble` where an answer cannot be called with these arguments at all."""
    if not callable(answer):
        itself = f"exercises.check({name!r}, {name})"
        raise Trouble(f"What you gave is {a_value(answer)}, not a function: write {itself}.")
    if gpu.not_launched(answer, args):
        itself = f"exercises.check({name!r}, launched({name}))"
        raise Trouble(f"A kernel has to be launched: hand it over as {itself}.")
    try:
        takes = inspect.signature(answer, follow_wrapped=False)
    except (TypeError, ValueError):
        return  # compiled code does not say what it takes
    try:
        takes.bind(*args)
    except TypeError:
        given = ", ".join(takes.parameters)
        wanted = inspect.signature(solved(name)).parameters.values()
        wants = ", ".join(p.name for p in wanted if p.default is p.empty)
        raise Trouble(f"Your function takes ({given}), expected {name}({wants}).") from None


def solved(name: str) -> Callable[..., Any]:
    """The solution. Only this function imports the solutions, and only `solution` shows one."""
    function: Callable[..., Any] = importlib.import_module("solutions").solution(name)
    return function


def unknown(name: str) -> str:
    close = difflib.get_close_matches(str(name), EXERCISES, n=3)
    rest = f"Did you mean {' or '.join(map(repr, close))}?" if close else "See exercises.EXERCISES."
    return f"There is no exercise {name!r}. {rest}"


def check(name: str, answer: Callable[..., Any], limit: float | None = None) -> None:
    """Compare an answer with the oracle, and say what is the matter with it.

    limit  seconds that one call of the answer may take, if not the exercise's own
    """
    print(verdict(name, answer, limit))


def hint(name: str) -> None:
    """The next hint; after the last one, it again."""
    if not known(name):
        return print(unknown(name))
    exercise = EXERCISES[name]
    exercise.hinted = min(exercise.hinted + 1, len(exercise.hints))
    print(f"Hint {exercise.hinted} of {len(exercise.hints)}: {exercise.hints[exercise.hinted - 1]}")
    if exercise.hinted == len(exercise.hints):
        print(f"That was the last one. A solution: exercises.solution({name!r})")


def solution(name: str) -> None:
    """The source of a solution, for those who have seen all hints or have solved the exercise."""
    if not known(name):
        return print(unknown(name))
    exercise = EXERCISES[name]
    left = len(exercise.hints) - exercise.hinted
    if left and not exercise.solved:
        return print(f"{name}: first the hints, {left} left: exercises.hint({name!r})")
    print(inspect.getsource(solved(name)))
