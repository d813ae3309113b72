"""A law: what the paper's equations promise of any implementation, on problems of certain kinds.

A check is a function of an implementation and a problem that raises AssertionError where the
promise is broken. `LAWS` holds them all by name; the modules `laws*` and `roi_laws*` fill it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from . import problems, roi_problems
from .compare import ABSENT, assert_same, assert_true
from .implementation import Implementation
from .problems import Scope
from .volume_shapes import FIXED

Check = Callable[[Implementation, Any], None]


@dataclass(frozen=True)
class Law:
    """A promise: its name, what it says, of which operator and problems, and the check.

    operator   whose law it is; those of RoI pooling are laws of all four operators
    gradients  whether it says something of the gradients alone, and needs the backward
    others     further operators that it compares with
    needs      words of `features.WORDS` without which it says nothing
    bare       whether the arguments are given to the implementation as they are, not as copies
    limits     fields of the shape that must have a certain value
    prepare    what the check does to its problem first, such as ordinary numbers in place of exact
    follows    whether it follows, for every problem, from agreement with the reference
    """

    name: str
    says: str
    check: Check = field(repr=False)
    families: tuple[str, ...]
    operator: str = "deform_conv2d"
    gradients: bool = False
    others: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ("float32", "float64")
    rules: tuple[str, ...] = roi_problems.RULES
    needs: tuple[str, ...] = ()
    limits: dict[str, Any] = field(default_factory=dict)
    follows: bool = True
    bare: bool = False
    prepare: Callable[[Any], Any] | None = field(default=None, repr=False)

    @property
    def operators(self) -> tuple[str, ...]:
        """All that an implementation must offer."""
        backward = (f"{self.operator}_backward",) if self.gradients else ()
        return (self.operator, *backward, *self.others)

    @property
    def pools(self) -> bool:
        """Whether it is about RoI pooling."""
        return self.operator == "deform_ps_roi_pool"

    def recipes(self, dtype: str, scope: Scope = problems.EVERYTHING) -> Any:
        """A Hypothesis strategy of recipes, for the problems that this law is about."""
        if self.pools:
            rules = self._rules(scope)
            return roi_problems.recipes(*self.families, rules=rules, scope=scope, **self.limits)
        return problems.recipes(*self.families, dtype=dtype, scope=scope, **self.limits)

    def problems(self, count: int, dtype: str, scope: Scope = problems.EVERYTHING) -> list[Any]:
        """Such problems without Hypothesis, always the same ones."""
        drawn = {"dtype": dtype, "scope": scope, **self.limits}
        if self.pools:
            found = roi_problems.some(count, *self.families, rules=self._rules(scope), **drawn)
            return list(found)
        return list(problems.some(count, *self.families, **drawn))

    def of_each_family(self, dtype: str, scope: Scope) -> list[Any]:
        """Three problems of every family, one family after the other, always the same ones."""
        made: list[Any] = []
        for seed in range(3):
            if self.pools:
                made += roi_problems.of_each(seed, self.families, self._rules(scope), dtype, scope,
                                             **self.limits)  # fmt: skip
            else:
                made += problems.of_each(seed, self.families, dtype, scope, **self.limits)
        if "large" in self.families and not scope.fixed_shapes:
            for seed in (3, 4):  # with 0 to 2, every one of those shapes
                made += problems.of_each(seed, ("large",), dtype, scope, **self.limits)
            for seed in range(len(FIXED[self.limits.get("axes", 2)]["long"])):
                made += problems.of_each(seed, ("long",), dtype, scope, **self.limits)
        return made

    def _rules(self, scope: Scope) -> tuple[str, ...]:
        return tuple(rule for rule in self.rules if rule in scope.bins)


LAWS: dict[str, Law] = {}


def law(**about: Any) -> Callable[[Check], Check]:
    """Register a check under its name; its docstring's first line is what the law says."""

    def register(check: Check) -> Check:
        says = (check.__doc__ or "").splitlines()[0]
        LAWS[check.__name__] = Law(check.__name__, says, check, **about)
        return check

    return register


def laws_of(operator: str) -> list[Law]:
    """The laws of an operator; all four operators of RoI pooling have the same ones."""
    base = "deform_ps_roi_pool" if operator.endswith("roi_pool") else operator
    return [law for law in LAWS.values() if law.operator == base]


class Given(NamedTuple):
    """A gradient that an implementation gives, by the name of its argument."""

    name: str
    value: Any


def given(grads: Any, *names: str) -> Iterator[Given]:
    """Those of the named gradients that the implementation gives and the problem has."""
    for name in names:
        value = getattr(grads, name)
        if value is not ABSENT and value is not None:
            yield Given(name, value)


def assert_same_grads(grads: Any, expected: Any) -> None:
    """Field by field, None where None is expected; what is ABSENT on a side is not compared."""
    for name, value in expected._asdict().items():
        got = getattr(grads, name)
        if got is ABSENT or value is ABSENT:
            continue
        if value is None or got is None:
            assert_true(f"grads.{name} is {got}, expected {value}", got is value)
        else:
            assert_same(f"grads.{name}", got, value)
