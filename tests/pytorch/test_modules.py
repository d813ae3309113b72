"""The modules: DeformConv2d in place of torchvision's, and the pooling ones."""

import re
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is in no extra; `make test-torch` installs it")

from deformable_convnets import reference  # noqa: E402
from deformable_convnets.gpu import torch as ours  # noqa: E402
from deformable_convnets.reference.oracle import bounds, problems, shapes  # noqa: E402
from deformable_convnets.reference.oracle.laws_of_structure import ordinary  # noqa: E402
from pytorch.cases import assert_same, cases, whole  # noqa: E402

CONFIGURATIONS = [
    {},
    {"stride": 2, "padding": 1, "bias": False},
    {"stride": (1, 2), "padding": (2, 1), "dilation": (1, 2), "groups": 2},
]
configured = pytest.mark.parametrize("options", CONFIGURATIONS, ids=str)


@pytest.fixture(scope="module")
def torchvision():
    return pytest.importorskip("torchvision", reason="`make test-torch` installs torchvision")


def called(layer, options, dtype=torch.float32):
    """x, offset and mask for a layer of 4 channels and 3 x 2 taps, of ordinary floats."""
    random = torch.Generator().manual_seed(5)
    size = {"stride": 1, "padding": 0, "dilation": 1} | options
    size = {n: size[n] for n in ("stride", "padding", "dilation")}
    x = torch.randn(2, 4, 7, 8, generator=random, dtype=dtype)
    Ho, Wo = torch.nn.functional.conv2d(x, x.new_zeros(1, 4, 3, 2), **size).shape[2:]
    offset, mask = (
        torch.randn(2, n, Ho, Wo, generator=random, dtype=dtype) for n in (2 * 2 * 6, 2 * 6)
    )
    return x, offset, mask


@configured
def test_parameters_are_torchvisions(options, torchvision):
    """The same names and shapes, the same random numbers, and the one's state into the other."""
    torch.manual_seed(3)
    theirs = torchvision.ops.DeformConv2d(4, 6, (3, 2), **options)
    torch.manual_seed(3)
    mine = ours.DeformConv2d(4, 6, (3, 2), **options)
    assert mine.state_dict().keys() == theirs.state_dict().keys()
    for name, parameter in theirs.named_parameters():
        assert torch.equal(mine.get_parameter(name), parameter)
        assert parameter.abs().max() > 0
    for module in (mine, theirs):
        with torch.no_grad():
            module.weight.normal_()
    mine.load_state_dict(theirs.state_dict(), strict=True)
    assert torch.equal(mine.weight, theirs.weight)
    mine.weight.data.zero_()
    theirs.load_state_dict(mine.state_dict(), strict=True)
    assert not theirs.weight.any()


@configured
@pytest.mark.parametrize("masked", [False, True], ids=["plain", "mask"])
def test_equals_torchvisions_module(options, masked, torchvision):
    """In float64, to 1e-12 of the largest number, as tests/test_peers.py has it."""
    theirs = torchvision.ops.DeformConv2d(4, 6, (3, 2), **options).double()
    mine = ours.DeformConv2d(4, 6, (3, 2), **options).double()
    mine.load_state_dict(theirs.state_dict())
    found = []
    for layer in (mine, theirs):
        x, offset, mask = (a.requires_grad_() for a in called(layer, options, torch.float64))
        y = layer(x, offset, mask if masked else None)
        y.square().sum().backward()
        given = [x, offset, *([mask] if masked else []), *layer.parameters()]
        found.append([y.detach(), *(a.grad for a in given)])
    for a, b in zip(*found, strict=True):
        assert (a - b).abs().max() <= 1e-12 * b.abs().max()


def both(problem, theirs):
    """y and the gradients by name: ours, and those of `theirs`, in the dtype of the problem."""
    padding = tuple(before for before, _ in problem.shape.padding)
    options = {n: problem.options[n] for n in ("stride", "dilation")} | {"padding": padding}
    for call in (ours.deform_conv2d, theirs):
        names = [n for n in ("x", "offset", "weight", "bias", "mask")
                 if getattr(problem, n) is not None]  # fmt: skip
        given = {n: torch.from_numpy(getattr(problem, n).copy()).requires_grad_() for n in names}
        keywords = {n: a for n, a in given.items() if n in ("bias", "mask")}
        y = call(given["x"], given["offset"], given["weight"], **keywords, **options)
        y.backward(torch.from_numpy(problem.grad_output))
        yield {"y": y.detach().numpy()} | {n: a.grad.numpy() for n, a in given.items()}


def exceeding(problem, theirs):
    """The results that differ by more than two implementations may, each within its bound."""
    bound = bounds.tolerances(problem, "float32")._asdict()
    mine, others = both(problem, theirs)
    return [n for n in mine if (np.abs(mine[n].astype(float) - others[n]) > 2 * bound[n]).any()]


def floats(seed):
    """A problem of ordinary float32 numbers, with the padding that torchvision has."""
    shape = shapes.SHAPES[seed % len(shapes.SHAPES)].without({"uneven padding", "no images"})
    return ordinary(problems.make("base", shape, seed, border="zero").cast("float32"))


@pytest.mark.parametrize("seed", range(16))
def test_equals_torchvisions_function(seed, torchvision):
    """In float32 both are within the derived bound of the truth: no chosen tolerance."""
    assert exceeding(floats(seed), torchvision.ops.deform_conv2d) == []


def test_the_bound_sees_a_difference(torchvision):
    """Of one part in 10 000, and of offsets that are (dx, dy)."""

    def louder(x, *others, **keywords):
        return (1 + 1e-4) * torchvision.ops.deform_conv2d(x, *others, **keywords)

    def swapped(x, offset, *others, **keywords):
        offset = offset.unflatten(1, (-1, 2)).flip(2).flatten(1, 2)
        return torchvision.ops.deform_conv2d(x, offset, *others, **keywords)

    assert set(exceeding(floats(0), louder)) >= {"y", "x", "weight"}
    assert set(exceeding(floats(0), swapped)) >= {"y", "x", "weight"}


def test_unequal_padding_and_border():
    """What torchvision does not have."""
    case = whole("deform_conv2d", "float32")
    O, C, *kernel = case.arrays["weight"].shape
    options = {n: case.settings[n] for n in ("stride", "padding", "dilation")}
    for border in ("zero", "dcnv1"):
        layer = ours.DeformConv2d(C, O, tuple(kernel), **options, border=border)
        y = layer(*(torch.from_numpy(case.arrays[n]) for n in ("x", "offset", "mask")))
        weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
        given = case.arrays | {"weight": weight, "bias": bias}
        assert_same(y, reference.deform_conv2d(**given, **case.settings | {"border": border}))


@pytest.mark.parametrize(
    ("name", "module"),
    [("deform_roi_pool", ours.DeformRoIPool), ("deform_ps_roi_pool", ours.DeformPSRoIPool)],
)
def test_pooling(name, module):
    case = cases(name, "float32")[1]  # whose maps and parts are unlike its bins
    settings = dict(case.settings)
    layer = module(settings.pop("output_size"), **settings)
    tensors = case.tensors()
    assert_same(layer(tensors["x"], tensors["rois"], tensors["offset"]), case.expected()[0])
    assert not layer.state_dict()
    assert f"bins={case.settings['bins']!r}" in repr(layer)
    plain = {"ps_roi_pool": ("gamma", "part_size"), "roi_pool": ("gamma",)}
    function = name.removeprefix("deform_")
    left = {n: v for n, v in case.settings.items() if n not in plain[function]}
    expected = getattr(ours, function)(tensors["x"], tensors["rois"], **left)
    assert torch.equal(layer(tensors["x"], tensors["rois"], None), expected)


def test_a_layer_trains():
    """Through its offsets: a branch of PyTorch's finds where the picture has moved to."""
    torch.manual_seed(0)
    x = torch.randn(1, 1, 9, 10)
    moved = torch.roll(x, 1, 3)
    layer = ours.DeformConv2d(1, 1, 1, bias=False)
    torch.nn.init.ones_(layer.weight).requires_grad_(False)
    offset = torch.tensor([0.0, -0.4]).reshape(1, 2, 1, 1).requires_grad_()
    steps = torch.optim.Adam([offset], lr=0.05)
    inside = slice(2, -2)
    for _ in range(60):
        steps.zero_grad()
        y = layer(x, offset.expand(1, 2, 9, 10))
        loss = (y - moved)[..., inside, inside].square().mean()
        loss.backward()
        steps.step()
    assert offset.flatten().tolist() == pytest.approx([0, -1], abs=0.1)
    assert layer.weight.grad is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((5, 6, 3, 1, 0, 1, 2), "in_channels is 5, expected a multiple of groups = 2"),
        ((4, 5, 3, 1, 0, 1, 2), "out_channels is 5, expected a multiple of groups = 2"),
        ((4, 0, 3), r"\(out_channels, groups\) is \(0, 1\), expected 1 or more"),
        ((4, 6, 0), "kernel_size is 0, expected 1 or more"),
        ((4, 6, 3, 0), "stride is 0, expected 1 or more"),
        ((4, 6, 3, 1, -1), "padding is -1, expected 0 or more"),
    ],
)
def test_sizes_that_make_no_layer(arguments, said):
    with pytest.raises(ValueError, match=said):
        ours.DeformConv2d(*arguments)


@pytest.mark.parametrize("module", [ours.DeformRoIPool, ours.DeformPSRoIPool])
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"bins": "centre"}, "bins is 'centre', expected 'paper', 'mxnet' or 'align'$"),
        ({"samples": 2}, "samples is 2, expected None with bins='paper', which reads pixels$"),
        ({"bins": "align", "samples": 0}, "samples is 0, expected 1 to 1000 along each axis"),
        ({"spatial_scale": 0.0}, "spatial_scale is 0.0, expected a positive number$"),
        ({"gamma": float("nan")}, "gamma is nan, expected a finite number$"),
        ({"precision": "half"}, "precision is 'half', expected 'exact' or 'tf32'$"),
        ({"backend": "cuda"}, "backend is 'cuda', expected 'numba', 'cupy' or None|backend is"),
    ],
)
def test_settings_that_no_call_can_have(module, settings, said):
    """They are refused where the module is made."""
    with pytest.raises(ValueError, match=said):
        module(7, **settings)


def test_settings_of_a_layer():
    with pytest.raises(ValueError, match=r"border is 'reflect', expected 'zero' or 'dcnv1'$"):
        ours.DeformConv2d(4, 6, 3, border="reflect")
    with pytest.raises(ValueError, match="part_size is 0, expected 1 or more"):
        ours.DeformPSRoIPool(7, part_size=0)
    layer = ours.DeformConv2d(4, 6, 3, backend="numba", precision="exact")
    assert repr(layer).endswith("border='zero', backend='numba')")
    with pytest.raises(ValueError, match="precision is 'tf32' and x has dtype float64"):
        ours.DeformConv2d(1, 1, 1, precision="tf32").double()(
            torch.zeros(1, 1, 2, 2, dtype=torch.float64), torch.zeros(1, 2, 2, 2).double()
        )


def test_another_number_of_channels():
    """Twice as many would be two groups for the function."""
    layer = ours.DeformConv2d(2, 4, 1)
    with pytest.raises(ValueError, match=r"input has 4 channels, expected in_channels = 2  \["):
        layer(torch.zeros(1, 4, 3, 5), torch.zeros(1, 2, 3, 5))
    assert "2, 4, kernel_size=(1, 1)" in repr(layer)


def test_the_readme(capsys):
    """Its block of PyTorch, alone."""
    text = (Path(__file__).parents[2] / "README.md").read_text()
    (block,) = [
        b for b in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "import torch" in b
    ]
    exec(compile(block, "README.md", "exec"), {})
    assert capsys.readouterr().out == "tensor(True)\n"
