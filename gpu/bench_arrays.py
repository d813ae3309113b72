"""How arrays reach and leave the contestants of `bench`, and how the memory of a call is measured.

The memory of a call is its workspace: the most that lives at once in it and did not before, less
its results. What cuBLAS and cuDNN take for themselves, outside CuPy's pool, is not seen there;
PyTorch's pool has what PyTorch gives to them.
"""

import gc
import tracemalloc
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from . import arrays

Call = Callable[[], dict[str, Any]]


class Arrays(NamedTuple):
    """Of one framework.

    take       an array of NumPy, of any of the dtypes, as one of its own
    workspace  the bytes of a call, by the method that `method` names
    """

    take: Callable[[Any], Any]
    workspace: Callable[[Call], int]
    method: str


def values(result: Any) -> Any:
    """A result in host memory, in float64."""
    return np.asarray(arrays.to_numpy(result)).astype(np.float64)


def size(results: Iterable[Any]) -> int:
    """Bytes of arrays."""
    described = [arrays.described(a) for a in results]
    return sum(int(np.prod(a.shape)) * a.dtype.itemsize for a in described)


def of_numpy() -> Arrays:
    def workspace(call: Call) -> int:
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            results = call()
            return tracemalloc.get_traced_memory()[1] - before - size(results.values())
        finally:
            tracemalloc.stop()

    return Arrays(lambda a: a, workspace, "tracemalloc")


class Living:
    """The bytes that live in a pool, and the most that ever did, by what it says of each array."""

    def __init__(self) -> None:
        self.sizes: dict[int, int] = {}
        self.now = self.most = 0

    def made(self, pointer: int, number: int) -> None:
        self.sizes[pointer] = number
        self.now += number
        self.most = max(self.most, self.now)

    def freed(self, pointer: int) -> None:
        """What lived before is not counted, so its end is not either."""
        self.now -= self.sizes.pop(pointer, 0)


def of_cupy() -> Arrays:
    import cupy

    class Hook(cupy.cuda.MemoryHook):  # type: ignore[misc]
        name = "workspace"

        def __init__(self) -> None:
            self.living = Living()

        def malloc_postprocess(self, **told: int) -> None:
            self.living.made(told["mem_ptr"], told["size"])

        def free_postprocess(self, **told: int) -> None:
            self.living.freed(told["mem_ptr"])

    def workspace(call: Call) -> int:
        gc.collect()
        with Hook() as hook:
            results = call()
        return int(hook.living.most) - size(results.values())

    def take(a: Any) -> Any:
        if a.dtype.name != "bfloat16":
            return cupy.asarray(a)
        return cupy.asarray(a.view(np.int16)).view(a.dtype)

    return Arrays(take, workspace, "bytes asked of CuPy's pool, by cupy.cuda.MemoryHook")


def of_numba() -> Arrays:
    """Numba has no pool: nothing is given back in the call, so this is a sum."""

    def workspace(call: Call) -> int:
        from .numba_kernels.shim import cuda

        gc.collect()
        context = cuda.current_context()
        cuda.synchronize()
        with cuda.defer_cleanup():
            before = context.get_memory_info()[0]
            results = call()
            cuda.synchronize()
            return int(before - context.get_memory_info()[0]) - size(results.values())

    return Arrays(arrays.to_numba, workspace, "memory of the device less after than before (a sum)")


def of_torch(device: str = "cuda") -> Arrays:
    torch = import_module("torch")

    def workspace(call: Call) -> int:
        gc.collect()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        results = call()
        torch.cuda.synchronize()
        return int(torch.cuda.max_memory_allocated()) - before - size(results.values())

    def take(a: Any) -> Any:
        if a.dtype.name != "bfloat16":
            return torch.from_numpy(np.ascontiguousarray(a)).to(device)
        return torch.from_numpy(a.view(np.int16)).view(torch.bfloat16).to(device)

    return Arrays(take, workspace, "torch.cuda.max_memory_allocated")


def cast(given: dict[str, Any], dtype: Any) -> dict[str, Any]:
    """The arrays rounded once to a dtype."""
    return {name: a.astype(dtype) for name, a in given.items()}


OF = {"cupy": of_cupy, "numba": of_numba}


def of_backend(name: str, *, toy: bool) -> Arrays:
    """The arrays that a backend of the registry is measured with."""
    return of_numpy() if toy or name not in OF else OF[name]()
