"""The door of the operators of networks: what `checks` asks of arrays, those of a GPU too."""

import sys
from typing import Any

import numpy as np

from ..checks import Call, Described


def namespace(x: Any) -> Any:
    """The library of an array: NumPy, or CuPy, of which not every version says so itself."""
    if isinstance(x, np.ndarray | np.generic):
        return np
    return sys.modules[type(x).__module__.partition(".")[0]]


def described(a: Any) -> Any:
    """An array of a GPU by its shape and dtype; all else as it is."""
    return Described(a.shape, a.dtype) if hasattr(a, "__cuda_array_interface__") else a


def entered(ranks: dict[str, str], optional: tuple[str, ...] = (), **arrays: Any) -> Call:
    """A call whose arrays are real, of one dtype and of these axes; "N classes ...": 2 or more.

    float16 is refused: its sums overflow, and networks are trained in float32.
    """
    call = Call(optional, **{name: described(a) for name, a in arrays.items()})
    call.check_arrays({name: axes for name, axes in ranks.items() if not axes.endswith("...")})
    for name, a in call.arrays.items():
        if a.dtype.itemsize == 2:
            call.fail(f"{name} has dtype {a.dtype}, expected float32 or float64", TypeError)
        least = len(ranks.get(name, "").removesuffix("...").split())
        if len(a.shape) < least:
            call.fail(
                f"{name} has {len(a.shape)} dimensions, expected {least} or more: {ranks[name]}"
            )
    return call
