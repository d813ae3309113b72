"""Lines and columns of entries of JSON files, which errors name, in any layout of the text."""

import itertools
import json
import re

import pytest
from annotation_files import written
from hypothesis import given
from hypothesis import strategies as st

from deformable_convnets.reference.networks.annotations import coco, lines
from deformable_convnets.reference.networks.annotations.lines import position

VALUES = st.recursive(
    st.none(),
    lambda each: (
        st.lists(each, max_size=4) | st.dictionaries(st.text(max_size=4), each, max_size=4)
    ),
    max_leaves=12,
)
LAYOUTS = st.sampled_from([
    {}, {"indent": 0}, {"indent": 3}, {"indent": "\t", "ensure_ascii": False},
    {"separators": (",", ":")}, {"separators": ("\n,\r\n", "\t:\n ")},
])  # fmt: skip


def numbered(value, numbers):
    """The same, with a number or a text of its own for each leaf."""
    if isinstance(value, list):
        return [numbered(each, numbers) for each in value]
    if isinstance(value, dict):
        return {key: numbered(each, numbers) for key, each in value.items()}
    n = next(numbers)
    return n if n % 2 else f'{n} {{"[\\:,\n]}}'


def entries(value, keys=()):
    """Every entry of a value, with the keys that lead to it."""
    yield list(keys), value
    if isinstance(value, dict | list):
        for key, entry in value.items() if isinstance(value, dict) else enumerate(value):
            yield from entries(entry, (*keys, key))


@given(VALUES, LAYOUTS, st.sampled_from(["", "\n \r\n"]))
def test_every_entry_is_where_it_is_said_to_be(value, layout, before):
    value = numbered(value, itertools.count())
    text = before + json.dumps(value, **layout)
    starts = [0, *(found.end() for found in re.finditer("\n", text))]
    for keys, entry in entries(value):
        line, column = position(text, keys)
        at = starts[line - 1] + column - 1
        assert column >= 1
        assert line == len(starts) or at < starts[line]
        assert text[at] not in " \t\n\r"
        assert json.JSONDecoder().raw_decode(text, at)[0] == entry


def test_by_hand():
    text = '{"a": [1,\n  {"b": 2}], "a\\"": {}, "a": [\n3, 4]}'
    assert position(text, []) == (1, 1)
    assert position(text, ["a", 1]) == (3, 4)  # of two, the last
    assert position(text, ['a"']) == (2, 21)
    assert position('{"b":[[],[{}]]}', ["b", 1, 0]) == (1, 11)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda found: found[::-1],  # the first of two equal keys
        lambda found: [(key, at + 1) for key, at in found],
        lambda found: [*found[1:], *found[:1]],
    ],
)
def test_another_place_is_seen(monkeypatch, wrong):
    right = lines._entries
    monkeypatch.setattr(lines, "_entries", lambda text, at: wrong(list(right(text, at))))
    with pytest.raises((AssertionError, ValueError)):
        test_by_hand()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32-le"])
def test_in_any_encoding_of_json(tmp_path, encoding):
    path = tmp_path / "a.json"
    path.write_bytes('{"ä": "\U0001f600",\n "categories": 7}'.encode(encoding))
    with pytest.raises(ValueError, match="at line 2, column 16, categories: it is 7, expected a"):
        coco.instances(path)


def test_a_large_file_on_one_line(tmp_path):
    """As the files of COCO are."""
    entries = [{"id": n, "name": "[{"} for n in range(30_000)]
    text = json.dumps({"categories": [*entries, {"id": -1}], "images": []})
    path = written(tmp_path / "a.json", text)
    column = text.index("-1") + 1
    with pytest.raises(
        ValueError, match=f"line 1, column {column}, categories.30000..id: it is -1"
    ):
        coco.instances(path)
