"""Numbers with fewer bits: operands of a matrix product in half precision, bfloat16 or TF32."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import ndarray as Array

from .wrong_calls import Call

Rounding = Callable[[Array], Array]


def half(a: Array) -> Array:
    return a.astype(np.float16).astype(a.dtype)


def single(a: Array) -> Array:
    return a.astype(np.float32).astype(a.dtype)


def bfloat16(a: Array) -> Array:
    return with_bits(a, 8, np.rint)


def tf32(a: Array) -> Array:
    """As `cvt.rna.tf32` rounds: half away from zero."""
    return with_bits(a, 11, lambda m: np.trunc(m + np.copysign(0.5, m)))


def tf32_cut(a: Array) -> Array:
    """As tensor cores read a float32 that nobody rounded: the low bits are ignored."""
    return with_bits(a, 11, np.trunc)


def with_bits(a: Array, bits: int, to_whole: Rounding) -> Array:
    """Numbers of so many significant bits."""
    mantissa, exponent = np.frexp(a)
    return np.ldexp(to_whole(np.ldexp(mantissa, bits)), exponent - bits).astype(a.dtype)


def all_in(rounding: Rounding) -> Callable[[Call], Any]:
    """Every argument rounded before, and every result after."""

    def wrong(c: Call) -> Any:
        arrays = {n: rounding(v) for n, v in c.arguments.items() if isinstance(v, np.ndarray)}
        found = c(**arrays)
        if isinstance(found, np.ndarray):
            return rounding(found)
        return type(found)(*(v if v is None else rounding(v) for v in found))

    return wrong


def operands(rounding: Rounding) -> Callable[[Call], Any]:
    """The operands of the products alone rounded: x, weight and grad_output."""
    names = ("x", "weight", "grad_output")
    return lambda c: c(**{n: rounding(c.arguments[n]) for n in names if n in c.arguments})
