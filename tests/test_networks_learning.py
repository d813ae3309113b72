"""Every detector of section 4.1, plain and deformable, with proposals that are given or its own:
the gradient of every parameter, and steps with falling loss. DeepLab: test_networks_deeplab."""

import numpy as np
import pytest
from paper_networks import MAKERS, PROPOSALS, TRUTHS, plain
from paper_networks import SIZE as PICTURE
from small_stages import (
    ANCHORS,
    CLASSES,
    STRIDE,
    TOP,
    WIDTH,
    assert_gradients,
    batch,
    deformed,
    gradients_of,
    trunk,
)

from deformable_convnets.reference.networks import (
    Tape,
    faster_rcnn,
    layers,
    optimisers,
    rfcn,
    rpn,
    training,
    two_stage,
)

DETECTORS = ["category-aware RPN", "Faster R-CNN, fixed", "Faster R-CNN, joint", "R-FCN, fixed",
             "R-FCN, joint"]  # fmt: skip
both = pytest.mark.parametrize("moves", [plain, deformed])
SECOND = {"number": 8, "foreground": 0.5}  # RoIs of a sample


def new(name, moves, dtype=np.float64):
    """On the trunk of a few numbers."""
    rng = np.random.default_rng(6)
    if name == "category-aware RPN":
        net = rpn.category_aware_rpn(
            rng, trunk(dtype), CLASSES, channels=TOP, anchors=ANCHORS, dtype=dtype
        )
        return moves(net, ["trunk.res5"])
    module = faster_rcnn if name.startswith("Faster") else rfcn
    options = {"channels": TOP, "output_size": 3, "stride": STRIDE, "dtype": dtype}
    options |= {"hidden": 9} if module is faster_rcnn else {}
    make = module.faster_rcnn if module is faster_rcnn else module.rfcn
    own = rpn.rpn(rng, WIDTH, hidden=7, anchors=ANCHORS, dtype=dtype) if "joint" in name else None
    net = make(rng, trunk(dtype), CLASSES, rpn=own, **options)
    return moves(net, [*module.ROI_LAYERS, "trunk.res5"])


def loss(net, tape, given):
    if isinstance(net, rpn.ProposalNetwork):
        return rpn.loss(net, tape, given)
    return two_stage.loss(net, tape, given, **SECOND, proposing={"least": 3, "after": 20})


@both
@pytest.mark.parametrize("name", ["Faster R-CNN, joint", "R-FCN, joint"])
def test_gradients_of_joint_training(name, moves):
    """Those of the RPN's own proposals are constants, which a difference would move: so they are
    given. With fixed ones: test_networks_faster_rcnn, test_networks_rfcn, test_networks_rpn."""
    net = new(name, moves)
    names = layers.parameters(net).keys()
    assert {"rpn.hidden.weight", "rpn.box.bias", "trunk.res5.weight"} < names
    assert any(".branch." in n for n in names) == (moves is deformed)
    assert_gradients(net, loss, batch(1, fixed=True))


def test_a_gradient_through_the_proposals_is_seen():
    """A network whose RPN learns from half of its loss only."""
    net, drawn = new("R-FCN, joint", plain), batch(1, fixed=True)
    gradients = gradients_of(net, loss, drawn)
    gradients |= {n: a / 2 for n, a in gradients.items() if n.startswith("rpn.")}
    with pytest.raises(AssertionError, match="rpn"):
        assert_gradients(net, loss, drawn, gradients)


def steps(net, drawn, rate, count, compute=loss):
    """The losses of some steps, of one sample: its seed stays."""
    state = training.State(net, optimisers.Adam(multipliers={"*branch.*": 0.1}),
                           np.random.default_rng(0))  # fmt: skip
    training.train(
        state, lambda rng: drawn, compute, iterations=count,
        rate=lambda i: rate,
    )  # fmt: skip
    return state.losses


@both
@pytest.mark.parametrize("name", DETECTORS)
def test_the_loss_falls(name, moves):
    """To less than 0.85 of what it was, in 14 steps; with the opposite sign it does not."""
    drawn = batch(1, dtype=np.float32, fixed="fixed" in name)
    for rate, falls in ((0.01, True), (-0.002, False)):
        losses = steps(new(name, moves, np.float32), drawn, rate, 14)
        first, after = losses[0], np.mean(losses[-3:])
        assert (after < 0.85 * first) == falls


@pytest.mark.parametrize("name", DETECTORS)
def test_on_the_trunk_of_the_paper(name):
    """A deformable ResNet-101 of few channels: the loss falls, and all of it learns."""
    net = MAKERS[name](deformed)
    before = {n: a.copy() for n, a in layers.parameters(net).items()}
    images = np.random.default_rng(3).normal(size=(1, 3, *PICTURE))
    drawn = rpn.Batch(images, TRUTHS, PROPOSALS if "fixed" in name else None)
    losses = steps(net, drawn, 1e-3, 6, compute=whole_loss)
    assert losses[-1] < 0.92 * losses[0]
    still = {n for n, a in layers.parameters(net).items() if (a == before[n]).all()}
    assert still == set()


def whole_loss(net, tape: Tape, given):
    """With all RoIs and anchors, so that no sample makes it rise and fall."""
    every = {"number": 10_000, "foreground": 1.0}
    if isinstance(net, rpn.ProposalNetwork):
        return rpn.loss(net, tape, given, **every)
    options = {"of_rpn": every, "proposing": {"after": 30}}
    return two_stage.loss(net, tape, given, **every, **options)
