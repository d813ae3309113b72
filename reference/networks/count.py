"""Parameters and multiply-adds of Tables 4, 6 and 7, from the networks as built.

    python -m deformable_convnets.reference.networks.count
    python -m deformable_convnets.reference.networks.count --time --size 600 1000

Each number is beside the paper's, with what does not match, and what nothing explains. Nothing is
computed and no weight takes memory (`counting`), but with --time, which runs the networks of Table
4, plain and deformable (`runtime`): some minutes on two cores, as a pass at 600 x 1000 takes
about 2 seconds. Smaller images take less, and have other ratios.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from . import deeplab, faster_rcnn, rfcn, rpn
from .aligned_inception import aligned_inception
from .counting import Counted, Shapes, counted, parameters, shaped
from .device import CPU, Where
from .layers import arrays, deformable
from .resnet import STAGES, Trunk, last, trunk

ROIS = 300  # of an image, at test time (Ren et al. 2015)
SIZE = (600, 1000)
SHAPES: Any = Shapes()
HOW = ("with fc", "without fc", "with fc, without norms")


class Row(NamedTuple):
    """A network of Table 4: how it is built, its RoI layers, and the paper's millions of plain and
    deformable parameters, and seconds of net forward (from memory, not verified again)."""

    name: str
    make: Callable[[Any], Any]
    roi_layers: Sequence[str]
    paper: tuple[float, float]
    seconds: tuple[float, float] | None = None


class Numbers(NamedTuple):
    """Parameters: of the plain network, with 3 deformable layers, and with 4 offset groups."""

    plain: int
    ours: int
    four_groups: int


ROWS = (
    Row("DeepLab, 21 classes", lambda rng: deeplab.deeplab(rng, trunk(rng)), (), (46.0, 46.1),
        (0.084, 0.088)),
    Row("DeepLab, 19 classes", lambda rng: deeplab.deeplab(rng, trunk(rng), 19), (), (46.0, 46.1),
        (0.610, 0.656)),
    Row("category-aware RPN", lambda rng: rpn.category_aware_rpn(rng, trunk(rng)), (),
        (46.0, 46.1), (0.142, 0.152)),
    Row("Faster R-CNN", lambda rng: faster_rcnn.faster_rcnn(rng, trunk(rng, top=256)),
        faster_rcnn.ROI_LAYERS, (58.3, 59.9), (0.147, 0.192)),
    Row("Faster R-CNN, 1 box",
        lambda rng: faster_rcnn.faster_rcnn(rng, trunk(rng, top=256), agnostic=True),
        faster_rcnn.ROI_LAYERS, (58.3, 59.9)),
    Row("R-FCN, no boxes", lambda rng: rfcn.rfcn(rng, trunk(rng), box_sets=0),
        rfcn.ROI_LAYERS[:1], (47.1, 49.5)),
    Row("R-FCN, as released", lambda rng: rfcn.rfcn(rng, trunk(rng)), rfcn.ROI_LAYERS,
        (47.1, 49.5), (0.143, 0.169)),
)  # fmt: skip


def converted(row: Row, net: Any, offset_groups: int = 1) -> Any:
    """A network of Table 4 with its RoI layers and res5a, b and c deformable."""
    return deformable(net, [*last(net, 3), *row.roi_layers], offset_groups=offset_groups)


@cache
def table4() -> dict[str, Numbers]:
    """The parameters of each row, by its name."""
    found = {}
    for row in ROWS:
        net = row.make(SHAPES)
        found[row.name] = Numbers(
            parameters(net), *(parameters(converted(row, net, groups)) for groups in (1, 4))
        )
    return found


def multiply_adds(row: Row, size: tuple[int, int] = SIZE) -> Counted:
    """Those of the deformable network; those of the plain one are its `plain`."""
    net = converted(row, row.make(SHAPES))
    rois = np.zeros((ROIS, 5), np.float32)
    rois[:, 3:] = 16
    two_stages = [rois] if hasattr(net, "head") else []
    return counted(net, shaped((1, 3, *size)), *two_stages)


def classifiers() -> dict[str, Trunk]:
    """The networks of Table 7, but Inception-ResNet-v2."""
    options: dict[str, Any] = {"top": None, "classes": 1000, "stride": 32}
    return {
        "ResNet-101": trunk(SHAPES, **options),
        "Aligned-Inception-ResNet": aligned_inception(SHAPES, **options),
    }


def weights(net: Trunk) -> dict[str, int]:
    """Parameters without norms, by the row of Table 6: conv1 to conv5, and the classifier."""
    parts = {name: getattr(net, name) for name in ("conv1", *STAGES, "fc")}
    return {name: parameters(part) - of_norms(part) for name, part in parts.items()}


def of_norms(net: Any) -> int:
    """How many of the parameters are scales and shifts."""
    named = arrays(net).items()
    return sum(a.size for name, a in named if name.split(".")[-1] in ("scale", "shift"))


def _fits(number: int, printed: float) -> bool:
    """Whether a number is printed so, in millions with one decimal."""
    return abs(number / 1e6 - printed) <= 0.05


def _adds_up(number: int, printed: tuple[float, float]) -> bool:
    """Whether a difference can be that of two printed numbers, each rounded."""
    return abs(number / 1e6 - (printed[1] - printed[0])) <= 0.1 + 1e-9


def unexplained() -> list[str]:
    """What of Table 4 no count of ours gives, and what its differences do give."""
    found, by_name = table4(), {row.name: row for row in ROWS}
    short = [row.paper[0] - found[row.name].plain / 1e6 for row in ROWS]
    told = [
        f"plain: every row of the paper is {min(short):.2f} to {max(short):.2f} M above ours; so is"
        " ResNet-101 in Table 7. The norms' statistics are 0.11 M, the fc is 2.05 M: neither is it."
    ]
    for row in ROWS:
        plain, ours, four = found[row.name]
        verdicts = [_adds_up(n - plain, row.paper) for n in (ours, four)]
        if not any(verdicts):
            printed = row.paper[1] - row.paper[0]
            told.append(
                f"{row.name}: the paper adds {printed:.1f}, from two rounded numbers, so"
                f" {max(printed - 0.1, 0):.1f} to {printed + 0.1:.1f} M; ours adds"
                f" {(ours - plain) / 1e6:.3f} M, with 4 offset groups {(four - plain) / 1e6:.3f} M."
            )
    for name in ("category-aware RPN", "Faster R-CNN", "Faster R-CNN, 1 box", "R-FCN, no boxes"):
        printed = by_name[name].paper[0] - 46.0
        number = found[name].plain - found["DeepLab, 21 classes"].plain
        verdict = "fits" if _adds_up(number, (46.0, by_name[name].paper[0])) else "does not fit"
        told.append(
            f"{name} less DeepLab, plain: the paper {printed:.1f}, ours {number / 1e6:.3f} M, which"
            f" {verdict}."
        )
    return told


def lines(size: tuple[int, int] = SIZE) -> Iterator[str]:
    """What is printed."""
    yield "Table 4: parameters, with res5a-c and RoI layers deformable"
    yield f"{'':24}{'plain':>12}{'1 group':>12}{'adds':>11}{'4 groups':>12}   paper"
    for row in ROWS:
        plain, ours, four = table4()[row.name]
        fits = [
            *(_fits(n, p) for n, p in zip((plain, ours), row.paper, strict=True)),
            _adds_up(ours - plain, row.paper),
        ]
        marks = " ".join("yes" if each else "no" for each in fits)
        yield (
            f"{row.name:24}{plain:12,}{ours:12,}{ours - plain:+11,}{four:12,}"
            f"   {row.paper[0]} M, {row.paper[1]} M; match: {marks}"
        )
    yield "match: of plain, of deformable, of what it adds (to 0.1 M)\n"
    yield "What does not match"
    yield from (f"- {told}" for told in unexplained())
    yield f"\nMultiply-adds in G, of an image of {size[0]} x {size[1]}, {ROIS} RoIs"
    yield f"{'':24}{'plain':>9}{'branches':>19}{'bilinear':>19}   paper's net forward"
    alone = counted(trunk(SHAPES, top=None), shaped((1, 3, *size)), of="stages").plain
    yield f"{'ResNet-101, res5':24}{alone / 1e9:9.1f}"
    for row in ROWS:
        yield _of_work(row, multiply_adds(row, size))
    yield "The seconds of Table 4 are from memory, not verified again; 19 classes: a larger image."
    yield ""
    yield from _tables_6_and_7()


def _of_work(row: Row, found: Counted) -> str:
    plain, parts = found.plain, (found.branches, sum(found.bilinear.values()))
    shares = "".join(f"{n / 1e9:9.3f} ({n / plain:6.2%})" for n in parts)
    seconds = f"   {row.seconds[1] / row.seconds[0] - 1:+.1%}" if row.seconds else ""
    return f"{row.name:24}{plain / 1e9:9.1f}  {shares}{seconds}"


def _tables_6_and_7() -> Iterator[str]:
    image = shaped((1, 3, 224, 224))
    made = classifiers()
    yield "Table 6: weights of convolutions and fc of Aligned-Inception-ResNet"
    of_aligned = weights(made["Aligned-Inception-ResNet"])
    for name, number in of_aligned.items():
        yield f"{name.replace('res', 'conv'):24}{number:12,}"
    total, normed = sum(of_aligned.values()), parameters(made["Aligned-Inception-ResNet"])
    verdict = "matches" if _fits(total, 64.3) else "does not match"
    yield f"{'sum':24}{total:12,}   paper 64.3 M: {verdict}. With norms {normed:,}\n"
    yield "Table 7: parameters with fc, without it, with it but without norms; multiply-adds at 224"
    for name, printed in (("ResNet-101", 46.0), ("Aligned-Inception-ResNet", 64.3)):
        net = made[name]
        whole, fc = parameters(net), parameters(net.fc)
        options = (whole, whole - fc, whole - of_norms(net))
        fits = [how for n, how in zip(options, HOW, strict=True) if _fits(n, printed)]
        verdict = f"it is {fits[0]}" if fits else "none of them"
        work = counted(net, image, of="classify").plain / 1e9
        numbers = "".join(f"{n:12,}" for n in options)
        yield f"{name:25}{numbers}{work:7.2f} G   paper {printed} M: {verdict}"
    yield (
        "Inception-ResNet-v2 is not built here. The paper's 54.3 M is its known 55.84 M less the fc"
        " of 1.54 M;\n64.3 M is with the fc, 46.0 M neither: the column is not one convention."
    )


def main(arguments: Sequence[str] | None = None, where: Where = CPU) -> None:
    """Print the tables, or times of that place."""
    parser = argparse.ArgumentParser(prog="python -m deformable_convnets.reference.networks.count")
    parser.add_argument("--size", type=int, nargs=2, default=SIZE, metavar=("H", "W"),
                        help="of the image: 600 1000")  # fmt: skip
    parser.add_argument("--time", action="store_true",
                        help="run them: seconds, on this machine; some minutes at 600 1000,"
                        " and small images have other ratios")  # fmt: skip
    parser.add_argument("--rounds", type=int, default=3, help="how often each is timed")
    given = parser.parse_args(arguments)
    if min(given.size) < 16 or given.rounds < 1:
        parser.error("an image is at least 16 x 16, and --rounds at least 1")
    if given.time:
        from .runtime import times

        for line in times(ROWS, converted, tuple(given.size), given.rounds, where):
            print(line, flush=True)
        return
    for line in lines(tuple(given.size)):
        print(line)


if __name__ == "__main__":
    try:
        main()
        sys.stdout.flush()
    except BrokenPipeError:  # count | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
