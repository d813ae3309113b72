"""What this machine can run, found without importing Numba or CuPy."""

import ctypes
import os
from importlib import metadata, util


def has_gpu() -> bool:
    """Whether the CUDA driver is here and counts a device."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int(0)
    return (
        driver.cuInit(0) == 0
        and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
        and count.value > 0
    )


def simulated() -> bool:
    """Whether Numba's kernels run in the CUDA simulator."""
    return os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0")


def numba_missing() -> str:
    """Why Numba's kernels cannot run here; empty where they can."""
    if util.find_spec("numba_cuda") is None:
        return "numba-cuda is not installed"
    return "" if simulated() or has_gpu() else "no GPU, and NUMBA_ENABLE_CUDASIM is 0"


def cupy_missing() -> str:
    """Why CuPy cannot run here; empty where it can."""
    if util.find_spec("cupy") is None:
        return "cupy is not installed"
    return "" if has_gpu() else "no GPU"


def described() -> str:
    """One line for the head of the report."""
    numpy = f"reference on NumPy {metadata.version('numpy')}"
    where = "the CUDA simulator" if simulated() else "a GPU"
    numba = numba_missing() or f"{where}, numba-cuda {metadata.version('numba-cuda')}"
    return f"{numpy} | numba: {numba} | cupy: {cupy_missing() or 'a GPU'}"
