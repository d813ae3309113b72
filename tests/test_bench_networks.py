"""`bench.full_networks`: what it says of a machine, and when a target is met."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest
from bench import full_networks as bench
from bench import gpu_networks

from deformable_convnets import gpu

PLAIN, OURS = (f"{bench.DEEPLAB}, {kind}, net forward" for kind in ("plain", "deformable"))


@pytest.mark.parametrize(
    ("seconds", "met"),
    [
        ({PLAIN: 1.5, OURS: 1.65, bench.TORCH: 1.0}, [True, True]),
        ({PLAIN: 1.51, OURS: 1.67, bench.TORCH: 1.0}, [False, False]),
        ({PLAIN: 1.0, OURS: 1.05}, [True]),
    ],
)
def test_targets(seconds: dict[str, float], met: list[bool]) -> None:
    assert [t["met"] for t in bench.targets(seconds)] == met


def test_the_rows_are_those_of_table_4() -> None:
    named = [row.name for row in bench.count.ROWS]
    assert set(bench.ROWS) <= set(named)
    assert bench.DEEPLAB in bench.ROWS


def test_the_kernels_have_a_name() -> None:
    assert bench.own_kernels().isalnum()


def test_on_a_gpu_the_operators_are_those_of_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}
    device = SimpleNamespace(synchronize=lambda: seen.setdefault("waited", True))
    cupy = SimpleNamespace(asarray="asarray", cuda=SimpleNamespace(Device=lambda: device))
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(gpu_networks.arrays, "cupy_missing", lambda: None)
    monkeypatch.setattr(
        gpu_networks.count, "main", lambda words, where: seen.update(words=words, where=where)
    )
    gpu_networks.main(["--rounds", "2"])
    seen["where"].wait()
    assert seen["words"] == ["--time", "--rounds", "2"]
    assert seen["where"][:2] == ("asarray", gpu)
    assert seen["waited"]


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_networks.arrays, "cupy_missing", lambda: "CuPy is not installed")
    with pytest.raises(SystemExit, match="cannot run on a GPU: CuPy is not installed"):
        gpu_networks.main([])
