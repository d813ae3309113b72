"""Aligned-Inception-ResNet (section 4.1; Table 6 and Figure 8), and what "aligned" means.

It is ResNet-101 with another block, D/4, D/8 ... channels of D:

              1x1 D/4 ------ 3x3 D/4 \\
        x <                             concatenated, 3D/8 ------ 1x1 D ------ + x ------ ReLU
              1x1 D/8 - 3x3 D/8 - 3x3 D/8 /

Every layer has batch norm, and all but the last of a block ReLU. Where D or the stride changes, the
shortcut is a 1x1 convolution. Which layers of the branches then have stride 2 is not in the paper;
here their first ones, 1x1 as the shortcut. 64,252,072 weights of convolutions and of the fully
connected layer, with its biases; without the norms.

Every layer is padded on both sides by half its kernel, so the receptive field of cell i of a map of
stride s is centred on pixel s i of the image: where RoI pooling looks for it. Without padding, as
in the original Inception-ResNet, the centre moves by (kernel - 1) / 2 cells with every layer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray as Array

from .door import entered, namespace
from .layers import Conv2d, conv, linear
from .resnet import DEPTHS, STAGES, Trunk, Unit, check_sizes, stage_geometry, unit
from .tape import Tape


class ConcatGrads(NamedTuple):
    """The gradients of `concat`, each of the shape of its argument."""

    x: Array
    z: Array


def concat(x: Array, z: Array) -> Array:
    """The channels of x, then those of z, for maps N C H W of one size."""
    call = entered({"x": "N C H W", "z": "N C H W"}, x=x, z=z)
    call.check_shape("z", "as x, but for C", (x.shape[0], z.shape[1], *x.shape[2:]))
    return namespace(x).concatenate((x, z), axis=1)


def concat_backward(grad_output: Array, x: Array, z: Array) -> ConcatGrads:
    """Each gets its channels."""
    return ConcatGrads(grad_output[:, : x.shape[1]], grad_output[:, x.shape[1] :])


@dataclass(eq=False)
class InceptionBlock:
    """Figure 8: of its three 3x3 layers branch1b comes first, then branch2b and branch2c."""

    name: str
    shortcut: Unit | None
    branch1a: Unit
    branch1b: Unit
    branch2a: Unit
    branch2b: Unit
    branch2c: Unit
    joined: Unit

    def __call__(self, tape: Tape, x: Array) -> Array:
        ends = []
        for branch in self._branches():
            y = x
            for layer in branch:
                y = tape.relu(layer(tape, y))
            ends.append(y)
        y = self.joined(tape, tape.call(concat, concat_backward, *ends))
        return tape.relu(tape.add(y, x if self.shortcut is None else self.shortcut(tape, x)))

    def ways(self) -> list[list[Unit]]:
        """The layers on each way from x to the sum."""
        across = [] if self.shortcut is None else [self.shortcut]
        return [across, *([*branch, self.joined] for branch in self._branches())]

    def _branches(self) -> list[list[Unit]]:
        return [[self.branch1a, self.branch1b], [self.branch2a, self.branch2b, self.branch2c]]


def aligned_inception(
    rng: np.random.Generator, *, width: int = 64, blocks: tuple[int, ...] = DEPTHS[101],
    channels: int = 3, top: int | None = 1024, classes: int | None = None, stride: int = 16,
    dilation: int | None = None, dtype: Any = np.float32,
) -> Trunk:  # fmt: skip
    """A new trunk of Table 6, whose stages conv2 to conv5 are res2 to res5 here.

    Arguments as of `resnet.trunk`: it becomes a feature extractor in the same way. width is even.
    """
    if width < 2 or width % 2:
        raise ValueError(f"width is {width}, expected an even number: blocks have width / 2 maps")
    if stride not in (16, 32):
        raise ValueError(f"stride is {stride}, expected 16 or 32")
    check_sizes(width, blocks)
    conv1 = unit(rng, channels, width, 7, stride=2, padding=3, dtype=dtype)
    made: dict[str, list[Any]] = {}
    C = width
    for n, (stage, number) in enumerate(zip(STAGES, blocks, strict=True)):
        s, d = stage_geometry(n, stride, dilation)
        D, made[stage] = 4 * width * 2**n, []
        for i in range(number):
            name = f"conv{n + 2}_{i + 1}"
            made[stage].append(_block(rng, name, C, D, s if i == 0 else 1, d, number**-0.5, dtype))
            C = D
    last = None if top is None else conv(rng, C, top, 1, dtype=dtype)
    fc = None if classes is None else linear(rng, C, classes, dtype=dtype)
    return Trunk(conv1, **made, top=last, fc=fc, padded_pool=True)


def _block(
    rng: np.random.Generator, name: str, C: int, D: int, s: int, d: int, gain: float, dtype: Any
) -> InceptionBlock:
    def layer(I: int, O: int, kernel: int, **options: Any) -> Unit:
        padding = {"padding": d, "dilation": d} if kernel == 3 else {}
        return unit(rng, I, O, kernel, dtype=dtype, **padding, **options)

    quarter, eighth = D // 4, D // 8
    return InceptionBlock(
        name,
        layer(C, D, 1, stride=s) if s > 1 or C != D else None,
        layer(C, quarter, 1, stride=s),
        layer(quarter, quarter, 3),
        layer(C, eighth, 1, stride=s),
        layer(eighth, eighth, 3),
        layer(eighth, eighth, 3),
        layer(quarter + eighth, D, 1, gain=gain),
    )


class Cells(NamedTuple):
    """Where the cells of a map look: the receptive field of cell i is centred on pixel
    centre + stride * i of the image, and size pixels wide. Along one axis."""

    stride: int = 1
    centre: float = 0.0
    size: int = 1


def cells(layers: Sequence[Conv2d], below: Cells = Cells()) -> Cells:  # noqa: B008
    """The cells of the last of some layers, on a map whose cells are `below`, by their rows."""
    for layer in layers:
        (k, s, p, d) = (
            _rows(a) for a in (layer.weight.shape[2:], layer.stride, layer.padding, layer.dilation)
        )
        reach = d * (k - 1)
        centre = below.centre + below.stride * (reach / 2 - p)
        below = Cells(below.stride * s, centre, below.size + below.stride * reach)
    return below


def _rows(a: Any) -> int:
    return int(a[0] if isinstance(a, tuple) else a)


def alignment(net: Trunk) -> dict[str, Cells]:
    """The `cells` of each map of a trunk: after conv1, after pooling ("pool1"), and of each block.

    It is aligned if every centre is 0. Aligned-Inception-ResNet is; Caffe's ResNet is not, from
    pooling on, by 2 pixels. Raises ValueError where the ways through a block do not agree.
    """
    window = np.zeros((1, 1, 3, 3))
    found = {"conv1": cells([net.conv1.conv])}
    pool = Conv2d(window, stride=2, padding=int(net.padded_pool))
    found["pool1"] = at = cells([pool], found["conv1"])
    for stage in STAGES:
        for block in getattr(net, stage):
            ends = [cells([u.conv for u in way], at) for way in block.ways()]
            if len({end[:2] for end in ends}) > 1:
                centres = ", ".join(f"{end.centre:g}" for end in ends)
                raise ValueError(f"the ways through {block.name} are centred on {centres}")
            found[block.name] = at = max(ends, key=lambda end: end.size)
    return found
