"""The ledger of claims: links lead somewhere, verdicts say no more than was seen, numbers are read.

Each rule is shown to complain of a row that breaks it, and of nothing else.
"""

import json
from dataclasses import replace

import pytest
from tutorial_files import TUTORIALS, helper

from deformable_convnets.reference.networks import count

complaints, links, numbers, page, rows, verdicts = (
    helper(f"ledger.{name}")
    for name in ("complaints", "links", "numbers", "page", "rows", "verdicts")
)
PARTS = rows.load()
CLAIMS = rows.claims(PARTS)
GOOD = rows.Claim(
    id="0.1", says="A convolution samples and adds.", of=("(1)",), verdict="reproduced",
    on="exact", code=("reference.conv2d",), tests=("law conv2d_is_exact",), seen="Bit for bit.",
    notebooks=("1: The two halves",),
)  # fmt: skip
SMALL = replace(
    GOOD, on="small", code=("experiments.layer_tables.table1",),
    results=("table1 | segmentation | accuracy improves steadily",),
)  # fmt: skip
PRINTED = replace(
    GOOD, on="printed", orders=({"table": "1", "rows": ["0", "3"], "columns": ["mIoU@V"]},)
)


@pytest.mark.parametrize("claim", CLAIMS, ids=[claim.id for claim in CLAIMS])
def test_a_row(claim):
    assert complaints.of_one(claim) == []


def test_every_equation_figure_and_table_has_a_row():
    assert complaints.together(CLAIMS) == []
    for thing in complaints.THINGS:
        rest = [replace(c, of=tuple(t for t in c.of if t != thing)) for c in CLAIMS]
        assert f"no row is about {thing}" in complaints.together(rest)


def test_the_page_is_made_of_the_rows():
    """Else: cd tutorials && python -m ledger."""
    written = (TUTORIALS / "CLAIMS.md").read_text(encoding="utf-8")
    assert written == page.page(PARTS) + "\n"


@pytest.mark.parametrize("claim", [GOOD, SMALL, PRINTED, replace(SMALL, verdict="partly")])
def test_no_complaint(claim):
    assert complaints.of_one(claim) == []


SPOILT = {
    "conv3 of reference": replace(GOOD, code=("reference.conv3",)),
    "no module": replace(GOOD, code=("reference.nowhere.conv2d",)),
    "no such test": replace(GOOD, tests=("test_equations.py::test_eq99",)),
    "no such file of tests": replace(GOOD, tests=("test_nothing.py::test_eq1_one_pixel_by_hand",)),
    "no such law": replace(GOOD, tests=("law forward_is_nice",)),
    "a law of maps that volumes do not have": replace(GOOD, tests=("law volume_sample_is_exact",)),
    "a helper is no law": replace(GOOD, tests=("law dot",)),
    "no such heading": replace(GOOD, notebooks=("1: The three halves",)),
    "no such notebook": replace(GOOD, notebooks=("99: The two halves",)),
    "no such verdict": replace(GOOD, verdict="proved"),
    "no such ground": replace(GOOD, on="faith"),
    "a ground for nothing": replace(GOOD, verdict="not attempted"),
    "seen without a ground": replace(GOOD, on=""),
    "not in the paper": replace(GOOD, of=("Figure 9",)),
    "unknown source": replace(GOOD, known="hearsay"),
    "too long": replace(GOOD, says="A convolution samples and adds. " * 9),
    "nothing seen": replace(GOOD, seen=""),
    "no test": replace(GOOD, tests=()),
    "no code": replace(GOOD, code=()),
    "a number that is nowhere": replace(GOOD, seen="{table1[segmentation][7][mIoU]} points."),
    "a table that is nowhere": replace(GOOD, seen="{table9[segmentation][3][mIoU]} points."),
    "a typed number": replace(GOOD, seen="It is 12.34 times better."),
    "a typed number with commas": replace(GOOD, seen="It has 7,654,321 weights."),
    "no result": replace(SMALL, results=("table1 | segmentation | accuracy falls",)),
    "small without results": replace(SMALL, results=()),
    "results of other grounds": replace(SMALL, on="exact"),
    "more than the results": replace(
        SMALL, results=("table2 | scale world: effective dilation | that of the background",)
    ),
    "against the results": replace(SMALL, verdict="contradicted"),
    "more than is printed": replace(
        PRINTED, orders=({"table": "1", "rows": ["3", "0"], "columns": ["mIoU@V"]},)
    ),
    "less than not clear": replace(
        SMALL, results=("table1 | detection | accuracy improves steadily",)
    ),
    "nothing computed": replace(PRINTED, orders=(), tests=()),
}  # fmt: skip


@pytest.mark.parametrize("spoilt", SPOILT)
def test_a_spoilt_row_is_seen(spoilt):
    assert len(complaints.of_one(SPOILT[spoilt])) == 1


def test_rows_together():
    assert "0.1 is there 2 times" in complaints.together([GOOD, GOOD])
    lost = replace(GOOD, seen="See row 9.9.")
    assert "0.1: there is no row 9.9" in complaints.of_all([lost])
    with pytest.raises(TypeError):
        rows.read('title = "x"\n[[claim]]\nid = "1"\nsays = "a"\nverdict = "partly"\nproof = "b"\n')


def test_another_row_number_or_verdict_changes_the_page():
    """So a page that is not made anew is seen."""
    first = PARTS[0].claims[0]
    for change in ({"says": "Else."}, {"verdict": "contradicted"}, {"seen": "{bench[cpu][cores]}"}):
        other = replace(PARTS[0], claims=(replace(first, **change), *PARTS[0].claims[1:]))
        assert page.page([other, *PARTS[1:]]) != page.page(PARTS)


def test_numbers_are_those_of_the_files():
    told = json.loads((TUTORIALS / "experiments" / "results" / "table1.json").read_text())
    values = [
        row["values"]["mIoU"] for row in told["sections"][0]["rows"] if len(row["label"]) == 1
    ]
    mean = [100 * v["mean"] for v in values]
    text = "{table1[segmentation][3][mIoU]} {table1[segmentation][0 > 3][mIoU]}"
    expected = f"{mean[3]:.1f} ± {100 * values[3]['std']:.1f} {mean[3] - mean[0]:+.1f}"
    assert numbers.filled(text) == expected
    assert numbers.filled("{paper[5][Faster > Faster, ours][large]}") == "+4.1"
    assert numbers.filled("{paper[5][R-FCN / R-FCN, ours][mAP]}") == "+12.0"
    assert numbers.filled("{paper[1][0][mIoU@V]}") == "69.7"
    assert numbers.filled("{count[DeepLab, 21 classes][adds]}") == "248,886"
    assert numbers.filled("{bench[cpu][cores]}") == "2"


def test_a_verdict_follows_from_outcomes():
    yes, no, unclear = (verdicts.Outcome(agrees, "") for agrees in (True, False, None))
    assert verdicts.verdict([yes, yes]) == "reproduced"
    assert verdicts.verdict([no]) == "contradicted"
    for found in ([unclear], [yes, no], [yes, unclear], [no, unclear]):
        assert verdicts.verdict(found) == "partly"
    rising = {"table": "5", "cells": ["RPN | small", "RPN | medium", "RPN | large"]}
    assert [o.agrees for o in verdicts.orders(rising)] == [True]
    level = {"table": "3", "rows": ["4", "convolution"], "columns": ["Faster @0.5", "Faster @0.7"]}
    assert [o.agrees for o in verdicts.orders(level)] == [False, True]  # 78.6 is not more than 78.6


def test_tables_1_and_3_differ_in_one_number():
    """The same networks stand in both: without deformable layers, and with three."""
    first, third = numbers.paper()["1"], numbers.paper()["3"]
    assert first["0"] == third["2"]
    differing = {c for c in first["3"] if first["3"][c] != third["convolution"][c]}
    assert differing == {"mIoU@V"}


def test_relative_gains_of_table_5():
    for network, percent in (("RPN", 11), ("Faster", 13), ("R-FCN", 12)):
        gain = numbers.filled(f"{{paper[5][{network} / {network}, ours][mAP]}}")
        assert round(float(gain)) == percent


def test_the_paper_s_tables_are_the_same_everywhere():
    """paper.toml against the numbers beside the experiments, and against those of `count`."""
    paper, experiments = numbers.paper(), helper("experiments.tables").TABLES
    assert [row.paper["mIoU@V"] for row in experiments["table1"].sections[0].rows if row.paper] == [
        row["mIoU@V"] for row in paper["1"].values()
    ]
    for row in experiments["table2"].sections[0].rows:
        assert row.paper == {place: paper["2"][row.label][place] for place in row.paper}
    names = ("2", "convolution", "RoI pooling", "both")
    heads = experiments["table3_lower"].sections
    for section, network in zip(heads, ("Faster", "R-FCN"), strict=True):
        printed = [tuple(row.paper.values()) for row in section.rows if row.paper]
        columns = (f"{network} @0.5", f"{network} @0.7")
        assert printed == [tuple(paper["3"][name][c] for c in columns) for name in names]
    for section, network in zip(experiments["table5"].sections, ("Faster", "R-FCN"), strict=True):
        printed = [tuple(row.paper.values()) for row in section.rows if row.paper]
        pair = (paper["5"][network], paper["5"][f"{network}, ours"])
        assert printed[:2] == [tuple(row.values()) for row in pair]
    by_name = {
        "DeepLab, 21 classes": "DeepLab@V", "DeepLab, 19 classes": "DeepLab@C",
        "category-aware RPN": "RPN", "Faster R-CNN": "Faster", "R-FCN, as released": "R-FCN",
    }  # fmt: skip
    for row in count.ROWS:
        if row.name in by_name:
            pair = [paper["4"][by_name[row.name] + end] for end in ("", ", ours")]
            assert row.paper == tuple(r["parameters"] for r in pair)
            assert row.seconds == tuple(r["forward"] for r in pair)


def test_where_a_name_is_defined():
    root = rows.ROOT
    assert links.code("reference.sample") == root / "reference" / "bilinear.py"
    assert links.code("gpu.conv2d").parent == root / "gpu"
    assert links.code("reference.networks.count") == root / "reference" / "networks" / "count.py"
    assert links.code("reference.networks.protocols.PAPER").name == "protocols.py"
    assert links.test("law zero_offset_is_convolution").name == "laws.py"
