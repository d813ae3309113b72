"""The README says what is so: its code runs, its names import, its links and figures are right."""

import json
import re
import textwrap
from pathlib import Path

import devices
import pytest
from bench import full_networks, report

from deformable_convnets import gpu, reference
from deformable_convnets.reference import oracle
from deformable_convnets.reference.oracle import features, strategies

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
ORACLE = "reference/oracle/README.md"
DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    "tutorials/experiments/README.md",
    "tutorials/README.md",
    "tutorials/CLAIMS.md",
    "tutorials/APPENDIX_A.md",
    ORACLE,
    "reference/oracle/VECTORS.md",
]


def blocks(text: str) -> list[str]:
    """The fenced blocks of Python, in order."""
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def table(text: str) -> list[list[str]]:
    """The rows of the table that begins with the column "Paper", without its head."""
    lines = text[text.index("| Paper |") :].split("\n\n")[0].splitlines()
    cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines[2:]]
    return [[cell.strip() for cell in row] for row in cells]


def missing_names(rows: list[list[str]]) -> list[str]:
    """Names in the columns of `reference` and `gpu` which those do not have."""
    return [
        f"{module.__name__}.{name}"
        for row in rows
        for module, cell in ((reference, row[2]), (gpu, row[3]))
        for name in re.findall(r"`(\w+)`", cell)
        if name not in module.__all__
    ]


def broken_links(text: str, folder: Path = ROOT) -> list[str]:
    """Files of this repository which the text points at and which are not there."""
    targets = re.findall(r"\]\(([^)#]+)\)", text) + re.findall(r'src="([^"]+)"', text)
    return [t for t in targets if not t.startswith("https://") and not (folder / t).exists()]


def unknown_targets(text: str, makefile: str) -> list[str]:
    """`make` targets that the text names and the Makefile does not have."""
    targets = re.findall(r"^([a-z-]+):", makefile, re.MULTILINE)
    named = re.findall(r"(?:^ +|`)make ([a-z-]+)", text, re.MULTILINE)
    return sorted(set(named) - set(targets))


def test_the_code_runs() -> None:
    """In order, in one namespace; what uses the GPU only where one is there, or its simulator."""
    namespace: dict[str, object] = {}
    for block in blocks(README):
        if "import torch" in block or "import jax" in block:
            continue  # tests/pytorch and tests/jax_arrays run them
        if "gpu." in re.sub(r"#.*", "", block) and not (devices.has_gpu() or devices.simulated()):
            continue
        exec(compile(block, "README.md", "exec"), namespace)
    assert len(blocks(README)) == 8


def test_the_code_prints_what_a_reader_expects(capsys: pytest.CaptureFixture[str]) -> None:
    first, second, *_ = blocks(README)
    namespace: dict[str, object] = {"__name__": "__main__"}
    exec(compile(first, "README.md", "exec"), namespace)
    assert capsys.readouterr().out == "(1, 4, 7, 9) (1, 2, 7, 9) (1, 18, 7, 9) (4, 2, 3, 3)\n"
    exec(compile(second, "README.md", "exec"), namespace)
    assert textwrap.indent(capsys.readouterr().out, "    ") in README


def test_the_table_has_only_names_that_import() -> None:
    rows = table(README)
    numbers = ["(1)", "(2)", "(3)", "(4)", "(5)", "(6)", "(7)", "(7')", "Figure 2", "Figure 3"]
    numbers += ["Figure 4", "Figures 5, 6", "Section 3.1", "Section 4.2"]
    assert [row[0] for row in rows] == numbers
    assert all(row[2] and row[4] for row in rows)
    assert missing_names(rows) == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    path = ROOT / document
    assert broken_links(path.read_text(), path.parent) == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_make_has_the_targets(document: str) -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert unknown_targets((ROOT / document).read_text(), makefile) == []


@pytest.mark.parametrize(("what", "file"), [("convolution", "cpu"), ("networks", "full_networks")])
def test_speeds_are_those_of_the_measurement(what: str, file: str) -> None:
    results = json.loads((ROOT / "tests" / "bench" / "results" / f"{file}.json").read_text())
    assert report.section(README, what) == report.MARKDOWN[what](results)


def test_another_speed_is_seen() -> None:
    results = json.loads((ROOT / "tests" / "bench" / "results" / "cpu.json").read_text())
    results["milliseconds"]["forward"]["median"] += 1
    assert report.section(README) != report.markdown(results)
    networks = json.loads(full_networks.RESULTS.read_text())
    networks["runs"][0]["seconds"][full_networks.TORCH] += 1
    assert report.section(README, "networks") != report.networks_markdown(networks)
    with pytest.raises(ValueError, match="expected one section"):
        report.section("# No section")


def test_a_wrong_name_is_seen() -> None:
    text = "| Paper | | |\n|---|---|---|\n| (1) | a \\| b | `conv2d`, `nothing` | `G` | [1](a) |\n"
    assert missing_names(table(text)) == [
        "deformable_convnets.reference.nothing",
        "deformable_convnets.gpu.G",
    ]


def test_a_broken_link_is_seen() -> None:
    text = '[a](README.md) [b](nowhere.md) [c](https://d) <img src="nowhere.png">'
    assert broken_links(text) == ["nowhere.md", "nowhere.png"]


def test_an_unknown_target_is_seen() -> None:
    assert unknown_targets("`make lab`\n\n    make nothing\n", "lab: x\n\tmake\n") == ["nothing"]


def unknown_names(text: str) -> list[str]:
    """Laws, strategies and words for `lacks` that a page about the oracle names wrongly."""
    cells = re.findall(r"^\| `strategies` \| (.*?) \|$", text, re.MULTILINE)
    named = re.findall(r"`(\w+)`", " ".join(cells))
    lacks = re.findall(r'"([a-z ]+)"', " ".join(re.findall(r"lacks=\[(.*?)\]", text)))
    wrong = [name for name in named if not hasattr(strategies, name)]
    return wrong + [word for word in lacks if word not in features.WORDS]


def test_the_page_of_the_oracle_names_what_is_there() -> None:
    page = (ROOT / ORACLE).read_text()
    assert unknown_names(page) == []
    assert unknown_names(page.replace("`kink`", "`kinky`").replace('"mask"', '"masks"')) == [
        "kinky", "masks",
    ]  # fmt: skip
    public = re.findall(r"`(\w+)`", page[page.index("| `verify`") :].splitlines()[0])
    assert all(hasattr(oracle, name) for name in ("verify", "check", *public))
