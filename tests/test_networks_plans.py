"""From a protocol to a network: its trunk, its deformable layers, its optimiser."""

from dataclasses import replace

import numpy as np
import pytest

from deformable_convnets.reference.networks import Tape, faster_rcnn, resnet, rfcn, settings
from deformable_convnets.reference.networks.layers import part
from deformable_convnets.reference.networks.optimisers import SGD, multiplier
from deformable_convnets.reference.networks.protocols import PAPER, Fact
from deformable_convnets.reference.networks.released_code import RELEASED

RNG = np.random.default_rng(0)
PLANS = {"paper": settings.VOC, "released": {k[0]: p for k, p in RELEASED.items() if k[1] == "VOC"}}
MAKERS = {"Faster R-CNN": (faster_rcnn.faster_rcnn, faster_rcnn.ROI_LAYERS),
          "R-FCN": (rfcn.rfcn, rfcn.ROI_LAYERS)}  # fmt: skip


def built(plan):
    """The network of a plan, narrow: its channels on top are 16."""
    plan = replace(plan, reduction=Fact(16, "a test", "text"))
    make, roi_layers = MAKERS[plan.network]
    trunk = resnet.trunk(RNG, 101, width=4, blocks=(1, 1, 2, 3), **settings.of_trunk(plan))
    return settings.deformed(make(RNG, trunk, **settings.of_head(plan)), plan, roi_layers)


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize(("whose", "groups", "dilation"), [("paper", 1, 2), ("released", 4, 2)])
def test_deformable_layers_are_those_of_the_plan(whose, groups, dilation, name):
    plan = PLANS[whose][name]
    net = built(plan)
    assert net.trunk.top.weight.shape[0] == 16
    for block, path in zip(plan.deformable.value, resnet.last(net, 3), strict=True):
        layer = part(net, path)
        assert layer.branch.weight.shape[0] == groups * 18, block
        assert layer.branch.dilation == layer.branch.padding == dilation
    for path in MAKERS[name][1]:
        assert part(net, path).gamma == 0.1


def test_another_plan_is_another_network():
    plan = replace(
        settings.VOC["R-FCN"],
        **{name: Fact(value, "a test", "text") for name, value in (
            ("deformable", ("res5c",)), ("gamma", 0.25), ("offset_dilation", 1), ("stride", 32),
            ("dilation", 1))},
    )  # fmt: skip
    net = built(plan)
    assert not hasattr(part(net, resnet.last(net, 2)[0]), "branch")
    assert part(net, resnet.last(net, 1)[0]).branch.dilation == 1
    assert part(net, "head.score").gamma == 0.25
    assert part(net, "trunk.res5.0.branch1.conv").stride == 2


def test_branches_of_another_dilation_fit_the_map():
    """RELEASED DeepLab: branches of dilation 1 on layers of dilation 2."""
    plan = replace(PLANS["released"]["DeepLab"], reduction=Fact(16, "a test", "text"))
    assert plan.offset_dilation.value == 1
    trunk = resnet.trunk(RNG, 101, width=4, blocks=(1, 1, 1, 3), **settings.of_trunk(plan))
    net = settings.deformed(trunk, plan)
    images = RNG.standard_normal((1, 3, 48, 64), np.float32)
    y, plain = (each.stages(Tape(), images)[1] for each in (net, trunk))
    np.testing.assert_allclose(y, plain, atol=1e-4)  # branches of zeros: the same but for rounding


def test_rates_of_the_optimiser():
    options = settings.of_sgd(RELEASED["Faster R-CNN", "VOC"])
    assert (options["momentum"], options["weight_decay"]) == (0.9, 5e-4)
    rates = {
        name: multiplier(name, SGD(**options).multipliers)
        for name in (
            "head.pool.branch.weight",
            "trunk.res5.0.branch2b.conv.branch.weight",
            "head.first.weight",
        )
    }
    assert list(rates.values()) == [0.01, 1.0, 1.0]
    assert "head.pool.branch.*" not in settings.of_sgd(settings.VOC["R-FCN"])["multipliers"]
    with pytest.raises(ValueError, match="momentum is not known"):
        settings.of_sgd(PAPER["R-FCN", "VOC"])


@pytest.mark.parametrize("key", list(PAPER), ids=map(str, PAPER))
def test_every_network_can_be_trained_and_tested(key):
    plan = settings.complete(*key)
    options = settings.of_sgd(plan)
    assert (options["momentum"], options["weight_decay"]) == (0.9, 5e-4)
    if key[0] in ("Faster R-CNN", "R-FCN"):
        assert settings.of_test(plan).get("most") == {"COCO": 100}.get(key[1])
        assert (settings.of_test(plan)["overlap"], settings.of_test(plan)["least"]) == (0.3, 0.05)
