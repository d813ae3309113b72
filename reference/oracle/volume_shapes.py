"""Shapes of problems of volumes; those of maps are in `shapes`."""

from typing import Any

from . import shapes
from .shapes import Shape


def volume(*channels: Any, **about: Any) -> Shape:
    """A shape of volumes: `channels` are N, channels, outputs, groups and G, in this order."""
    plain = dict.fromkeys(("kernel", "stride", "dilation", "at_least"), (1, 1, 1))
    given = {**plain, "padding": ((0, 0),) * 3, "rest": (0, 0, 0), **about}
    return Shape(*channels, **given)


def deepened(shape: Shape) -> Shape:
    """A shape of maps with one axis more, which is like y."""
    names = ("kernel", "stride", "padding", "dilation", "at_least", "rest")
    each: dict[str, Any] = {name: getattr(shape, name) for name in names}
    return shape.limited(**{name: (value[0], *value) for name, value in each.items()})


PADDED = ((1, 0), (0, 1), (1, 1))
VOLUMES = (
    volume(2, 1, 2, 1, 1, kernel=(2, 1, 3), padding=PADDED, dilation=(1, 2, 1), at_least=(2, 3, 3)),
    volume(1, 1, 1, 2, 1, kernel=(1, 3, 2), stride=(2, 1, 3), at_least=(2, 1, 2), rest=(1, 0, 1)),
    volume(1, 1, 2, 1, 2, kernel=(3, 2, 1), stride=(1, 2, 1), padding=((1, 1),) * 3,
           at_least=(2, 2, 4)),
    volume(1, 1, 1, 2, 2, kernel=(2, 2, 2), dilation=(2, 1, 3), padding=((0, 0), (1, 0), (2, 1)),
           at_least=(1, 3, 2)),
    volume(1, 3, 3, 1, 1, at_least=(2, 2, 3)),
    volume(2, 1, 1, 1, 2, kernel=(1, 2, 1), stride=(3, 1, 2), padding=((0, 1), (2, 0), (0, 0)),
           at_least=(2, 3, 2)),
    volume(0, 2, 1, 1, 1, kernel=(2, 1, 2), at_least=(1, 2, 1)),
    volume(1, 1, 1, 1, 1, kernel=(3, 3, 3), padding=((1, 1), (2, 2), (1, 1)), dilation=(1, 2, 1),
           at_least=(2, 2, 3)),
)  # fmt: skip
FAR = (
    volume(1, 1, 2, 1, 1, kernel=(2, 1, 1), stride=(1030, 1, 1), at_least=(3, 1, 1)),
    volume(1, 1, 1, 1, 1, kernel=(1, 2, 1), stride=(1, 1030, 1), at_least=(1, 3, 1)),
    volume(1, 1, 1, 1, 1, kernel=(1, 1, 2), stride=(1, 1, 1030), at_least=(1, 1, 3)),
)
DEGENERATE = (
    volume(0, 1, 1, 1, 1, kernel=(2, 2, 1)),  # no images
    volume(),  # one pixel, one tap
    volume(1, 2, 1, 1, 1, kernel=(3, 3, 3), padding=((1, 1),) * 3),  # a kernel larger than it
    volume(1, 1, 1, 1, 2, kernel=(1, 3, 1), padding=((0, 0), (2, 2), (0, 0)), at_least=(1, 3, 1)),
    volume(stride=(3, 3, 3), padding=((2, 1),) * 3, at_least=(2, 2, 2)),  # padding, stride
)
LARGE = (  # more images, channels, taps, groups and pixels than a kernel may have thought of
    volume(3, 2, 1, 1, 1, kernel=(4, 3, 3), padding=((3, 2), (1, 1), (1, 1)), at_least=(2, 2, 3)),
    volume(1, 17, 2, 1, 1, kernel=(1, 1, 5), at_least=(1, 2, 2)),
    volume(1, 1, 9, 1, 1, kernel=(2, 2, 2), at_least=(5, 4, 6)),
    volume(4, 1, 2, 3, 1, kernel=(2, 1, 1), stride=(4, 1, 2), at_least=(2, 1, 2)),
    volume(1, 1, 1, 3, 3, kernel=(2, 1, 2), dilation=(4, 1, 3), at_least=(1, 2, 1)),
)
LONG = (  # as `shapes.LONG`
    volume(1, 1, 1, 1, 1, at_least=(9, 11, 13)),
    volume(1, 1, 1, 1, 1, kernel=(4, 4, 4), padding=((2, 2),) * 3, at_least=(1, 2, 2)),
    volume(1, 130, 1, 1, 1, at_least=(3, 4, 5)),
    volume(1, 1, 130, 1, 1, at_least=(3, 4, 5)),
    volume(70, 1, 1, 1, 1, at_least=(3, 4, 5)),
    volume(1, 1, 17, 1, 1, at_least=(15, 16, 17)),
)
LISTED = {2: shapes.SHAPES, 3: VOLUMES}  # by the number of axes
FIXED = {  # the shapes of some families
    2: {
        "far": shapes.FAR,
        "across": shapes.FAR,
        "degenerate": shapes.DEGENERATE,
        "large": shapes.LARGE,
        "long": shapes.LONG,
    },
    3: {"far": FAR, "across": FAR, "degenerate": DEGENERATE, "large": LARGE, "long": LONG},
}
