"""Calls of the operators on exact problems, and wrong calls, for arrays of any framework."""

from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray as Array

from deformable_convnets import reference
from deformable_convnets.reference.oracle import problems, roi_problems, shapes, volume_shapes

RULES = ("paper", "mxnet", "align")
BORDERS = ("zero", "dcnv1")
WITHOUT_MASK = 100

RIGHT = {
    "x": np.zeros((1, 2, 5, 6)), "offset": np.zeros((1, 18, 3, 4)),
    "weight": np.zeros((4, 2, 3, 3)), "bias": np.zeros(4), "mask": np.zeros((1, 9, 3, 4)),
}  # fmt: skip
WRONG = {
    "channels": {"offset": np.zeros((1, 16, 3, 4))},
    "rank": {"x": np.zeros((2, 5, 6))},
    "images": {"offset": np.zeros((2, 18, 3, 4))},
    "bias": {"bias": np.zeros(3)},
    "mask": {"mask": np.zeros((1, 8, 3, 4))},
    "too small": {"x": np.zeros((1, 2, 2, 6))},
    "dtype": {"weight": np.zeros((4, 2, 3, 3), np.float32)},
    "offset": {"offset": np.zeros((1, 18, 3, 4), np.float32)},
    "integers": {"x": np.zeros((1, 2, 5, 6), np.int64)},
    "complex": {"bias": np.zeros(4, np.complex64)},
    "none": {"weight": None},
    "stride": {"stride": 0},
    "padding": {"padding": ((1, 2), 3)},
    "dilation": {"dilation": "2"},
    "border": {"border": "wrap"},
}
RIGHT_VOLUMES = {
    "x": np.zeros((1, 2, 4, 5, 6)), "offset": np.zeros((1, 36, 3, 3, 5)),
    "weight": np.zeros((4, 2, 2, 3, 2)), "bias": np.zeros(4), "mask": np.zeros((1, 12, 3, 3, 5)),
}  # fmt: skip
WRONG_VOLUMES = [
    {"x": np.zeros((1, 2, 5, 6))}, {"offset": np.zeros((1, 24, 3, 3, 5))},
    {"offset": np.zeros((1, 36, 3, 3, 4))}, {"mask": np.zeros((1, 36, 3, 3, 5))},
    {"weight": np.zeros((4, 2, 2, 3, 2), np.float32)}, {"x": np.zeros((1, 2, 1, 5, 6))},
    {"stride": (1, 2)}, {"padding": ((1, 2), 3, 0)}, {"dilation": (1, 0, 1)}, {"border": "wrap"},
]  # fmt: skip
RIGHT_POOLING = {
    "x": np.zeros((1, 12, 5, 6)), "rois": np.array([[0.0, 0.0, 0.0, 4.0, 3.0]]),
    "offset": np.zeros((1, 2, 2, 3)), "output_size": (2, 3),
}  # fmt: skip
WRONG_POOLING = [
    {"rois": np.array([[1.0, 0.0, 0.0, 3.0, 3.0]])},
    {"rois": np.array([[0.0, 0.0, np.inf, 3.0, 3.0]])},
    {"rois": np.array([[0.0, 1.0, 2.0, 3.0]])}, {"offset": np.zeros((1, 3, 2, 3))},
    {"output_size": 0}, {"bins": "max"}, {"samples": 4}, {"gamma": float("nan")},
    {"spatial_scale": 0.0}, {"group_size": (5, 1)}, {"part_size": (1, 1)},
]  # fmt: skip


class Case(NamedTuple):
    """One call: its arrays by name, the other arguments, and the gradient of its result."""

    name: str
    arrays: dict[str, Array | None]
    settings: dict[str, Any]
    grad_output: Array

    def is_filled(self) -> bool:
        """Whether no array is empty."""
        return all(a is None or a.size for a in self.arrays.values())

    def expected(self) -> tuple[Array, dict[str, Array]]:
        """What the reference says: the result, and the gradients by name."""
        y = getattr(reference, self.name)(**self.arrays, **self.settings)
        backward = getattr(reference, f"{self.name}_backward")
        grads = backward(self.grad_output, **self.arrays, **self.settings)._asdict()
        return y, {name: a for name, a in grads.items() if a is not None}


def convolutions(name: str, dtype: str, every: Any = shapes.SHAPES) -> list[Case]:
    """Every shape of the oracle, and the first one with bias and mask, without both."""
    found = []
    for seed, shape in [*enumerate(every), (WITHOUT_MASK, every[0])]:
        p = problems.make("base", shape, seed, border=BORDERS[seed % 2]).cast(dtype)
        names, settings = ("x", "offset", "weight", "bias", "mask"), {**p.options}
        if name == "conv2d":
            names = ("x", "weight", "bias")
        else:
            settings["border"] = p.border
        arrays = {name: getattr(p, name) for name in names}
        found.append(Case(name, arrays, settings, p.grad_output))
    return found


def samplings(dtype: str) -> list[Case]:
    """The first image of each shape at its sampling points, and at none."""
    found = []
    for seed, shape in enumerate(shapes.SHAPES):
        p = problems.make("base", shape, seed, border=BORDERS[seed % 2]).cast(dtype)
        if len(p.x) == 0:
            continue
        arrays = {"x": p.x[0], "p": p.points.astype(dtype)}
        grad = np.resize([3, -1, 4, 1, -2], (len(p.x[0]), *p.points.shape[:-1])).astype(dtype)
        found.append(Case("sample", arrays, {"border": p.border}, grad))
    x = found[0].arrays["x"]
    none = {"x": x, "p": np.zeros((0, 2), dtype)}
    return [*found, Case("sample", none, {"border": "zero"}, np.zeros((len(x), 0), dtype))]


def poolings(name: str, dtype: str) -> list[Case]:
    """Every rule, on shapes without images or RoIs, with class groups and parts among them."""
    found = []
    for seed, shape in enumerate(roi_problems.SHAPES[:8]):
        if "ps_" not in name:
            shape = shape.limited(group=(1, 1), part=shape.output)
        p = roi_problems.make("odd", shape, seed, RULES[seed % 3]).cast(dtype)
        arrays = {"x": p.x, "rois": p.rois}
        settings = {"output_size": p.shape.output, "spatial_scale": p.spatial_scale}
        if "deform_" in name:
            arrays["offset"] = p.offset
            settings["gamma"] = p.gamma
        if "ps_" in name:
            settings["group_size"] = p.shape.group
        if "deform_ps_" in name:
            settings["part_size"] = p.shape.part
        settings |= {"bins": p.bins, "samples": p.samples}
        found.append(Case(name, arrays, settings, p.grad_output))
    return found


def cases(name: str, dtype: str) -> list[Case]:
    """Calls on exact problems whose points are off the kinks."""
    if name == "sample":
        return samplings(dtype)
    if name == "deform_conv3d":
        return convolutions(name, dtype, volume_shapes.VOLUMES)
    return convolutions(name, dtype) if name.endswith("conv2d") else poolings(name, dtype)


def whole(name: str, dtype: str) -> Case:
    """The first call in which nothing is missing or empty."""
    return next(
        case
        for case in cases(name, dtype)
        if case.is_filled() and all(a is not None for a in case.arrays.values())
    )
