"""Weights of other libraries: names, what is exchanged, and state dicts that do not fit."""

import re

import numpy as np
import pytest
from state_dicts import ANCHORS, TOP, mmdetection_state, mxnet_state, network, random, torch_trunk

from deformable_convnets import reference
from deformable_convnets.reference.networks import (
    Tape,
    boxes,
    imported,
    imported_names,
    layers,
    resnet,
    rpn,
)

RNG = np.random.default_rng(0)


def assert_loaded(net, before, kept=()):
    """Every array of the network is another one, but those that were to be kept."""
    for name, a in layers.arrays(net).items():
        same = bool((a == before[name]).all())
        assert same == name.startswith(tuple(kept)), name


def copies(net):
    return {name: a.copy() for name, a in layers.arrays(net).items()}


def at(state, name):
    return state[f"{name}_weight"], state[f"{name}_bias"]


@pytest.mark.parametrize("kind", ["trunk", "DeepLab", "Faster R-CNN", "R-FCN"])
def test_the_authors_names(kind, tmp_path):
    """From a file, with the prefixes of MXNet's checkpoints."""
    state = mxnet_state(kind if kind != "trunk" else "DeepLab")
    parts = {f"{'aux' if 'moving' in name else 'arg'}:{name}": a for name, a in state.items()}
    np.savez(tmp_path / "net.npz", **parts)
    net = network(kind)
    before = copies(net)
    imported.mxnet(net, imported.read(tmp_path / "net.npz"))
    assert_loaded(net, before, ["top"] if kind == "trunk" else [])
    home = net if kind == "trunk" else net.trunk
    last = home.res5[2].branch2b
    np.testing.assert_array_equal(last.conv.weight, state["res5c_branch2b_weight"])
    np.testing.assert_array_equal(last.conv.branch.weight, state["res5c_branch2b_offset_weight"])
    np.testing.assert_array_equal(last.norm.variance, state["bn5c_branch2b_moving_var"])
    np.testing.assert_array_equal(home.res4[1].branch2a.norm.shift, state["bn4b1_branch2a_beta"])
    np.testing.assert_array_equal(home.res2[0].branch1.norm.mean, state["bn2a_branch1_moving_mean"])
    expected = 1 if kind == "DeepLab" else 2
    assert last.conv.branch.dilation == last.conv.branch.padding == expected
    assert last.conv.border == "dcnv1"


def test_deformable_roi_pooling_by_the_authors_weights():
    """Their channel 0 is x: computed here from their arrays, as their code does."""
    net, state = network("Faster R-CNN"), mxnet_state("Faster R-CNN")
    imported.mxnet(net, state)
    x, rois = (
        0.3 * RNG.normal(size=(1, TOP, 6, 7)),
        np.array([[0, 8, 4, 70, 60.0], [0, 3, 9, 99, 81]]),
    )
    pooling = {"spatial_scale": 1 / 16, "bins": "mxnet", "samples": 4}
    weight, bias = at(state, "offset")
    pooled = reference.roi_pool(x, rois, 3, **pooling)
    trans = (pooled.reshape(2, -1) @ weight.T + bias).reshape(2, 2, 3, 3)
    dx, dy = trans[:, :1], trans[:, 1:]
    right, wrong = (np.concatenate(pair, axis=1) for pair in ((dy, dx), (dx, dy)))
    expected = reference.deform_roi_pool(x, rois, right, 3, **pooling)
    found = net.head.pool(Tape(), x, rois)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    assert abs(found - reference.deform_roi_pool(x, rois, wrong, 3, **pooling)).max() > 1e-3
    hidden = expected.reshape(2, -1)
    for name in ("fc_new_1", "fc_new_2"):
        hidden = np.maximum(hidden @ at(state, name)[0].T + at(state, name)[1], 0)
    scores, deltas = net.head(Tape(), x, rois)
    for a, name in ((scores, "cls_score"), (deltas, "bbox_pred")):
        weight, bias = at(state, name)
        np.testing.assert_allclose(a, hidden @ weight.T + bias, rtol=1e-10, atol=1e-10)


def test_position_sensitive_pooling_by_the_authors_weights():
    """Channel (2 class + {0: x, 1: y}) k k + bin of their maps of offsets."""
    net, state = network("R-FCN"), mxnet_state("R-FCN")
    imported.mxnet(net, state)
    x, rois = (
        0.3 * RNG.normal(size=(1, TOP, 6, 7)),
        np.array([[0, 8, 4, 70, 60.0], [0, 3, 9, 99, 81]]),
    )
    pooling = {"spatial_scale": 1 / 16, "bins": "mxnet", "samples": 4}
    for layer, name in ((net.head.score, "rfcn_cls"), (net.head.box, "rfcn_bbox")):
        scores, maps = (
            np.einsum("oc,nchw->nohw", weight[:, :, 0, 0], x) + bias[:, None, None]
            for weight, bias in (at(state, name), at(state, f"{name}_offset_t"))
        )
        trans = reference.ps_roi_pool(maps, rois, 3, **pooling)
        offset = trans.reshape(2, -1, 2, 3, 3)[:, :, ::-1].reshape(trans.shape)
        expected = reference.deform_ps_roi_pool(scores, rois, offset, 3, **pooling)
        found = layer(Tape(), x, rois)
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
        as_is = reference.deform_ps_roi_pool(scores, rois, trans, 3, **pooling)
        assert abs(found - as_is).max() > 1e-3


def softmax(a):
    power = np.exp(a - a.max(axis=0))
    return power / power.sum(axis=0)


def map_of_rpn(net, x, name, state):
    """Their 1x1 convolution of the hidden map, at the one cell of x."""
    hidden = np.maximum(net.hidden(Tape(), x), 0)[0, :, 0, 0]
    weight, bias = (a.reshape(len(a), -1) for a in (state[f"{name}weight"], state[f"{name}bias"]))
    return weight @ hidden + bias[:, 0]


@pytest.mark.parametrize("kind", ["mxnet", "mmdetection"])
def test_anchors_of_a_proposal_network(kind):
    """Probability and delta of every anchor, found by its ratio and scale, are theirs."""
    net = network("Faster R-CNN", resnet.CAFFE if kind == "mxnet" else resnet.TORCHVISION)
    if kind == "mxnet":
        state, names = mxnet_state("Faster R-CNN"), ("rpn_cls_score_", "rpn_bbox_pred_")
        imported.mxnet(net, state)
    else:
        state, names = mmdetection_state(), ("rpn_head.rpn_cls.", "rpn_head.rpn_reg.")
        imported.mmdetection(net, state)
    x = RNG.normal(size=(1, 64, 1, 1))
    scores, deltas = net.rpn(Tape(), x)
    theirs = map_of_rpn(net.rpn, x, names[0], state)
    moves = map_of_rpn(net.rpn, x, names[1], state).reshape(3, 2, 4)
    if kind == "mxnet":
        theirs = softmax(theirs.reshape(2, 6))[1].reshape(3, 2)  # ratios, scales
    else:
        theirs = (1 / (1 + np.exp(-theirs))).reshape(3, 2)
    laid = ANCHORS.boxes((1, 1))
    found = softmax(scores.reshape(6, 2).T)[1]
    for a, (x1, y1, x2, y2) in enumerate(laid):
        ratio = (y2 - y1) / (x2 - x1)
        scale = np.sqrt((y2 - y1) * (x2 - x1))
        r, s = np.argmin(abs(np.array(ANCHORS.ratios) - ratio)), [16, 32].index(round(scale))
        np.testing.assert_allclose(found[a], theirs[r, s], rtol=1e-12)
        ours = deltas.reshape(6, 4)[a] * boxes.DEVIATIONS
        np.testing.assert_allclose(ours, moves[r, s], rtol=1e-12)


@pytest.mark.parametrize("offset", ["conv2.conv_offset", "conv2_offset"])
@pytest.mark.parametrize("kind", ["trunk", "DeepLab", "Faster R-CNN"])
def test_mmdetections_names(kind, offset):
    net = network(kind, resnet.TORCHVISION)
    before, state = copies(net), mmdetection_state(offset)
    imported.mmdetection(net, state)
    home = "" if kind == "trunk" else "trunk."
    assert_loaded(net, before, [f"{home}top", "score", "head.pool.branch"])
    last = (net if kind == "trunk" else net.trunk).res5[2].branch2b.conv.branch
    np.testing.assert_array_equal(last.bias, state[f"backbone.layer4.2.{offset}.bias"])
    if kind == "Faster R-CNN":
        cls, reg = (state[f"roi_head.bbox_head.fc_{name}.weight"] for name in ("cls", "reg"))
        np.testing.assert_array_equal(net.head.score.weight, cls[[2, 0, 1]])
        np.testing.assert_array_equal(net.head.box.weight[4:], reg)
        assert (net.head.box.weight[:4] == 0).all()


def test_torchvisions_names():
    """Its fc is left out of a trunk, and belongs to a classifier."""
    net, state = network("trunk", resnet.TORCHVISION), torch_trunk()
    state |= random(**{"fc.weight": (10, 128), "fc.bias": (10,)})
    before = copies(net)
    imported.torchvision(net, state)
    branches = [f"res5.{i}.branch2b.conv.branch" for i in (1, 2)]
    assert_loaded(net, before, ["top", *branches])
    np.testing.assert_array_equal(
        net.res5[0].branch1.conv.weight, state["layer4.0.downsample.0.weight"]
    )
    net.fc = layers.linear(RNG, 128, 10, dtype=np.float64)
    imported.torchvision(net, state)
    np.testing.assert_array_equal(net.fc.weight, state["fc.weight"])


def test_all_that_is_wrong_is_said_at_once_and_nothing_is_written():
    net, state = network("trunk", resnet.TORCHVISION), torch_trunk()
    before = copies(net)
    del state["bn1.bias"], state["layer3.1.conv2.weight"]
    state["layer5.0.conv1.weight"] = state["more"] = np.zeros(3)
    state["conv1.weight"] = np.zeros((4, 1, 7, 7))
    state["layer1.0.bn1.weight"] = np.zeros(4, int)
    expected = [
        "missing: bn1.bias", "missing: layer3.1.conv2.weight", "extra: layer5.0.conv1.weight",
        "extra: more", "misshapen: conv1.weight is (4, 1, 7, 7), expected (4, 3, 7, 7)",
        "misshapen: layer1.0.bn1.weight is int64, expected floating numbers",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="the state dict does not fit the network") as caught:
        imported.torchvision(net, state)
    assert str(caught.value).split("\n  ")[1:] == expected
    assert_loaded(net, before, [""])


@pytest.mark.parametrize("joint", [False, True])
def test_a_proposal_network_that_is_not_asked_for(joint):
    """Its arrays are left out where the network has none; where it has one, others are extra."""
    net = network("Faster R-CNN")
    state = mxnet_state("Faster R-CNN") | {"rpn_more_weight": np.zeros(3)}
    if not joint:
        net.rpn = None
        imported.mxnet(net, state)
        return
    with pytest.raises(ValueError, match="extra: rpn_more_weight"):
        imported.mxnet(net, state)


def test_numbers_that_no_network_has():
    net, state = network("trunk", resnet.TORCHVISION), torch_trunk()
    before = copies(net)
    state["conv1.weight"] = np.full_like(state["conv1.weight"], np.nan)
    state["bn1.running_mean"] = np.full_like(state["bn1.running_mean"], -1)  # which may be
    state["bn1.running_var"] = np.full_like(state["bn1.running_var"], -0.5)
    with pytest.raises(ValueError, match="the state dict does not fit the network") as caught:
        imported.torchvision(net, state)
    assert str(caught.value).split("\n  ")[1:] == [
        "not finite: conv1.weight has nan",
        "negative: bn1.running_var has -0.5, expected 0 or more, a variance",
    ]
    assert_loaded(net, before, [""])


def test_a_row_for_each_mistake_of_a_head():
    net, state = network("R-FCN"), mxnet_state("R-FCN")
    state["rfcn_cls_offset_t_weight"] = np.zeros((18, TOP, 1, 1))  # not for each class
    del state["rpn_bbox_pred_bias"]
    with pytest.raises(
        ValueError, match=re.escape("is (18, 8, 1, 1), expected (54, 8, 1, 1)")
    ) as e:
        imported.mxnet(net, state)
    assert "missing: rpn_bbox_pred_bias" in str(e.value)
    net.rpn = None  # proposals that are given: theirs are left out
    with pytest.raises(ValueError, match="rfcn_cls_offset_t_weight") as e:
        imported.mxnet(net, state)
    assert "rpn" not in str(e.value)
    state = mmdetection_state() | {"neck.conv.weight": np.zeros(1)}
    with pytest.raises(ValueError, match=r"extra: neck\.conv\.weight"):
        imported.mmdetection(network("Faster R-CNN", resnet.TORCHVISION), state)


def test_weights_of_one_layout_do_not_fit_the_other():
    cases = (
        (imported.torchvision, resnet.CAFFE, "stride_in='1x1'"),
        (imported.mxnet, resnet.TORCHVISION, "stride_in='3x3'"),
        (imported.mxnet, {"stride_in": "1x1", "padded_pool": True}, "padded_pool=True"),
        (imported.mmdetection, resnet.CAFFE, "padded_pool=False"),
    )
    for load, layout, said in cases:
        with pytest.raises(ValueError, match=f"the trunk has {said}, and these weights are for"):
            load(network("trunk", layout), {})
    with pytest.raises(ValueError, match="Linear has no trunk of `resnet`"):
        imported.torchvision(layers.linear(RNG, 2, 2), {})


def test_what_is_exchanged_by_hand():
    a = np.arange(12)
    assert imported_names.dy_first(a, 3).tolist() == [3, 4, 5, 0, 1, 2, 9, 10, 11, 6, 7, 8]
    of_rpn = rpn.rpn(RNG, 4, hidden=2, anchors=ANCHORS)
    # background of anchors (ratio, scale), then objects; ours by scale, then ratio, class last
    assert imported_names.rpn_scores(a, of_rpn).tolist() == [0, 6, 2, 8, 4, 10, 1, 7, 3, 9, 5, 11]


def test_files_that_are_none(tmp_path):
    (tmp_path / "net.npz").write_bytes(b"no zip file")
    with pytest.raises(ValueError, match=r"net\.npz is not a state dict"):
        imported.read(tmp_path / "net.npz")
    np.savez(tmp_path / "objects.npz", a=np.array([None]))
    with pytest.raises(ValueError, match=r"objects.npz is not a state dict: Object arrays"):
        imported.read(tmp_path / "objects.npz")
    with pytest.raises(ValueError, match=r"ends in '.params', expected .npz, .pth or .pt"):
        imported.read(tmp_path / "net.params")
    with pytest.raises(FileNotFoundError):
        imported.read(tmp_path / "nothing.npz")
