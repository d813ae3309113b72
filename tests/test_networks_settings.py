"""The networks have their numbers from the protocols: another protocol is another network.

A child process changes every setting before the networks are imported: all numbers among their
defaults have to change with it, but for a few that are no settings.
"""

import ast
import inspect
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_stages import SIZE, STRIDE, TOP, WIDTH, batch, trunk

from deformable_convnets.reference.networks import (
    Tape,
    anchors,
    cited,
    deeplab,
    detections,
    faster_rcnn,
    rfcn,
    roi_layers,
    rpn,
    settings,
    two_stage,
)
from deformable_convnets.reference.networks.protocols import PAPER, Fact

MODULES = (anchors, deeplab, detections, faster_rcnn, rfcn, rpn, two_stage)
CHANGED = {
    "classes": 3, "reduction": TOP, "stride": STRIDE, "bins": 2, "samples": 3, "hidden": (9, 9),
    "gamma": 0.25, "beta_fc": 0.5, "anchor_scales": (0.75, 1.5),
    "anchor_ratios": (1, 3), "rpn_hidden": 7, "rpn_rois": 30, "rpn_positive": 0.4,
    "rpn_overlaps": (0.2, 0.6), "kept": (0.65, 70, 8), "kept_training": (0.6, 90, 12),
    "least_side": 5, "rois": 18, "positive": 0.3, "overlaps": (0.05, 0.45), "nms": 0.35,
    "least_score": 0.15, "box_average_settings": (2, 0.55), "multi_scale": (24, 40),
    "hardest": True,
}  # fmt: skip
# Of other kinds: of the trunk, of what an RPN tells apart, of a border, a label and a seed, of a
# test that leaves nothing out, of rounds, which are asked for, of where anchors are in a cell, and
# two ways of which one is usual.
NO_SETTINGS = {
    "rpn.rpn.channels", "rpn.rpn.classes", "rpn.predict.least", "deeplab.loss.ignored",
    "anchors.assign_anchors.border", "two_stage.predict.again", "two_stage.detect.again",
    "rpn.Batch.seed", "rpn.ProposalNetwork.top", "two_stage.sampled.add_truths",
    "anchors.Anchors.offset",
}  # fmt: skip
CHILD = """
import importlib, importlib.util, json, sys
from dataclasses import replace
from deformable_convnets.reference.networks import protocols
from deformable_convnets.reference.networks.protocols import Fact
changed, (name, old, new) = json.loads(sys.argv[1]), json.loads(sys.argv[2])
for key, plan in protocols.PAPER.items():
    facts = {n: Fact(tuple(v) if isinstance(v, list) else v, "a test", "text")
             for n, v in changed.items() if getattr(plan, n).known != "none"}
    if key[0] in ("Faster R-CNN", "R-FCN"):
        facts["class_agnostic"] = Fact(key[0] == "Faster R-CNN", "a test", "text")
    protocols.PAPER[key] = replace(plan, **facts)
home = "deformable_convnets.reference.networks."
if name:
    spec = importlib.util.find_spec(home + name)
    text = open(spec.origin).read()
    assert old in text
    sys.modules[home + name] = module = importlib.util.module_from_spec(spec)
    exec(text.replace(old, new), vars(module))
sys.path.insert(0, sys.argv[3])
import test_networks_settings as own
print(json.dumps(own.defaults()))
"""


def defaults():
    """Numbers and anchors among the defaults, by module.function.argument, or field."""
    found = {}
    for module in MODULES:
        own = module.__name__.rpartition(".")[2]
        for name, thing in vars(module).items():
            if getattr(thing, "__module__", "") != module.__name__ or not callable(thing):
                continue
            for a in inspect.signature(thing).parameters.values():
                if (
                    isinstance(a.default, float | int | tuple | anchors.Anchors)
                    and a.default is not a.empty
                ):
                    value = a.default
                    found[f"{own}.{name}.{a.name}"] = (
                        vars(value) if isinstance(value, anchors.Anchors) else value
                    )
    return found | {"roi_layers.gamma": roi_layers.DeformRoiPool.gamma,
                    "roi_layers.ps.gamma": roi_layers.DeformPsRoiPool.gamma}  # fmt: skip


def left_in_place(doctored=("", "", "")):
    """The defaults that do not change with the protocols."""
    command = [sys.executable, "-c", CHILD, json.dumps(CHANGED), json.dumps(doctored),
               str(Path(__file__).parent)]  # fmt: skip
    environment = os.environ | {"PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=120, env=environment
    )
    theirs, ours = json.loads(done.stdout), json.loads(json.dumps(defaults()))
    assert ours.keys() <= theirs.keys()
    return {n for n, v in ours.items() if v == theirs[n]}


def test_every_default_is_of_a_protocol():
    assert left_in_place() == NO_SETTINGS
    assert len(defaults()) > 40


def test_a_default_that_is_left_in_place_is_seen():
    assert left_in_place(("rpn", 'LEARN["number"]', "256")) == NO_SETTINGS | {"rpn.rpn_loss.number"}


PLAIN = {0, 1, 2, 3, 4, 5}  # axes, corners of a box, the two classes of an RPN
OWN_NUMBERS = {
    "anchors": {0.5, 16}, "deeplab": {0.1}, "rpn": {0.1, 1024}, "roi_layers": set(),
}  # fmt: skip


def numbers(text):
    """Those that are written in a module's text, but for PLAIN."""
    found = [node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant)]
    return {n for n in found if isinstance(n, float | int) and n not in PLAIN}


def test_no_other_numbers_in_the_networks():
    """Half a cell, strides of 16 pixels, small first weights, and the channels of res4."""
    for module in (*MODULES, roi_layers):
        name = module.__name__.rpartition(".")[2]
        text = Path(module.__file__).read_text()
        assert numbers(text) == OWN_NUMBERS.get(name, set()), name
        assert numbers(text + "\nBEFORE = 6000") - OWN_NUMBERS.get(name, set()) == {6000}


def changed_plan(network, data="COCO", **others):
    """A protocol with the numbers of CHANGED, as far as the network has such settings."""
    plan = cited.complete(network, data)
    facts = {n: Fact(v, "a test", "text") for n, v in (CHANGED | others).items()
             if getattr(plan, n).known != "none"}  # fmt: skip
    return replace(plan, **facts)


def test_faster_rcnn_of_another_protocol():
    rng = np.random.default_rng(0)
    plan = changed_plan("Faster R-CNN", class_agnostic=True, hardest=False)
    proposing = rpn.rpn(rng, WIDTH, **settings.of_rpn(plan))
    assert (proposing.hidden.weight.shape[0], proposing.anchors.number) == (7, 4)
    assert proposing.anchors.boxes(1)[0].tolist() == [-4, -4, 8, 8]  # 12 x 12 around (2, 2)
    net = faster_rcnn.faster_rcnn(rng, trunk(np.float32), rpn=proposing, **settings.of_head(plan))
    assert (net.head.pool.output_size, net.head.pool.bins, net.head.pool.samples) == (2, "mxnet", 3)
    assert (net.head.first.weight.shape, net.head.box.weight.shape) == ((9, 4 * TOP), (4, 9))
    assert_it_runs(net, plan)


def test_rfcn_of_another_protocol():
    rng = np.random.default_rng(0)
    for agnostic, outputs in ((True, 8), (False, 12)):
        plan = changed_plan("R-FCN", class_agnostic=agnostic)
        proposing = rpn.rpn(rng, WIDTH, **settings.of_rpn(plan))
        net = rfcn.rfcn(rng, trunk(np.float32), rpn=proposing, **settings.of_head(plan))
        assert net.head.score.score.weight.shape[0] == 3 * 2 * 2
        assert net.head.box.score.weight.shape[0] == outputs * 2 * 2
        assert_it_runs(net, plan)


def assert_it_runs(net, plan):
    """A step with the settings of a protocol, and a test: how many RoIs learn, and what is kept."""
    drawn, seen = batch(1, dtype=np.float32), []

    class Spy(Tape):
        def softmax_loss(self, x, labels):
            seen.append(np.asarray(labels))
            return super().__getattr__("softmax_loss")(x, labels)

    value = two_stage.loss(net, Spy(), drawn, **settings.of_training(plan))
    assert np.isfinite(value)
    of_rpn, of_rois = seen
    assert (of_rpn >= 0).sum() == 30
    assert 0 < (of_rpn > 0).sum() <= 0.4 * 30
    assert len(of_rois) <= 18
    found = two_stage.predict(net, drawn.images, **settings.of_proposals(plan))
    assert len(found[0].scores) <= 8
    last = plan.network == "R-FCN"
    options = settings.of_test(plan, averaged=last, scales=last)
    assert options.get("short_sides") == ((24, 40) if last else None)
    assert options["proposing"]["after"] == 8
    for each in two_stage.detect(net, drawn.images, **options)[0].values():
        assert (each.scores >= 0.15).all()


def test_the_others_of_another_protocol():
    rng = np.random.default_rng(0)
    plan = changed_plan("category-aware RPN")
    net = rpn.category_aware_rpn(rng, trunk(np.float32), **settings.of_head(plan))
    assert (net.rpn.classes, net.rpn.anchors.number) == (3, 4)
    drawn = batch(1, dtype=np.float32)
    value = rpn.loss(net, Tape(), drawn, **settings.of_rpn_loss(plan))
    assert float(value) != float(rpn.loss(net, Tape(), drawn))
    assert rpn.detect(net, drawn.images, **settings.of_detections(plan))
    plan = replace(PAPER["DeepLab", "VOC"], classes=Fact(4, "a test", "text"))
    made = deeplab.deeplab(rng, None, **settings.of_head(plan) | {"channels": TOP})
    assert made.score.weight.shape == (4, TOP, 1, 1)
    for name, plan in settings.VOC.items():
        module, make = {
            "DeepLab": (deeplab, deeplab.deeplab), "R-FCN": (rfcn, rfcn.rfcn_head),
            "category-aware RPN": (rpn, rpn.category_aware_rpn),
            "Faster R-CNN": (faster_rcnn, faster_rcnn.faster_head),
        }[name]  # fmt: skip
        arguments = inspect.signature(make).parameters
        for key, value in settings.of_head(plan).items():
            assert arguments[key].default == value, (module, key)


def test_background_from_an_overlap_on():
    """Of the released Faster R-CNN: 0.1 to 0.5 is background, and what is further away is left."""
    truths = [anchors.Truths(np.array([[0, 0, 10, 10.0]]), [1])]
    given = [np.array([[0, 0, 10, 9], [0, 0, 4, 10], [0, 0, 1, 9], [20, 20, 30, 30.0]])]
    rng = np.random.default_rng(0)
    for lowest, labels in ((0.0, [1, 0, 0, 0]), (0.1, [1, 0]), (0.05, [1, 0, 0])):
        options = {"lowest": lowest, "foreground": 1.0, "add_truths": False}
        found = two_stage.sampled(rng, given, truths, SIZE, **options)
        assert found.labels.tolist() == labels
    nothing = [anchors.Truths(np.zeros((0, 4)), [])]
    assert len(two_stage.sampled(rng, given, nothing, SIZE, lowest=0.1).rois) == 0
    plan = replace(cited.complete("Faster R-CNN", "VOC"), overlaps=Fact((0.1, 0.5), "a", "text"))
    assert settings.of_sample(plan)["lowest"] == 0.1
    with pytest.raises(ValueError, match=r"lowest and threshold are 0\.6 and 0\.5, expected"):
        two_stage.sampled(rng, given, truths, SIZE, lowest=0.6)


def test_complete_protocols():
    """The paper first, then those it follows, then released code; what is "none" stays so."""
    plan = cited.complete("Faster R-CNN", "COCO")
    assert plan.rois == PAPER["Faster R-CNN", "COCO"].rois
    assert plan.kept.value == (0.7, 6000, 300)
    assert plan.kept.known == "memory"
    assert (plan.momentum.value, plan.momentum.known) == (0.9, "code")
    assert plan.box_average.known == "none"
    assert plan.anchor_scales.value == (4, 8, 16, 32)  # as released, see RELEASED
    assert cited.complete("Faster R-CNN", "VOC").anchor_scales.value == (8, 16, 32)
    assert plan.kept_training.value == (0.7, 12000, 2000)
    assert plan.least_side.value == 16
    assert settings.of_head(plan)["classes"] == 81
    assert cited.complete("R-FCN", "VOC").class_agnostic.value is True
    assert settings.of_test(plan)["proposing"]["before"] == 6000
    assert "proposing" not in settings.of_test(settings.VOC["R-FCN"])
    for key, own in PAPER.items():
        filled = cited.complete(*key)
        for name, fact in vars(own).items():
            if isinstance(fact, Fact) and fact.known != "open":
                assert getattr(filled, name) == fact
    with pytest.raises(ValueError, match="'R-FCN' on 'Cityscapes' is not in the paper, expected"):
        cited.complete("R-FCN", "Cityscapes")
    unequal = replace(plan, hidden=Fact((9, 8), "a test", "text"))
    with pytest.raises(ValueError, match=r"hidden is \(9, 8\), expected two layers of one width"):
        settings.of_head(unequal)
    with pytest.raises(ValueError, match="RPN on VOC: kept is not known: a proposal"):
        settings.of_proposals(settings.VOC["category-aware RPN"])
