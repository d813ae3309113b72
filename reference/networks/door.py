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


def on_cpu(a: Any) -> Any:
    """An array of NumPy, with the numbers of one of CuPy."""
    return a.get() if hasattr(a, "get") else a


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


def images_of(images: Any, name: str = "images") -> Any:
    """The images themselves, if they are an array N C H W."""
    if not (hasattr(images, "shape") and hasattr(images, "dtype")):
        raise TypeError(f"{name} is of type {type(images).__name__}, expected an array N C H W")
    if len(images.shape) != 4:
        Call(**{name: described(images)}).fail(
            f"{name} has {len(images.shape)} dimensions, expected 4: N C H W"
        )
    return images


def check_image(x: Any, dtype: Any) -> None:
    """Refuses images of another dtype than the network's, and smaller ones than a cell of res4."""
    if x.dtype != dtype:
        raise TypeError(
            f"images have dtype {x.dtype}, the network {dtype}: images.astype(np.{dtype})"
        )
    if x.ndim == 4 and min(x.shape[2:]) < 16:
        Call(x=described(x)).fail(
            f"an image is {x.shape[2]} x {x.shape[3]}, expected at least 16 x 16: the stride of"
            " res4"
        )


def check_top(trunk: Any, channels: int) -> None:
    """ValueError for a head of other channels than the 1x1 convolution on top of a trunk has."""
    top = getattr(trunk, "top", None)
    if top is not None and top.weight.shape[0] != channels:
        found = top.weight.shape[0]
        raise ValueError(
            f"the trunk's top has {found} channels, the head takes {channels}:"
            f" trunk(top={channels}) or channels={found}"
        )


def number_of(classes: Any) -> int:
    """How many classes, if it is a whole number from 2 on."""
    if isinstance(classes, bool) or not isinstance(classes, int | np.integer):
        raise TypeError(f"classes is {classes!r}, expected a whole number, 2 or more")
    if classes < 2:
        raise ValueError(f"classes is {classes}, expected 2 or more: one is the background")
    return int(classes)
