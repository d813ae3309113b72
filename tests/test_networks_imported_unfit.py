"""State dicts for other networks: other names, bins, anchors, branches; and broken files."""

import re
from dataclasses import replace

import numpy as np
import pytest
from state_dicts import ANCHORS, TOP, mmdetection_state, mxnet_state, network, torch_trunk

from deformable_convnets.reference.networks import imported, layers, resnet, settings
from deformable_convnets.reference.networks.released_code import RELEASED


def assert_refused(load, net, state, said):
    """With this error, and nothing written."""
    before = {name: a.copy() for name, a in layers.arrays(net).items()}
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        load(net, state)
    assert all((a == before[name]).all() for name, a in layers.arrays(net).items())
    return str(caught.value)


@pytest.mark.parametrize(("kind", "layer"), [("R-FCN", "score"), ("Faster R-CNN", "pool")])
def test_a_head_of_other_bins(kind, layer):
    """The weights would fit, and the numbers would be others."""
    for bins, samples in (("paper", None), ("mxnet", 3)):
        net = network(kind)
        pool = getattr(net.head, layer)
        pool.bins, pool.samples = bins, samples
        said = f"the head has bins={bins!r}, samples={samples}, and these weights are for 'mxnet'"
        told = assert_refused(imported.mxnet, net, mxnet_state(kind), said)
        assert told.endswith("samples 4: see settings.of_head(RELEASED[...])")
        given = settings.of_head(RELEASED[kind, "VOC"])
        pool.bins, pool.samples = given["bins"], given["samples"]
        imported.mxnet(net, mxnet_state(kind))


def test_anchors_elsewhere_in_their_cells():
    net = network("Faster R-CNN", resnet.TORCHVISION)
    net.rpn.anchors = ANCHORS
    said = "the anchors have offset=0.5, and these weights are for 0: see anchors.Anchors"
    assert_refused(imported.mmdetection, net, mmdetection_state(), said)
    net = network("Faster R-CNN")
    net.rpn.anchors = replace(ANCHORS, offset=0)
    said = "the anchors have offset=0, and these weights are for 0.5"
    assert_refused(imported.mxnet, net, mxnet_state("Faster R-CNN"), said)


def test_no_name_fits():
    net, state = network("trunk", resnet.TORCHVISION), torch_trunk()
    said = assert_refused(imported.mmdetection, net, state, "none of the ")
    names = sum(not name.startswith("top") for name in layers.arrays(net))
    assert said == (
        f"none of the {names} names is there; expected e.g. 'backbone.conv1.weight', found e.g."
        " 'conv1.weight'"
    )
    assert_refused(imported.torchvision, net, {}, "'conv1.weight', found nothing")
    state = {"conv1.weight": state["conv1.weight"]}  # one fits: all others are listed
    assert_refused(imported.torchvision, net, state, "missing: layer4.2.bn3.running_var")


def test_branches_with_masks():
    """DCNv2 has 27 channels for each 18."""
    net, state = network("trunk", resnet.TORCHVISION), mmdetection_state()
    name = "backbone.layer4.2.conv2.conv_offset.bias"
    state[name] = np.zeros(54)
    said = f"misshapen: {name} is (54,), expected (36,), that of DCNv2, with masks: not supported"
    assert_refused(imported.mmdetection, net, state, said)
    state[name], state["backbone.bn1.bias"] = np.zeros(50), np.zeros(6)
    assert "DCNv2" not in assert_refused(imported.mmdetection, net, state, "is (6,), expected (4,)")


def test_a_broken_file_is_no_advice(tmp_path):
    """np.load would advise to allow pickles."""
    path = tmp_path / "net.npz"
    np.savez(path, a=np.zeros(TOP))
    whole = path.read_bytes()
    for content in (b"no zip file", whole[: len(whole) // 2], b""):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="is not a state dict: it is no zip file") as e:
            imported.read(path)
        assert "pickle" not in str(e.value)
    path.write_bytes(whole)
    assert imported.read(path)["a"].shape == (TOP,)
