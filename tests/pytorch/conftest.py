"""Where the tensors are, and the record of a run, in the file that TORCH_RECORD names."""

import os

import last_run
import pytest

PACKAGES = ("torch", "torchvision", "numpy", "numba-cuda", "cupy-cuda13x", "cupy-cuda12x")


@pytest.fixture(params=["cpu", "cuda"])
def device(request):
    """The CPU, and a GPU where PyTorch and a backend of `gpu` have one."""
    if request.param == "cuda":
        import torch

        if not torch.cuda.is_available():
            pytest.skip("PyTorch finds no GPU")
    return request.param


def pytest_terminal_summary(terminalreporter):
    path = os.environ.get("TORCH_RECORD")
    if path is None:
        return
    import torch

    name = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    last_run.write(path, terminalreporter, PACKAGES, name)
