"""Appendix A derived: its code runs and can fail, its links are right, nothing is left out."""

import re

import pytest
from tutorial_files import TUTORIALS, helper

from deformable_convnets import reference
from deformable_convnets.reference import (
    bilinear,
    deform_conv,
    equations,
    roi_bins,
)

lines = helper("ledger.lines")
PAGE = (TUTORIALS / "APPENDIX_A.md").read_text(encoding="utf-8")


def run(text):
    """The blocks of a page, one after another; returns the section of the first that fails."""
    names = {}
    for section in re.split(r"^## ", text, flags=re.MULTILINE):
        for block in re.findall(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL):
            try:
                exec(compile(block, "APPENDIX_A.md", "exec"), names)
            except AssertionError:
                return section.split(".")[0]
    return None


def test_the_page_runs():
    assert run(PAGE) is None
    sections = re.findall(r"^## (\d+)\.", PAGE, re.MULTILINE)
    assert sections == [str(n) for n in range(1, 15)]
    assert PAGE.count("```python") == 16  # the helpers, one for each section, one more in 13


def swapped(of_y_and_x):
    return lambda *a, **options: of_y_and_x(*a, **options)[..., ::-1]


def other_side(of_side, place):
    """A function with `side` turned round, the argument at this place."""

    def wrong(*a):
        turned = {"right": "left", "left": "right"}[a[place]]
        return of_side(*a[:place], turned, *a[place + 1 :])

    return wrong


def without_gamma(pool_backward):
    def wrong(*a):
        grad_x, grad_offset = pool_backward(*a)
        return grad_x, None if grad_offset is None else grad_offset * 2

    return wrong


def lost_term(grads):
    """A backward of a module that forgets that x is read twice."""

    def wrong(*a, **options):
        found = grads(*a, **options)
        return found._replace(x=found.x / 2)

    return wrong


def fewer_points(lines_of):
    def wrong(*a):
        found = lines_of(*a)
        return found._replace(number=found.number + 1)

    return wrong


BUGS = {
    "1": (equations, "dg", lambda f: lambda a, b, side="right": -f(a, b, side)),
    "2": (equations, "dG", lambda f: lambda q, p, side="right": f(q, p, side)[::-1]),
    "3": (bilinear, "slopes", swapped),
    "4": (deform_conv, "slopes", swapped),
    "5": (equations, "offset_gradient_as_printed", lambda f: lambda *a: (0, 0)),
    "6": (bilinear, "axis", lambda f: other_side(f, 3)),
    "8": (reference, "deform_conv_module_backward", lost_term),
    "10": (roi_bins, "pool_backward", without_gamma),
    "13": (reference, "deform_roi_pool_module_backward", lost_term),
}


@pytest.mark.parametrize("section", BUGS)
def test_the_page_can_fail(section, monkeypatch):
    module, name, wrong = BUGS[section]
    target = {"10": reference.deform_roi_pool_backward.__globals__}.get(section, vars(module))
    monkeypatch.setitem(target, name, wrong(target[name]))
    assert run(PAGE) == section


@pytest.mark.parametrize(
    ("section", "right", "wrong"),
    [
        ("5", "one_term[n][0] ==", "printed[0] =="),  # as the paper prints it
        ("7", "(2.5, 7, 0, 0)", "(2.5, 3.5, -7, -7)"),  # (3) in place of the repeated pixel
        ("9", "(lambda a: (bar_y * reference.roi_pool(a", "(lambda a: (reference.roi_pool(a"),
        ("10", "gamma * np.array([4, 8])", "gamma * np.array([8, 4])"),  # w for h
        ("11", "agree(lambda a: scored(x, a), offset, grads.offset)",
         "agree(lambda a: scored(x, a), offset, grads.offset / 2)"),
        ("12", '"bins": "mxnet"', '"bins": "align"'),  # whose first point is inside
        ("12", "(-1.001, 0)", "(-1.001, 1.5)"),  # no jump at -1, and none at H
        ("12", "(8.001, 0)", "(8.001, 1.5)"),
        ("12", "== (1.5 + 0) / 2", "== 1.5"),  # the point that is lost counted out
        ("14", "a, weight)).sum(), offset, grads.offset)",
         "a, weight)).sum(), offset, grads.offset[:, ::-1])"),  # dx of the last tap first
    ],
)  # fmt: skip
def test_a_claim_that_is_false_is_seen(section, right, wrong):
    assert PAGE.count(right) == 1
    assert run(PAGE.replace(right, wrong)) == section


def test_links_lead_to_their_lines():
    """Else: cd tutorials && python -m ledger."""
    assert lines.linked(PAGE) == PAGE
    links = lines.LINK.findall(PAGE)
    assert len(links) > 30
    for name, file, number in links:
        line = (TUTORIALS / file).read_text().splitlines()[int(number) - 1]
        assert re.search(rf"\b(?:def|class) {name.split('.')[-1]}\b", line)


def test_every_link_has_a_line():
    others = [t for t in re.findall(r"\]\(([^)#]+)", PAGE) if not t.endswith(".py")]
    assert all((TUTORIALS / target).exists() for target in others)
    assert len(re.findall(r"\.py", PAGE)) == len(lines.LINK.findall(PAGE))


def test_a_link_that_is_wrong_is_seen(tmp_path):
    first = lines.LINK.search(PAGE).group()
    moved = re.sub(r"#L\d+", "#L1", first)
    assert lines.linked(PAGE.replace(first, moved)) == PAGE
    with pytest.raises(LookupError, match="has no nothing"):
        lines.linked("[`nothing`](../reference/equations.py#L1)")
    with pytest.raises(LookupError, match=r"nowhere\.py has no g"):
        lines.linked("[`g`](../reference/nowhere.py)")


def missing(text):
    """Gradients that a public function returns and the last table has not."""
    table = dict(re.findall(r"^\| `(\w+Grads)` \| ([^|]*) \|", text, re.MULTILINE))
    returned = {name: getattr(reference, name)._fields for name in reference.__all__
                if name.endswith("Grads")}  # fmt: skip
    return {name for name, fields in returned.items()
            if re.findall(r"`(\w+)`", table.get(name, "")) != list(fields)}  # fmt: skip


def test_every_gradient_is_there():
    assert missing(PAGE) == set()
    assert missing(PAGE.replace("`weight`, `bias`, `mask` |", "`weight`, `bias` |")) == {
        "DeformConvGrads"
    }


def test_no_formula_needs_an_escape():
    """Markdown takes away the backslash before punctuation, so no formula may have one."""
    formulas = re.findall(r"\$[^$]+\$", re.sub(r"^```.*?^```", "", PAGE, flags=re.M | re.S))
    assert len(formulas) > 80
    assert [f for f in formulas if re.search(r"\\[^A-Za-z]", f)] == []
