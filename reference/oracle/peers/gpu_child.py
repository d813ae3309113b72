"""Our kernels, `deformable_convnets.gpu`, which is reached by name only.

    variant "numba v1", "numba v2", "cupy v1", "cupy v2"   a version of a backend, on a GPU
            "numpy v1"            the array program of "cupy v1" on NumPy arrays

Without a GPU, Numba's CUDA simulator runs its kernels. Where a version has the backward of an
operator alone, the forward is that of v1.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import sys
from functools import partial
from importlib import metadata
from typing import Any

import numpy as np

SIMULATOR = "Numba's CUDA simulator"
ABOUT: dict[str, str] = {}


def has_gpu() -> bool:
    """Whether the CUDA driver is here and counts a device."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int(0)
    known = driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
    return known and count.value > 0


def versions() -> dict[str, str]:
    return {"numpy": np.__version__, **ABOUT}


def simulate() -> None:
    """Before Numba is imported, which reads this."""
    if not has_gpu():
        os.environ.setdefault("NUMBA_ENABLE_CUDASIM", "1")
    ABOUT["numba-cuda"] = metadata.version("numba-cuda")
    if os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0"):
        ABOUT["device"] = SIMULATOR
        sys.setswitchinterval(1e-4)  # the simulator polls its threads, and would hold the lock


def operators(variant: str) -> dict[str, Any]:
    backend, version = variant.split()
    if backend == "numba":
        simulate()
    gpu = importlib.import_module("deformable_convnets.gpu")
    registry = importlib.import_module("deformable_convnets.gpu.registry")
    if backend == "numpy":
        program = importlib.import_module("deformable_convnets.gpu.cupy_kernels.array_program")
        versions = {"v1": program.operators(np)}
        registry.BACKENDS["numpy"] = registry.Backend(lambda: versions)
    offered = registry.BACKENDS[backend].versions()
    missing = registry.BACKENDS[backend].missing()
    if missing:
        raise ImportError(missing)
    if backend == "cupy":
        ABOUT["cupy"] = importlib.import_module("cupy").__version__
    own = offered[version]
    names = {name.replace("_backward", "") for name in own}
    return {
        name: partial(getattr(gpu, name), backend=backend, version=version if name in own else "v1")
        for name in offered["v1"]
        if name.replace("_backward", "") in names
    }
