"""Shapes of problems: valid by construction, from one pixel up, and not square unless by chance.

Those of maps have two numbers, (y, x), for each of kernel, stride ...; those of volumes three.
"""

from collections.abc import Collection
from dataclasses import dataclass, fields, replace
from math import prod
from typing import Any, cast

from deformable_convnets.reference.geometry import (
    AnyGeometry,
    Geometry,
    Pair,
    VolumeGeometry,
    output_size,
)

Each = tuple[int, ...]  # a number for each axis


def brief(made: Any) -> str:
    """The code of a dataclass: only the fields that are not the default."""
    different = [f for f in fields(made) if getattr(made, f.name) != f.default]
    values = ", ".join(f"{f.name}={getattr(made, f.name)}" for f in different)
    return f"{type(made).__name__}({values})"


@dataclass(frozen=True, repr=False)
class Shape:
    """The sizes of one deformable convolution.

    C and O are given per group, so that every choice divides; H and W, and D, follow from the
    output pixels wanted, plus `rest` pixels that a stride may leave over.
    """

    N: int = 1
    channels: int = 1
    outputs: int = 1
    groups: int = 1
    G: int = 1
    kernel: Each = (1, 1)
    stride: Each = (1, 1)
    padding: tuple[Pair, ...] = ((0, 0), (0, 0))
    dilation: Each = (1, 1)
    at_least: Each = (1, 1)
    rest: Each = (0, 0)

    def __repr__(self) -> str:
        return brief(self)

    @property
    def axes(self) -> int:
        """2 for maps, 3 for volumes."""
        return len(self.kernel)

    @property
    def C(self) -> int:
        return self.channels * self.groups * self.G

    @property
    def O(self) -> int:  # noqa: E743
        return self.outputs * self.groups

    @property
    def fields(self) -> int:
        """G * K, the channels of the mask."""
        return self.G * prod(self.kernel)

    @property
    def size(self) -> Any:
        """(H, W) or (D, H, W), 1 or more."""
        return tuple(
            max(1, (o - 1) * s + d * (k - 1) + 1 - sum(p) + r)
            for o, s, d, k, p, r in zip(
                self.at_least, self.stride, self.dilation, self.kernel, self.padding, self.rest,
                strict=True,
            )
        )  # fmt: skip

    @property
    def output(self) -> Any:
        """(Ho, Wo) or (Do, Ho, Wo)."""
        sizes = (self.size, self.kernel, self.stride, self.padding, self.dilation)
        return tuple(map(output_size, *sizes))

    @property
    def geometry(self) -> AnyGeometry:
        """What a checked call of this shape means."""
        made: Any = Geometry if self.axes == 2 else VolumeGeometry
        steps = (self.kernel, self.stride, self.padding, self.dilation)
        return cast(AnyGeometry, made(*steps, self.output, self.groups, self.G))

    def limited(self, **letters: Any) -> "Shape":
        return replace(self, **letters)

    def without(self, lacks: Collection[str]) -> "Shape":
        """The nearest shape that needs none of these words of `features.WORDS`."""
        plainest: dict[str, Any] = {"stride": (1,) * self.axes, "dilation": (1,) * self.axes}
        plainest |= {"padding": ((0, 0),) * self.axes, "groups": 1, "G": 1, "outputs": 1}
        changed = {name: plainest[name] for word, name in NEEDS.items() if word in lacks}
        shape = replace(self, **changed)
        if "unequal axes" in lacks:
            names = ("kernel", "stride", "padding", "dilation")
            square: dict[str, Any] = {n: (getattr(shape, n)[0],) * self.axes for n in names}
            shape = replace(shape, **square)
        if "uneven padding" in lacks:
            shape = replace(shape, padding=tuple((max(both),) * 2 for both in shape.padding))
        if "no images" in lacks or "several images" in lacks:
            shape = replace(shape, N=max(shape.N, 1) if "several images" not in lacks else 1)
        return shape


NEEDS = {  # words of `features.WORDS`, and the fields that need them
    "groups": "groups",
    "offset groups": "G",
    "several outputs": "outputs",
    "stride": "stride",
    "dilation": "dilation",
    "padding": "padding",
}
WORDS = {*NEEDS, "unequal axes", "uneven padding", "no images", "several images"}
PADDED = ((1, 2), (0, 1))
SHAPES = (
    Shape(2, 1, 2, 1, 1, (3, 2), (1, 1), PADDED, (1, 2), (2, 3)),
    Shape(1, 2, 2, 2, 1, (2, 3), (2, 1), ((0, 1), (1, 0)), (1, 1), (2, 2), (1, 0)),
    Shape(1, 1, 2, 1, 2, (3, 3), (1, 2), ((1, 1), (1, 1)), (1, 1), (2, 2), (0, 1)),
    Shape(1, 1, 1, 2, 3, (1, 2), (1, 1), ((0, 0), (0, 0)), (1, 3), (3, 1)),
    Shape(1, 3, 3, 1, 1, (1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1), (1, 1)),
    Shape(2, 1, 1, 1, 2, (2, 1), (2, 3), ((2, 0), (1, 1)), (2, 1), (1, 2)),
    Shape(0, 2, 1, 1, 1, (2, 2), (1, 1), ((0, 0), (0, 0)), (1, 1), (2, 1)),
    Shape(1, 2, 2, 1, 1, (3, 3), (1, 1), ((2, 2), (2, 2)), (2, 2), (1, 2)),
)
FAR = (
    Shape(1, 1, 2, 1, 1, (3, 1), (1030, 1), ((1, 0), (0, 0)), (1, 1), (3, 1)),
    Shape(1, 1, 1, 1, 1, (1, 3), (1, 1030), ((0, 0), (0, 1)), (1, 2), (1, 3)),
)

DEGENERATE = (
    Shape(0, 1, 1, 1, 1, (2, 2)),  # no images
    Shape(),  # one pixel, one tap
    Shape(1, 2, 1, 1, 1, (3, 3), (1, 1), ((1, 1), (1, 1))),  # a kernel larger than the map
    Shape(1, 1, 1, 1, 2, (1, 3), (1, 1), ((0, 0), (2, 2)), (1, 2), (1, 3)),  # one row
    Shape(1, 1, 1, 1, 1, (1, 1), (3, 3), ((2, 1), (2, 1)), (1, 1), (2, 2)),  # padding, stride
)

LARGE = (  # more images, channels, taps, groups and pixels than a kernel may have thought of
    Shape(3, 2, 1, 1, 1, (5, 5), (1, 1), ((4, 4), (3, 4)), (1, 1), (3, 4)),
    Shape(1, 33, 2, 1, 1, (1, 7), (1, 4), ((0, 0), (3, 3)), (1, 1), (2, 3)),
    Shape(1, 1, 17, 1, 1, (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), (12, 13)),
    Shape(5, 1, 2, 3, 1, (3, 1), (4, 1), ((3, 0), (0, 0)), (3, 1), (2, 3)),
    Shape(1, 1, 1, 4, 4, (2, 2), (1, 1), ((0, 1), (1, 0)), (4, 3), (2, 2)),
)

LONG = (  # one number each beyond what a block, a warp, a tile or a fixed array holds
    Shape(at_least=(33, 35)),  # output pixels
    Shape(kernel=(7, 7), padding=((3, 3), (3, 3)), at_least=(2, 3)),  # taps
    Shape(channels=130, at_least=(3, 4)),
    Shape(outputs=130, at_least=(3, 4)),
    Shape(70, at_least=(3, 4)),  # images
    Shape(outputs=17, at_least=(62, 63)),  # all in all: more than 2^16 numbers
    Shape(G=34, at_least=(3, 4)),
)


def shapes(axes: int = 2) -> Any:
    """A Hypothesis strategy of shapes."""
    from hypothesis import strategies as st

    def ints(low: int, high: int) -> Any:
        return st.tuples(*[st.integers(low, high)] * axes)

    few = 3 if axes == 2 else 2
    before_and_after = st.tuples(st.integers(0, 2), st.integers(0, 2))
    return st.builds(
        Shape,
        N=st.integers(0, 2),
        channels=st.integers(1, few),
        outputs=st.integers(1, few),
        groups=st.integers(1, 2),
        G=st.integers(1, 2),
        kernel=ints(1, 3) if axes == 2 else ints(1, 2),
        stride=ints(1, 3),
        padding=st.tuples(*[before_and_after] * axes),
        dilation=ints(1, 2),
        at_least=ints(1, 3),
        rest=ints(0, 1),
    )
