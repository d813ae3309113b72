"""`bench.full_networks`: what it says of a machine, and when a target is met."""

import pytest
from bench import full_networks as bench

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
