"""What the readers share: files, places in them, and what is read."""

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn
from xml.parsers import expat

from numpy import ndarray as Array

from ..anchors import Truths
from ..metrics import Truth
from .lines import position

LARGEST = sys.float_info.max  # whole numbers of JSON may be larger; NaN is not smaller


class Objects(NamedTuple):
    """The objects of an image.

    image    the name of its file
    size     (H, W)
    boxes    R 4 in float64: x1, y1, x2, y2, with x2 and y2 exclusive
    labels   R, classes from 1 on
    ignored  R, True for those that neither train nor count: VOC's difficult ones, COCO's crowds
    areas    R, in pixels: COCO's are those of the outlines, as its file says
    """

    image: str
    size: tuple[int, int]
    boxes: Array
    labels: Array
    ignored: Array
    areas: Array

    def truths(self) -> Truths:
        """What a `rpn.Batch` takes: boxes and classes, without those that are ignored."""
        return Truths(self.boxes[~self.ignored], self.labels[~self.ignored])

    def truth(self, label: int) -> Truth:
        """What `average_precision` takes: the objects of one class, the ignored ones too."""
        here = self.labels == label
        return Truth(self.boxes[here], self.ignored[here], self.areas[here])


def read(path: str | Path, what: str) -> bytes:
    """The bytes of a file; FileNotFoundError if it is missing, ValueError if it is empty."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is {'no file' if path.exists() else 'missing'},"
                                f" expected {what}")  # fmt: skip
    data = path.read_bytes()
    if not data:
        broken(path, "is empty", what)
    return data


def broken(path: str | Path, problem: str, expected: str) -> NoReturn:
    """The one error of a broken file."""
    raise ValueError(f"{path} {problem}, expected {expected}")


class Entry:
    """A value of a JSON file, which knows its place there: entry["annotations"][3]["bbox"]."""

    __slots__ = ("above", "key", "path", "value")

    def __init__(self, path: Path, value: Any, above: "Entry | None" = None, key: Any = None):
        self.path, self.value, self.above, self.key = path, value, above, key

    def __getitem__(self, key: str) -> "Entry":
        value = self.of(dict, "an object {...}")
        if key not in value:
            self.fail(f"has no {key!r}", "one")
        return Entry(self.path, value[key], self, key)

    def __iter__(self) -> Iterator["Entry"]:
        for i, value in enumerate(self.of(list, "a list [...]")):
            yield Entry(self.path, value, self, i)

    def keys(self) -> list[str | int]:
        """Those that lead to it from the top."""
        return [] if self.above is None else [*self.above.keys(), self.key]

    def place(self) -> str:
        """As it would be written in JavaScript: annotations[3].bbox."""
        each = (f"[{key}]" if isinstance(key, int) else f".{key}" for key in self.keys())
        return "".join(each).removeprefix(".") or "its top"

    def fail(self, problem: str, expected: str) -> NoReturn:
        """The error, with its line: the file is read once more, since it is rarely asked for."""
        data = self.path.read_bytes()
        text = data.decode(json.detect_encoding(data), "surrogatepass")
        line, column = position(text, self.keys())
        where = f"line {line}, column {column}, {self.place()}"
        broken(self.path, f"at {where}: it {problem}", expected)

    def of(self, kind: type, expected: str) -> Any:
        """The value, of this type exactly: true is no number."""
        if type(self.value) is not kind:
            self.fail(f"is {_short(self.value)}", expected)
        return self.value

    def whole(self, least: int, most: int | None = None) -> int:
        """A whole number from `least` to `most`."""
        if type(self.value) is not int or not _within(self.value, least, most):
            self.fail(f"is {_short(self.value)}", _from(least, most))
        return self.value

    def area(self) -> float:
        """A finite number, 0 or more."""
        if type(self.value) not in (int, float) or not 0 <= self.value <= LARGEST:
            self.fail(f"is {_short(self.value)}", "a finite number, 0 or more")
        return float(self.value)

    def numbers(self, names: str) -> list[float]:
        """As many finite numbers as there are names."""
        count, value = len(names.split()), self.value
        right = type(value) is list and len(value) == count
        if not right or not all(type(v) in (int, float) and abs(v) <= LARGEST for v in value):
            self.fail(f"is {_short(value)}", f"{count} finite numbers: {names}")
        return [float(v) for v in value]


def _within(value: int | float, least: int, most: int | None) -> bool:
    return least <= value and (most is None or value <= most)


def _from(least: int, most: int | None) -> str:
    return f"a whole number, {least} {'or more' if most is None else f'to {most}'}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def read_json(path: str | Path, what: str) -> Entry:
    """The whole of a JSON file."""
    data = read(path, what)
    try:
        return Entry(Path(path), json.loads(data))
    except json.JSONDecodeError as error:
        place, problem = f"line {error.lineno}, column {error.colno}", error.msg
    except (ValueError, RecursionError) as error:  # bytes, or a number of 4301 digits
        place, problem = "its top", str(error)
    broken(path, f"at {place}: it is no JSON ({problem})", what)


class Element:
    """An element of an XML file, which knows its line there."""

    def __init__(self, path: Path, tag: str, line: int):
        self.path, self.tag, self.line, self.text = path, tag, line, ""
        self.children: list[Element] = []

    def all(self, tag: str) -> list["Element"]:
        """Its own children of this tag."""
        return [child for child in self.children if child.tag == tag]

    def child(self, tag: str) -> "Element":
        """Its one child of this tag."""
        found = self.all(tag)
        if len(found) != 1:
            self.fail(f"has {len(found) or 'no'} <{tag}>", "one")
        return found[0]

    def fail(self, problem: str, expected: str) -> NoReturn:
        broken(self.path, f"at line {self.line}: <{self.tag}> {problem}", expected)

    def number(self) -> float:
        """Its text as a finite number."""
        try:
            value = float(self.text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            self.fail(f"is {self.text.strip()!r}", "a finite number")
        return value

    def whole(self, least: int, most: int | None = None) -> int:
        """Its text as a whole number from `least` to `most`."""
        value = self.number()
        if value != int(value) or not _within(value, least, most):
            self.fail(f"is {self.text.strip()!r}", _from(least, most))
        return int(value)


def read_xml(path: str | Path, what: str) -> Element:
    """The root of an XML file. A document type is refused: annotations need no entities."""
    data, path = read(path, what), Path(path)
    parser = expat.ParserCreate()
    stack = [Element(path, "", 0)]

    def start(tag: str, attributes: Any) -> None:
        stack.append(Element(path, tag, parser.CurrentLineNumber))
        stack[-2].children.append(stack[-1])

    def text(more: str) -> None:
        stack[-1].text += more

    def doctype(*_: Any) -> None:
        broken(path, f"at line {parser.CurrentLineNumber}: it has a document type", "none")

    parser.StartElementHandler, parser.CharacterDataHandler = start, text
    parser.EndElementHandler = lambda tag: stack.pop()
    parser.StartDoctypeDeclHandler = doctype
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        line, problem = error.lineno, expat.errors.messages[error.code]
    except LookupError as error:
        line, problem = 1, str(error)  # an encoding that Python does not know
    else:
        return stack[0].children[0]
    broken(path, f"at line {line}: it is no XML ({problem})", what)
