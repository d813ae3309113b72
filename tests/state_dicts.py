"""Small networks, and state dicts of other libraries with random values that fit them.

The names are written here once more, as the other libraries have them.
"""

from dataclasses import replace

import numpy as np

from deformable_convnets.reference.networks import deeplab, faster_rcnn, layers, resnet, rfcn, rpn
from deformable_convnets.reference.networks.anchors import Anchors

CLASSES, TOP, ANCHORS = 3, 8, Anchors(scales=(16, 32), ratios=(0.5, 1, 2))
BLOCKS, NAMES = (1, 1, 2, 3), ("2a", "3a", "4a", "4b1", "5a", "5b", "5c")
DEFORMED = ("5b", "5c")
RNG = np.random.default_rng(0)


def network(kind, layout=resnet.CAFFE, groups=2):
    """A small one, whose last two 3x3 layers and RoI layers are deformable."""
    rng = np.random.default_rng(1)
    trunk = resnet.trunk(rng, 101, width=4, blocks=BLOCKS, top=TOP, dtype=np.float64, **layout)
    heads = {"channels": TOP, "dtype": np.float64}
    if kind == "trunk":
        net = trunk
    elif kind == "DeepLab":
        net = deeplab.deeplab(rng, trunk, CLASSES, **heads)
    else:
        anchors = replace(ANCHORS, offset=0) if layout["padded_pool"] else ANCHORS
        of_rpn = rpn.rpn(rng, 64, hidden=8, anchors=anchors, dtype=np.float64)
        made = {"bins": "mxnet", "samples": 4, "output_size": 3, "rpn": of_rpn} | heads
        make, more = (rfcn.rfcn, {}) if kind == "R-FCN" else (faster_rcnn.faster_rcnn,
                                                                {"hidden": 6})  # fmt: skip
        net = make(rng, trunk, CLASSES, **made, **more)
    roi = {"R-FCN": rfcn.ROI_LAYERS, "Faster R-CNN": faster_rcnn.ROI_LAYERS}.get(kind, ())
    return layers.deformable(net, [*resnet.last(net, 2), *roi], offset_groups=groups)


def random(**shapes):
    return {name: RNG.normal(size=shape) for name, shape in shapes.items()}


def norm(pattern, terms, C):
    """The four arrays of a norm; variances are positive."""
    made = {pattern.format(term): RNG.normal(size=C) for term in terms}
    made[pattern.format(terms[-1])] **= 2
    return made


def bottlenecks():
    """(block, its number, inner channels, channels of its input, whether it has a shortcut)."""
    C, count = 4, {}
    for name in NAMES:
        n = int(name[0]) - 2
        i = count[n] = count.get(n, -1) + 1
        yield name, i, 4 * 2**n, C, i == 0
        C = 16 * 2**n


def mxnet_trunk(groups=2):
    terms = ("gamma", "beta", "moving_mean", "moving_var")
    state = random(conv1_weight=(4, 3, 7, 7)) | norm("bn_conv1_{}", terms, 4)
    for name, _, inner, C, first in bottlenecks():
        shapes = {"branch2a": (inner, C, 1, 1), "branch2b": (inner, inner, 3, 3),
                  "branch2c": (4 * inner, inner, 1, 1)}  # fmt: skip
        shapes |= {"branch1": (4 * inner, C, 1, 1)} if first else {}
        for part, shape in shapes.items():
            state[f"res{name}_{part}_weight"] = RNG.normal(size=shape) / np.sqrt(shape[1] * 9)
            state |= norm(f"bn{name}_{part}_{{}}", terms, shape[0])
        if name in DEFORMED:
            key, O = f"res{name}_branch2b_offset", 18 * groups
            state |= random(**{f"{key}_weight": (O, inner, 3, 3), f"{key}_bias": (O,)})
    return state


def mxnet_state(kind):
    """What the authors' file of a deformable network has."""
    state, k = mxnet_trunk(), 9
    if kind == "DeepLab":
        return state | random(fc6_weight=(TOP, 128, 1, 1), fc6_bias=(TOP,),
                              score_weight=(CLASSES, TOP, 1, 1), score_bias=(CLASSES,),
                              upsampling_weight=(CLASSES, 1, 32, 32))  # fmt: skip
    A = ANCHORS.number
    shapes = {"conv_new_1": (TOP, 128, 1, 1), "rpn_conv_3x3": (8, 64, 3, 3),
              "rpn_cls_score": (2 * A, 8, 1, 1), "rpn_bbox_pred": (4 * A, 8, 1, 1)}  # fmt: skip
    if kind == "R-FCN":
        maps = {"rfcn_cls": CLASSES * k, "rfcn_bbox": 8 * k, "rfcn_cls_offset_t": 2 * CLASSES * k,
                "rfcn_bbox_offset_t": 2 * k}  # fmt: skip
        shapes |= {name: (O, TOP, 1, 1) for name, O in maps.items()}
    else:
        shapes |= {"offset": (2 * k, TOP * k), "fc_new_1": (6, TOP * k), "fc_new_2": (6, 6),
                   "cls_score": (CLASSES, 6), "bbox_pred": (4 * CLASSES, 6)}  # fmt: skip
    for name, shape in shapes.items():
        state |= random(**{f"{name}_weight": shape, f"{name}_bias": shape[:1]})
    return state | random(bbox_pred_weight_test=(2, 2))  # a copy that is multiplied, and not read


def torch_trunk(home="", offset=None):
    terms = ("weight", "bias", "running_mean", "running_var")
    state = {f"{home}conv1.weight": RNG.normal(size=(4, 3, 7, 7))}
    state |= norm(f"{home}bn1.{{}}", terms, 4) | {f"{home}bn1.num_batches_tracked": np.array(3)}
    for name, i, inner, C, first in bottlenecks():
        inside = f"{home}layer{int(name[0]) - 1}.{i}."
        shapes = {("conv1", "bn1"): (inner, C, 1, 1), ("conv2", "bn2"): (inner, inner, 3, 3),
                  ("conv3", "bn3"): (4 * inner, inner, 1, 1)}  # fmt: skip
        shapes |= {("downsample.0", "downsample.1"): (4 * inner, C, 1, 1)} if first else {}
        for (conv, bn), shape in shapes.items():
            state[f"{inside}{conv}.weight"] = RNG.normal(size=shape)
            state |= norm(f"{inside}{bn}.{{}}", terms, shape[0])
        if offset and name in DEFORMED:
            key = f"{inside}{offset}"
            state |= random(**{f"{key}.weight": (36, inner, 3, 3), f"{key}.bias": (36,)})
    return state


def mmdetection_state(offset="conv2.conv_offset"):
    state, A, k = torch_trunk("backbone.", offset), ANCHORS.number, 9
    shapes = {
        "rpn_head.rpn_conv": (8, 64, 3, 3), "rpn_head.rpn_cls": (A, 8, 1, 1),
        "rpn_head.rpn_reg": (4 * A, 8, 1, 1), "roi_head.bbox_head.shared_fcs.0": (6, TOP * k),
        "roi_head.bbox_head.shared_fcs.1": (6, 6), "roi_head.bbox_head.fc_cls": (CLASSES, 6),
        "roi_head.bbox_head.fc_reg": (4 * (CLASSES - 1), 6),
    }  # fmt: skip
    for name, shape in shapes.items():
        state |= random(**{f"{name}.weight": shape, f"{name}.bias": shape[:1]})
    return state
