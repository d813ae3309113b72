"""Which version of an operator is the faster one on a device: measured tables, kept as data.

A table is a JSON file for one device. `python -m deformable_convnets.gpu.tune` measures one:

    format, device, driver, versions, commit, date
    entries   operator, precision, C, O, pixels (N Ho Wo), and milliseconds of a call by version

The packaged tables lie in gpu/choices, the user's own in the folder `choices` of the cache (see
`compiler`); the user's takes the place of the packaged one. A call takes the version that was the
fastest in the entry nearest to it. A device without a table, or whose table is spoilt, takes the
staged version: the fused kernels have not run on a GPU so far. A spoilt table is named in a warning
and ends no call, since no result depends on it.
"""

import json
import logging
import math
import os
import re
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from . import compiler

LOGGER = logging.getLogger("deformable_convnets.gpu")
FORMAT = 1
STAGED, FUSED = "v2", "v3"
OPERATORS = ("deform_conv2d", "deform_conv2d_backward")
PRECISIONS = ("float32", "tf32", "float16", "bfloat16")
PACKAGED = Path(__file__).parents[1] / "choices"
LARGEST = 2**53  # of channels and pixels, so that ratios of them are floats
ABOUT = ("device", "driver", "versions", "commit", "date")
AGAIN = "delete it, or measure it again: python -m deformable_convnets.gpu.tune"
Data = dict[str, Any]


class Task(NamedTuple):
    """What a choice depends on; pixels: N Ho Wo."""

    operator: str
    precision: str
    C: int
    O: int
    pixels: int


class Machine(NamedTuple):
    """A device, by its name."""

    name: str


class Entry(NamedTuple):
    """A task, and the milliseconds that each version took."""

    task: Task
    milliseconds: dict[str, float]


class Table(NamedTuple):
    """The measurements of one device."""

    path: Path
    device: str
    entries: list[Entry]


@lru_cache(maxsize=4096)
def choose(task: Task, machine: Machine | None) -> str:
    """The version that a task is to be run by."""
    if machine is None:
        return STAGED
    table = _usable(machine.name)
    near = None if table is None else nearest(table.entries, task)
    if table is None or near is None:
        LOGGER.debug("%s: %s; nothing measured on %s", task, STAGED, machine.name)
        return STAGED
    version = min(near.milliseconds, key=lambda name: near.milliseconds[name])
    LOGGER.debug("%s: %s, as measured for %s in %s", task, version, near.task, table.path)
    return version


def nearest(entries: list[Entry], task: Task) -> Entry | None:
    """The entry of the same operator and precision that is nearest; the first of two as near.

    The distance is |log C'/C| + |log O'/O| + |log pixels'/pixels|.
    """
    same = [e for e in entries if e.task[:2] == task[:2]]
    return min(same, key=lambda e: _distance(e.task, task), default=None)


def _distance(a: Task, b: Task) -> float:
    return sum(abs(math.log(m / n)) for m, n in zip(a[2:], b[2:], strict=True))


# the files ------------------------------------------------------------------------------------
def slug(device: str) -> str:
    """A device's name as the name of a file."""
    return re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")


def own_folder() -> Path:
    """Where the tables of the user are."""
    return compiler.folder() / "choices"


@cache
def table_of(device: str) -> Table | None:
    """The table of a device: the packaged one, or the user's in its place; None without one.

    ValueError where it is spoilt. A folder that may not be searched has none.
    """
    found = None
    for folder in (PACKAGED, own_folder()):
        path = folder / f"{slug(device)}.json"
        if not os.path.isfile(path):  # Path.is_file raises PermissionError
            continue
        found = read(path)
        if found.device != device:
            raise ValueError(
                f"{path}: device is {found.device!r}, expected {device!r}, whose file this is;"
                f" {AGAIN}"
            )
    return found


@cache
def _usable(device: str) -> Table | None:
    """The table of a device; None, and a warning, where it is spoilt."""
    try:
        return table_of(device)
    except ValueError as error:
        LOGGER.warning("%s is taken on %s: %s", STAGED, device, error)
        return None


def origin(device: str) -> str:
    """What decides on a device: its "packaged" table, the "own" one, a "spoilt" one, or "none"."""
    try:
        table = table_of(device)
    except ValueError:
        return "spoilt"
    if table is None:
        return "none"
    return "packaged" if table.path.parent == PACKAGED else "own"


def forget() -> None:
    """Reads the tables anew."""
    table_of.cache_clear()
    _usable.cache_clear()
    choose.cache_clear()


def read(path: Path) -> Table:
    """The table of a file; ValueError with the file and the entry where it is spoilt."""
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as JSON: {error}; {AGAIN}") from None
    try:
        return _table(path, data)
    except _Spoilt as spoilt:
        raise ValueError(f"{path}: {spoilt}; {AGAIN}") from None


def write(path: Path, about: Data, entries: list[Entry]) -> None:
    """A file whole or not at all, with the ABOUT of the run."""
    rows = [e.task._asdict() | {"milliseconds": e.milliseconds} for e in entries]
    data = {"format": FORMAT} | {name: about[name] for name in ABOUT} | {"entries": rows}
    _table(path, json.loads(json.dumps(data)))
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(f".{os.getpid()}.part")
    beside.write_text(json.dumps(data, indent=1) + "\n")
    os.replace(beside, path)


class _Spoilt(ValueError):
    """What is wrong in a table."""


def _table(path: Path, data: Any) -> Table:
    if not isinstance(data, dict):
        raise _Spoilt(f"it holds {_short(data)}, expected an object")
    if data.get("format") != FORMAT:
        raise _Spoilt(f"format is {_short(data.get('format'))}, expected {FORMAT}")
    missing = [name for name in (*ABOUT, "entries") if name not in data]
    if missing:
        raise _Spoilt(f"{missing[0]!r} is missing, expected {', '.join((*ABOUT, 'entries'))}")
    if not isinstance(data["device"], str) or not data["device"]:
        raise _Spoilt(f"device is {_short(data['device'])}, expected a name")
    if not isinstance(data["entries"], list) or not data["entries"]:
        raise _Spoilt(f"entries is {_short(data['entries'])}, expected a list of one or more")
    entries: list[Entry] = []
    seen: dict[Task, int] = {}
    for number, row in enumerate(data["entries"]):
        try:
            entries.append(_entry(row))
        except _Spoilt as spoilt:
            raise _Spoilt(f"entry {number}: {spoilt}") from None
        first = seen.setdefault(entries[-1].task, number)
        if first != number:
            raise _Spoilt(f"entry {number}: it has the task of entry {first}, expected another")
    return Table(path, data["device"], entries)


def _entry(row: Any) -> Entry:
    expected = {*Task._fields, "milliseconds"}
    if not isinstance(row, dict) or set(row) != expected:
        names = sorted(row) if isinstance(row, dict) else _short(row)
        raise _Spoilt(f"it has {names}, expected {sorted(expected)}")
    for name, allowed in (("operator", OPERATORS), ("precision", PRECISIONS)):
        if row[name] not in allowed:
            raise _Spoilt(f"{name} is {_short(row[name])}, expected one of {', '.join(allowed)}")
    for name in ("C", "O", "pixels"):
        if type(row[name]) is not int or not 1 <= row[name] <= LARGEST:
            raise _Spoilt(f"{name} is {_short(row[name])}, expected a whole number, 1 to {LARGEST}")
    times = row["milliseconds"]
    if not isinstance(times, dict) or not times:
        raise _Spoilt(f"milliseconds is {_short(times)}, expected a time for each version")
    for name, time in times.items():
        if name not in (STAGED, FUSED):
            raise _Spoilt(f"milliseconds has {name!r}, expected {STAGED!r} or {FUSED!r}")
        if type(time) not in (int, float) or not 0 < time < math.inf:
            raise _Spoilt(f"milliseconds of {name!r} is {_short(time)}, expected a number above 0")
    return Entry(Task(*(row[name] for name in Task._fields)), dict(times))


def _short(value: Any) -> str:
    said = repr(value)
    return said if len(said) <= 40 else said[:37] + "..."
