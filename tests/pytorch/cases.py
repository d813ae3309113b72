"""Calls of the five operators on the oracle's exact problems, as tensors and as NumPy arrays."""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy import ndarray as Array

from deformable_convnets import reference
from deformable_convnets.gpu import torch as ours
from deformable_convnets.reference.oracle import problems, roi_problems, shapes

NAMES = ("deform_conv2d", "roi_pool", "deform_roi_pool", "ps_roi_pool", "deform_ps_roi_pool")
RULES = ("paper", "mxnet", "align")
BORDERS = ("zero", "dcnv1")
WITHOUT_MASK = 100


class Case(NamedTuple):
    """One call: its arrays by name, the other arguments, and the gradient of its result."""

    name: str
    arrays: dict[str, Array | None]
    settings: dict[str, Any]
    grad_output: Array

    def tensors(self, device: str = "cpu", **changes: Any) -> dict[str, torch.Tensor | None]:
        """Leaves, all of which but rois want their gradient."""
        made = {
            name: None if a is None else torch.from_numpy(a.copy()).to(device, **changes)
            for name, a in self.arrays.items()
        }
        return {n: a if n == "rois" or a is None else a.requires_grad_() for n, a in made.items()}

    def is_filled(self) -> bool:
        """Whether no array is empty."""
        return all(a is None or a.size for a in self.arrays.values())

    def call(self, tensors: dict[str, torch.Tensor | None], **more: Any) -> torch.Tensor:
        return getattr(ours, self.name)(**tensors, **self.settings, **more)

    def backward(self, y: torch.Tensor, tensors: dict[str, Any]) -> dict[str, torch.Tensor]:
        """The gradients of what wants one, by name."""
        wanted = {n: a for n, a in tensors.items() if a is not None and a.requires_grad}
        grad = torch.from_numpy(self.grad_output.copy()).to(y)
        return dict(zip(wanted, torch.autograd.grad(y, [*wanted.values()], grad), strict=True))

    def expected(self) -> tuple[Array, dict[str, Array]]:
        """What the reference says: the result, and the gradients by name."""
        y = getattr(reference, self.name)(**self.arrays, **self.settings)
        backward = getattr(reference, f"{self.name}_backward")
        grads = backward(self.grad_output, **self.arrays, **self.settings)._asdict()
        return y, {name: a for name, a in grads.items() if a is not None}

    def schema_arguments(self, tensors: dict[str, Any]) -> tuple[Any, ...]:
        """As torch.ops.deformable_convnets takes them."""
        from deformable_convnets.gpu.torch.operators import _packed

        packed = [_packed(name, value) for name, value in self.settings.items()]
        return (*tensors.values(), *packed, None, None, "exact", None)


def convolutions(dtype: str) -> list[Case]:
    """Every shape of the oracle, and the first one with bias and mask, without both."""
    found = []
    seeds = [*enumerate(shapes.SHAPES), (WITHOUT_MASK, shapes.SHAPES[0])]
    for seed, shape in seeds:
        p = problems.make("base", shape, seed, border=BORDERS[seed % 2]).cast(dtype)
        arrays = {name: getattr(p, name) for name in ("x", "offset", "weight", "bias", "mask")}
        settings = {**p.options, "border": p.border}
        found.append(Case("deform_conv2d", arrays, settings, p.grad_output))
    return found


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
    return convolutions(dtype) if name == "deform_conv2d" else poolings(name, dtype)


def whole(name: str, dtype: str) -> Case:
    """The first call in which nothing is missing or empty."""
    return next(
        case
        for case in cases(name, dtype)
        if case.is_filled() and all(a is not None for a in case.arrays.values())
    )


def assert_same(found: torch.Tensor, expected: Array) -> None:
    """Bit for bit, and of the same dtype and shape."""
    numbers = found.detach().cpu().numpy()
    assert numbers.dtype == expected.dtype
    np.testing.assert_array_equal(numbers, expected, strict=True)


def assert_laid_out(a: Any, like: Any) -> None:
    """Channels last in memory where `like` is, and is not in C order as well; else in C order."""
    last = a.ndim == like.ndim == 4 and like.is_contiguous(memory_format=torch.channels_last)
    wanted = torch.channels_last if last and not like.is_contiguous() else torch.contiguous_format
    assert a.is_contiguous(memory_format=wanted)


def assert_is(case: Case, tensors: dict[str, Any], **more: Any) -> None:
    """A call and its gradients are those of the reference, bit for bit, laid out as arguments."""
    y, grads = case.expected()
    found = case.call(tensors, **more)
    assert_laid_out(found, tensors["x"])
    assert found.device == tensors["x"].device
    assert_same(found, y)
    found_grads = case.backward(found, tensors)
    assert found_grads.keys() == grads.keys()
    for name, grad in grads.items():
        assert_laid_out(found_grads[name], tensors[name])
        assert_same(found_grads[name], grad)
