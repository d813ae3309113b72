"""What the tests of the fused gradients share: problems, one call of v3, and what is right."""

import numpy as np
from cuda_on_cpu.cpu_device import CpuDevice

from deformable_convnets.gpu import frameworks
from deformable_convnets.gpu.cupy_kernels import fused_backward
from deformable_convnets.reference import deform_conv2d_backward
from deformable_convnets.reference.checks import check_deform_conv2d

DTYPES = {
    "float32": np.float32, "tf32": np.float32, "float16": np.float16,
    "bfloat16": frameworks.bfloat16(),
}  # fmt: skip
WIDE = {"C": 16, "O": 16, "groups": 1, "G": 1}  # loads of 16 bytes, in every dtype
GROUPED = {"C": 12, "O": 10, "groups": 2, "G": 3}
ODD = {"C": 10, "O": 3, "groups": 1, "G": 2}
WRT = ("x", "offset", "weight", "bias", "mask")


def problem(name="float32", *, C=16, O=16, groups=1, G=1, N=2, size=(5, 7), exact=True, seed=0):
    """x, offset, weight, mask and grad_output: small dyadic numbers, or any."""
    rng, dtype = np.random.default_rng(seed), DTYPES[name]

    def whole(limit, *shape):
        a = rng.integers(-limit, limit + 1, shape)
        return a if exact else a + rng.normal(size=shape)

    given = {
        "x": whole(2, N, C, *size), "offset": whole(12, N, G * 18, *size) / 4,
        "weight": whole(3, O, C // groups, 3, 3), "mask": abs(whole(2, N, G * 9, *size)) / 2,
    }  # fmt: skip
    return {n: a.astype(dtype) for n, a in given.items()}, whole(2, N, O, *size).astype(dtype)


def widened(given, grad, wide):
    """The problem with odd numbers of 12 bits in one array, and samples that are pixels."""
    given = given | {"mask": np.ones_like(given["mask"]), "offset": np.rint(given["offset"])}
    odd = (given | {"grad": grad})[wide]
    numbers = 2 * (np.arange(odd.size).reshape(odd.shape) % 4093) - 4091
    given, grad = given | {wide: numbers.astype(odd.dtype)}, grad
    return given, given.pop("grad", grad)


def run(given, grad, name="float32", wrt=WRT, device=None, border="zero", side="right", **options):
    """Gradients by name, of v3."""
    x, offset, weight, mask = given.values()
    wide = {n: a.astype(np.float64) for n, a in given.items()}
    at = check_deform_conv2d(
        wide["x"], wide["offset"], wide["weight"], None, 1, 1, 1, wide["mask"], border
    )
    bias = np.zeros(weight.shape[0], weight.dtype)
    return fused_backward.deform_conv2d_backward(
        device or CpuDevice(), grad, x, offset, weight, bias, mask, geometry=at, border=border,
        side=side, wrt=wrt, precision="tf32" if name == "tf32" else "exact", **options,
    )  # fmt: skip


def expected(given, grad, border="zero", side="right"):
    """Of the reference in float64."""
    wide = {n: a.astype(np.float64) for n, a in given.items()}
    grads = deform_conv2d_backward(
        grad.astype(np.float64), **wide, padding=1, border=border, side=side
    )
    return grads._asdict() | {"bias": grad.astype(np.float64).sum((0, 2, 3))}


def wrong(found, given, grad, **settings):
    """The names of the gradients that are not exactly right."""
    right = expected(given, grad, **settings)
    return [n for n, a in found.items() if (a != right[n].astype(a.dtype)).any()]
