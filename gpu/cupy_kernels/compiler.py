"""From `.cu` files to cubins, by NVRTC: no device is needed, so that tests can compile too.

A cubin is kept on disk under a key that covers everything it was made from: the sources of this
folder, the options, the architecture and the compiler's version. It lies in the folder that the
environment variable DEFORMABLE_CONVNETS_CACHE names, else in ~/.cache/deformable_convnets; where
neither can be written, each process compiles for itself.
"""

import hashlib
import logging
import os
import threading
from contextlib import suppress
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from .build import Build

LOGGER = logging.getLogger("deformable_convnets.gpu")
OPTIONS = ("--std=c++17", "--ptxas-options=-v")
# Two kernels that find the points of a bin must find the same ones, to the last bit.
OF_ONE = {"roi_pool.cu": ("--fmad=false",)}


@cache
def sources() -> dict[str, str]:
    """The text of every `.cu` and `.cuh` file, by name."""
    found = [f for f in files(__package__).iterdir() if f.name.endswith((".cu", ".cuh"))]
    return {f.name: f.read_text() for f in sorted(found, key=lambda f: f.name)}


def options(source: str, build: Build, architecture: str) -> tuple[str, ...]:
    """What the compiler is told, for an architecture such as sm_90."""
    macros = [f"-D{name}={value}" for name, value in build.macros().items()]
    return (f"--gpu-architecture={architecture}", *OPTIONS, *OF_ONE.get(source, ()), *macros)


def cubin(source: str, build: Build, architecture: str) -> bytes:
    """The compiled file, from the disk if it is there; RuntimeError if it does not compile."""
    path = folder() / f"{key(source, build, architecture)}.cubin"
    try:
        return path.read_bytes()
    except OSError:
        pass  # not there, or not for us to read
    LOGGER.warning("compiling %s for %s, %s; kept in %s", source, architecture, build, path.parent)
    code, _ = compiled(source, build, architecture)
    _keep(path, code)
    return code


def compiled(
    source: str, build: Build, architecture: str, nvrtc: Any = None, texts: Any = None
) -> tuple[bytes, str]:
    """The cubin of a file, and the log with registers, stack and spills of every kernel.

    nvrtc  a module like `cupy.cuda.nvrtc`, which it is if None
    texts  the sources by name; None for those of this folder
    """
    nvrtc, texts = nvrtc or _nvrtc(), texts or sources()
    headers = [name for name in texts if name.endswith(".cuh")]
    program = nvrtc.createProgram(
        texts[source], source, [texts[name].encode() for name in headers],
        [name.encode() for name in headers],
    )  # fmt: skip
    told = options(source, build, architecture)
    try:
        nvrtc.compileProgram(program, told)
        return nvrtc.getCUBIN(program), nvrtc.getProgramLog(program).rstrip("\0")
    except nvrtc.NVRTCError as error:
        log = nvrtc.getProgramLog(program).rstrip("\0\n")
        raise RuntimeError(
            f"{source} does not compile: {error}\noptions: {' '.join(told)}\nbuild: {build}\n{log}"
        ) from None
    finally:
        nvrtc.destroyProgram(program)


def key(source: str, build: Build, architecture: str) -> str:
    """The name of a cubin: a hash of everything that it is made from."""
    parts: list[Any] = [source, *options(source, build, architecture), version()]
    parts += [part for name, text in sources().items() for part in (name, text)]
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()


def folder() -> Path:
    """Where cubins are kept."""
    if named := os.environ.get("DEFORMABLE_CONVNETS_CACHE"):
        return Path(named)
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(home) / "deformable_convnets"


@cache
def version() -> tuple[int, ...]:
    """Of NVRTC."""
    return tuple(_nvrtc().getVersion())


def _nvrtc() -> Any:
    from cupy.cuda import nvrtc

    return nvrtc


def _keep(path: Path, code: bytes) -> None:
    """Writes a file whole or not at all: other processes may do the same at the same time."""
    made = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        made.write_bytes(code)
        os.replace(made, path)
    except OSError as error:
        with suppress(OSError):
            made.unlink()
        LOGGER.warning("the compiled kernel is not kept: %s", error)
