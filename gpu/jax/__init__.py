"""The operators for JAX, with gradients: functions for jax.grad, jax.jit and jax.vmap.

x on the CPU     computed by `reference`, through NumPy
x on a CUDA GPU  computed by `gpu`, by DLPack; inside jax.jit and jax.vmap through host memory
                 **not run on a GPU yet**: tested on Numba's simulator

Their gradients are our own, (7) and (7') among them, by jax.custom_vjp; `gpu` computes only those
that are wanted. backend, version, precision and workspace_limit are those of `gpu`; one of the
first two, if named, calls `gpu` for arrays of the CPU too. Settings are Python values, not traced.
Arrays of NumPy are taken as jax.numpy takes them: without jax_enable_x64 float64 becomes float32.
bfloat16 is computed in float32 and rounded once, on the CPU and where no version of `gpu` takes it.

Under jax.vmap each example is a call of its own, one after the other, so batch indices of RoIs are
those of its own x. Arrays that are spread over several devices are for jax.jit, which gathers
them, and for jax.shard_map inside it, where each device computes with its own part. jax.export does
not work with a call: it is a callback to this process, which JAX refuses by NotImplementedError.

Raises what `reference` and `gpu` raise. Inside jax.jit and jax.vmap the values of RoIs are known
only when it runs: JAX puts its own error around ours. RoIs are constants: jax.grad gives zeros.
Second derivatives are not offered, a RuntimeError, nor is forward mode, JAX's TypeError, nor
deterministic=True: on a GPU the gradient of x need not repeat bit for bit.
`import deformable_convnets.gpu.jax` is what imports JAX, of the extra `jax`;
`deformable_convnets.gpu` does not.
"""

try:
    import jax as _  # noqa: F401, the package, not this folder
except ImportError as error:
    raise ImportError(
        "deformable_convnets.gpu.jax needs JAX; in a checkout, pip install '.[jax]'"
    ) from error

from .functions import (
    conv2d,
    deform_conv2d,
    deform_conv3d,
    deform_ps_roi_pool,
    deform_roi_pool,
    ps_roi_pool,
    roi_pool,
    sample,
)

__all__ = [
    "conv2d",
    "deform_conv2d",
    "deform_conv3d",
    "deform_ps_roi_pool",
    "deform_roi_pool",
    "ps_roi_pool",
    "roi_pool",
    "sample",
]
