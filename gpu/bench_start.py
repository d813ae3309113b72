"""How long a process waits for its first calls, with no compiled kernel on the disk and with all.

`measured` starts this module twice, in processes of their own, with one new folder as the cache of
CuPy, Numba and this package: the first time it is empty (cold), the second time it is not (warm).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from typing import Any

CACHES = ("DEFORMABLE_CONVNETS_CACHE", "CUPY_CACHE_DIR", "NUMBA_CACHE_DIR", "CUDA_CACHE_PATH")


def measured(*, toy: bool, seconds: float) -> dict[str, Any]:
    """Milliseconds by name, "cold" and "warm"; or what went wrong."""
    command = [sys.executable, "-m", __name__] + (["--toy"] if toy else [])
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        caches = {name: os.path.join(folder, name.lower()) for name in CACHES}
        for state in ("cold", "warm"):
            try:
                done = subprocess.run(
                    command, env=os.environ | caches, capture_output=True, text=True, check=True,
                    timeout=seconds,
                )  # fmt: skip
                found[state] = json.loads(done.stdout.splitlines()[-1])
            except subprocess.CalledProcessError as error:
                said = (error.stderr or "").strip().splitlines() or [""]
                return found | {"failed": said[-1]}
            except (subprocess.TimeoutExpired, IndexError, ValueError) as error:
                return found | {"failed": f"{type(error).__name__}: {error}"}
    return found


def main(arguments: list[str] | None = None) -> None:
    """Prints the milliseconds of the imports and of the first and second calls, as JSON."""
    parser = argparse.ArgumentParser(prog=f"python -m {__name__}")
    parser.add_argument("--toy", action="store_true")
    toy = parser.parse_args(arguments).toy
    times: dict[str, float] = {}

    def timed(name: str, act: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = act()
        times[name] = 1000 * (time.perf_counter() - start)
        return result

    bench_cases, take, wait = timed("imports", _imports)
    shape = bench_cases.TOY if toy else bench_cases.SHAPES[0]
    host = bench_cases.problem(shape)
    given = timed("device", lambda: {name: take(a) for name, a in host.items()})
    from deformable_convnets import gpu

    def finished(call: Callable[[], Any]) -> None:
        call()
        wait()

    for part in (bench_cases.FORWARD, bench_cases.BACKWARD):
        case = bench_cases.Case("deform_conv2d", part, shape, "float32")
        call = bench_cases.call(gpu, case, given)
        for number in ("first", "second"):
            timed(f"{part}, {number} call", partial(finished, call))
    print(json.dumps(times))


def _imports() -> tuple[Any, Callable[[Any], Any], Callable[[], None]]:
    """The module of the cases, and how arrays reach the device and how it is waited for."""
    from . import arrays, bench_cases

    if arrays.cupy_missing() is not None:
        return bench_cases, lambda a: a, lambda: None
    import cupy

    return bench_cases, cupy.asarray, cupy.cuda.runtime.deviceSynchronize


if __name__ == "__main__":
    main()
