"""How `bench` takes times: one clock for all contestants of a run, and what bounds a call.

Before every timed call more memory than the L2 cache holds is overwritten, so that no call finds
the arrays of the one before. Two times are taken of a call, by events of the device:

    the call     from a device that waits; Python, the checks and the launches are in it
    on device    with so much work queued before it that Python is ahead; that of the kernels alone,
                 unless the call itself waits for the device, as RoI pooling does

CuPy, Numba and PyTorch launch on the same stream, the legacy default one, so one clock serves all.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from . import arrays

Call = Callable[[], Any]
MOST_FILLS = 200  # that are queued before a call


class Clock(NamedTuple):
    """`time(call, ahead)` gives the milliseconds of one call; `wait` waits for the device.

    ahead  milliseconds of work that the device has to do before the call; 0: it waits
    """

    device: str
    kind: str
    time: Callable[[Call, float], float]
    wait: Callable[[], None]


def clock(*, toy: bool) -> Clock | None:
    """Events of CuPy or else of Numba; the wall clock for --toy; None where there is no device."""
    if toy:
        return Clock("toy", "wall clock", lambda call, ahead: _wall(call), lambda: None)
    if arrays.cupy_missing() is None:
        return _cupy_clock()
    if arrays.numba_missing() is None and not arrays.simulated():
        return _numba_clock()
    return None


def _wall(call: Call) -> float:
    start = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - start)


class Events(NamedTuple):
    """What a framework does for a clock."""

    fill: Call  # overwrites the L2 cache, without waiting
    record: Call  # returns an event
    elapsed: Callable[[Any, Any], float]  # milliseconds between two, once the second has happened
    wait: Call


def by_events(events: Events) -> Callable[[Call, float], float]:
    """The method `time` of a clock."""

    def fills(number: int) -> float:
        start = events.record()
        for _ in range(number):
            events.fill()
        return events.elapsed(start, events.record()) / number

    fills(3)
    one = max(fills(10), 1e-3)

    def timed(call: Call, ahead: float) -> float:
        for _ in range(1 + min(int(np.ceil(ahead / one)), MOST_FILLS)):
            events.fill()
        if not ahead:
            events.wait()
        start = events.record()
        result = call()
        taken = events.elapsed(start, events.record())
        del result
        return taken

    return timed


def _cupy_clock() -> Clock:
    import cupy

    number = cupy.cuda.Device().id
    properties = cupy.cuda.runtime.getDeviceProperties(number)
    cache = cupy.zeros(max(4 * int(properties.get("l2CacheSize", 0)), 2**28), dtype=cupy.uint8)

    def record() -> Any:
        event = cupy.cuda.Event()
        event.record()
        return event

    def elapsed(start: Any, end: Any) -> float:
        end.synchronize()
        return float(cupy.cuda.get_elapsed_time(start, end))

    wait = cupy.cuda.runtime.deviceSynchronize
    timed = by_events(Events(lambda: cache.fill(1), record, elapsed, wait))
    return Clock(properties["name"].decode(), "CuPy events", timed, wait)


def _numba_clock() -> Clock:
    from .numba_kernels import launch
    from .numba_kernels.shim import cuda

    cache = launch.empty((2**26,), np.float32)

    def record() -> Any:
        event = cuda.event()
        event.record()
        return event

    def elapsed(start: Any, end: Any) -> float:
        end.synchronize()
        return float(cuda.event_elapsed_time(start, end))

    def fill() -> None:
        launch.launch(launch.fill, cache.size, cache, np.float32(1))

    name = cuda.get_current_device().name
    name = name.decode() if isinstance(name, bytes) else str(name)
    timed = by_events(Events(fill, record, elapsed, cuda.synchronize))
    return Clock(name, "Numba events", timed, cuda.synchronize)


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raises TimeoutError in a block that takes longer, once Python has its turn.

    A kernel is not stopped. Only in the main thread of a system with signals; elsewhere no limit.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGALRM"):
        yield
        return

    def late(*_: Any) -> None:
        raise TimeoutError(f"it took longer than {seconds:g} seconds")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def matmul_and_copy(clock: Clock, m: int, k: int, n: int, repeats: int) -> dict[str, Any]:
    """The ceilings: GB/s of a copy, and TFLOP/s of a float32 product of m k and k n numbers."""
    if clock.kind != "CuPy events":
        return {"missing": "CuPy, whose copy and matrix product are the ceilings"}
    import cupy

    def least(call: Call) -> float:
        return min([clock.time(call, 1.0) for _ in range(repeats + 2)][2:])

    source = cupy.ones(2**28, dtype=cupy.float32)
    target = cupy.empty_like(source)
    copy = least(lambda: cupy.copyto(target, source))
    rng = np.random.default_rng(0)  # not zeros, which are multiplied faster
    weight = cupy.asarray(rng.standard_normal((m, k), np.float32))
    columns = cupy.asarray(rng.standard_normal((k, n), np.float32))
    product = least(lambda: cupy.matmul(weight, columns))
    return {
        "copy_GB_per_s": 2 * source.nbytes / copy / 1e6,
        "matmul_TFLOP_per_s": 2 * m * k * n / product / 1e9,
        "matmul": [m, k, n],
    }
