"""The table of what the oracle found in other libraries is that of the record."""

import json

from bench import findings

from deformable_convnets.reference.oracle import LAWS
from deformable_convnets.reference.oracle.implementation import OPERATORS, VOLUMES

ENTRIES = json.loads(findings.RESULTS.read_text())


def test_the_table_is_that_of_the_record():
    page = findings.PAGE.read_text(encoding="utf-8")
    assert findings.section(page) == findings.markdown(list(ENTRIES.values()))


def test_another_finding_is_seen():
    entry = next(iter(ENTRIES.values()))
    other = entry | {"laws kept": entry["laws kept"][1:]}
    assert findings.markdown([entry]) != findings.markdown([other])
    found = entry | {"diagnoses": ["y is 2"], "failures": [
        {"kind": "died", "message": "the process ended with signal 11 (SIGSEGV)"}
    ], "on ordinary input": {"diagnoses": []}}  # fmt: skip
    assert "y is 2 (SIGSEGV). **On ordinary input: nothing**" in findings.markdown([found])


def test_every_record_says_what_was_run():
    for entry in ENTRIES.values():
        offered = [offer.title for _, offer in findings.offers([entry["peer"]])]
        assert entry["title"] in offered
        laws = {*entry["laws kept"], *entry["laws broken"], *entry["not checked"]}
        assert laws <= set(LAWS)
        assert len(entry["laws kept"]) + len(entry["laws broken"]) > 0
        assert entry["examples"]
        assert entry["versions"] or entry["peer"] == "reference"


def test_our_own_kernels_and_the_reference_break_no_law():
    own = [
        e
        for e in ENTRIES.values()
        if e["peer"] in ("reference", *findings.OWN) or e["peer"].startswith("gpu")
    ]
    judged = {e["operator"] for e in own if e["peer"] == "reference"}
    assert set(OPERATORS) <= judged <= {*OPERATORS, *VOLUMES}
    assert [e["laws broken"] for e in own] == [[]] * len(own)
