"""The single import of Numba's CUDA target.

numba-cuda is in maintenance mode; its successor is numba_cuda_mlir, whose `cuda` is imported in the
same way. Kernels take `cuda` from here and keep it as a global of their module, where Numba's CUDA
simulator looks for it. Nothing of this file computes.
"""

from numba import config, cuda

# cuda.is_available() is True in the simulator too, so this is asked first.
SIMULATED = bool(config.ENABLE_CUDASIM)  # type: ignore[attr-defined]


def missing() -> str | None:
    """Why no kernel can run here, or None; never raises."""
    if SIMULATED or cuda.is_available():
        return None
    return f"Numba finds no CUDA device ({_first_line(cuda.cuda_error())})"


def _first_line(error: object) -> str:
    lines = str(error or "no driver").strip().splitlines()
    return lines[0] if lines else "no driver"
