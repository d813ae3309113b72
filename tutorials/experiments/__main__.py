"""One command for each experiment: `make experiment NAME=table1`, or, in tutorials/,
`python -m experiments table1`. An interrupted one goes on where it was. With --judge nothing is
trained: the verdicts are made again from the numbers that are stored, by what *_tables.py claim."""

import argparse
import json
import os
from pathlib import Path
from typing import Any

from experiments import page, pool, report, runs
from experiments.layout import Table
from experiments.tables import TABLES

SEEDS = 3  # of what the pages tell
RUNS, RESULTS = runs.HERE / "runs", runs.HERE / "results"


def main() -> None:
    """Train what is not trained yet, or only judge again, and write and print the table."""
    options = arguments()
    for name in options.names:
        whole = options.judge or (options.seeds == SEEDS and not options.quick)
        folder = options.results or (RESULTS if whole else options.runs / "tables")
        path = folder / f"{name}.json"
        told = (judged if options.judge else trained)(TABLES[name], path, options)
        print(report.text(told), flush=True)
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(told, indent=1) + "\n")
        if not options.judge:
            from experiments import plots  # Matplotlib, when the runs are done

            plots.save(told, path.with_suffix(".png"))
    if folder == RESULTS:
        page.write()


def trained(table: Table, path: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The summary of runs, those that are not finished trained first."""
    wanted = table.runs(options.seeds, options.quick)
    results = pool.finished(wanted, options.runs, options.processes)
    return report.summary(table, results, options.seeds, options.quick)


def judged(table: Table, path: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The summary that is stored, with verdicts made again from its numbers."""
    if not path.exists():
        raise ValueError(f"{path} is not there: without --judge the command trains it")
    return report.judged_again(json.loads(path.read_text()), table)


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(prog="experiments", description=__doc__)
    parser.add_argument("names", nargs="+", choices=list(TABLES), metavar="NAME",
                        help=" ".join(TABLES))  # fmt: skip
    parser.add_argument(
        "--quick", action="store_true", help="one seed, less than a minute: says only that it works"
    )
    parser.add_argument(
        "--judge", action="store_true", help="train nothing: make the verdicts again from the"
        " numbers of the results",
    )  # fmt: skip
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--runs", type=Path, default=RUNS, help="checkpoints and finished runs")
    parser.add_argument("--results", type=Path, help="where the table and its picture go")
    options = parser.parse_args()
    if options.judge and options.quick:
        parser.error("--quick trains and --judge does not, expected one of them")
    for name in ("seeds", "processes"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} is {getattr(options, name)}, expected 1 or more")
    return options


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit("experiments: interrupted; the same command goes on from here") from None
    except (RuntimeError, ValueError) as error:  # a folder in use, a run that diverged
        raise SystemExit(f"experiments: {error}") from None
