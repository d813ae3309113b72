"""What an exercise is, and how an answer is judged: the machinery of `exercises`."""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import deformable_convnets.reference as reference
from deformable_convnets.reference.oracle.mistakes import MISTAKES, Mistake, same


@dataclass
class Exercise:
    """`right` and every `wrong` take the arguments that `problem` draws, as the answer does."""

    right: Callable[..., Any]
    problem: Callable[[np.random.Generator], tuple[Any, ...]]
    hints: tuple[str, ...]
    wrong: tuple[Mistake, ...] = ()
    problems: int = 3
    hinted: int = 0


def of_operator(op: str, problem: Any, *hints: str, **options: Any) -> Exercise:
    """An exercise that asks for an operator of the library, or for one of its gradients."""
    name, _, gradient = op.partition(".")
    pick = operator.attrgetter(gradient) if gradient else lambda result: result
    wrong = tuple(
        Mistake(m.name, lambda *a, m=m: pick(m.run(*a, **options))) for m in MISTAKES[name]
    )
    library = getattr(reference, name)
    return Exercise(lambda *a: pick(library(*a, **options)), problem, hints, wrong)


def complaint(exercise: Exercise, result: Any, args: tuple[Any, ...]) -> str | None:
    """None where the result is right, else the mistake that gives it, or how it differs."""
    right = exercise.right(*args)
    if result is None:
        return "Your function returned None: is there a return at its end?"
    if agree(result, right):
        return None
    outcomes = [(m.name, m.run(*args)) for m in exercise.wrong]
    names = [n for n, wrong in outcomes if agree(result, wrong) and not agree(right, wrong)]
    if names:
        return f"Your result equals {' or '.join(names)}."
    if not isinstance(right, np.ndarray):
        return f"Your result is {result!r}, expected {right!r} for {args!s:.200}."
    result = np.asarray(result)
    if result.shape != right.shape:
        return f"Your result has shape {result.shape}, expected {right.shape}."
    worst = np.unravel_index(np.argmax(np.abs(result - right)), right.shape)
    return (
        f"Your result differs most at index {tuple(map(int, worst))}: {result[worst]:.6g},"
        f" expected {right[worst]:.6g}; no known mistake gives it."
    )


def agree(a: Any, b: Any) -> bool:
    if isinstance(b, np.ndarray) and b.dtype.kind == "f":
        return np.shape(a) == b.shape and same(np.asarray(a, b.dtype), b)
    return bool(np.array_equal(a, b))
