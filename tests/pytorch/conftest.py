"""Where the tensors are, and the record of a run, in the file that TORCH_RECORD names."""

import datetime
import json
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import pytest

PACKAGES = ("torch", "torchvision", "numpy", "numba-cuda", "cupy-cuda13x", "cupy-cuda12x")
OUTCOMES = ("passed", "failed", "error", "skipped")


@pytest.fixture(params=["cpu", "cuda"])
def device(request):
    """The CPU, and a GPU where PyTorch and a backend of `gpu` have one."""
    if request.param == "cuda":
        import torch

        if not torch.cuda.is_available():
            pytest.skip("PyTorch finds no GPU")
    return request.param


def versions():
    """The version of each package that is installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit():
    """The commit of this checkout, and whether files of it had changed since."""

    def git(*words):
        return subprocess.run(
            ["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + " and changes" * bool(git("diff", "HEAD"))
    except (OSError, subprocess.CalledProcessError):
        return "no git"


def pytest_terminal_summary(terminalreporter):
    """The reports of a run are complete here."""
    path = os.environ.get("TORCH_RECORD")
    if path is None:
        return
    import torch

    counts = {name: len(terminalreporter.stats.get(name, ())) for name in OUTCOMES}
    made = {
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
        "versions": versions(),
        "GPU": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "tests": counts,
    }
    Path(path).write_text(json.dumps(made, indent=2) + "\n")
