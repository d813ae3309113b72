"""How long the networks of Table 4 take, plain and deformable: `count --time`.

Net forward is the network, without gradients. The runtime is all of it: an image is resized, then
come the forward pass and what follows, classes of pixels or boxes and their suppression. Weights
are random, and branches too: their offsets are not zero, as after training. Proposals are given.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from statistics import median
from typing import Any

import numpy as np

from . import boxes, deeplab, rpn, two_stage
from .detector import rois_of
from .device import CPU, Where, placed
from .layers import parameters
from .primitives import upsample
from .tape import Tape

RESIZED = 1.6  # as from VOC's 375 x 500 to a short side of 600
ROIS = 300
Call = Callable[[], object]


def times(
    rows: Sequence[Any], converted: Callable[[Any, Any], Any], size: tuple[int, int], rounds: int,
    where: Where = CPU,
) -> Iterator[str]:  # fmt: skip
    """Lines of a table: medians of `rounds`, plain and deformable in turn.

    rows, converted  those of `count`; a row without the paper's seconds is left out
    size             (H, W) of the image
    where            on a device: Where(cupy.asarray, gpu, cupy.cuda.Device().synchronize)
    """
    yield f"seconds on this machine, image {size[0]} x {size[1]}, median of {rounds}"
    yield f"{'':24}{'net forward':>22}{'runtime':>27}   paper's net forward"
    for row in rows:
        if row.seconds is None:
            continue
        plain = row.make(np.random.default_rng(0))
        calls: dict[str, Call] = {}
        for name, net in (("plain", plain), ("ours", with_offsets(converted(row, plain)))):
            forward, runtime = works(placed(net, where.to), size, where)
            calls |= {f"{name} forward": forward, f"{name} runtime": runtime}
        found = medians(calls, rounds)
        cells = ""
        for what in ("forward", "runtime"):
            a, b = found[f"plain {what}"], found[f"ours {what}"]
            cells += f"  {a:7.3f} -> {b:7.3f} ({b / a - 1:+6.1%})"
        yield f"{row.name:22}{cells}   {row.seconds[1] / row.seconds[0] - 1:+.1%}"


def medians(calls: dict[str, Call], rounds: int) -> dict[str, float]:
    """The median seconds of each call."""
    return {name: median(each) for name, each in timed(calls, rounds).items()}


def timed(calls: dict[str, Call], rounds: int) -> dict[str, list[float]]:
    """The seconds of each call: `rounds` of all in turn.

    Every time a call that is not counted goes before: it gets the memory that another one has left.
    """
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            call()
            start = time.perf_counter()
            call()
            taken[name].append(time.perf_counter() - start)
    return taken


def works(net: Any, size: tuple[int, int], where: Where = CPU) -> tuple[Call, Call]:
    """Net forward and runtime of a network that is there, as functions without arguments."""
    rng = np.random.default_rng(1)
    taken = tuple(max(round(n / RESIZED), 1) for n in size)
    image = where.to(rng.standard_normal((1, 3, *taken), np.float32))
    given = upsample(image, size)
    rest: tuple[Any, ...] = ()
    follows: Any
    if hasattr(net, "head"):
        proposals = [boxes.proposals(rng, np.zeros((0, 4)), size, background=ROIS)]
        rest = (rois_of(proposals, size).astype(np.float32),)
        follows = partial(two_stage.detect, proposals=proposals)
    else:
        follows = rpn.detect if hasattr(net, "rpn") else deeplab.predict

    def forward() -> None:
        net(Tape(ops=where.ops), given, *rest)
        where.wait()

    def runtime() -> None:
        follows(net, upsample(image, size), ops=where.ops)
        where.wait()

    return forward, runtime


def with_offsets(net: Any) -> Any:
    """A network whose branches are not zero: offsets of about a pixel."""
    rng = np.random.default_rng(2)
    for name, a in parameters(net).items():
        if name.endswith("branch.bias"):
            a += rng.standard_normal(a.shape).astype(a.dtype)
    return net
