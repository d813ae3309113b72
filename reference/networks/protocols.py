"""The settings of the paper's experiments (sections 2.3 and 4) as data, each with its source.

    plan = PAPER["R-FCN", "VOC"]           a network and its data
    plan.bins                              Fact(value=7, source='section 4.1', known='text')
    plan.need("bins")                      7; ValueError, with the reason, for what nobody says
    plan.rate(iteration)                   the learning rate of a step, as `training.train` asks

`released_code.RELEASED` has the same of the authors' released code, and `cited.complete` fills what
the paper leaves open; the networks have their numbers from there, by way of `settings`. Learning
rates, overlaps and fractions are plain numbers, lengths are pixels; a fact that is not known has
the value None, and its source says why. How sure a fact is stands in `known`, by the words of
`KNOWN`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

KNOWN = {
    "text": "in the text of the paper, read in a translation",
    "copy": "found in an independent copy of the paper",
    "code": "read in the released code",
    "calculated": "follows from other facts by calculation",
    "memory": "from memory, not verified again",
    "open": "nobody says it: the value is None",
    "none": "there is no such setting here: the value is None",
}


@dataclass(frozen=True)
class Fact:
    """A value, where it is written, and how sure it is: see `KNOWN`."""

    value: Any
    source: str
    known: str

    def __post_init__(self) -> None:
        if self.known not in KNOWN:
            raise ValueError(f"known is {self.known!r}, expected one of {', '.join(KNOWN)}")
        if (self.value is None) != (self.known in ("open", "none")):
            raise ValueError(f"the value is {self.value!r} and known {self.known!r}")
        if not self.source:
            raise ValueError("the source is empty, expected where it is written")


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a network is trained and tested on a data set: two names, then facts."""

    network: str
    data: str
    # data sets
    train_set: Fact
    train_images: Fact
    test_set: Fact
    test_images: Fact
    classes: Fact  # with the background
    # images
    short_side: Fact  # to which an image is resized,
    long_side: Fact  # unless the other side would be longer than this
    flipped: Fact  # whether training sees mirrored images too
    crop: Fact  # (H, W) of what training cuts out, False where it takes whole images
    # training
    iterations: Fact
    epochs: Fact
    rates: Fact  # (from this part of the training on, this learning rate), ...
    warm_up: Fact  # (iterations, their learning rate), False where there is none
    gpus: Fact
    images_per_gpu: Fact
    momentum: Fact
    weight_decay: Fact
    frozen: Fact  # beginnings or ends of the names of parameters that are not trained
    # the trunk
    stride: Fact  # of conv5
    dilation: Fact  # of the layers of conv5 with kernels of more than one pixel
    reduction: Fact  # channels of the 1x1 convolution on top
    reduction_rate: Fact  # its learning rate, in those of other layers
    deformable: Fact  # the layers that are, by default
    # offsets
    offset_start: Fact  # the values they are trained from
    offset_groups: Fact
    offset_dilation: Fact  # of the branch of a layer in conv5
    beta: Fact  # learning rate of the branches, in those of other layers
    beta_bias: Fact  # that of their biases
    beta_fc: Fact  # that of the fully connected branch of RoI pooling
    gamma: Fact
    # proposals and RoIs
    anchor_scales: Fact  # sides, in strides of 16 pixels
    anchor_ratios: Fact  # height / width
    rpn_hidden: Fact  # channels of its 3x3 convolution on conv4
    rpn_rois: Fact  # anchors in the loss of an image
    rpn_positive: Fact  # of these, at most this part are of objects
    rpn_overlaps: Fact  # below the first an anchor is background, from the second on an object
    kept: Fact  # (overlap of suppression, proposals before it, after it) of an image
    kept_training: Fact  # the same, while training
    least_side: Fact  # of a proposal, in pixels
    proposals: Fact  # "fixed": by another network, trained before; "joint": by a part of this one
    rois: Fact  # RoIs in the loss of an image
    positive: Fact  # of these, at most this part are of objects
    overlaps: Fact  # from the first to the second a RoI is background, above an object
    hardest: Fact  # whether the RoIs of the largest loss are taken (OHEM)
    bins: Fact  # k
    samples: Fact  # points along a side of a bin, or "all pixels"
    hidden: Fact  # widths of the fully connected layers
    class_agnostic: Fact  # whether all classes share a box
    # test
    metric: Fact
    thresholds: Fact  # overlaps from which a detection is right
    nms: Fact  # overlap of the suppression of detections
    least_score: Fact  # of a detection
    most: Fact  # detections of an image, of all classes
    multi_scale: Fact  # short sides of the test at several scales
    box_average: Fact  # whether boxes are averaged iteratively in that test
    box_average_settings: Fact  # (rounds after the first, overlap of boxes that vote)

    def need(self, name: str) -> Any:
        """The value of a setting; ValueError, with the reason, if there is none."""
        names = [f.name for f in fields(self) if f.type is Fact]
        if name not in names:
            raise ValueError(f"{name!r} is no setting, expected one of {', '.join(names)}")
        fact = getattr(self, name)
        if fact.value is None:
            raise ValueError(f"{self.network} on {self.data}: {name} is not known: {fact.source}")
        return fact.value

    def rate(self, iteration: int, iterations: int | None = None) -> float:
        """The learning rate of an iteration, from 0 on, of all (None: as many as the setting)."""
        if iterations is None and self.iterations.value is None:
            raise ValueError(
                f"{self.network} on {self.data}: iterations is not known: {self.iterations.source};"
                " give iterations = epochs * images / images of a step"
            )
        count = self.need("iterations") if iterations is None else iterations
        if not 0 <= iteration < count:
            raise ValueError(f"iteration is {iteration}, expected 0 <= iteration < {count}")
        warm_up = self.warm_up.value
        if warm_up and iteration < warm_up[0]:
            return float(warm_up[1])
        return float([r for start, r in self.need("rates") if iteration / count >= start][-1])


class Plans(dict[tuple[str, str], Protocol]):
    """Protocols by network and data; KeyError, with all pairs, for others."""

    def __missing__(self, key: Any) -> Protocol:
        raise KeyError(f"{key!r} is not here, expected one of {', '.join(map(repr, self))}")


def absent(names: str, why: str, known: str = "none") -> dict[str, Fact]:
    """Facts without a value, for several names and one reason."""
    return {name: Fact(None, why, known) for name in names.split()}


ROI_SETTINGS = (
    "rois positive overlaps hardest bins samples gamma beta_fc hidden class_agnostic proposals kept"
    " kept_training least_side"
)
RPN_SETTINGS = "anchor_scales anchor_ratios rpn_hidden rpn_rois rpn_positive rpn_overlaps"
TESTS_OF_BOXES = "thresholds nms least_score most multi_scale box_average box_average_settings"

_text, _copy = partial(Fact, known="text"), partial(Fact, known="copy")
_NOT_SAID = "not in the paper"

_ALL: dict[str, Fact] = {
    **absent("epochs", "section 4.1 counts iterations", "open"),
    **absent("long_side flipped crop warm_up momentum weight_decay", _NOT_SAID, "open"),
    **absent("frozen reduction_rate", _NOT_SAID, "open"),
    "images_per_gpu": Fact(
        1, "section 4.1; the translation has the mini-batch of a GPU, not its one image", "memory"
    ),
    "rates": _text(((0, 1e-3), (2 / 3, 1e-4)), "section 4.1"),
    "stride": _text(16, "section 2.3: 32 reduced to 16"),
    "dilation": _text(2, "section 2.3: 1 changed to 2"),
    "reduction": _text(1024, "section 2.3"),
    "deformable": _copy(("res5a", "res5b", "res5c"), "Table 1: three layers, the default"),
    "offset_start": _text("zero", "section 2.3; nothing is said of biases"),
    "offset_groups": Fact(
        1, "not mentioned; the parameters R-FCN gains in Table 4 fit one group only", "calculated"
    ),
    "offset_dilation": _text(2, "section 2.1: that of the layer, which is 2 in conv5"),
    "beta": _text(1.0, "section 2.3"),
    "beta_bias": _text(1.0, "section 2.3, which tells no biases apart"),
}

_SEGMENTATION = {
    **absent(f"{ROI_SETTINGS} {RPN_SETTINGS} {TESTS_OF_BOXES}", "DeepLab has no boxes"),
    "gpus": _text(8, "section 4.1"),
    "metric": _text("mean IoU over pixels", "section 4.1"),
}

_DETECTION = {
    **absent("positive overlaps hardest class_agnostic nms kept", _NOT_SAID, "open"),
    **absent("kept_training least_side least_score most", _NOT_SAID, "open"),
    **absent(RPN_SETTINGS, "not in the paper, which follows Ren 2015", "open"),
    **absent("multi_scale box_average box_average_settings", "tested at one scale"),
    **absent("beta_fc", "no fully connected branch"),
    **absent("hidden", "no fully connected layers"),
    "gpus": Fact(8, "section 4.1; not in the translation that was read", "memory"),
    "short_side": _text(600, "section 4.1"),
    "metric": _text("mean average precision", "section 4.1"),
    "rpn_rois": _text(256, "section 4.1"),
    "rois": _text(128, "section 4.1"),
    "bins": _text(7, "section 4.1"),
    "samples": _text("all pixels", "equation (5): the mean of a bin's"),
    "gamma": _text(0.1, "section 2.2"),
}

_VOC = {
    **absent("train_images test_images", "section 4.1 counts no images of VOC 2007", "open"),
    "train_set": _text("VOC 2007 trainval and VOC 2012 trainval", "section 4.1"),
    "test_set": _text("VOC 2007 test", "section 4.1"),
    "classes": _text(21, "section 4.1: 20 categories, and the background"),
    "iterations": _text(30_000, "section 4.1"),
    "thresholds": _text((0.5, 0.7), "section 4.1"),
    "proposals": _text("fixed", "section 4.1: pre-trained and fixed, no features shared"),
}

_COCO = {
    "train_set": _text("COCO trainval", "section 4.1"),
    "train_images": _text(120_000, "section 4.1: 120k"),
    "test_set": _text("COCO test-dev", "section 4.1"),
    "test_images": _text(20_000, "section 4.1: 20k"),
    "classes": Fact(81, "not in section 4.1; NUM_CLASSES of the released code", "code"),
    "iterations": _text(240_000, "section 4.1"),
    "thresholds": _text(
        tuple(n / 100 for n in range(50, 100, 5)), "section 4.1: mAP@[0.5:0.95], and 0.5 alone"
    ),
    "proposals": _text("joint", "section 4.1: trained jointly, features shared"),
}

_FASTER = {
    "reduction": _copy(256, "the first version of the paper; section 2.3 says 1024 of all"),
    "hidden": _text((1024, 1024), "section 2.3"),
    "beta_fc": _copy(0.01, "section 2.3: of the fully connected layer in Faster R-CNN"),
}
_RPN = {
    **absent(ROI_SETTINGS, "a proposal network has no second stage"),
    **absent("rpn_hidden", "two 1x1 convolutions of the features themselves"),
}
_TABLE_5 = {
    **absent("box_average_settings", "section 4.3 names the method only", "open"),
    "multi_scale": _copy(
        (480, 576, 688, 864, 1200, 1400), "section 4.3: rows M of Table 5, of Aligned-Inception"
    ),
    "box_average": _copy(True, "Table 5: rows B, of Aligned-Inception"),
}

NETWORKS = ("category-aware RPN", "Faster R-CNN", "R-FCN")  # detectors

PAPER = Plans({
    ("DeepLab", "VOC"): Protocol(network="DeepLab", data="VOC", **_ALL | _SEGMENTATION | {
        "train_set": _text("VOC 2012, with the extra mask annotations", "section 4.1"),
        "train_images": _text(10_582, "section 4.1"),
        "test_set": _text("VOC 2012 val", "section 4.1"),
        "test_images": _text(1449, "section 4.1"),
        "classes": _text(21, "section 4.1: 20 categories, and the background of section 2.3"),
        "short_side": _text(360, "section 4.1"),
        "iterations": _text(30_000, "section 4.1"),
    }),
    ("DeepLab", "Cityscapes"): Protocol(
        network="DeepLab", data="Cityscapes", **_ALL | _SEGMENTATION | {
        "train_set": _text("Cityscapes train", "section 4.1"),
        "train_images": _text(2975, "section 4.1"),
        "test_set": _text("Cityscapes val", "section 4.1"),
        "test_images": _text(500, "section 4.1"),
        "classes": _text(20, "section 4.1: 19 categories plus a background one"),
        "short_side": _text(1024, "section 4.1"),
        "iterations": _text(45_000, "section 4.1"),
    }),
})  # fmt: skip


def _detectors() -> Iterable[Protocol]:
    """Each detector on each data set."""
    own: dict[str, dict[str, Fact]] = dict(zip(NETWORKS, (_RPN, _FASTER, {}), strict=True))
    for data, facts in (("VOC", _VOC), ("COCO", _COCO)):
        for network, more in own.items():
            last = _TABLE_5 if (network, data) == ("R-FCN", "COCO") else {}
            every = _ALL | _DETECTION | facts | more | last
            yield Protocol(network=network, data=data, **every)


PAPER |= {(plan.network, plan.data): plan for plan in _detectors()}

# Objects of Table 2 are small below the first area and large above the second, in pixels.
OBJECT_AREAS = Fact((96**2, 224**2), "caption of Table 2", "memory")
