"""What is installed: the wheel's files, what it needs, and when the Makefile installs again."""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable
from email.parser import HeaderParser
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FOLDERS = ("reference", "gpu")
NOT_INSTALLED = ("gpu/results/",)  # measurements, which only the README shows
CORE = ["numpy", "scipy", "jaxtyping"]
CORE_FOLDERS = {*CORE, "wadler_lindig"}  # which jaxtyping requires
EXTRAS = {"gpu", "gpu-cuda12", "jax", "onnx", "oracle", "test", "compile", "tutorials", "browser",
          "site", "lint", "dev"}  # fmt: skip

# Runs without site-packages: with the wheel, and links to what the wheel requires, on the path.
ALONE = """
import sys
sys.path[:0] = sys.argv[1:]
import numpy as np
from deformable_convnets import gpu, reference
assert reference.__file__.startswith(sys.argv[1]), reference.__file__
x, weight, offset = np.ones((1, 2, 5, 6)), np.ones((3, 2, 3, 2)), np.zeros((1, 12, 3, 5))
assert (reference.deform_conv2d(x, offset, weight) == 12).all()
y = np.ones((1, 3, 3, 5))
assert reference.deform_conv2d_backward(y, x, offset, weight).offset.shape == offset.shape
try:
    gpu.deform_conv2d(x, offset, weight)
except RuntimeError as error:
    assert "pip install" in str(error), error
else:
    raise AssertionError("gpu ran without Numba and CuPy")
"""


def own_files(folders: Iterable[Path]) -> set[str]:
    """The files of the source folders, by their path in an installation."""
    paths = [p for folder in folders for p in folder.rglob("*") if p.is_file()]
    return {
        f"deformable_convnets/{name}"
        for name in (p.relative_to(ROOT).as_posix() for p in paths if "__pycache__" not in p.parts)
        if not name.startswith(NOT_INSTALLED)
    }


def wheel_complaints(found: Iterable[str], expected: set[str]) -> list[str]:
    """Files that the wheel lacks, and files that it should not have."""
    files = {name for name in found if ".dist-info/" not in name and not name.endswith("/")}
    lacking = [f"lacks {name}" for name in sorted(expected - files)]
    return lacking + [f"should not have {name}" for name in sorted(files - expected)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.Path:
    """The wheel, built from a copy so that no build/ folder of this checkout gets into it."""
    if int(version("setuptools").split(".")[0]) < 77:
        pytest.skip("setuptools is older than the extra `test` asks for")
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, copy / name)
    build = "import sys, setuptools.build_meta as b; b.build_wheel(sys.argv[1])"
    run(sys.executable, "-c", build, str(out), folder=copy)
    return zipfile.Path(next(out.glob("*.whl")))


def run(*command: str, folder: Path, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env=os.environ | environment,
        check=False,
    )  # fmt: skip
    if done.returncode:
        raise AssertionError(f"{command[0]} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


def test_every_folder_is_listed() -> None:
    """setuptools finds no packages by itself where folders are mapped."""
    expected = {
        ".".join(["deformable_convnets", *path.parent.relative_to(ROOT).parts])
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("__init__.py")
    }
    setuptools = PROJECT["tool"]["setuptools"]
    assert set(setuptools["packages"]) == expected
    assert {name.replace("/", ".") for name in setuptools["package-dir"].values()} == {
        name.removeprefix("deformable_convnets.") for name in expected
    }


def test_wheel_has_the_right_files(wheel: zipfile.Path) -> None:
    expected = own_files(ROOT / folder for folder in FOLDERS)
    assert wheel_complaints(wheel.root.namelist(), expected) == []


def test_wheel_requires_only_the_core(wheel: zipfile.Path) -> None:
    info = next(path for path in wheel.iterdir() if path.name.endswith(".dist-info"))
    metadata = HeaderParser().parsestr((info / "METADATA").read_text())
    required = [r for r in metadata.get_all("Requires-Dist", []) if "extra ==" not in r]
    assert [r.split(">=")[0] for r in required] == CORE
    assert set(metadata.get_all("Provides-Extra", [])) == EXTRAS
    assert metadata["License-Expression"] == "MIT"


def test_wheel_runs_with_only_the_core(wheel: zipfile.Path, tmp_path: Path) -> None:
    installed, core = tmp_path / "installed", tmp_path / "core"
    wheel.root.extractall(installed)
    core.mkdir()
    for path in Path(np.__file__).parents[1].iterdir():
        if path.name.partition(".")[0].partition("-")[0] in CORE_FOLDERS:
            (core / path.name).symlink_to(path)
    run(sys.executable, "-IS", "-c", ALONE, str(installed), str(core), folder=tmp_path)


def test_wheel_complaints_complain() -> None:
    expected = {"deformable_convnets/gpu/a.py", "deformable_convnets/gpu/b.cu"}
    found = ["deformable_convnets/gpu/a.py", "tests/c.py", "x-0.dist-info/RECORD"]
    assert wheel_complaints(expected, expected) == []
    assert wheel_complaints(found, expected) == [
        "lacks deformable_convnets/gpu/b.cu",
        "should not have tests/c.py",
    ]


def test_run_raises() -> None:
    with pytest.raises(AssertionError, match="ended with 3"):
        run(sys.executable, "-c", "raise SystemExit(3)", folder=ROOT)


@pytest.mark.skipif(not shutil.which("make"), reason="make is not on the PATH")
def test_make_installs_again_only_when_it_has_to(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    for name in FOLDERS:
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.py").touch()

    def make(*words: str) -> str:
        return run("make", "--no-print-directory", *words, folder=tmp_path, MAKEFLAGS="")

    def installs() -> bool:
        return "pip" in make("-n", "lab")

    def done() -> None:
        stamp = tmp_path / make("--eval=name: ; @echo $(LAB)", "name").strip()
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.touch()

    assert installs()
    done()
    assert not installs()
    (tmp_path / "reference" / "a.py").write_text("x = 1\n")
    assert not installs()
    (tmp_path / "gpu" / "kernels").mkdir()
    (tmp_path / "gpu" / "kernels" / "b.cu").touch()
    assert installs()
    done()
    os.utime(tmp_path / "pyproject.toml", (4e9, 4e9))
    assert installs()
