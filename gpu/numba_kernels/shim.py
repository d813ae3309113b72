"""The single import of Numba's CUDA target.

numba-cuda is in maintenance mode; its successor is numba_cuda_mlir, whose `cuda` is imported in the
same way. Kernels take `cuda` from here and keep it as a global of their module, where Numba's CUDA
simulator looks for it. Nothing of this file computes.
"""

import importlib
import os

import numpy as np
from numba import config, cuda

# cuda.is_available() is True in the simulator too, so this is asked first.
SIMULATED = bool(config.ENABLE_CUDASIM)  # type: ignore[attr-defined]


def _load_on_new_numpy() -> None:
    """numba-cuda 0.30 asks for np.row_stack, which NumPy 2.5 has no more, at its first compilation.

    The module that asks is imported while the name is there; then the name is taken away again.
    """
    if not SIMULATED and not hasattr(np, "row_stack"):
        np.row_stack = np.vstack  # type: ignore[attr-defined]  # noqa: NPY201
        try:
            importlib.import_module("numba.cuda.np.arrayobj")
        except ImportError:
            pass  # another version, which lays out its modules in another way
        finally:
            del np.row_stack  # type: ignore[attr-defined]  # noqa: NPY201


def _accept_small_grids() -> None:
    """Numba warns of a grid of few blocks, at each launch; a small array is no mistake here.

    Its setting is one for the process, and is left alone where the environment sets it.
    """
    if "NUMBA_CUDA_LOW_OCCUPANCY_WARNINGS" not in os.environ:
        config.CUDA_LOW_OCCUPANCY_WARNINGS = 0  # type: ignore[attr-defined]


_load_on_new_numpy()
_accept_small_grids()


def missing() -> str | None:
    """Why no kernel can run here, or None; never raises."""
    if SIMULATED or cuda.is_available():
        return None
    return f"Numba finds no CUDA device ({_first_line(cuda.cuda_error())})"


def _first_line(error: object) -> str:
    lines = str(error or "no driver").strip().splitlines()
    return lines[0] if lines else "no driver"
