"""`python -m bench`, with the number of threads set before NumPy is imported and reads it."""

import argparse
import json
import os

from . import THREADS

for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = str(THREADS)

from . import cpu, report, roi  # noqa: E402

BENCHMARKS = {"convolution": cpu, "roi": roi}
parser = argparse.ArgumentParser(
    prog="python -m bench",
    description="Measure the reference. With torchvision, the results and the README are replaced.",
)
parser.add_argument("what", nargs="*", metavar="what", help=f"{' or '.join(BENCHMARKS)}; or both")
parser.add_argument("--rounds", type=int, default=25)
parser.add_argument("--torchvision", metavar="PYTHON", help="a Python that has torchvision")
arguments = parser.parse_args()
for what in arguments.what or BENCHMARKS:
    if what not in BENCHMARKS:
        parser.error(f"what is {what!r}, expected {' or '.join(BENCHMARKS)}")
for what in arguments.what or BENCHMARKS:
    results = BENCHMARKS[what].measure(arguments.rounds, arguments.torchvision)
    if arguments.torchvision:
        BENCHMARKS[what].RESULTS.write_text(json.dumps(results, indent=2) + "\n")
        report.write_section(what, results)
    print(report.summary(results))
