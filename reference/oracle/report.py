"""What `verify` found: which laws hold, which are broken and how, and which were not checked.

A report is text (`str`), JSON, one HTML page, or the failure of a test: `report.assert_ok()`.
"""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from . import pictures
from .summary import summary

VERSION = 1  # of the JSON
FEW = 24  # numbers that are printed
USUAL = {  # settings, which are printed where they are others
    "stride": 1, "padding": 0, "dilation": 1, "output_size": None, "spatial_scale": 1,
    "gamma": None, "group_size": None, "part_size": None, "samples": None,
}  # fmt: skip


@dataclass(frozen=True)
class Failure:
    """A law that is broken, on the smallest problem that was found.

    law, says   its name, and what it says
    dtype       of the problem
    kind        "value", or that of `failures.Failed`: "raised", "hung", "died", "shape" ...
    message     the first index that differs, with both values and what was allowed; or the error
    diagnosis   what explains it: a known mistake, or what all wrong results have in common
    example     Python that shows the failure again
    problem     the smallest problem
    call        the call that went wrong, a `calls.Record`, or None
    picture     what its HTML page draws, a `probes.Seen`, or None
    """

    law: str
    says: str
    dtype: str
    kind: str
    message: str
    diagnosis: str
    example: str
    problem: Any = field(default=None, repr=False)
    call: Any = field(default=None, repr=False)
    difference: Any = field(default=None, repr=False)
    picture: Any = field(default=None, repr=False)

    def shown(self) -> str:
        """What the picture shows, in a sentence in ASCII; empty without one."""
        if self.picture is None:
            return ""
        text = summary(self.picture).replace(pictures.MINUS, "-").replace("\N{INFINITY}", "inf")
        return f"on a larger problem: {text}" if text and self.picture.code else text

    def where(self) -> str:
        """The family of the problem, and the arguments of the call: their numbers, if few."""
        arguments = {} if self.call is None else self.call.arguments
        arrays = {n: a for n, a in arguments.items() if isinstance(a, np.ndarray)}
        few = sum(a.size for a in arrays.values()) <= FEW
        words = [f"{n} {_inline(a) if few else a.shape}" for n, a in arrays.items()]
        words += [
            f"{n}={v}" for n, v in arguments.items()
            if n in USUAL and set(np.ravel(v).tolist()) != {USUAL[n]}
        ]  # fmt: skip
        family = getattr(self.problem, "family", "")
        return "; ".join([f"family {family}", *filter(None, [", ".join(words)])])


def _inline(a: Any) -> str:
    text = np.array2string(a, separator=", ", max_line_width=10**6)
    return re.sub(r"\s+", " ", text).replace("[ ", "[")


@dataclass(frozen=True)
class Kept:
    """A law that held on so many examples, and how many the implementation refused, and why."""

    law: str
    dtype: str
    examples: int
    refused: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class NotChecked:
    """A law that was not checked, and why."""

    law: str
    dtype: str
    reason: str


@dataclass(frozen=True)
class Report:
    """What was verified, and everything that came of it, in the order of the laws."""

    name: str
    operator: str
    gradients: bool
    dtypes: tuple[str, ...]
    rules: tuple[str, ...]
    lacks: tuple[str, ...]
    failures: Sequence[Failure] = ()
    kept: Sequence[Kept] = ()
    not_checked: Sequence[NotChecked] = ()
    versions: dict[str, str] = field(default_factory=dict)
    examples: int = 0
    seed: int = 0
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether no law is broken, and some law was checked."""
        return not self.failures and bool(self.kept)

    def assert_ok(self) -> None:
        """The failure of a test; the report is its message."""
        __tracebackhide__ = True
        if not self.ok:
            raise AssertionError(f"\n{self}")

    def __str__(self) -> str:
        lines = [self.headline(), *self._about(), ""]
        for failures in self.causes():
            lines += [*_broken(failures), ""]
        if self.kept:
            counts = [kept.examples for kept in self.kept]
            least, most = min(counts), max(counts)
            each = f"{most}" if least == most else f"{least} to {most}"
            laws = list(dict.fromkeys(kept.law for kept in self.kept))
            lines += [f"kept, on {each} examples each:", *_wrapped(laws)]
            refused: Counter[str] = sum((Counter(k.refused) for k in self.kept), Counter())
            for why, count in refused.items():
                lines.append(f"refused by the implementation, {count} problems more: {why}")
        for reason, laws in self._reasons().items():
            if reason == f"needs {self.operator}_backward":  # that of a forward alone
                lines += [f"not checked ({reason}): {len(laws)} about gradients"]
            else:
                lines += [f"not checked ({reason}):", *_wrapped(laws)]
        return "\n".join(lines).rstrip()

    def headline(self) -> str:
        """In one line: how many laws are broken."""
        broken = len({failure.law for failure in self.failures})
        laws = len({f.law for f in self.failures} | {k.law for k in self.kept})
        what = f"{self.operator} of {self.name}"
        if not laws:
            return f"{what}: NOTHING CHECKED"
        return f"{what}: {'OK' if self.ok else 'BROKEN'}, {broken} of {laws} laws broken"

    def causes(self) -> list[list[Failure]]:
        """The failures, those with the same diagnosis (but for its counts) together.

        A process that ended or hung comes first; what nothing explains stands by its law.
        """
        found: dict[str, list[Failure]] = {}
        for failure in self.failures:
            unknown = "share nothing" in failure.diagnosis
            key = failure.law if unknown else re.sub(r"\d+", "#", failure.diagnosis)
            found.setdefault(key, []).append(failure)
        return sorted(found.values(), key=lambda each: each[0].kind not in ("died", "hung"))

    def json(self) -> str:
        """Everything but the arrays."""
        plain = {n: v for n, v in self.__dict__.items() if n not in ("failures", "kept")}
        plain["not_checked"] = [entry.__dict__ for entry in self.not_checked]
        words = ("law", "says", "dtype", "kind", "message", "diagnosis", "example")
        failures = [
            {w: getattr(f, w) for w in words} | {"picture": f.shown()} for f in self.failures
        ]
        kept = [entry.__dict__ for entry in self.kept]
        found = {"version": VERSION, "ok": self.ok, **plain, "failures": failures, "kept": kept}
        return json.dumps(found, indent=1)

    def html(self, path: str | Path | None = None) -> str:
        """One page, with pictures of where the samples went; written to `path` if there is one."""
        from .page import page

        text = page(self)
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text

    def _about(self) -> list[str]:
        given = "forward and backward" if self.gradients else "forward alone"
        what = [given, ", ".join(self.dtypes), *filter(None, [", ".join(self.rules)])]
        about = [f"  {'; '.join(what)}"]
        about += [f"  lacks: {', '.join(self.lacks)}"] if self.lacks else []
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return [*about, f"  {versions}"] if versions else about

    def _reasons(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for entry in self.not_checked:
            laws = found.setdefault(entry.reason, [])
            laws += [entry.law] if entry.law not in laws else []
        return found


def _broken(failures: list[Failure]) -> list[str]:
    """A cause: its first failure in full, the others by name."""
    first, *others = failures
    lines = [
        f"BROKEN  {first.law}  ({first.dtype})",
        f"  law        {first.says}",
        f"  found      {first.message}",
        f"  where      {first.where()}",
        f"  diagnosis  {first.diagnosis}",
        *([f"  picture    {shown}"] if (shown := first.shown()) else []),
        "  example",
        *[f"    {line}" for line in first.example.splitlines()],
    ]
    names = [f"{other.law} ({other.dtype})" for other in others]
    return lines + (["  so are, with the same diagnosis:", *_wrapped(names, 4)] if names else [])


def _wrapped(words: list[str], indent: int = 2) -> list[str]:
    import textwrap

    start = " " * indent
    return textwrap.wrap(", ".join(words), 98, initial_indent=start, subsequent_indent=start)
