"""The example of a failure: Python to paste, which raises the same AssertionError again."""

from collections.abc import Callable
from pathlib import PurePath
from typing import Any, NamedTuple

from .child import Remote
from .implementation import Implementation
from .law import Law

ORACLE = "deformable_convnets.reference.oracle"


class Callee(NamedTuple):
    """A callable of an implementation: where it is imported from (if it can be) and its name."""

    module: str
    name: str


def example(
    i: Implementation, operator: str, law: Law, problem: Any, asked: Any, fatal: bool
) -> str:
    """Python that holds the implementation to the law on this problem."""
    makers = "roi_problems" if law.pools else "problems, shapes"
    made = f"problem = {problem.code()}"
    function, backward = i.call[operator], i.call.get(f"{operator}_backward")
    if _of_a_peer(function):
        border = "" if law.pools else f", border={problem.border!r}"
        return "\n".join([
            f"from {ORACLE} import check, peers, {makers}",
            made,
            f"tested = peers.implementation({i.name!r}, operator={operator!r}{border})",
            f"check(tested, {law.name!r}, problem, {operator!r})",
        ])  # fmt: skip
    callees = [_callee(f) for f in (function, backward) if f is not None]
    words = [callees[0].name, repr(law.name), "problem"]
    words += [repr(operator)] if operator != "deform_conv2d" or len(callees) > 1 else []
    words += [callee.name for callee in callees[1:]]
    words += [f"lacks={sorted(asked.lacks)}"] if asked.lacks else []
    words += ["isolated=True"] if fatal else []
    words += [f"arrays={arrays!r}"] if (arrays := _arrays(function, asked)) else []
    lines = [f"from {ORACLE} import check, {makers}", *_imports(callees), made]
    return "\n".join([*lines, f"check({', '.join(words)})"])


def _of_a_peer(function: Callable[..., Any]) -> bool:
    return isinstance(function, Remote) and isinstance(function.child.target, str)


def _callee(function: Any) -> Callee:
    if isinstance(function, Remote):
        targets: Any = function.child.target
        function = targets[function.operator]
    if isinstance(function, str):  # "folder/kernels.py:forward" or "package.kernels:forward"
        path, _, name = function.rpartition(":")
        return Callee(PurePath(path).stem if path.endswith(".py") else path, name)
    function = getattr(function, "__wrapped__", function)
    name = getattr(function, "__qualname__", "implementation")
    if "<" in name:  # of a lambda, or inside a function
        return Callee("__main__", name.rpartition(".")[2].strip("<>").replace("lambda", "mine"))
    return Callee(getattr(function, "__module__", None) or "__main__", name)


def _imports(callees: list[Callee]) -> list[str]:
    """One line for each module."""
    by_module: dict[str, list[str]] = {}
    for callee in callees:
        names = by_module.setdefault(callee.module, [])
        names += [] if (word := callee.name.split(".")[0]) in names else [word]
    return [f"from {m} import {', '.join(n)}" for m, n in by_module.items() if m != "__main__"]


def _arrays(function: Any, asked: Any) -> str | None:
    if isinstance(function, Remote):
        return function.child.options.get("arrays") or asked.arrays
    return asked.arrays
