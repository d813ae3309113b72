"""What the paper's tables do not ask: is it training time, capacity, or the kind of object?"""

from dataclasses import replace

from deformable_convnets.reference.networks.segmenter import RES5
from experiments.layer_tables import AP, PROPOSALS, SPEED, SYNTHETIC
from experiments.layout import Claim, Gain, Row, Section, Table, increasing
from experiments.roi_tables import detectors
from experiments.runs import Run

LONG = 2000  # steps: a little more than the time in which a deformable network makes 800
MIOU = {"mIoU": "miou"}
PLAIN, DEFORMABLE = Run(), Run(deformable=RES5)


def _rows(**runs: Run) -> tuple[Row, ...]:
    return tuple(Row(label.replace("_", " "), run) for label, run in runs.items())


def _better(than: str, row: str, says: str) -> Claim:
    return Claim(says, (increasing(than, row, column="mIoU"),), printed=False)


_training = Section(
    "training length",
    _rows(
        plain=PLAIN, deformable=DEFORMABLE, plain_long=replace(PLAIN, iterations=LONG),
        deformable_long=replace(DEFORMABLE, iterations=LONG),
    ),
    MIOU, claims=(
        _better("plain", "deformable", "equal iterations: deformable is better"),
        _better("plain long", "deformable",
                "plain in somewhat more time, 2.5 times the steps: deformable is better"),
        _better("plain long", "deformable long", "a long run of both: deformable is better"),
    ),
)  # fmt: skip
_freedom = Section(
    "capacity and freedom",
    _rows(
        plain=PLAIN, active_convolution=replace(DEFORMABLE, active=True),
        wider=replace(PLAIN, width=36), dilation_1=replace(PLAIN, dilation=1),
        deformable=DEFORMABLE,
    ),
    MIOU, claims=(
        _better("active convolution", "deformable",
                "offsets that depend on the picture are what helps, not free places alone"),
        _better("wider", "deformable", "it is not the number of parameters alone"),
        _better("dilation 1", "deformable", "it is not the dilation that offsets start from"),
    ),
)  # fmt: skip


def _worlds(a: str, b: str, title: str, printed: bool) -> Section:
    rows = tuple(
        Row(f"{world}, {label}", replace(run, world=world))
        for world in (a, b) for label, run in (("plain", PLAIN), ("deformable", DEFORMABLE))
    )  # fmt: skip
    chains = [increasing(f"{w}, plain", f"{w}, deformable", column="mIoU") for w in (a, b)]
    gains = tuple(Gain(*chain) for chain in chains)
    claims = (
        Claim("deformable convolution helps in both", tuple(chains), False),
        Claim(f"its gain is larger with {b} than with {a}", (gains,), printed),
    )
    return Section(title, rows, MIOU, claims=claims)


controls = Table(
    "controls", "Controls: time, capacity, and what the pictures are of",
    (
        _training, _freedom,
        _worlds("scale", "structured", "flat against structured background", False),
        _worlds("rigid", "articulated", "rigid against articulated figures", True),
    ),
    (SYNTHETIC, "Rows that are not long have 800 iterations, long ones 2000.",
     "The paper expects the largest gain on non-rigid objects: the gains of the last four rows.",
     "Active convolution has the same branch with a weight of zero: one offset a tap everywhere."),
)  # fmt: skip

_written = [replace(run, world="digits", iterations=LONG) for run in (PLAIN, DEFORMABLE)]
_read = {k: replace(r, iterations=1200) for k, r in detectors("pool", "digits").items()}
digits = Table(
    "digits", "Real images: handwritten digits",
    (
        Section("segmentation", _rows(plain=_written[0], deformable=_written[1]), MIOU,
                claims=(_better("plain", "deformable", "deformable is better"),)),
        Section("detection", tuple(Row(k, r) for k, r in _read.items()), AP, claims=(
            Claim("both together are best",
                  tuple(increasing(k, "both", column="AP@0.7") for k in _read if k != "both")),
        )),
    ),
    ("1,797 scanned digits of 8 x 8 pixels (Alpaydin and Kaynak 1998, in scikit-learn), pasted in"
     " several sizes; test digits are not among those of training.",
     "Eleven classes of strokes take longer to learn than four of shapes: more steps.", SPEED,
     PROPOSALS),
)  # fmt: skip
