"""The test vectors, written once for all tests, and read as a stranger would."""

import atexit
import json
import re
import shutil
import tempfile
from functools import cache
from pathlib import Path

import numpy as np

from deformable_convnets.reference.oracle import roi_problems, shapes, vector_cases, vectors

ROOT = Path(__file__).parents[1]
HEAD = ["name", "operator", "family", "exact", "dtype", "code"]
SECTIONS = ["inputs", "results", "bounds"]
CODE = {"vector_cases": vector_cases, "shapes": shapes, "roi_problems": roi_problems}


@cache
def folder():
    """A temporary folder with all files."""
    path = Path(tempfile.mkdtemp(prefix="vectors-"))
    atexit.register(shutil.rmtree, path)
    vectors.write(path)
    return path


@cache
def index():
    return json.loads((folder() / "index.json").read_text())


@cache
def cases():
    """The JSON files by name, their arrays read; no test writes to them."""
    names = {e["name"]: e["json"] for e in index()["cases"]}
    return {name: read((folder() / file).read_text()) for name, file in names.items()}


def read(text):
    """A JSON file, with arrays in place of their dtype, shape and values."""
    case = json.loads(text)
    for section in SECTIONS:
        case[section] = {
            name: np.array(a["values"], a["dtype"]).reshape(a["shape"])
            for name, a in case[section].items()
        }
    return case


def of(operator):
    """The cases of an operator, by name."""
    return {name: case for name, case in cases().items() if case["operator"] == operator}


def some_case(operator, **about):
    """The first case of an operator with these keys, and with elements in its results."""
    return next(
        case for case in of(operator).values()
        if case["results"]["y"].size and all(case[key] == value for key, value in about.items())
    )  # fmt: skip


def bound_of(case, name):
    """The bound of a result: one for both sides of a gradient."""
    return case["bounds"].get(re.sub("_(right|left)$", "", name) + "_bound")


def made_again(case):
    """What the code of a case makes."""
    return eval(case["code"], dict(CODE))


def text_of(case, **changes):
    """The JSON of a case, some of its sections changed."""
    recipe = eval(case["code"].removesuffix(".case()"), dict(CODE))
    parts = {section: case[section] for section in ("options", *SECTIONS)} | changes
    return vectors.as_json(case["name"], recipe, vector_cases.Case(**parts))
