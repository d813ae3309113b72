"""One command for each experiment: `make experiment NAME=table1`, or, in tutorials/,
`python -m experiments table1`. An interrupted one goes on where it was."""

import argparse
import json
import os
from pathlib import Path

from experiments import page, pool, report
from experiments.tables import TABLES

RUNS, RESULTS = report.HERE / "runs", report.HERE / "results"


def main() -> None:
    """Train what is not trained yet, and write and print the table."""
    options = arguments()
    for name in options.names:
        table, seeds = TABLES[name], 1 if options.quick else options.seeds
        runs = table.runs(seeds, options.quick)
        results = pool.finished(runs, options.runs, options.processes)
        told = report.summary(table, results, seeds, options.quick)
        print(report.text(told), flush=True)
        options.results.mkdir(parents=True, exist_ok=True)
        stem = f"{name}_quick" * options.quick or name
        (options.results / f"{stem}.json").write_text(json.dumps(told, indent=1) + "\n")
        from experiments import plots  # Matplotlib, when the runs are done

        plots.save(told, options.results / f"{stem}.png")
        if options.results == RESULTS and not options.quick:
            page.write()


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(prog="experiments", description=__doc__)
    parser.add_argument("names", nargs="+", choices=list(TABLES), metavar="NAME",
                        help=" ".join(TABLES))  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="seconds: says only that it works")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--runs", type=Path, default=RUNS, help="checkpoints and finished runs")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the table and the picture")
    return parser.parse_args()


if __name__ == "__main__":
    main()
