"""What the experiments measure, against networks and offsets whose numbers are known beforehand."""

from types import SimpleNamespace

import numpy as np
import pytest
from tutorial_files import helper

from deformable_convnets.reference import R
from deformable_convnets.reference.networks.detector import Predicted
from deformable_convnets.reference.networks.scale_world import Scene, Thing

pytest.importorskip("sklearn")
runs, worlds = helper("experiments.runs"), helper("experiments.worlds")
segmentation, detection = helper("experiments.segmentation"), helper("experiments.detection")
Dilations = helper("experiments.dilations").Dilations
Run = runs.Run
GRID = R((3, 3))  # the taps, (y, x)
HELD_OUT = pytest.mark.parametrize(
    ("world", "of_test", "seed"),
    [("scale", "scale", 0), ("scale", "scale", 3), ("digits", "digits-test", 0)],
)


def of_the_test(world, count):
    """The pictures of a test, labels and scenes: of seed 1,000,000, whatever the run's seed is."""
    return worlds.batch(world, np.random.default_rng(1_000_000), count)


def head(classes):
    return SimpleNamespace(weight=np.zeros((classes, 1, 1, 1)))


class Oracle:
    """A segmenter that says the labels of the pictures it knows, and fails for any other."""

    def __init__(self, images, labels, classes):
        self.answers = {i.tobytes(): a for i, a in zip(images, labels, strict=True)}
        self.head, self.asked = head(classes), []

    def __call__(self, tape, images):
        self.asked += [i.tobytes() for i in images]
        labels = np.stack([self.answers[i.tobytes()] for i in images])
        return (labels[:, None] == np.arange(len(self.head.weight))[:, None, None]) - 0.5


@HELD_OUT
def test_a_segmenter_that_knows_the_test_has_all_right(world, of_test, seed, monkeypatch):
    """In two parts; a picture of the training would not be known."""
    monkeypatch.setattr(segmentation, "TOGETHER", 4)
    images, labels, scenes = of_the_test(of_test, 6)
    net = Oracle(images, labels, len(worlds.WORLDS[world].CLASSES))
    found = segmentation.measured(net, Run(world=world, tested=6, seed=seed))
    assert net.asked == list(net.answers)
    assert found["miou"] == 1
    there = {worlds.size_bin(thing.r, 64) for s in scenes for thing in s.things}
    assert {place for place, share in found["right"].items() if share == 1} >= there


def test_a_segmenter_that_is_partly_right(monkeypatch):
    """It says the number in the picture. The sums are worked by hand."""
    nan = np.nan
    said = [[0, 1, 2, 2]], [[1, 0, 1, 0]]
    labels = [[0, 1, 1, 2]], [[0, 0, 1, 2]]
    radii = [[nan, 4, 4, 20]], [[nan, nan, 4, 10]]
    every = zip(said, labels, radii, strict=True)
    parts = [(np.array([[s]]), np.array([a]), np.array([r])) for s, a, r in every]
    monkeypatch.setattr(segmentation, "tested", lambda run: parts)

    def net(tape, images):
        return -abs(images - np.arange(3)[:, None, None]).astype(float)

    net.head = head(3)
    found = segmentation.measured(net, Run())
    # of truth or said: 4, 4 and 3 cells of the classes; of both: 2, 2 and 1
    assert found["miou"] == pytest.approx((2 / 4 + 2 / 4 + 1 / 3) / 3)
    right = {"small": 2 / 3, "medium": 0, "large": 1, "background": 2 / 3}
    assert found["right"] == pytest.approx(right)


def test_dilations_bear_the_names_of_their_layers():
    """In whatever order the run names them; a branch that scales the grid of its layer."""
    more = {"res5c": 3.0, "res4b": 0.5, "res5a": 1.0}
    run = Run(deformable=tuple(more), tested=2)
    net = runs.started(run).net
    for layer, by in more.items():
        getattr(net, layer).branch.bias[:] = by * GRID.ravel()
    found = segmentation.measured(net, run)["dilations"]
    assert found["map_size"] == [16, 16]
    for layer, each in found["layers"].items():
        own = (1 if layer == "res4b" else 2) + more[layer]
        assert sum(place["filters"] for place in each.values()) == 2 * 16 * 16
        for place in each.values():
            assert place["filters"] == 0 or place["mean"] == pytest.approx(own, rel=1e-6)


def scaled(by):
    """An offset field 1 18 2 2 that moves every tap of a pixel by so many times its p_n."""
    return np.multiply.outer(GRID.ravel(), np.array(by, float))[None]


def measured(offsets, places, dilation=1, layers=("res5a",)):
    dilations = Dilations(layers)
    dilations.add([(offset, dilation) for offset in offsets], places)
    return dilations.summary()["layers"]


def test_dilations_by_place_and_layer():
    first, second = scaled([[0, 1], [3, 1]]), scaled([[2, 2], [2, 5]])
    left = np.array([[[True, False], [True, False]]])
    places = {"left": left, "right": ~left, "nowhere": np.zeros((1, 2, 2), bool)}
    found = measured([first, second], places, dilation=2, layers=("res5c", "res5a"))
    expected = {"res5a": {"left": (3.5, 1.5), "right": (3, 0)},
                "res5c": {"left": (4, 0), "right": (5.5, 1.5)}}  # fmt: skip
    for layer, each in expected.items():
        for place, (mean, std) in each.items():
            row = found[layer][place]
            assert (row["filters"], row["mean"], row["std"]) == pytest.approx((2, mean, std))
            assert row["scale"] == pytest.approx(mean)
            assert row["rigid"] == pytest.approx(8 / 9)  # a map of two pixels
        assert found[layer]["nowhere"]["mean"] is None


def test_pictures_are_added_up():
    dilations, everywhere = Dilations(("res5a",)), {"all": np.ones((1, 2, 2), bool)}
    for by in (0, 2):
        dilations.add([(scaled(np.full((2, 2), by)), 1)], everywhere)
    row = dilations.summary()["layers"]["res5a"]["all"]
    assert (row["filters"], row["mean"], row["std"]) == pytest.approx((8, 2, 1))


def test_a_sheared_grid_tells_scale_from_effective_dilation():
    """x + y in place of x: half of the pairs are sqrt 2 apart, and the fit scales by |1 + i/2|."""
    shear = np.stack([0 * GRID[:, 0], GRID[:, 0]], axis=1).ravel()
    offset = np.tile(shear[None, :, None, None], (1, 1, 2, 2)).astype(float)
    row = measured([offset], {"all": np.ones((1, 2, 2), bool)})["res5a"]["all"]
    assert row["mean"] == pytest.approx((1 + 2**0.5) / 2)
    assert row["scale"] == pytest.approx(1.25**0.5)


def test_the_control_is_displacements_as_long_in_random_directions():
    by, rng = 2.0, np.random.default_rng(5)
    row = measured([scaled(np.full((32, 32), by))], {"all": np.ones((1, 32, 32), bool)})["res5a"]
    angle = rng.uniform(0, 2 * np.pi, (4000, 9))
    turned = by * np.hypot(*GRID.T) * np.stack([np.cos(angle), np.sin(angle)])
    points = (GRID + np.moveaxis(turned, 0, -1)).reshape(-1, 3, 3, 2)
    steps = [np.diff(points, axis=axis).reshape(-1, 2) for axis in (1, 2)]
    expected = np.hypot(*np.concatenate(steps).T).mean()
    assert row["all"]["mean"] == pytest.approx(3)
    assert row["all"]["control"] == pytest.approx(expected, rel=0.02)
    still = measured([scaled(np.zeros((2, 2)))], {"all": np.ones((1, 2, 2), bool)}, dilation=3)
    assert still["res5a"]["all"]["control"] == pytest.approx(3)


@pytest.mark.parametrize(
    ("shift", "rows"),
    [(0, (1, 0, 0, 0, 1)), (0.5, (0, 0, 0, 0, 1)), (-0.5, (1, 0, 0, 0, 0)), (1, (0, 0, 0, 1, 2))],
)
def test_outside_is_where_equation_3_reads_nothing(shift, rows):
    """A pixel or more beyond the map, of which something is read that is nearer."""
    offset = np.zeros((1, 9, 2, 5, 5))
    offset[:, :, 0] = shift
    pixels = {(y, x): np.zeros((1, 5, 5), bool) for y in range(5) for x in range(5)}
    for (y, x), here in pixels.items():
        here[0, y, x] = True
    found = measured([offset.reshape(1, 18, 5, 5)], pixels)["res5a"]
    for (y, x), row in found.items():
        inside = (3 - rows[y]) * (3 - (x in (0, 4)))
        assert row["outside"] == pytest.approx(1 - inside / 9)
        rigid = (3 - (y in (0, 4))) * (3 - (x in (0, 4)))  # without the shift
        assert row["rigid"] == pytest.approx(1 - rigid / 9)


@HELD_OUT
def test_a_detector_is_tested_on_pictures_that_are_not_of_the_training(world, of_test, seed):
    run = Run(task="detection", world=world, tested=3, seed=seed)
    images, scenes, proposals = detection.tested(run)
    np.testing.assert_array_equal(images, of_the_test(of_test, 3)[0])
    for a, b in zip(proposals, detection.tested(Run(world=world, tested=3))[2], strict=True):
        np.testing.assert_array_equal(a, b)
    if world == "digits":
        assert all(thing.index >= 1347 for s in scenes for thing in s.things)


@pytest.mark.parametrize("scale", [0.75, 1.0, 1.25])
def test_a_picture_of_another_scale_has_boxes_of_that_scale(scale):
    """The network says what it was given: every box, moved by a tenth of its side."""
    given, count = [], 41

    def net(tape, images, rois):
        given.append((images, rois))
        return np.zeros((len(rois), 5)), np.tile([1.0, 0, 0, 0], (len(rois), 1))

    images = np.random.default_rng(0).normal(size=(count, 1, 16, 16)).astype(np.float32)
    proposals = [np.array([[2, 2, 6, 4 + n / 8], [1, 3, 11, 12]]) for n in range(count)]
    said = detection.predicted(net, images, proposals, scale)
    pictures, rois = (np.concatenate(each) for each in zip(*given, strict=True))
    assert pictures.shape == (count, 1, round(16 * scale), round(16 * scale))
    np.testing.assert_allclose(pictures[..., ::pictures.shape[-1] - 1, -1], images[..., ::15, -1],
                               atol=1e-6)  # fmt: skip
    np.testing.assert_allclose(rois[:, 1:], scale * np.concatenate(proposals))
    for answer, p in zip(said, proposals, strict=True):
        side = p[:, 2] - p[:, 0]
        moved = p + 0.1 * np.stack([side, 0 * side, side, 0 * side], axis=1)
        np.testing.assert_allclose(answer.boxes, moved)


def test_six_answers_weigh_the_same(monkeypatch):
    """Each of three scales, as it is and flipped: 1 to 32, so that every mean is another."""
    numbers = {(1.0, False): 1, (1.0, True): 2, (0.75, False): 4, (0.75, True): 8,
               (1.25, False): 16, (1.25, True): 32}  # fmt: skip

    def answer(is_flipped):
        def said(net, images, proposals, scale=1.0):
            each = np.full((1, 5), float(numbers[scale, is_flipped]))
            return [Predicted(each, each[:, :4])]

        return said  # fmt: skip

    monkeypatch.setattr(detection, "predicted", answer(False))
    monkeypatch.setattr(detection, "flipped", answer(True))
    monkeypatch.setattr(detection, "by_size", lambda answers, *a: answers[0].scores[0, 0])
    monkeypatch.setattr(detection, "overlap", lambda answers, *a: answers[0].boxes[0, 0])
    found = detection.measured(None, Run(task="detection", tested=1))
    assert found["tests"] == pytest.approx({"once": 1, "flip": 1.5, "scales": 63 / 6})
    assert found["ap"] == found["overlap"] == 1


def pictures(*things):
    """Scenes with the things of each picture, kind, centre and r."""
    made = [tuple(Thing(k, y, x, r, 0.0) for k, y, x, r in each) for each in things]
    return [Scene(np.zeros((1, 64, 64), np.float32), each) for each in made]


def answers(scenes, kinds=None, stretched=1.0):
    """What a detector says that knows the boxes, but widens them; kinds: other classes."""
    said = []
    for scene in scenes:
        own = [(kinds or {}).get(thing.kind, thing.kind) for thing in scene.things]
        boxes = scene.boxes()
        boxes[:, 2] = boxes[:, 0] + stretched * (boxes[:, 2] - boxes[:, 0])
        said.append(Predicted(np.eye(5)[own], boxes))
    return said


SCENES = pictures([(1, 20, 20, 6), (2, 45, 45, 10)], [(2, 30, 30, 20)], [(3, 12, 12, 5)])


def test_a_detector_that_knows_the_truth_has_full_precision():
    found = detection.by_size(answers(SCENES), SCENES, Run())
    assert len(found) == 14
    assert set(found.values()) == {1}
    proposals = [scene.boxes() for scene in SCENES]
    assert detection.overlap(answers(SCENES), proposals, SCENES) == 1


def test_precision_is_a_mean_over_classes_and_thresholds():
    """Class 3 taken for 4, of which there is none; boxes that overlap their own by 1 / 1.5."""
    found = detection.by_size(answers(SCENES, {3: 4}), SCENES, Run())
    assert (found["50"], found["all"]) == pytest.approx((2 / 3, 2 / 3))
    assert (found["small"], found["medium"], found["large"]) == pytest.approx((0.5, 1, 1))
    wide = detection.by_size(answers(SCENES, stretched=1.5), SCENES, Run())
    assert [wide[f"{t}"] for t in (50, 65, 70, 95)] == [1, 1, 0, 0]
    for size in ("all", "small", "medium", "large"):
        assert wide[size] == pytest.approx(4 / 10)
    proposals = [scene.boxes() for scene in SCENES]
    said = answers(SCENES, stretched=1.5)
    assert detection.overlap(said, proposals, SCENES) == pytest.approx(2 / 3)


def test_the_overlap_is_that_of_proposals_which_are_of_an_object():
    """A proposal that overlaps the object by 0.4 is, one by 0.25 is not."""
    scene = pictures([(1, 30, 10, 5)])[0]
    box = scene.boxes()[0]
    side = np.array([0, 0, box[2] - box[0], 0])
    wide = [box + (by - 1) * side for by in (2.5, 4)]
    said = Predicted(np.eye(5)[[1, 1]], np.stack([box, box + 30]))
    assert detection.overlap([said], [np.stack(wide)], [scene]) == 1


def test_a_size_without_things_has_no_precision():
    small = SCENES[2:]
    found = detection.by_size(answers(small), small, Run())
    assert (found["small"], found["medium"], found["large"]) == (1, None, None)


@pytest.mark.parametrize("size", [64, 96])
def test_sizes_of_boxes_are_those_of_disks(size):
    """The box of a disk of radius r has an area of 4 r^2; bounds are 7.3 and 13.2 of 64 pixels."""
    areas = detection.areas(size)
    for name, r in (("small", 6), ("small", 7.2), ("medium", 7.4), ("medium", 13), ("large", 14)):
        low, high = areas[name]
        assert low <= (2 * r * size / 64) ** 2 < high
        assert worlds.size_bin(r * size / 64, size) == name
