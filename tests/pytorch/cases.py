"""Calls of the six operators on the oracle's exact problems, as tensors and as NumPy arrays."""

from typing import Any

import numpy as np
import operator_cases
import torch
from numpy import ndarray as Array

from deformable_convnets.gpu import torch as ours

NAMES = ("deform_conv2d", "deform_conv3d", "roi_pool", "deform_roi_pool", "ps_roi_pool",
         "deform_ps_roi_pool")  # fmt: skip
LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


class Case(operator_cases.Case):
    """One call, with tensors."""

    def tensors(self, device: str = "cpu", **changes: Any) -> dict[str, torch.Tensor | None]:
        """Leaves, all of which but rois want their gradient."""
        made = {
            name: None if a is None else torch.from_numpy(a.copy()).to(device, **changes)
            for name, a in self.arrays.items()
        }
        return {n: a if n == "rois" or a is None else a.requires_grad_() for n, a in made.items()}

    def call(self, tensors: dict[str, torch.Tensor | None], **more: Any) -> torch.Tensor:
        return getattr(ours, self.name)(**tensors, **self.settings, **more)

    def backward(self, y: torch.Tensor, tensors: dict[str, Any]) -> dict[str, torch.Tensor]:
        """The gradients of what wants one, by name."""
        wanted = {n: a for n, a in tensors.items() if a is not None and a.requires_grad}
        grad = torch.from_numpy(self.grad_output.copy()).to(y)
        return dict(zip(wanted, torch.autograd.grad(y, [*wanted.values()], grad), strict=True))

    def schema_arguments(self, tensors: dict[str, Any]) -> tuple[Any, ...]:
        """As torch.ops.deformable_convnets takes them."""
        from deformable_convnets.gpu.torch.operators import _packed

        packed = [_packed(self.name, name, value) for name, value in self.settings.items()]
        return (*tensors.values(), *packed, None, None, "exact", None)


def cases(name: str, dtype: str) -> list[Case]:
    """Calls on exact problems whose points are off the kinks."""
    return [Case(*case) for case in operator_cases.cases(name, dtype)]


def whole(name: str, dtype: str) -> Case:
    """The first call in which nothing is missing or empty."""
    return Case(*operator_cases.whole(name, dtype))


def assert_same(found: torch.Tensor, expected: Array) -> None:
    """Bit for bit, and of the same dtype and shape."""
    numbers = found.detach().cpu().numpy()
    assert numbers.dtype == expected.dtype
    np.testing.assert_array_equal(numbers, expected, strict=True)


def assert_laid_out(a: Any, like: Any) -> None:
    """Channels last in memory where `like` is, and is not in C order as well; else in C order."""
    last = LAST.get(a.ndim) if a.ndim == like.ndim else None
    there = last and like.is_contiguous(memory_format=last) and not like.is_contiguous()
    wanted = last if there else torch.contiguous_format
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
