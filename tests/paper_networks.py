"""The networks of section 4.1 on narrow trunks of their own kinds, and what they learn from."""

import numpy as np

from deformable_convnets.reference.networks import deeplab, faster_rcnn, resnet, rfcn, rpn
from deformable_convnets.reference.networks.aligned_inception import aligned_inception
from deformable_convnets.reference.networks.anchors import Anchors, Truths

SIZE, CLASSES, TOP = (65, 65), 3, 8  # on a map of 4 x 4 cells, or 5 x 5
ANCHORS = Anchors((32,), (0.5, 1))
TRUTHS = [Truths(np.array([[8, 10, 50, 44], [30, 24, 62, 60.0]]), [1, 2])]
PROPOSALS = [np.array([[8, 8, 40, 40], [30, 20, 60, 60.0], [0, 0, 20, 60], [16, 32, 48, 64]])]
ROIS = np.array([[0, 0, 0, 64, 64], [0, 16, 0, 48, 64], [0, 0, 32, 32, 64.0]])
OPTIONS = {"width": 4, "blocks": (1, 1, 1, 2), "top": TOP, "dtype": np.float64}
TRUNKS = {
    "ResNet-18": lambda rng: resnet.trunk(rng, 18, **OPTIONS),
    "ResNet-50": lambda rng: resnet.trunk(rng, 50, **OPTIONS, **resnet.TORCHVISION),
    "ResNet-101": lambda rng: resnet.trunk(rng, 101, **OPTIONS),
    "Aligned-Inception-ResNet": lambda rng: aligned_inception(rng, **OPTIONS),
}


def segmenter(name, moves):
    rng = np.random.default_rng(1)
    net = deeplab.deeplab(rng, TRUNKS[name](rng), CLASSES, channels=TOP, dtype=np.float64)
    return moves(net, resnet.last(net, 3))


def one_stage(moves):
    rng = np.random.default_rng(1)
    net = rpn.category_aware_rpn(
        rng, TRUNKS["ResNet-101"](rng), CLASSES, channels=TOP, anchors=ANCHORS, dtype=np.float64
    )
    return moves(net, resnet.last(net, 2))


def detector(module, joint, moves, **options):
    """Of two stages; `align` with bins of a power of two, where equation (5) is exact."""
    rng = np.random.default_rng(1)
    make = module.faster_rcnn if module is faster_rcnn else module.rfcn
    small = {"channels": TOP, "output_size": 2, "bins": "align", "samples": 2, "dtype": np.float64}
    small |= options | ({"hidden": 8} if module is faster_rcnn else {})
    proposing = rpn.rpn(rng, 64, hidden=6, anchors=ANCHORS, dtype=np.float64) if joint else None
    net = make(rng, TRUNKS["ResNet-101"](rng), CLASSES, rpn=proposing, **small)
    return moves(net, [*resnet.last(net, 2), *module.ROI_LAYERS])


def plain(net, paths):
    return net


MAKERS = {name: lambda moves, name=name: segmenter(name, moves) for name in TRUNKS}
MAKERS["category-aware RPN"] = one_stage
for _name, _module in (("Faster R-CNN", faster_rcnn), ("R-FCN", rfcn)):
    for _joint in (False, True):
        MAKERS[f"{_name}, {'joint' if _joint else 'fixed'}"] = (
            lambda moves, module=_module, joint=_joint: detector(module, joint, moves)
        )
