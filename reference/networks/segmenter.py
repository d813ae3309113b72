"""A small residual network, and the segmentation network on it: section 4.1, for minutes on a CPU.

Its stages bear the names of ResNet-101's: six residual blocks, res4a to res4c and res5a to res5c,
each one 3x3 convolution, on a map of a quarter of the image. As in the paper, those of res5 have
dilation 2, and those that `layers.deformable` names become deformable: the last one, two, three
or six of them in Table 1.
"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy import ndarray as Array

from .layers import Conv2d, conv
from .tape import Tape

STRIDE = 4
RES4, RES5 = ("res4a", "res4b", "res4c"), ("res5a", "res5b", "res5c")
BLOCKS = RES4 + RES5


@dataclass(eq=False)
class Trunk:
    """Image N C H W to features N width H/4 W/4; a block that is None is left out."""

    stem: list[Conv2d]
    res4a: Any
    res4b: Any
    res4c: Any
    res5a: Any
    res5b: Any
    res5c: Any

    def features(self, tape: Tape, x: Array) -> Array:
        """The last map before a head."""
        for layer in self.stem:
            x = tape.relu(layer(tape, x))
        for name in BLOCKS:
            block = getattr(self, name)
            if block is not None:
                x = tape.relu(tape.add(x, block(tape, x)))
        return x


@dataclass(eq=False)
class Segmenter(Trunk):
    """Scores N classes H/4 W/4 of an image, a 1x1 convolution of the features."""

    head: Conv2d

    def __call__(self, tape: Tape, x: Array) -> Array:
        return self.head(tape, self.features(tape, x))


def trunk(
    rng: np.random.Generator, *, channels: int = 1, width: int = 32, dilation: int = 2,
    blocks: tuple[str, ...] = BLOCKS, dtype: Any = np.float32,
) -> Trunk:  # fmt: skip
    """A new trunk with random weights: `dilation` is that of res5."""
    made: dict[str, Any] = dict.fromkeys(BLOCKS)
    shapes = [(channels, width // 2, 2), (width // 2, width, 2), (width, width, 1)]
    stem = [conv(rng, C, O, stride=s, padding=1, dtype=dtype) for C, O, s in shapes]
    for name in BLOCKS:
        d = dilation if name in RES5 else 1
        if name in blocks:
            made[name] = conv(rng, width, width, padding=d, dilation=d, dtype=dtype)
    return Trunk(stem, **made)


def segmenter(rng: np.random.Generator, classes: int = 5, **options: Any) -> Segmenter:
    """A new segmentation network; options as of `trunk`."""
    made = trunk(rng, **options)
    parts = {f.name: getattr(made, f.name) for f in fields(made)}
    width, dtype = made.stem[-1].weight.shape[0], made.stem[-1].weight.dtype
    return Segmenter(**parts, head=conv(rng, width, classes, 1, dtype=dtype))
