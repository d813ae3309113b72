"""The RoI layers of Figures 3 and 4: their gradients, their branches at zero, what they refuse."""

import numpy as np
import pytest

from deformable_convnets import reference
from deformable_convnets.reference.networks import Tape, layers, primitives
from deformable_convnets.reference.networks.layers import Conv2d, Linear
from deformable_convnets.reference.networks.roi_layers import (
    DeformPsRoiPool,
    DeformRoiPool,
    PsRoiPool,
    RoiPool,
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 4, 7, 8))
ROIS = np.array([[0, 3.3, 2.1, 20.7, 23.9], [1, 1.2, 9.6, 29.1, 22.8], [1, 0, 0, 8, 5]])
PATHS = ["pool", "score"]


def plain(path, dtype=np.float64, **options):
    """A plain layer, 2 x 3 bins: RoiPool, or PsRoiPool of 4 outputs in 2 class groups."""
    options = {"output_size": (2, 3), "spatial_scale": 0.25} | options
    if path == "pool":
        return RoiPool(4, **options)
    rng = np.random.default_rng(1)
    return PsRoiPool(layers.conv(rng, 4, 24, 1, dtype=dtype), class_groups=2, **options)


def converted(path, moved=True, **options):
    """Its deformable form; `moved`: with a branch that is not zero any more."""
    layer = layers.deformable([plain(path, **options), X], ["0"])[0]  # X says which dtype
    if moved:
        rng = np.random.default_rng(2)
        for a in layers.parameters(layer.branch).values():
            a += 0.3 * rng.normal(size=a.shape)
    return layer


def along(layer, given, name, v, grad_output, t):
    a = given[name]
    kept = a.copy()
    a += t * v
    value = float((grad_output * layer(Tape(), given["x"], ROIS)).sum())
    a[...] = kept
    return value


def assert_gradients(layer, **options):
    """Along random directions of x and of each parameter, by two central differences."""
    given = {"x": X.copy(), **layers.parameters(layer)}
    tape = Tape(given)
    y = layer(tape, given["x"], ROIS)
    grad_output = np.random.default_rng(3).normal(size=y.shape)
    gradients = tape.gradients(y, grad_output)
    h = 2.0**-14
    for name, a in given.items():
        v = RNG.normal(size=a.shape)
        near, far = (
            (along(layer, given, name, v, grad_output, s)
             - along(layer, given, name, v, grad_output, -s)) / (2 * s)
            for s in (h, 2 * h)
        )  # fmt: skip
        found = float((gradients[name] * v).sum())
        assert abs(found) > 1e-3  # far above what is forgiven
        assert abs(near - found) <= abs(far - near) + 1e-9, name


@pytest.mark.parametrize("rule", [("align", 3), ("mxnet", 2), ("paper", None)])
@pytest.mark.parametrize("path", PATHS)
def test_gradients(path, rule):
    for made in (plain, converted):
        assert_gradients(made(path, bins=rule[0], samples=rule[1]))


@pytest.mark.parametrize(
    ("path", "operator"), [("pool", "deform_roi_pool"), ("score", "deform_ps_roi_pool")]
)
def test_another_gradient_is_seen(path, operator, monkeypatch):
    """Of the offsets with another sign, or with dy and dx exchanged."""
    right = getattr(reference, f"{operator}_backward")
    for wrong in (lambda offset: -offset, lambda offset: offset[:, ::-1]):

        def backward(*args, wrong=wrong, **options):
            grads = right(*args, **options)
            return grads._replace(offset=np.ascontiguousarray(wrong(grads.offset)))

        monkeypatch.setattr(reference, f"{operator}_backward", backward)
        with pytest.raises(AssertionError):
            assert_gradients(converted(path))


def test_they_are_the_modules_of_figures_3_and_4():
    """And so are their gradients: `roi_modules` has them by hand."""
    options = {"spatial_scale": 0.25, "bins": "align", "samples": 3}
    for path, module in (
        ("pool", "deform_roi_pool_module"),
        ("score", "deform_ps_roi_pool_module"),
    ):
        layer = converted(path)
        branch = layer.branch.weight, layer.branch.bias
        score = () if path == "pool" else (layer.score.weight, layer.score.bias)
        args = (X, ROIS, *score, *branch, (2, 3))
        tape = Tape({"x": X, **layers.parameters(layer)})
        y = layer(tape, X, ROIS)
        np.testing.assert_array_equal(y, getattr(reference, module)(*args, **options))
        grad = RNG.normal(size=y.shape)
        expected = getattr(reference, f"{module}_backward")(grad, *args, **options)
        for (name, found), theirs in zip(tape.gradients(y, grad).items(), expected, strict=True):
            np.testing.assert_allclose(found, theirs, rtol=1e-12, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_converted_and_plain_outputs_are_equal(path, dtype):
    """Section 2.3, bit for bit: the branches are zero and the weights are kept."""
    x = RNG.integers(-3, 4, X.shape).astype(dtype)
    rois = np.array([[0, 4, 4, 20, 28], [1, 0, 8, 32, 24]], dtype)
    net = [plain(path, dtype, output_size=2, samples=2), x]  # every weight is dyadic
    for a in layers.parameters(net[0]).values():
        a[...] = np.random.default_rng(3).integers(-2, 3, a.shape)
    made = layers.deformable(net, ["0"])[0]
    y = net[0](Tape(), x, rois)
    assert y.any()
    np.testing.assert_array_equal(made(Tape(), x, rois), y)
    assert {a.dtype.name for a in layers.arrays(made).values()} == {dtype}
    for name, a in layers.parameters(net[0]).items():
        np.testing.assert_array_equal(layers.parameters(made)[name], a)
        assert not np.shares_memory(layers.parameters(made)[name], a)
    made.branch.bias += 0.5  # a layer that was changed is another
    assert (made(Tape(), x, rois) != y).any()


def moved_rois(dy, dx):
    """The RoIs moved by so much of their height and width."""
    sizes = ROIS[:, 3:] - ROIS[:, 1:3]
    by = sizes * (dx, dy)
    return ROIS + np.hstack([np.zeros((3, 1)), by, by])


def test_the_branch_makes_dy_first_then_dx():
    """Figure 3: all bins down by gamma h 0.7, then all to the right by gamma w 0.7."""
    for first, (dy, dx) in ((0, (0.07, 0)), (6, (0, 0.07))):
        layer = converted("pool", moved=False)
        layer.branch.bias[first : first + 6] = 0.7
        expected = plain("pool")(Tape(), X, moved_rois(dy, dx))
        np.testing.assert_allclose(layer(Tape(), X, ROIS), expected, rtol=0, atol=1e-13)
        other = plain("pool")(Tape(), X, moved_rois(dx, dy))
        assert abs(other - expected).max() > 0.01


def test_class_groups_have_offsets_of_their_own():
    """Figure 4: maps 2 p k k on are dy of group p; group 1 is the last two of four outputs."""
    layer, k = converted("score", moved=False), 6
    assert layer.branch.weight.shape == (2 * 2 * k, 4, 1, 1)
    layer.branch.bias[2 * k : 3 * k] = 0.7
    y, score = layer(Tape(), X, ROIS), plain("score")
    np.testing.assert_array_equal(y[:, :2], score(Tape(), X, ROIS)[:, :2])
    moved = score(Tape(), X, moved_rois(0.07, 0))
    inner = slice(0, 2)  # the third RoI lies at the border
    np.testing.assert_allclose(y[inner, 2:], moved[inner, 2:], rtol=0, atol=1e-13)
    assert abs(y[inner, :2] - moved[inner, :2]).max() > 0.01


@pytest.mark.parametrize("path", PATHS)
def test_no_rois(path):
    """Forward and backward: the gradients are zero."""
    for layer in (plain(path), converted(path)):
        given = {"x": X, **layers.parameters(layer)}
        tape = Tape(given)
        y = layer(tape, X, np.zeros((0, 5)))
        assert y.shape == (0, 4, 2, 3)
        for name, grad in tape.gradients(y, y.copy()).items():
            assert grad.shape == given[name].shape
            assert not grad.any()


def test_the_vote_is_the_mean_of_the_bins():
    x = np.arange(12.0).reshape(1, 2, 2, 3)
    assert primitives.mean(x).tolist() == [[2.5, 8.5]]
    assert primitives.mean(np.zeros((0, 5, 3, 3))).shape == (0, 5)
    with pytest.raises(ValueError, match="x has H = 0, W = 3, expected 1 or more of each"):
        primitives.mean(np.zeros((1, 2, 0, 3)))


def test_names_and_kinds():
    net = [plain("pool"), plain("score"), layers.linear(RNG, 3, 4)]
    made = layers.deformable(net, ["0", "1"])
    assert isinstance(made[0], DeformRoiPool)
    assert isinstance(made[0].branch, Linear)
    assert isinstance(made[1], DeformPsRoiPool)
    assert isinstance(made[1].branch, Conv2d)
    assert type(net[0]) is RoiPool
    assert list(layers.parameters(made)) == [
        "0.branch.weight", "0.branch.bias", "1.score.weight", "1.score.bias", "1.branch.weight",
        "1.branch.bias", "2.weight", "2.bias",
    ]  # fmt: skip
    assert made[1].settings() == net[1].settings()
    with pytest.raises(ValueError, match=r"'2' is not a plain convolution or RoI pooling of this"):
        layers.deformable(net, ["2"])
    with pytest.raises(ValueError, match=r"'0' is not .* which has 1.score, 1.branch$"):
        layers.deformable(made, ["0"])


def test_errors():
    with pytest.raises(ValueError, match="x has 3 channels, expected those of the layer: 4"):
        converted("pool")(Tape(), X[:, :3], ROIS)
    with pytest.raises(ValueError, match="x has 3 channels, expected groups"):
        converted("score")(Tape(), X[:, :3], ROIS)
    layer = plain("score")
    layer.class_groups = 3
    said = r"score makes 24 maps, expected a multiple of class_groups \* kh \* kw = 3 \* 2 \* 3"
    with pytest.raises(ValueError, match=said):
        layers.deformable([layer], ["0"])
    with pytest.raises(ValueError, match="expected a batch index, a whole number from 0"):
        plain("pool")(Tape(), X, ROIS + 1)
