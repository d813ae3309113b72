"""What PyTorch and JAX need of their own: bfloat16, memory, and arrays made of results.

NumPy has no bfloat16; the package ml_dtypes has, and CuPy takes it from there. PyTorch lends its
bfloat16 tensors as 16-bit integers, and gets them back in the same way.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
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
    """A tensor that is a view of a result: NumPy's, CuPy's, or with the CUDA array interface.

    One in memory that PyTorch lent is a view of that memory, so that `record_stream` works.
    """
    torch = sys.modules["torch"]
    sixteen = result.dtype.name == "bfloat16"
    result = result.view(np.int16) if sixteen else result
    if isinstance(result, np.ndarray):
        made = torch.from_numpy(result).to(x.device)
    elif framework(result) != "cupy":
        made = torch.as_tensor(result, device=x.device)
    elif (lent := LENT.get().get(result.data.mem.ptr)) is not None:
        kind, size = getattr(torch, result.dtype.name), result.itemsize
        skipped = (result.data.ptr - result.data.mem.ptr) // size
        whole = lent[: lent.numel() // size * size].view(kind)
        made = whole.as_strided(result.shape, [s // size for s in result.strides], skipped)
    else:
        made = torch.from_dlpack(result)
    return made.view(torch.bfloat16) if sixteen else made


# What PyTorch has lent to CuPy in this call, by address.
LENT: ContextVar[dict[int, Any]] = ContextVar("lent", default={})  # noqa: B039


@contextmanager
def memory_of_torch(device: str) -> Iterator[None]:
    """CuPy's memory inside this block comes from PyTorch's pool, so that there is no second one."""
    import cupy

    torch, memory, lent = sys.modules["torch"], cupy.cuda.memory, {}

    def allocate(size: int, _: int) -> int:
        try:
            a = torch.empty(max(size, 1), dtype=torch.uint8, device=device)
        except torch.cuda.OutOfMemoryError as error:
            raise memory.OutOfMemoryError(size, torch.cuda.memory_allocated(device)) from error
        lent[a.data_ptr()] = a
        return int(a.data_ptr())

    def free(pointer: int, _: int) -> None:
        lent.pop(pointer, None)

    token = LENT.set(lent)
    try:
        with cupy.cuda.using_allocator(memory.PythonFunctionAllocator(allocate, free).malloc):
            yield
    finally:
        LENT.reset(token)
