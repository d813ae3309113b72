"""Networks with their arrays on a device and the operators of `gpu`: the same numbers.

A stand-in for CuPy (`device_arrays`) refuses NumPy's arrays as CuPy does, and its operators are the
array program of `gpu`. On networks of small dyadic numbers everything is exact, so maps and
gradients agree bit for bit; on ordinary floats they differ by rounding, of which the same network
in float32 shows how much it is: 2^29 times as much.
"""

from functools import wraps
from zlib import crc32

import device_arrays as device
import numpy as np
import pytest
from paper_networks import CLASSES, MAKERS, PROPOSALS, ROIS, SIZE, TRUTHS, plain
from small_stages import deformed

from deformable_convnets import gpu
from deformable_convnets.reference.networks import (
    Tape,
    count,
    deeplab,
    layers,
    optimisers,
    resnet,
    rfcn,
    rpn,
    runtime,
    training,
    two_stage,
)
from deformable_convnets.reference.networks.device import Where, placed
from deformable_convnets.reference.networks.layers import BatchNorm

every_network = pytest.mark.parametrize("name", MAKERS)
both = pytest.mark.parametrize("moves", [plain, deformed])


def images(rng):
    return rng.integers(-1, 2, (1, 3, *SIZE)).astype(float)


def exact(net):
    """Two weights of -1 or 1 for each output, offsets of halves, norms that only change signs:
    all sums are exact."""
    for name, a in layers.arrays(net).items():
        rng = np.random.default_rng(crc32(name.encode()))
        if ".branch." in name:
            a[...] = rng.integers(-3, 4, a.shape) / 2 if name.endswith("bias") else 0
        elif name.endswith(".scale"):
            a[...] = rng.choice([-1, 1, 1], a.shape)
        elif name.endswith("weight"):
            rows = a.reshape(len(a), -1)
            rows[...] = 0
            for row in rows:
                row[rng.integers(0, len(row), 2)] = rng.choice([-1, 1, 1, 1], 2)
    for norm in norms(net):
        norm.epsilon = 0.0
    for part in vars(getattr(net, "head", net)).values():
        if hasattr(part, "gamma"):
            part.gamma = 0.125
    return net


def norms(part):
    """All batch norms of a network."""
    if isinstance(part, BatchNorm):
        return [part]
    each = part if isinstance(part, list) else vars(part).values() if hasattr(
        part, "__dataclass_fields__") else []  # fmt: skip
    return [norm for one in each for norm in norms(one)]


def maps(net, tape, x):
    """All that a network computes, and on ROIS: scores before up-sampling, maps, scores, deltas."""
    if isinstance(net, deeplab.DeepLab):
        return [net(tape, x)]
    if isinstance(net, rpn.ProposalNetwork):
        return list(net(tape, x))
    made = list(net(tape, x, ROIS))
    if net.rpn is not None:
        made += net.rpn(tape, net.maps(tape, x)[0])
    return made


def joined(tape, made, rng, to):
    """A whole number: the sum of all numbers of maps, each with a sign that is drawn."""
    parts = [tape.reshape(a, (1, a.size)) for a in made]
    signs = [to(rng.choice([-1.0, 0, 1], (1, a.size))) for a in made]
    products = [tape.linear(a, sign) for a, sign in zip(parts, signs, strict=True)]
    total = products[0]
    for each in products[1:]:
        total = tape.add(total, each)
    return tape.reshape(total, ())


def exact_run(net, to, ops=None):
    """The maps of an exact problem, and the gradients of all parameters."""
    rng = np.random.default_rng(7)
    x, tape = to(images(rng)), Tape(layers.parameters(net), ops)
    made = maps(net, tape, x)
    gradients = tape.gradients(joined(tape, made, rng, to))
    return made, gradients


def assert_few_bits(a):
    """46 of the 53 of float64: the partial sums of some terms are exact in any order."""
    assert abs(a).max() <= 2**20
    np.testing.assert_array_equal(a * 2**26, np.round(a * 2**26))


def assert_same_bits(name, moves, ops):
    net = exact(MAKERS[name](moves))
    ours, gradients = exact_run(net, np.asarray)
    theirs, found = exact_run(placed(net, device.asarray), device.asarray, ops)
    for a, b in zip(ours, theirs, strict=True):
        assert_few_bits(a)
        np.testing.assert_array_equal(a, b.get())
    assert gradients.keys() == found.keys()
    for path, grad in gradients.items():
        assert_few_bits(grad)
        np.testing.assert_array_equal(grad, found[path].get(), err_msg=path)
    return gradients


@both
@every_network
def test_the_same_bits(name, moves):
    ops = device.Ops()
    gradients = assert_same_bits(name, moves, ops)
    assert sum(a.any() for a in gradients.values()) > 0.7 * len(gradients)
    deforms = {"deform_conv2d", "deform_roi_pool", "deform_ps_roi_pool"} & ops.called.keys()
    assert bool(deforms) == (moves is deformed)
    for operator in {"conv2d", *deforms}:
        assert ops.called[f"{operator}_backward"] > 0


def test_another_operator_is_seen():
    """Offsets (x, y) in place of (y, x); a gradient that goes to other RoIs."""

    @wraps(gpu.deform_conv2d)
    def turned(x, offset, *args, **options):
        N, _, *cells = offset.shape
        pairs = offset.reshape(N, -1, 2, *cells)[:, :, ::-1]
        return device.Ops().deform_conv2d(x, pairs.reshape(offset.shape), *args, **options)

    @wraps(gpu.deform_ps_roi_pool_backward)
    def of_another_roi(grad_output, *args, **options):
        return device.Ops().deform_ps_roi_pool_backward(grad_output[::-1], *args, **options)

    for name, operator, wrong in (
        ("ResNet-50", "deform_conv2d", turned),
        ("R-FCN, fixed", "deform_ps_roi_pool_backward", of_another_roi),
    ):
        ops = device.Ops()
        setattr(ops, operator, wrong)
        with pytest.raises(AssertionError):
            assert_same_bits(name, deformed, ops)


def loss_of(net, tape, given):
    """Of any of the networks, of what the device has drawn: images and labels or a batch."""
    if isinstance(net, deeplab.DeepLab):
        return deeplab.loss(net, tape, given.images, labels(given.images))
    return (rpn if isinstance(net, rpn.ProposalNetwork) else two_stage).loss(net, tape, given)


def labels(of):
    """Labels of all pixels, where the images are."""
    made = np.arange(SIZE[0] * SIZE[1]).reshape(1, *SIZE) // 7 % CLASSES
    return device.asarray(made) if isinstance(of, device.ndarray) else made


def drawn(to, dtype=np.float64):
    x = np.random.default_rng(3).normal(size=(1, 3, *SIZE)).astype(dtype)
    return rpn.Batch(to(x), TRUTHS, PROPOSALS)


def a_step(net, given, ops=None):
    """The loss and its gradients."""
    tape = Tape(layers.parameters(net), ops)
    value = loss_of(net, tape, given)
    return float(value), tape.gradients(value)


@every_network
def test_a_loss_and_its_gradients(name):
    """Ordinary floats: at most 64 times the rounding of float32, scaled to float64."""
    net = MAKERS[name](deformed)
    value, gradients = a_step(net, drawn(np.asarray))
    less, single = a_step(placed(net, np.float32), drawn(np.asarray, np.float32))
    there, found = a_step(placed(net, device.asarray), drawn(device.asarray), device.Ops())
    scale = 64 * 2.0**-29
    assert abs(value - there) <= scale * abs(value - less) + 2.0**-50
    for path, grad in gradients.items():
        assert isinstance(found[path], device.ndarray)
        rounding = abs(grad - single[path]).max() + 2.0**-24 * abs(grad).max()
        assert 0 < rounding < 1e-2 * abs(grad).max(), path
        assert abs(grad - found[path].get()).max() <= scale * rounding, path


def trained(name, to, path, ops=None, dtype=np.float64):
    """Three steps, with a checkpoint after each."""
    net = placed(MAKERS[name](deformed), lambda a: to(a.astype(dtype)))
    state = training.State(net, optimisers.SGD(), np.random.default_rng(0))
    return training.train(
        state, lambda rng: drawn(to, dtype), loss_of, iterations=3, rate=lambda i: 1e-3, ops=ops,
        checkpoint=path, every=1,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["ResNet-50", "R-FCN, joint"])
def test_training_on_a_device(name, tmp_path):
    """The same losses, and a checkpoint from which both places go on."""
    at_home, single = (
        trained(name, np.asarray, tmp_path / dtype.__name__, dtype=dtype)
        for dtype in (np.float64, np.float32)
    )
    there = trained(name, device.asarray, tmp_path / "device", device.Ops())
    for a, b, c in zip(at_home.losses, single.losses, there.losses, strict=True):
        assert abs(a - c) <= 64 * 2.0**-29 * abs(a - b) + 2.0**-50
    assert {type(a) for a in there.optimiser.state.values()} == {device.ndarray}
    for to, kind in ((device.asarray, device.ndarray), (np.asarray, np.ndarray)):
        net = placed(MAKERS[name](deformed), to)
        again = training.State(net, optimisers.SGD(), np.random.default_rng(1))
        training.load(tmp_path / "device", again)
        assert again.losses == there.losses
        for kept, own in ((there.net, net), (there.optimiser.state, again.optimiser.state)):
            one, other = (a if isinstance(a, dict) else layers.arrays(a) for a in (kept, own))
            assert {type(a) for a in other.values()} == {kind}
            for path, a in one.items():
                np.testing.assert_array_equal(a.get(), np.asarray(other[path].get() if kind is
                                              device.ndarray else other[path]))  # fmt: skip


@pytest.mark.parametrize("name", ["Faster R-CNN, fixed", "R-FCN, joint", "category-aware RPN"])
def test_detections_of_a_device(name):
    """Boxes of NumPy, from images of the device: as far from those at home as rounding."""
    net, given = MAKERS[name](deformed), drawn(np.asarray)
    there, x = placed(net, device.asarray), device.asarray(given.images)
    proposals = () if isinstance(net, rpn.ProposalNetwork) else (PROPOSALS,)
    module = two_stage if proposals else rpn
    ours = module.detect(net, given.images, *proposals, least=0.2)
    theirs = module.detect(there, x, *proposals, least=0.2, ops=device.Ops())
    for kind, found in ours[0].items():
        assert type(theirs[0][kind].boxes) is np.ndarray
        np.testing.assert_allclose(found.boxes, theirs[0][kind].boxes, rtol=0, atol=1e-9)
    assert sum(len(found.boxes) for found in ours[0].values()) > 1


def test_there_and_back():
    """What two layers share is one array on the device too; weights do not change."""
    shared = layers.linear(np.random.default_rng(0), 3, 2)
    net = [shared, shared, MAKERS["R-FCN, joint"](plain)]
    there = placed(net, device.asarray)
    assert there[0].weight is there[1].weight
    assert {type(a) for a in layers.arrays(there).values()} == {device.ndarray}
    home = placed(there, device.asnumpy)
    for path, a in layers.arrays(net).items():
        np.testing.assert_array_equal(a, layers.arrays(home)[path])
        assert a is not layers.arrays(home)[path]
    turned = layers.deformable(there[2], resnet.last(there[2], 3))
    assert {type(a) for a in layers.arrays(turned).values()} == {device.ndarray}


def test_what_is_in_another_place_is_refused():
    """As by CuPy; without a device, `gpu` says so itself."""
    net = placed(MAKERS["ResNet-50"](plain), device.asarray)
    for call in (
        lambda: net(Tape(ops=device.Ops()), drawn(np.asarray).images),
        lambda: net(Tape(), drawn(device.asarray).images),
        lambda: np.asarray(net.score.weight),
        lambda: net.score.weight + np.zeros(1),
    ):
        with pytest.raises(TypeError):
            call()


def test_times_of_a_device():
    """`count --time` there: every call waits for the device, and operators are those of `gpu`."""
    small = {"width": 4, "blocks": (1, 1, 1, 1), "top": 8}
    row = count.Row(
        "R-FCN", lambda rng: rfcn.rfcn(rng, resnet.trunk(rng, **small), 3, channels=8),
        rfcn.ROI_LAYERS, (1.0, 1.1), (1.0, 1.1),
    )  # fmt: skip
    ops, waited = device.Ops(), []
    where = Where(device.asarray, ops, lambda: waited.append(1))

    def converted(row, net):
        return layers.deformable(net, [*resnet.last(net, 1), *row.roi_layers])

    told = list(runtime.times([row], converted, (48, 64), 1, where))
    assert told[-1].startswith("R-FCN")
    assert len(waited) == 2 * 4  # two networks, forward and runtime: one to begin with, one counted
    assert {"conv2d", "deform_conv2d", "ps_roi_pool", "deform_ps_roi_pool"} == ops.called.keys()
