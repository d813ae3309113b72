"""The paper's settings: against section 4.1 as it is written, and beside the released code."""

from dataclasses import FrozenInstanceError, fields, replace

import pytest

from deformable_convnets.reference.networks import cited, optimisers, protocols, released_code
from deformable_convnets.reference.networks.protocols import PAPER, Fact, Protocol
from deformable_convnets.reference.networks.released_code import RELEASED, differences

SETTINGS = [f.name for f in fields(Protocol) if f.type is Fact]
DETECTORS = [key for key in PAPER if key[0] != "DeepLab"]
SECTION_4_1 = {  # network, data: setting = value, one sentence of the section after another
    ("DeepLab", "VOC"): {
        "train_images": 10582, "test_images": 1449, "classes": 21, "short_side": 360,
        "iterations": 30000, "gpus": 8, "rpn_rois": None, "bins": None,
    },
    ("DeepLab", "Cityscapes"): {
        "train_images": 2975, "test_images": 500, "classes": 20, "short_side": 1024,
        "iterations": 45000, "gpus": 8,
    },
    ("category-aware RPN", "VOC"): {
        "classes": 21, "short_side": 600, "iterations": 30000, "rpn_rois": 256, "rois": None,
    },
    ("Faster R-CNN", "VOC"): {
        "train_set": "VOC 2007 trainval and VOC 2012 trainval", "test_set": "VOC 2007 test",
        "rpn_rois": 256, "rois": 128, "bins": 7, "beta": 1, "beta_fc": 0.01, "gamma": 0.1,
        "thresholds": (0.5, 0.7), "proposals": "fixed", "hidden": (1024, 1024), "reduction": 256,
    },
    ("R-FCN", "COCO"): {
        "train_images": 120000, "test_images": 20000, "short_side": 600, "iterations": 240000,
        "rpn_rois": 256, "rois": 128, "bins": 7, "beta_fc": None, "proposals": "joint",
        "reduction": 1024, "multi_scale": (480, 576, 688, 864, 1200, 1400), "box_average": True,
        "box_average_settings": None,
    },
}  # fmt: skip
DIFFERENT = {  # the settings of the released code that are others
    ("DeepLab", "VOC"): "rates gpus offset_start offset_dilation beta_bias",
    ("DeepLab", "Cityscapes"): "classes rates gpus offset_start offset_dilation beta_bias",
    ("Faster R-CNN", "VOC"): "rates gpus offset_start offset_groups samples proposals",
    ("Faster R-CNN", "COCO"): "rates gpus offset_start offset_groups samples",
    ("R-FCN", "VOC"): "rates gpus offset_start offset_groups samples proposals",
    ("R-FCN", "COCO"): "rates offset_start offset_groups samples",
}


def complaints(plan: Protocol, expected: dict[str, object]) -> list[str]:
    found = {name: getattr(plan, name).value for name in expected}
    return [f"{n} is {v}, not {expected[n]}" for n, v in found.items() if v != expected[n]]


@pytest.mark.parametrize(("key", "expected"), SECTION_4_1.items(), ids=map(str, SECTION_4_1))
def test_section_4_1(key, expected):
    assert complaints(PAPER[key], expected) == []


def test_complaints_complain():
    key = ("R-FCN", "COCO")
    wrong = replace(PAPER[key], bins=Fact(3, "section 4.1", "text"))
    assert complaints(wrong, SECTION_4_1[key]) == ["bins is 3, not 7"]


def test_every_network_on_every_data_set():
    assert len(PAPER) == 8
    assert set(RELEASED) == {key for key in PAPER if key[0] != "category-aware RPN"}
    for plans in (PAPER, RELEASED):
        for key, plan in plans.items():
            assert (plan.network, plan.data) == key
            assert all(isinstance(getattr(plan, name), Fact) for name in SETTINGS)
    assert len(SETTINGS) > 40


def test_what_is_not_verified_says_so():
    """What `PAPER` has from memory, and what follows by calculation; all else has a text."""
    marks = {k: {n for p in PAPER.values() for n in SETTINGS if getattr(p, n).known == k}
             for k in protocols.KNOWN}  # fmt: skip
    assert marks["memory"] == {"images_per_gpu", "gpus"}
    assert marks["calculated"] == {"offset_groups"}
    assert marks["code"] == {"classes"}  # 81, for COCO
    assert PAPER["DeepLab", "VOC"].gpus.known == "text"
    assert (protocols.OBJECT_AREAS.value, protocols.OBJECT_AREAS.known) == ((9216, 50176), "memory")
    never = "long_side flipped crop warm_up momentum weight_decay frozen epochs reduction_rate"
    assert set(never.split()) <= marks["open"]
    for plan in RELEASED.values():
        assert all("*" not in getattr(plan, name).source for name in SETTINGS)


@pytest.mark.parametrize("key", DETECTORS, ids=map(str, DETECTORS))
def test_nobody_gives_the_anchors(key):
    with pytest.raises(ValueError, match=f"{key[0]} on {key[1]}: anchor_scales is not known: not "):
        PAPER[key].need("anchor_scales")


def test_anchors_of_the_released_code():
    for (network, data), plan in RELEASED.items():
        if network != "DeepLab":
            count = len(plan.need("anchor_scales")) * len(plan.need("anchor_ratios"))
            assert count == {"VOC": 9, "COCO": 12}[data]
            own = cited.complete(network, data)
            assert own.need("anchor_scales") == plan.need("anchor_scales")
            assert plan.need("kept_training") == plan.need("kept") == (0.7, 6000, 300)
            assert plan.need("least_side") == 0


@pytest.mark.parametrize("key", list(RELEASED), ids=map(str, RELEASED))
def test_differences(key):
    found = differences(*key)
    assert list(found) == sorted(DIFFERENT[key].split(), key=SETTINGS.index)
    for paper, released in found.values():
        assert paper.value != released.value
        assert (paper.known != "code", released.known == "code") == (True, True)
    assert PAPER[key].need("rates")[0] == (0, 1e-3)
    assert RELEASED[key].need("rates")[0] == (0, 5e-4)


FOLLOWED = {  # by the released code, as its configurations have it; DeepLab, Faster R-CNN, R-FCN
    "epochs": (12, 53, 7, 8, 7, 8), "gpus": (4, 4, 4, 4, 4, 8),
    "most": (None, None, None, 100, None, 100),
    "short_side": (360, 1024, *[600] * 4), "long_side": (600, 2048, *[1000] * 4),
    "warm_up": (False, *[(1000, 5e-5)] * 5), "crop": (False, (768, 1024), *[False] * 4),
    "classes": (21, 19, 21, 81, 21, 81), "reduction_rate": (1, 1, 1, 1, 3, 3),
    "beta": [1] * 6, "beta_bias": (2, 2, 1, 1, 1, 1), "momentum": [0.9] * 6,
    "weight_decay": [5e-4] * 6, "offset_groups": (1, 1, 4, 4, 4, 4),
    "offset_dilation": (1, 1, 2, 2, 2, 2), "reduction": (1024, 1024, 256, 256, 1024, 1024),
    "rpn_rois": (None, None, *[256] * 4), "rpn_overlaps": (None, None, *[(0.3, 0.7)] * 4),
    "rpn_positive": (None, None, *[0.5] * 4), "rois": (None, None, *[128] * 4),
    "positive": (None, None, 0.25, 0.25, None, None), "nms": (None, None, *[0.3] * 4),
    "overlaps": (None, None, (0.1, 0.5), (0.1, 0.5), (0.0, 0.5), (0.0, 0.5)),
    "bins": (None, None, *[7] * 4), "samples": (None, None, *[4] * 4),
}  # fmt: skip


@pytest.mark.parametrize("name", FOLLOWED)
def test_numbers_of_the_released_code(name):
    assert [getattr(plan, name).value for plan in RELEASED.values()] == [*FOLLOWED[name]]


def test_differences_of_nothing():
    with pytest.raises(ValueError, match="'category-aware RPN' on 'VOC' is not in both"):
        differences("category-aware RPN", "VOC")


def test_rates():
    """1e-3 in the first two thirds of the iterations, 1e-4 in the last."""
    for plan in PAPER.values():
        count = plan.need("iterations")
        falls = 2 * count // 3
        at = (0, 1, falls - 1, falls, count - 1)
        assert [plan.rate(i) for i in at] == [1e-3, 1e-3, 1e-3, 1e-4, 1e-4]
        steps = [optimisers.step_schedule(1e-3, i, after=falls) for i in at]
        assert [plan.rate(i) for i in at] == pytest.approx(steps, rel=1e-15)
        late = [optimisers.step_schedule(1e-3, i, after=falls + 1) for i in at]
        assert [plan.rate(i) for i in at] != pytest.approx(late)
    assert [PAPER["R-FCN", "VOC"].rate(i, 6) for i in range(6)] == 4 * [1e-3] + 2 * [1e-4]


def test_rates_of_the_released_code():
    """Seven epochs, of which the rate falls after 4.83, and 1000 iterations to warm up."""
    plan, count = RELEASED["R-FCN", "VOC"], 70_000
    found = [plan.rate(i, count) for i in (0, 999, 1000, 48_299, 48_301, 69_999)]
    assert found == pytest.approx([5e-5, 5e-5, 5e-4, 5e-4, 5e-5, 5e-5])
    assert RELEASED["DeepLab", "VOC"].rate(0, count) == 5e-4  # it does not warm up
    with pytest.raises(ValueError, match="iterations is not known: it counts epochs"):
        plan.rate(0)


@pytest.mark.parametrize("iteration", [-1, 30_000])
def test_rates_of_no_iteration(iteration):
    with pytest.raises(ValueError, match=f"iteration is {iteration}, expected 0 <= iteration < 3"):
        PAPER["DeepLab", "VOC"].rate(iteration)


def test_need():
    plan = PAPER["DeepLab", "VOC"]
    assert plan.need("short_side") == 360
    for name in ("sides", "network", "need"):
        with pytest.raises(ValueError, match=f"'{name}' is no setting, expected one of train_set"):
            plan.need(name)
    with pytest.raises(ValueError, match="DeepLab on VOC: bins is not known: DeepLab has no boxes"):
        plan.need("bins")


@pytest.mark.parametrize(
    ("fact", "problem"),
    [
        ((7, "section 4.1", "sure"), "known is 'sure', expected one of text, copy, code"),
        ((None, "section 4.1", "text"), "the value is None and known 'text'"),
        ((7, "nobody says it", "open"), "the value is 7 and known 'open'"),
        ((7, "", "text"), "the source is empty"),
    ],
)
def test_a_fact_says_where_it_is_from(fact, problem):
    with pytest.raises(ValueError, match=problem):
        Fact(*fact)


def test_nothing_can_be_changed_or_forgotten():
    with pytest.raises(FrozenInstanceError):
        PAPER["R-FCN", "VOC"].bins = Fact(3, "me", "text")
    with pytest.raises(TypeError, match="missing"):
        released_code.Protocol(network="R-FCN", data="VOC")
