"""The functions as modules. Their offsets are arguments: what predicts them is a layer of yours."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from deformable_convnets.reference import checks, geometry, roi_checks
from deformable_convnets.reference.bilinear import Border
from deformable_convnets.reference.geometry import Pair
from deformable_convnets.reference.roi_points import Rule

from .. import registry
from .functions import deform_conv2d, deform_conv3d, deform_ps_roi_pool, deform_roi_pool


class _DeformConv(nn.Module):  # type: ignore[misc]
    """A deformable convolution of maps or of volumes, with its weight and bias."""

    axes: int
    function: Any

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] = 1,
        padding: int | tuple[Any, ...] = 0,
        dilation: int | tuple[int, ...] = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        border: Border = "zero",
        backend: str | None = None,
        precision: str = "exact",
    ) -> None:
        super().__init__()
        self.settings = _settings(backend, precision, border=border)
        checks.one_of(checks.Call(), "border", border, checks.BORDERS)
        for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            geometry.pair(f"({name}, groups)", (channels, groups), at_least=1)
            if channels % groups:
                raise ValueError(f"{name} is {channels}, expected a multiple of groups = {groups}")
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = geometry.per_axis("kernel_size", kernel_size, self.axes, at_least=1)
        self.stride = geometry.per_axis("stride", stride, self.axes, at_least=1)
        self.padding = geometry.both_sides("padding", padding, self.axes)
        self.dilation = geometry.per_axis("dilation", dilation, self.axes, at_least=1)
        self.weight = nn.Parameter(
            torch.empty(out_channels, in_channels // groups, *self.kernel_size)
        )
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform up to 1 / sqrt(C/groups K), as in every convolution of PyTorch."""
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.weight[0].numel())
            nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Tensor, offset: Tensor, mask: Tensor | None = None) -> Tensor:
        """Equation (2) on input N in_channels ...; offset and mask as in the function."""
        if input.ndim == self.axes + 2 and input.shape[1] != self.in_channels:
            checks.Call(input=input, weight=self.weight).fail(
                f"input has {input.shape[1]} channels, expected in_channels = {self.in_channels}"
            )
        return self.function(
            input, offset, self.weight, self.bias, stride=self.stride, padding=self.padding,
            dilation=self.dilation, mask=mask, **self.settings,
        )  # fmt: skip

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size},"
            f" stride={self.stride}, padding={self.padding}, dilation={self.dilation},"
            f" groups={self.groups}, bias={self.bias is not None}, {_named(self.settings)}"
        )


class DeformConv2d(_DeformConv):
    """`deform_conv2d` with its weight and bias, in place of torchvision.ops.DeformConv2d.

    The arguments, parameters, state dict and random initial values are torchvision's, also
    padding may be ((top, bottom), (left, right)); `border`, `backend` and `precision` are those of
    `deform_conv2d`. Raises ValueError or TypeError for what makes no layer.
    """

    axes, function = 2, staticmethod(deform_conv2d)


class DeformConv3d(_DeformConv):
    """`deform_conv3d` with its weight and bias: `DeformConv2d` with one axis more, z first.

    Parameters, state dict and random initial values are those of torch.nn.Conv3d.
    """

    axes, function = 3, staticmethod(deform_conv3d)


class DeformRoIPool(nn.Module):  # type: ignore[misc]
    """`deform_roi_pool` with its settings; it has no parameters.

    Raises ValueError or TypeError for settings that no call can have.
    """

    def __init__(
        self,
        output_size: int | Pair,
        *,
        spatial_scale: float = 1.0,
        gamma: float = 0.1,
        bins: Rule = "paper",
        samples: int | None = None,
        backend: str | None = None,
        precision: str = "exact",
    ) -> None:
        super().__init__()
        rule = {"spatial_scale": spatial_scale, "gamma": gamma, "bins": bins, "samples": samples}
        roi_checks.check_rule(checks.Call(), **rule)
        size = geometry.pair("output_size", output_size, at_least=1)
        self.settings = _settings(backend, precision, output_size=size, **rule)

    def forward(self, input: Tensor, rois: Tensor, offset: Tensor | None) -> Tensor:
        """Equation (6), with offset R 2*P kh kw; equation (5) where it is None."""
        return deform_roi_pool(input, rois, offset, **self.settings)

    def extra_repr(self) -> str:
        return _named(self.settings)


class DeformPSRoIPool(DeformRoIPool):
    """`deform_ps_roi_pool` with its settings; it has no parameters."""

    def __init__(
        self,
        output_size: int | Pair,
        *,
        spatial_scale: float = 1.0,
        gamma: float = 0.1,
        group_size: int | Pair | None = None,
        part_size: int | Pair | None = None,
        bins: Rule = "paper",
        samples: int | None = None,
        backend: str | None = None,
        precision: str = "exact",
    ) -> None:
        super().__init__(
            output_size, spatial_scale=spatial_scale, gamma=gamma, bins=bins, samples=samples,
            backend=backend, precision=precision,
        )  # fmt: skip
        for name, size in (("group_size", group_size), ("part_size", part_size)):
            known = None if size is None else geometry.pair(name, size, at_least=1)
            self.settings[name] = known

    def forward(self, input: Tensor, rois: Tensor, offset: Tensor | None) -> Tensor:
        """Equation (6) on the score maps of Figure 4, with offset R 2*P part_h part_w."""
        return deform_ps_roi_pool(input, rois, offset, **self.settings)


def _settings(backend: str | None, precision: str, **others: Any) -> dict[str, Any]:
    """The keywords of a module's function; which kernels are wanted is checked."""
    registry.check(registry.Choice(backend, None, precision))
    return others | {"backend": backend, "precision": precision}


def _named(settings: dict[str, Any]) -> str:
    """Those that differ from "whatever is there" as they are in a call."""
    usual = {"backend": None, "precision": "exact"}
    return ", ".join(f"{n}={v!r}" for n, v in settings.items() if n not in usual or usual[n] != v)
