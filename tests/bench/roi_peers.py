"""RoI pooling of three other libraries against ours. Nothing here judges.

    MXNet         the authors' operator, DeformablePSROIPooling, with gradients     bins="mxnet"
    OpenVINO      the same operator, forward only                                   bins="mxnet"
    torchvision   roi_align (aligned=True) and ps_roi_align, with the x gradient    bins="align"

MXNet and OpenVINO are given float32, torchvision float64. PSROIPooling, of either, lays points by a
rule that is none of ours.
"""

from typing import Any

import numpy as np
from numpy import ndarray as Array

from .agreement import error
from .peers import Peer
from .roi_cases import RoiCase


def errors(cases: list[RoiCase], peer: Peer, dtype: str = "float64") -> dict[str, float]:
    """The largest error of the forward pass and of each gradient that the peer has."""
    worst: dict[str, float] = {}
    for case in cases:
        ours = {"y": case.ours(), **case.our_gradients()._asdict()}
        for name, theirs in answers(case, peer, dtype).items():
            worst[name] = max(worst.get(name, 0.0), error(ours[name], theirs))
    return worst


def answers(case: RoiCase, peer: Peer, dtype: str) -> dict[str, Array]:
    """ "y", and the gradients by the name of their argument; not what the library lacks."""
    operator, given = called(case, peer)
    given = {n: a.astype(dtype) if isinstance(a, np.ndarray) else a for n, a in given.items()}
    forward = {name: a for name, a in given.items() if name != "grad_output"}
    found = {"y": peer.call(operator, forward)}
    if f"{operator}_backward" in peer.operators:
        found |= peer.call(f"{operator}_backward", given)
    return found


def called(case: RoiCase, peer: Peer) -> tuple[str, dict[str, Any]]:
    """The operator of the peer for this case, and its arguments with "grad_output"."""
    given = {**case._asdict(), **case.options}
    del given["options"]
    if "deform_ps_roi_pool" in peer.operators:
        return "deform_ps_roi_pool", given
    for name in ("offset", "gamma", "part_size"):
        given.pop(name, None)
    if case.options["group_size"] not in (1, (1, 1)):
        return "ps_roi_pool", given
    del given["group_size"]
    return "roi_pool", given
