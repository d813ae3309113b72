"""Without a GPU: the import works and is cheap, bad input is refused first, a call says what to do.

Each test is a child process, because what is imported, and whether Numba simulates, is settled once
per process.
"""

import os
import subprocess
import sys

import devices
import pytest

CALL = """
import numpy as np
from deformable_convnets import gpu
x, weight = np.ones((1, 1, 3, 3), np.float32), np.ones((1, 1, 2, 2), np.float32)
"""
HIDE = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {names}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Hidden())
"""
needs_no_gpu = pytest.mark.skipif(devices.has_gpu(), reason="a GPU is here")


def child(code, **environment):
    environment = os.environ | {"NUMBA_ENABLE_CUDASIM": "0"} | environment
    command = [sys.executable, "-W", "error::RuntimeWarning", "-c", code]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def raised(code, **environment):
    """The last line of the traceback."""
    done = child(code, **environment)
    assert done.returncode == 1, done
    return done.stderr.strip().splitlines()[-1]


def test_import_is_lazy():
    done = child(
        "import sys; from deformable_convnets import gpu\n"
        "print(sorted({'numba', 'cupy', 'torch', 'jax'} & set(sys.modules)))"
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_import_without_numba_and_cupy():
    hide = HIDE.format(names={"numba", "numba_cuda", "cupy"})
    assert raised(hide + CALL + "gpu.conv2d(x, weight)").startswith(
        "RuntimeError: no GPU backend can run: CuPy is not installed; numba-cuda is not installed."
        " In a checkout, install with pip install '.[gpu]' for CUDA 13"
    )


@pytest.mark.parametrize("backend", ["numba", "cupy"])
def test_a_backend_that_is_not_installed(backend):
    hide = HIDE.format(names={"numba", "numba_cuda", "cupy"})
    line = raised(hide + CALL + f"gpu.conv2d(x, weight, backend={backend!r})")
    assert line.startswith(f"RuntimeError: the backend {backend!r} cannot run: ")
    assert "is not installed" in line
    assert "'.[gpu-cuda12]'" in line


@needs_no_gpu
def test_no_device():
    line = raised(CALL + "gpu.conv2d(x, weight)")
    assert line.startswith("RuntimeError: no GPU backend can run: ")
    assert "NUMBA_ENABLE_CUDASIM=1" in line


@needs_no_gpu
def test_no_device_for_numba():
    pytest.importorskip("numba")
    line = raised(CALL + "gpu.conv2d(x, weight, backend='numba')")
    assert "Numba finds no CUDA device" in line


@needs_no_gpu
@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("gpu.conv2d(x, weight, stride=0)", "ValueError: stride is 0, expected 1 or more  [x (1,"),
        ("gpu.conv2d([1], weight)", "TypeError: x is of type list"),
        ("gpu.conv2d(x, weight, backend='tpu')", "ValueError: backend is 'tpu'"),
        ("gpu.conv2d(x, weight, precision='tf16')", "ValueError: precision is 'tf16'"),
        ("gpu.conv2d_backward(x[..., :2, :2], x, weight, wrt='y')", "ValueError: wrt has 'y'"),
    ],
)
def test_bad_input_is_refused_before_the_device_is_sought(call, expected):
    assert raised(CALL + call).startswith(expected)


def test_the_simulator_is_chosen_where_it_is_asked_for():
    pytest.importorskip("numba_cuda")
    done = child(CALL + "print(gpu.conv2d(x, weight).sum())", NUMBA_ENABLE_CUDASIM="1")
    assert done.stdout.strip() == "16.0", done.stderr


@needs_no_gpu
def test_bench_says_that_there_is_nothing_to_measure():
    done = child("from deformable_convnets.gpu import bench; raise SystemExit(bench.main([]))")
    assert done.returncode == 1
    assert "nothing to measure: no GPU backend can run here" in done.stdout
