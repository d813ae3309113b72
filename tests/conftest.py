"""Which devices are here, what the report says of them, and how many examples are drawn."""

import os
import sys

import devices
import pytest
from hypothesis import settings

if not devices.has_gpu():
    os.environ.setdefault("NUMBA_ENABLE_CUDASIM", "1")  # read when Numba is imported
os.environ.setdefault("MPLBACKEND", "agg")

for name, examples in (("dev", 50), ("ci", 200), ("thorough", 5000)):
    settings.register_profile(
        name, max_examples=examples, derandomize=name == "ci", database=None, deadline=None,
        print_blob=True,
    )  # fmt: skip
settings.load_profile("ci")

if devices.simulated():
    sys.setswitchinterval(1e-4)  # the simulator polls its threads, and would hold the lock


def pytest_addoption(parser):
    parser.addoption(
        "--require", action="append", default=[], choices=["numba", "cupy"],
        help="fail instead of skip where this backend cannot run on a GPU",
    )  # fmt: skip


def pytest_report_header(config):
    required = ", ".join(config.getoption("--require")) or "nothing"
    return f"deformable_convnets: {devices.described()} | required: {required}"


@pytest.fixture
def runnable(request):
    """A function that skips, or fails where required, if a registered implementation cannot run."""

    def check(entry):
        reason = entry.missing()
        if reason and entry.backend in request.config.getoption("--require"):
            pytest.fail(f"{entry.name} is required and cannot run: {reason}", pytrace=False)
        if reason:
            pytest.skip(reason)
        return entry.implementation

    return check


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """A required backend that runs in the simulator is not the promised device."""
    if "numba" in config.getoption("--require") and devices.simulated():
        pytest.exit("--require numba: NUMBA_ENABLE_CUDASIM is set or there is no GPU", 1)
