"""One case of `bench`: all contestants in turn, so that a device that slows down slows all of them.

Of each contestant: its first call, which compiles, and its second, by the wall clock; the memory of
a call; whether it is right; then in every round one time of the call and one on the device (see
`clocks`).
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from .clocks import Clock, at_most

Row = dict[str, Any]
LEAST_ROUNDS = 3


class Limits(NamedTuple):
    """rounds; seconds of all rounds of a case together, but for the first three; and of one call.

    first  seconds of a first call
    """

    rounds: int = 20
    case: float = 2.5
    call: float = 3.0
    first: float = 60.0


class Entrant(NamedTuple):
    """A contestant with its arrays, ready for one case.

    wrong  what is wrong with its results there, or None: then it is timed
    """

    call: Callable[[], dict[str, Any]]
    workspace: Callable[[Callable[[], dict[str, Any]]], int]
    wrong: Callable[[], str | None] = lambda: None


def race(
    clock: Clock, entrants: dict[str, Callable[[], Entrant]], limits: Limits
) -> dict[str, Row]:
    """By name: its times in milliseconds and its workspace in bytes, or why there are none."""
    rows: dict[str, Row] = {name: {} for name in entrants}
    ready: dict[str, Entrant] = {}

    def enter(name: str) -> None:
        ready[name] = entrants[name]()
        _warm_up(clock, ready[name], rows[name], limits)
        reason = ready[name].wrong()
        if reason is not None:
            rows[name]["wrong"] = reason
            raise RuntimeError(reason)

    def turn(name: str) -> None:
        times[name].append(_once(clock, ready[name], rows[name]))

    running = [n for n in entrants if _tried(clock, rows[n], partial(enter, n), limits)]
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in running}
    start = time.monotonic()
    for number in range(limits.rounds):
        if number >= LEAST_ROUNDS and time.monotonic() - start > limits.case:
            break
        running = [n for n in running if _tried(clock, rows[n], partial(turn, n), limits)]
    for name in running:
        rows[name] |= _statistics(times[name])
    return rows


def _tried(clock: Clock, row: Row, act: Callable[[], Any], limits: Limits) -> bool:
    """Whether it went well; if not, the row says why."""
    try:
        with at_most(limits.first):
            act()
        return True
    except Exception as error:  # whatever a contestant raises is a result
        said = str(error).strip().splitlines() or [""]
        row["failed"] = f"{type(error).__name__}: {said[0][:200]}"
    try:
        clock.wait()
    except Exception as error:  # a device that is lost is seen again by the next contestant
        row["failed"] += f"; then {type(error).__name__}"
    return False


def _warm_up(clock: Clock, entrant: Entrant, row: Row, limits: Limits) -> None:
    """The first and the second call, the time until a call returns, and the workspace."""
    row["first_ms"] = _wall(clock, entrant.call)
    row["second_ms"] = _wall(clock, entrant.call)
    if row["second_ms"] > 1000 * limits.call:
        raise TimeoutError(f"a call took {row['second_ms']:.0f} ms, the limit is {limits.call:g} s")
    row["host_ms"] = _returned(clock, entrant.call)
    try:
        row["workspace_bytes"] = max(entrant.workspace(entrant.call), 0)
    except Exception as error:  # its times are still good
        row["workspace_failed"] = f"{type(error).__name__}: {error}"


def _wall(clock: Clock, call: Callable[[], Any]) -> float:
    """Milliseconds until its results are there."""
    clock.wait()
    start = time.perf_counter()
    result = call()
    clock.wait()
    taken = 1000 * (time.perf_counter() - start)
    del result
    return taken


def _returned(clock: Clock, call: Callable[[], Any]) -> float:
    """Milliseconds until it returns, its kernels perhaps still to run."""
    clock.wait()
    start = time.perf_counter()
    result = call()
    taken = 1000 * (time.perf_counter() - start)
    clock.wait()
    del result
    return taken


def _once(clock: Clock, entrant: Entrant, row: Row) -> tuple[float, float]:
    """Milliseconds of the call, and on the device."""
    return clock.time(entrant.call, 0.0), clock.time(entrant.call, 1.5 * row["host_ms"] + 0.05)


def _statistics(times: list[tuple[float, float]]) -> Row:
    """Medians, the quartiles of the call, and its least."""
    if not times:
        return {"failed": "no round was timed"}
    calls, device = np.array(times).T
    low, median, high = (float(q) for q in np.quantile(calls, (0.25, 0.5, 0.75)))
    return {
        "median_ms": median, "quartiles_ms": [low, high], "least_ms": float(calls.min()),
        "device_ms": float(np.median(device)), "rounds": len(times),
    }  # fmt: skip
