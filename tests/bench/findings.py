"""What the oracle finds in each peer: `make findings`, or `python -m bench.findings [peer ...]`.

Every operator of every peer whose environment is here is verified, in a process of its own. Where a
law is broken, it is verified again on finite coordinates alone. What was found is written to
`results/findings.json`, and as a table into `reference/oracle/README.md`.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deformable_convnets.reference.oracle import peers
from deformable_convnets.reference.oracle.child import CannotStart
from deformable_convnets.reference.oracle.verify import BINS, Report, verify

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).with_name("results") / "findings.json"
PAGE = ROOT / "reference" / "oracle" / "README.md"
START, END = "<!-- findings, by make findings -->", "<!-- end of findings -->"
FINITE = "points not finite"


def offers(names: list[str]) -> Iterator[tuple[str, Any]]:
    for name in names or peers.PEERS:
        for offer in peers.PEERS[name].offers:
            yield name, offer


def found(name: str, offer: Any, examples: int) -> dict[str, Any]:
    """One operator of one peer, verified."""
    i = peers.implementation(name, operator=offer.operator, border=offer.border)
    rules = [rule for rule in BINS if f"bins {rule}" not in i.lacks]
    borders = [offer.border] if offer.border else ["zero", "dcnv1"]
    wanted = {
        "op": offer.operator, "dtype": i.dtypes, "border": borders, "bins": rules or BINS,
        "examples": examples if i.examples >= 100 else i.examples,
    }  # fmt: skip
    try:
        first = verify(i, **wanted)
        again = None if first.ok else verify(i, **wanted, lacks=[*i.lacks, FINITE])
    finally:
        peers.close(i)
    entry = entry_of(name, offer.title, first)
    if again is not None:
        entry["on finite coordinates"] = entry_of(name, offer.title, again)
    return entry


def entry_of(name: str, title: str, report: Report) -> dict[str, Any]:
    """What of a report is recorded."""
    laws = {kept.law for kept in report.kept}
    return {
        "peer": name, "title": title, "operator": report.operator, "ok": report.ok,
        "gradients": report.gradients, "dtypes": report.dtypes, "rules": report.rules,
        "versions": report.versions, "lacks": report.lacks, "examples": report.examples,
        "seed": report.seed, "laws kept": len(laws - {f.law for f in report.failures}),
        "laws broken": sorted({f.law for f in report.failures}),
        "not checked": sorted({n.law for n in report.not_checked} - laws),
        "diagnoses": list(dict.fromkeys(f.diagnosis for f in report.failures)),
        "examples of failures": [
            {"law": f.law, "dtype": f.dtype, "kind": f.kind, "message": f.message,
             "diagnosis": f.diagnosis, "example": f.example} for f in report.failures
        ],
    }  # fmt: skip


def markdown(entries: list[dict[str, Any]]) -> str:
    """The table: a row for each operator of each peer."""
    rows = ["| | Operator | Laws kept, of those checked | What was found |", "|---|---|---|---|"]
    for e in entries:
        versions = ", ".join(f"{n} {v}" for n, v in e["versions"].items() if n in e["title"] or
                             n.split("-")[0] in e["peer"])  # fmt: skip
        total = e["laws kept"] + len(e["laws broken"])
        finite = e.get("on finite coordinates")
        words = "; ".join(e["diagnoses"]) or "nothing"
        if finite:
            words += ". On finite coordinates alone: " + (
                "; ".join(finite["diagnoses"]) or "nothing"
            )
        rows.append(
            f"| {e['peer']}{' ' * bool(versions)}{versions} | `{e['operator']}`: {e['title']}"
            f" | {e['laws kept']} of {total}, {e['examples']} problems each | {words} |"
        )
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.findings", description=__doc__)
    parser.add_argument("peers", nargs="*", help="default: all that are here")
    parser.add_argument("--examples", type=int, default=2000)
    given = parser.parse_args()
    entries = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name, offer in offers(given.peers):
        key = f"{name} {offer.operator} {offer.title}"
        try:
            entries[key] = found(name, offer, given.examples)
        except CannotStart as error:
            print(f"not run: {error}")
            continue
        print(key, "OK" if entries[key]["ok"] else entries[key]["diagnoses"], flush=True)
        RESULTS.write_text(json.dumps(entries, indent=1) + "\n")
    write(PAGE, markdown(list(entries.values())))


def write(page: Path, text: str) -> None:
    """Put the text between the marks of a page."""
    before, rest = page.read_text(encoding="utf-8").split(START)
    after = rest.split(END)[1]
    page.write_text(f"{before}{START}\n{text}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
