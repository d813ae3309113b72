"""Shapes of problems: valid by construction, from one pixel up, and not square unless by chance."""

from collections.abc import Collection
from dataclasses import dataclass, fields, replace
from typing import Any

from deformable_convnets.reference.geometry import Pair, Sides, output_size


def brief(made: Any) -> str:
    """The code of a dataclass: only the fields that are not the default."""
    different = [f for f in fields(made) if getattr(made, f.name) != f.default]
    values = ", ".join(f"{f.name}={getattr(made, f.name)}" for f in different)
    return f"{type(made).__name__}({values})"


@dataclass(frozen=True, repr=False)
class Shape:
    """The sizes of one deformable convolution.

    C and O are given per group, so that every choice divides; H and W follow from the output
    pixels wanted, plus `rest` pixels that a stride may leave over.
    """

    N: int = 1
    channels: int = 1
    outputs: int = 1
    groups: int = 1
    G: int = 1
    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    padding: Sides = ((0, 0), (0, 0))
    dilation: Pair = (1, 1)
    at_least: Pair = (1, 1)
    rest: Pair = (0, 0)

    def __repr__(self) -> str:
        return brief(self)

    @property
    def C(self) -> int:
        return self.channels * self.groups * self.G

    @property
    def O(self) -> int:  # noqa: E743
        return self.outputs * self.groups

    @property
    def fields(self) -> int:
        """G * K, the channels of the mask."""
        return self.G * self.kernel[0] * self.kernel[1]

    @property
    def size(self) -> Pair:
        """(H, W), 1 or more."""
        H, W = (
            max(1, (o - 1) * s + d * (k - 1) + 1 - sum(p) + r)
            for o, s, d, k, p, r in zip(
                self.at_least, self.stride, self.dilation, self.kernel, self.padding, self.rest,
                strict=True,
            )
        )  # fmt: skip
        return H, W

    @property
    def output(self) -> Pair:
        """(Ho, Wo)."""
        sizes = (self.size, self.kernel, self.stride, self.padding, self.dilation)
        Ho, Wo = map(output_size, *sizes)
        return Ho, Wo

    def limited(self, **letters: Any) -> "Shape":
        return replace(self, **letters)

    def without(self, lacks: Collection[str]) -> "Shape":
        """The nearest shape that needs none of these words of `features.WORDS`."""
        changed: dict[str, Any] = {
            name: value
            for word, (name, value) in PLAINEST.items()
            if word in lacks
        }  # fmt: skip
        shape = replace(self, **changed)
        if "unequal axes" in lacks:
            names = ("kernel", "stride", "padding", "dilation")
            square: dict[str, Any] = {name: (getattr(shape, name)[0],) * 2 for name in names}
            shape = replace(shape, **square)
        if "uneven padding" in lacks:
            (top, bottom), (left, right) = shape.padding
            shape = replace(shape, padding=((max(top, bottom),) * 2, (max(left, right),) * 2))
        if "no images" in lacks or "several images" in lacks:
            shape = replace(shape, N=max(shape.N, 1) if "several images" not in lacks else 1)
        return shape


PLAINEST = {
    "groups": ("groups", 1),
    "offset groups": ("G", 1),
    "several outputs": ("outputs", 1),
    "stride": ("stride", (1, 1)),
    "dilation": ("dilation", (1, 1)),
    "padding": ("padding", ((0, 0), (0, 0))),
}
WORDS = {*PLAINEST, "unequal axes", "uneven padding", "no images", "several images"}
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


def shapes() -> Any:
    """A Hypothesis strategy of shapes."""
    from hypothesis import strategies as st

    def pairs(low: int, high: int) -> Any:
        return st.tuples(st.integers(low, high), st.integers(low, high))

    return st.builds(
        Shape,
        N=st.integers(0, 2),
        channels=st.integers(1, 3),
        outputs=st.integers(1, 3),
        groups=st.integers(1, 2),
        G=st.integers(1, 2),
        kernel=pairs(1, 3),
        stride=pairs(1, 3),
        padding=st.tuples(pairs(0, 2), pairs(0, 2)),
        dilation=pairs(1, 2),
        at_least=pairs(1, 3),
        rest=pairs(0, 1),
    )
