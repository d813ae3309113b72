"""Table 3 (lower half) and Table 5: deformable RoI pooling, and accuracy by size."""

from dataclasses import replace

from deformable_convnets.reference.networks.segmenter import RES5
from experiments.layer_tables import AP, DENSE, DETECTION, EQUAL, PROPOSALS, SPEED, SYNTHETIC
from experiments.layout import Claim, Gain, Row, Section, Table, increasing
from experiments.runs import Run

ROI = {"pool": ("head.pool",), "position-sensitive": ("head.score", "head.box")}
KINDS = ("plain", "deformable convolution", "deformable RoI pooling", "both")
FINE = "plain, dilation 1"
FASTER = {
    "Faster R-CNN @0.5": (78.1, 78.6, 78.3, 79.3),
    "Faster R-CNN @0.7": (62.1, 63.3, 66.6, 66.9),
}
RFCN = {"R-FCN @0.5": (80.0, 81.4, 81.2, 82.6), "R-FCN @0.7": (61.8, 64.7, 65.0, 68.5)}
STRICT = {"AP@0.8": "ap.80", "mean overlap": "overlap"}


def detectors(head: str, world: str = "scale") -> dict[str, Run]:
    """The four detectors with one head, and a plain one of dilation 1."""
    run = Run(**DETECTION, head=head, world=world)
    layers = ((), RES5, ROI[head], RES5 + ROI[head])
    found = {kind: replace(run, deformable=d) for kind, d in zip(KINDS, layers, strict=True)}
    return {FINE: replace(run, dilation=1), **found}


def _section(head: str, paper: dict[str, tuple[float, ...]]) -> Section:
    rows = tuple(
        Row(kind, run, paper={name: values[KINDS.index(kind)] for name, values in paper.items()}
            if kind in KINDS else {})
        for kind, run in detectors(head).items()
    )  # fmt: skip
    at = {"column": "AP@0.7"}
    claims = (
        Claim("deformable RoI pooling alone is better than plain",
              (increasing(KINDS[0], KINDS[2], **at),)),
        Claim("at the stricter threshold it helps more than deformable convolution alone",
              (increasing(KINDS[1], KINDS[2], **at),)),
        Claim("both together are best",
              tuple(increasing(kind, "both", **at) for kind in KINDS[:3])),
        Claim("each is better than a plain detector of dilation 1",
              tuple(increasing(FINE, kind, **at) for kind in KINDS[1:]), False),
    )  # fmt: skip
    return Section(f"{head} head", rows, AP | STRICT, "%", claims)


table3_lower = Table(
    "table3_lower", "Deformable RoI pooling, alone and together",
    (_section("pool", FASTER), _section("position-sensitive", RFCN)),
    (SYNTHETIC, EQUAL, SPEED, DENSE, PROPOSALS),
)  # fmt: skip

TESTS = {"one scale": "once", "flipped too": "flip", "three scales, flipped": "scales"}
COLUMNS = {
    "AP@[.5:.95]": "all",
    "AP@0.5": "50",
    "small": "small",
    "medium": "medium",
    "large": "large",
}
PRINTED = {  # Table 5, ResNet-101: Faster R-CNN and R-FCN, without and with deformable modules
    ("pool", "plain"): (29.4, 48.0, 9.0, 30.5, 47.1),
    ("pool", "both"): (33.1, 50.3, 11.6, 34.9, 51.2),
    ("position-sensitive", "plain"): (30.8, 52.6, 11.8, 33.9, 44.8),
    ("position-sensitive", "both"): (34.5, 55.0, 14.0, 37.7, 50.3),
}  # fmt: skip


def _by_size(head: str) -> Section:
    rows = tuple(
        Row(f"{kind}, {test}", detectors(head)[kind], f"tests.{key}",
            dict(zip(COLUMNS, PRINTED[head, kind], strict=True))
            if key == "once" and kind != FINE else {})
        for test, key in TESTS.items() for kind in (FINE, "plain", "both")
    )  # fmt: skip
    gains, finer = (
        tuple(
            tuple((f"{kind}, one scale", column) for kind in (plain, "both"))
            for column in ("small", "medium", "large")
        )
        for plain in ("plain", FINE)
    )
    tests = tuple(
        increasing(f"{kind}, one scale", f"{kind}, three scales, flipped", column="AP@[.5:.95]")
        for kind in ("plain", "both")
    )
    claims = (
        Claim("deformable modules help on objects of every size", gains),
        Claim(
            "they help least on small objects",
            tuple((Gain(*gains[0]), Gain(*gains[i])) for i in (1, 2)),
        ),
        Claim(
            "over a plain detector of dilation 1 they help least on small objects",
            tuple((Gain(*finer[0]), Gain(*finer[i])) for i in (1, 2)),
            False,
        ),
        Claim("testing at several scales helps with and without them", tests),
    )
    return Section(f"{head} head", rows, COLUMNS, "%", claims)


table5 = Table(
    "table5", "Average precision by size, flipped and at several scales",
    (_by_size("pool"), _by_size("position-sensitive")),
    (SYNTHETIC, EQUAL, SPEED, DENSE, PROPOSALS, "AP as COCO defines it, on ScaleWorld. Sizes are"
     " areas of boxes, cut where those of disks of r = 7.3 and 13.2 are: a triangle of that r has a"
     " larger box."),
)  # fmt: skip
