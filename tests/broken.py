"""Failures made as `verify` makes them, but on one problem and without a search: quickly."""

import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest

import deformable_convnets.reference as reference
from deformable_convnets.reference.oracle import calls, probes, problems, shapes
from deformable_convnets.reference.oracle.compare import Mismatch
from deformable_convnets.reference.oracle.diagnosis import Evidence
from deformable_convnets.reference.oracle.hunt import Found
from deformable_convnets.reference.oracle.implementation import Implementation
from deformable_convnets.reference.oracle.law import LAWS
from deformable_convnets.reference.oracle.lifted import lifted
from deformable_convnets.reference.oracle.mistakes import MISTAKES
from deformable_convnets.reference.oracle.report import Failure, Report

VOID = {"meta"}
SVG = "{http://www.w3.org/2000/svg}"
SHAPE = shapes.Shape(kernel=(3, 3), padding=((1, 1), (1, 1)), at_least=(5, 6))


class Parsed(HTMLParser):
    """Tags that are balanced, their attributes, and the text of the elements."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]
        self.open += [] if tag in VOID else [tag]

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def svgs(text):
    return [ET.fromstring(svg) for svg in re.findall(r"<svg xmlns.*?</svg>", text, re.DOTALL)]


def marked(svg, kind):
    """The elements of a picture that have this class among theirs."""
    return [element for element in svg.iter() if kind in element.get("class", "").split()]


def wrong(op, name):
    """The operator with a known mistake, or as it is where there is nothing to be wrong about."""
    run = {m.name: m.run for m in MISTAKES[op]}[name]

    def call(*args, **options):
        x = options["x"] if "x" in options else args[0]
        return run(*args, **options) if x.size else getattr(reference, op)(*args, **options)

    return call


def failure(op, law, problem, dtype="float64", **functions):
    """What `verify` would report of a law on this problem, where functions replace operators."""
    names = (op, f"{op}_backward")
    call = {name: getattr(reference, name) for name in names} | functions
    log = []
    careful = lifted(calls.careful(Implementation("wrong", call), log), op)
    with pytest.raises(AssertionError) as caught:
        LAWS[law].check(careful, problem)
    found = Found(problem, caught.value, list(log))
    scope = problems.Scope(careful.lacks)
    evidence = Evidence(careful, op, LAWS[law], dtype, scope, found, log)
    difference = caught.value if isinstance(caught.value, Mismatch) else None
    kind = getattr(caught.value, "kind", "value")
    picture = probes.seen(evidence)
    return Failure(
        law, LAWS[law].says, dtype, kind, str(caught.value), "a diagnosis", "an example",
        difference=difference, picture=picture,
    )  # fmt: skip


def report(*failures, **about):
    named = {"name": "kernels:mine", "operator": "deform_conv2d", "gradients": True}
    known = {"dtypes": ("float64",), "rules": ("zero",), "lacks": ("mask",)}
    return Report(**{**named, **known, "failures": failures, **about})


def report_of(seen):
    broken = Failure("law", "says", "float64", "value", "m", "d", "e", picture=seen)
    return report(broken).html()


def forward(name, problem=None, **options):
    """The picture of a wrong `deform_conv2d`."""
    problem = problem or problems.make("base", SHAPE, 0)
    function = name if callable(name) else wrong("deform_conv2d", name)
    return failure(
        "deform_conv2d", "forward_is_exact", problem, deform_conv2d=function, **options
    ).picture


def backward(name, seed=0):
    function = wrong("deform_conv2d_backward", name)
    problem = problems.make("base", SHAPE, seed)
    return failure(
        "deform_conv2d", "backward_is_exact", problem, deform_conv2d_backward=function
    ).picture
