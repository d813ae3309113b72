"""What PyTorch and JAX need of their own: bfloat16, memory, and arrays made of results.

NumPy has no bfloat16; the package ml_dtypes has, and CuPy takes it from there. PyTorch lends its
bfloat16 tensors as 16-bit integers, and gets them back in the same way.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

FRAMEWORKS = {name: name for name in ("numpy", "cupy", "numba", "torch", "jax")} | {"jaxlib": "jax"}


def framework(a: Any) -> str:
    """Whose array it is: one of FRAMEWORKS, or "" where it has no more than a protocol."""
    for base in type(a).__mro__:
        name = FRAMEWORKS.get(base.__module__.split(".")[0])
        if name is not None:
            return name
    return ""


class _Dtype(NamedTuple):
    """A dtype that NumPy has no name for; it exists to be rejected by name."""

    name: str
    kind: str = "V"
    isnative: bool = True

    def __str__(self) -> str:
        return self.name


def dtype(name: str) -> Any:
    """The dtype of that name, NumPy's if it has one."""
    if name == "bfloat16":
        return bfloat16() or _Dtype("bfloat16, without the package ml_dtypes")
    try:
        return np.dtype(name)
    except TypeError:
        return _Dtype(name)


def bfloat16() -> Any:
    """The dtype, or None where ml_dtypes is not installed."""
    try:
        import ml_dtypes
    except ImportError:
        return None
    return np.dtype(ml_dtypes.bfloat16)


def torch_as_numpy(a: Any) -> Any:
    """In host memory, by a copy if it is not there."""
    a = a.detach().cpu()
    if str(a.dtype) != "torch.bfloat16":
        return a.numpy()
    return a.view(sys.modules["torch"].int16).numpy().view(bfloat16())


def torch_as_cupy(a: Any) -> Any:
    """A view of a tensor on the device."""
    import cupy

    a = a.detach()
    if str(a.dtype) != "torch.bfloat16":
        return cupy.asarray(a)
    return cupy.asarray(a.view(sys.modules["torch"].int16)).view(bfloat16())


def torch_of(result: Any, x: Any) -> Any:
    """A tensor that is a view of a result: NumPy's, CuPy's, or with the CUDA array interface."""
    torch = sys.modules["torch"]
    sixteen = result.dtype.name == "bfloat16"
    result = result.view(np.int16) if sixteen else result
    if isinstance(result, np.ndarray):
        made = torch.from_numpy(result).to(x.device)
    elif framework(result) == "cupy":
        made = torch.from_dlpack(result)
    else:
        made = torch.as_tensor(result, device=x.device)
    return made.view(torch.bfloat16) if sixteen else made


@contextmanager
def memory_of_torch(device: int, stream: int) -> Iterator[None]:
    """CuPy's memory inside this block comes from PyTorch's pool, so that there is no second one."""
    import cupy

    pool = sys.modules["torch"].cuda

    def allocate(size: int, _: int) -> int:
        return int(pool.caching_allocator_alloc(size, device, stream)) if size else 0

    def free(pointer: int, _: int) -> None:
        if pointer:
            pool.caching_allocator_delete(pointer)

    allocator = cupy.cuda.memory.PythonFunctionAllocator(allocate, free)
    with cupy.cuda.using_allocator(allocator.malloc):
        yield
