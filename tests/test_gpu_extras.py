"""What a module says whose package is not installed: one line, how to install it.

Each test is a child process, in which the package is hidden.
"""

import subprocess
import sys

import pytest

HIDDEN = """
import sys
sys.modules[{package!r}] = None
import deformable_convnets.gpu.{module}
"""
SAID = {
    "jax": "ImportError: deformable_convnets.gpu.jax needs JAX; in a checkout, pip install"
    " '.[jax]'",
    "onnx": "ImportError: deformable_convnets.gpu.onnx needs the package onnx; in a checkout, pip"
    " install '.[onnx]'",
    "torch": "ImportError: deformable_convnets.gpu.torch needs PyTorch: pip install torch",
}


def last_line(code):
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    return (done.stderr or "nothing").strip().splitlines()[-1]


@pytest.mark.parametrize("package", SAID)
def test_a_package_that_is_not_installed(package):
    assert last_line(HIDDEN.format(package=package, module=package)) == SAID[package]


def test_an_installed_package_is_not_missed():
    pytest.importorskip("onnx")
    assert last_line("import deformable_convnets.gpu.onnx") == "nothing"
