"""Counting a network without its numbers: parameters, and multiply-adds of a forward pass.

    net = resnet.trunk(Shapes(), 101)            no weight takes memory
    parameters(net)                              42,500,160 + the 1x1 convolution on top
    found = counted(net.stages, images)          multiply-adds of each layer, by its path

A multiply-add is a product and its sum. Those of convolutions and fully connected layers are
counted, and by themselves the four of each bilinear sample; not norms, ReLU, sums of shortcuts,
maxima, the means of pooling, nor up-sampling.
"""

from dataclasses import dataclass, field
from inspect import signature
from typing import Any

import numpy as np
from numpy import ndarray as Array

from .. import checks
from ..geometry import output_size, pair, sides
from .layers import arrays
from .tape import Tape


class Shaped(np.ndarray):
    """An array that has a shape and no numbers: arithmetic gives another one, a copy is itself."""

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **_: Any) -> Any:
        return shaped(np.broadcast_shapes(*(np.shape(a) for a in inputs)), self.dtype)

    def __deepcopy__(self, memo: Any) -> "Shaped":
        return self

    def astype(self, dtype: Any, *_: Any, **__: Any) -> Any:
        return shaped(self.shape, dtype)


def shaped(shape: tuple[int, ...], dtype: Any = np.float32) -> Array:
    """A `Shaped` array: one 0, which is everywhere."""
    zero = np.zeros((), dtype).view(Shaped)
    return np.broadcast_to(zero, shape, subok=True)


class Shapes:
    """What networks are built with in place of random numbers."""

    def standard_normal(self, size: tuple[int, ...]) -> Array:
        """A `shaped` array."""
        return shaped(size)


def parameters(net: Any) -> int:
    """How many numbers are trained, or would be if no norm were frozen: not running statistics."""
    named = arrays(net).items()
    return sum(a.size for name, a in named if name.split(".")[-1] not in ("mean", "variance"))


@dataclass
class Counted:
    """Multiply-adds by the path of a layer, and those of its bilinear samples."""

    layers: dict[str, int] = field(default_factory=dict)
    bilinear: dict[str, int] = field(default_factory=dict)

    @property
    def branches(self) -> int:
        """Those of the layers that make offsets."""
        return sum(n for path, n in self.layers.items() if ".branch." in f".{path}.")

    @property
    def plain(self) -> int:
        """Those of all other layers."""
        return sum(self.layers.values()) - self.branches


class Counter(Tape):
    """A tape that records nothing: it follows shapes, and counts.

    An operator is known by its name, so every one needs a rule here: RuntimeError without.
    """

    def __init__(self, net: Any):
        super().__init__()
        self.paths = {id(a): name.rpartition(".")[0] for name, a in arrays(net).items()}
        self.found = Counted()

    def call(self, forward: Any, backward: Any, *args: Any, **options: Any) -> Array:
        """The shape of forward(*args, **options)."""
        given = signature(forward).bind(*args, **options)
        given.apply_defaults()
        rule = getattr(self, f"_{forward.__name__}", None)
        if rule is None:
            raise RuntimeError(f"{forward.__name__} has no rule for the shape of its result")
        return shaped(rule(**given.arguments))

    def _conv2d(self, x: Array, weight: Array, stride: Any, padding: Any, dilation: Any,
                **_: Any) -> tuple[int, ...]:  # fmt: skip
        strides, steps = pair("stride", stride, at_least=1), pair("dilation", dilation, at_least=1)
        axes = zip(x.shape[2:], weight.shape[2:], strides, sides("padding", padding), steps,
                   strict=True)  # fmt: skip
        size = tuple(output_size(*axis) for axis in axes)
        shape = (x.shape[0], weight.shape[0], *size)
        self._count(weight, int(np.prod(shape)) * int(np.prod(weight.shape[1:])))
        return shape

    def _deform_conv2d(self, x: Array, offset: Array, weight: Array, **rest: Any) -> Any:
        shape = self._conv2d(x, weight, **rest)
        if offset.shape[2:] != shape[2:]:
            checks.Call(x=x, offset=offset).fail(f"offset is not {shape[2:]}")
        taps = int(np.prod(weight.shape[2:]))
        samples = x.shape[0] * x.shape[1] * taps * int(np.prod(shape[2:]))
        self.found.bilinear[self._path(weight)] = 4 * samples
        return shape

    def _linear(self, x: Array, weight: Array, **_: Any) -> tuple[int, ...]:
        self._count(weight, x.shape[0] * weight.size)
        return x.shape[0], weight.shape[0]

    def _path(self, weight: Array) -> str:
        return self.paths.get(id(weight), "?")

    def _count(self, weight: Array, number: int) -> None:
        path = self._path(weight)
        self.found.layers[path] = self.found.layers.get(path, 0) + number

    def _relu(self, x: Array, **_: Any) -> tuple[int, ...]:
        return x.shape

    _batch_norm = _add = _relu

    def _reshape(self, x: Array, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape

    def _mean(self, x: Array) -> tuple[int, ...]:
        return x.shape[:2]

    def _upsample(self, x: Array, size: Any) -> tuple[int, ...]:
        return (*x.shape[:2], *pair("size", size, at_least=1))

    def _concat(self, x: Array, z: Array) -> tuple[int, ...]:
        return (x.shape[0], x.shape[1] + z.shape[1], *x.shape[2:])

    def _max_pool2d(self, x: Array, kernel_size: Any, stride: Any, padding: Any) -> Any:
        settings = zip(*(pair("a window", a, at_least=0) for a in (kernel_size, stride, padding)),
                       strict=True)  # fmt: skip
        size = (output_size(n, k, s, (p, p), 1)
                for n, (k, s, p) in zip(x.shape[2:], settings, strict=True))  # fmt: skip
        return (*x.shape[:2], *size)

    def _whole_max_pool(self, x: Array) -> tuple[int, ...]:
        return (*x.shape[:2], *(max((n - 2) // 2 + 1, 1) for n in x.shape[2:]))

    def _roi_pool(self, x: Array, rois: Array, output_size: Any, **_: Any) -> tuple[int, ...]:
        return (len(rois), x.shape[1], *pair("output_size", output_size, at_least=1))

    def _ps_roi_pool(self, x: Array, rois: Array, output_size: Any, **_: Any) -> tuple[int, ...]:
        kh, kw = pair("output_size", output_size, at_least=1)
        return len(rois), x.shape[1] // (kh * kw), kh, kw

    _deform_roi_pool = _roi_pool
    _deform_ps_roi_pool = _ps_roi_pool


def counted(net: Any, *inputs: Any, of: str = "__call__") -> Counted:
    """The multiply-adds of one call of a network, built with `Shapes`, with (tape, *inputs).

    of  which of its methods is called: "stages" of a trunk
    """
    tape = Counter(net)
    getattr(net, of)(tape, *inputs)
    return tape.found
