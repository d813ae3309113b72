"""What CUDA C++ computes in 16 bits and in TF32: exact where it can be, else within a bound.

A kernel of 16 bits rounds each column, a sample times its mask, to 16 bits before the product,
whose sums are float32. So on problems whose samples fit ("narrow": 8 bits) the result is the exact
one, rounded once. TF32 rounds the columns and the weights to 11 bits.
"""

import numpy as np
import pytest
from implementations import ENTRIES

from deformable_convnets import gpu
from deformable_convnets.reference import deform_conv2d, deform_conv2d_backward
from deformable_convnets.reference.oracle import problems

bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
BACKENDS = [name for name in ENTRIES if name in ("cuda-on-cpu v2", "cupy v2", "cupy v3")]
SIXTEEN = {"float16": np.float16, "bfloat16": bfloat16}
# Relative errors that the project promises, in the 2-norm, against float64
PROMISED = {"float32": 2e-6, "tf32": 1e-3, "float16": 2e-3, "bfloat16": 1e-2}


@pytest.fixture(params=BACKENDS)
def backend(request, runnable):
    runnable(ENTRIES[request.param])
    name, version = request.param.split()
    return {"backend": name, "version": version}


def arguments(p, dtype, positions=None):
    """The arguments of a problem in these dtypes."""
    cast = {n: getattr(p, n) for n in ("x", "offset", "weight", "bias", "mask")}
    given = {n: None if a is None else a.astype(dtype) for n, a in cast.items()}
    given["offset"] = p.offset.astype(positions or dtype)
    return given | p.options | {"border": p.border}


def of_reference(p):
    """y and the gradients in float64, by name."""
    given, grad = arguments(p, np.float64), p.grad_output.astype(np.float64)
    return {"y": deform_conv2d(**given)} | deform_conv2d_backward(grad, **given)._asdict()


def of_gpu(p, dtype, backend, positions=None, precision="exact"):
    given, options = arguments(p, dtype, positions), backend | {"precision": precision}
    grads = gpu.deform_conv2d_backward(p.grad_output.astype(dtype), **given, **options)
    return {"y": gpu.deform_conv2d(**given, **options)} | grads._asdict()


@pytest.mark.parametrize("positions", [None, np.float32])
@pytest.mark.parametrize("name", SIXTEEN)
def test_sixteen_bits_are_rounded_once(backend, name, positions):
    dtype, seen = SIXTEEN[name], 0
    for p in problems.some(12, "narrow", dtype="float32"):
        if positions is None and (p.offset.astype(dtype).astype(np.float32) != p.offset).any():
            continue  # a point far from the map, whose place 8 bits do not hold
        found = of_gpu(p, dtype, backend, positions)
        for result, a in of_reference(p).items():
            if a is None:
                continue
            kept = (positions or dtype) if result == "offset" else dtype
            assert found[result].dtype == kept
            np.testing.assert_array_equal(found[result], a.astype(kept), err_msg=result)
            seen += 1
    assert seen > 30


def test_wide_samples_do_not_fit_sixteen_bits(backend):
    """What the test above would see: a column rounded to 8 bits shows in y."""
    wrong = 0
    for p in problems.some(10, "base", dtype="float32"):
        y = of_gpu(p, bfloat16, backend, np.float32)["y"]
        wrong += (y != of_reference(p)["y"].astype(bfloat16)).any()
    assert wrong > 0


def test_tf32_is_exact_where_eleven_bits_are_enough(backend):
    for p in problems.some(12, "narrow", dtype="float32"):
        found = of_gpu(p, np.float32, backend, precision="tf32")
        for name, a in of_reference(p).items():
            if a is not None:
                np.testing.assert_array_equal(found[name], a.astype(np.float32), err_msg=name)


def test_exact_is_not_tf32(backend):
    """Numbers of 12 bits: every bit of them is in the result, but with precision="tf32"."""
    rounded = 0
    for p in problems.some(12, "wide-x", "wide-w", "wide-g", dtype="float32"):
        exact, tf32 = (of_gpu(p, np.float32, backend, precision=name) for name in ("exact", "tf32"))
        for name, a in of_reference(p).items():
            if a is not None:
                np.testing.assert_array_equal(exact[name], a.astype(np.float32), err_msg=name)
                rounded += (tf32[name] != exact[name]).any()
    assert rounded > 0


def ordinary():
    """A problem of numbers that every dtype holds: what differs is how it computes with them."""
    rng, around = np.random.default_rng(0), ((1, 1), (1, 1))
    shape = problems.Shape(
        N=2, channels=16, G=2, outputs=16, kernel=(3, 3), padding=around, at_least=(9, 10)
    )
    p = problems.make("base", shape, 1)
    size = {n: getattr(p, n).shape for n in ("x", "weight", "grad_output")}
    numbers = {n: rng.normal(size=shape) for n, shape in size.items()}
    numbers |= {"offset": rng.normal(0, 2, p.offset.shape), "bias": rng.normal(size=16)}
    numbers["mask"] = rng.random((2, 18, 9, 10))
    return p.with_(**{n: a.astype(bfloat16).astype(np.float64) for n, a in numbers.items()})


@pytest.mark.parametrize("name", PROMISED)
def test_relative_errors(backend, name):
    p, dtype = ordinary(), SIXTEEN.get(name, np.float32)
    precision = "tf32" if name == "tf32" else "exact"
    found, errors = of_gpu(p, dtype, backend, np.float32, precision), {}
    for result, a in of_reference(p).items():
        difference = found[result].astype(np.float64) - a
        errors[result] = np.linalg.norm(difference) / np.linalg.norm(a)
    assert max(errors.values()) <= PROMISED[name], errors
    assert max(errors.values()) > 2.0**-26


def test_what_takes_bfloat16(backend, runnable):
    a = np.ones((1, 1, 2, 2), bfloat16)
    assert gpu.conv2d(a, a, **backend).dtype == bfloat16
    with pytest.raises(ValueError, match="precision is 'tf32' and x has dtype bfloat16, expected"):
        gpu.conv2d(a, a, precision="tf32", **backend)
    runnable(ENTRIES["numba v1"])
    with pytest.raises(ValueError, match="'v1' has no dtype bfloat16; 'v2' has no dtype bfloat16"):
        gpu.deform_conv2d(a, np.zeros((1, 8, 1, 1), bfloat16), a, backend="numba")
