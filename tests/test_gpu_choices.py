"""Which version is the faster one: made-up tables, none at all, spoilt tables.

What calls make of it is in test_gpu_dispatch, what is measured in test_gpu_tune.
"""

import json
import logging
import os
from pathlib import Path

import pytest
from made_up_tables import ABOUT, H100, LAPTOP, empty_folders, put, times

from deformable_convnets.gpu.cupy_kernels import choices
from deformable_convnets.gpu.cupy_kernels.choices import FUSED, STAGED, Entry, Task

FORWARD, BACKWARD = choices.OPERATORS
WIDE = Task(FORWARD, "float32", 512, 512, 2394)
NARROW = Task(FORWARD, "float32", 128, 128, 33600)


@pytest.fixture(autouse=True)
def folders(monkeypatch, tmp_path):
    yield from empty_folders(monkeypatch, tmp_path)


def test_the_faster_one_is_taken(folders):
    put(folders / "packaged", Entry(WIDE, times(1.0, 0.5)), Entry(NARROW, times(1.0, 2.0)))
    assert choices.choose(WIDE, H100) == FUSED
    assert choices.choose(NARROW, H100) == STAGED


def test_the_nearest_entry_decides(folders):
    """By ratios, not by differences: 256 is as near to 128 as to 512."""
    put(folders / "packaged", Entry(WIDE, times(1, 2)), Entry(NARROW, times(2, 1)))
    between = Task(FORWARD, "float32", 256, 256, 8968)  # the mean of their logarithms
    for pixels, expected in ((8900, STAGED), (9100, FUSED)):
        assert choices.choose(between._replace(pixels=pixels), H100) == expected
    assert choices.choose(WIDE._replace(O=64, C=64), H100) == FUSED
    assert choices.choose(WIDE._replace(O=2048), H100) == STAGED


def test_of_two_as_near_the_first_decides(folders):
    up, down = WIDE._replace(C=1024), WIDE._replace(C=256)
    put(folders / "packaged", Entry(up, times(1, 2)), Entry(down, times(2, 1)))
    assert choices.choose(WIDE, H100) == STAGED


@pytest.mark.parametrize("change", [{"operator": BACKWARD}, {"precision": "tf32"}])
def test_only_the_same_operator_and_precision_count(folders, change):
    put(folders / "packaged", Entry(WIDE._replace(**change), times(1, 2)))
    assert choices.nearest([Entry(WIDE._replace(**change), times(1, 2))], WIDE) is None
    assert choices.choose(WIDE, H100) == STAGED


def test_a_version_that_failed_is_not_taken(folders):
    put(folders / "packaged", Entry(WIDE, {STAGED: 5.0}))
    assert choices.choose(WIDE, H100) == STAGED


def test_another_device_has_another_table(folders):
    put(folders / "packaged", Entry(WIDE, times(1, 2)))
    put(folders / "packaged", Entry(WIDE, times(2, 1)), machine=LAPTOP)
    assert choices.choose(WIDE, H100) == STAGED
    assert choices.choose(WIDE, LAPTOP) == FUSED


def test_the_users_own_table_takes_the_place_of_the_packaged_one(folders):
    assert choices.origin(H100.name) == "none"
    choices.forget()
    put(folders / "packaged", Entry(WIDE, times(1, 2)))
    assert choices.origin(H100.name) == "packaged"
    choices.forget()
    put(folders / "own" / "choices", Entry(WIDE, times(2, 1)))
    assert choices.origin(H100.name) == "own"
    assert choices.choose(WIDE, H100) == FUSED


def test_where_nothing_is_measured_it_is_the_staged_one():
    for operator in choices.OPERATORS:
        for machine in (H100, LAPTOP, None):
            assert choices.choose(Task(operator, "float32", 64, 64, 1000), machine) == STAGED


def test_a_choice_is_said_once(folders, caplog):
    path = put(folders / "packaged", Entry(WIDE, times(1, 2)))
    with caplog.at_level(logging.DEBUG, "deformable_convnets.gpu"):
        for _ in range(3):
            choices.choose(NARROW, H100)
    [said] = caplog.messages
    assert f"{NARROW}: v2, as measured for {WIDE} in {path}" in said
    caplog.clear()
    with caplog.at_level(logging.DEBUG, "deformable_convnets.gpu"):
        choices.choose(NARROW, LAPTOP)
    assert "v2; nothing measured on NVIDIA GeForce RTX 4090" in caplog.text


def spoilt(data, number=0, **changes):
    data["entries"][number] |= changes


SPOILT = {
    "no JSON": (lambda d: "{", "cannot be read as JSON"),
    "a list": (lambda d: [], "it holds [], expected an object"),
    "of the future": (lambda d: d | {"format": 2}, "format is 2, expected 1"),
    "no date": (lambda d: {n: a for n, a in d.items() if n != "date"}, "'date' is missing"),
    "no name": (lambda d: d | {"device": 7}, "device is 7, expected a name"),
    "another device": (lambda d: d | {"device": "A"}, "device is 'A', expected 'NVIDIA H100'"),
    "no entries": (lambda d: d | {"entries": []}, "entries is [], expected a list of one or more"),
    "a word": (lambda d: d | {"entries": ["x"]}, "entry 0: it has 'x', expected ['C', 'O'"),
    "a name more": ({"speed": 3}, "entry 1: it has ['C', 'O', 'milliseconds', 'operator'"),
    "no operator": ({"operator": "conv"}, "entry 1: operator is 'conv', expected one of deform"),
    "no precision": ({"precision": "int8"}, "entry 1: precision is 'int8', expected one of"),
    "no channels": ({"C": 0}, "entry 1: C is 0, expected a whole number, 1 to"),
    "channels without end": ({"C": 10**400}, "expected a whole number, 1 to 9007199254740992"),
    "half a channel": ({"O": 1.5}, "entry 1: O is 1.5, expected a whole number"),
    "true pixels": ({"pixels": True}, "entry 1: pixels is True, expected a whole number"),
    "no times": ({"milliseconds": {}}, "entry 1: milliseconds is {}, expected a time for each"),
    "no version": ({"milliseconds": {"v9": 1}}, "entry 1: milliseconds has 'v9', expected 'v2'"),
    "no time": ({"milliseconds": {"v2": 0}}, "entry 1: milliseconds of 'v2' is 0, expected a"),
    "a nan": ({"milliseconds": {"v3": float("nan")}}, "entry 1: milliseconds of 'v3' is nan"),
    "twice": (NARROW._asdict(), "entry 1: it has the task of entry 0, expected another"),
}  # fmt: skip


@pytest.mark.parametrize("name", SPOILT)
def test_a_spoilt_table_is_refused(folders, name, caplog):
    """One line that names the file and the entry, and says how to be rid of it; calls go on."""
    change, message = SPOILT[name]
    path = put(folders / "packaged", Entry(NARROW, times(1, 2)), Entry(WIDE, times(1, 2)))
    data = json.loads(path.read_text())
    if isinstance(change, dict):
        spoilt(data, 1, **change)
    else:
        data = change(data)
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    with pytest.raises(ValueError, match="delete it, or measure it again: python -m") as error:
        choices.table_of(H100.name)
    said = str(error.value)
    assert str(path) in said
    assert message in said
    assert "\n" not in said
    assert choices.origin(H100.name) == "spoilt"
    for task in (WIDE, NARROW, WIDE):
        assert choices.choose(task, H100) == STAGED
    assert caplog.messages == [f"v2 is taken on NVIDIA H100: {said}"]


def test_a_folder_that_may_not_be_searched_has_no_table(folders, monkeypatch):
    put(folders / "packaged", Entry(WIDE, times(2, 1)))
    stat = os.stat

    def refuses(path, **options):
        if str(path).startswith(str(folders / "own")):
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, **options)

    monkeypatch.setattr(os, "stat", refuses)
    assert choices.choose(WIDE, H100) == FUSED
    assert choices.origin(H100.name) == "packaged"


def test_what_cannot_be_read_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="entry 0: C is 0"):
        choices.write(tmp_path / "a.json", ABOUT, [Entry(WIDE._replace(C=0), times(1, 2))])
    assert list(tmp_path.iterdir()) == []


def test_the_packaged_tables_are_good():
    for path in (Path(choices.__file__).parents[1] / "choices").glob("*.json"):
        assert choices.slug(choices.read(path).device) == path.stem
