"""The assertions that all laws rest on: each passes what it should, and raises on anything else."""

import numpy as np
import pytest

from deformable_convnets.reference.oracle.compare import (
    assert_between,
    assert_same,
    assert_within,
)
from deformable_convnets.reference.oracle.laws import assert_same_grads

A = np.array([[1.0, np.nan], [-0.0, 4.0]])


def test_same_passes_equal_arrays():
    assert_same("y", A.copy(), A)
    assert_same("y", np.zeros((0, 3)), np.zeros((0, 3)))
    assert_same("y", np.array([0.0]), np.array([-0.0]))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (A.astype(np.float32), "y has dtype float32, expected float64"),
        (A[:1], r"y has shape \(1, 2\), expected \(2, 2\)"),
        (A.tolist(), "y is of type list, expected a NumPy array"),
        (np.nan_to_num(A), r"y\[0, 1\] is .*0.0.*, expected .*nan.*; 1 of 4 elements differ"),
        (A + np.array([[0, 0], [0, 1e-15]]), r"y\[1, 1\] is .*4.000000000000001.*; 1 of 4"),
        (np.where(np.isnan(A), A, np.nan), r"y\[0, 0\] is .*nan"),
    ],
)
def test_same_raises_on_anything_else(wrong, words):
    with pytest.raises(AssertionError, match=words):
        assert_same("y", wrong, A)


def test_within():
    exact = np.array([1.0, 2.0])
    assert_within("y", np.array([1.25, 2.0]), exact, np.array([0.25, 0.0]))
    for wrong in ([1.25, 2.25], [np.nan, 2.0], [1.5, 2.0]):
        with pytest.raises(AssertionError, match="bound"):
            assert_within("y", np.array(wrong), exact, np.array([0.25, 0.0]))
    with pytest.raises(AssertionError, match="bound"):
        assert_within("y", exact, exact, np.array([0.25, np.nan]))
    with pytest.raises(AssertionError, match="shape"):
        assert_within("y", exact[:1], exact, exact)


def test_between():
    low, high = np.array([0.0, -1.0]), np.array([0.0, 2.0])
    assert_between("y", np.array([0.0, -1.0]), low, high)
    for wrong, words in (
        ([0.0, 2.5], r"y\[1\] is 2.5, low -1.0, high 2.0"),
        ([1e-300, 0.0], "expected 0.0"),
        ([np.nan, 0.0], "expected 0.0"),
    ):
        with pytest.raises(AssertionError, match=words):
            assert_between("y", np.array(wrong), low, high)
    assert_between("y", np.array([np.nan]), np.array([np.nan]), np.array([np.nan]))


def test_gradients_are_compared_field_by_field():
    from deformable_convnets.reference import ConvGrads

    one = np.ones(1)
    assert_same_grads(ConvGrads(one, one, None), ConvGrads(one, one, None))
    for wrong in (
        ConvGrads(one, one, one),
        ConvGrads(one, 2 * one, None),
        ConvGrads(None, one, None),
    ):
        with pytest.raises(AssertionError, match="grads"):
            assert_same_grads(wrong, ConvGrads(one, one, None))
