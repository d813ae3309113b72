"""The runs behind the tables: what a row differs in, where a column reads, what the paper printed.

Every table is written down here a second time; the paper's numbers are from its Tables 1, 2, 3, 5.
"""

from dataclasses import asdict, fields, replace

import numpy as np
import pytest
from tutorial_files import helper

from deformable_convnets.reference.networks import layers, optimisers

runs, layout, report = map(helper, ("experiments.runs", "experiments.layout", "experiments.report"))
TABLES = helper("experiments.tables").TABLES
Run = runs.Run
C, BC = ("res5c",), ("res5b", "res5c")
ABC = ("res5a", "res5b", "res5c")
SIX = ("res4a", "res4b", "res4c", *ABC)
POOL, VOTE = ("head.pool",), ("head.score", "head.box")
DETECTION = {"task": "detection", "iterations": 600}
SENSITIVE = {**DETECTION, "head": "position-sensitive"}
TESTS = {"one scale": "once", "flipped too": "flip", "three scales, flipped": "scales"}
DIGITS = {"task": "detection", "world": "digits", "iterations": 1200}


def deformable(given, **rows):
    """Rows that differ in what is deformable."""
    made = {label.replace("_", " "): {**given, "deformable": d} for label, d in rows.items()}
    return {label: {k: v for k, v in row.items() if v != ()} for label, row in made.items()}


def counts(given):
    rows = deformable(given, none=(), c=C, bc=BC, abc=ABC, six=SIX)
    dense = {"0, dilation 1": {**given, "dilation": 1}}
    return dict(zip("01236", rows.values(), strict=True)) | dense


def dilations(given):
    rows = {f"dilation {d}": {**given, "dilation": d} for d in (1, 3, 4)}
    return {**rows, "dilation 2": given, "deformable": {**given, "deformable": ABC}}


def kinds(given, roi):
    rows = deformable(given, plain=(), deformable_convolution=ABC, deformable_RoI_pooling=roi,
                      both=ABC + roi)  # fmt: skip
    return rows | {"plain, dilation 1": {**given, "dilation": 1}}


def by_size(given, roi):
    rows = kinds(given, roi)
    labels = ("plain, dilation 1", "plain", "both")
    return {f"{label}, {test}": rows[label] for label in labels for test in TESTS}


def filters(world):
    given = {"deformable": ABC} | ({} if world == "scale" else {"world": world})
    return [dict.fromkeys(("res5c", "res5b", "res5a"), given)] * 6


def worlds(*names):
    rows = {f"{name}, plain": {"world": name} for name in names if name != "scale"}
    rows |= {"scale, plain": {}} if "scale" in names else {}
    return rows | {k.replace("plain", "deformable"): {**v, "deformable": ABC}
                   for k, v in rows.items()}  # fmt: skip


# What the runs of the rows have that is no default, section by section.
ROWS = {
    "table1": [counts({}), counts(DETECTION)],
    "table2": filters("scale") + filters("structured"),
    "table3_upper": [dilations({"size": 96}), dilations(DETECTION)],
    "table3_lower": [kinds(DETECTION, POOL), kinds(SENSITIVE, VOTE)],
    "table5": [by_size(DETECTION, POOL), by_size(SENSITIVE, VOTE)],
    "controls": [
        {"plain": {}, "deformable": {"deformable": ABC}, "plain long": {"iterations": 2000},
         "deformable long": {"deformable": ABC, "iterations": 2000}},
        {"plain": {}, "deformable": {"deformable": ABC}, "wider": {"width": 36},
         "active convolution": {"deformable": ABC, "active": True}, "dilation 1": {"dilation": 1}},
        worlds("scale", "structured"), worlds("rigid", "articulated"),
    ],
    "digits": [deformable({"world": "digits", "iterations": 2000}, plain=(), deformable=ABC),
               kinds(DIGITS, POOL)],
}  # fmt: skip


def different(run):
    return {f.name: getattr(run, f.name) for f in fields(run) if getattr(run, f.name) != f.default}


def test_the_defaults():
    expected = {"task": "segmentation", "world": "scale", "size": 64, "deformable": (),
                "dilation": 2, "width": 32, "active": False, "head": "pool", "iterations": 800,
                "batch": 8, "tested": 400, "seed": 0}  # fmt: skip
    assert expected.items() <= asdict(Run()).items()


@pytest.mark.parametrize("name", ROWS)
def test_what_a_row_differs_in(name):
    assert len(TABLES[name].sections) == len(ROWS[name])
    for section, expected in zip(TABLES[name].sections, ROWS[name], strict=True):
        found = {row.label: different(row.run) for row in section.rows}
        assert found == expected


def test_every_table_is_here():
    assert ROWS.keys() == TABLES.keys()


AP = {"AP@0.5": "ap.50", "AP@0.7": "ap.70"}
SIZES = ("small", "medium", "large")
PARTS = (*SIZES, "background")
STRICT = {**AP, "AP@0.8": "ap.80", "mean overlap": "overlap"}
BY_SIZE = {"AP@[.5:.95]": "all", "AP@0.5": "50", **dict(zip(SIZES, SIZES, strict=True))}
STATISTICS = ("mean", "std", "control", "scale", "outside", "rigid")
MIOU = {"mIoU": "miou"}
COLUMNS = {
    "table1": [MIOU, AP],
    "table2": [{p: f"{p}.{what}" for p in PARTS} for what in STATISTICS] * 2,
    "table3_upper": [MIOU | {p: f"right.{p}" for p in PARTS}, AP],
    "table3_lower": [STRICT, STRICT],
    "table5": [BY_SIZE, BY_SIZE],
    "controls": [MIOU] * 4,
    "digits": [MIOU, AP],
}
WITHIN = {
    **{layer: f"dilations.layers.{layer}." for layer in ABC},
    **{f"{kind}, {test}": f"tests.{key}." for kind in ("plain, dilation 1", "plain", "both")
       for test, key in TESTS.items()},
}  # fmt: skip


@pytest.mark.parametrize("name", COLUMNS)
def test_where_a_column_reads(name):
    """A result in which there is one number, at the place that is expected."""
    for section, columns in zip(TABLES[name].sections, COLUMNS[name], strict=True):
        assert columns.keys() == section.columns.keys()
        for row in section.rows:
            for column, path in columns.items():
                tree = 7.0
                for step in reversed((WITHIN.get(row.label, "") + path).split(".")):
                    tree = {step: tree}
                found = layout.value({"measured": tree}, row, section.columns[column])
                assert found == 7.0, (row.label, column)


PAPER = {
    ("table1", 0): {
        "mIoU@V": (69.7, 73.9, 74.8, 75.2, 74.8), "mIoU@C": (70.4, 73.5, 74.4, 75.2, 75.1),
    },
    ("table1", 1): {
        "Faster R-CNN @0.5": (78.1, 78.6, 78.5, 78.6, 78.7),
        "Faster R-CNN @0.7": (62.1, 63.8, 63.3, 63.3, 64.0),
    },
    ("table2", 0): {
        "small": (5.3, 2.5, 2.2), "medium": (5.8, 3.1, 2.9), "large": (8.4, 5.1, 4.2),
        "background": (6.2, 3.2, 3.1),
    },
    ("table3_lower", 0): {
        "Faster R-CNN @0.5": (78.1, 78.6, 78.3, 79.3),
        "Faster R-CNN @0.7": (62.1, 63.3, 66.6, 66.9),
    },
    ("table3_lower", 1): {
        "R-FCN @0.5": (80.0, 81.4, 81.2, 82.6), "R-FCN @0.7": (61.8, 64.7, 65.0, 68.5),
    },
    ("table5", 0): {
        "AP@[.5:.95]": (29.4, 33.1), "AP@0.5": (48.0, 50.3), "small": (9.0, 11.6),
        "medium": (30.5, 34.9), "large": (47.1, 51.2),
    },
    ("table5", 1): {
        "AP@[.5:.95]": (30.8, 34.5), "AP@0.5": (52.6, 55.0), "small": (11.8, 14.0),
        "medium": (33.9, 37.7), "large": (44.8, 50.3),
    },
}  # fmt: skip


def test_the_numbers_of_the_paper():
    """Down the rows that have any; Table 2 once for each world, and its means alone."""
    expected = PAPER | {("table2", 6): PAPER["table2", 0]}
    for name, table in TABLES.items():
        for i, section in enumerate(table.sections):
            printed = [row.paper for row in section.rows if row.paper]
            columns = {key: tuple(row[key] for row in printed) for key in (printed or [{}])[0]}
            assert columns == expected.get((name, i), {})


def test_the_paper_on_atrous_convolution():
    """Table 3, dilations 2, 4, 6, 8, which have no row of their own."""
    for section in TABLES["table3_upper"].sections:
        for numbers in ("69.7, 73.1, 73.6, 73.2", "75.3", "62.1, 63.1, 62.3, 61.8", "63.3"):
            assert numbers in section.printed


@pytest.mark.parametrize("name", TABLES)
def test_each_row_is_run_with_each_seed(name):
    table = TABLES[name]
    rows = {row.run for section in table.sections for row in section.rows}
    every = table.runs(3, False)
    assert len({run.name for run in every}) == len(every) == 3 * len(rows)
    assert set(every) == {replace(run, seed=seed) for run in rows for seed in (0, 1, 2)}


def test_parameters_of_the_controls():
    rows = {row.label: row.run for row in TABLES["controls"].sections[1].rows}
    size = {
        label: sum(map(np.size, layers.parameters(runs.started(run).net).values()))
        for label, run in rows.items()
    }
    assert size["active convolution"] == size["plain"] + 3 * 18
    assert size["plain"] < size["deformable"] <= size["wider"] < 1.05 * size["deformable"]


@pytest.mark.parametrize("task", ["segmentation", "detection"])
def test_a_seed_decides_weights_and_pictures(task):
    a, again, b = (runs.started(Run(task=task, seed=seed, batch=1)) for seed in (1, 1, 2))
    for name, w in layers.parameters(a.net).items():
        if w.any():
            assert (w == layers.parameters(again.net)[name]).all()
            assert not (w == layers.parameters(b.net)[name]).any()
    draw = runs.task_of(Run(task=task)).draw
    pictures = [draw(state.rng, Run(task=task, batch=1))[0] for state in (a, again, b)]
    assert (pictures[0] == pictures[1]).all()
    assert not (pictures[0] == pictures[2]).all()


@pytest.mark.parametrize("head", ["pool", "position-sensitive"])
def test_settings_reach_the_network(head):
    roi = POOL if head == "pool" else VOTE
    run = Run(task="detection", head=head, width=8, dilation=3, deformable=C + roi)
    for made in (runs.started(run), runs.started(Run(width=8, dilation=3, deformable=C))):
        assert made.net.res5a.weight.shape == (8, 8, 3, 3)
        assert (made.net.res4c.dilation, made.net.res5a.dilation) == (1, 3)
        assert hasattr(made.net.res5c, "branch")
        assert not hasattr(made.net.res5b, "branch")


@pytest.mark.parametrize("head", ["pool", "position-sensitive"])
def test_offset_branches_learn_at_a_tenth_of_the_rate(head):
    """All of them, and no others: 0.1 of the rate of the weights."""
    roi = POOL if head == "pool" else VOTE
    state = runs.started(Run(task="detection", head=head, deformable=C + roi))
    names = layers.parameters(state.net)
    branches = {name for name in names if ".branch." in name}
    assert len(branches) == 2 * (1 + len(roi))
    for name in names:
        factor = optimisers.multiplier(name, state.optimiser.multipliers)
        assert factor == (0.1 if name in branches else 1)


def test_the_rate_falls_as_half_a_cosine(tmp_path, monkeypatch):
    """As the optimiser is told it, step by step: 0.002 to 0."""
    told = []

    class Told(runs.Adam):
        def step(self, parameters, gradients, rate):
            told.append(rate)
            super().step(parameters, gradients, rate)

    monkeypatch.setattr(runs, "Adam", Told)
    runs.finish(Run(iterations=4, batch=1, tested=1), tmp_path)
    assert told == pytest.approx([2e-3, 1e-3 + 0.5e-3 * 2**0.5, 1e-3, 1e-3 - 0.5e-3 * 2**0.5])


def test_a_summary_of_three_seeds(tmp_path):
    """Mean, standard deviation, and the time for one picture of a batch of 8: all by hand."""
    measured = runs.finish(Run(iterations=1, batch=1, tested=1), tmp_path)
    section = layout.Section("numbers", (layout.Row("a", Run(), paper={"there": 73.9}),), MIOU)
    results = {
        replace(Run(), seed=seed): measured | {
            "settings": asdict(Run(seed=seed)), "measured": {"miou": miou},
            "seconds_per_step": seconds,
        }
        for seed, (miou, seconds) in enumerate([(0.1, 0.8), (0.2, 0.4), (0.6, 80)])
    }  # fmt: skip
    told = report.summary(layout.Table("t", "T", (section,), ()), results, 3, False)
    ((row,),) = [s["rows"] for s in told["sections"]]
    spread = row["values"]["mIoU"]
    assert (spread["mean"], spread["std"]) == pytest.approx((0.3, (0.14 / 3) ** 0.5))
    assert spread["seeds"] == [0.1, 0.2, 0.6]
    assert row["ms_per_image"] == pytest.approx(100)
    assert "| a | 30.0 ± 21.6 | 73.9 |" in report.text(told)
