"""What a record of `bench` should say: the targets, and whether they are met.

They are ratios on an H200. "plain cuDNN" is the convolution without offsets, with TF32 on for tf32
alone: a ratio of 0.65 is 0.65 of its speed. A target holds for every layer of `bench_cases` that it
names, so its figure is that of the worst one; where a layer is not in the record it is not
measured, and that is no success. "ours" is the version that a call takes which names none. Times
are medians of a call, Python included; the time on the device stands beside them.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from .bench_cases import (
    BACKWARD,
    FORWARD,
    PRECISIONS,
    ROI,
    SHAPES,
    RoiShape,
    Shape,
)  # fmt: skip
from .bench_contestants import REPEATABLE

DEVICE = "H200"
MET, MISSED, UNMEASURED, ELSEWHERE = "met", "missed", "not measured", "not on an H200"
MIB = 2**20
Figures = dict[str, float | None]  # by layer and such; None: not in the record
Data = dict[str, Any]


class Target(NamedTuple):
    """A limit, and what of a record it is for.

    faster  whether figures are ratios, of which the least counts; else the largest
    beside  the same on the device, to be shown
    """

    what: str
    limit: float
    figures: Callable[[Data], Figures]
    faster: bool = True
    unit: str = "x"
    beside: Callable[[Data], Figures] | None = None


class Verdict(NamedTuple):
    """worst and where: of the figures that are there; beside: the worst on the device."""

    target: Target
    verdict: str
    worst: float | None
    where: str
    measured: int
    expected: int
    beside: float | None = None


def rows_of(record: Data, kind: str = "rows", **columns: Any) -> list[Data]:
    """The rows with these entries that did not fail."""
    return [
        row for row in record.get(kind, ())
        if "failed" not in row and all(row.get(name) == value for name, value in columns.items())
    ]  # fmt: skip


def ours(rows: Iterable[Data], *, repeatable: bool = False) -> Data | None:
    """The row of the version that is chosen by itself."""
    found = [r for r in rows if r["default"] and r["contestant"].endswith(REPEATABLE) == repeatable]
    return found[-1] if found else None


def ratio(
    record: Data, column: str = "median_ms", *, rival: str, repeatable: bool = False, **case: Any
) -> float | None:
    """How many times as fast as the rival we are in one case; None where one is not measured."""
    rows = rows_of(record, **case)
    mine, other = ours(rows, repeatable=repeatable), [r for r in rows if r["contestant"] == rival]
    return other[0][column] / mine[column] if mine and other else None


def _speed(
    what: str, limit: float, shapes: Iterable[Shape | RoiShape], *, rival: str, **case: Any
) -> Target:
    names = [shape.name for shape in shapes]

    def figures(column: str) -> Callable[[Data], Figures]:
        return lambda record: {
            name: ratio(record, column, rival=rival, shape=name, **case) for name in names
        }

    return Target(what, limit, figures("median_ms"), beside=figures("device_ms"))


def _convolution() -> list[Target]:
    conv: dict[str, Any] = {"operator": "deform_conv2d"}
    made = []
    for p, wide, narrow in (("float32", 1.8, 2.5), ("tf32", 1.8, 3.0), ("float16", 2.2, 4.0)):
        for name, limit, shapes in (
            ("512 channels", wide, [s for s in SHAPES if s.C > 256]),
            ("up to 256", narrow, [s for s in SHAPES if s.C <= 256]),
        ):
            made.append(_speed(f"forward / torchvision, {p}, {name}", limit, shapes,
                               rival="torchvision", part=FORWARD, precision=p, **conv))  # fmt: skip
    few, many = [s for s in SHAPES if s.N < 8], [s for s in SHAPES if s.N >= 8]
    for p, limit, least in (("float32", 1.3, 1.3), ("tf32", 0.65, 0.65), ("float16", 0.6, 0.7),
                            ("bfloat16", 0.6, 0.7)):  # fmt: skip
        for name, value, shapes in ((", N < 8", limit, few), (", N >= 8", least, many)):
            plain: dict[str, Any] = conv | {"rival": "cuDNN conv2d", "part": FORWARD}
            what = f"forward / plain cuDNN, {p}{name}"
            made.append(_speed(what, value, shapes, precision=p, **plain))
    for p, limit in (("float32", 3.0), ("tf32", 4.0), ("float16", 5.0)):
        back: dict[str, Any] = conv | {"rival": "torchvision", "part": BACKWARD, "precision": p}
        made.append(_speed(f"all gradients / torchvision, {p}", limit, SHAPES, **back))
        what = f"all gradients, deterministic / torchvision, {p}"
        made.append(_speed(what, 2.0, SHAPES, repeatable=True, **back))
    return made


def _pooling() -> list[Target]:
    return [
        _speed(f"deform_roi_pool, {part} / roi_align, {p}", 1.0, [ROI], rival="roi_align",
               operator="deform_roi_pool", part=part, precision=p)
        for p in ("float32", "float16") for part in (FORWARD, BACKWARD)
    ]  # fmt: skip


def _workspace(part: str, limit: float, contestant: str | None = None) -> Target:
    """Of one contestant, or of the version that a call takes which names none."""

    def figures(record: Data) -> Figures:
        found: Figures = {}
        for shape in SHAPES:
            for p in PRECISIONS:
                rows = rows_of(
                    record, operator="deform_conv2d", part=part, shape=shape.name, precision=p
                )
                for repeatable in (False, True)[: 1 if part == FORWARD else 2]:
                    named = next((r for r in rows if r["contestant"] == contestant), None)
                    mine = named if contestant else ours(rows, repeatable=repeatable)
                    number = (mine or {}).get("workspace_bytes")
                    name = f"{shape.name}, {p}{REPEATABLE * repeatable}"
                    found[name] = None if number is None else number / MIB
        return found

    what = f"workspace of deform_conv2d, {part}{f', {contestant}' if contestant else ''}"
    return Target(what, limit, figures, faster=False, unit=" MiB")


def _error(precision: str, limit: float) -> Target:
    wanted = [(FORWARD, "y", False)]
    wanted += [(BACKWARD, f"grad {n}", r) for n in ("x", "offset", "weight") for r in (False, True)]

    def figures(record: Data) -> Figures:
        found: Figures = {}
        for part, result, repeatable in wanted:
            rows = rows_of(
                record, "errors", operator="deform_conv2d", part=part, precision=precision,
                result=result,
            )  # fmt: skip
            mine = ours(rows, repeatable=repeatable)
            found[result + REPEATABLE * repeatable] = mine["relative_error"] if mine else None
        return found

    return Target(f"relative error, {precision}", limit, figures, faster=False, unit="")


TARGETS = [
    *_convolution(),
    *_pooling(),
    _workspace(FORWARD, 24, "cupy v2"),
    _workspace(FORWARD, 0, "cupy v3"),
    _workspace(BACKWARD, 64),
    _error("float32", 2e-6),
    _error("tf32", 1e-3),
    _error("float16", 2e-3),
    _error("bfloat16", 1e-2),
]


def to_judge(records: list[Data]) -> Data | None:
    """Of several records the newest of the device that the targets are for, else the newest."""
    there = [r for r in records if DEVICE in r["device"]]
    return max(there or records, key=lambda r: str(r["date"]), default=None)


def judged(record: Data | None, targets: list[Target] = TARGETS) -> list[Verdict]:
    """Every target; where there is no record, none is measured."""
    return [_judged(record or {}, target) for target in targets]


def _judged(record: Data, target: Target) -> Verdict:
    figures = target.figures(record)
    there = {where: f for where, f in figures.items() if f is not None}
    where, worst = worst_of(there, faster=target.faster)
    missed = worst is not None and not (
        worst >= target.limit if target.faster else worst <= target.limit
    )
    if worst is not None and DEVICE not in record.get("device", ""):
        verdict = ELSEWHERE
    elif missed:
        verdict = MISSED
    else:
        verdict = MET if len(there) == len(figures) and figures else UNMEASURED
    beside = None
    if target.beside is not None:
        others = {w: f for w, f in target.beside(record).items() if f is not None}
        beside = worst_of(others, faster=target.faster)[1]
    return Verdict(target, verdict, worst, where, len(there), len(figures), beside)


def worst_of(figures: dict[str, float], *, faster: bool) -> tuple[str, float | None]:
    """The least or the largest, and where; a NaN is worse than any number."""
    for where, figure in figures.items():
        if figure != figure:
            return where, figure
    if not figures:
        return "", None
    where = (min if faster else max)(figures, key=lambda w: figures[w])
    return where, figures[where]


def shown(figure: float | None, unit: str) -> str:
    """A figure as the summary and the README write it."""
    if figure is None:
        return ""
    return f"{figure:.2f}x" if unit == "x" else f"{figure:.1f}{unit}" if unit else f"{figure:.1e}"


def summary(record: Data | None, verdicts: list[Verdict]) -> str:
    """A line on the record, one for each target, and the count."""
    if record is None:
        lines = ["There is no record: nothing is measured. make bench-gpu PEERS=1 makes one."]
    else:
        lines = [
            f"{record['device']}, driver {record['driver']}, commit {record['commit']},"
            f" {record['date']}, {record.get('path', '')}"
            + ("" if record["complete"] else ", NOT COMPLETE")
        ]
        lines += [f"WRONG, and not timed: {n}: {why}" for n, why in record.get("wrong", {}).items()]
        lines += [f"left out: {n}: {why}" for n, why in record.get("missing", {}).items()]
    for v in verdicts:
        sign, unit = (">=" if v.target.faster else "<="), v.target.unit
        limit = f"{sign} {v.target.limit:g}{unit}"
        measured = "" if v.measured == v.expected else f"{v.measured} of {v.expected} measured"
        beside = f" (on device {shown(v.beside, unit)})" if v.beside is not None else ""
        worst = f"{shown(v.worst, unit)} at {v.where}{beside}" if v.worst is not None else ""
        found = ", ".join(filter(None, [worst, measured]))
        lines.append(f"{v.verdict:15} {v.target.what:51} {limit:11} {found}")
    counts = {name: sum(v.verdict == name for v in verdicts) for name in (MET, MISSED)}
    rest = len(verdicts) - sum(counts.values())
    lines.append(f"{counts[MET]} met, {counts[MISSED]} missed, {rest} not measured")
    return "\n".join(lines)
