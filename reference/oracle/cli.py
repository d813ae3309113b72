"""`dcn-verify TARGET`: `verify` from the command line.

    dcn-verify my_kernels:deform_conv2d --backward my_kernels:deform_conv2d_backward
    dcn-verify torchvision --python .venv-peers/bin/python --html report.html

Exit status: 0 if every law that was checked holds, 1 if one is broken, 2 if an operator could not
be checked, for a reason that is one line, 130 after an interrupt, and 141 where nobody reads on.
"""

import argparse
import os
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from . import peers
from .child import CannotStart, Child
from .features import WORDS
from .implementation import OPERATORS, VOLUMES, Implementation
from .law import LAWS
from .report import Report
from .verify import BINS, BORDERS, DTYPES, chosen, verify

WIDTH = 24  # of the progress bar


def main(argv: Sequence[str] | None = None) -> int:
    """Run `dcn-verify` with these arguments; returns its exit status."""
    try:
        try:
            return _run(sys.argv[1:] if argv is None else argv)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # `| head` has read enough; what is left goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _run(argv: Sequence[str]) -> int:
    parsed = _parser().parse_args(_with_commas(argv))
    parsed.op = parsed.op or _called(parsed.target or "")
    if parsed.list:
        print(_listed(parsed.list))
        return 0
    try:
        with _no_folder_left():
            reports = list(_reports(parsed))
    except KeyboardInterrupt:
        print("\ndcn-verify: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        raise
    except (ValueError, TypeError, CannotStart, OSError) as error:
        print(f"dcn-verify: {error}", file=sys.stderr)
        return 2
    found = {_status(report) for report in reports}
    return 1 if 1 in found else max(found)


@contextmanager
def _no_folder_left() -> Iterator[None]:
    """Hypothesis keeps what it notes down in a temporary folder, not in the current one."""
    if find_spec("hypothesis") is None:
        raise ValueError("Hypothesis is not installed: pip install '.[oracle]'")
    from hypothesis.configuration import set_hypothesis_home_dir

    with TemporaryDirectory() as folder:
        set_hypothesis_home_dir(folder)
        try:
            yield
        finally:
            set_hypothesis_home_dir(None)


def _reports(parsed: argparse.Namespace) -> Iterator[Report]:
    if parsed.time_limit <= 0:
        raise ValueError(f"--time-limit is {parsed.time_limit:g}, expected more than 0 seconds")
    for path in filter(None, (parsed.html, parsed.json)):
        if not Path(path).absolute().parent.is_dir():
            raise ValueError(f"there is no folder for {path}")
    if parsed.target is None:
        raise ValueError(f"no target: module:callable, or one of {', '.join(peers.PEERS)}")
    for op in _operators(parsed):
        chosen(op, parsed.law)  # an unknown law is said before anything starts
        with _implementation(parsed, op) as i:
            report = verify(i, op, **_options(parsed, i), progress=_progress(parsed))
        if not parsed.quiet or not report.ok:
            print(report, end="\n\n" if parsed.op == "all" else "\n", flush=True)
        for path, text in ((parsed.html, report.html), (parsed.json, report.json)):
            if path is not None:
                _with_operator(path, op, parsed.op == "all").write_text(text(), encoding="utf-8")
        yield report


def _with_commas(argv: Sequence[str]) -> list[str]:
    """`--dtype float32 float64`, as it once was, with a comma."""
    words: list[str] = []
    for word in argv:
        if word in DTYPES and len(words) > 1 and words[-2] == "--dtype":
            words[-1] += f",{word}"
        else:
            words.append(word)
    return words


def _called(target: str) -> str:
    """The operator that a callable is called after, else deform_conv2d."""
    name = target.rpartition(":")[2].rpartition(".")[2]
    return name if ":" in target and name in OPERATORS + VOLUMES else "deform_conv2d"


def _status(report: Report) -> int:
    if report.failures:
        return 1
    return 0 if report.ok else 2


def _operators(parsed: argparse.Namespace) -> list[str]:
    if parsed.op != "all":
        return [parsed.op]
    if parsed.target in peers.PEERS:
        return list(peers.PEERS[parsed.target].chosen(None, None))
    raise ValueError("--op all is for the known targets; a callable is one operator")


@contextmanager
def _implementation(parsed: argparse.Namespace, op: str) -> Iterator[Implementation]:
    """The target, in a process that ends with the block."""
    if parsed.target in peers.PEERS:
        one = any(offer.border for offer in peers.PEERS[parsed.target].offers)
        border = parsed.border[0] if one and not op.endswith("roi_pool") else None
        found = peers.implementation(
            parsed.target, operator=op, python=parsed.python, border=border,
            time_limit=parsed.time_limit,
        )  # fmt: skip
        try:
            yield found
        finally:
            peers.close(found)
        return
    targets = {op: parsed.target}
    if parsed.backward is not None:
        module = parsed.target.rpartition(":")[0]
        backward = parsed.backward if ":" in parsed.backward else f"{module}:{parsed.backward}"
        targets[f"{op}_backward"] = backward
    if ":" not in parsed.target:
        raise ValueError(
            f"there is no target {parsed.target!r}: expected module:callable,"
            f" folder/file.py:callable or one of {', '.join(peers.PEERS)}"
        )
    options = {"arrays": parsed.arrays, "python": parsed.python, "time_limit": parsed.time_limit}
    with Child(targets, name=parsed.target, **options) as child:
        call: dict[str, Any] = {name: child.function(name) for name in targets}
        yield Implementation(
            parsed.target, call, dtypes=("float32", "float64"), versions=child.versions
        )


def _options(parsed: argparse.Namespace, i: Implementation) -> dict[str, Any]:
    """What was asked for, or what the target can do."""
    rules = tuple(rule for rule in BINS if f"bins {rule}" not in i.lacks)
    known = parsed.target in peers.PEERS
    return {
        "dtype": parsed.dtype or i.dtypes,
        "border": parsed.border,
        "bins": parsed.bins or (rules if known else "paper"),
        "laws": parsed.law,
        "examples": min(200, i.examples) if parsed.examples is None else parsed.examples,
        "seed": parsed.seed,
        "lacks": parsed.lacks or (),
        "shrink": not parsed.no_shrink,
    }


def _with_operator(path: str, op: str, several: bool) -> Path:
    """report.html as report-sample.html, where there is a report for each operator."""
    file = Path(path)
    return file.with_stem(f"{file.stem}-{op}") if several else file


def _progress(parsed: argparse.Namespace) -> Any:
    if parsed.quiet or not sys.stderr.isatty():
        return None

    def show(done: int, of: int, name: str) -> None:
        bar = "#" * (WIDTH * done // of)
        line = f"[{bar:<{WIDTH}}] {done}/{of} {name}" if name else ""
        print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)

    return show


def _listed(what: str) -> str:
    """The targets, laws, or words for --lacks."""
    if what == "targets":
        rows = {
            name: "; ".join(f"{o.operator} ({o.title})" for o in peer.offers)
            for name, peer in peers.PEERS.items()
        }
    elif what == "laws":
        rows = {law.name: f"{law.says}  [{law.operator}]" for law in LAWS.values()}
    else:
        rows = dict(WORDS)
    lines = []
    for name, text in rows.items():
        lines += [name, *textwrap.wrap(text, 92, initial_indent="    ", subsequent_indent="    ")]
    return "\n".join(lines)


def _words(text: str) -> list[str]:
    """One or several, with commas between them."""
    return [word.strip() for word in text.split(",")]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dcn-verify",
        description="Hold an implementation to what the paper's equations promise.",
        epilog="Exit status: 0 all laws hold, 1 a law is broken, 2 nothing could be checked.",
    )
    add = parser.add_argument
    add("target", nargs="?", help="module:callable, folder/file.py:callable, or a known target")
    add(
        "--op",
        choices=(*OPERATORS, *VOLUMES, "all"),
        metavar="OP",
        help=f"the operator: {', '.join(OPERATORS + VOLUMES)}; all of a known target. Without it,"
        " the one that the callable has the name of, else deform_conv2d",
    )
    add("--backward", metavar="CALLABLE", help="its gradients, [module:]callable")
    add(
        "--dtype",
        type=_words,
        help=f"{', '.join(DTYPES)}; default: what a known target has, else float32 and float64",
    )
    add("--border", type=_words, default=["zero"], help=f"{' or '.join(BORDERS)}; default zero")
    add("--bins", type=_words, help=f"the rule for the points of a RoI's bins: {', '.join(BINS)}")
    add("--law", type=_words, help="these alone; see --list laws")
    add("--examples", type=int, metavar="N", help="problems for each law and dtype; default 200")
    add("--seed", type=int, default=0)
    add("--lacks", type=_words, help="what is not supported, as 'mask,groups'; see --list words")
    add("--arrays", metavar="KIND", help="what a callable takes: torch, torch:cuda, cupy, jax")
    add("--python", metavar="PATH", help="the Python that has what the target needs")
    add("--time-limit", type=float, default=60.0, metavar="S", help="seconds for one call")
    add("--no-shrink", action="store_true", help="do not look for the smallest example")
    add("--html", metavar="FILE", help="write the report as a page, with pictures")
    add("--json", metavar="FILE", help="write the report as JSON")
    add("--quiet", action="store_true", help="print a report only where a law is broken")
    add("--list", choices=("targets", "laws", "words"), help="print what there is, and stop")
    return parser
