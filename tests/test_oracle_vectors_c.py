"""`vectors.c`, under 100 lines of C, reads the test vectors of deform_conv2d and agrees."""

import shutil
import subprocess

import numpy as np
import pytest
from vector_files import ROOT, bound_of, folder, of, some_case, text_of

SOURCE = (ROOT / "tests/vectors.c").read_text()
WARNINGS = ("-O1", "-Wall", "-Wextra", "-Werror")
COMPILERS = ("cc -std=c99 -pedantic", "gcc -std=c99", "g++ -x c -std=c99", "g++ -x c++")
OPERATOR = "deform_conv2d"
RESULTS = ("y", "grad_x", "grad_offset_right", "grad_weight", "grad_bias", "grad_mask")


def compiled(command, source, to):
    """The path of the program, or None where there is no such compiler."""
    if shutil.which(command.split()[0]) is None:
        return None
    to.with_suffix(".c").write_text(source)
    done = subprocess.run(
        [*command.split(), *WARNINGS, "-o", to, to.with_suffix(".c"), "-lm"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return to


def by_any(source, to):
    """The program, by the first compiler that is here."""
    found = (compiled(command, source, to) for command in COMPILERS)
    return next((path for path in found if path), None) or pytest.fail(f"none of {COMPILERS}")


@pytest.fixture(scope="module")
def check(tmp_path_factory):
    return by_any(SOURCE, tmp_path_factory.mktemp("double") / "check")


@pytest.fixture(scope="module")
def check_in_float(tmp_path_factory):
    source = SOURCE.replace("typedef double Real;", "typedef float Real;")
    assert source != SOURCE
    return by_any(source, tmp_path_factory.mktemp("float") / "check")


def run(program, path):
    done = subprocess.run([program, path], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def elements(case):
    """How many there are to compare: a gradient of two sides is one result."""
    return sum(a.size for name, a in case["results"].items() if not name.endswith("_left"))


def test_it_has_under_100_lines():
    lines = SOURCE.splitlines()
    assert len(lines) < 100
    assert max(map(len, lines)) <= 100


def test_it_agrees(check):
    for name, case in of(OPERATOR).items():
        said = f"{elements(case)} of {elements(case)} elements agree\n"
        assert run(check, folder() / f"{name}.json") == (0, said), name


def test_it_agrees_in_float(check_in_float):
    """With exact cases of float32 exactly, with ordinary ones within bounds; not with float64."""
    for name, case in of(OPERATOR).items():
        code, said = run(check_in_float, folder() / f"{name}.json")
        if case["dtype"] == "float32":
            assert (code, said.split()[:3:2]) == (0, [str(elements(case))] * 2), (name, said)
        else:
            assert code == 1, name


@pytest.mark.parametrize("command", COMPILERS)
def test_it_is_c_and_cpp(command, tmp_path):
    if compiled(command, SOURCE, tmp_path / "check") is None:
        pytest.skip(f"there is no {command.split()[0]}")


@pytest.mark.parametrize("exact", [True, False], ids=["exact", "ordinary"])
@pytest.mark.parametrize("result", RESULTS)
def test_it_finds_one_wrong_value(check, tmp_path, result, exact):
    case = next(
        case for case in of(OPERATOR).values()
        if case["exact"] == exact and case["family"] != "kinks"
        and all(name in case["results"] and case["results"][name].any() for name in RESULTS)
    )  # fmt: skip
    wrong = {name: a.copy() for name, a in case["results"].items()}
    bound = bound_of(case, result)
    at = np.unravel_index(np.argmax(abs(wrong[result]) if exact else bound), wrong[result].shape)
    for name in {result, result.replace("right", "left")}:
        wrong[name][at] += 2.0**-10 if exact else 2.5 * bound[at]
    path = tmp_path / "case.json"
    path.write_text(text_of(case, results=wrong))
    code, said = run(check, path)
    place = ", ".join(map(str, [*at, 0, 0, 0][:4]))
    assert code == 1
    assert said.startswith(f"{result.removesuffix('_right')}[{place}] is ")
    assert said.endswith(f"\n{elements(case) - 1} of {elements(case)} elements agree\n")


def test_all_between_the_sides_agrees(check, tmp_path):
    """Where the sides differ, it returns the right one; neither need be stored."""
    case = some_case(OPERATOR, family="kinks")
    results = case["results"]
    right, left = results["grad_offset_right"], results["grad_offset_left"]
    assert (right != left).any()
    path, outcomes = tmp_path / "case.json", []
    for other in (2 * right - left, left):
        path.write_text(text_of(case, results=results | {"grad_offset_right": other}))
        outcomes.append(run(check, path)[0])
    assert outcomes == [0, 1]


def test_it_says_when_it_cannot_read(check, tmp_path):
    text = (folder() / "deform_conv2d-00-base-zero-float32.json").read_text()
    texts = {
        "empty": "",
        "format 2": text.replace('"format": 1', '"format": 2'),
        "cut off": text[: text.index('"y": ') + 80],
    }
    for name, changed in texts.items():
        (tmp_path / name).write_text(changed)
        assert run(check, tmp_path / name)[0] == 2, name
    assert run(check, folder() / "conv2d-00-base-zero-float32.json")[0] == 2
    assert run(check, tmp_path / "none")[0] == 2
