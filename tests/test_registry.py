"""Every version and operator that `gpu` registers is in the tests, and none that it does not."""

import implementations
import pytest

from deformable_convnets.gpu import registry

BACKENDS = dict(implementations.OFFERED.keys())  # a version of each


@pytest.mark.parametrize("backend", sorted(BACKENDS))
def test_the_tests_name_what_is_registered(runnable, backend):
    runnable(implementations.ENTRIES[f"{backend} {BACKENDS[backend]}"])
    registered = registry.BACKENDS[backend].versions()
    named = {v: set(ops) for (b, v), ops in implementations.OFFERED.items() if b == backend}
    assert named == {name: set(operators) for name, operators in registered.items()}


def test_every_backend_is_in_the_tests():
    assert set(registry.BACKENDS) == set(BACKENDS)
