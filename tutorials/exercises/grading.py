"""What an exercise is, and how a result is judged: the machinery of `exercises`."""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import deformable_convnets.reference as reference
from deformable_convnets.reference.oracle.mistakes import MISTAKES, Mistake, same


@dataclass
class Exercise:
    """`right` and every `wrong` take the arguments that `problem` draws, as the answer does.

    signs     mistakes that no program gives exactly: a name, and whether (result, right) show it
    problems  on how many problems an answer is compared
    limit     seconds that one call of the answer may take
    hinted    how many hints have been shown
    solved    whether an answer has been right
    """

    right: Callable[..., Any]
    problem: Callable[[np.random.Generator], tuple[Any, ...]]
    hints: tuple[str, ...]
    wrong: tuple[Mistake, ...] = ()
    signs: tuple[tuple[str, Callable[[Any, Any], bool]], ...] = ()
    problems: int = 3
    limit: float = 10.0
    hinted: int = 0
    solved: bool = False


def of_operator(
    op: str, problem: Any, *hints: str, own: tuple[Mistake, ...] = (), **options: Any
) -> Exercise:
    """An exercise that asks for an operator of the library, or for one of its gradients.

    Its mistakes are its `own`, and then those that the library knows of the operator.
    """
    name, _, gradient = op.partition(".")
    pick = operator.attrgetter(gradient) if gradient else lambda result: result
    wrong = tuple(
        Mistake(m.name, lambda *a, m=m: pick(m.run(*a, **options))) for m in MISTAKES[name]
    )
    library = getattr(reference, name)
    return Exercise(lambda *a: pick(library(*a, **options)), problem, hints, own + wrong)


def complaint(exercise: Exercise, tried: list[tuple[Any, tuple[Any, ...]]]) -> str | None:
    """None where all results are right, else the mistake that gives them all, or how one differs.

    tried  each result, with its arguments
    """
    judged = [(result, exercise.right(*args), args) for result, args in tried]
    bad = [one for one in judged if not agree(*one[:2])]
    if not bad:
        return None
    result, right, args = bad[0]
    if result is None:
        return "Your function returned None: is there a return at its end?"
    name = diagnosis(exercise, bad, judged)
    return f"Your result is what one gets with: {name}." if name else fault(result, right, args)


def diagnosis(exercise: Exercise, bad: list[Any], judged: list[Any]) -> str | None:
    """The name of the first mistake that gives every result, those that are right as well."""
    for mistake in exercise.wrong:
        _, right, args = bad[0]
        if not agree(right, mistake.run(*args)) and all(
            agree(result, mistake.run(*args)) for result, _, args in (*bad, *judged)
        ):
            return mistake.name
    for name, shown in exercise.signs:
        if all(not wrong_type(result, right) and shown(result, right) for result, right, _ in bad):
            return name
    return None


def fault(result: Any, right: Any, args: tuple[Any, ...]) -> str:
    """How a result differs from the right one, in its first item that does if they are tuples."""
    if not isinstance(right, tuple):
        return wrong_type(result, right) or difference(result, right, args)
    if not isinstance(result, tuple):
        return f"Your result is {a_value(result)}, expected a tuple of {len(right)}."
    if len(result) != len(right):
        return f"Your result is a tuple of {len(result)}, expected one of {len(right)}."
    i = next(i for i in range(len(right)) if not agree(result[i], right[i]))
    return fault(result[i], right[i], args).replace("Your result", f"Your result[{i}]", 1)


def agree(a: Any, b: Any) -> bool:
    """Whether a result is that of `b`, rounded otherwise; of the same shape and kind."""
    if isinstance(b, tuple):
        return isinstance(a, tuple) and len(a) == len(b) and all(map(agree, a, b))
    if wrong_type(a, b):
        return False
    if np.asarray(b).dtype.kind == "f":
        return same(np.asarray(a, np.asarray(b).dtype), b)
    return bool(np.array_equal(a, b))


def wrong_type(result: Any, right: Any) -> str | None:
    """What is the matter with the type, the shape or the dtype of a result."""
    if not isinstance(right, np.ndarray):
        if is_a(result, right):
            return None
        return f"Your result is {a_value(result)}, expected {article(kind(right))}."
    expected = f"expected an array of shape {right.shape} and dtype {right.dtype}"
    if not isinstance(result, np.ndarray | np.generic):
        return f"Your result is {a_value(result)}, {expected}."
    if result.shape != right.shape:
        return f"Your result has shape {result.shape}, {expected}."
    # A whole number of another size is as good; a float of another size has other digits.
    if result.dtype.kind != right.dtype.kind or (
        right.dtype.kind == "f" and result.dtype != right.dtype
    ):
        return f"Your result has dtype {result.dtype}, {expected}."
    return None


def is_a(result: Any, right: Any) -> bool:
    """Whether a result is of the kind of `right`, which is not an array; NumPy's numbers count."""
    if isinstance(right, bool | np.bool_):
        return isinstance(result, bool | np.bool_)
    numbers = {int: (int, np.integer), float: (int, float, np.integer, np.floating)}
    wanted = numbers.get(kind(right), kind(right))
    return isinstance(result, wanted) and not isinstance(result, bool)


def kind(value: Any) -> type:
    """The type of a value; of NumPy's numbers, Python's."""
    return type(value.item()) if isinstance(value, np.generic) else type(value)


def article(cls: type) -> str:
    return f"{'an' if cls.__name__[0] in 'aeiou' else 'a'} {cls.__name__}"


def a_value(value: Any) -> str:
    """A value in a few words, for one line: an array by its shape, a number or a string itself."""
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    if isinstance(value, bool | int | float | complex | str | np.generic):
        return f"{short(value)}, {article(kind(value))}"
    return article(type(value))


def short(value: Any) -> str:
    """A number or a string itself, if it is not long."""
    text = repr(value.item() if isinstance(value, np.generic) else value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def difference(result: Any, right: Any, args: tuple[Any, ...]) -> str:
    """How a result of the right type differs."""
    if not isinstance(right, np.ndarray):
        values = [a for a in args if not isinstance(a, np.ndarray)]
        on = f" for {', '.join(map(str, values))}" if len(values) == len(args) else ""
        return f"Your result is {short(result)}, expected {short(right)}{on}."
    bad = ~np.isfinite(result) & np.isfinite(right)
    if bad.any():
        first = tuple(map(int, np.argwhere(bad)[0]))
        return (
            f"Your result is {result[first]} where a number is expected:"
            f" at {bad.sum()} of {bad.size} places, the first is index {first}."
        )
    equal = (result == right) | (np.isnan(result) & np.isnan(right))
    apart = np.where(equal, 0, np.nan_to_num(np.abs(result - 1.0 * right), nan=np.inf))
    worst = tuple(map(int, np.unravel_index(np.argmax(apart), right.shape)))
    values = [f"{v}" if v.dtype.kind == "b" else f"{v:.6g}" for v in (result[worst], right[worst])]
    return (
        f"Your result differs most at index {worst}: {values[0]}, expected {values[1]};"
        " no known mistake gives it."
    )
