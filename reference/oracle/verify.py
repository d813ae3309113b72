"""`verify`: hold an implementation to the laws, and report which it breaks, how, and why.

    report = verify(my_deform_conv2d, dtype="float32")
    print(report)

Needs Hypothesis, the extra `oracle`.
"""

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from difflib import get_close_matches
from importlib.util import find_spec
from typing import Any

import numpy as np

from . import calls, laws
from .child import Child
from .failures import Failed
from .features import WORDS
from .hunt import Hunt
from .implementation import OPERATORS, VOLUMES, Implementation
from .law import LAWS, Law, laws_of
from .lifted import lifted
from .peers.arrays import of as arrays_of
from .problems import Scope
from .report import Failure, Kept, NotChecked, Report

DTYPES = ("float16", "float32", "float64")
BORDERS = ("zero", "dcnv1")
BINS = ("paper", "mxnet", "align")
assert laws.LAWS is LAWS  # importing `laws` filled it
Words = str | Collection[str]


@dataclass(frozen=True)
class Asked:
    """What `verify` was asked for, parsed."""

    op: str
    dtypes: tuple[str, ...]
    borders: tuple[str, ...]
    bins: tuple[str, ...]
    laws: tuple[Law, ...]
    lacks: frozenset[str]
    examples: int
    seed: int
    shrink: bool
    arrays: str | None = None

    def scope(self, i: Implementation) -> Scope:
        """What is drawn: of what was asked for, what the implementation has."""
        borders = tuple(b for b in self.borders if f"the {b} border" not in i.lacks)
        bins = tuple(b for b in self.bins if f"bins {b}" not in i.lacks)
        pools = self.op.endswith("roi_pool")
        if pools and not bins:
            raise ValueError(f"{i.name} lacks bins {' and '.join(self.bins)}")
        if self.op in ("sample", "deform_conv2d", "deform_conv3d") and not borders:
            raise ValueError(f"{i.name} lacks the {' and the '.join(self.borders)} border")
        return Scope(i.lacks, borders or self.borders, bins or self.bins, i.fixed_shapes)


def verify(
    implementation: Implementation | Callable[..., Any],
    op: str = "deform_conv2d",
    backward: Callable[..., Any] | None = None,
    *,
    dtype: Words,
    border: Words = "zero",
    bins: Words = "paper",
    laws: Words | None = None,
    examples: int = 200,
    seed: int = 0,
    lacks: Words = (),
    arrays: str | None = None,
    isolated: bool = False,
    time_limit: float = 60.0,
    shrink: bool = True,
    progress: Callable[[int, int, str], None] | None = None,
) -> Report:
    """Hold an operator, forward and backward if there is one, to every law that is about it.

    implementation  a callable with the signature of the reference's `op`, on NumPy arrays
    op        "deform_conv2d", "conv2d", "sample", "roi_pool", "deform_roi_pool", "ps_roi_pool",
              "deform_ps_roi_pool" or, for volumes, "deform_conv3d"
    backward  a callable with the signature of the reference's backward; it returns the gradients
              as a named tuple, a dict, or in the reference's order
    dtype     "float32", "float64" or "float16", or several of them
    border, bins  the rules at the border, and for the points of a RoI's bins, one or several
    laws      names of `LAWS`, for volumes also without "volume_"; None for all of the operator's
    examples  how many problems a law is tried on; the same seed draws the same ones
    lacks     what is not supported, in the words of `features.WORDS`. It is listed and not tried,
              as is a keyword that the callable does not take, and what raises NotImplementedError
    arrays    what the callables take and return, if not NumPy's arrays: "torch", "torch:cuda",
              "cupy" or "jax"
    isolated  run it in a child process, which may then hang or die, as compiled code does;
              `time_limit` in seconds a call
    shrink    whether to look for the smallest example of a failure
    progress  called with how many laws are done, of how many, and the next one's name

    Raises ValueError for an unknown operator, dtype, border, rule, law or word, ImportError without
    Hypothesis, and RuntimeError where an array of the kind `arrays` cannot be made.
    """
    if find_spec("hypothesis") is None:
        raise ImportError("verify needs Hypothesis: in a checkout, pip install '.[oracle]'")
    asked = Asked(
        _one("op", op, OPERATORS + VOLUMES), _several("dtype", dtype, DTYPES),
        _several("border", border, BORDERS), _several("bins", bins, BINS),
        chosen(op, laws), frozenset(_several("lacks", lacks, WORDS, empty=True)),
        _whole("examples", examples, 1), _whole("seed", seed, 0), bool(shrink), arrays,
    )  # fmt: skip
    start = time.perf_counter()
    i = declared(as_implementation(implementation, op, backward, arrays), asked)
    with _running(i, isolated, time_limit, arrays) as running:
        found = list(_outcomes(running, asked, progress))
    return Report(
        name=i.name, operator=op, gradients=i.offers(f"{op}_backward"), dtypes=asked.dtypes,
        rules=_rules(asked, i),
        lacks=tuple(sorted(i.lacks)),
        failures=[o for o in found if isinstance(o, Failure)],
        kept=[o for o in found if isinstance(o, Kept)],
        not_checked=[o for o in found if isinstance(o, NotChecked)],
        versions=i.versions, examples=examples, seed=seed,
        seconds=round(time.perf_counter() - start, 1),
    )  # fmt: skip


def check(
    implementation: Implementation | Callable[..., Any],
    law: str,
    problem: Any,
    op: str = "deform_conv2d",
    backward: Callable[..., Any] | None = None,
    *,
    lacks: Words = (),
    arrays: str | None = None,
    isolated: bool = False,
    time_limit: float = 60.0,
) -> None:
    """One law on one problem, as `verify` tries it; AssertionError where it is broken.

    The example of a failure calls this. Raises NotSupported where the problem needs more than the
    implementation has.
    """
    (checked,) = chosen(_one("op", op, OPERATORS + VOLUMES), law)
    border, bins = getattr(problem, "border", "zero"), getattr(problem, "bins", "paper")
    words = frozenset(_several("lacks", lacks, WORDS, empty=True))
    asked = Asked(op, DTYPES, (border,), (bins,), (checked,), words, 1, 0, False, arrays)
    i = declared(as_implementation(implementation, op, backward, arrays), asked)
    with _running(i, isolated, time_limit, arrays) as running:
        checked.check(lifted(calls.careful(running, [], bare=checked.bare), op), problem)


def as_implementation(
    given: Implementation | Callable[..., Any], op: str, backward: Any, arrays: str | None
) -> Implementation:
    """Callables as an implementation on NumPy arrays."""
    if isinstance(given, Implementation):
        if backward is not None or arrays is not None:
            raise ValueError("backward and arrays are for callables: an Implementation has its own")
        if not given.offers(op):
            raise ValueError(f"{given.name} has no operator {op!r}, only {', '.join(given.call)}")
        return given
    functions = {op: given} if backward is None else {op: given, f"{op}_backward": backward}
    wrong = [name for name, function in functions.items() if not callable(function)]
    if wrong:
        raise TypeError(f"{wrong[0]} is {functions[wrong[0]]!r}, expected a callable")
    if arrays is not None:
        functions = {name: arrays_of(arrays).wrapped(f) for name, f in functions.items()}
    return Implementation(named(given), functions)


def named(function: Any) -> str:
    """module:name, as far as a callable has them."""
    module = getattr(function, "__module__", None) or "__main__"
    return f"{module}:{getattr(function, '__qualname__', type(function).__name__)}"


def declared(i: Implementation, asked: Asked) -> Implementation:
    """With all that it lacks: as it says, as was said here, and by its signatures."""
    rules = {  # that a callable which is not told one does not have
        "border": [f"the {border} border" for border in BORDERS if border != asked.borders[0]],
        "bins": [f"bins {rule}" for rule in BINS if rule != asked.bins[0]],
    }
    by_signature = [calls.lacking(name, f, rules) for name, f in i.call.items()]
    return replace(i, lacks=i.lacks.union(asked.lacks, *by_signature))


def chosen(op: str, names: Words | None) -> tuple[Law, ...]:
    """The laws of an operator with these names, or all of them."""
    there = {law.name: law for law in laws_of(op)}
    if names is None:
        return tuple(there.values())
    words: Any = (names,) if isinstance(names, str) else names
    if isinstance(words, Collection):  # a law of volumes has the name of that of maps
        words = [f"volume_{word}" if f"volume_{word}" in there else word for word in words]
    return tuple(there[name] for name in _several("laws", words, there))


@contextmanager
def _running(
    i: Implementation, isolated: bool, time_limit: float, arrays: str | None
) -> Iterator[Implementation]:
    """The implementation, in a child process if wanted; RuntimeError where no arrays can be."""
    if not isinstance(time_limit, int | float) or not 0 < time_limit < float("inf"):
        raise ValueError(f"time_limit is {time_limit}, expected a number of seconds above 0")
    kind = arrays_of(arrays or "numpy")
    if not isolated:
        kind.assert_there()
        yield i
        return

    def there(a: Any) -> Any:  # asked in the child: a GPU that this process has used is lost there
        kind.assert_there()
        return a

    with Child({**i.call, "arrays": there}, name=i.name, time_limit=time_limit) as child:
        try:
            child.call("arrays", {"a": np.zeros(1)})
        except Failed as error:
            raise RuntimeError(str(error)) from None
        yield replace(i, call={name: child.function(name) for name in i.call})


def _outcomes(i: Implementation, asked: Asked, progress: Any) -> Iterator[Any]:
    scope, tried = asked.scope(i), [(law, dtype) for law in asked.laws for dtype in asked.dtypes]
    for done, (law, dtype) in enumerate(tried):
        if progress is not None:
            progress(done, len(tried), f"{law.name} {dtype}")
        reason = _reason(law, dtype, i, asked)
        if not reason:
            yield Hunt(i, asked.op, law, dtype, scope, asked).outcome()
        else:
            yield NotChecked(law.name, dtype, reason)
    if progress is not None:
        progress(len(tried), len(tried), "")


def _reason(law: Law, dtype: str, i: Implementation, asked: Asked) -> str:
    """Why a law is not checked; empty if it is."""
    whole = lifted(i, asked.op)
    missing = [name for name in law.operators if not whole.offers(name)]
    if missing:
        named = [name.replace("deform_ps_roi_pool", asked.op) if law.pools else name
                 for name in missing]  # fmt: skip
        return f"needs {', '.join(named)}"
    if dtype not in law.dtypes:
        return f"is about {' and '.join(law.dtypes)}, not {dtype}"
    lacks = [word for word in law.needs if word in whole.lacks]
    if lacks:
        return f"needs {', '.join(lacks)}"
    if law.pools and not set(law.rules) & set(asked.bins):
        return f"is about bins {', '.join(law.rules)}"
    return ""


def _rules(asked: Asked, i: Implementation) -> tuple[str, ...]:
    """The rules that were tried, in words."""
    scope = asked.scope(i)
    if asked.op.endswith("roi_pool"):
        return tuple(f'bins="{rule}"' for rule in scope.bins)
    return () if asked.op == "conv2d" else tuple(f'border="{b}"' for b in scope.borders)


def _one(name: str, value: Any, allowed: Collection[str]) -> str:
    if not (isinstance(value, str) and value in allowed):
        near = get_close_matches(str(value), allowed, 1)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{name} is {value!r}, expected one of {', '.join(allowed)}{meant}")
    return value


def _several(
    name: str, value: Words, allowed: Collection[str], *, empty: bool = False
) -> tuple[str, ...]:
    """One or more of the allowed words."""
    if not isinstance(value, str | Collection):
        count = "some" if empty else "one or more"
        raise ValueError(f"{name} is {value!r}, expected {count} of {', '.join(allowed)}")
    words = (value,) if isinstance(value, str) else tuple(value)
    if not words and not empty:
        raise ValueError(f"{name} is {value!r}, expected one or more of {', '.join(allowed)}")
    return tuple(_one(name, word, allowed) for word in words)


def _whole(name: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name} is {value!r}, expected an int of at least {least}")
    return int(value)
