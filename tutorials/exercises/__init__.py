"""The exercises: `check` compares an answer with the oracle and names the mistake it finds.

    exercises.check("grid", grid)     right, not filled in yet, or "your result equals ..."
    exercises.hint("grid")            the next hint

The problems are drawn from seeds that the notebooks do not show. The known mistakes are those of
`deformable_convnets.reference.oracle.mistakes`; a few exercises add their own.
"""

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from . import layers, roi
from .grading import Exercise, complaint

EXERCISES = layers.EXERCISES | roi.EXERCISES


def verdict(name: str, answer: Callable[..., Any]) -> str:
    """What `check` says."""
    exercise = named(name)
    for i in range(exercise.problems):
        args = exercise.problem(np.random.default_rng(zlib.crc32(f"{name} {i}".encode())))
        try:
            result = answer(*(a.copy() if isinstance(a, np.ndarray) else a for a in args))
        except NotImplementedError:
            result = NotImplemented
        except Exception as error:
            return f"{name}: your function raised {type(error).__name__}: {error}"
        if result is NotImplemented:
            return f"{name}: not filled in yet. For a hint: exercises.hint({name!r})"
        problem = complaint(exercise, result, args)
        if problem:
            return f"{name}: not yet. {problem}"
    return f"{name}: right, on {exercise.problems} hidden problems."


def named(name: str) -> Exercise:
    """The exercise of this name."""
    if name not in EXERCISES:
        raise ValueError(f"there is no exercise {name!r}, only {', '.join(EXERCISES)}")
    return EXERCISES[name]


def check(name: str, answer: Callable[..., Any]) -> None:
    """Compare an answer with the oracle, and say what is the matter with it."""
    print(verdict(name, answer))


def hint(name: str) -> None:
    """The next hint; after the last one, it again."""
    exercise = named(name)
    print(exercise.hints[min(exercise.hinted, len(exercise.hints) - 1)])
    exercise.hinted += 1
