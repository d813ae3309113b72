"""The registry: every implementation of the operators that the tests hold to the laws.

The reference, each version of each GPU backend by name, and beside them the CuPy array program on
NumPy arrays, and the kernels of Numba and of CUDA C++ on the CPU: all enter the same tests. A
version enters by being registered in `gpu`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import devices
import numba_on_cpu
import numpy as np
from cuda_on_cpu import builds
from cuda_on_cpu.cpu_device import CpuDevice

from deformable_convnets import gpu
from deformable_convnets.gpu import registry
from deformable_convnets.gpu.cupy_kernels import array_program, cuda_program
from deformable_convnets.reference.oracle.implementation import NAMES, REFERENCE, Implementation

NUMBA_V2 = tuple(
    name
    for name in NAMES
    if name.startswith(("sample", "deform_conv2d")) or name.endswith("pool_backward")
)
CONVOLUTIONS = tuple(name for name in NAMES if name.startswith(("conv2d", "deform_conv2d")))
WITH_VOLUMES = (*NAMES, "deform_conv3d", "deform_conv3d_backward")
OFFERED = {
    ("numba", "v1"): WITH_VOLUMES,
    ("numba", "v2"): NUMBA_V2,
    ("numba-on-cpu", "v1"): WITH_VOLUMES,
    ("numba-on-cpu", "v2"): NUMBA_V2,
    ("cupy", "v1"): NAMES,
    ("cupy", "v2"): NAMES,
    ("cupy", "v3"): CONVOLUTIONS,
    ("numpy", "v1"): NAMES,
    ("cuda-on-cpu", "v2"): NAMES,
}
EXAMPLES = {"numba": 2 if devices.simulated() else 100, "cuda-on-cpu": 20, "numba-on-cpu": 50}
DTYPES = {
    "cuda-on-cpu": ("float32", "float64"),  # the others: test_cuda_precision
    "numba-on-cpu": numba_on_cpu.DTYPES,
}
registry.BACKENDS["numpy"] = registry.Backend(lambda: {"v1": array_program.operators(np)})
registry.BACKENDS["numba-on-cpu"] = numba_on_cpu.backend()
registry.BACKENDS["cuda-on-cpu"] = registry.Backend(
    lambda: {"v2": cuda_program.operators(CpuDevice(watched=True))}
)


@dataclass(frozen=True)
class Entry:
    """An implementation, the backend it needs, and why that cannot run here (or nothing)."""

    implementation: Implementation
    backend: str | None = None
    missing: Callable[[], str] = lambda: ""

    @property
    def name(self) -> str:
        return self.implementation.name


def version(backend, name):
    """One version of a GPU backend, called with NumPy arrays.

    Where it offers the backward of an operator alone, the forward is that of v1.
    """
    offered = OFFERED[backend, name]
    call = {
        operator: partial(
            getattr(gpu, operator), backend=backend, version=name if operator in offered else "v1"
        )
        for operator in WITH_VOLUMES
        if operator in offered or f"{operator}_backward" in offered
    }
    return Implementation(
        f"{backend} {name}", call, DTYPES.get(backend, Implementation.dtypes),
        examples=EXAMPLES.get(backend, 100), fixed_shapes=True,
    )  # fmt: skip


MISSING = {
    "numba": devices.numba_missing, "cupy": devices.cupy_missing, "numpy": str,
    "cuda-on-cpu": builds.missing, "numba-on-cpu": numba_on_cpu.missing,
}  # fmt: skip
ENTRIES = {"reference": Entry(REFERENCE)} | {
    f"{backend} {name}": Entry(version(backend, name), backend, MISSING[backend])
    for backend, name in OFFERED
}
