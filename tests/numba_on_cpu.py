"""Numba's kernels, unmodified, compiled for the CPU: hundreds of times as fast as its simulator.

They use of `cuda` the jit, the grid and atomic additions, and each is a loop over the grid's
threads that any number of threads makes right. So one thread makes it: `grid` is 0, `gridsize` is
1, and an addition is one. What differs between threads shows in the simulator alone.
"""

import importlib
import sys
from functools import cache
from importlib.util import find_spec
from types import ModuleType

import numpy as np

from deformable_convnets.gpu import registry

PACKAGE = "deformable_convnets.gpu.numba_on_cpu"
DTYPES = ("float32", "float64")  # Numba has no float16 on the CPU


class DeviceArray(np.ndarray):
    """What the launchers ask of a device array of Numba's."""

    def bind(self, stream):
        return self

    def is_c_contiguous(self):
        return self.flags.c_contiguous


class Kernel:
    """A kernel that is launched by kernel[blocks, threads, stream](...)."""

    def __init__(self, compiled):
        self.compiled = compiled

    def __getitem__(self, configuration):
        return self

    def __call__(self, *arguments):
        self.compiled(*(a.view(np.ndarray) if isinstance(a, np.ndarray) else a for a in arguments))


def taken(a):
    """An array as the device has it: in C order, and a copy."""
    return np.array(np.asarray(a), order="C").view(DeviceArray)


def _cuda():
    """A module in the place of numba.cuda."""
    from numba import njit

    made, made.atomic = ModuleType("cuda"), ModuleType("atomic")

    def jit(function=None, *, device=False):
        if function is None:
            return lambda function: jit(function, device=device)
        compiled = njit(function, error_model="numpy")
        return compiled if device else Kernel(compiled)

    @njit
    def grid(dimensions):
        return 0

    @njit
    def gridsize(dimensions):
        return 1

    @njit
    def add(array, index, value):
        array[index] += value

    made.jit, made.grid, made.gridsize, made.atomic.add = jit, grid, gridsize, add
    made.device_array = lambda shape, dtype, stream: np.full(shape, np.nan, dtype).view(DeviceArray)
    return made


@cache
def versions():
    """As `numba_kernels.VERSIONS`."""
    from deformable_convnets.gpu import numba_kernels

    package, shim = ModuleType(PACKAGE), ModuleType(f"{PACKAGE}.shim")
    package.__path__ = list(numba_kernels.__path__)
    shim.cuda, shim.SIMULATED = _cuda(), True
    sys.modules |= {PACKAGE: package, f"{PACKAGE}.shim": shim}
    package.shim = shim
    names = ("sample", "convolution", "deform_conv", "deform_conv_columns", "roi_pool", "volumes")
    sample, conv, deform, columns, pool, volumes = (
        importlib.import_module(f"{PACKAGE}.{name}") for name in names
    )
    found = {
        "v1": sample.V1 | conv.V1 | deform.V1 | pool.V1 | volumes.V1,
        "v2": sample.V2 | columns.V2 | pool.V2,
    }
    return {
        name: {operator: each._replace(dtypes=DTYPES) for operator, each in version.items()}
        for name, version in found.items()
    }


def missing():
    """Why nothing can be compiled here; empty where it can."""
    return "" if find_spec("numba") else "Numba is not installed"


def backend():
    """For the registry."""
    return registry.Backend(versions, take=taken)
