"""Layers: arrays and the operators they belong to. Called with a tape and x, they return y.

A network is a dataclass of layers, of lists of them, and of networks; `parameters` names its arrays
by their path: "res5c.branch.weight". Optimisers change these arrays in place.
"""

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy import ndarray as Array

from .. import checks
from ..bilinear import Border
from ..geometry import Pair, pair
from .door import described, namespace
from .tape import Tape


@dataclass(eq=False)
class Conv2d:
    """Equation (1): weight O C/groups kh kw, bias O or None."""

    weight: Array
    bias: Array | None = None
    stride: int | Pair = 1
    padding: int | Pair = 0
    dilation: int | Pair = 1
    groups: int = 1

    def __call__(self, tape: Tape, x: Array) -> Array:
        return tape.conv2d(self.fitting(x), self.weight, self.bias, **self.settings())

    def settings(self) -> dict[str, Any]:
        """The keywords of its operator."""
        return {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}

    def fitting(self, x: Array) -> Array:
        """x, if it has the channels of this layer; the operator would take others for groups."""
        C = self.groups * self.weight.shape[1]
        if x.ndim == 4 and x.shape[1] != C:
            checks.Call(x=described(x), weight=described(self.weight)).fail(
                f"x has {x.shape[1]} channels, expected groups * weight.shape[1] = {C}"
            )
        return x

    def deformed(self, offset_groups: int, like: Array) -> "DeformConv2d":
        """Figure 2, with a branch of zeros, which has no groups, where the weights are."""
        weight, channels = self.weight, self.groups * self.weight.shape[1]
        C, G = checks.check_branch(described(weight), channels, offset_groups)
        kh, kw = weight.shape[2:]
        zeros, maps = partial(namespace(weight).zeros, dtype=weight.dtype), 2 * G * kh * kw
        branch = Conv2d(zeros((maps, C, kh, kw)), zeros(maps), **self.settings())
        return DeformConv2d(**vars(self), branch=branch)


@dataclass(eq=False)
class DeformConv2d(Conv2d):
    """Figure 2: equation (2), with the offsets that `branch`, a convolution of x, predicts."""

    branch: Any = None
    border: Border = "zero"

    def __call__(self, tape: Tape, x: Array) -> Array:
        offset = self.branch(tape, self.fitting(x))
        options = self.settings() | {"border": self.border}
        return tape.deform_conv2d(x, offset, self.weight, self.bias, **options)


@dataclass(eq=False)
class BatchNorm:
    """`batch_norm` over N, H and W. Training, it also keeps running statistics for later.

    frozen  uses the running statistics, and neither they nor scale and shift are trained
    """

    scale: Array
    shift: Array
    mean: Array = field(metadata={"fixed": True})
    variance: Array = field(metadata={"fixed": True})
    frozen: bool = False
    momentum: float = 0.1
    epsilon: float = 1e-5

    def __call__(self, tape: Tape, x: Array) -> Array:
        trained = tape.recording and not self.frozen
        statistics = (None, None) if trained else (self.mean, self.variance)
        if trained:
            self._remember(x)
        return tape.batch_norm(x, self.scale, self.shift, *statistics, epsilon=self.epsilon)

    def _remember(self, x: Array) -> None:
        """A running mean, and a running variance without bias, as of PyTorch and Caffe."""
        if x.size == 0:
            return
        count, axes, share = x.size // x.shape[1], (0, 2, 3), x.dtype.type(self.momentum)
        unbiased = x.var(axis=axes) * x.dtype.type(count / max(count - 1, 1))
        self.mean += share * (x.mean(axis=axes) - self.mean)
        self.variance += share * (unbiased - self.variance)


@dataclass(eq=False)
class Linear:
    """A fully connected layer: weight O F, bias O or None."""

    weight: Array
    bias: Array | None = None

    def __call__(self, tape: Tape, x: Array) -> Array:
        return tape.linear(x, self.weight, self.bias)


def conv(
    rng: np.random.Generator, C: int, O: int, kernel_size: int | Pair = 3, *, bias: bool = True,
    dtype: Any = np.float32, **options: Any,
) -> Conv2d:  # fmt: skip
    """A convolution with normal weights of variance 2 / (C kh kw) (He et al. 2015), bias 0."""
    kernel = pair("kernel_size", kernel_size, at_least=1)
    deviation = np.sqrt(2 / (C * kernel[0] * kernel[1]))
    weight = (deviation * rng.standard_normal((O, C, *kernel))).astype(dtype)
    return Conv2d(weight, np.zeros(O, dtype) if bias else None, **options)


def linear(rng: np.random.Generator, F: int, O: int, *, dtype: Any = np.float32) -> Linear:
    """A fully connected layer with normal weights of variance 2 / F, and bias 0."""
    return Linear((np.sqrt(2 / F) * rng.standard_normal((O, F))).astype(dtype), np.zeros(O, dtype))


def parameters(net: Any) -> dict[str, Array]:
    """The arrays that are trained, by name, in the order of the network; a shared one once."""
    return _once((name, a) for name, a, fixed in _arrays(net) if not fixed)


def arrays(net: Any) -> dict[str, Array]:
    """All arrays of a network: its parameters, and what it keeps beside them."""
    return _once((name, a) for name, a, _ in _arrays(net))


def _once(named: Iterable[tuple[str, Array]]) -> dict[str, Array]:
    seen: dict[int, tuple[str, Array]] = {}
    for name, a in named:
        seen.setdefault(id(a), (name, a))
    return dict(seen.values())


def _arrays(part: Any, name: str = "", fixed: bool = False) -> Iterator[tuple[str, Array, bool]]:
    if hasattr(part, "shape") and hasattr(part, "dtype"):
        yield name, part, fixed
    elif isinstance(part, list | tuple):
        for i, each in enumerate(part):
            yield from _arrays(each, f"{name}.{i}" if name else str(i), fixed)
    elif is_dataclass(part):
        frozen = getattr(part, "frozen", False)
        for f in fields(part):
            path = f"{name}.{f.name}" if name else f.name
            rigid = fixed or frozen or "fixed" in f.metadata
            yield from _arrays(getattr(part, f.name), path, rigid)


def deformable(net: Any, layers: Sequence[str], *, offset_groups: int = 1) -> Any:
    """A copy of a network in which the named layers are deformable, with the same weights.

    Their branches are zero (section 2.3), so the copy computes what the network computes.
    layers         paths, as in the names of `parameters`: ["res5b", "res5c", "head.pool"]
    offset_groups  of convolutions; RoI layers have `class_groups`
    Raises TypeError for a string in place of paths, ValueError for a path that is no plain
    convolution or RoI pooling of the network. Those are the layers whose own class has a method
    deformed(offset_groups, like), which returns the deformable layer; `like` is an array of the
    network, for layers without one.
    """
    if isinstance(layers, str):
        raise TypeError(f"layers is {layers!r}, expected paths: [{layers!r}]")
    net = copy.deepcopy(net)
    like = next(iter(arrays(net).values()), np.zeros(0, np.float32))
    for path in layers:
        *outer, last = path.split(".")
        home = net
        for step in outer:
            home = _step(home, step)
        layer = _step(home, last)
        if not _plain(layer):
            raise ValueError(
                f"{path!r} is not a plain convolution or RoI pooling of this network, which has"
                f" {', '.join(_convertible(net))}"
            )
        _replace(home, last, layer.deformed(offset_groups, like))
    return net


def _plain(layer: Any) -> bool:
    """Whether a layer can become deformable: by its own method, since a deformable one inherits."""
    return "deformed" in vars(type(layer))


def _convertible(part: Any, name: str = "") -> Iterator[str]:
    """The paths of the layers that can become deformable."""
    if _plain(part):
        yield name
    if isinstance(part, list | tuple):
        for i, each in enumerate(part):
            yield from _convertible(each, f"{name}.{i}" if name else str(i))
    elif is_dataclass(part):
        for f in fields(part):
            yield from _convertible(getattr(part, f.name), f"{name}.{f.name}" if name else f.name)


def part(net: Any, path: str) -> Any:
    """The layer of a path, or None."""
    for step in path.split("."):
        net = _step(net, step)
    return net


def _step(home: Any, step: str) -> Any:
    if isinstance(home, list | tuple):
        return home[int(step)] if step.isdecimal() and int(step) < len(home) else None
    return getattr(home, step, None)


def _replace(home: Any, step: str, layer: Any) -> None:
    if isinstance(home, tuple):
        raise ValueError(f"layer {step} is in a tuple, which cannot be changed: use a list")
    if isinstance(home, list):
        home[int(step)] = layer
    else:
        setattr(home, step, layer)
