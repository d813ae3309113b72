"""`deform_conv3d` beside PyTorch: its conv3d at zero offset, and its grid_sample with autograd.

Both compute in float64, and sums of some hundred terms of size 1 are compared: 1e-11 leaves room
for the rounding of each term, and of the coordinates that grid_sample wants in units of the volume.
"""

import numpy as np
import pytest

from deformable_convnets import reference

torch = pytest.importorskip("torch")

from deformable_convnets.gpu import torch as ours  # noqa: E402

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


@pytest.mark.parametrize("bias", [True, False])
def test_a_module_in_place_of_its_conv3d(bias):
    """The same parameters from the same random numbers; at zero offset the same result."""
    made = []
    for kind in (torch.nn.Conv3d, ours.DeformConv3d):
        torch.manual_seed(3)
        made.append(kind(4, 6, (2, 3, 2), groups=2, bias=bias, **OPTIONS).double())
    theirs, mine = made
    assert mine.state_dict().keys() == theirs.state_dict().keys()
    for name, parameter in theirs.named_parameters():
        assert torch.equal(mine.get_parameter(name), parameter)
    x, grad = torch.tensor(X), torch.tensor(GRAD)
    offset = torch.zeros(2, 3 * 12, *OUTPUT, dtype=torch.float64)
    found = []
    for layer, more in ((theirs, ()), (mine, (offset,))):
        y = layer(x, *more)
        y.backward(grad)
        found.append([y, *(p.grad for p in layer.parameters())])
    for a, b in zip(*found, strict=True):
        assert (a - b).abs().max() < 1e-11
    with pytest.raises(AssertionError):
        close(X[:, :1, :1, :1, :1], mine(x, offset + 1e-3)[:, :1, :1, :1, :1])


def test_a_module_with_a_mask_and_faces():
    """What torch has not: padding of each face, a mask and the other border."""
    faces = ((1, 0), (0, 2), (1, 1))
    layer = ours.DeformConv3d(4, 6, 2, padding=faces, border="dcnv1").double()
    offset, mask = RNG.normal(size=(2, 3 * 8, 5, 7, 8)), RNG.normal(size=(2, 8, 5, 7, 8))
    y = layer(*map(torch.tensor, (X, offset, mask)))
    weight, bias = (p.detach().numpy() for p in layer.parameters())
    given = {"padding": faces, "border": "dcnv1", "mask": mask}
    np.testing.assert_array_equal(
        y.detach().numpy(), reference.deform_conv3d(X, offset, weight, bias, **given)
    )
    assert "kernel_size=(2, 2, 2)" in repr(layer)
    assert f"padding={faces}" in repr(layer)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: ours.DeformConv3d(4, 6, (3, 3)), r"kernel_size is \(3, 3\), expected an int or"),
        (lambda: ours.DeformConv3d(4, 6, 3, padding=((1, 1), 1, 1)), r"padding is .*, expected"),
        (lambda: ours.DeformConv3d(4, 6, 1)(torch.zeros(1, 3, 2, 2, 2), torch.zeros(1, 3, 2, 2, 2)),
         "input has 3 channels, expected in_channels = 4"),
        (lambda: ours.DeformConv3d(4, 6, 1)(torch.zeros(1, 4, 2, 2), torch.zeros(1, 3, 2, 2)),
         "x has 4 dimensions, expected 5"),
        (lambda: ours.deform_conv3d(torch.zeros(1, 4, 2, 2, 2), torch.zeros(1, 2, 2, 2, 2),
                                    torch.zeros(6, 4, 1, 1, 1)), "offset has 2 channels, expected"),
    ],
)  # fmt: skip
def test_what_is_refused(call, said):
    with pytest.raises((ValueError, TypeError), match=said):
        call()
