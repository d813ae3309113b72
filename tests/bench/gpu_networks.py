"""Table 4 on a GPU: `make bench-networks-gpu`.

The paper's networks at full size, plain and deformable in turn, as `count --time` runs them on a
CPU: the same networks, with their arrays on the device and the operators of `gpu`. Their plain
convolutions are products of cuBLAS: of columns, or of the map itself where the kernel is 1 x 1. Not
run on a GPU so far.
"""

import sys
from collections.abc import Sequence

from deformable_convnets import gpu
from deformable_convnets.gpu import arrays
from deformable_convnets.reference.networks import count
from deformable_convnets.reference.networks.device import Where


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the seconds; the options are --size and --rounds of `count`."""
    given = sys.argv[1:] if arguments is None else arguments
    reason = arrays.cupy_missing()
    if reason is not None:
        raise SystemExit(f"the networks cannot run on a GPU: {reason}")
    import cupy

    wait = cupy.cuda.Device().synchronize
    count.main(["--time", *given], Where(cupy.asarray, gpu, wait))


if __name__ == "__main__":
    main()
