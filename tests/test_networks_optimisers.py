"""SGD, Adam and the schedule of learning rates, by hand."""

import numpy as np
import pytest

from deformable_convnets.reference.networks import optimisers


def test_sgd_by_hand():
    """Two steps: momentum, weight decay, and beta for branches."""
    w, b = np.array([2.0]), np.array([2.0])
    both = {"a.weight": w, "a.branch.weight": b}
    sgd = optimisers.SGD(0.5, 0.25, {"*branch.*": 0.125})
    for _ in range(2):
        sgd.step(both, {"a.weight": np.array([1.5]), "a.branch.weight": np.array([1.5])}, 0.5)
    # v = 1.5 + 0.5 = 2, w = 1; v = 1 + 1.5 + 0.25 = 2.75, w = 1 - 1.375
    assert w == -0.375
    # v = 2, b = 1.875; v = 1 + 1.5 + 0.46875 = 2.96875, b = 1.875 - 0.185546875
    assert b == 1.875 - 2.96875 / 16


def test_adam_by_hand():
    """The first step is the rate in the direction of the gradient, whatever its size."""
    w = np.array([1.0, 1.0, 1.0])
    adam = optimisers.Adam(epsilon=0.0)
    adam.step({"w": w}, {"w": np.array([4.0, -0.25, 1e-6])}, 0.5)
    np.testing.assert_allclose(w, [0.5, 1.5, 0.5], rtol=1e-12)
    adam.step({"w": w}, {"w": np.array([0.0, 0, 0])}, 0.5)
    first, second = 0.9 * 0.1 / (1 - 0.81), (0.999 * 0.001 / (1 - 0.999**2)) ** 0.5
    np.testing.assert_allclose(w[0], 0.5 - 0.5 * first / second, rtol=1e-12)


def test_adam_decays_weights_as_sgd_does():
    """The decay is a part of the gradient (not of the step), so without another one it is one."""
    w = np.array([1.0, -4.0, 0.0])
    optimisers.Adam(epsilon=0.0, weight_decay=0.25).step({"w": w[:2]}, {"w": np.zeros(2)}, 0.5)
    np.testing.assert_allclose(w, [0.5, -3.5, 0.0], rtol=1e-12)


def test_the_schedule_of_section_4():
    rates = [optimisers.step_schedule(1e-3, i, after=20_000) for i in (0, 19_999, 20_000, 29_999)]
    assert rates == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4])
