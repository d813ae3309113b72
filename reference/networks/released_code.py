"""The settings of the authors' released code, in the form of `protocols`, and where they differ.

    RELEASED["R-FCN", "VOC"].need("anchor_scales")     (8, 16, 32)
    differences("R-FCN", "VOC")                        {"offset_groups": (Fact(1 ...), Fact(4 ...))}

It is github.com/msracver/Deformable-ConvNets, a re-implementation in MXNet: the paper's own code,
in a Caffe that was never released, may have had other settings. It has no category-aware RPN.
Sources are its files.
"""

from dataclasses import replace
from functools import partial
from typing import Any

from .protocols import (
    PAPER,
    ROI_SETTINGS,
    RPN_SETTINGS,
    TESTS_OF_BOXES,
    Fact,
    Plans,
    Protocol,
    absent,
)

_code = partial(Fact, known="code")  # in a file; `_plan` replaces the stars of its name
_yaml, _symbol = partial(_code, source="*.yaml"), partial(_code, source="symbols/*_dcn.py")


def _rates(first: float, drop: float, epochs: int) -> dict[str, Fact]:
    """A learning rate that falls to a tenth after some epochs."""
    rates = ((0, first), (drop / epochs, first / 10))
    return {
        "epochs": _yaml(epochs),
        "rates": _yaml(rates, source=f"*.yaml: lr_step {drop:g} of {epochs} epochs; lr_factor 0.1"),
    }


_ALL: dict[str, Fact] = {
    **absent("iterations", "it counts epochs", "open"),
    **absent("train_images test_images", "it counts the images when it runs", "open"),
    "flipped": _yaml(True),
    "images_per_gpu": _yaml(1),
    "gpus": _yaml(4),
    "warm_up": _yaml((1000, 5e-5)),
    "momentum": _code(0.9, "config/config.py"),
    "weight_decay": _code(5e-4, "config/config.py"),
    "frozen": _yaml(("conv1", "bn_conv1", "res2", "bn2", "gamma", "beta")),
    "stride": _symbol(16),
    "dilation": _symbol(2),
    "reduction": _symbol(1024),
    "deformable": _symbol(("res5a", "res5b", "res5c")),
    "offset_start": _code("zero, biases too", "symbols/*_dcn.py: init_weights"),
    "offset_groups": _symbol(4),
    "offset_dilation": _symbol(2),
    "beta": _symbol(1.0),
    "beta_bias": _symbol(1.0),
}

_SEGMENTATION = {
    **absent(f"{ROI_SETTINGS} {RPN_SETTINGS} {TESTS_OF_BOXES}", "DeepLab has no boxes"),
    "offset_groups": _symbol(1),
    "offset_dilation": _code(1, "symbols/*_dcn.py: 1, not the 2 of the layer"),
    "beta_bias": _code(2.0, "symbols/*_dcn.py: lr_mult of the biases"),
    "reduction_rate": _symbol(1.0),
    "metric": _code("mean IoU over pixels", "lib/dataset"),
}

_DETECTION = {
    **absent("multi_scale box_average box_average_settings", "not in this code"),
    **absent("least_score most", "*.yaml has no such setting", "open"),
    "rpn_hidden": _symbol(512),
    "short_side": _yaml(600),
    "long_side": _yaml(1000),
    "crop": _code(False, "*.yaml has no such setting"),
    "gamma": _code(0.1, "symbols/*_dcn.py: trans_std"),
    "anchor_ratios": _yaml((0.5, 1, 2)),
    "rpn_rois": _yaml(256),
    "rpn_positive": _yaml(0.5),
    "rpn_overlaps": _yaml((0.3, 0.7)),
    "kept": _yaml((0.7, 6000, 300)),
    "kept_training": _yaml((0.7, 6000, 300)),
    "least_side": _yaml(0),
    "proposals": _code("joint", "*.yaml: END2END, on VOC too"),
    "rois": _yaml(128),
    "positive": _yaml(0.25),
    "bins": _symbol(7),
    "samples": _code(4, "symbols/*_dcn.py: sample_per_part"),
    "nms": _yaml(0.3),
    "metric": _code("mean average precision", "lib/dataset"),
}

_VOC = {
    "train_set": _yaml("VOC 2007 trainval and VOC 2012 trainval"),
    "test_set": _yaml("VOC 2007 test"),
    "classes": _yaml(21),
    "anchor_scales": _yaml((8, 16, 32)),
    "thresholds": _code((0.5, 0.7), "README.md: its table"),
} | _rates(5e-4, 4.83, 7)
_COCO = {
    "most": _yaml(100),
    "train_set": _code("COCO trainval", "*.yaml: train2014 and val2014"),
    "test_set": _code("COCO test-dev", "*.yaml: test-dev2015"),
    "classes": _yaml(81),
    "anchor_scales": _yaml((4, 8, 16, 32)),
    "thresholds": _code(tuple(n / 100 for n in range(50, 100, 5)), "README.md: its table"),
} | _rates(5e-4, 5.333, 8)

_FASTER = {
    "reduction": _symbol(256),
    "hidden": _symbol((1024, 1024)),
    "beta_fc": _symbol(0.01),
    "reduction_rate": _code(1.0, "symbols/*_dcn.py: get_symbol_rcnn gives no lr_mult"),
    "class_agnostic": _yaml(False),
    "hardest": _yaml(False),
    "overlaps": _yaml((0.1, 0.5)),
}
_UNREAD = "faster_rcnn/config/config.py; that of rfcn was not at hand"
_RFCN = {
    **absent("beta_fc", "no fully connected branch"),
    **absent("hidden", "no fully connected layers"),
    **absent("positive", "BATCH_ROIS is -1: all RoIs are compared, and the hardest learn"),
    "rois": _code(128, "*.yaml: BATCH_ROIS_OHEM, the hardest of all"),
    "class_agnostic": _yaml(True),
    "hardest": _yaml(True),
    "overlaps": _yaml((0.0, 0.5)),
    "momentum": Fact(0.9, _UNREAD, "memory"),
    "weight_decay": Fact(5e-4, _UNREAD, "memory"),
    "reduction_rate": _code(3.0, "symbols/*_dcn.py: lr_mult of conv_new_1"),
}

_SEGMENTATION_VOC = {
    "train_set": _code("VOC 2012, with the extra mask annotations", "README.md, Installation"),
    "test_set": _yaml("VOC 2012 val"),
    "classes": _yaml(21),
    "short_side": _yaml(360),
    "long_side": _yaml(600),
    "crop": _yaml(False),
    "warm_up": _yaml(False),
} | _rates(5e-4, 8.0, 12)
_CITYSCAPES = {
    "train_set": _yaml("Cityscapes train"),
    "test_set": _yaml("Cityscapes val"),
    "classes": _code(19, "*.yaml: no background"),
    "short_side": _yaml(1024),
    "long_side": _yaml(2048),
    "crop": _yaml((768, 1024)),
} | _rates(5e-4, 40.336, 53)


def _plan(network: str, data: str, name: str, *facts: dict[str, Fact]) -> Protocol:
    """A protocol whose sources name the files of the folder and the configuration in `name`."""
    folder, configuration = name.split()
    symbol = {"rfcn": "rfcn", "faster_rcnn": "rcnn", "deeplab": "deeplab"}[folder]
    files = {
        "*.yaml": f"experiments/{folder}/cfgs/{configuration}.yaml",
        "symbols/*_dcn.py": f"{folder}/symbols/resnet_v1_101_{symbol}_dcn.py",
        " config/config.py": f" {folder}/config/config.py",
    }
    made: dict[str, Any] = {}
    for each in (_ALL, *facts):
        for key, fact in each.items():
            source = f" {fact.source}"
            for short, path in files.items():
                source = source.replace(short, path)
            made[key] = replace(fact, source=source.strip())
    return Protocol(network=network, data=data, **made)


_SEGMENTER, _DETECTOR = "deeplab deeplab_resnet_v1_101", "resnet_v1_101"
_PLANS = (
    _plan("DeepLab", "VOC", f"{_SEGMENTER}_voc12_segmentation_dcn",
          _SEGMENTATION, _SEGMENTATION_VOC),
    _plan("DeepLab", "Cityscapes", f"{_SEGMENTER}_cityscapes_segmentation_dcn",
          _SEGMENTATION, _CITYSCAPES),
    _plan("Faster R-CNN", "VOC", f"faster_rcnn {_DETECTOR}_voc0712_rcnn_dcn_end2end",
          _DETECTION, _VOC, _FASTER),
    _plan("Faster R-CNN", "COCO", f"faster_rcnn {_DETECTOR}_coco_trainval_rcnn_dcn_end2end",
          _DETECTION, _COCO, _FASTER),
    _plan("R-FCN", "VOC", f"rfcn {_DETECTOR}_voc0712_rfcn_dcn_end2end_ohem",
          _DETECTION, _VOC, _RFCN),
    _plan("R-FCN", "COCO", f"rfcn {_DETECTOR}_coco_trainval_rfcn_dcn_end2end_ohem",
          _DETECTION, _COCO, _RFCN, {"gpus": _yaml(8)}),
)  # fmt: skip
RELEASED = Plans({(plan.network, plan.data): plan for plan in _PLANS})


def differences(network: str, data: str) -> dict[str, tuple[Fact, Fact]]:
    """The settings that the paper and the released code both give, differently, by name."""
    if (network, data) not in RELEASED:
        pairs = "; ".join(f"{a} on {b}" for a, b in RELEASED)
        raise ValueError(f"{network!r} on {data!r} is not in both, expected one of {pairs}")
    paper, released = vars(PAPER[network, data]), vars(RELEASED[network, data])
    facts = {name: (fact, released[name]) for name, fact in paper.items() if name in released}
    return {
        name: (a, b) for name, (a, b) in facts.items()
        if isinstance(a, Fact) and None not in (a.value, b.value) and a.value != b.value
    }  # fmt: skip
