"""What the oracle finds in each peer: `make findings`, or `python -m bench.findings [peer ...]`.

Every operator of every peer whose environment is here is verified, in a process of its own: the
laws of exactness and bounds on 2000 problems for each dtype, the others on 100. A law that is
broken is tried again on ordinary input: finite, with an image, two rows and two columns or more.
What was found is written to `results/findings.json`, and as a table into
`reference/oracle/README.md`.
"""

import argparse
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from deformable_convnets.reference.oracle import peers
from deformable_convnets.reference.oracle.child import CannotStart
from deformable_convnets.reference.oracle.implementation import OPERATORS
from deformable_convnets.reference.oracle.law import laws_of
from deformable_convnets.reference.oracle.verify import BINS, Report, verify

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).with_name("results") / "findings.json"
PAGE = ROOT / "reference" / "oracle" / "README.md"
START, END = "<!-- findings, by make findings -->", "<!-- end of findings -->"
STRANGE = ("points not finite", "no images", "a narrow map")
# Our kernels compiled for the CPU, which only the tests have: as `implementations` knows them.
OWN = {
    "cuda-on-cpu": "cuda-on-cpu v2",
    "numba-on-cpu": "numba-on-cpu v1", "numba-on-cpu-v2": "numba-on-cpu v2",
}  # fmt: skip
DEEP = ("_is_exact", "_within_bounds", "_rounded_once")  # the ends of their names


def offers(names: list[str]) -> Iterator[tuple[str, Any]]:
    for name in names or [*peers.PEERS, *OWN]:
        if name in OWN:
            made = ours(name).implementation
            yield from ((name, peers.Offer(o, o)) for o in OPERATORS if made.offers(o))
        else:
            yield from ((name, offer) for offer in peers.PEERS[name].offers)


def ours(name: str) -> Any:
    """The registered entry of one of OWN."""
    from implementations import ENTRIES

    return ENTRIES[OWN[name]]


def own(name: str) -> Any:
    """One of OWN, with as many problems as a peer of that speed."""
    entry = ours(name)
    if entry.missing():
        raise CannotStart(f"{name}: {entry.missing()}")
    versions = {
        "numpy": np.__version__, "built by": "g++" if name == "cuda-on-cpu" else
        f"numba {version('numba')}, for the CPU",
    }  # fmt: skip
    return replace(entry.implementation, examples=100, versions=versions)


def found(name: str, offer: Any, examples: int, others: int, slow: bool) -> dict[str, Any]:
    """One operator of one peer, verified: the laws of exactness and bounds at length.

    slow  whether one that affords fewer problems gets as many all the same
    """
    i = own(name) if name in OWN else (
        peers.implementation(name, operator=offer.operator, border=offer.border)
    )  # fmt: skip
    rules = [rule for rule in BINS if f"bins {rule}" not in i.lacks]
    borders = [offer.border] if offer.border else ["zero", "dcnv1"]
    about: dict[str, Any] = {
        "op": offer.operator, "dtype": i.dtypes, "border": borders, "bins": rules or BINS,
    }  # fmt: skip
    names = [law.name for law in laws_of(offer.operator)]
    deep = [law for law in names if law.endswith(DEEP)]
    rest = [law for law in names if law not in deep]
    counts = [n if slow or i.examples >= 100 else i.examples for n in (examples, others)]
    try:
        reports = [
            verify(i, **about, laws=laws, examples=count)
            for laws, count in zip((deep, rest), counts, strict=True) if laws
        ]  # fmt: skip
        broken = {f.law for report in reports for f in report.failures}
        again = []
        if broken:
            ordinary = {"lacks": [*i.lacks, *STRANGE], "laws": sorted(broken)}
            again = [verify(i, **about, **ordinary, examples=counts[1])]
    finally:
        peers.close(i)
    entry = entry_of(name, offer.title, reports, counts)
    if again:
        entry["on ordinary input"] = entry_of(name, offer.title, again, counts[1:])
    return entry


def entry_of(name: str, title: str, reports: list[Report], examples: list[int]) -> dict[str, Any]:
    """What of some reports is recorded."""
    first = reports[0]
    failures = [f for report in reports for f in report.failures]
    kept = {k.law for report in reports for k in report.kept} - {f.law for f in failures}
    told = [
        {"law": f.law, "dtype": f.dtype, "kind": f.kind, "message": _without_folders(f.message),
         "diagnosis": f.diagnosis, "example": f.example} for f in failures
    ]  # fmt: skip
    idle = {n.law: n.reason for report in reports for n in report.not_checked}
    return {
        "peer": name, "title": title, "operator": first.operator,
        "gradients": first.gradients, "dtypes": first.dtypes, "rules": first.rules,
        "versions": first.versions, "lacks": first.lacks, "examples": examples,
        "seed": first.seed, "laws kept": sorted(kept),
        "laws broken": sorted({f.law for f in failures}),
        "not checked": {law: why for law, why in idle.items() if law not in kept},
        "diagnoses": _different(told, first.dtypes),
        "failures": told,
    }  # fmt: skip


def _without_folders(message: str) -> str:
    """A message without the folders of this machine."""
    return re.sub(r"(?:/[\w.+-]+)+/([\w.+-]+)", r"\1", message)


def _different(failures: list[dict[str, Any]], dtypes: Sequence[str]) -> list[str]:
    """The diagnoses that differ in more than their counts, without counts, and in which dtypes."""
    seen: dict[str, set[str]] = {}
    for f in failures:
        plain = re.sub(r"\d+ of \d+ calls|all \d+ calls", "some calls", f["diagnosis"])
        plain = re.sub(r", and in none of \d+ without", "", plain)
        seen.setdefault(plain, set()).add(f["dtype"])
    return [
        d if found == set(dtypes) else f"{d} (in {', '.join(sorted(found))})"
        for d, found in seen.items()
    ]


def markdown(entries: list[dict[str, Any]]) -> str:
    """The table: a row for each operator of each peer."""
    rows = ["| Operator | Of | Laws kept | What was found |", "|---|---|---|---|"]
    for e in entries:
        library = ", ".join(
            f"{n} {v.split('+')[0]}" for n, v in e["versions"].items() if n != "python"
        )
        total = len(e["laws kept"]) + len(e["laws broken"])
        rows.append(
            f"| `{e['operator']}`, {', '.join(e['dtypes'])} | {e['peer']}: {e['title']}"
            f"{' (' * bool(library)}{library}{')' * bool(library)}"
            f" | {len(e['laws kept'])} of {total}, {e['examples'][0]} problems | {_words(e)} |"
        )
    names = dict.fromkeys(e["peer"] for e in entries)
    known = [name for name in names if name not in OWN]
    notes = [f"* {name}: {note}." for name in known for note in peers.PEERS[name].notes]
    return "\n".join([*rows, "", "What is known of them, from trying by hand:", "", *notes])


def _words(entry: dict[str, Any]) -> str:
    """What was found, and what is left of it on ordinary input."""
    if not entry["diagnoses"]:
        return "nothing"
    ends = [f["message"] for f in entry["failures"] if f["kind"] == "died"]
    signals = sorted({word for message in ends for word in re.findall(r"SIG[A-Z]+", message)})
    words = "; ".join(entry["diagnoses"]) + f" ({', '.join(signals)})" * bool(signals)
    left = "; ".join(entry["on ordinary input"]["diagnoses"]) or "nothing"
    return f"{words}. **On ordinary input: {left}**"


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.findings", description=__doc__)
    parser.add_argument("peers", nargs="*", help="default: all that are here")
    parser.add_argument("--examples", type=int, default=2000, help="of exactness and bounds")
    parser.add_argument("--others", type=int, default=100, help="of the other laws")
    parser.add_argument("--slow", action="store_true", help="as many of those that are slow")
    given = parser.parse_args()
    entries = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name, offer in offers(given.peers):
        key = f"{name} {offer.operator} {offer.title}"
        try:
            entries[key] = found(name, offer, given.examples, given.others, given.slow)
        except CannotStart as error:
            print(f"not run: {error}")
            continue
        print(key, entries[key]["diagnoses"] or "OK", flush=True)
        RESULTS.write_text(json.dumps(entries, indent=1) + "\n")
    write(PAGE, markdown(list(entries.values())))


def section(page: str) -> str:
    """What stands between the marks of a page."""
    return page.split(START)[1].split(END)[0].strip("\n")


def write(page: Path, text: str) -> None:
    """Put the text between the marks of a page."""
    before, rest = page.read_text(encoding="utf-8").split(START)
    after = rest.split(END)[1]
    page.write_text(f"{before}{START}\n{text}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
