"""Tables 1, 2 and 3 (upper half): deformable layers, and atrous ones."""

from dataclasses import replace

from deformable_convnets.reference.networks.segmenter import BLOCKS, RES5
from experiments.layout import Claim, Gain, Row, Section, Table, increasing
from experiments.runs import Run

SYNTHETIC = (
    "Synthetic pictures, small networks, 400 test pictures that all runs share: ± is of training."
)
EQUAL = "All rows have equally many iterations."
SPEED = "A part of each gap may be speed of learning: only two rows of `controls` train longer."
DENSE = (
    "Plain networks have dilation 2 in res5, as the paper's; `table3_upper` finds dilation 1 better"
    " for the detector, so that is a row of its own."
)
PROPOSALS = "Proposals are jittered ground truth and random boxes; there is no RPN."
LAYERS = {"0": (), "1": BLOCKS[-1:], "2": BLOCKS[-2:], "3": RES5, "6": BLOCKS}
AP = {"AP@0.5": "ap.50", "AP@0.7": "ap.70"}
DETECTION = {"task": "detection", "iterations": 600}


def _layers(task: Run, column: str, paper: dict[str, dict[str, float]]) -> dict:
    rows = [
        Row(n, replace(task, deformable=layers), paper={k: v[n] for k, v in paper.items()})
        for n, layers in LAYERS.items()
    ]
    dense = Row("0, dilation 1", replace(task, dilation=1))
    first, rest = (Gain((a, column), (b, column)) for a, b in (("0", "3"), ("3", "6")))
    return {"rows": (dense, *rows), "claims": (
        Claim("accuracy improves steadily with the first three deformable layers",
              (increasing("0", "1", "2", "3", column=column),)),
        Claim("three more layers add less than the first three", ((rest, first),)),
        Claim("three deformable layers are better than none, of dilation 1 too",
              tuple(increasing(plain, "3", column=column) for plain in ("0", dense.label)), False),
    )}  # fmt: skip


def _by_layers(*values: float) -> dict[str, float]:
    return dict(zip(LAYERS, values, strict=True))


FALLS = "The paper's own Faster R-CNN @0.7 falls from one layer to two, 63.8 to 63.3."
table1 = Table(
    "table1", "How many deformable layers",
    (
        Section("segmentation", columns={"mIoU": "miou"}, **_layers(Run(), "mIoU", {
            "mIoU@V": _by_layers(69.7, 73.9, 74.8, 75.2, 74.8),
            "mIoU@C": _by_layers(70.4, 73.5, 74.4, 75.2, 75.1),
        })),
        Section("detection", columns=AP, printed=FALLS, **_layers(Run(**DETECTION), "AP@0.7", {
            "Faster R-CNN @0.5": _by_layers(78.1, 78.6, 78.5, 78.6, 78.7),
            "Faster R-CNN @0.7": _by_layers(62.1, 63.8, 63.3, 63.3, 64.0),
        })),
    ),
    (SYNTHETIC, EQUAL, SPEED, DENSE, PROPOSALS),
)  # fmt: skip

PLACES = ("small", "medium", "large", "background")
PRINTED = {  # Table 2
    "res5c": (5.3, 5.8, 8.4, 6.2), "res5b": (2.5, 3.1, 5.1, 3.2), "res5a": (2.2, 2.9, 4.2, 3.1),
}  # fmt: skip


def _dilations(world: str, what: str, unit: str = "cells") -> Section:
    run, columns = Run(world=world, deformable=RES5), {p: f"{p}.{what}" for p in PLACES}
    ours = what == "mean"
    rows = tuple(
        Row(layer, run, f"dilations.layers.{layer}",
            dict(zip(PLACES, PRINTED[layer], strict=True)) if ours else {})
        for layer in PRINTED
    )  # fmt: skip
    sizes = tuple(tuple((layer, p) for p in PLACES[:3]) for layer in PRINTED)
    between = tuple(
        ((layer, "medium"), (layer, "background"), (layer, "large")) for layer in PRINTED
    )
    deeper = tuple(tuple((layer, p) for layer in ("res5a", "res5b", "res5c")) for p in PLACES)
    claims = (
        Claim("effective dilation grows with the object's size, in every layer", sizes),
        Claim("it grows with depth, everywhere", deeper),
        Claim("that of the background is between those of medium and large objects", between),
    )
    name = {
        "mean": "effective dilation",
        "std": "its standard deviation over filters",
        "control": "random control: displacements as long, turned at random",
        "scale": "scale of the grid that fits best",
        "outside": "samples outside the map",
        "rigid": "samples outside the map without offsets",
    }[what]
    return Section(f"{world} world: {name}", rows, columns, unit, claims if ours else ())


table2 = Table(
    "table2", "Effective dilation by where the filter's centre lies",
    tuple(
        _dilations(world, what, "%" if what in ("outside", "rigid") else "cells")
        for world in ("scale", "structured")
        for what in ("mean", "std", "control", "scale", "outside", "rigid")
    ),
    (SYNTHETIC, "The map has 16 x 16 cells of 4 pixels, and offsets start from dilation 2.",
     "Effective dilation mixes scale and disorder: read it beside its control and the scale."),
)  # fmt: skip

DILATIONS = (1, 2, 3, 4)
SIZES = {p: f"right.{p}" for p in PLACES}


ATROUS = (
    "The paper, map of stride 16, dilations 2, 4, 6, 8 | deformable: mIoU@V 69.7, 73.1, 73.6, 73.2"
    " | 75.3 (Table 1 has 75.2 for the same network); Faster R-CNN @0.7 62.1, 63.1, 62.3, 61.8 |"
    " 63.3, so for that detector dilation 8 is worse than 2."
)


def _sweep(run: Run, columns: dict[str, str], main: str) -> Section:
    rows = [Row(f"dilation {d}", replace(run, dilation=d)) for d in DILATIONS]
    fixed = [row.label for row in rows]
    rows.append(Row("deformable", replace(run, deformable=RES5)))
    claims = (
        Claim("deformable convolution is better than every fixed dilation",
              tuple(increasing(d, "deformable", column=main) for d in fixed)),
        Claim("a larger fixed dilation is better than the default, 2",
              (increasing("dilation 2", "dilation 3", column=main),)),
        Claim("the best fixed dilation is neither the smallest nor the largest",
              (increasing("dilation 1", "dilation 2", column=main),
               increasing("dilation 4", "dilation 2", column=main))),
    )  # fmt: skip
    if SIZES.items() <= columns.items():
        claims += (Claim("small objects want dilation 1, large ones a larger one", (
            increasing("dilation 2", "dilation 1", column="small"),
            increasing("dilation 1", "dilation 2", column="large")), False),)  # fmt: skip
    return Section(f"{run.task}, {run.size} pixels", tuple(rows), columns, "%", claims, ATROUS)


table3_upper = Table(
    "table3_upper", "Deformable against atrous convolution",
    (
        _sweep(Run(size=96), {"mIoU": "miou"} | SIZES, "mIoU"),
        _sweep(Run(**DETECTION), AP, "AP@0.7"),
    ),
    (SYNTHETIC, EQUAL, SPEED, PROPOSALS, "The map has 24 x 24 cells of 4 pixels, the detector's"
     " 16 x 16: dilations of 6 and more would leave them."),
)  # fmt: skip
