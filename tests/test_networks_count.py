"""Counts of the paper's networks: every number of Tables 4, 6 and 7, to the unit."""

import subprocess
import sys

import numpy as np
import pytest

from deformable_convnets.reference.networks import (
    Tape,
    count,
    counting,
    deeplab,
    faster_rcnn,
    layers,
    resnet,
    rfcn,
    runtime,
)
from deformable_convnets.reference.networks.aligned_inception import aligned_inception
from deformable_convnets.reference.networks.counting import Shapes, counted, parameters, shaped

BRANCHES = 248_886  # of res5a, b and c, with one offset group
TABLE_4 = {
    "DeepLab, 21 classes": (44_619_861, 44_868_747),
    "DeepLab, 19 classes": (44_617_811, 44_866_697),
    "category-aware RPN": (44_828_961, 45_077_847),
    "Faster R-CNN": (57_028_009, 58_506_305),
    "Faster R-CNN, 1 box": (56_946_009, 58_424_305),
    "R-FCN, no boxes": (45_653_061, 48_011_397),
    "R-FCN, as released": (46_054_861, 48_513_647),
}


def test_table_4():
    found = count.table4()
    assert {name: numbers[:2] for name, numbers in found.items()} == TABLE_4
    for numbers in found.values():
        assert numbers.four_groups - numbers.ours == 3 * BRANCHES
    added = {name: n.ours - n.plain - BRANCHES for name, n in found.items()}
    assert added["DeepLab, 21 classes"] == added["category-aware RPN"] == 0
    assert added["Faster R-CNN"] == 98 * 12544 + 98 == 1_229_410
    assert added["R-FCN, no boxes"] == 2058 * 1024 + 2058 == 2_109_450
    assert added["R-FCN, as released"] == 2_109_450 + 100_450


def test_trunks():
    whole = resnet.trunk(Shapes(), top=None)
    assert parameters(whole) == 42_500_160
    assert parameters(whole) - count.of_norms(whole) == 42_394_816
    assert parameters(resnet.trunk(Shapes())) == 42_500_160 + 2_098_176
    made = count.classifiers()
    assert parameters(made["ResNet-101"]) == 44_549_160
    assert parameters(resnet.trunk(Shapes(), 50, top=None, classes=1000)) == 25_557_032
    assert parameters(resnet.trunk(Shapes(), 18, top=None, classes=1000)) == 11_689_512


def test_table_6():
    net = count.classifiers()["Aligned-Inception-ResNet"]
    assert sum(count.weights(net).values()) == 64_252_072
    assert parameters(net) == 64_381_800
    assert count.weights(net)["conv1"] == 7 * 7 * 3 * 64
    D = 256  # a block of conv2 that has D channels already
    block = D * D // 4 + D * D // 8 + 9 * (D // 4) ** 2 + 18 * (D // 8) ** 2 + 3 * D // 8 * D
    first = block - (D - 64) * (D // 4 + D // 8) + 64 * D  # of 64 channels, and a shortcut
    assert count.weights(net)["res2"] == first + 2 * block
    longer = aligned_inception(Shapes(), blocks=(3, 4, 24, 3), top=None, classes=1000)
    told = [round(sum(count.weights(each).values()) / 1e6, 1) for each in (net, longer)]
    assert told[0] == 64.3 != told[1]  # the paper's: one block more in conv4 would not fit


def test_multiply_adds():
    """The trunk's 118.8 G at 600 x 1000; the branches 0.50 % of it, the samples 0.11 %."""
    image = shaped((1, 3, 600, 1000))
    alone = counted(resnet.trunk(Shapes(), top=None), image, of="stages").plain
    assert round(alone / 1e9, 1) == 118.8
    row = count.ROWS[0]
    found = count.multiply_adds(row)
    cells = 38 * 63
    assert found.plain == alone + cells * (2048 * 1024 + 1024 * 21)
    assert found.branches == 3 * cells * 18 * 512 * 9 == 595_703_808
    assert sum(found.bilinear.values()) == 3 * cells * 512 * 9 * 4
    assert round(100 * found.branches / alone, 2) == 0.50
    plain = counted(row.make(Shapes()), image)
    assert (plain.plain, plain.branches, plain.bilinear) == (found.plain, 0, {})
    # He et al. 2016 give 7.6 G for ResNet-101 at 224 x 224, and 3.8 and 1.8 for 50 and 18
    for depth, expected in ((101, 7.6), (50, 3.8), (18, 1.8)):
        net = resnet.trunk(Shapes(), depth, top=None, classes=1000, stride=32)
        work = counted(net, shaped((1, 3, 224, 224)), of="classify").plain
        assert abs(work / 1e9 - expected) < 0.07


NETWORKS = {
    "DeepLab": (lambda rng, trunk: deeplab.deeplab(rng, trunk, 3, channels=8), ()),
    "Faster R-CNN": (
        lambda rng, trunk: faster_rcnn.faster_rcnn(rng, trunk, 3, channels=8, hidden=6),
        faster_rcnn.ROI_LAYERS,
    ),
    "R-FCN": (lambda rng, trunk: rfcn.rfcn(rng, trunk, 3, channels=8), rfcn.ROI_LAYERS),
}


class Multiplied(Tape):
    """A tape that computes, and counts by the shapes of what it has computed."""

    total = 0

    def call(self, forward, backward, *args, **options):
        y = super().call(forward, backward, *args, **options)
        if forward.__name__ in ("conv2d", "deform_conv2d", "linear"):
            weight = args[2] if forward.__name__ == "deform_conv2d" else args[1]
            self.total += y.size * weight[0].size
        return y


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("layout", [resnet.CAFFE, resnet.TORCHVISION])
@pytest.mark.parametrize("make", [resnet.trunk, aligned_inception], ids=["ResNet", "Aligned"])
def test_shapes_are_those_of_the_network(name, layout, make):
    """What is counted without numbers is what is computed with them, odd sizes and all."""
    build, roi_layers = NETWORKS[name]
    options = {"width": 4, "blocks": (1, 1, 2, 1), "top": 8}
    options |= layout if make is resnet.trunk else {}
    nets = []
    for rng in (np.random.default_rng(0), Shapes()):
        net = build(rng, make(rng, **options))
        nets.append(layers.deformable(net, [*resnet.last(net, 2), *roi_layers]))
    real, made = nets
    assert {n: a.shape for n, a in layers.arrays(real).items()} == {
        n: a.shape for n, a in layers.arrays(made).items()
    }
    rois = [np.array([[0, 2, 3, 30, 25.0]], np.float32)] if name != "DeepLab" else []
    tape = Multiplied()
    real(tape, np.zeros((1, 3, 35, 50), np.float32), *rois)
    found = counted(made, shaped((1, 3, 35, 50)), *rois)
    assert sum(found.layers.values()) == tape.total
    assert "?" not in found.layers
    assert len(found.bilinear) == 2


def test_weights_take_no_memory():
    net = layers.deformable(resnet.trunk(Shapes()), ["res5.2.branch2b.conv"])
    weights = [a for name, a in layers.arrays(net).items() if name.endswith("conv.weight")]
    assert all(a.strides == (0,) * 4 for a in weights)
    a = shaped((2, 3))
    assert (a * 0.1).strides == (0, 0)
    assert (a + np.ones((4, 2, 3))).shape == (4, 2, 3)


def test_an_operator_without_a_rule():
    with pytest.raises(RuntimeError, match="smooth_l1 has no rule for the shape of its result"):
        counting.Counter([]).smooth_l1(shaped((2, 3)), shaped((2, 3)))


def test_what_nothing_explains():
    told = count.unexplained()
    assert "1.05 to 1.45 M above ours" in told[0]
    about = {line.partition(":")[0] for line in told[1:] if "the paper adds" in line}
    assert about == {name for name in TABLE_4 if "R-FCN" not in name}
    verdicts = [line.endswith("which fits.") for line in told if "less DeepLab" in line]
    assert verdicts == [False, False, True, True]


def test_what_is_printed():
    text = "\n".join(count.lines())
    for number in ("44,868,747", "58,506,305", "48,011,397", "64,252,072", "118.8", "+2,358,336"):
        assert number in text
    for verdict in ("paper 64.3 M: it is with fc, without norms", "paper 46.0 M: none of them"):
        assert verdict in text
    rows = [line for line in text.split("\n") if "match:" in line]
    assert [line.split("match: ")[1] for line in rows[:2]] == ["no no no"] * 2
    assert [line.split("match: ")[1] for line in rows[5:7]] == ["no no yes"] * 2


def test_the_command():
    call = [sys.executable, "-m", "deformable_convnets.reference.networks.count"]
    done = subprocess.run([*call, "--size", "10", "10"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "an image is at least 16 x 16" in done.stderr


def test_times():
    """Of small networks: the numbers are not judged, only that each is run and told."""
    small = {"width": 2, "blocks": (1, 1, 1, 1), "top": 8}
    rows = [
        count.Row(name, lambda rng, b=build: b(rng, resnet.trunk(rng, **small)), roi, (1.0, 1.1),
                  (0.1, 0.2) if name != "R-FCN" else None)
        for name, (build, roi) in NETWORKS.items()
    ]  # fmt: skip
    told = list(runtime.times(rows, small_converted, (32, 48), 1))
    assert len(told) == 4
    assert told[2].startswith("DeepLab")
    assert all("+100.0%" in line for line in told[2:])


def small_converted(row, net):
    return layers.deformable(net, [*resnet.last(net, 1), *row.roi_layers])


def test_times_are_those_of_moved_samples():
    net = small_converted(count.ROWS[0], deeplab.deeplab(
        np.random.default_rng(0), resnet.trunk(np.random.default_rng(0), width=2, blocks=(1,) * 4,
                                               top=8), 3, channels=8))  # fmt: skip
    assert abs(runtime.with_offsets(net).trunk.res5[0].branch2b.conv.branch.bias).min() > 0


def test_a_reader_that_has_enough():
    """count | head -1: no error."""
    module = "deformable_convnets.reference.networks.count"
    command = [sys.executable, "-u", "-m", module]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as started:
        assert started.stdout.readline().startswith(b"Table 4")
        started.stdout.close()
        assert started.stderr.read() == b""
    assert started.returncode == 0
