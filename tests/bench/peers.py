"""Other libraries that compute equation (2), and the calls on which all must agree.

Each runs in a child process, by the oracle's adapters. Nothing here judges: `test_peers.py` and
`cpu.py` do.
"""

import sys
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy import ndarray as Array

from deformable_convnets import reference
from deformable_convnets.reference.oracle import peers
from deformable_convnets.reference.oracle.child import Child

from .agreement import error

ROOT = Path(__file__).parents[2]
GRADIENTS = ("x", "offset", "weight", "bias", "mask")


class Case(NamedTuple):
    """One call of `deform_conv2d`, and the gradient that its output receives."""

    x: Array
    offset: Array
    weight: Array
    bias: Array | None
    mask: Array | None
    stride: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]
    dilation: tuple[int, int]
    grad_output: Array

    @property
    def arguments(self) -> dict[str, Any]:
        return {name: a for name, a in self._asdict().items() if name != "grad_output"}

    @property
    def backward_arguments(self) -> dict[str, Any]:
        return self._asdict()

    def ours(self) -> Array:
        return reference.deform_conv2d(**self.arguments)

    def our_gradients(self) -> Any:
        return reference.deform_conv2d_backward(**self.backward_arguments)


def random_case(seed: int, *, symmetric: bool = False) -> Case:
    """A small float64 call; the seed runs through zero, whole, near and far offsets.

    symmetric  the same padding before and after, as torchvision has it
    """
    rng = np.random.default_rng(seed)
    kernel, stride, dilation = ((3, 2), (2, 3), (1, 4), (1, 1), (3, 3))[seed % 5], (1, 2), (1, 1)
    if seed % 3:
        stride, dilation = (int(rng.integers(1, 4)), 1), (int(rng.integers(1, 3)), 2)
    N, groups, G = (int(n) for n in rng.integers(1, 4, 3))
    C, O = groups * G * int(rng.integers(1, 3)), groups * int(rng.integers(1, 3))
    sides = rng.integers(0, 3, (2, 2))
    if symmetric:
        sides[:, 1] = sides[:, 0]
    output, K = rng.integers(1, 6, 2), kernel[0] * kernel[1]
    size, Ho_Wo = [], []
    for n, k, s, d, (before, after) in zip(output, kernel, stride, dilation, sides, strict=True):
        size.append(max(1, int((n - 1) * s + d * (k - 1) + 1 - before - after)))
        Ho_Wo.append((size[-1] + int(before + after) - d * (k - 1) - 1) // s + 1)
    offset = (0.0, 0.3, 2.0, 20.0)[seed % 4] * rng.standard_normal((N, 2 * G * K, *Ho_Wo))
    if seed % 7 == 0:
        offset = np.round(offset)
    return Case(
        x=rng.standard_normal((N, C, *size)),
        offset=offset,
        weight=rng.standard_normal((O, C // groups, *kernel)),
        bias=rng.standard_normal(O) if rng.integers(2) else None,
        mask=rng.uniform(0, 1, (N, G * K, *Ho_Wo)) if rng.integers(2) else None,
        stride=stride,
        padding=tuple((int(a), int(b)) for a, b in sides),
        dilation=dilation,
        grad_output=rng.standard_normal((N, O, *Ho_Wo)),
    )


def available(name: str) -> bool:
    """Whether a peer with an environment of its own has it: `make test-peers`, or NAME_PYTHON."""
    return peers.python_of(name, ROOT) != Path(sys.executable)


def child(name: str, python: str | Path | None = None, threads: int = 1) -> Child:
    """The process of a peer, for a `with` statement, under the Python of this checkout's."""
    return peers.child(name, python=python or peers.python_of(name, ROOT), threads=threads)


class Peer(Protocol):
    """As much of a `Child` as is compared."""

    operators: list[str]

    def call(self, operator: str, arguments: dict[str, Any]) -> Any: ...


def errors(cases: list[Case], peer: Peer) -> dict[str, float]:
    """The largest error of the forward pass and of each gradient, ours against the peer's."""
    backward = "deform_conv2d_backward" in peer.operators
    worst = dict.fromkeys(("y", *GRADIENTS) if backward else ("y",), 0.0)
    for case in cases:
        ours = {"y": case.ours(), **case.our_gradients()._asdict()}
        theirs = {"y": peer.call("deform_conv2d", case.arguments)}
        if backward:
            theirs |= peer.call("deform_conv2d_backward", case.backward_arguments)
        for name in worst:
            worst[name] = max(worst[name], error(ours[name], theirs.get(name)))
    return worst


FEATURES = {
    "zero offsets": lambda c: not c.offset.any(),
    "whole offsets": lambda c: c.offset.any() and (c.offset == np.round(c.offset)).all(),
    "groups": lambda c: c.x.shape[1] > c.weight.shape[1],
    "offset groups": lambda c: c.offset.shape[1] > 2 * c.weight[0, 0].size,
    "bias": lambda c: c.bias is not None,
    "mask": lambda c: c.mask is not None,
    "stride": lambda c: max(c.stride) > 1,
    "dilation": lambda c: max(c.dilation) > 1,
    "padding": lambda c: max(map(max, c.padding)) > 0,
    "unequal padding": lambda c: any(before != after for before, after in c.padding),
}
