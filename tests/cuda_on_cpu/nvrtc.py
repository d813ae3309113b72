"""NVRTC without CuPy and without a GPU: the functions of `cupy.cuda.nvrtc` that are used."""

import ctypes
from functools import cache
from importlib.util import find_spec
from pathlib import Path


class NVRTCError(RuntimeError):
    """What the library returned, in its own words."""


@cache
def library():
    """The library of the nvidia-cuda-nvrtc wheel, or None."""
    spec = find_spec("nvidia")
    places = [] if spec is None else spec.submodule_search_locations
    found = [f for place in places for f in sorted(Path(place).rglob("libnvrtc.so.*"))]
    if not found:
        return None
    for builtins in found[0].parent.glob("libnvrtc-builtins.so.*"):
        ctypes.CDLL(str(builtins))  # 13.0 looks for it by its name alone
    return ctypes.CDLL(str(found[0]))


def missing():
    """Why nothing can be compiled here; empty where it can."""
    return "" if library() else "the nvidia-cuda-nvrtc wheel is not installed"


def getVersion():
    major, minor = ctypes.c_int(), ctypes.c_int()
    _call("nvrtcVersion", ctypes.byref(major), ctypes.byref(minor))
    return major.value, minor.value


def createProgram(source, name, headers, include_names):
    program, n = ctypes.c_void_p(), len(headers)
    texts, names = (ctypes.c_char_p * n)(*headers), (ctypes.c_char_p * n)(*include_names)
    _call("nvrtcCreateProgram", ctypes.byref(program), source.encode(), name.encode(), n, texts,
          names)  # fmt: skip
    return program


def compileProgram(program, options):
    told = [option.encode() for option in options]
    _call("nvrtcCompileProgram", program, len(told), (ctypes.c_char_p * len(told))(*told))


def getCUBIN(program):
    return _text(program, "nvrtcGetCUBIN")


def getPTX(program):
    return _text(program, "nvrtcGetPTX").decode()


def getProgramLog(program):
    return _text(program, "nvrtcGetProgramLog").decode()


def destroyProgram(program):
    _call("nvrtcDestroyProgram", ctypes.byref(program))


def _text(program, function):
    size = ctypes.c_size_t()
    _call(f"{function}Size", program, ctypes.byref(size))
    text = ctypes.create_string_buffer(size.value)
    _call(function, program, text)
    return text.raw


def _call(function, *arguments):
    status = getattr(library(), function)(*arguments)
    if status != 0:
        error = library().nvrtcGetErrorString
        error.restype = ctypes.c_char_p
        raise NVRTCError(f"{function}: {error(status).decode()}")
