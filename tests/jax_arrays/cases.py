"""Calls of the eight operators on the oracle's exact problems, as arrays of JAX."""

from functools import partial
from typing import Any

import jax
import numpy as np
import operator_cases
from numpy import ndarray as Array

from deformable_convnets.gpu import jax as ours

NAMES = tuple(ours.__all__)
Named = dict[str, Any]


class Case(operator_cases.Case):
    """One call, with arrays of JAX."""

    def given(self, device: Any = None) -> Named:
        place = partial(jax.device_put, device=device or jax.devices("cpu")[0])
        return {name: None if a is None else place(a) for name, a in self.arrays.items()}

    def call(self, given: Named, **more: Any) -> jax.Array:
        return getattr(ours, self.name)(**given, **self.settings, **more)

    def both(self, given: Named, **more: Any) -> tuple[jax.Array, Named]:
        """The result, and the gradients by name."""
        y, back = jax.vjp(lambda arrays: self.call(arrays, **more), given)
        grad = jax.device_put(self.grad_output, *y.devices()) if is_there(y) else self.grad_output
        return y, back(jax.numpy.asarray(grad).astype(y.dtype))[0]


def is_there(a: Any) -> bool:
    return not isinstance(a, jax.core.Tracer)


def cases(name: str, dtype: str) -> list[Case]:
    """Calls on exact problems whose points are off the kinks."""
    return [Case(*case) for case in operator_cases.cases(name, dtype)]


def whole(name: str, dtype: str) -> Case:
    """The first call in which nothing is missing or empty."""
    return Case(*operator_cases.whole(name, dtype))


def assert_same(found: jax.Array, expected: Array) -> None:
    """Bit for bit, and of the same dtype and shape."""
    assert isinstance(found, jax.Array)
    np.testing.assert_array_equal(np.asarray(found), expected, strict=True)


def assert_is(case: Case, found: tuple[jax.Array, Named], given: Named) -> None:
    """A result and its gradients are those of the reference, where the arrays are."""
    y, grads = case.expected()
    assert_same(found[0], y)
    assert found[0].devices() == given["x"].devices()
    assert {n for n, a in found[1].items() if a is not None} - {"rois"} == grads.keys()
    for name, grad in grads.items():
        assert_same(found[1][name], grad)
        assert found[1][name].devices() == given["x"].devices()
