"""Kernels built for the CPU by g++, each build once in a process and kept in a temporary folder."""

import ctypes
import re
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from deformable_convnets.gpu.cupy_kernels import compiler

HERE = Path(__file__).parent
OPTIONS = ("-std=c++20", "-O1", "-fPIC", "-U_FORTIFY_SOURCE", "-ffp-contract=off", "-w",
           "-fmax-errors=3")  # fmt: skip

OF_TESTS = {}  # sources that tests add to those of the package, by name


def missing():
    """Why kernels cannot be built here; empty where they can."""
    return "" if shutil.which("g++") else "g++ is not installed"


@cache
def folder():
    made = tempfile.TemporaryDirectory(prefix="cuda_on_cpu")
    folder.kept = made  # until the process ends
    return Path(made.name)


@cache
def library(source, build, mutation=None):
    """The kernels of a file, unmodified or with one text in place of another."""
    texts = dict(compiler.sources()) | OF_TESTS
    texts |= {f.name: f.read_text() for f in HERE.glob("*.cuh")}
    if mutation is not None:
        name, old, new = mutation
        assert texts[name].count(old) == 1, f"{name} has {old!r} {texts[name].count(old)} times"
        texts[name] = texts[name].replace(old, new)
    made = folder() / f"{len(list(folder().iterdir()))}"
    made.mkdir()
    for name, text in texts.items():
        (made / name).write_text(text)
    bounds = r"(?:__launch_bounds__\([^)]*\)\s+)?"
    kernels = re.findall(rf'extern "C" __global__ void\s+{bounds}(\w+)', texts[source])
    macros = build.macros() | {
        "SOURCE": f'"{source}"',
        "KERNELS": " ".join(f"KERNEL({name})" for name in kernels),
    }
    told = [f"-D{name}={value}" for name, value in macros.items()]
    _gxx("-fsanitize=thread,alignment", *told, f"-I{made}", f"-I{HERE}", "-c", HERE / "launch.cpp",
         "-o", made / "kernels.o")  # fmt: skip
    _gxx("-shared", made / "kernels.o", *_runtime(), "-o", made / "kernels.so")
    return ctypes.CDLL(str(made / "kernels.so"))


@cache
def _runtime():
    """What all builds share, which nothing watches."""
    made = [folder() / f"{name}.o" for name in ("fibers", "watch", "copies")]
    for to in made:
        _gxx("-c", HERE / f"{to.stem}.cpp", "-o", to)
    return made


def _gxx(*arguments):
    done = subprocess.run(["g++", *OPTIONS, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
