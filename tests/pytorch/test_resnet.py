"""Trunks with torchvision's weights: logits and maps equal its own, to the rounding of float32."""

import numpy as np
import pytest

REASON = "torch is in no extra; `make test-torch` installs it"
torch = pytest.importorskip("torch", reason=REASON)
torchvision = pytest.importorskip("torchvision", reason=REASON)

from deformable_convnets.reference.networks import Tape, imported, layers, resnet  # noqa: E402

RNG = np.random.default_rng(0)


def theirs(depth):
    """torchvision's network with random weights, and norms that do something."""
    torch.manual_seed(depth)
    net = getattr(torchvision.models, f"resnet{depth}")(weights=None).eval()
    with torch.no_grad():
        for part in net.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.weight.uniform_(0.5, 1)
                part.bias.normal_(0, 0.1)
                part.running_mean.normal_(0, 0.1)
                part.running_var.uniform_(0.8, 1.2)
    return net


def ours(depth, state, dtype=np.float32, **options):
    """Our network with its weights."""
    options = {"top": None, **resnet.TORCHVISION} | options
    made = resnet.trunk(np.random.default_rng(1), depth, dtype=dtype, **options)
    imported.torchvision(made, state)
    return made


def assert_close(found, expected, exact):
    """As far from the result in float64 as theirs is, or a few times."""
    assert found.shape == expected.shape == exact.shape
    scale = abs(exact).max()
    most = max(abs(expected - exact).max(), 2.0**-22 * scale)
    assert abs(found - exact).max() <= 4 * most


@pytest.mark.parametrize("depth", [18, 50, 101])
def test_logits(depth, tmp_path):
    net = theirs(depth)
    torch.save(net.state_dict(), tmp_path / "net.pth")
    state = imported.read(tmp_path / "net.pth")
    x = RNG.normal(size=(1, 3, 49, 70)).astype(np.float32)
    made = ours(depth, state, stride=32, classes=1000)
    with torch.no_grad():
        expected = net(torch.from_numpy(x)).numpy()
        exact = net.double()(torch.from_numpy(x).double()).numpy()
    found = made.classify(Tape(), x)
    assert_close(found, expected, exact)
    wrong = ours(depth, state, stride=32, classes=1000)
    wrong.res3[1].branch2b.norm.shift += 1e-3
    with pytest.raises(AssertionError):
        assert_close(wrong.classify(Tape(), x), expected, exact)


@pytest.mark.parametrize("depth", [18, 50])
def test_maps_at_stride_16(depth):
    """With res5 dilated as in the paper, all of its 3x3 layers: torchvision is changed to it."""
    net = theirs(depth)
    for part in net.layer4.modules():
        if isinstance(part, torch.nn.Conv2d):
            part.stride = (1, 1)
            if part.kernel_size == (3, 3):
                part.dilation = part.padding = (2, 2)
    x = RNG.normal(size=(1, 3, 65, 84)).astype(np.float32)
    made = ours(depth, {name: a.numpy() for name, a in net.state_dict().items()})
    features = torch.nn.Sequential(*list(net.children())[:-2])
    with torch.no_grad():
        given = torch.from_numpy(x)
        expected = features[:-1](given).numpy(), features(given).numpy()
        features.double()
        exact = features[:-1](given.double()).numpy(), features(given.double()).numpy()
    for each in zip(made.stages(Tape(), x), expected, exact, strict=True):
        assert_close(*each)


def test_a_deformable_trunk_has_the_same_maps():
    """Its branches are zero, and are not in torchvision's weights."""
    state = {name: a.numpy() for name, a in theirs(18).state_dict().items()}
    plain = ours(18, state)
    made = layers.deformable(ours(18, state), resnet.last(plain, 3))
    imported.torchvision(made, state)
    x = RNG.normal(size=(1, 3, 33, 40)).astype(np.float32)
    for a, b in zip(plain.stages(Tape(), x), made.stages(Tape(), x), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * abs(a).max())


def test_what_is_no_state_dict(tmp_path):
    (tmp_path / "broken.pth").write_bytes(b"no zip file")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"a": 1}, tmp_path / "numbers.pt")
    for name in ("broken.pth", "list.pth", "numbers.pt"):
        with pytest.raises(ValueError, match=f"{name} is not a state dict"):
            imported.read(tmp_path / name)
    torch.save({"state_dict": {"a": torch.ones(2, dtype=torch.bfloat16)}}, tmp_path / "part.pth")
    assert imported.read(tmp_path / "part.pth")["a"].tolist() == [1, 1]
