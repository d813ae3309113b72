"""Convolutions with a 1 x 1 kernel: products of matrices, of the same bits as by columns."""

import numpy as np
import pytest
from cuda_on_cpu.cpu_device import CpuDevice

from deformable_convnets import gpu, reference
from deformable_convnets.gpu import registry
from deformable_convnets.gpu.cupy_kernels import cuda_program, deform_conv, pointwise

DEVICE = CpuDevice(watched=False)
SHAPES = [(2, 5, 4, 7), (3, 4, 5, 6), (1, 8, 7, 7), (1, 1, 1, 1), (0, 2, 3, 3)]


@pytest.fixture
def backend(monkeypatch):
    made = registry.Backend(lambda: {"v2": cuda_program.operators(DEVICE)})
    monkeypatch.setitem(registry.BACKENDS, "here", made)
    return "here"


def problem(shape, dtype, last):
    rng = np.random.default_rng(sum(shape))
    x, weight, bias = (
        rng.integers(-8, 9, s).astype(dtype) for s in (shape, (3, shape[1], 1, 1), (3,))
    )
    return (
        np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2) if last else x,
        weight,
        bias,
    )


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_bits_of_the_reference(backend, monkeypatch, shape, dtype, last):
    x, weight, bias = problem(shape, dtype, last)
    monkeypatch.setattr(deform_conv.Convolution, "forward", None)  # no columns are made
    for b in (None, bias):
        expected = reference.conv2d(x, weight, b)
        found = gpu.conv2d(x, weight, b, backend=backend)
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == dtype


def test_another_product_is_seen(backend, monkeypatch):
    x, weight, bias = problem((2, 5, 4, 7), np.float32, False)
    multiply = DEVICE.multiply
    monkeypatch.setattr(
        DEVICE, "multiply", lambda a, b, out, **options: multiply(a[:, ::-1], b, out, **options)
    )
    found = gpu.conv2d(x, weight, bias, backend=backend)
    assert (found != reference.conv2d(x, weight, bias)).any()


def test_what_goes_by_columns():
    x = np.zeros((1, 4, 5, 6), np.float32)

    def fits(x, weight, **options):
        geometry = reference.checks.check_conv2d(
            x,
            weight,
            None,
            *(options.get(k, d) for k, d in (("stride", 1), ("padding", 0), ("dilation", 1))),
        )
        return pointwise.fits(x, geometry)

    one = np.zeros((2, 4, 1, 1), np.float32)
    assert fits(x, one)
    assert fits(x, one, dilation=3)
    assert not fits(x, one, stride=2)
    assert not fits(x, one, padding=1)
    assert not fits(x, one[:, :2])
    assert not fits(x, np.zeros((3, 4, 1, 3), np.float32))
    assert not fits(x.astype(np.float16), one.astype(np.float16))
