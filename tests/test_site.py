"""What the site says of each equation is there: names, files, headings. `make test-site` looks at
its pages."""

import copy
import re
import sys
from pathlib import Path

import pytest

from deformable_convnets import gpu, reference
from deformable_convnets.reference.oracle import LAWS

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tutorials" / "site"))
from rendering import api, docstrings, links, sources, table  # noqa: E402

ROWS = table.read()


def test_every_package_of_networks_has_a_page():
    """Packages inside it too."""
    folders = {ROOT.joinpath(*name.split(".")) for name in api.FOLDERS}
    assert {path.parent for path in (ROOT / "reference/networks").rglob("__init__.py")} == folders


def complaints(rows):
    return list(table.complaints(rows, reference, gpu, LAWS))


def test_what_the_table_names_is_there():
    assert complaints(ROWS) == []


def left_out(rows):
    """Operators of maps and of volumes, and their gradients, that no equation names."""
    named = {name for row in rows for name in row["reference"]}
    gradients = {n for n in reference.__all__ if n.endswith("_backward") and "module" not in n}
    return gradients.union(n.removesuffix("_backward") for n in gradients) - named


def test_every_operator_stands_in_the_table():
    """A name of the README's table that has an equation is on the page of the equations."""
    assert left_out(ROWS) == set()
    for name in ("conv3d_backward", "deform_conv3d", "ps_roi_pool_backward"):
        rows = copy.deepcopy(ROWS)
        for row in rows:
            row["reference"] = [n for n in row["reference"] if n != name]
        assert left_out(rows) == {name}


@pytest.mark.parametrize("kind", ["literal", "reference", "gpu", "laws"])
def test_a_wrong_name_is_seen(kind):
    rows = copy.deepcopy(ROWS)
    rows[1][kind].append("nothing")
    assert complaints(rows) == [f"(2) {kind}: nothing"]


@pytest.mark.parametrize(
    ("kind", "entry", "says"),
    [
        ("numba", "deform_conv.py: nothing", "nothing of gpu/numba_kernels/deform_conv.py"),
        ("cuda", "nothing.cu: points", "points of gpu/cupy_kernels/nothing.cu"),
        ("tests", "test_equations.py: test_nothing", "test_nothing of tests/test_equations.py"),
        ("notebooks", "04_backward_pass: Nothing", "'Nothing' of 04_backward_pass"),
        ("notebooks", "99_nothing: The equation", "'The equation' of 99_nothing"),
    ],
)
def test_a_wrong_place_is_seen(kind, entry, says):
    rows = copy.deepcopy(ROWS)
    rows[1][kind].append(entry)
    assert complaints(rows) == [f"(2) {kind}: {says}"]


def test_a_missing_equation_is_seen():
    assert complaints(ROWS[:-1])[0].startswith("the equations are")


@pytest.mark.parametrize(
    "file", ["gpu/cupy_kernels/deform_conv.cu", "gpu/numba_kernels/sample.py", "LICENSE"]
)
def test_the_parts_of_a_file_are_the_whole_file(file):
    parts = sources.parts(ROOT / file)
    assert [p.first for p in parts] == [1] + [p.last + 1 for p in parts[:-1]]
    assert parts[-1].last == len((ROOT / file).read_text().splitlines())


def test_parts_by_hand(tmp_path):
    python = '"""Head."""\n\nimport re\n\n\n# of f\n@re\ndef f():\n    x\n\n\nclass C:\n    x: int'
    cuda = "// Head.\n\n// Of f.\ntemplate <int N>\n__device__ int f(int a) {\n}\nstruct S {\n};\n"
    for name, text, expected in (
        ("a.py", python, [(None, 1, 5), ("f", 6, 11), ("C", 12, 13)]),
        ("a.cu", cuda, [(None, 1, 2), ("f", 3, 6), ("S", 7, 8)]),
    ):
        (tmp_path / name).write_text(text)
        assert sources.parts(tmp_path / name) == expected


def test_names_that_differ_in_case_have_anchors_of_their_own():
    file = ROOT / "reference" / "equations.py"
    assert [sources.anchor(file, name) for name in ("g", "G", "dg", "dG")] == [
        "g", "g-1", "dg", "dg-1",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("[a](../README.md)", "[a](../README.md)"),
        ("[a](../README.md#Two-words)", "[a](../README.md#two-words)"),
        ("[a](https://example.org/b.py)", "[a](https://example.org/b.py)"),
        ("[a](../reference/equations.py)", "[a](../sources/reference/equations.py.md)"),
        ("[a](../reference/equations.py#L7-L9)", "[a](../sources/reference/equations.py.md#L-7)"),
        ("[a](../reference/equations.py#G)", "[a](../sources/reference/equations.py.md#g-1)"),
        ("[a](../nothing.py)", "[a](../nothing.py)"),
        ("`x[a](../reference/equations.py)`", "`x[a](../reference/equations.py)`"),
        ("```\n[a](../reference/equations.py)\n```", "```\n[a](../reference/equations.py)\n```"),
    ],
)
def test_links_between_files_become_links_between_pages(link, expected):
    made = links.Links(ROOT, ["README.md"])
    assert made.rewrite(link, "tutorials/a.md") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Equation (2), f(2) and (9).", r"Equation \ :ref:`(2) <eq-2>`\ , f(2) and (9)."),
        ("(7') of p_n*2, |a|.", r"\ :ref:`(7') <eq-7p>`\  of p\_n\*2, \|a\|."),
        ("`known` and `other`.", r"\ :py:obj:`known <a.known>`\  and \ ``other``\ ."),
        ("**Not** all, *all*.", "**Not** all, *all*."),
        ("Now:\n\n    x = 1  one\n    y = 2", "Now:\n\n::\n\n    x = 1  one\n    y = 2"),
        (
            "x   N C H W,\n    and more\nReturns y",
            ".. list-table::\n   :class: arguments\n   :widths: auto\n\n"
            "   * - ``x``\n     - N C H W, and more\n\nReturns y",
        ),
    ],
)
def test_docstrings_become_what_sphinx_reads(text, expected):
    made = docstrings.converted(text, {"known": "a.known"}.get)
    assert re.sub(r"\n{3,}", "\n\n", "\n".join(made)).strip() == expected
