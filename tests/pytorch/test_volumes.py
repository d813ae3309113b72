"""`deform_conv3d` beside PyTorch: its conv3d at zero offset, and its grid_sample with autograd.

Both compute in float64, and sums of some hundred terms of size 1 are compared: 1e-11 leaves room
for the rounding of each term, and of the coordinates that grid_sample wants in units of the volume.
"""

import numpy as np
import pytest

from deformable_convnets import reference

torch = pytest.importorskip("torch")
OPTIONS = {"stride": (1, 2, 1), "padding": (1, 0, 2), "dilation": (2, 1, 1)}
RNG = np.random.default_rng(0)
X, WEIGHT, BIAS = (RNG.normal(size=s) for s in ((2, 4, 5, 6, 7), (6, 2, 2, 3, 2), (6,)))
OUTPUT = (5, 2, 10)
GRAD = RNG.normal(size=(2, 6, *OUTPUT))


def leaves(*arrays):
    return [torch.tensor(a, requires_grad=True) for a in arrays]


def close(a, tensor):
    assert np.abs(a - tensor.detach().numpy()).max() < 1e-11


def test_zero_offset_is_its_conv3d():
    x, weight, bias = tensors = leaves(X, WEIGHT, BIAS)
    y = torch.nn.functional.conv3d(x, weight, bias, groups=2, **OPTIONS)
    y.backward(torch.tensor(GRAD))
    offset = np.zeros((2, 2 * 3 * 12, *OUTPUT))
    close(reference.deform_conv3d(X, offset, WEIGHT, BIAS, **OPTIONS), y)
    close(reference.conv3d(X, WEIGHT, BIAS, **OPTIONS), y)
    grads = reference.deform_conv3d_backward(GRAD, X, offset, WEIGHT, BIAS, **OPTIONS)
    plain = reference.conv3d_backward(GRAD, X, WEIGHT, BIAS, **OPTIONS)
    for name, tensor in zip(("x", "weight", "bias"), tensors, strict=True):
        close(getattr(grads, name), tensor.grad)
        close(getattr(plain, name), tensor.grad)


def test_one_tap_after_the_other_is_its_grid_sample():
    """The same sum over the taps, each a trilinear sample by PyTorch, differentiated by it."""
    offset = RNG.normal(size=(2, 3 * 12, *OUTPUT))
    weight = RNG.normal(size=(6, 4, 2, 3, 2))
    x, moved, w = leaves(X, offset, weight)
    size = torch.tensor(X.shape[2:])
    y = 0
    for k, tap in enumerate(np.ndindex(weight.shape[2:])):
        grid = np.moveaxis(np.indices(OUTPUT), 0, -1) * OPTIONS["stride"] - OPTIONS["padding"]
        fixed = torch.tensor(grid + np.multiply(tap, OPTIONS["dilation"]))
        p = fixed + moved[:, 3 * k : 3 * k + 3].movedim(1, -1)
        at = (2 * p / (size - 1) - 1).flip(-1)  # x first, and from -1 to 1
        samples = torch.nn.functional.grid_sample(x, at, align_corners=True)
        y = y + torch.einsum("oc,ncdhw->nodhw", w[:, :, *tap], samples)
    y.backward(torch.tensor(GRAD))
    close(reference.deform_conv3d(X, offset, weight, **OPTIONS), y)
    grads = reference.deform_conv3d_backward(GRAD, X, offset, weight, **OPTIONS)
    close(grads.x, x.grad)
    close(grads.weight, w.grad)
    close(grads.offset, moved.grad)
