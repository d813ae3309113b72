"""What `bench` measures: operators, layers, precisions, and the arrays of each.

The layers are those of the paper's networks and of their feature pyramids. A case is one of them
with a precision and a part: the forward pass, all gradients, or both. Nothing is computed here.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from . import frameworks

# what a case is called, and the dtype of its arrays
PRECISIONS = {
    "float32": "float32", "tf32": "float32", "float16": "float16", "bfloat16": "bfloat16",
}  # fmt: skip
FORWARD, BACKWARD, BOTH = "forward", "all gradients", "forward and all gradients"
PARTS = (FORWARD, BACKWARD, BOTH)
ROI_PARTS = (FORWARD, BACKWARD)
Named = dict[str, Any]


class Shape(NamedTuple):
    """A layer with 3x3 taps and as many output channels as input channels, of stride 1."""

    name: str
    N: int
    C: int
    H: int
    W: int
    dilation: int

    @property
    def flops(self) -> int:
        """Of the matrix product of equation (2), a multiplication and an addition each."""
        return 2 * self.N * self.C * 9 * self.C * self.H * self.W


class RoiShape(NamedTuple):
    """R RoIs on one image, pooled to k x k bins of samples x samples points in C channels.

    group  x has C score maps for each of group x group bins
    """

    name: str
    R: int
    C: int
    H: int
    W: int
    k: int
    samples: int
    group: int = 1


class Case(NamedTuple):
    """One thing to measure; or, if exact, to compare with the reference bit for bit."""

    operator: str
    part: str
    shape: Shape | RoiShape
    precision: str
    exact: bool = False

    def __str__(self) -> str:
        return f"{self.operator}, {self.part}, {self.shape.name}, {self.precision}"


SHAPES = [
    Shape("conv5 38x63 N=1", 1, 512, 38, 63, 2),
    Shape("conv3 100x168 N=2", 2, 128, 100, 168, 1),
    Shape("conv4 50x84 N=2", 2, 256, 50, 84, 1),
    Shape("conv5 25x42 N=2", 2, 512, 25, 42, 1),
    Shape("conv5 38x63 N=2", 2, 512, 38, 63, 2),
    Shape("Cityscapes 64x128 N=1", 1, 512, 64, 128, 2),
    Shape("conv5 38x63 N=8", 8, 512, 38, 63, 2),
    Shape("conv3 100x168 N=8", 8, 128, 100, 168, 1),
    Shape("conv4 50x84 N=8", 8, 256, 50, 84, 1),
    Shape("conv5 25x42 N=8", 8, 512, 25, 42, 1),
]
QUICK = SHAPES[:2]
SMALL = 12e9  # floating point operations of a layer that the slow contestants run
ERRORS = Shape("256 channels 25x42 N=1", 1, 256, 25, 42, 1)  # where errors are measured
ROI = RoiShape("300 RoIs 256 channels 38x63", 300, 256, 38, 63, 7, 4)
PS_ROI = RoiShape("300 RoIs 7x7 maps of 81 channels 38x63", 300, 81, 38, 63, 7, 4, group=7)
TOY = Shape("toy 2x3", 1, 2, 2, 3, 1)
FUSED_TOY = Shape("toy 32 channels 4x5", 1, 32, 4, 5, 1)  # fits the fused kernels in every dtype
ROI_TOY = RoiShape("toy 2 RoIs 4x5", 2, 2, 4, 5, 2, 2)
PS_ROI_TOY = RoiShape("toy 2 RoIs 2x2 maps 4x5", 2, 2, 4, 5, 2, 2, group=2)


def cases(*, toy: bool = False, quick: bool = False) -> list[Case]:
    """In the order of their importance: a run that is cut short lacks the last ones."""
    conv, roi = "deform_conv2d", ("deform_roi_pool", "deform_ps_roi_pool")
    shapes = [TOY] if toy else QUICK if quick else SHAPES
    rois = dict(zip(roi, (ROI_TOY, PS_ROI_TOY) if toy else (ROI, PS_ROI), strict=True))
    parts = (FORWARD, BACKWARD) if quick or toy else PARTS
    precisions = ("float32",) if toy else tuple(PRECISIONS)
    made = [Case(conv, part, shape, p) for shape in shapes for p in precisions for part in parts]
    pooled = [
        Case(operator, part, shape, p)
        for operator, shape in rois.items()
        for p in precisions
        if p != "tf32"  # pooling has no matrix product
        for part in ROI_PARTS
    ]
    first = len([case for case in made if case.shape in QUICK])
    return made[:first] + pooled + made[first:]


def dtype(precision: str) -> Any:
    """The dtype of a case's arrays; None for bfloat16 without the package ml_dtypes."""
    name = PRECISIONS[precision]
    return frameworks.bfloat16() if name == "bfloat16" else np.dtype(name)


def problem(shape: Shape | RoiShape, *, exact: bool = False) -> Named:
    """The arrays of one layer in float32: N(0, 1), or dyadic numbers, of which sums are exact."""
    rng = np.random.default_rng(0)

    def draw(*size: int, scale: int = 1) -> Any:
        if exact:
            return (rng.integers(-8, 9, size) / scale).astype(np.float32)
        return rng.standard_normal(size, np.float32)

    if isinstance(shape, RoiShape):
        R, C, H, W, k = shape[1:6]
        return {
            "grad_output": draw(R, C, k, k),
            "x": draw(1, C * shape.group**2, H, W),
            "rois": _rois(shape, rng, exact=exact),
            "offset": draw(R, 2, k, k, scale=4),
        }
    N, C, H, W = shape[1:5]
    return {
        "grad_output": draw(N, C, H, W),
        "x": draw(N, C, H, W),
        "offset": draw(N, 18, H, W, scale=4),
        "weight": draw(C, C, 3, 3),
    }


def _rois(shape: RoiShape, rng: Any, *, exact: bool) -> Any:
    """RoIs of at most half the map; in pixels of a picture 16 times as large, unless exact."""
    half, R = (shape.W / 2, shape.H / 2), shape.R
    start, size = rng.uniform(0, half, (R, 2)), rng.uniform(1, half, (R, 2))
    if exact:
        start, size = np.floor(start), np.full((R, 2), 2 * shape.k)
    rois = np.concatenate([np.zeros((R, 1)), start, start + size], axis=1)
    return (rois if exact else rois * [1, 16, 16, 16, 16]).astype(np.float32)


def settings(case: Case) -> Named:
    """The arguments of a call that are no arrays."""
    at = case.shape
    if isinstance(at, Shape):
        return {"padding": at.dilation, "dilation": at.dilation}
    made: Named = {"output_size": at.k, "bins": "align", "samples": at.samples}
    made["spatial_scale"] = 1.0 if case.exact else 1 / 16
    made["gamma"] = 0.25 if case.exact else 0.1
    return made | ({"group_size": at.group} if "ps" in case.operator else {})


def call(module: Any, case: Case, given: Named, **choice: Any) -> Callable[[], Named]:
    """The case as a call of `gpu` or `reference`, which returns its results by name.

    choice  backend, version, precision; deterministic, which is for the backward alone
    """
    keywords = settings(case)
    for_backward = keywords | choice
    choice.pop("deterministic", None)
    arrays = {name: a for name, a in given.items() if name != "grad_output"}
    forward = partial(getattr(module, case.operator), **arrays, **keywords, **choice)
    backward = partial(getattr(module, f"{case.operator}_backward"), **given, **for_backward)

    def made() -> Named:
        results = {} if case.part == BACKWARD else {"y": forward()}
        if case.part != FORWARD:
            grads = backward()._asdict()
            results |= {f"grad {name}": a for name, a in grads.items() if a is not None}
        return results

    return made
