"""Planes and rows: N C H W arrays, and the same channels last, a pixel a row, as kernels read it.

An array that is channels last in memory is used as it is. `layout.cu` has the kernels.
"""

import math
from typing import Any

import numpy as np

from .build import Build

TILE = 32
ACROSS, DOWN = 8, 64  # threads of a block that sums rows
LAYOUT = np.dtype([("C", np.int32), ("S", np.int32), ("G", np.int32)])
WIDE_LAYOUT = np.dtype([("C", np.int64), ("S", np.int64), ("G", np.int64)])


def is_rows(a: Any) -> bool:
    """Whether an N C ... array is channels last in memory."""
    return bool(_channels_last(a).flags.c_contiguous)


def is_read_as_it_is(device: Any, a: Any) -> bool:
    """Whether kernels can read it as rows without a copy: their loads are of 16 bytes."""
    return is_rows(a) and device.address(a) % 16 == 0


def turnable(device: Any, planes: Any) -> Any:
    """The array itself if it is C-ordered or channels last, else a copy."""
    return planes if is_rows(planes) else device.packed(planes)


def rows(device: Any, planes: Any, build: Build, groups: int = 1) -> Any:
    """N C ... as (N ...) C: a view of what is channels last, a copy of what is not.

    groups  channel o groups + g becomes column g C / groups + o, for position-sensitive maps
    """
    return rows_of(device, planes, build, 0, _size(planes) // planes.shape[1], groups)


def rows_of(device: Any, planes: Any, build: Build, first: int, count: int, groups: int = 1, *,
            wide: bool = False) -> Any:  # fmt: skip
    """`count` rows from `first` on; `wide`: as numbers of the dtype of the sums."""
    C, wide = planes.shape[1], wide and planes.dtype != build.arithmetic
    if groups == 1 and not wide and is_read_as_it_is(device, planes):
        return _channels_last(planes).reshape(-1, C)[first : first + count]
    planes, kernel = device.packed(planes), "to_wide_rows" if wide else "to_rows"
    result = device.empty((count, C), build.arithmetic if wide else planes.dtype)
    _turn(device, kernel, build, count, C, planes, result, _layout(planes, build, groups),
          build.index(first), build.index(count))  # fmt: skip
    return result


def put_rows(device: Any, rows: Any, planes: Any, build: Build, *, bias: Any = None,
             first: int = 0, groups: int = 1) -> None:  # fmt: skip
    """Writes rows, and a bias per channel, to the pixels of an N C ... array from `first` on."""
    by_rows = not planes.flags.c_contiguous
    kernel = "to_planes" if rows.dtype == planes.dtype else "from_wide_rows"
    _turn(device, kernel, build, len(rows), planes.shape[1], rows, device.packed(bias), planes,
          _layout(planes, build, groups), build.index(first), build.index(len(rows)),
          np.int32(by_rows))  # fmt: skip


def add_rows(device: Any, rows: Any, total: Any, build: Build) -> None:
    """Adds the sum of all rows to `total`, in a fixed order."""
    count, C = rows.shape
    device.run_blocks("layout.cu", "sum_rows", build.plain(), -(-C // ACROSS), (ACROSS, DOWN), rows,
                      total, build.index(C), build.index(count))  # fmt: skip


def empty_like(device: Any, x: Any, shape: tuple[int, ...]) -> Any:
    """A new N C ... array, channels last in memory if x is, else in C order."""
    N, C, *size = shape
    if x.flags.c_contiguous or not is_rows(x):
        return device.empty(shape, x.dtype)
    return device.empty((N, *size, C), x.dtype).transpose(0, -1, *range(1, 1 + len(size)))


def _channels_last(a: Any) -> Any:
    return a.transpose(0, *range(2, a.ndim), 1)


def _layout(planes: Any, build: Build, groups: int) -> Any:
    values = planes.shape[1], _size(planes) // planes.shape[0] // planes.shape[1], groups
    return np.array(values, WIDE_LAYOUT if build.wide else LAYOUT)


def _size(a: Any) -> int:
    return math.prod(a.shape)


def _turn(device: Any, kernel: str, build: Build, count: int, C: int, *arguments: Any) -> None:
    tiles = -(-count // TILE) * -(-C // TILE)
    device.run_blocks("layout.cu", kernel, build.plain(), tiles, (TILE, 8), *arguments)
