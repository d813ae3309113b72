"""The functions as modules. Their offsets are arguments: what predicts them is a layer of yours."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from deformable_convnets.reference import checks, geometry
from deformable_convnets.reference.bilinear import Border
from deformable_convnets.reference.geometry import Pair, Sides
from deformable_convnets.reference.roi_points import Rule

from .functions import deform_conv2d, deform_ps_roi_pool, deform_roi_pool


class DeformConv2d(nn.Module):  # type: ignore[misc]
    """`deform_conv2d` with its weight and bias, in place of torchvision.ops.DeformConv2d.

    The arguments, parameters, state dict and random initial values are torchvision's, also
    padding may be ((top, bottom), (left, right)), and `border` as in `deform_conv2d`.
    Raises ValueError or TypeError for sizes that make no layer.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair,
        stride: int | Pair = 1,
        padding: int | Pair | Sides = 0,
        dilation: int | Pair = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        border: Border = "zero",
    ) -> None:
        super().__init__()
        for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            geometry.pair(f"({name}, groups)", (channels, groups), at_least=1)
            if channels % groups:
                raise ValueError(f"{name} is {channels}, expected a multiple of groups = {groups}")
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = geometry.pair("kernel_size", kernel_size, at_least=1)
        self.stride = geometry.pair("stride", stride, at_least=1)
        self.padding = geometry.sides("padding", padding)
        self.dilation = geometry.pair("dilation", dilation, at_least=1)
        self.border = border
        self.weight = nn.Parameter(
            torch.empty(out_channels, in_channels // groups, *self.kernel_size)
        )
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform up to 1 / sqrt(C/groups kh kw), as in every convolution of PyTorch."""
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.weight[0].numel())
            nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Tensor, offset: Tensor, mask: Tensor | None = None) -> Tensor:
        """Equation (2) on input N in_channels H W; offset and mask as in `deform_conv2d`."""
        if input.ndim == 4 and input.shape[1] != self.in_channels:
            checks.Call(input=input, weight=self.weight).fail(
                f"input has {input.shape[1]} channels, expected in_channels = {self.in_channels}"
            )
        return deform_conv2d(
            input, offset, self.weight, self.bias, stride=self.stride, padding=self.padding,
            dilation=self.dilation, mask=mask, border=self.border,
        )  # fmt: skip

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size},"
            f" stride={self.stride}, padding={self.padding}, dilation={self.dilation},"
            f" groups={self.groups}, bias={self.bias is not None}, border={self.border!r}"
        )


class DeformRoIPool(nn.Module):  # type: ignore[misc]
    """`deform_roi_pool` with its settings; it has no parameters."""

    def __init__(
        self,
        output_size: int | Pair,
        *,
        spatial_scale: float = 1.0,
        gamma: float = 0.1,
        bins: Rule = "paper",
        samples: int | None = None,
    ) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {
            "output_size": geometry.pair("output_size", output_size, at_least=1),
            "spatial_scale": spatial_scale, "gamma": gamma, "bins": bins, "samples": samples,
        }  # fmt: skip

    def forward(self, input: Tensor, rois: Tensor, offset: Tensor | None) -> Tensor:
        """Equation (6), with offset R 2*P kh kw; equation (5) where it is None."""
        return deform_roi_pool(input, rois, offset, **self.settings)

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self.settings.items())


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
    ) -> None:
        rule: dict[str, Any] = {"bins": bins, "samples": samples}
        super().__init__(output_size, spatial_scale=spatial_scale, gamma=gamma, **rule)
        self.settings |= {"group_size": group_size, "part_size": part_size}

    def forward(self, input: Tensor, rois: Tensor, offset: Tensor | None) -> Tensor:
        """Equation (6) on the score maps of Figure 4, with offset R 2*P part_h part_w."""
        return deform_ps_roi_pool(input, rois, offset, **self.settings)
