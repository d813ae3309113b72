"""One command for each experiment: `make experiment NAME=table1`, or, in tutorials/,
`python -m experiments table1`. An interrupted one goes on where it was."""

import argparse
import json
import os
from pathlib import Path

from experiments import page, pool, report, runs
from experiments.tables import TABLES

SEEDS = 3  # of what the pages tell
RUNS, RESULTS = runs.HERE / "runs", runs.HERE / "results"


def main() -> None:
    """Train what is not trained yet, and write and print the table."""
    options = arguments()
    for name in options.names:
        table, seeds = TABLES[name], 1 if options.quick else options.seeds
        results = pool.finished(table.runs(seeds, options.quick), options.runs, options.processes)
        told = report.summary(table, results, seeds, options.quick)
        print(report.text(told), flush=True)
        whole = seeds == SEEDS and not options.quick
        folder = options.results or (RESULTS if whole else options.runs / "tables")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.json").write_text(json.dumps(told, indent=1) + "\n")
        from experiments import plots  # Matplotlib, when the runs are done

        plots.save(told, folder / f"{name}.png")
    if folder == RESULTS:
        page.write()


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(prog="experiments", description=__doc__)
    parser.add_argument("names", nargs="+", choices=list(TABLES), metavar="NAME",
                        help=" ".join(TABLES))  # fmt: skip
    parser.add_argument(
        "--quick", action="store_true", help="one seed, less than a minute: says only that it works"
    )
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--runs", type=Path, default=RUNS, help="checkpoints and finished runs")
    parser.add_argument("--results", type=Path, help="where the table and its picture go")
    options = parser.parse_args()
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
