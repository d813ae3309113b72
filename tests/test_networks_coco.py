"""The reader of COCO, on a tiny set in its format; everything that can be wrong with one."""

import json
from operator import delitem

import numpy as np
import pytest
from annotation_files import EXTENTS, H, W, covers, place_of, save, written

from deformable_convnets.reference.networks.annotations import coco

COCO = {
    "info": {},
    "images": [
        {"id": 7, "file_name": "a.jpg", "height": H, "width": W},
        {"id": 3, "file_name": "b.jpg", "height": 4, "width": 5},
    ],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 90, "bbox": [2, 1, 3, 3], "iscrowd": 0,
         "area": 4.5},
        {"id": 5, "image_id": 7, "category_id": 1, "bbox": [0.0, 0, 9.01, 1], "iscrowd": 1},
        {"id": 4, "image_id": 7, "category_id": 18, "bbox": [8, 5, 1, 1], "iscrowd": 0},
    ],
    "categories": [
        {"id": 90, "name": "toothbrush"}, {"id": 1, "name": "person"}, {"id": 18, "name": "dog"},
    ],
}  # fmt: skip


def test_coco(tmp_path):
    """Classes in the order of ids, 1, 18, 90; 0.01 beyond the image is rounding, cut off."""
    found = coco.instances(written(tmp_path / "a.json", COCO))
    assert found.classes == ("background", "person", "dog", "toothbrush")
    assert found.of_category == {1: 1, 18: 2, 90: 3}
    assert list(found.images) == [7, 3]
    first, other = found.images[7], found.images[3]
    assert (first.image, first.size) == ("a.jpg", (H, W))
    assert first.boxes.tolist() == EXTENTS.tolist()
    assert covers(first)
    assert first.labels.tolist() == [3, 1, 2]
    assert first.ignored.tolist() == [False, True, False]
    assert first.areas.tolist() == [4.5, 9, 1]  # of the outline; those of the boxes
    person = first.truth(1)
    assert person.boxes.tolist() == [first.boxes[1].tolist()]
    assert (person.ignored.tolist(), person.areas.tolist()) == ([True], [9])
    assert (other.size, other.boxes.shape, other.labels.shape) == ((4, 5), (0, 4), (0,))


def test_coco_misread(tmp_path, monkeypatch):
    """w, h taken for x2, y2, or x + w, y + h taken to be inclusive."""
    path, right = written(tmp_path / "a.json", COCO), coco._box
    monkeypatch.setattr(coco, "_box", lambda entry, size, empty: entry.numbers("x y w h"))
    assert not covers(coco.instances(path).images[7])
    ones = np.array([0, 0, 1, 1])
    monkeypatch.setattr(coco, "_box", lambda *a: (right(*a) - ones).tolist())
    assert not covers(coco.instances(path).images[7])


def test_coco_of_no_height(tmp_path):
    """The training set of 2017 has two such boxes."""
    data = json.loads(json.dumps(COCO))
    data["annotations"][0]["bbox"] = [2, 1, 1.03, 0.0]
    path = written(tmp_path / "a.json", data)
    with pytest.raises(ValueError, match=r"annotations\[0\].bbox: .* expected w > 0 and h > 0"):
        coco.instances(path)
    assert coco.instances(path, empty="drop").images[7].labels.tolist() == [1, 2]
    for beyond in ([-0.01, 1, 0.005, 1], [9, 1, 0.005, 1], [2, 6.001, 1, 0.005]):
        data["annotations"][0]["bbox"] = beyond  # the rounding that is cut off is all of it
        with pytest.raises(ValueError, match=r"annotations\[0\]\.bbox: .*expected some of it"):
            coco.instances(written(path, data))
        assert coco.instances(path, empty="drop").images[7].labels.tolist() == [1, 2]
    data["annotations"][0]["bbox"] = [20, 1, 1.03, 0.0]
    with pytest.raises(ValueError, match=r"expected 0 <= x"):
        coco.instances(written(path, data), empty="drop")
    with pytest.raises(ValueError, match="empty is 'keep', expected 'refuse' or 'drop'"):
        coco.instances(path, empty="keep")


WITHIN = "0 <= x <= x + w <= W = 9 and 0 <= y <= y + h <= H = 6"
BAD_COCO = [  # list, entry, key, its value; what is said, what was expected
    ("annotations", 0, "bbox", [2, 1, 8, 3], "is [2, 1, 8, 3]", WITHIN),
    ("annotations", 0, "bbox", [2, 1, 3, 5.02], "is [2, 1, 3, 5.02]", WITHIN),
    ("annotations", 0, "bbox", [-1, 1, 3, 3], "is [-1, 1, 3, 3]", WITHIN),
    ("annotations", 2, "bbox", [2, 1, -1, 3], "is [2, 1, -1, 3]", "w > 0 and h > 0"),
    ("annotations", 0, "bbox", [2, 1, 3], "is [2, 1, 3]", "4 finite numbers: x y w h"),
    ("annotations", 0, "bbox", [2, 1, 3, None], "is [2, 1, 3, null]", "4 finite numbers"),
    ("annotations", 0, "bbox", [2, 1, float("nan"), 1], "is [2, 1, NaN, 1]", "4 finite numbers"),
    ("annotations", 0, "bbox", [2, 1, 3, 10**400], "is [2, 1, 3, 1000", "4 finite numbers"),
    ("annotations", 0, "bbox", "2 1 3 3", 'is "2 1 3 3"', "4 finite numbers"),
    ("annotations", 0, "area", -1, "is -1", "a finite number, 0 or more"),
    ("annotations", 0, "area", float("nan"), "is NaN", "a finite number, 0 or more"),
    ("annotations", 0, "area", [1], "is [1]", "a finite number, 0 or more"),
    ("annotations", 1, "category_id", 2, "is 2", "an id of `categories`"),
    ("annotations", 1, "image_id", 9, "is 9", "an id of `images`"),
    ("annotations", 1, "iscrowd", True, "is true", "a whole number, 0 to 1"),
    ("annotations", 2, "id", 1, "is 1 as at annotations[0]", "an id of its own"),
    ("images", 1, "id", 7, "is 7 as at images[0]", "an id of its own"),
    ("images", 1, "height", 4.0, "is 4.0", "a whole number, 1 or more"),
    ("images", 0, "file_name", 4, "is 4", "the name of a file"),
    ("categories", 0, "id", "90", 'is "90"', "a whole number, 0 or more"),
    ("categories", 0, "name", None, "is null", "a name"),
]  # fmt: skip


@pytest.mark.parametrize(("part", "i", "key", "value", "problem", "expected"), BAD_COCO)
def test_coco_broken(tmp_path, part, i, key, value, problem, expected):
    data = json.loads(json.dumps(COCO))
    data[part][i][key] = value
    path = written(tmp_path / "a.json", data)
    with pytest.raises(ValueError, match="expected") as caught:
        coco.instances(path)
    assert str(caught.value).startswith(place_of(path, data, [part, i, key]) + problem)
    assert f", expected {expected}" in str(caught.value)


@pytest.mark.parametrize("part", ["images", "annotations", "categories"])
def test_coco_lacks(tmp_path, part):
    data = json.loads(json.dumps(COCO))
    for key in list(data[part][-1]):
        lacking = json.loads(json.dumps(COCO))
        delitem(lacking[part][-1], key)
        place = rf"{part}\[{len(data[part]) - 1}\]: it has no '{key}', expected one"
        with pytest.raises(ValueError, match=place):
            coco.instances(written(tmp_path / "a.json", lacking))
    for value, place in (
        (None, f"{part}: it is null, expected a list"),
        ({}, f"{part}: it is {{}}"),
    ):
        with pytest.raises(ValueError, match=place):
            coco.instances(written(tmp_path / "a.json", data | {part: value}))
    with pytest.raises(ValueError, match=f"its top: it has no '{part}'"):
        coco.instances(written(tmp_path / "a.json", {k: v for k, v in data.items() if k != part}))


def test_sizes_of_images(tmp_path):
    path = written(tmp_path / "c.json", COCO)
    save(tmp_path / "a.jpg", np.zeros((W, H)))
    place = r"a\.jpg has size 9 x 6, expected 6 x 9, that of .*c\.json: images\[0\]"
    with pytest.raises(ValueError, match=place):
        coco.instances(path, tmp_path)
    save(tmp_path / "a.jpg", np.zeros((H, W)))
    with pytest.raises(FileNotFoundError, match=r"b\.jpg is missing, expected an image"):
        coco.instances(path, tmp_path)
    save(tmp_path / "b.jpg", np.zeros((4, 5)))
    assert len(coco.instances(path, tmp_path).images) == 2


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{\n "images": [}', r"a.json at line 2, column 13: it is no JSON \(Expecting value\)"),
        ("[]", r"a.json at line 1, column 1, its top: it is \[\], expected an object"),
        ("[" * 100000, "a.json at its top: it is no JSON"),
        ("9" * 5000, r"a.json at its top: it is no JSON \(Exceeds the limit"),
        ("", r"a.json is empty, expected instances of COCO \(JSON\)"),
    ],
)
def test_no_json(tmp_path, text, problem):
    with pytest.raises(ValueError, match=problem):
        coco.instances(written(tmp_path / "a.json", text))
    (tmp_path / "b.json").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(ValueError, match=r"b\.json at its top: it is no JSON \('utf-8' codec"):
        coco.instances(tmp_path / "b.json")
