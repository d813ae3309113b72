"""The test vectors: the same bytes each time, two forms that say the same, results that are right.

Each rule is a function that returns a list of complaints, and has a test on something made up of
which it complains.
"""

import json
import re

import numpy as np
import pytest
from vector_files import (
    HEAD,
    SECTIONS,
    bound_of,
    cases,
    folder,
    index,
    made_again,
    of,
    some_case,
    text_of,
)

from deformable_convnets.reference.oracle import vector_cases, vectors
from deformable_convnets.reference.oracle.implementation import OPERATORS, VOLUMES

FIRST = "sample-00-base-zero-float32"


def differences(one, other):
    """Files that are in one folder only, or not the same bytes in both."""
    contents = [{p.name: p.read_bytes() for p in path.iterdir()} for path in (one, other)]
    names = sorted(contents[0].keys() | contents[1].keys())
    return [name for name in names if contents[0].get(name) != contents[1].get(name)]


def test_the_same_bytes_each_time(tmp_path):
    vectors.write(tmp_path)
    assert differences(folder(), tmp_path) == []
    (tmp_path / "index.json").write_text("{}")
    (tmp_path / "another.json").write_text("{}")
    assert differences(folder(), tmp_path) == ["another.json", "index.json"]


def index_complaints(path, entries):
    """What the index lacks, has twice, has and is not there, or says differently from the case."""
    listed = [e[kind] for e in entries for kind in ("json", "npz")]
    there = {file.name for file in path.iterdir()} - {"index.json"}
    found = [f"{name} is listed twice" for name in sorted(set(listed)) if listed.count(name) > 1]
    found += [f"{name} is not listed" for name in sorted(there - set(listed))]
    found += [f"{name} is not there" for name in sorted(set(listed) - there)]
    for entry in entries:
        if (path / entry["json"]).exists():
            case = json.loads((path / entry["json"]).read_text())
            found += [f"{entry['name']} has another {k}" for k in HEAD if case[k] != entry[k]]
    return found


def test_the_index_is_complete():
    assert index_complaints(folder(), index()["cases"]) == []
    assert index()["format"] == vectors.FORMAT
    assert (index()["package"], bool(index()["version"])) == (vectors.PACKAGE, True)


def test_an_index_that_is_not_complete_is_complained_of():
    entries = [*index()["cases"], index()["cases"][0]]
    entries[1] = {**entries[1], "dtype": "int8"}
    entries[2] = {**entries[2], "npz": "gone.npz"}
    names = [e["name"] for e in entries]
    assert index_complaints(folder(), entries) == [
        f"{names[0]}.json is listed twice",
        f"{names[0]}.npz is listed twice",
        f"{names[2]}.npz is not listed",
        "gone.npz is not there",
        f"{names[1]} has another dtype",
    ]


def test_all_are_a_few_megabytes():
    assert sum(path.stat().st_size for path in folder().iterdir()) < 10e6


NUMBER = r"-?\d+(\.\d+)?(e[+-]?\d+)?"
LINE = re.compile(
    r'"(\w+)": \{"dtype": "float(32|64)", "shape": \[(\d+(, \d+)*)?\],'
    rf' "values": \[({NUMBER}(, {NUMBER})*)?\]\}},?'
)
OTHER = re.compile(r'"(inputs|results|bounds)": \{(\},?)?|\},?')


def layout_complaints(text):
    """Lines that a reader who knows only VECTORS.md would not understand."""
    lines = text.splitlines()
    head = ["{", '"format": 1,', *(f'"{key}": ' for key in [*HEAD, "options"])]
    pairs = zip(lines, head, strict=False)
    found = [f"{line[:20]!r} for {start!r}" for line, start in pairs if not line.startswith(start)]
    rest = lines[len(head) :]
    found += [line[:60] for line in rest if not LINE.fullmatch(line) and not OTHER.fullmatch(line)]
    if [m[1] for m in map(OTHER.fullmatch, rest) if m and m[1]] != SECTIONS:
        found.append("the sections are not in order")
    keys = re.findall(r'"(\w+)": ', text)
    once = sorted(set(keys) - {"dtype", "shape", "values"})
    return found + [f"{key} is there more than once" for key in once if keys.count(key) > 1]


def test_the_json_is_for_simple_readers():
    for entry in index()["cases"]:
        assert layout_complaints((folder() / entry["json"]).read_text()) == [], entry["name"]


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('"format": 1', '"format": 2', "for '\"format\": 1,'"),
        ('"results"', '"outputs"', '"outputs": {'),
        ('"grad_output"', '"x"', "x is there more than once"),
        ('"values": [', '"values": [NaN, ', '"x"'),
        (', "values"', ',\n"values"', '"values"'),
        ('"inputs": {', '"bounds": {', "the sections are not in order"),
    ],
)
def test_another_layout_is_complained_of(old, new, complaint):
    text = (folder() / f"{FIRST}.json").read_text()
    assert old in text
    assert any(complaint in found for found in layout_complaints(text.replace(old, new)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_json_cannot_say_is_refused(value):
    case = cases()[FIRST]
    y = np.full_like(case["results"]["y"], value)
    with pytest.raises(ValueError, match="y has a value that is not finite"):
        text_of(case, results=case["results"] | {"y": y})


def disagreements(case, members):
    """Where a JSON case and the members of an .npz are not the same, bit for bit."""
    arrays = case["inputs"] | case["results"] | case["bounds"]
    options = {**case["options"], "format": case["format"]}
    names = sorted(members.keys() ^ (arrays.keys() | options.keys()))
    found = [f"{name} is in one of the two" for name in names]
    for name in members.keys() & arrays.keys():
        a, b = arrays[name], members[name]
        if (a.dtype.str, a.shape, a.tobytes()) != (b.dtype.str, b.shape, b.tobytes()):
            found.append(f"{name} differs")
        if not b.flags.c_contiguous:
            found.append(f"{name} is not in C order")
    for name in members.keys() & options.keys():
        value = members[name].tolist()
        if (value.decode() if isinstance(value, bytes) else value) != options[name]:
            found.append(f"{name} differs")
    return found


def members_of(name):
    with np.load(folder() / f"{name}.npz") as members:
        return dict(members)


def test_both_forms_say_the_same():
    for name, case in cases().items():
        assert disagreements(case, members_of(name)) == [], name


def test_forms_that_differ_are_complained_of():
    case, given = cases()[FIRST], members_of(FIRST)
    changes = {
        "x": np.nextafter(given["x"], 99, dtype="f4"),
        "p": given["p"].astype("f8"),
        "y": given["y"][..., None],
        "border": np.array(b"none"),
    }
    for name, value in changes.items():
        assert disagreements(case, given | {name: value}) == [f"{name} differs"]
    turned = {"grad_x": np.asfortranarray(given["grad_x"])}
    assert disagreements(case, given | turned) == ["grad_x is not in C order"]
    del given["y"]
    assert disagreements(case, given) == ["y is in one of the two"]


def wrong_results(case):
    """Results that are not those of the reference, of the stored inputs and options."""
    wide = {name: a.astype(np.float64) for name, a in case["inputs"].items()}
    in_dtype, in_64 = (
        vector_cases.results(case["operator"], inputs, case["options"])
        for inputs in (case["inputs"], wide)
    )
    found = []
    for name, expected in in_64.items():
        stored, got = case["results"].get(name), in_dtype[name]
        if expected is None or stored is None:
            found += [] if expected is stored else [f"{name} is in one of the two"]
        elif stored.shape != expected.shape:
            found.append(f"{name} has shape {stored.shape}")
        elif case["exact"]:
            same = (
                stored.dtype == got.dtype and (stored == expected).all() and (stored == got).all()
            )
            found += [] if same else [f"{name} is not exact"]
        else:
            found += _outside(case, name, stored, expected, got)
    return found


def _outside(case, name, stored, expected, got):
    """In float64 the reference is far nearer than a bound for float32."""
    bound, far = bound_of(case, name), {"float32": 2.0**-20, "float64": 1.0}[case["dtype"]]
    is_it, is_within = abs(stored - expected) <= bound * far, abs(got - stored) <= bound
    found = [] if is_it.all() else [f"{name} is not that of the reference"]
    return found if is_within.all() else [*found, f"{name} is not within its bound"]


def test_the_results_are_those_of_the_reference():
    assert {name: found for name, case in cases().items() if (found := wrong_results(case))} == {}


@pytest.mark.parametrize("operator", OPERATORS + VOLUMES)
def test_other_results_are_complained_of(operator):
    exact, plain = (some_case(operator, exact=e, dtype="float32") for e in (True, False))
    results, floats = exact["results"], plain["results"]
    for name, a in results.items():
        next_ones = results | {name: np.nextafter(a, 99, dtype="f4")}
        assert wrong_results({**exact, "results": next_ones}) == [f"{name} is not exact"]
        few = {k: v for k, v in results.items() if k != name}
        assert wrong_results({**exact, "results": few}) == [f"{name} is in one of the two"]
        long = results | {name: a[None]}
        assert wrong_results({**exact, "results": long}) == [f"{name} has shape {a[None].shape}"]
    for name, a in floats.items():
        moved = floats | {name: a + bound_of(plain, name) / 100}
        complaint = f"{name} is not that of the reference"
        assert complaint in wrong_results({**plain, "results": moved})
    tight = {name: a / 1e3 for name, a in plain["bounds"].items()}
    assert "y is not within its bound" in wrong_results({**plain, "bounds": tight})


@pytest.mark.parametrize("operator", OPERATORS + VOLUMES)
def test_bounds_tell_float32_from_float64(operator):
    case = some_case(operator, exact=False, dtype="float64")
    narrow = {name: a.astype(np.float32) for name, a in case["inputs"].items()}
    found = vector_cases.results(operator, narrow, case["options"])
    for name in ("y", "grad_x"):
        assert (abs(found[name] - case["results"][name]) > bound_of(case, name)).any(), name


def sides_differ(case):
    """Whether a gradient has two sides, and they are not the same."""
    sides = [a for name, a in case["results"].items() if name.endswith(("_right", "_left"))]
    return bool(sides) and not np.array_equal(*sides)


def test_the_sides_differ_at_kinks_alone():
    assert {c["family"] for c in cases().values() if sides_differ(c)} == {"kinks"}
    for operator in ("sample", "deform_conv2d", "deform_conv3d", "deform_roi_pool",
                     "deform_ps_roi_pool"):  # fmt: skip
        kinks = [case for case in of(operator).values() if case["family"] == "kinks"]
        assert sum(map(sides_differ, kinks)) > len(kinks) / 2, operator


def test_no_zero_has_a_sign():
    for name, case in cases().items():
        for a in (case["inputs"] | case["results"]).values():
            assert not np.signbit(a[a == 0]).any(), name


def test_the_code_makes_the_case_again():
    for name, case in cases().items():
        again = made_again(case)
        for section in SECTIONS:
            stored, made = case[section], getattr(again, section)
            assert list(stored) == list(made), name
            assert all(np.array_equal(stored[k], made[k]) for k in stored), (name, section)
