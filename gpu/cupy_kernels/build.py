"""What a kernel is compiled for: the types, the width of a load, and shapes that are known."""

import math
from typing import Any, NamedTuple

import numpy as np

C_NAMES = {"float16": "half", "bfloat16": "bfloat16", "float32": "float", "float64": "double"}
WARP = 32


class Build(NamedTuple):
    """The macros of `numbers.cuh` and `deform_conv.cu`.

    dtype      T, of the arrays
    positions  P, of offset and rois
    vec        VEC, numbers that a thread reads at once
    lanes      LANES, threads that share a point; a power of two up to a warp
    wide       whether Index has 64 bits
    fixed      C, I, G and K where the kernel is compiled for one shape
    pooling    RULE, SAMPLES and CHANNELS, the same for RoI pooling
    more       macros of one kernel, by name, such as the size of its tiles
    block_bytes  BLOCK_BYTES, of the shared memory that a launch asks for
    """

    dtype: str
    positions: str
    vec: int
    lanes: int = 1
    wide: bool = False
    fixed: tuple[int, int, int, int] | None = None
    pooling: tuple[int, int, int] | None = None
    more: tuple[tuple[str, int], ...] = ()
    block_bytes: int = 0

    @property
    def arithmetic(self) -> Any:
        """A, the dtype of all sums and coordinates."""
        return np.dtype("float64" if self.dtype == "float64" else "float32")

    @property
    def index(self) -> Any:
        """Index, as NumPy's type."""
        return np.int64 if self.wide else np.int32

    @property
    def index_bytes(self) -> int:
        return 8 if self.wide else 4

    def plain(self) -> "Build":
        """What matters to `layout.cu`: the types."""
        return Build(self.dtype, self.dtype, vec=1, wide=self.wide)

    def macros(self) -> dict[str, str]:
        """For the compiler, by name."""
        named = {
            "OF_MEMORY": C_NAMES[self.dtype],
            "OF_POSITIONS": C_NAMES[self.positions],
            "OF_ARITHMETIC": C_NAMES[self.arithmetic.name],
            "OF_INDICES": "long long" if self.wide else "int",
            "VEC": str(self.vec),
            "LANES": str(self.lanes),
        }
        for name, value in zip("CIGK", self.fixed or (), strict=bool(self.fixed)):
            named[f"FIXED_{name}"] = str(value)
        of_pooling = zip(("RULE", "SAMPLES", "CHANNELS"), self.pooling or (), strict=False)
        named |= {f"FIXED_{name}": str(value) for name, value in of_pooling}
        if self.block_bytes:
            named["BLOCK_BYTES"] = str(self.block_bytes)
        return named | {name: str(value) for name, value in self.more}


def build(dtype: Any, positions: Any, channels: int) -> Build:
    """The build for arrays of these dtypes, of which `channels` neighbours can be read at once."""
    widest = 16 // dtype.itemsize
    return Build(dtype.name, positions.name, math.gcd(channels, widest))


def lanes_for(vectors: int, device: Any) -> int:
    """Threads that share a point of so many vectors: the next power of two, at most a warp."""
    return min(1 << max(vectors - 1, 0).bit_length(), device.most_lanes)
