"""NumPy arrays as another library's, and back: "torch", "cupy" or "jax", with a device if wanted.

    of("torch:cuda").to(a)         an array that is not contiguous stays so where the library can
    of("torch").back(results)      an array, or a tuple or dict of arrays
    of("jax").wrapped(function)    takes and returns NumPy arrays
    of("cupy").assert_there()      whether an array can be made at all

Standalone: `serve` loads it by its path. A library is imported when it is first used.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np


class Numpy:
    """What they share; and NumPy itself, for which nothing is to be done but a copy."""

    package = "numpy"

    def __init__(self, device: str = ""):
        self.device = device

    @property
    def module(self) -> Any:
        return importlib.import_module(self.package)

    def version(self) -> str:
        return str(self.module.__version__)

    def to(self, a: Any) -> Any:
        return a.copy() if a.flags.c_contiguous else np.stack([a, a], axis=-1)[..., 0]

    def _one_back(self, a: Any) -> Any:
        return a

    def back(self, result: Any) -> Any:
        """As NumPy; what is not of this library is left as it is."""
        if hasattr(result, "_asdict"):
            result = result._asdict()
        if isinstance(result, dict):
            return {name: self._one_back(a) for name, a in result.items()}
        if isinstance(result, tuple):
            return tuple(self._one_back(a) for a in result)
        return self._one_back(result)

    def assert_there(self) -> None:
        """RuntimeError where no array can be made: no such device, or a library built without it.

        What is tested is not asked, so that this is no fault of it.
        """
        try:
            self.back(self.to(np.zeros(1, np.float32)))
        except ModuleNotFoundError:
            raise
        except Exception as error:
            name = ":".join(filter(None, [self.package, self.device]))
            said = (str(error).splitlines() or [""])[0] or type(error).__name__
            raise RuntimeError(f"arrays is {name!r}, which cannot be made here: {said}") from error

    def wrapped(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function on NumPy arrays."""

        @functools.wraps(function)
        def on_numpy(*args: Any, **keywords: Any) -> Any:
            given = [self._given(a) for a in args]
            named = {name: self._given(a) for name, a in keywords.items()}
            return self.back(function(*given, **named))

        return on_numpy

    def _given(self, value: Any) -> Any:
        return self.to(value) if isinstance(value, np.ndarray) else value


class Torch(Numpy):
    """ "torch", "torch:cuda", "torch:cuda:1"."""

    package = "torch"

    def to(self, a: Any) -> Any:
        t = self.module.from_numpy(a.copy(order="C")).to(self.device or "cpu")
        return t if a.flags.c_contiguous else self.module.stack([t, t], dim=-1)[..., 0]

    def _one_back(self, a: Any) -> Any:
        return a.detach().cpu().numpy() if isinstance(a, self.module.Tensor) else a


class Cupy(Numpy):
    """ "cupy", "cupy:1"."""

    package = "cupy"

    def to(self, a: Any) -> Any:
        with self.module.cuda.Device(int(self.device or 0)):
            t = self.module.asarray(a)
            return t if a.flags.c_contiguous else self.module.stack([t, t], axis=-1)[..., 0]

    def _one_back(self, a: Any) -> Any:
        return self.module.asnumpy(a) if isinstance(a, self.module.ndarray) else a


class Jax(Numpy):
    """ "jax", "jax:gpu"; float64 is switched on, and nothing has strides."""

    package = "jax"

    @property
    def module(self) -> Any:
        jax = importlib.import_module("jax")
        jax.config.update("jax_enable_x64", True)
        return jax

    def to(self, a: Any) -> Any:
        devices = self.module.devices(*filter(None, [self.device]))
        return self.module.device_put(a.copy(), devices[0])

    def _one_back(self, a: Any) -> Any:
        return np.asarray(a) if isinstance(a, self.module.Array) else a


ARRAYS = {kind.package: kind() for kind in (Numpy, Torch, Cupy, Jax)}


def of(name: str) -> Numpy:
    """The converter for "torch", "torch:cuda" ..."""
    library, _, device = name.partition(":")
    if library not in ARRAYS:
        raise ValueError(f"arrays is {name!r}, expected one of {', '.join(ARRAYS)}")
    return type(ARRAYS[library])(device)
