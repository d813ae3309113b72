"""Launch arithmetic for the Numba kernels: how many threads, on which stream, doing what.

Every kernel is a grid-stride loop over the numbers of its result, so that any number of threads is
right, and each number is written by one thread:

    for t in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        n, o, oy, ox = index(t, y.shape)

On a GPU there is a thread per number. The simulator runs each CUDA thread as a Python thread, so
there it gets two blocks of two threads, enough to exercise the loop.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from deformable_convnets.reference.geometry import AnyGeometry

from .shim import SIMULATED, cuda

THREADS = 2 if SIMULATED else 256
BLOCKS = 2 if SIMULATED else 2**20

_stream: ContextVar[Any] = ContextVar("stream", default=0)


@contextmanager
def on_stream(stream: Any) -> Iterator[None]:
    """Launches inside this block go to `stream`, a Numba stream or 0, the default one."""
    token = _stream.set(stream)
    try:
        yield
    finally:
        _stream.reset(token)


def stream() -> Any:
    """The stream of the launches, a Numba stream or 0."""
    return _stream.get()


def launch(kernel: Any, size: int, *arguments: Any) -> None:
    """Runs `kernel` so that its grid-stride loop covers `size` numbers; size 0 runs nothing."""
    if size > 0:
        blocks = min((size + THREADS - 1) // THREADS, BLOCKS)
        kernel[blocks, min(THREADS, size), stream()](*arguments)


def empty(shape: tuple[int, ...], dtype: Any) -> Any:
    """A new device array, not initialised, that belongs to the stream of the launches."""
    return cuda.device_array(tuple(shape), np.dtype(dtype), stream=stream())


def zeros(shape: tuple[int, ...], dtype: Any) -> Any:
    """A new device array of zeros, written on the stream of the launches."""
    a = empty(shape, dtype)
    flat = a.reshape(a.size)
    launch(fill, a.size, flat, flat.dtype.type(0))
    return a


def rounded(a: Any, dtype: Any) -> Any:
    """A contiguous `a` in `dtype`: itself, or a copy that is rounded once."""
    if a.dtype == dtype:
        return a
    result = empty(a.shape, dtype)
    launch(copy, a.size, a, result.reshape(a.size))
    return result


def zero(dtype: Any) -> Any:
    """0 in the dtype of the arithmetic: float32 for float16, else `dtype`.

    Kernels take it as an argument and make all their constants of its type. A bare 1 beside a
    float32 is an int64 to Numba, and the two together a float64.
    """
    return np.float64(0) if dtype == np.float64 else np.float32(0)


def optional(a: Any, ndim: int, dtype: Any) -> tuple[Any, bool]:
    """An argument that may be None: an array, as kernels take no None, and whether to read it."""
    return (empty((1,) * ndim, dtype), False) if a is None else (a, True)


def reshaped(a: Any, shape: tuple[int, ...]) -> Any:
    """A view of another shape; of what is not contiguous a copy, made by the device."""
    if not a.is_c_contiguous():
        contiguous = empty((a.size,), a.dtype)
        launch(copy, a.size, a, contiguous)
        a = contiguous
    return a.reshape(*shape).bind(stream())  # Numba's reshape forgets the stream


def grid_of(geometry: AnyGeometry) -> tuple[int, ...]:
    """The whole-number part of p along every axis, p0 stride - padding + p_n dilation."""
    before = (first for first, _ in geometry.padding)
    return (*geometry.stride, *before, *geometry.dilation)


@cuda.jit
def fill(a, value):  # type: ignore[no-untyped-def]
    """a[t] = value."""
    for t in range(cuda.grid(1), a.size, cuda.gridsize(1)):
        a[t] = value


@cuda.jit
def copy(a, result):  # type: ignore[no-untyped-def]
    """result[t] is number t of `a` in C order, whatever its strides, in the dtype of result."""
    for t in range(cuda.grid(1), a.size, cuda.gridsize(1)):
        result[t] = a.flat[t]


@cuda.jit(device=True)
def index(t, shape):  # type: ignore[no-untyped-def]
    """The four indices of number t of an array of that shape, in C order."""
    rest, i3 = t // shape[3], t % shape[3]
    rest, i2 = rest // shape[2], rest % shape[2]
    return rest // shape[1], rest % shape[1], i2, i3
