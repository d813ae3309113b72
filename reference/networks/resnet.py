"""ResNet trunks (He et al. 2016), as section 4.1 makes them feature extractors.

Average pooling and the fully connected layer are gone; on top of res5 is a 1x1 convolution with
random weights, to 1024 channels. res5 has the stride of res4, 16: res5a has stride 1, and the 3x3
layers of res5 dilation 2. Batch norm is frozen.

    net = trunk(rng, 101)
    net = deformable(net, last(net, 3))          res5a, res5b and res5c: the paper's default
    res4, top = net.stages(tape, images)         both of stride 16

Two things differ between the networks that have weights, and weights of one do not fit the other:

                                        CAFFE                    TORCHVISION
    a bottleneck of stride 2 has it in  the first 1x1 layer      the 3x3 layer
    max pooling, 3x3 of stride 2        without padding, and     padded by a pixel
                                        with part of a window
                                        at the far edge

CAFFE is the original of He et al. and of the authors' networks, and the default; another network is
trunk(rng, 50, **TORCHVISION). mmdetection's "caffe" has CAFFE's strides and TORCHVISION's pooling.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from string import ascii_lowercase
from typing import Any, Literal

import numpy as np
from numpy import ndarray as Array

from .door import check_image, namespace
from .layers import BatchNorm, Conv2d, Linear, conv, linear
from .primitives import XGrads, max_pool2d, max_pool2d_backward
from .tape import Tape

DEPTHS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
STAGES = ("res2", "res3", "res4", "res5")
CAFFE: dict[str, Any] = {"stride_in": "1x1", "padded_pool": False}
TORCHVISION: dict[str, Any] = {"stride_in": "3x3", "padded_pool": True}


@dataclass(eq=False)
class Unit:
    """A convolution without bias, and its batch norm."""

    conv: Conv2d
    norm: BatchNorm

    def __call__(self, tape: Tape, x: Array) -> Array:
        return self.norm(tape, self.conv(tape, x))


@dataclass(eq=False)
class Block:
    """A residual block: relu(branch1(x) + branch2(x)), where branch1 None is x itself.

    branch2 is 1x1, 3x3 and 1x1; in ResNet-18 two layers 3x3, and branch2c is None. Names are those
    of Caffe: the 3x3 layer of block "res5c" is its branch2b.
    """

    name: str
    branch1: Unit | None
    branch2a: Unit
    branch2b: Unit
    branch2c: Unit | None

    def __call__(self, tape: Tape, x: Array) -> Array:
        y = self.branch2b(tape, tape.relu(self.branch2a(tape, x)))
        if self.branch2c is not None:
            y = self.branch2c(tape, tape.relu(y))
        return tape.relu(tape.add(y, x if self.branch1 is None else self.branch1(tape, x)))

    def ways(self) -> list[list[Unit]]:
        """The layers on each way from x to the sum."""
        branch2 = [self.branch2a, self.branch2b, self.branch2c]
        return [[u for u in way if u is not None] for way in ([self.branch1], branch2)]


@dataclass(eq=False)
class Trunk:
    """Maps of images N C H W; its blocks are `Block`s, or those of Aligned-Inception-ResNet.

    top          the 1x1 convolution, or None
    fc           of a classifier, None in a trunk: what is not used cannot be trained
    padded_pool  how max pooling is, see above
    """

    conv1: Unit
    res2: list[Any]
    res3: list[Any]
    res4: list[Any]
    res5: list[Any]
    top: Conv2d | None = None
    fc: Linear | None = None
    padded_pool: bool = False

    def stages(self, tape: Tape, x: Array) -> tuple[Array, Array | None]:
        """The map after res4, and that of `top` after res5, both after ReLU.

        Without `top` the second one is that of res5; without res5 either, it is None.
        """
        res4 = y = self._up_to_res4(tape, x)
        for block in self.res5:
            y = block(tape, y)
        if self.top is not None:
            y = tape.relu(self.top(tape, y))
        return res4, None if y is res4 else y

    def classify(self, tape: Tape, x: Array) -> Array:
        """Scores N classes: the mean of res5's map, and `fc`."""
        if self.fc is None:
            raise ValueError("this trunk has no fc: build it with classes=1000")
        y = self._up_to_res4(tape, x)
        for block in self.res5:
            y = block(tape, y)
        return self.fc(tape, tape.mean(y))

    def _up_to_res4(self, tape: Tape, x: Array) -> Array:
        check_image(x, self.conv1.conv.weight.dtype)
        y = tape.relu(self.conv1(tape, x))
        if self.padded_pool:
            y = tape.max_pool2d(y, 3, 2, 1)
        else:
            y = tape.call(whole_max_pool, whole_max_pool_backward, y)
        for block in (*self.res2, *self.res3, *self.res4):
            y = block(tape, y)
        return y


def whole_max_pool(x: Array) -> Array:
    """Caffe's max pooling of 3x3 windows, stride 2, no padding: all of x is in some window."""
    return max_pool2d(_with_rim(x), 3, 2)


def whole_max_pool_backward(grad_output: Array, x: Array) -> XGrads:
    """`max_pool2d_backward`, without the rim."""
    grad = max_pool2d_backward(grad_output, _with_rim(x), 3, 2).x
    return XGrads(grad[:, :, : x.shape[2], : x.shape[3]])


def _with_rim(x: Array) -> Array:
    """x with as much -inf below and on the right as its last windows need; they are 3 or more."""
    rim = [(0, 0), (0, 0), *((0, max(3 - n, (n - 1) % 2)) for n in x.shape[2:])]
    return namespace(x).pad(x, rim, constant_values=-np.inf)


def trunk(
    rng: np.random.Generator, depth: int = 101, *, width: int = 64,
    blocks: tuple[int, ...] | None = None, channels: int = 3, top: int | None = 1024,
    classes: int | None = None, stride: int = 16, dilation: int | None = None,
    stride_in: Literal["1x1", "3x3"] = "1x1", padded_pool: bool = False, dtype: Any = np.float32,
) -> Trunk:  # fmt: skip
    """A new trunk with random weights.

    depth                   18, 50 or 101
    width                   of conv1: 64; less for tests. res2 to res5 have 4, 8, 16 and 32 times as
                            many channels, those of ResNet-18 1, 2, 4 and 8 times
    blocks                  how many of res2 to res5; None: those of the depth
    channels                of images
    top                     channels of the 1x1 convolution on top; None: there is none
    classes                 of a classifier, which has `fc`; None: there is none
    stride, dilation        of res5: 16 and 2 (None), or 32 and 1 (None), as for classification
    stride_in, padded_pool  see above
    """
    blocks = DEPTHS.get(depth, ()) if blocks is None else blocks
    _check(depth, stride, stride_in)
    check_sizes(width, blocks)
    conv1 = unit(rng, channels, width, 7, stride=2, padding=3, dtype=dtype)
    made: dict[str, list[Any]] = {}
    C = width
    for n, (stage, number) in enumerate(zip(STAGES, blocks, strict=True)):
        s, d = stage_geometry(n, stride, dilation)
        inner = width * 2**n
        made[stage] = []
        for i in range(number):
            name, s = f"{stage}{_letters(depth, stage, i)}", s if i == 0 else 1
            gain = number**-0.5
            if depth == 18:
                block = _basic(rng, name, C, inner, s, d, gain, dtype)
            else:
                block = _bottleneck(rng, name, C, inner, s, d, gain, dtype, stride_in)
            made[stage].append(block)
            C = inner if depth == 18 else 4 * inner
    last = None if top is None else conv(rng, C, top, 1, dtype=dtype)
    fc = None if classes is None else linear(rng, C, classes, dtype=dtype)
    return Trunk(conv1, **made, top=last, fc=fc, padded_pool=padded_pool)


def _check(depth: int, stride: int, stride_in: str) -> None:
    allowed: dict[str, Any] = {"depth": (depth, tuple(DEPTHS)), "stride": (stride, (16, 32)),
                               "stride_in": (stride_in, ("1x1", "3x3"))}  # fmt: skip
    for name, (value, values) in allowed.items():
        if value not in values:
            raise ValueError(f"{name} is {value!r}, expected one of {values}")


def check_sizes(width: int, blocks: tuple[int, ...]) -> None:
    """Four stages of 0 to 26 blocks, which are named by letters, and a width of 1 or more."""
    if width < 1 or len(blocks) != len(STAGES) or not all(0 <= n <= 26 for n in blocks):
        raise ValueError(f"width is {width}, blocks {blocks}, expected 1 or more, 4 numbers to 26")


def stage_geometry(n: int, stride: int, dilation: int | None) -> tuple[int, int]:
    """The stride of the first block of stage n (0 is res2), and the dilation of its 3x3 layers."""
    if n < 3:
        return (1, 2, 2)[n], 1
    return stride // 16, (1 if stride == 32 else 2) if dilation is None else dilation


def _letters(depth: int, stage: str, i: int) -> str:
    """Caffe's: a, b, c ...; but a, b1, b2 ... in res3 and res4 of ResNet-101."""
    if depth == 101 and stage in ("res3", "res4"):
        return "a" if i == 0 else f"b{i}"
    return ascii_lowercase[i]


def unit(
    rng: np.random.Generator, C: int, O: int, kernel_size: int, *, gain: float = 1.0,
    dtype: Any = np.float32, **options: Any,
) -> Unit:  # fmt: skip
    """A convolution and a frozen batch norm that multiplies with `gain`; options of Conv2d.

    The last one of a branch has 1 / sqrt(blocks): as frozen norms do not divide, variances would
    double with each block. Weights that are loaded bring norms of their own.
    """
    layer = conv(rng, C, O, kernel_size, bias=False, dtype=dtype, **options)
    zeros, ones = np.zeros(O, dtype), np.ones(O, dtype)
    scale = np.full(O, gain, dtype)
    return Unit(layer, BatchNorm(scale, zeros.copy(), zeros, ones, frozen=True))


def _bottleneck(
    rng: np.random.Generator, name: str, C: int, inner: int, s: int, d: int, gain: float,
    dtype: Any, stride_in: str,
) -> Block:  # fmt: skip
    first, second = (s, 1) if stride_in == "1x1" else (1, s)
    return Block(
        name,
        unit(rng, C, 4 * inner, 1, stride=s, dtype=dtype) if s > 1 or 4 * inner != C else None,
        unit(rng, C, inner, 1, stride=first, dtype=dtype),
        unit(rng, inner, inner, 3, stride=second, padding=d, dilation=d, dtype=dtype),
        unit(rng, inner, 4 * inner, 1, gain=gain, dtype=dtype),
    )


def _basic(
    rng: np.random.Generator, name: str, C: int, inner: int, s: int, d: int, gain: float, dtype: Any
) -> Block:
    return Block(
        name,
        unit(rng, C, inner, 1, stride=s, dtype=dtype) if s > 1 or inner != C else None,
        unit(rng, C, inner, 3, stride=s, padding=d, dilation=d, dtype=dtype),
        unit(rng, inner, inner, 3, gain=gain, padding=d, dilation=d, dtype=dtype),
        None,
    )


def layers3x3(net: Any) -> dict[str, str]:
    """The paths of the 3x3 convolutions of res2 to res5 by Caffe's names, in order of execution.

        {"res2a_branch2b": "res2.0.branch2b.conv", ..., "res5c_branch2b": "res5.2.branch2b.conv"}

    Of a network that has a `trunk`, they are those of that trunk. Layers that run side by side, in
    Aligned-Inception-ResNet, are in the order of Figure 8, branch by branch.
    """
    return dict(_layers3x3(net))


def _layers3x3(net: Any) -> Iterator[tuple[str, str]]:
    home, net = ("trunk.", net.trunk) if hasattr(net, "trunk") else ("", net)
    for stage in STAGES:
        for i, block in enumerate(getattr(net, stage)):
            for f in fields(block):
                part = getattr(block, f.name)
                if isinstance(part, Unit) and part.conv.weight.shape[2:] == (3, 3):
                    yield f"{block.name}_{f.name}", f"{home}{stage}.{i}.{f.name}.conv"


def last(net: Any, n: int) -> list[str]:
    """The paths of the last n 3x3 layers, for `layers.deformable`, in order of execution.

    In Table 1, n is 1 (res5c), 2, 3 (res5a to res5c) or 6 (res4b20 to res4b22 too). A block of
    ResNet-18 has two such layers, one of Aligned-Inception-ResNet three: n counts layers. ResNet-50
    is as ResNet-101, and its 6 are res4d to res5c.
    """
    paths = list(layers3x3(net).values())
    if not 0 <= n <= len(paths):
        raise ValueError(f"n is {n}, expected 0 to {len(paths)}, the number of 3x3 layers")
    return paths[len(paths) - n :]
