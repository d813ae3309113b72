"""How the benchmark of the kernels takes times and memory: made-up clocks, calls and pools.

Nothing here depends on how fast the machine is.
"""

import time

import numpy as np
import pytest

from deformable_convnets.gpu import bench_arrays, bench_measure, clocks
from deformable_convnets.gpu.bench_measure import Entrant, Limits

ARRAYS = bench_arrays.of_numpy()


class Device:
    """A clock whose times are those that the calls bring: call.ms, and call.device_ms on device."""

    def __init__(self):
        self.asked, self.waits = [], 0
        self.clock = clocks.Clock("made up", "made up", self.time, self.wait)

    def time(self, call, ahead):
        self.asked.append((call.name, ahead))
        call()
        return call.device_ms if ahead else call.ms

    def wait(self):
        self.waits += 1


class Call:
    """Returns a number; takes `ms`, a list to be gone through, or always the last of it."""

    def __init__(self, name, *ms, device_ms=1.0, fails_at=None):
        self.name, self.times, self.device_ms, self.calls = name, list(ms), device_ms, 0
        self.fails_at = fails_at

    @property
    def ms(self):
        return self.times.pop(0) if len(self.times) > 1 else self.times[0]

    def __call__(self):
        self.calls += 1
        if self.calls == self.fails_at:
            raise ValueError("a mistake\nin two lines")
        return {"y": np.zeros(3)}


def raced(*calls, workspace=lambda call: 7, **limits):
    device = Device()
    entrants = {c.name: lambda c=c: Entrant(c, workspace) for c in calls}
    return device, bench_measure.race(device.clock, entrants, Limits(**limits))


def test_a_race_gives_medians_quartiles_and_memory():
    _, rows = raced(Call("a", 1.0, 2.0, 3.0, 4.0, 10.0), rounds=5)
    row = rows["a"]
    assert (row["median_ms"], row["least_ms"], row["device_ms"]) == (3.0, 1.0, 1.0)
    assert row["quartiles_ms"] == [2.0, 4.0]
    assert (row["rounds"], row["workspace_bytes"]) == (5, 7)
    assert row["first_ms"] >= 0
    assert row["second_ms"] >= 0


def test_contestants_take_turns():
    device, _ = raced(Call("a", 1.0), Call("b", 1.0), rounds=2)
    assert [name for name, _ in device.asked] == ["a", "a", "b", "b"] * 2
    assert [ahead > 0 for _, ahead in device.asked] == [False, True] * 4


def test_one_that_fails_does_not_stop_the_others():
    _, rows = raced(
        Call("a", 1.0, fails_at=1), Call("b", 2.0), Call("c", 3.0, fails_at=4), rounds=3
    )
    assert rows["a"]["failed"] == "ValueError: a mistake"
    assert "median_ms" not in rows["a"]
    assert rows["b"]["median_ms"] == 2.0
    assert rows["c"]["failed"] == "ValueError: a mistake"


def test_one_that_cannot_be_prepared_is_a_failure():
    def prepared():
        raise MemoryError("no room")

    rows = bench_measure.race(Device().clock, {"a": prepared}, Limits())
    assert rows["a"] == {"failed": "MemoryError: no room"}


def test_a_device_that_is_lost_is_said_to_be():
    device = Device()

    def wait():
        raise OSError("gone")

    clock = device.clock._replace(wait=wait)
    rows = bench_measure.race(clock, {"a": lambda: Entrant(Call("a", 1.0), lambda c: 0)}, Limits())
    assert rows["a"]["failed"] == "OSError: gone; then OSError"


def test_memory_that_cannot_be_measured_leaves_the_times():
    def workspace(call):
        raise OSError("no hook")

    _, rows = raced(Call("a", 1.0), workspace=workspace, rounds=1)
    assert rows["a"]["workspace_failed"] == "OSError: no hook"
    assert rows["a"]["median_ms"] == 1.0
    assert "workspace_bytes" not in rows["a"]


def test_a_slow_call_is_not_repeated():
    call = Call("a", 1.0)
    _, rows = raced(call, rounds=9, call=0.0)
    assert rows["a"]["failed"].startswith("TimeoutError: a call took ")
    assert call.calls == 2


def test_a_case_ends_after_its_time_but_not_before_three_rounds():
    _, rows = raced(Call("a", 1.0), rounds=50, case=0.0)
    assert rows["a"]["rounds"] == bench_measure.LEAST_ROUNDS


def test_a_call_is_interrupted():
    with pytest.raises(TimeoutError, match=r"longer than 0\.01 seconds"), clocks.at_most(0.01):
        time.sleep(20)
    with clocks.at_most(20):
        assert True  # and the alarm is off afterwards


def test_work_is_put_before_a_call():
    """Five milliseconds ahead, each fill takes two: three more than the one that is always made."""
    log, now = [], [0.0]

    def act(name, ms):
        log.append(name)
        now[0] += ms

    def record():
        log.append("event")
        return now[0]

    events = clocks.Events(
        lambda: act("fill", 2.0), record, lambda a, b: b - a, lambda: act("wait", 0)
    )
    timed = clocks.by_events(events)
    log.clear()
    assert timed(lambda: act("call", 7.0), 5.0) == 7.0
    assert log == ["fill"] * 4 + ["event", "call", "event"]
    log.clear()
    assert timed(lambda: act("call", 7.0), 0.0) == 7.0
    assert log == ["fill", "wait", "event", "call", "event"]


def test_living_memory_counts_the_most_at_once():
    living = bench_arrays.Living()
    living.freed(99)  # lived before
    living.made(1, 10)
    living.made(2, 20)
    living.freed(1)
    living.made(3, 5)
    assert (living.now, living.most) == (25, 30)


def test_workspace_is_the_peak_less_the_results():
    def call():
        big = np.ones(2**20)
        return {"y": big[:1000].copy()}

    used = ARRAYS.workspace(call)
    assert 2**23 <= used < 2**23 + 2**16
    assert ARRAYS.workspace(lambda: {"y": np.ones(2**20)}) < 2**16
