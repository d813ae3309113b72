"""How the fused kernel shares out a convolution: the size of its tiles, and parts of the sum.

A block makes a tile of `rows` output pixels x `columns` output channels. Which tile is best is
guessed from what a step of it costs; `dispatch.py` measures what the guess is worth.
"""

import math
from functools import lru_cache
from typing import Any, NamedTuple

STAGES = 3  # of the weights that a block holds: one is read while two are on their way
DEPTHS = (64, 32)  # bytes of channels that a step takes of a pixel
MOST_SUMS = 8
LEAST_STEPS = 8  # of one of several sums, or filling the stages costs more than it saves
SUMS_CLOCKS = 6000  # that it takes at least to add up several sums
LAUNCH_CLOCKS = 5000
LARGEST_SUMS = 2**30  # numbers, which 32 bits count
CLOCK_BYTES = 20  # that a multiprocessor moves in a clock, of those sums


class Tile(NamedTuple):
    """What a block makes, and how.

    rows, columns  output pixels and output channels
    down, across   its warps; each has rows / down x columns / across numbers
    resident       blocks that share a multiprocessor, which bounds the registers of a thread
    clocks         of a multiprocessor of an H100 for a step of 64 bytes of channels, estimated: the
                   most that its instructions, its products or its shared memory take
    """

    rows: int
    columns: int
    down: int
    across: int
    resident: int
    clocks: int

    @property
    def threads(self) -> int:
        return 32 * self.down * self.across

    def block_bytes(self, K: int, depth_bytes: int) -> int:
        """Shared memory: columns twice, weights in stages, and 20 bytes for each tap and pixel."""
        row = depth_bytes + 16
        return row * (2 * self.rows + STAGES * self.columns) + 20 * K * self.rows


# By the numbers that a product has for each operand: 2 is "exact" in float32
TILES = {
    1: (
        Tile(128, 256, 2, 4, 1, 960),
        Tile(128, 128, 2, 4, 1, 800),
        Tile(64, 128, 2, 4, 2, 480),
        Tile(64, 64, 2, 4, 2, 380),
    ),
    2: (
        Tile(128, 128, 2, 4, 1, 1240),
        Tile(64, 128, 2, 4, 1, 650),
        Tile(64, 64, 2, 4, 2, 440),
    ),
}


class Task(NamedTuple):
    """What a plan depends on.

    operands          numbers of a product for each of its factors
    I, O              channels of a weight group, and its output channels
    per_offset_group  channels
    image_bytes       of a copy of an image, 0 if x is used as it is
    """

    itemsize: int
    operands: int
    N: int
    S: int
    I: int
    O: int
    K: int
    groups: int
    per_offset_group: int
    image_bytes: int


class Plan(NamedTuple):
    """The tile, the bytes of channels of a step, into how many sums each is split, and images."""

    tile: Tile
    depth_bytes: int
    sums: int
    images: int  # of a launch


def plan(device: Any, task: Task, limit: int) -> Plan | None:
    """What is estimated to be fastest in `limit` bytes, if possible; None if no tile fits."""
    return _plan(device.tiles[task.operands], device.processors, device.block_bytes, task, limit)


@lru_cache(maxsize=1024)
def _plan(offered: tuple[Tile, ...], processors: int, block_bytes: int, task: Task,
          limit: int) -> Plan | None:  # fmt: skip
    whole = math.gcd(task.I, task.per_offset_group) * task.itemsize
    depth_bytes = next((size for size in DEPTHS if whole % size == 0), None)
    if depth_bytes is None:
        return None
    costs = {}
    for tile in offered:
        if tile.block_bytes(task.K, depth_bytes) <= block_bytes:
            images, most = _room(task, tile, depth_bytes, limit)
            for sums in range(1, most + 1):
                of = Plan(tile, depth_bytes, sums, images)
                costs[of] = _clocks(processors, task, of)
    return min(costs, key=costs.__getitem__) if costs else None


def _room(task: Task, tile: Tile, depth_bytes: int, limit: int) -> tuple[int, int]:
    """Images of a launch, and into how many sums each sum can be split there."""
    columns = -(-task.O // tile.columns) * tile.columns * task.groups
    rest = max(limit - columns * task.I * task.K * task.itemsize, 0)
    images = task.N
    if task.image_bytes:
        images = min(max(rest // task.image_bytes, 1), task.N)
    rest = min(rest - images * task.image_bytes, 4 * LARGEST_SUMS)
    chunks = task.I * task.itemsize // depth_bytes
    fitting = rest // (4 * images * task.S * task.O * task.groups)
    return images, max(min(MOST_SUMS, chunks, chunks * task.K // LEAST_STEPS, fitting), 1)


def _clocks(processors: int, task: Task, of: Plan) -> float:
    """An estimate for all launches."""
    pixels, launches = of.images * task.S, -(-task.N // of.images)
    blocks = -(-pixels // of.tile.rows) * -(-task.O // of.tile.columns) * task.groups * of.sums
    steps = -(-(task.I * task.itemsize // of.depth_bytes) // of.sums) * task.K
    clocks = -(-blocks // processors) * steps * of.tile.clocks * of.depth_bytes / 64
    if of.sums > 1:
        moved = 4 * (of.sums + 1) * pixels * task.O * task.groups
        clocks += SUMS_CLOCKS + moved / processors / CLOCK_BYTES
    return launches * (LAUNCH_CLOCKS + clocks)
