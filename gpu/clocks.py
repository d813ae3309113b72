"""How `bench` measures: clocks, the ceilings of the device, and torchvision.

Every timed call is preceded by a write of more memory than the L2 cache holds, so that no run finds
the arrays of the one before. Frameworks are imported by the functions that measure them.
"""

import time
from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from . import arrays

SLOW_MS = 1000  # what takes longer than this is repeated three times only


class Clock(NamedTuple):
    """`time` gives the milliseconds of one call, `take` makes the arrays it is called with."""

    device: str
    kind: str
    time: Callable[[Callable[[], Any]], float]
    take: Callable[[Any], Any]


def clock(*, toy: bool) -> Clock | None:
    """Events of CuPy or else of Numba; the wall clock for --toy; None where there is no device."""
    if toy:
        return Clock("toy", "wall clock", _wall_time, lambda a: a)
    if arrays.cupy_missing() is None:
        return _cupy_clock()
    if arrays.numba_missing() is None and not arrays.simulated():
        return _numba_clock()
    return None


def _wall_time(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - start)


def _cupy_clock() -> Clock:
    import cupy

    number = cupy.cuda.Device().id
    properties = cupy.cuda.runtime.getDeviceProperties(number)
    cache = cupy.zeros(max(4 * int(properties.get("l2CacheSize", 0)), 2**28), dtype=cupy.uint8)

    def timed(call: Callable[[], Any]) -> float:
        cache.fill(1)
        start, end = cupy.cuda.Event(), cupy.cuda.Event()
        start.record()
        result = call()
        end.record()
        end.synchronize()
        del result
        return float(cupy.cuda.get_elapsed_time(start, end))

    return Clock(properties["name"].decode(), "CuPy events", timed, cupy.asarray)


def _numba_clock() -> Clock:
    from .numba_kernels import launch
    from .numba_kernels.shim import cuda

    cache = launch.empty((2**26,), np.float32)

    def timed(call: Callable[[], Any]) -> float:
        launch.launch(launch.fill, cache.size, cache, np.float32(1))
        start, end = cuda.event(), cuda.event()
        start.record()
        result = call()
        end.record()
        end.synchronize()
        del result
        return float(cuda.event_elapsed_time(start, end))

    name = cuda.get_current_device().name
    name = name.decode() if isinstance(name, bytes) else str(name)
    return Clock(name, "Numba events", timed, arrays.to_numba)


def measured(clock: Clock, call: Callable[[], Any], repeats: int) -> dict[str, float]:
    """Two runs to warm up, the first of which compiles, then median and least of `repeats`."""
    clock.time(call)
    if clock.time(call) > SLOW_MS:
        repeats = min(repeats, 3)
    times = [clock.time(call) for _ in range(repeats)]
    return {"median_ms": float(np.median(times)), "min_ms": min(times), "repeats": repeats}


def matmul_and_copy(clock: Clock, m: int, k: int, n: int, repeats: int) -> dict[str, Any]:
    """The ceilings: GB/s of a copy, and TFLOP/s of a float32 product of m k and k n numbers."""
    if clock.kind != "CuPy events":
        return {"missing": "CuPy, whose copy and matrix product are the ceilings"}
    import cupy

    source = cupy.ones(2**28, dtype=cupy.float32)
    target = cupy.empty_like(source)
    copy = measured(clock, lambda: cupy.copyto(target, source), repeats)
    weight = cupy.ones((m, k), dtype=cupy.float32)
    columns = cupy.ones((k, n), dtype=cupy.float32)
    product = measured(clock, lambda: cupy.matmul(weight, columns), repeats)
    return {
        "copy_GB_per_s": 2 * source.nbytes / copy["min_ms"] / 1e6,
        "matmul_TFLOP_per_s": 2 * m * k * n / product["min_ms"] / 1e9,
        "matmul": product,
    }


def torchvision(arrays: dict[str, Any], dilation: int, repeats: int) -> dict[str, Any]:
    """torchvision.ops.deform_conv2d on the same arrays, with TF32 off, by PyTorch's events.

    Its backward pass computes all gradients.
    """
    try:
        torch, ops = import_module("torch"), import_module("torchvision.ops")
    except ImportError as error:
        return {"missing": str(error)}
    if not torch.cuda.is_available():
        return {"missing": "PyTorch finds no CUDA device"}
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    given = {name: torch.from_numpy(a).cuda() for name, a in arrays.items()}
    grad_output = given.pop("grad_output")
    cache = torch.empty(2**26, device="cuda")

    def forward() -> Any:
        return ops.deform_conv2d(
            given["x"], given["offset"], given["weight"],
            padding=dilation, dilation=dilation,
        )  # fmt: skip

    def timed(call: Callable[[], Any]) -> float:
        cache.fill_(1)
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end))

    events = Clock("", "PyTorch events", timed, lambda a: a)
    rows = {"forward": measured(events, forward, repeats)}
    leaves = [a.requires_grad_() for a in given.values()]
    y = forward()

    def backward() -> Any:
        return torch.autograd.grad(y, leaves, grad_output, retain_graph=True)

    return rows | {"backward": measured(events, backward, repeats)}
