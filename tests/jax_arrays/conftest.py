"""Where the arrays are, and the record of a run, in the file that JAX_RECORD names."""

import os
from importlib.util import find_spec

import last_run
import pytest

PACKAGES = ("jax", "jaxlib", "numpy", "ml_dtypes", "numba-cuda", "cupy-cuda13x", "cupy-cuda12x")

if find_spec("jax"):
    flags = os.environ.get("XLA_FLAGS", "")  # read when JAX makes its devices: two on the CPU
    os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count=2"
    import jax

    jax.config.update("jax_enable_x64", True)


def gpu():
    """The first GPU of JAX, or None."""
    try:
        return jax.devices("gpu")[0]
    except RuntimeError:
        return None


@pytest.fixture(params=["cpu", "gpu"])
def device(request):
    """The CPU, and a GPU where JAX has one."""
    found = gpu() if request.param == "gpu" else jax.devices("cpu")[0]
    if found is None:
        pytest.skip("JAX finds no GPU")
    return found


def pytest_terminal_summary(terminalreporter):
    path = os.environ.get("JAX_RECORD")
    if path is not None:
        last_run.write(path, terminalreporter, PACKAGES, gpu() and gpu().device_kind)
