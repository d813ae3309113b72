"""Frozen layers: which they are, that they do not move, and what is left to learn."""

from dataclasses import replace

import numpy as np
import pytest
from paper_networks import PROPOSALS, SIZE, TRUNKS, TRUTHS, detector, plain
from small_stages import deformed
from small_stages import trunk as other_trunk

from deformable_convnets.reference.networks import (
    Tape,
    layers,
    optimisers,
    resnet,
    rfcn,
    rpn,
    training,
    two_stage,
)
from deformable_convnets.reference.networks.counting import Shapes
from deformable_convnets.reference.networks.frozen import freeze
from deformable_convnets.reference.networks.protocols import PAPER
from deformable_convnets.reference.networks.released_code import RELEASED

PLAN = RELEASED["R-FCN", "VOC"]


def test_which_they_are():
    """conv1 and res2, nothing else: of 42,394,816 weights 9,408 and 212,992."""
    net = resnet.trunk(Shapes(), 101, top=None)
    stay = freeze(net, PLAN)
    every = layers.parameters(net)
    assert {name.split(".")[0] for name in stay} == {"conv1", "res2"}
    assert len(stay) == 1 + 3 * 3 + 1
    blocks = 64 * 64 + 64 * 64 * 9 + 64 * 256, 256 * 64 + 64 * 64 * 9 + 64 * 256
    assert sum(every[n].size for n in stay) == 3 * 49 * 64 + blocks[0] + 64 * 256 + 2 * blocks[1]
    left = sum(a.size for n, a in every.items() if n not in stay)
    assert left == 42_394_816 - 9_408 - 212_992 == 42_172_416
    branches = layers.deformable(net, resnet.last(net, 33))
    assert freeze(branches, PLAN) - stay == {
        f"res2.{i}.branch2b.conv.branch.{kind}" for i in range(3) for kind in ("weight", "bias")
    }


def test_norms_that_were_learning_stop():
    net = resnet.trunk(np.random.default_rng(0), 50, width=2, blocks=(1, 1, 1, 1), top=4)
    for norm in (net.conv1.norm, net.res4[0].branch2b.norm):
        norm.frozen = False
    before = layers.parameters(net).keys()
    assert {"conv1.norm.scale", "res4.0.branch2b.norm.shift"} < before
    assert not any("norm" in name for name in freeze(net, PLAN))
    assert not any("norm" in name for name in layers.parameters(net))
    assert net.conv1.norm.frozen
    assert net.res4[0].branch2b.norm.frozen


@pytest.mark.parametrize("words", [("gamma",), ("beta",), ("gamma", "beta")])
def test_a_norm_keeps_its_statistics_if_scale_and_shift_stay(words):
    """Not if one of them learns."""
    net = resnet.trunk(np.random.default_rng(0), 50, width=2, blocks=(1, 1, 1, 1), top=4)
    net.conv1.norm.frozen = False
    freeze(net, replace(PLAN, frozen=replace(PLAN.frozen, value=words)))
    assert net.conv1.norm.frozen == (len(words) == 2)


def steps(net, stay):
    """Three steps on one picture."""
    drawn = rpn.Batch(np.random.default_rng(3).normal(size=(1, 3, *SIZE)), TRUTHS, PROPOSALS)
    state = training.State(net, optimisers.SGD(weight_decay=5e-4), np.random.default_rng(0))
    return training.train(
        state, lambda rng: drawn, two_stage.loss, iterations=3, rate=lambda i: 1e-3, frozen=stay
    )


def moved(net, before):
    return {name for name, a in layers.arrays(net).items() if (a != before[name]).any()}


@pytest.mark.parametrize("joint", [False, True])
def test_what_is_frozen_does_not_move(joint):
    """Neither by a gradient nor by weight decay; all else does."""
    net = detector(rfcn, joint, deformed)
    stay, before = freeze(net, PLAN), {n: a.copy() for n, a in layers.arrays(net).items()}
    state = steps(net, stay)
    every = layers.parameters(net).keys()
    assert {n.split(".")[1] for n in stay} == {"conv1", "res2"}
    assert moved(net, before) == every - stay == state.optimiser.state.keys()
    assert state.losses[-1] < state.losses[0]


def test_what_is_not_frozen_moves():
    """Without the option, conv1 learns too: the test above sees it."""
    net = detector(rfcn, False, deformed)
    before = {n: a.copy() for n, a in layers.arrays(net).items()}
    steps(net, ())
    assert moved(net, before) >= freeze(net, PLAN)


def test_frozen_layers_cost_no_backward():
    net = detector(rfcn, False, deformed)
    stay = freeze(net, PLAN)
    rois = np.insert(PROPOSALS[0], 0, 0, axis=1)
    images = np.zeros((1, 3, *SIZE))
    counts = []
    for left_out in ((), stay):
        trained = {n: a for n, a in layers.parameters(net).items() if n not in left_out}
        tape = Tape(trained)
        net(tape, images, rois)
        counts.append(len(tape.records))
    of_conv1, of_a_block = 4, 4 * 2 + 2 + 2  # convolution, norm, ReLU, pooling; and of res2a
    assert counts[0] - counts[1] == of_conv1 + of_a_block


def test_errors():
    net = detector(rfcn, False, deformed)
    with pytest.raises(ValueError, match="R-FCN on VOC: frozen is not known: not in the paper"):
        freeze(net, PAPER["R-FCN", "VOC"])
    with pytest.raises(ValueError, match=r"frozen has trunk\.conv9, expected names of parameters"):
        steps(net, {"trunk.conv9"})
    with pytest.raises(ValueError, match="frozen has 'trunk', expected names of parameters"):
        steps(net, "trunk")
    with pytest.raises(ValueError, match="Stages has no trunk of `resnet`"):
        freeze(other_trunk(), PLAN)
    with pytest.raises(ValueError, match="conv2_1 is no block of a ResNet"):
        freeze(TRUNKS["Aligned-Inception-ResNet"](np.random.default_rng(0)), PLAN)


def test_a_checkpoint_knows_what_was_frozen(tmp_path):
    """Resumed without it, or with frozen norms that learn again, it would be another run."""
    file = tmp_path / "run.npz"
    net = detector(rfcn, False, plain)
    stay = freeze(net, PLAN)
    drawn = rpn.Batch(np.random.default_rng(3).normal(size=(1, 3, *SIZE)), TRUTHS, PROPOSALS)

    def resumed(net, frozen, iterations):
        state = training.State(net, optimisers.SGD(), np.random.default_rng(0))
        return training.train(state, lambda rng: drawn, two_stage.loss, iterations=iterations,
                              rate=lambda i: 1e-3, checkpoint=file, frozen=frozen)  # fmt: skip

    resumed(net, stay, 1)
    assert resumed(detector(rfcn, False, plain), stay, 2).iteration == 2
    with pytest.raises(ValueError, match=r"other parameters frozen; trained now: .*trunk\.conv1"):
        resumed(detector(rfcn, False, plain), (), 3)
    with pytest.raises(ValueError, match=r"frozen; frozen now: head\.score\.score\.bias$"):
        resumed(detector(rfcn, False, plain), {*stay, "head.score.score.bias"}, 3)
    learning = detector(rfcn, False, plain)
    learning.trunk.conv1.norm.frozen = False
    with pytest.raises(ValueError, match=r"trained now: trunk\.conv1\.norm\.scale, trunk\.con"):
        resumed(learning, stay, 3)
    old = training.State(net, optimisers.SGD(), np.random.default_rng(0))
    training.save(file, old)  # as those before, without the names
    assert resumed(net, (), 1).iteration == 1
