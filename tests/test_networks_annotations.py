"""Readers of VOC and Cityscapes, on tiny files in their formats; everything that can be wrong."""

import numpy as np
import pytest
from annotation_files import EXTENTS, H, W, covers, place_of, save, written

from deformable_convnets.reference.networks.annotations import cityscapes, coco, voc

VOC = """<annotation>
  <folder>VOC2012</folder>
  <filename>2007_000027.jpg</filename>
  <size><width>9</width><height>6</height><depth>3</depth></size>
  <object>
    <name>person</name>
    <difficult>0</difficult>
    <bndbox><xmax>5</xmax><xmin>3</xmin><ymax>4</ymax><ymin>2</ymin></bndbox>
    <part><name>head</name>
      <bndbox><xmin>3</xmin><ymin>2</ymin><xmax>3</xmax><ymax>2</ymax></bndbox></part>
  </object>
  <object>
    <name>aeroplane</name>
    <bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>1</ymax></bndbox>
    <difficult>1</difficult>
  </object>
  <object>
    <name>tvmonitor</name>
    <bndbox><xmin>9</xmin><ymin>6</ymin><xmax>9.0</xmax><ymax>6</ymax></bndbox>
  </object>
</annotation>
"""


def test_voc_objects(tmp_path):
    image = save(tmp_path / "a.jpg", np.zeros((H, W)))
    found = voc.objects(written(tmp_path / "a.xml", VOC), image)
    assert (found.image, found.size) == ("2007_000027.jpg", (H, W))
    assert found.boxes.tolist() == EXTENTS.tolist()
    assert found.boxes.dtype == float
    assert [voc.CLASSES[k] for k in found.labels] == ["person", "aeroplane", "tvmonitor"]
    assert found.ignored.tolist() == [False, True, False]
    assert found.areas.tolist() == np.prod(found.boxes[:, 2:] - found.boxes[:, :2], axis=1).tolist()
    assert covers(found)
    assert (len(voc.CLASSES), voc.CLASSES[0], voc.CLASSES[15]) == (21, "background", "person")


@pytest.mark.parametrize("wrong", [(0, 0, 0, 0), (-1, -1, -1, -1), (-1, -1, 1, 1), (0, 0, 1, 1)])
def test_voc_off_by_one(tmp_path, monkeypatch, wrong):
    """Of the numbers in the file, only x1 - 1, y1 - 1, x2, y2 are right."""
    path, right = written(tmp_path / "a.xml", VOC), voc._box
    in_file = np.array([1, 1, 0, 0])

    def shifted(*arguments):
        return right(*arguments) + in_file + by

    monkeypatch.setattr(voc, "_box", shifted)
    by = np.array(wrong)
    assert not covers(voc.objects(path))
    by = np.array([-1, -1, 0, 0])
    assert covers(voc.objects(path))


def test_voc_without_objects(tmp_path):
    empty = VOC[: VOC.index("<object>")] + "</annotation>"
    found = voc.objects(written(tmp_path / "a.xml", empty))
    assert found.boxes.shape == (0, 4)
    assert (found.labels.shape, found.ignored.dtype) == ((0,), bool)


BOX = "<xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>1</ymax>"
INSIDE = "1 <= xmin <= xmax <= W = 9 and 1 <= ymin <= ymax <= H = 6"
BAD_VOC = [  # what is replaced by what, the line, what is said, what was expected
    ("person<", "unicorn<", 6, "<name> is 'unicorn'", "one of aeroplane, bicycle, "),
    ("person<", "background<", 6, "<name> is 'background'", "one of aeroplane, bicycle, "),
    ("<xmin>3</xmin><ymax>", "<xmin>0</xmin><ymax>", 8, "<bndbox> is x 0 to 5", INSIDE),
    (BOX, BOX.replace("9", "10"), 14, "<bndbox> is x 1 to 10, y 1 to 1", INSIDE),
    (BOX, BOX.replace("<ymax>1", "<ymax>7"), 14, "<bndbox> is x 1 to 9, y 1 to 7", INSIDE),
    ("<xmax>5", "<xmax>2", 8, "<bndbox> is x 3 to 2, y 2 to 4", INSIDE),
    ("<ymin>2</ymin></bnd", "<ymin>5</ymin></bnd", 8, "<bndbox> is x 3 to 5, y 5 to 4", INSIDE),
    ("<xmax>5", "<xmax>five", 8, "<xmax> is 'five'", "a finite number"),
    ("<xmax>5", "<xmax>nan", 8, "<xmax> is 'nan'", "a finite number"),
    ("<xmax>5</xmax>", "", 8, "<bndbox> has no <xmax>", "one"),
    ("<xmax>5", "<xmax>5</xmax><xmax>5", 8, "<bndbox> has 2 <xmax>", "one"),
    (f"<bndbox>{BOX}</bndbox>", "", 12, "<object> has no <bndbox>", "one"),
    ("<name>tvmonitor</name>", "", 17, "<object> has no <name>", "one"),
    ("<difficult>1", "<difficult>2", 15, "<difficult> is '2'", "a whole number, 0 to 1"),
    ("<width>9", "<width>9.5", 4, "<width> is '9.5'", "a whole number, 1 or more"),
    ("<height>6", "<height>0", 4, "<height> is '0'", "a whole number, 1 or more"),
    ("<size>", "<sizes>", 4, "it is no XML (mismatched tag)", "an annotation of VOC"),
    ("</annotation>", "", 22, "it is no XML (no element found)", "an annotation of VOC"),
    ("<annotation>", "<?xml version='1.0' encoding='x-7'?><annotation>", 1,
     "it is no XML (unknown encoding: x-7)", "an annotation of VOC"),
    ("<annotation>", "<!DOCTYPE a [<!ENTITY b 'c'>]><annotation>", 1, "a document type", "none"),
    (VOC, "<html/>", 1, "<html> is the root", "<annotation>"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "line", "problem", "expected"), BAD_VOC)
def test_voc_broken(tmp_path, old, new, line, problem, expected):
    assert VOC.count(old) == 1
    path = written(tmp_path / "a.xml", VOC.replace(old, new))
    with pytest.raises(ValueError, match="expected") as caught:
        voc.objects(path)
    before, after = str(caught.value).split(", expected ")
    assert before.startswith(f"{path} at line {line}: ")
    assert problem in before
    assert after.startswith(expected)


def test_sizes_disagree(tmp_path):
    turned = save(tmp_path / "a.png", np.zeros((W, H)))
    with pytest.raises(ValueError, match=r"a.png has size 9 x 6, expected 6 x 9, that of .*a.xml"):
        voc.objects(written(tmp_path / "a.xml", VOC), turned)
    for read in (voc.labels, cityscapes.labels):
        assert read(turned, (W, H)).shape == (W, H)
        with pytest.raises(ValueError, match="has size 9 x 6, expected 6 x 9, that of its image"):
            read(turned, (H, W))
    path = written(tmp_path / "p.json", {"imgHeight": H, "imgWidth": W, "objects": []})
    with pytest.raises(ValueError, match=r"p.json has size 6 x 9, expected 9 x 6"):
        cityscapes.polygons(path, (W, H))


@pytest.mark.parametrize("colours", [False, True])
def test_voc_labels(tmp_path, colours):
    """As VOC has them, with a palette, and as masks added to it often are, in grey."""
    pixels = np.array([[0, 15, 255], [20, 1, 0]])
    found = voc.labels(save(tmp_path / "a.png", pixels, colours))
    assert found.tolist() == [[0, 15, -1], [20, 1, 0]]
    assert found.dtype.kind == "i"
    save(tmp_path / "a.png", [[0, 15, 255], [0, 21, 0]], colours)
    with pytest.raises(
        ValueError, match="row 1, column 1: its index is 21, expected 0 to 20, or 255"
    ):
        voc.labels(tmp_path / "a.png")


def test_voc_names(tmp_path):
    path = written(tmp_path / "train.txt", "2007_000032\n2007_000039 \n")
    assert voc.names(path) == ("2007_000032", "2007_000039")
    for bad, line in (("a\n\nb\n", 2), ("a\nb -1\n", 2), ("a\nb\na\n", 3)):
        with pytest.raises(ValueError, match=f"train.txt at line {line}: .* expected one name"):
            voc.names(written(path, bad))


def test_cityscapes_labels(tmp_path):
    """7 is road, 0 in training; 33 bicycle, 18; 9 parking and 18 polegroup are none."""
    path = save(tmp_path / "a.png", [[7, 33, 9], [26, 0, 18]])
    found = cityscapes.labels(path)
    assert found.tolist() == [[0, 18, -1], [13, -1, -1]]
    named = cityscapes.labels(path, background=True)
    names = [[cityscapes.CLASSES[k] for k in row] for row in named]
    assert names == [["road", "bicycle", "background"], ["car", "background", "background"]]
    assert sorted(cityscapes.TRAIN_IDS.values()) == list(range(19))
    assert list(cityscapes.TRAIN_IDS) == [
        7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33,
    ]  # fmt: skip
    save(path, [[7, 255], [0, 1]])
    with pytest.raises(
        ValueError, match="row 0, column 1: its index is 255, expected 0 to 33, the ids"
    ):
        cityscapes.labels(path)


def region(label, corners=((0, 0), (4, 0), (4, 9.5)), **more):
    return {"label": label, "polygon": corners, **more}


def test_cityscapes_polygons(tmp_path):
    regions = [region("sky"), region("cargroup"), region("car", deleted=1), region("polegroup"),
               region("license plate", [[-1, 0], [9, 0], [9, 7]], deleted=0)]  # fmt: skip
    data = {"imgHeight": H, "imgWidth": W, "objects": regions}
    size, found = cityscapes.polygons(written(tmp_path / "a.json", data), (H, W))
    assert size == (H, W)
    assert [(r.name, r.train_id, r.group) for r in found] == [
        ("sky", 10, False), ("car", 13, True), ("polegroup", -1, False),
        ("license plate", -1, False),
    ]  # fmt: skip
    assert found[0].corners.tolist() == [[0, 0], [4, 0], [4, 9.5]]


@pytest.mark.parametrize(
    ("objects", "keys", "problem"),
    [
        ([region("sky"), region("seagroup")], [1, "label"], "is 'seagroup'"),
        ([region(7)], [0, "label"], "is 7"),
        ([region("sky", [[0, 0], [1, 1]])], [0, "polygon"], "has 2 corners"),
        ([region("sky", [[0, 0], [1, 1, 2], [3, 3]])], [0, "polygon", 1], "is [1, 1, 2]"),
        ([region("sky", deleted=2)], [0, "deleted"], "is 2"),
        ([7], [0], "is 7"),
        ({"label": "sky"}, [], 'is {"label": "sky"}'),
    ],
)
def test_cityscapes_polygons_broken(tmp_path, objects, keys, problem):
    data = {"imgHeight": H, "imgWidth": W, "objects": objects}
    path = written(tmp_path / "a.json", data)
    with pytest.raises(ValueError, match="expected") as caught:
        cityscapes.polygons(path)
    assert str(caught.value).startswith(
        place_of(path, data, ["objects", *keys]) + problem + ", expected"
    )


READERS = [voc.objects, voc.labels, voc.names, cityscapes.labels, cityscapes.polygons,
           coco.instances]  # fmt: skip


@pytest.mark.parametrize("read", READERS, ids=lambda f: f"{f.__module__[-10:]}.{f.__name__}")
def test_missing(tmp_path, read):
    with pytest.raises(FileNotFoundError, match=r"nothing\.x is missing, expected "):
        read(tmp_path / "nothing.x")
    with pytest.raises(FileNotFoundError, match="is no file, expected"):
        read(tmp_path)
    with pytest.raises(ValueError, match=r"empty\.x is empty, expected"):
        read(written(tmp_path / "empty.x", ""))
