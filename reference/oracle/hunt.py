"""The hunt for a problem on which an implementation breaks a law, and for a smaller one.

Hypothesis draws what problems are made from, and shrinks it when one fails.
"""

import time
from collections import Counter
from contextlib import suppress
from typing import Any, NamedTuple

from . import calls
from .compare import Count, Mismatch
from .diagnosis import Evidence, explained
from .example import example
from .failures import Failed, NotSupported, Refused
from .implementation import Implementation
from .law import Law
from .lifted import lifted
from .probes import seen
from .problems import Scope
from .report import Failure, Kept, NotChecked
from .smaller import smaller

PATIENCE = 20.0  # seconds that Hypothesis may spend on finding a smaller example
MOST = 8  # where problems are refused, one in so many of the examples must be kept, and not empty
BRIEFLY = 3.0  # seconds that are spent on the smallest problems after that


class Enough(BaseException):
    """Ends the hunt. No Exception, which Hypothesis would take for a failure of the law."""


class Found(NamedTuple):
    """A problem that breaks the law, what was said, and the calls that led there."""

    problem: Any
    error: Exception
    log: list[calls.Record]

    @property
    def kind(self) -> str:
        """That of the error: "value", or of `failures.Failed`."""
        return self.error.kind if isinstance(self.error, Failed) else "value"


class Hunt:
    """One law, one dtype."""

    def __init__(
        self, i: Implementation, operator: str, law: Law, dtype: str, scope: Scope, asked: Any
    ):
        self.log: list[calls.Record] = []
        self.careful = lifted(calls.careful(i, self.log, bare=law.bare), operator)
        self.i, self.operator, self.law, self.dtype, self.asked = i, operator, law, dtype, asked
        self.scope = scope._replace(without=self.careful.lacks)
        self.passed, self.unsupported = 0, set[str]()
        self.solid = set[str]()  # the problems that were kept and are not empty
        self.refused = Counter[str]()
        self.found: Found | None = None
        self.since = 0.0

    def outcome(self) -> Failure | Kept | NotChecked:
        """What came of it."""
        for look in (self._try_each_family, self._draw, self._try_smaller):
            if look != self._draw or not self._ended():  # to wait for one more end tells nothing
                with suppress(Enough):
                    look()
        if self.found is not None:
            return self._failure(self.found)
        refused = self.refused.total()
        if self.passed and refused and len(self.solid) < max(1, self.asked.examples // MOST):
            why = ", ".join(sorted(self.refused))
            reason = f"the implementation refused {refused} of {refused + self.passed}: {why}"
            return NotChecked(self.law.name, self.dtype, reason)
        if self.passed:
            return Kept(self.law.name, self.dtype, self.passed, dict(self.refused))
        words = ", ".join(sorted(self.unsupported)) or "problems that cannot be drawn"
        return NotChecked(self.law.name, self.dtype, f"needs {words}")

    def _try_each_family(self) -> None:
        """Some of every family, which chance alone might not draw."""
        few = self.asked.examples // 4
        for problem in self.law.of_each_family(self.dtype, self.scope)[:few]:
            with suppress(AssertionError, NotSupported):
                self._try(problem)
            if self.found is not None:
                return

    def _ended(self) -> bool:
        """Whether the implementation was found to hang, or to end its process."""
        return self.found is not None and self.found.kind in ("died", "hung")

    def _draw(self) -> None:
        """Let Hypothesis draw; what it raises in the end is kept in `found`."""
        from hypothesis import HealthCheck, Phase, Verbosity, given, reject, seed, settings
        from hypothesis.errors import HypothesisException

        phases = [Phase.generate] + [Phase.shrink] * self.asked.shrink
        examples = max(1, self.asked.examples - self.passed)
        quietly = settings(
            max_examples=examples, deadline=None, database=None, phases=phases,
            suppress_health_check=list(HealthCheck), verbosity=Verbosity.quiet,
            report_multiple_bugs=False,
        )  # fmt: skip

        @seed(self.asked.seed)
        @quietly
        @given(self.law.recipes(self.dtype, self.scope))
        def tried(recipe: Any) -> None:
            try:
                self._try(recipe.problem(self.dtype))
            except NotSupported:
                reject()

        with suppress(AssertionError, HypothesisException):  # flaky, or nothing could be drawn
            tried()

    def _try_smaller(self) -> None:
        """The first of the small problems that breaks the law too, in place of what was found."""
        first = self.found
        if first is None or not self.asked.shrink:
            return
        end = time.perf_counter() + BRIEFLY
        for problem in smaller(first.problem, self.law, self.dtype, self.scope):
            if time.perf_counter() > end:
                return
            with suppress(AssertionError, NotSupported):
                self._try(problem)
            assert self.found is not None
            if self.found is not first and self.found.kind == first.kind:
                return
            self.found = first

    def _try(self, problem: Any) -> None:
        if self.since and time.perf_counter() - self.since > PATIENCE:
            raise Enough
        self.log.clear()
        try:
            before = Count.made
            self.law.check(self.careful, problem)
            if Count.made == before:  # the gradients that it is about are not given
                raise NotSupported(*(w for w in self.i.lacks if w.startswith("the gradient of")))
        except NotSupported as error:
            self.unsupported.update(error.lacks)
            self.refused.update(error.lacks if isinstance(error, Refused) else ())
            raise
        except AssertionError as error:
            self._note(problem, error)
            raise
        except Exception as error:  # of the law itself, on results that no law foresaw
            self._note(problem, error)
            raise AssertionError(str(error)) from error
        self.passed += self.found is None
        if problem.x.size and problem.grad_output.size:
            self.solid.add(problem.code())

    def _note(self, problem: Any, error: Exception) -> None:
        self.found = Found(problem, error, list(self.log))
        self.since = self.since or time.perf_counter()
        if isinstance(error, Failed) and error.fatal:
            raise Enough

    def _failure(self, found: Found) -> Failure:
        error = found.error
        evidence = Evidence(
            self.careful, self.operator, self.law, self.dtype, self.scope, found, self.log
        )
        about = (self.i, self.operator, self.law, found.problem, self.asked)
        return Failure(
            law=self.law.name, says=self.law.says, dtype=self.dtype, kind=found.kind,
            message=str(error) or type(error).__name__, diagnosis=explained(evidence),
            example=example(*about, self._ended()),
            problem=found.problem, call=evidence.wrong,
            difference=error if isinstance(error, Mismatch) else None,
            picture=seen(evidence) if found.kind == "value" else None,
        )  # fmt: skip
