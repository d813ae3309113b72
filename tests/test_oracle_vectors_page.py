"""The test vectors show all that they should, and their page says what is so."""

import re

import pytest
from vector_files import ROOT, cases, folder, index, of

from deformable_convnets.reference.oracle.implementation import OPERATORS, VOLUMES

PAGE = (ROOT / "reference/oracle/VECTORS.md").read_text()
EVERY = OPERATORS + VOLUMES
SIDES = {"grad_offset_right", "grad_offset_left"}
GRADIENTS = {
    "sample": {"grad_x", "grad_p_right", "grad_p_left"},
    "conv2d": {"grad_x", "grad_weight", "grad_bias"},
    "deform_conv2d": {"grad_x", *SIDES, "grad_weight", "grad_bias", "grad_mask"},
    "deform_conv3d": {"grad_x", *SIDES, "grad_weight", "grad_bias", "grad_mask"},
    "roi_pool": {"grad_x"},
    "deform_roi_pool": {"grad_x", *SIDES},
    "ps_roi_pool": {"grad_x"},
    "deform_ps_roi_pool": {"grad_x", *SIDES},
}
KINDS = {f"{k} {d}" for k in ("exact", "ordinary") for d in ("float32", "float64")}
BORDERS = {f"{k} {b}" for k in ("exact", "ordinary") for b in ("zero", "dcnv1")}
RULES = {f"{k} {b}" for k in ("exact", "ordinary") for b in ("paper", "mxnet", "align")}
WINDOW = {"stride", "dilation", "uneven padding", "groups", "no images", "several images", "oblong"}
PLAIN = KINDS | WINDOW | {"base", "wide-x", "wide-w", "f64", "without bias"}
POOLING = KINDS | RULES | {"odd", "no rois", "several images", "scale", "samples"}
DEFORMED = POOLING | {"kinks", "class groups"}
NEEDED = {
    "sample": KINDS | BORDERS | {"base", "kinks", "f64", "wide-x"},
    "conv2d": PLAIN,
    "deform_conv2d": PLAIN | BORDERS | {"kinks", "far", "offset groups", "without mask"},
    "deform_conv3d": KINDS
    | WINDOW
    | BORDERS
    | {"base", "f64", "kinks", "far", "offset groups", "without bias", "without mask"},
    "roi_pool": POOLING,
    "deform_roi_pool": DEFORMED,
    "ps_roi_pool": POOLING | {"maps unlike bins"},
    "deform_ps_roi_pool": DEFORMED | {"maps unlike bins", "parts unlike bins"},
}


def facets(case):
    """What a case shows, in words."""
    o, given, kind = case["options"], case["inputs"], "exact" if case["exact"] else "ordinary"
    shown = {f"{kind} {case['dtype']}", case["family"], *case["results"]}
    shown |= {f"{kind} {o[key]}" for key in ("border", "bins") if key in o}
    shown |= {f"without {name}" for name in ("bias", "mask") if name not in given}
    sizes, tests = given["x"].shape, {}
    if "stride" in o:
        ends = o["padding"]
        tests = {
            "stride": max(o["stride"]) > 1, "dilation": max(o["dilation"]) > 1,
            "uneven padding": ends[::2] != ends[1::2], "groups": o["groups"] > 1,
            "offset groups": o.get("offset_groups", 0) > 1, "no images": sizes[0] == 0,
            "several images": sizes[0] > 1, "oblong": len(set(sizes[2:])) > 1,
        }  # fmt: skip
    if "bins" in o:
        size = o["output_size"]
        tests = {
            "no rois": len(given["rois"]) == 0, "several images": sizes[0] > 1,
            "scale": o["spatial_scale"] != 1, "samples": o["samples"] > 1,
            "maps unlike bins": o.get("group_size", size) != size,
            "parts unlike bins": o.get("part_size", size) != size,
            "class groups": "offset" in given and given["offset"].shape[1] > 2,
        }  # fmt: skip
    return shown | {name for name, is_so in tests.items() if is_so}


def lacking(shown):
    """What no case of an operator shows, though one should."""
    needed = {operator: NEEDED[operator] | {"y"} | GRADIENTS[operator] for operator in EVERY}
    return [f"{o}: {word}" for o in EVERY for word in sorted(needed[o] - shown[o])]


def all_shown(without=None):
    """The words of all cases of an operator, but for the cases that show this one."""
    each = {o: [facets(case) for case in of(o).values()] for o in EVERY}
    return {o: set().union(*(f for f in each[o] if without not in f)) for o in EVERY}


def test_everything_is_shown():
    assert lacking(all_shown()) == []


@pytest.mark.parametrize("word", sorted(set().union(*NEEDED.values(), *GRADIENTS.values())))
def test_what_is_not_shown_is_complained_of(word):
    found = lacking(all_shown(without=word))
    assert {f"{o}: {word}" for o in EVERY if word in NEEDED[o] | GRADIENTS[o]} <= set(found)


def example_complaints(page, text):
    """The first line of its example that does not begin a line of the file, in order.

    What follows "..." in a line, and lines of "..." alone, are left out.
    """
    block = re.search(r"^```\n(.*?)^```", page, re.MULTILINE | re.DOTALL)[1]
    lines = iter(text.splitlines())
    for start in (line.split("...")[0] for line in block.splitlines()):
        if start and not any(line.startswith(start) for line in lines):
            return [start]
    return []


def test_the_example_of_the_page():
    text = (folder() / re.search(r"`(\S+\.json)`, with", PAGE)[1]).read_text()
    assert example_complaints(PAGE, text) == []
    for old, new in (('"bounds"', '"limits"'), ('"float32", "shape"', '"float16", "shape"')):
        assert old in PAGE
        assert example_complaints(PAGE.replace(old, new), text) != []


def table(page, head):
    """The cells of a table, without its head: their names in backticks."""
    lines = page[page.index(f"| {head} |") :].split("\n\n")[0].splitlines()[2:]
    return [[re.findall("`([^`]*)`", cell) for cell in line.split("|")[1:-1]] for line in lines]


def table_complaints(page):
    """Operators with other inputs or options than the page says, families on one side only."""
    said = {row[0][0]: (set(row[1]), set(row[2])) for row in table(page, "operator")}
    found = []
    for operator in EVERY:
        mine = of(operator).values()
        inputs = set().union(*(case["inputs"] for case in mine)) - {"grad_output"}
        options = [set(case["options"]) for case in mine]
        if any(said.get(operator) != (inputs, each) for each in options):
            found.append(operator)
    families = {name for row in table(page, "family") for name in row[0]}
    return found + sorted(families ^ {case["family"] for case in cases().values()})


def test_the_tables_of_the_page():
    assert table_complaints(PAGE) == []


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("| `border` |", "| `edge` |", "sample"),
        ("`weight`, `bias` |", "`weight` |", "conv2d"),
        ("| `f64` |", "| `f65` |", "f64"),
        ("| `roi_pool` |", "| `pool` |", "roi_pool"),
    ],
)
def test_other_tables_are_complained_of(old, new, complaint):
    assert old in PAGE
    assert complaint in table_complaints(PAGE.replace(old, new))


def unknown_names(page):
    """Words in backticks that are no key, value or operator."""
    known = {*index(), *index()["cases"][0], *EVERY, "_bound", "dtype", "code"}
    for case in cases().values():
        known |= {*case, *case["options"], *case["inputs"], *case["results"], *case["bounds"]}
        known |= {value for value in case["options"].values() if isinstance(value, str)}
        known |= {case["family"]}
    known |= {re.sub("_(right|left)$", "", name) for name in known}
    return sorted(set(re.findall(r'`"?([A-Za-z_]\w*)"?`', page)) - known)


def test_the_names_on_the_page_are_in_the_files():
    assert unknown_names(PAGE) == []
    assert unknown_names(PAGE.replace("`grad_weight`", "`grad_w`")) == ["grad_w"]


def lost_files(page):
    """Files and cases that the page names and that are not there."""
    paths = re.findall(r"`((?:tests|reference)/[\w./]+)`", page)
    paths += [f"reference/oracle/{name}" for name in re.findall(r"`(\w+\.py)`", page)]
    names = re.findall(r"(?<!tests/)vectors[/.]([\w-]+\.\w+)|`([\w-]+\.json)`", page)
    there = [ROOT / path for path in paths] + [folder() / (a or b) for a, b in names]
    return [path.name for path in there if not path.is_file()]


def test_the_files_on_the_page_are_there():
    assert lost_files(PAGE) == []


@pytest.mark.parametrize(
    "name", ["tests/vectors.c", "roi_points.py", "bounds.py", "base-zero-float32.npz"]
)
def test_lost_files_are_complained_of(name):
    assert name in PAGE
    assert len(lost_files(PAGE.replace(name, name.replace(".", "_lost.")))) > 0


def test_fixed_point_holds_what_the_page_says():
    limits = {"x": (8, 1), "weight": (4, 1), "bias": (4, 1), "grad_output": (4, 1)}
    limits |= {"mask": (1, 1 / 4), "offset": (99, 1 / 8), "p": (9999, 1 / 8)}
    for name, case in cases().items():
        if case["family"] in ("base", "kinks") and "bins" not in case["options"]:
            parts = 2048 if case["operator"] in VOLUMES else 256
            assert all((a * parts % 1 == 0).all() for a in case["results"].values()), name
            for key in limits.keys() & case["inputs"].keys():
                a, (most, step) = case["inputs"][key], limits[key]
                assert ((abs(a) <= most) & (a % step == 0)).all(), (name, key)


def test_git_ignores_the_folder():
    assert "\n/vectors/\n" in (ROOT / ".gitignore").read_text()
