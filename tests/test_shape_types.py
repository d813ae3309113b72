"""The shapes in the signatures of the reference hold while it runs.

jaxtyping checks them only when asked to, and makes every call several times slower. So one part
of the suite runs again with the check on, in a process of its own.
"""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PARTS = [f"tests/test_{part}.py" for part in (
    "sampling", "offsets", "modules", "equations", "roi_equations", "roi_modules",
    "receptive_fields", "effective_fields",
)] + ["tests/test_volumes.py::test_the_reference_equals_the_equations"]  # fmt: skip
CHECKED = [f"deformable_convnets.reference.{m}" for m in (
    "bilinear", "convolution", "deform_conv", "geometry", "layout", "modules", "offsets",
    "receptive_fields", "trilinear", "volumes",
    "roi_bins", "roi_layout", "roi_modules", "roi_points", "roi_pool", "deform_roi_pool",
)]  # fmt: skip
HOOK = f"--jaxtyping-packages={','.join(CHECKED)},beartype.beartype"


def pytest_with_hook(*arguments, cwd=ROOT):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", HOOK, *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_the_reference_keeps_its_shapes():
    done = pytest_with_hook(*PARTS)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "passed" in done.stdout


@pytest.mark.parametrize("good", [True, False])
def test_a_wrong_shape_is_caught(tmp_path, good):
    columns = 3 if good else 4
    (tmp_path / "test_wrong.py").write_text(
        "import numpy as np\n"
        "from deformable_convnets.reference import bilinear\n"
        "def test_it():\n"
        f"    at = bilinear.cells(np.zeros((1, 5, 2)), (2, {columns}), 'zero')\n"
        "    grads = np.zeros((5, 2 if at.columns == 6 else 3))\n"
        "    bilinear.slopes(at, np.zeros((at.columns, 2)), grads)\n"
    )
    done = pytest_with_hook(str(tmp_path), "-o", "addopts=", cwd=tmp_path)
    assert (done.returncode == 0) == good, done.stdout[-2000:]
    assert good or "TypeCheckError" in done.stdout
