"""A report as an HTML page: sound, safe and complete, with a picture where there can be one."""

import json
import re
import time

import numpy as np
import pytest
from broken import SHAPE, SVG, Parsed, failure, report, svgs, wrong

from deformable_convnets.reference.oracle import (
    pictures,
    probes,
    problems,
    shapes,
    sites,
    verify,
)
from deformable_convnets.reference.oracle.law import LAWS
from deformable_convnets.reference.oracle.report import Failure, Kept, NotChecked


def test_the_page_is_sound():
    problem = problems.make("base", SHAPE, 0)
    broken = failure(
        "deform_conv2d", "forward_is_exact", problem,
        deform_conv2d=wrong("deform_conv2d", "the x-first channel order"),
    )  # fmt: skip
    text = report(broken, versions={"cupy": "14"}).html()
    page = Parsed(text)
    assert page.tags[:2] == ["html", "head"]
    pictures_of = svgs(text)
    assert len(pictures_of) == 4  # points, expected, found, difference
    assert all(svg.find(f"{SVG}title").text for svg in pictures_of)
    for said in ("kernels:mine", "a diagnosis", broken.says, "an example", "cupy 14", "mask"):
        assert said in page.text
    at = f"{broken.difference.what}{list(broken.difference.at)}"
    values = [broken.difference.actual, broken.difference.allowed["expected"]]
    assert all(str(said) in page.text for said in (at, *values, "BROKEN, 1 of 1 laws broken"))
    assert not {"src", "href", "onclick"} & set(page.attributes)
    assert not re.findall(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)", text)


def test_words_are_no_markup(tmp_path):
    evil = "</pre><script>alert('&')</script>"
    words = dict.fromkeys(("law", "says", "message", "diagnosis", "example"), evil)
    broken = Failure(dtype=evil, kind="value", **words)
    given = report(
        broken, name=evil, operator=evil, lacks=(evil,), versions={evil: evil}, rules=(evil,),
        dtypes=(evil,), kept=[Kept(evil, evil, 3)], not_checked=[NotChecked(evil, evil, evil)],
    )  # fmt: skip
    text = given.html(tmp_path / "report.html")
    page = Parsed(text)
    assert page.tags.count("script") == 1
    assert page.text.count(evil) >= 14
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == text


def headings(text):
    return re.findall(r'<h2 class="diagnosis.*?</h2>', text, re.DOTALL)


def test_several_wrong_gradients_are_a_line_each():
    each = [f"grads.{n} is wrong in 3 of 3 calls; no known mistake gives it" for n in ("x", "p")]
    law = {"law": "law", "says": "says", "dtype": "float64", "kind": "value", "message": "m"}
    broken = [
        Failure(**law, diagnosis=words, example="e")
        for words in ("; ".join(each), "y equals a; no grads.x <b>", each[0])
    ]
    found = {len(Parsed(h).tags): Parsed(h).text for h in headings(report(*broken).html())}
    assert found[3] == broken[0].diagnosis  # h2 and two spans
    assert found[1] in (broken[1].diagnosis, broken[2].diagnosis)
    spans = re.findall("<span>(.*?)</span>", headings(report(broken[0]).html())[0])
    assert spans == [f"{each[0]};", each[1]]
    assert "<span>" not in "".join(headings(report(*broken[1:]).html()))


@pytest.mark.parametrize("small", [False, True])
def test_the_text_says_what_the_picture_shows(small):
    shape = shapes.Shape() if small else SHAPE
    problem = problems.make("base", shape, 2 if small else 1)
    name = "a clamped border" if small else "the x-first channel order"
    broken = failure(
        "deform_conv2d", "forward_is_exact", problem, deform_conv2d=wrong("deform_conv2d", name)
    )
    given = report(broken)
    (line,) = [line for line in str(given).splitlines() if line.startswith("  picture")]
    words = line.removeprefix("  picture    ")
    heading = re.search('<p class="summary">(.*?)</p>', given.html())[1]
    shown = heading.replace(pictures.MINUS, "-")
    assert words == f"on a larger problem: {shown}" * small + shown * (not small)
    assert words.isascii()
    assert "belongs at (y, x) = (" in words
    assert json.loads(given.json())["failures"][0]["picture"] == words
    tap = [float(v) for v in re.findall(r"\(y, x\) = \((.*?), (.*?)\)", words)[0]]
    assert np.abs(broken.picture.site.points - tap).max(axis=1).min() < 0.001


def test_without_a_picture_there_is_no_line():
    problem = problems.make("base", SHAPE, 1)
    broken = failure("deform_conv2d", "forward_is_exact", problem, deform_conv2d=raising)
    assert broken.shown() == ""
    assert "  picture" not in str(report(broken))


def test_what_is_not_ascii_is_said_in_ascii():
    points, went = np.array([[-np.inf, 0.5]]), np.array([[2.0, -1.5]])
    site = sites.Site(points=points, size=(3, 3), plane=(0, 0), grid=None)
    heat = probes.Heat("it", np.zeros((1, 1)), np.ones((1, 1)))
    seen = probes.Seen("sample", "y", (0, 0), 0.0, 1.0, (heat,), site, went)
    assert Failure("l", "s", "d", "value", "m", "d", "e", picture=seen).shown() == (
        "The sample reads elsewhere. It belongs at (y, x) = (-inf, 0.5) and reads at (2, -1.5)"
    )


def test_laws_that_hold_and_laws_that_were_not_checked():
    kept = [Kept("forward_is_exact", "float64", 37)]
    not_checked = [NotChecked("mask_multiplies", "float32", "needs a mask, say")]
    text = report(kept=kept, not_checked=not_checked).html()
    page = Parsed(text)
    assert "OK, 0 of 1 laws broken" in page.text
    for said in ("37", LAWS["forward_is_exact"].says, "mask_multiplies", "needs a mask, say"):
        assert said in page.text
    assert not svgs(text)
    assert "Cause" not in page.text


def raising(*_, **__):
    raise RuntimeError("out of registers")


def only_whole_problems(x, *args, **options):
    """Refuses the maps that it is probed with."""
    if np.count_nonzero(x) < 2:
        raise NotImplementedError
    return wrong("deform_conv2d", "the x-first channel order")(x, *args, **options)


def slow(x, *args, **options):
    if np.count_nonzero(x) < 2:
        time.sleep(0.02)
    return wrong("deform_conv2d", "the x-first channel order")(x, *args, **options)


@pytest.mark.parametrize("function", [raising, only_whole_problems, slow])
def test_no_picture_where_nothing_can_be_found(function, monkeypatch):
    monkeypatch.setattr(probes, "PATIENCE", 0.05 if function is slow else 5.0)
    problem = problems.make("base", SHAPE, 1)
    broken = failure("deform_conv2d", "forward_is_exact", problem, deform_conv2d=function)
    assert broken.picture is None
    page = Parsed(report(broken).html())
    assert "No picture" in page.text
    assert ("the call raised" in page.text) == (function is raising)


def test_verify_draws_what_it_finds():
    found = verify(
        wrong("deform_conv2d", "the x-first channel order"), dtype="float32",
        laws="forward_is_exact", examples=5, shrink=False,
    )  # fmt: skip
    (broken,) = found.failures
    assert broken.picture is not None
    assert broken.diagnosis in Parsed(found.html()).text
