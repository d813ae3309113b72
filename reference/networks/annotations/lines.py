"""Where in the text of a JSON file an entry is, which its parsed values do not tell."""

import json
from collections.abc import Iterator, Sequence

SPACE = " \t\n\r"
DECODER = json.JSONDecoder()


def position(text: str, keys: Sequence[str | int]) -> tuple[int, int]:
    """Line and column, from 1 on, of the entry that keys lead to; the text is right JSON.

    Of a key that an object has twice, the last one counts, as in `json.loads`.
    """
    at = _after(text, 0, SPACE)
    for key in keys:
        at = [start for name, start in _entries(text, at) if name == key][-1]
    return text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)


def _entries(text: str, at: int) -> Iterator[tuple[str | int, int]]:
    """The keys of the object, or the indices of the list, that starts at `at`, and their starts."""
    is_list, number = text[at] == "[", 0
    at = _after(text, at + 1, SPACE)
    while text[at] not in "]}":
        key: str | int = number
        if not is_list:
            key, at = DECODER.raw_decode(text, at)
            at = _after(text, at, SPACE + ":")
        yield key, at
        number += 1
        at = _after(text, DECODER.raw_decode(text, at)[1], SPACE + ",")


def _after(text: str, at: int, skipped: str) -> int:
    while text[at] in skipped:
        at += 1
    return at
