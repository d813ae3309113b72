"""Records of `bench` as a section of the README, which it replaces, and as a plot."""

from importlib import import_module
from pathlib import Path
from typing import Any

from .bench_cases import BACKWARD, FORWARD, PRECISIONS, ROI, SHAPES
from .bench_record import FOLDER
from .bench_targets import Data, ours, ratio, rows_of, shown, worst_of

BEGIN = "<!-- GPU speed, by make bench-gpu PEERS=1, then make bench-gpu ARGS=--readme -->\n"
END = "<!-- end of GPU speed -->\n"
UNMEASURED = """\
On a GPU: **not yet measured**. `make bench-gpu PEERS=1` measures the kernels beside torchvision and
cuDNN, and `make bench-gpu ARGS=--readme` writes the table that belongs here.
"""
NOTHING = "–"  # noqa: RUF001
COMPARED = ("float32", "tf32", "float16")  # the precisions that torchvision has too
COLUMNS = [(part, p) for part in (FORWARD, BACKWARD) for p in COMPARED]


def markdown(records: list[Data]) -> str:
    """The README's section: a table for each record, every figure from it."""
    return "\n".join(map(_table, records)) if records else UNMEASURED


def _table(record: Data) -> str:
    versions = record["versions"]
    head = " | ".join(f"{part}, {p}" for part, p in COLUMNS)
    lines = [
        f"{record['device']}, driver {record['driver']}: the median of a call in milliseconds, and",
        f"how many times as fast as torchvision {versions['torchvision']} at the same precision.",
        "",
        f"| `deform_conv2d`, 3×3 | {head} |",  # noqa: RUF001
        "|---" * (1 + len(COLUMNS)) + "|",
    ]
    for shape in SHAPES:
        cells = [_cell(record, operator="deform_conv2d", part=part, precision=p, shape=shape.name)
                 for part, p in COLUMNS]  # fmt: skip
        if set(cells) != {NOTHING}:
            lines.append(f"| {shape.name} | {' | '.join(cells)} |")
    lines += ["", _plain(record), "", _pooling(record), "", _errors(record), ""]
    lines += _origin(record)
    return "\n".join(lines) + "\n"


def _cell(record: Data, rival: str = "torchvision", **case: Any) -> str:
    mine, times = ours(rows_of(record, **case)), ratio(record, rival=rival, **case)
    if mine is None:
        return NOTHING
    return f"{mine['median_ms']:.3f}" + ("" if times is None else f" ({times:.2f}×)")  # noqa: RUF001


def _pooling(record: Data) -> str:
    said = []
    for p in ("float32", "float16"):
        for part in (FORWARD, BACKWARD):
            case = {"operator": "deform_roi_pool", "part": part, "shape": ROI.name}
            said.append(f"{part} {_cell(record, 'roi_align', precision=p, **case)} in {p}")
    return f"`deform_roi_pool`, {ROI.name}, beside `roi_align` without offsets: {', '.join(said)}."


def _plain(record: Data) -> str:
    """What deforming costs: the least of all layers, by precision."""
    said = []
    for p in PRECISIONS:
        case: Data = {"operator": "deform_conv2d", "part": FORWARD, "precision": p}
        found = {s.name: ratio(record, rival="cuDNN conv2d", shape=s.name, **case) for s in SHAPES}
        there = {name: figure for name, figure in found.items() if figure is not None}
        where, worst = worst_of(there, faster=True)
        said.append(f"{p} {shown(worst, 'x')} ({where})" if there else f"{p} {NOTHING}")
    return (
        f"Beside the plain convolution of cuDNN, {FORWARD}, the slowest layer: {', '.join(said)}."
    )


def _errors(record: Data) -> str:
    """The largest relative error of what is ours, by precision."""
    said = []
    for p in PRECISIONS:
        rows = rows_of(record, "errors", operator="deform_conv2d", precision=p, default=True)
        found = {str(i): row["relative_error"] for i, row in enumerate(rows)}
        said.append(f"{p} {shown(worst_of(found, faster=False)[1], '') or NOTHING}")
    return f"Largest relative error of y and of any gradient: {', '.join(said)}."


def _origin(record: Data) -> list[str]:
    versions = record["versions"]
    cupy = versions.get("cupy-cuda13x") or versions.get("cupy-cuda12x")
    unfinished = " A quick run, of two layers." if record["quick"] else ""
    unfinished += "" if record["complete"] else " The run was cut short."
    return [
        f"Measured on {record['date'][:10]} at commit {record['commit']}, with PyTorch"
        f" {versions['torch']} and CuPy {cupy}",
        f"([all figures]({(FOLDER / Path(record['path']).name).as_posix()})).{unfinished}",
    ]


def comparison(record: Data) -> str:
    """A line for each case: what is ours in milliseconds, and how much longer the others take."""
    cases: dict[str, list[Data]] = {}
    for row in rows_of(record):
        name = ", ".join(row[c] for c in ("operator", "part", "shape", "precision"))
        cases.setdefault(name, []).append(row)
    lines = []
    for name, rows in cases.items():
        mine = ours(rows)
        if mine is None:
            lines.append(f"{name}: none of ours")
            continue
        low, high = mine["quartiles_ms"]
        others = [
            f"{r['contestant']} {r['median_ms'] / mine['median_ms']:.2f}x"
            f" (on device {r['device_ms'] / mine['device_ms']:.2f}x)"
            for r in rows if r is not mine
        ]  # fmt: skip
        said = f"{mine['contestant']} {mine['median_ms']:.3f} ms ({low:.3f} to {high:.3f})"
        lines.append(f"{name}: " + ", ".join([said, *others]))
    return "\n".join(lines)


def section(readme: str) -> str:
    """The section of a README."""
    _, begin, rest = readme.partition(BEGIN)
    measured, end, after = rest.partition(END)
    if not (begin and end) or BEGIN in after:
        raise ValueError(f"expected one section between {BEGIN!r} and {END!r}")
    return measured


def with_section(readme: str, records: list[Data]) -> str:
    """The README with the section of these records."""
    return readme.replace(BEGIN + section(readme) + END, BEGIN + markdown(records) + END)


def plot(records: list[Data], path: Path) -> None:
    """How many times as fast as torchvision: a column of two panels, forward and all gradients,
    for each device; bars by layer and precision."""
    try:
        pyplot = import_module("matplotlib.pyplot")
    except ImportError as error:
        raise RuntimeError(f"--plot needs Matplotlib: {error}") from None
    size = (2 + 9 * len(records), 7)
    figure, panels = pyplot.subplots(
        2, len(records), figsize=size, sharex=True, sharey="row", layout="constrained",
        squeeze=False,
    )  # fmt: skip
    for (upper, lower), record in zip(panels.T, records, strict=True):
        upper.set_title(f"deform_conv2d on {record['device']}, commit {record['commit']}")
        for axes, part in ((upper, FORWARD), (lower, BACKWARD)):
            _bars(axes, bars(record, part))
    for axes, part in zip(panels[:, 0], (FORWARD, BACKWARD), strict=True):
        axes.set_ylabel(f"{part}\ntimes as fast as torchvision")
    handles = panels[0, 0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=len(COMPARED), frameon=False)
    figure.savefig(path)
    pyplot.close(figure)


def bars(record: Data, part: str) -> dict[str, list[float]]:
    """By precision, the ratio of each layer; 0 where it is not measured."""
    case: Data = {"rival": "torchvision", "operator": "deform_conv2d", "part": part}
    return {
        p: [ratio(record, **case, shape=shape.name, precision=p) or 0.0 for shape in SHAPES]
        for p in COMPARED
    }


def _bars(axes: Any, by_precision: dict[str, list[float]]) -> None:
    width = 0.8 / len(by_precision)
    for i, (precision, heights) in enumerate(by_precision.items()):
        places = [j + (i - 1) * width for j in range(len(heights))]
        axes.bar(places, heights, width, label=precision)
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set_xticks(range(len(SHAPES)), [s.name for s in SHAPES], rotation=25, ha="right")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
