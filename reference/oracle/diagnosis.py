"""Why a law is broken: the known mistake that gives the wrong results, or what they share.

The calls of the failure, and of some dozens of other problems, are compared with the reference. A
mistake explains them if it gives the same result in every call, those where it is no mistake too.
"""

import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np

import deformable_convnets.reference as reference

from . import features, laws, laws_of_parts, lost_writes, problems, roi_laws, roi_problems
from .calls import Record
from .compare import ABSENT, Mismatch
from .failures import Failed, NotSupported
from .implementation import Implementation
from .law import LAWS, Law
from .mistakes import MISTAKES, OPERATORS, Mistake, mistake, same
from .problems import Scope

MORE = 48  # problems that are tried besides the one that failed
FEW = 3  # ends of the process that are awaited for them
CALLED = "; it is called with stride=(1, 1), padding=((0, 0), (0, 0)), and so on"
WORDY = 3  # right calls without a word, before it counts as what the wrong ones have in common


class Case(NamedTuple):
    """One call and one of its results: what came, and what is right."""

    arguments: dict[str, Any]
    result: Any
    right: Any

    @property
    def wrong(self) -> bool:
        return not same(self.result, self.right)


@dataclass
class Evidence:
    """A failure, and the implementation to ask for more."""

    i: Implementation
    operator: str
    law: Law
    dtype: str
    scope: Scope
    found: Any
    log: list[Record]

    @cached_property
    def wrong(self) -> Record | None:
        """The first call of the failure that went wrong."""
        done = [r for r in self.found.log if r.result is not None]
        unfinished = [r for r in self.found.log if r.result is None]
        bad = [r for r in done if any(case.wrong for _, case in cases(r))]
        return (unfinished + bad + [None])[0]

    @cached_property
    def more(self) -> list[Record]:
        """Calls of the same operator on other problems, right or wrong."""
        assert self.wrong is not None
        operator, records = self.wrong.operator, [self.wrong]
        backward, fatal = operator.endswith("_backward"), 0
        smooth = backward and not laws.takes_sides(self.i)  # at kinks there is no one right result
        drawn = more_problems(self.law.name, self.dtype, self.scope, smooth)
        enough = MORE * (5 if self.law.prepare else 3)
        for number, problem in enumerate(drawn):
            if len(records) > enough:
                break
            self.log.clear()
            left = number % 4 == 3 and laws.takes_sides(self.i)
            try:
                ask(self.i, self.law, backward, problem, left)
            except Failed as error:
                fatal += error.fatal
                if error.kind == "hung" or fatal == FEW:
                    break
            except NotSupported:
                continue
            records += [record for record in self.log if record.operator == operator]
        return records


@lru_cache(maxsize=8)
def more_problems(law_name: str, dtype: str, scope: Scope, smooth: bool) -> tuple[Any, ...]:
    """Problems of several families and those of the law, changed as the law changes them.

    smooth  whether no point may lie on a kink
    """
    law = LAWS[law_name]
    off_kinks = "odd" if law.pools else "base"
    names: tuple[str, ...] = (
        (off_kinks, "kinks") if law.pools or dtype == "float16" else ("base", "kinks", "edge")
    )
    source: Any = roi_problems if law.pools else problems
    extra: dict[str, Any] = {"rules": scope.bins} if law.pools else {}
    extra |= {"N": 1} if law.operator == "sample" else {}
    extra |= {"axes": 3} if law.operator == "deform_conv3d" else {}
    names = (off_kinks,) if smooth else names
    drawn = source.some(4 * MORE, *names, dtype=dtype, scope=scope, **extra)
    found, spare = drawn[:MORE], drawn[MORE:]
    own = law.problems(MORE // 2, dtype, scope)
    own += [
        p
        for p in law.of_each_family(dtype, scope)
        if p.family not in ("far", "across", "large", "long")
    ]
    found += [p for p in own if not smooth or p.family == names[0]]
    found = found + [law.prepare(p) for p in found] if law.prepare else found
    return tuple(found + spare)  # the last for those that refuse many


def ask(i: Implementation, law: Law, backward: bool, problem: Any, left: bool) -> None:
    """Call the law's operator, or its backward, on a problem."""
    side = {"side": "left"} if left else {}
    if law.operator == "conv2d":
        about = laws_of_parts.conv2d_gradients if backward else laws_of_parts.conv2d_forward
        about(i, problem)
    elif law.operator == "sample":
        x, p, grad = laws_of_parts.sample_arguments(problem)
        if backward:
            i.sample_backward(grad, x, p, border=problem.border, **side)
        else:
            i.sample(x, p, border=problem.border)
    elif backward:
        (roi_laws if law.pools else laws).backward(i, problem, **side)
    else:
        (roi_laws if law.pools else laws).forward(i, problem)


def cases(record: Record) -> Iterator[tuple[str, Case]]:
    """The results of a call by name: "y", or every gradient that was given."""
    right = getattr(reference, record.operator)(**record.arguments)
    if not record.operator.endswith("_backward"):
        yield "y", Case(record.arguments, record.result, right)
        return
    for name, value in right._asdict().items():
        got = getattr(record.result, name)
        if got is not ABSENT and value is not None:
            yield name, Case(record.arguments, got, value)


def explained(evidence: Evidence) -> str:
    """One sentence on why the law is broken."""
    error = evidence.found.error
    if isinstance(error, Failed):
        return _of_a_call(error, evidence)
    if isinstance(error, Mismatch) and error.what.endswith(" after the call"):
        return f"it writes to its argument {error.what.removesuffix(' after the call')}"
    if evidence.wrong is None:
        if isinstance(error, Mismatch) and ", the second time" in error.what:
            return "results depend on what the memory held before: something is never written"
        if isinstance(error, Mismatch) and "bound" in error.allowed:
            off, bound = float(error.allowed["error"]), float(error.allowed["bound"])
            times = f"{off / bound:.2g} times what" if bound else f"{off:.2g}, where no"
            return f"{error.what} is off by {times} rounding can explain"
        if isinstance(error, Mismatch) and evidence.law.name.endswith("is_exact"):
            return f"{error.what} is off by a few units in the last place: it is rounded too often"
        return "every call gives the right result when it is judged by itself"
    if _changes(evidence):
        return "the same call gives another result: something is never written, or left to chance"
    by_name: dict[str, list[Case]] = {}
    for record in evidence.more:
        if record.result is not None:
            for name, case in cases(record):
                if case.right.size and (case.wrong or not _empty(case.arguments)):
                    by_name.setdefault(name, []).append(case)
    for each in by_name.values():
        each.sort(key=lambda case: not case.wrong)  # so that most mistakes are soon ruled out
    found = [
        _of_results(evidence.wrong.operator, name, each)
        for name, each in by_name.items() if each[0].wrong
    ]  # fmt: skip
    return "; ".join(dict.fromkeys(found))


def _empty(arguments: Mapping[str, Any]) -> bool:
    """Whether a call has no images, points or RoIs: it is right by chance."""
    return any(a.size == 0 for a in arguments.values() if isinstance(a, np.ndarray))


def _changes(evidence: Evidence) -> bool:
    """Whether the wrong call, made again and again, gives different results."""
    record = evidence.wrong
    assert record is not None
    try:
        again = [evidence.i.call[record.operator](**record.arguments) for _ in range(2)]
    except (Failed, NotSupported):
        return False
    several = [a if isinstance(a, tuple) else (a,) for a in (record.result, *again)]
    return any(
        not np.array_equal(a, b, equal_nan=True)
        for first, *others in zip(*several, strict=True)
        for a, b in ((first, other) for other in others)
        if isinstance(first, np.ndarray)
    )


def _of_a_call(error: Failed, evidence: Evidence) -> str:
    """A call that gave nothing to judge."""
    said = {
        "raised": "it raises",
        "hung": "it does not return",
        "died": "it ends the process",
        "type": "it returns something else than arrays",
        "shape": "it returns the wrong shape",
        "dtype": "it returns the wrong dtype",
    }[error.kind]
    if "read-only" in str(error):
        return "it writes to its arguments"
    if error.kind == "hung" or evidence.wrong is None:
        return said
    outcomes = [(features.of(r.operator, r.arguments), r.result is None) for r in evidence.more]
    shared = _shared(evidence.wrong.operator, outcomes)
    advice = "; if that is not supported, say so: `lacks`, or NotImplementedError"
    raised = error.kind == "raised"
    never = raised and all(nothing for _, nothing in outcomes)
    in_pairs = never and "stride" in evidence.wrong.arguments
    return said + shared + advice * (raised and " without" in shared) + CALLED * in_pairs


def _of_results(name: str, result: str, each: list[Case]) -> str:
    """What explains the wrong ones among these results."""
    what = result if result == "y" else f"grads.{result}"
    names = [m.name for m in _candidates(name, result) if _explains(m, result, each)]
    if names:
        return f"{what} equals {' or '.join(names)}"
    if result == "x" and lost_writes.lost(name, each):
        return (
            f"{what} is right where one sample reads the pixel, and wrong only where several do:"
            " they overwrite each other, not add"
        )
    if any(np.isnan(c.result).any() and not np.isnan(c.right).any() for c in each):
        return f"{what} is NaN where it should be a number"
    outcomes = [(features.of(name, case.arguments), case.wrong) for case in each]
    return f"{what} is wrong{_shared(name, outcomes)}{_beyond(each)}; no known mistake gives it"


def _beyond(each: list[Case]) -> str:
    """Of which size all wrong calls have more than any right one: the one that exceeds most."""
    wrong = [features.sizes(case.arguments) for case in each if case.wrong]
    right = [features.sizes(case.arguments) for case in each if not case.wrong]
    found = {
        what: (min(sizes[what] for sizes in wrong), max(sizes[what] for sizes in right))
        for what in wrong[0] if right
    }  # fmt: skip
    what = max(found, key=lambda what: found[what][0] / max(found[what][1], 1), default=None)
    if what is None or found[what][0] <= found[what][1]:
        return ""
    return (
        f", where there are {found[what][0]} {what} or more: right ones have up to {found[what][1]}"
    )


def _candidates(name: str, result: str) -> list[Mistake]:
    """The mistakes of an operator; for x, weight ... also those of its forward, derived rightly."""
    found = list(MISTAKES.get(name, ()))
    forward = name.removesuffix("_backward")
    if forward != name and result not in ("offset", "p") and name in OPERATORS:
        known = {m.name for m in found}
        right, table = OPERATORS[name][0], OPERATORS[forward][1]
        found += [mistake(right, n, wrong) for n, wrong in table.items() if n not in known]
    return found


def _explains(m: Mistake, result: str, each: list[Case]) -> bool:
    pick: Any = operator.attrgetter(result) if result != "y" else lambda y: y
    try:
        return all(same(case.result, pick(m.run(**case.arguments))) for case in each)
    except Exception:  # a mistake that does not apply to such a call
        return False


def _shared(name: str, outcomes: list[tuple[set[str], bool]]) -> str:
    """What all wrong calls, and few right ones, have in common."""
    wrong = [words for words, bad in outcomes if bad]
    right = [words for words, bad in outcomes if not bad]
    if not wrong or not right:
        return f" in all {len(outcomes)} calls" if wrong else ""
    common = set.intersection(*wrong)
    without = {word: sum(word not in words for words in right) for word in common}
    chance = len(right) / len(outcomes)  # that a call is right, whatever words it has
    telling = {word: n for word, n in without.items() if n >= WORDY and chance**n < 0.01}
    if not telling or len(wrong) == 1:
        nothing = ", which share nothing that others lack" * (len(wrong) > 1)
        return f" in {len(wrong)} of {len(outcomes)} calls{nothing}"
    best = max(telling, key=lambda word: (telling[word], word))
    alike = len(wrong) + len(right) - telling[best]
    return (
        f" in {len(wrong)} of {alike} calls with {features.meaning(name, best)},"
        f" and in none of {telling[best]} without"
    )
