"""The operators as PyTorch's own, with gradients: functions, modules, and operators that compile.

x on the CPU   computed by `reference` through NumPy, without a copy; every gradient, wanted or not
x on CUDA      computed by `gpu`, without a copy, on the current stream; only the gradients that are
               wanted, and repeatable ones under torch.use_deterministic_algorithms
               **not run on a GPU yet**: tested on Numba's simulator

backend, version, precision and workspace_limit are those of `gpu`; one of the first two, if named,
calls `gpu` for tensors of the CPU too. torch.ops.deformable_convnets has the operators and
<name>_backward, without defaults; they know their shapes without data, for torch.compile and
tensors on "meta". Tensors may have any strides; y is channels_last where x is, and a gradient where
its argument is, of volumes channels_last_3d, else they are contiguous.

Under torch.autocast the operators compute in its dtype, with offset and rois in float32; float64
stays. bfloat16 is computed in float32 and rounded once, on the CPU and where no version of `gpu`
takes it.

Raises what `reference` and `gpu` raise; torch.compile puts its own error around that. RoIs have no
gradient. Second derivatives and forward mode (torch.func.jvp) are not offered: a RuntimeError.
torch.vmap calls an operator once for each example. `import deformable_convnets.gpu.torch` is what
imports torch; `deformable_convnets.gpu` does not.
"""

try:
    import torch as _  # noqa: F401, the package, not this folder
except ImportError as error:
    raise ImportError("deformable_convnets.gpu.torch needs PyTorch: pip install torch") from error

from .functions import (
    deform_conv2d,
    deform_conv3d,
    deform_ps_roi_pool,
    deform_roi_pool,
    ps_roi_pool,
    roi_pool,
)
from .modules import DeformConv2d, DeformConv3d, DeformPSRoIPool, DeformRoIPool

__all__ = [
    "DeformConv2d",
    "DeformConv3d",
    "DeformPSRoIPool",
    "DeformRoIPool",
    "deform_conv2d",
    "deform_conv3d",
    "deform_ps_roi_pool",
    "deform_roi_pool",
    "ps_roi_pool",
    "roi_pool",
]
