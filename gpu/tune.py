"""Measures which version is the faster one on this GPU: python -m deformable_convnets.gpu.tune.

Each version must equal the reference bit for bit on small exact problems in float32; one that does
not has no part. Then the layers of `bench` and a few smaller ones, forward and all gradients, in
every precision: the median of a call, versions by turns. Tiles, and so kernels, depend on the layer
and the precision: before a case is timed, v3 must equal v2 bit for bit on an exact problem of that
layer in that precision, or it has no time there. The table is written after every case, to the
folder `choices` of the cache, where every later process finds it by the device's name.

    --output PATH   another folder, or a file that ends in .json
    --quick         two layers
    --repeats N     rounds of a case
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from . import (
    bench_arrays,
    bench_cases,
    bench_contestants,
    bench_errors,
    bench_measure,
    bench_record,
    registry,
)
from .bench_cases import BACKWARD, FORWARD, PRECISIONS, Case, Shape
from .bench_contestants import Contestant
from .clocks import Clock, clock
from .cupy_kernels import choices
from .cupy_kernels.choices import FUSED, STAGED, Entry, Task

BACKEND = "cupy"
OPERATOR = {FORWARD: "deform_conv2d", BACKWARD: "deform_conv2d_backward"}
SMALLER = [
    Shape("64 channels 56x56 N=1", 1, 64, 56, 56, 1),
    Shape("128 channels 28x28 N=1", 1, 128, 28, 28, 1),
    Shape("256 channels 14x14 N=1", 1, 256, 14, 14, 1),
    Shape("512 channels 14x14 N=1", 1, 512, 14, 14, 1),
]
SHAPES = [*bench_cases.SHAPES, *SMALLER]
Versions = dict[str, Contestant]
problem = lru_cache(maxsize=1)(bench_cases.problem)  # of a layer


def versions() -> Versions:
    """The staged and the fused version, by name; RuntimeError where none can run."""
    missing = registry.BACKENDS[BACKEND].missing()
    if missing is not None:
        said = f"nothing to measure: {missing}. {registry.INSTALL}."
        raise RuntimeError(f"{said} Until then every call takes {STAGED!r}")
    found = bench_contestants.is_running(bench_contestants.of_backends(quick=True))
    return {name: found[f"{BACKEND} {name}"] for name in (STAGED, FUSED)}


def right(candidates: Versions) -> Versions:
    """Those that equal the reference on exact problems; says which do not."""
    good: Versions = {}
    for name, candidate in candidates.items():
        try:
            reason = bench_errors.disagreement(candidate)
        except Exception as error:  # it cannot be chosen either
            reason = f"{type(error).__name__}: {error}"
        if reason is None:
            good[name] = candidate
        else:
            print(f"{name} is taken out: {reason}")
    return good


def cases(shapes: list[Shape]) -> list[Case]:
    """In the order of the layers, so that the arrays of each are made once."""
    return [
        Case(OPERATOR[FORWARD], part, shape, p)
        for shape in shapes for p in PRECISIONS for part in (FORWARD, BACKWARD)
        if bench_cases.dtype(p) is not None
    ]  # fmt: skip


def task_of(case: Case) -> Task:
    at = case.shape
    assert isinstance(at, Shape)  # no pooling here
    return Task(OPERATOR[case.part], case.precision, at.C, at.C, at.N * at.H * at.W)


def measured(
    at: Clock, given: Versions, where: list[Case], limits: bench_measure.Limits
) -> Iterator[Entry]:
    """An entry for each case that a version can run; prints what each took."""
    for case in where:
        host = problem(case.shape)
        dtype = bench_cases.dtype(case.precision)

        def enter(name: str, case: Case = case, host: Any = host, dtype: Any = dtype
                  ) -> bench_measure.Entrant:  # fmt: skip
            candidate = given[name]
            arrays = candidate.arrays
            taken = {name: arrays.take(a) for name, a in bench_arrays.cast(host, dtype).items()}
            made = bench_measure.Entrant(candidate.prepare(case, taken), arrays.workspace)
            if name == FUSED and STAGED in given:
                differ = partial(bench_errors.difference, case, candidate, given[STAGED])
                made = made._replace(wrong=differ)
            return made

        entrants: dict[str, Callable[[], bench_measure.Entrant]] = {
            name: partial(enter, name) for name, c in given.items() if c.lacks(case) is None
        }
        rows = bench_measure.race(at, entrants, limits)
        said = [f"{n} {r.get('failed') or format(r['median_ms'], '.3f')}" for n, r in rows.items()]
        print(f"{case}: {', '.join(said)}")
        times = {name: row["median_ms"] for name, row in rows.items() if "failed" not in row}
        if times:
            yield Entry(task_of(case), times)


def path_of(output: Path | None, device: str) -> Path:
    """Where the table of a device is written."""
    if output is not None and output.suffix == ".json":
        return output
    return (output or choices.own_folder()) / f"{choices.slug(device)}.json"


def main(arguments: list[str] | None = None) -> int:
    """Measures and writes the table; 1 where nothing can be measured."""
    options = _options(arguments)
    try:
        candidates = versions()
    except RuntimeError as error:
        print(error)
        return 1
    at, given = clock(toy=False), right(candidates)
    if at is None or not given:
        print("nothing to measure: no version is left")
        return 1
    about, path = bench_record.environment(at), path_of(options.output, at.device)
    limits = bench_measure.Limits(rounds=options.repeats, case=1.5)
    entries: list[Entry] = []
    for entry in measured(at, given, cases(bench_cases.QUICK if options.quick else SHAPES), limits):
        entries.append(entry)
        choices.write(path, about, entries)
    choices.forget()  # calls of this process take the new table too
    print(f"{len(entries)} entries: {path}" if entries else "no case could be measured")
    return 0 if entries else 1


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m deformable_convnets.gpu.tune",
        description="Measures which version of the convolutions is the faster one on this GPU.",
    )
    where = f"a folder, or a file that ends in .json; calls read {choices.own_folder()}"
    parser.add_argument("--output", type=Path, help=where)
    parser.add_argument("--quick", action="store_true", help="two layers")
    parser.add_argument("--repeats", type=_positive, default=20, help="rounds of a case, 20")
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}, expected a whole number, 1 or more")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
