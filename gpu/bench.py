"""Measures the operators beside other libraries: python -m deformable_convnets.gpu.bench.

In this order: each version must equal the reference bit for bit on small exact problems; then the
relative errors of all precisions; then the times and the memory of a call, all contestants in turn.
On each layer the fused version must also equal the staged one on an exact problem, or is not timed.
The result is a JSON file in gpu/results, written as it comes. Which version a call takes that names
none comes from the table of `tune`, which is run before, or from a model; the record says which.

    --quick      two layers, in less than two minutes instead of eight
    --toy        maps of a few pixels by the wall clock, to try the program out, also in a simulator
    --summary    the newest record of an H200, else of any device, against the targets; 1 if one is
                 missed or not measured
    --readme     writes the tables of README.md from the newest record of each device
    --plot FILE  draws the same records, if Matplotlib is installed

bench_cases        what is measured                 clocks        how time is taken
bench_contestants  by whom                          bench_arrays  how memory is measured
bench_torch        those of PyTorch                 bench_record  the file
bench_measure      one case, by turns               bench_targets what it should say
bench_errors       results beside the reference's   bench_report  the table and the plot
bench_start        first calls, cold and warm
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from . import (
    bench_cases,
    bench_contestants,
    bench_errors,
    bench_measure,
    bench_record,
    bench_report,
    bench_start,
    bench_targets,
    registry,
)  # fmt: skip
from .bench_cases import Case
from .bench_contestants import Contestant
from .bench_record import FOLDER, Record
from .clocks import Clock, clock, matmul_and_copy

SECONDS, QUICK_SECONDS = 440.0, 100.0
README = Path("README.md")


class Run:
    """One run: who takes part, until when, and the record."""

    def __init__(self, at: Clock, contestants: dict[str, Contestant], record: Record,
                 limits: bench_measure.Limits, seconds: float):  # fmt: skip
        self.clock, self.contestants, self.record, self.limits = at, contestants, record, limits
        self.deadline = time.monotonic() + seconds
        self.lacks: dict[str, Counter[str]] = {}
        self._host: tuple[Any, Any] = (None, None)
        self._taken: tuple[Any, Any] = (None, {})

    def left(self) -> float:
        """Seconds."""
        return self.deadline - time.monotonic()

    def check(self) -> None:
        """Takes out who is wrong."""
        wrong = {}
        for name, contestant in list(self.contestants.items()):
            if not bench_contestants.is_ours(name):
                continue
            try:
                reason = bench_errors.disagreement(contestant)
            except Exception as error:  # it cannot be timed either
                reason = f"{type(error).__name__}: {error}"
            if reason is not None:
                wrong[name] = reason
                del self.contestants[name]
                print(f"{name} is taken out: {reason}")
        self.record.data["wrong"] = wrong
        self.record.write()

    def errors(self, cases: list[Case], *, last: bool = False) -> None:
        """Measures the relative errors; those of `last` contestants come last."""
        chosen = {name: c for name, c in self.contestants.items() if c.last == last}
        for case in cases:
            if self.left() < 0:
                self._leave_out(f"errors of {case}")
                continue
            rows = list(bench_errors.errors(case, chosen))
            self.record.add("errors", rows)
            for row in rows:
                said = row.get("failed") or f"{row['result']:12} {row['relative_error']:.1e}"
                print(f"  error {case.precision:9} {row['contestant']:24} {said}")

    def times(self, cases: list[Case], *, last: bool = False) -> None:
        """Measures times and memory."""
        for case in cases:
            if self.left() < 0:
                self._leave_out(str(case))
                continue
            entrants: dict[str, Callable[[], bench_measure.Entrant]] = {
                name: partial(self._entrant, c, case)
                for name, c in self.contestants.items()
                if c.last == last and self._has(c, case)
            }
            limits = self.limits._replace(first=max(self.left(), 10.0)) if last else self.limits
            rows = bench_measure.race(self.clock, entrants, limits) if entrants else {}
            wrong = {f"{n} in {case}": row["wrong"] for n, row in rows.items() if "wrong" in row}
            self.record.data["wrong"] = self.record.data.get("wrong", {}) | wrong
            self.record.add("rows", [self._row(case, name, row) for name, row in rows.items()])
            _print_times(case, rows)

    def _has(self, contestant: Contestant, case: Case) -> bool:
        reason = contestant.lacks(case)
        if reason is not None:
            self.lacks.setdefault(contestant.name, Counter())[reason] += 1
            self.record.data["lacks"] = {name: dict(c) for name, c in self.lacks.items()}
        return reason is None

    def _row(self, case: Case, name: str, row: dict[str, Any]) -> dict[str, Any]:
        contestant = self.contestants[name]
        about = bench_errors.described(case) | {"contestant": name}
        about |= {"default": contestant.default(case), "memory": contestant.arrays.method}
        return about | row

    def _entrant(self, contestant: Contestant, case: Case) -> bench_measure.Entrant:
        given = self._arrays(contestant, case)
        return bench_measure.Entrant(
            contestant.prepare(case, given), contestant.arrays.workspace,
            partial(self._wrong, contestant, case),
        )  # fmt: skip

    def _wrong(self, contestant: Contestant, case: Case) -> str | None:
        """How it differs from the one that it must equal, if that one can run."""
        other = self.contestants.get(contestant.equals or "")
        if other is None or other.lacks(case) is not None:
            return None
        return bench_errors.difference(case, contestant, other)

    def _arrays(self, contestant: Contestant, case: Case) -> dict[str, Any]:
        """The arrays of a case on the device, kept for the next case of the same layer."""
        if self._host[0] != case.shape:
            self._host = case.shape, bench_cases.problem(case.shape)
        layer = case.shape, case.precision
        if self._taken[0] != layer:
            self._taken = layer, {}
        kept, method = self._taken[1], contestant.arrays.method
        if method not in kept:
            dtype = bench_cases.dtype(case.precision)
            kept[method] = {
                name: contestant.arrays.take(a.astype(dtype)) for name, a in self._host[1].items()
            }
        return dict(kept[method])

    def _leave_out(self, what: str) -> None:
        self.record.data.setdefault("left_out", []).append(what)
        self.record.write()


def _print_times(case: Case, rows: dict[str, Any]) -> None:
    print(case)
    for name, row in rows.items():
        if "failed" in row:
            print(f"  {name:26} {row['failed']}")
            continue
        memory = f"{row['workspace_bytes'] / 2**20:8.1f} MiB" if "workspace_bytes" in row else ""
        print(
            f"  {name:26} {row['median_ms']:9.3f} ms, on device {row['device_ms']:9.3f}"
            f"  first {row['first_ms']:8.0f} {memory}"
        )


def measure(options: argparse.Namespace, at: Clock, found: bench_contestants.Field) -> int:
    """Checks, measures, prints and writes; 1 where a version of ours is wrong."""
    toy, quick = options.toy, options.quick
    about = bench_record.environment(at) | {
        "toy": toy, "quick": quick, "missing": bench_contestants.reasons(found),
    }  # fmt: skip
    about["commit"] = options.commit or about["commit"]
    record = Record(bench_record.path_of(options.output, at.device, about["date"]), about)
    record.write()
    limits = bench_measure.Limits(rounds=options.repeats)
    seconds = options.seconds or (QUICK_SECONDS if quick else SECONDS)
    run = Run(at, bench_contestants.is_running(found), record, limits, seconds)
    run.check()
    left = " that is left" if record.data["wrong"] else ""
    print(f"every version{left} equals the reference on exact problems; now on {at.device}")
    where = bench_errors.cases(toy=toy)
    run.errors(where)
    cases = bench_cases.cases(toy=toy, quick=quick)
    run.times(cases)
    record.data["start"] = bench_start.measured(toy=toy, seconds=max(run.left(), 20.0))
    record.data["ceilings"] = matmul_and_copy(at, 512, 9 * 512, 38 * 63, 5)
    record.write()
    run.errors(where, last=True)
    run.times([case for case in cases if case.shape in bench_cases.QUICK], last=True)
    record.data["complete"] = "left_out" not in record.data
    record.data |= {"after": bench_record.state(), "seconds": seconds - run.left()}
    record.data["ended"] = datetime.now(UTC).isoformat(timespec="seconds")
    record.write()
    print(record.path)
    return 1 if record.data["wrong"] else 0


def report(options: argparse.Namespace) -> int:
    """What is made of the newest record of each device."""
    records = bench_record.newest_of_each(options.output)
    if options.readme and not README.exists():
        print(f"there is no {README} in {Path.cwd()}: --readme is for a checkout")
        return 1
    if options.readme:
        README.write_text(bench_report.with_section(README.read_text(), records))
        tables = "a table" if len(records) == 1 else f"{len(records)} tables"
        print(f"{README}: {tables if records else 'not yet measured'}")
    if options.plot is not None:
        if not records:
            print(f"nothing to draw: there is no record in {options.output}")
            return 1
        try:
            bench_report.plot(records, options.plot)
        except RuntimeError as error:
            print(error)
            return 1
        print(options.plot)
    return summarised(records) if options.summary else 0


def summarised(records: list[Any]) -> int:
    """Prints what the targets say of a record; 1 if one is missed or not measured."""
    record = bench_targets.to_judge(records)
    if record is not None:
        print(bench_report.comparison(record), end="\n\n")
    verdicts = bench_targets.judged(record)
    print(bench_targets.summary(record, verdicts))
    return 0 if all(v.verdict == bench_targets.MET for v in verdicts) else 1


def main(arguments: list[str] | None = None) -> int:
    """Measures, or says what was measured; 1 where nothing can run."""
    options = _options(arguments)
    if options.summary or options.readme or options.plot is not None:
        return report(options)
    found = bench_contestants.field(toy=options.toy, quick=options.quick)
    for name, reason in bench_contestants.reasons(found).items():
        print(f"{name} is left out: {reason}")
    chosen = clock(toy=options.toy)
    if chosen is None or not any(
        map(bench_contestants.is_ours, bench_contestants.is_running(found))
    ):
        print(f"nothing to measure: no GPU backend can run here. {registry.INSTALL_ANY}")
        return 1
    return measure(options, chosen, found)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m deformable_convnets.gpu.bench")
    parser.add_argument("--toy", action="store_true", help="maps of a few pixels, wall clock")
    parser.add_argument("--quick", action="store_true", help="two layers, less than two minutes")
    parser.add_argument(
        "--summary",
        action="store_true",
        help="a record and the targets: ends with 1 if one is missed or not measured",
    )  # fmt: skip
    parser.add_argument("--readme", action="store_true", help="write the README's tables")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the newest records")
    parser.add_argument("--repeats", type=int, default=20, help="rounds of a case (default: 20)")
    parser.add_argument(
        "--seconds", type=float, help=f"at most (default: {SECONDS:g}, {QUICK_SECONDS:g} quick)"
    )
    parser.add_argument("--commit", help="what the record says, where git is not there to ask")
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder or .json of the record")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
