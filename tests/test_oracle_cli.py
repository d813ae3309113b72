"""`dcn-verify`: its exit status, its one line where nothing can be checked, and its files."""

import json
import os
import subprocess
import sys

import pytest

from deformable_convnets.reference.oracle import peers
from deformable_convnets.reference.oracle.cli import main

KERNELS = """
import os, time
from deformable_convnets import reference

def right(x, offset, weight, bias=None, **options):
    return reference.deform_conv2d(x, offset, weight, bias, **options)

def deform_conv3d(x, offset, weight, bias=None, **options):
    return reference.deform_conv3d(x, offset, weight, bias, **options)

def right_backward(*args, **options):
    return tuple(reference.deform_conv2d_backward(*args, **options))

def plain(x, offset, weight, *, stride=1, padding=0, dilation=1):
    return reference.deform_conv2d(x, offset, weight, stride=stride, padding=padding,
                                   dilation=dilation)

def x_first(x, offset, weight, bias=None, **options):
    N, channels, Ho, Wo = offset.shape
    turned = offset.reshape(N, channels // 2, 2, Ho, Wo)[:, :, ::-1].reshape(offset.shape)
    return reference.deform_conv2d(x, turned, weight, bias, **options)

def dies(x, offset, weight, bias=None, **options):
    os._exit(3)

def hangs(x, offset, weight, bias=None, **options):
    time.sleep(60)
"""


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs dcn-verify in a folder with `kernels.py`; gives its status, output and errors."""
    (tmp_path / "kernels.py").write_text(KERNELS)
    monkeypatch.chdir(tmp_path)

    def dcn_verify(*words):
        status = main(words)
        return status, *capsys.readouterr()

    return dcn_verify


FAST = ("--examples", "5", "--dtype", "float32")


def test_a_right_kernel_is_status_0(run):
    status, out, err = run("kernels:right", "--backward", "right_backward", *FAST)
    assert status == 0
    assert out.startswith("deform_conv2d of kernels:right: OK, 0 of 20 laws broken")
    assert "forward and backward; float32" in out
    assert err == ""


def test_a_broken_kernel_is_status_1(run, tmp_path):
    status, out, _ = run(
        "kernels.py:x_first", *FAST, "--law", "forward_is_exact", "--json", "found.json",
        "--html", "found.html",
    )  # fmt: skip
    assert status == 1
    assert "diagnosis  y equals the x-first channel order" in out
    assert json.loads((tmp_path / "found.json").read_text())["ok"] is False
    assert "x-first channel order" in (tmp_path / "found.html").read_text()


def test_what_a_signature_lacks_is_known_in_another_process_too(run):
    status, out, _ = run("kernels:plain", *FAST)
    assert status == 0
    assert "lacks: bias, mask, the dcnv1 border\n" in out


@pytest.mark.parametrize(
    ("name", "words"),
    [("dies", "the process ended with status 3"), ("hangs", "did not return within 1 s")],
)
def test_a_kernel_that_dies_or_hangs_is_reported(run, name, words):
    status, out, _ = run(f"kernels:{name}", *FAST, "--law", "forward_is_exact", "--time-limit", "1")
    assert status == 1
    assert words in out


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "no target: module:callable, or one of reference, torchvision"),
        (["kernel"], "there is no target 'kernel': expected module:callable"),
        (["kernel:right"], "kernel:right: no module named 'kernel'"),
        (["kernels:rigth"], "kernels:rigth: AttributeError: "),
        (["kernels:right", "--law", "forward"], "laws is 'forward', expected one of"),
        (["kernels:right", "--lacks", "bias,masks"], "lacks is 'masks', expected one of"),
        (["kernels:right", "--time-limit", "0"], "--time-limit is 0, expected more than 0"),
        (["kernels:right", "--html", "no/x.html"], "there is no folder for no/x.html"),
        (["kernels:os"], "TypeError: kernels:os is of type module, expected a callable"),
        (["kernels:right", "--examples", "0"], "examples is 0, expected an int of at least 1"),
        (["kernels:right", "--op", "all"], "--op all is for the known targets"),
        (["kernels:right", "--arrays", "numbers"], "numbers"),
        (["--dtype", "float31", "kernels:right"], "dtype is 'float31', expected one of float16"),
        (["kernels:deform_conv3d", "--law", "axes"], "laws is 'axes', expected one of volume_"),
        (["kernels:right", "--law", "volume_forward_is_exact"], "laws is 'volume_forward"),
        (["kernels:right", "--python", "/no/python"], "kernels:right: cannot run /no/python"),
        (["paddle", "--op", "sample"], "paddle has no sample"),
    ],
)
def test_what_cannot_be_checked_is_one_line_and_status_2(run, words, line):
    status, out, err = run(*(() if "--dtype" in words else ("--dtype", "float32")), *words)
    assert status == 2
    assert err.startswith("dcn-verify: ")
    assert line in err
    assert err.count("\n") == 1
    assert out == ""


def test_a_peer_whose_package_is_missing_is_status_2(run):
    status, _, err = run("mxnet", "--python", sys.executable)
    assert status == 2
    assert err.startswith("dcn-verify: mxnet: ")
    assert err.count("\n") == 1


def test_an_unknown_operator_is_status_2(run):
    with pytest.raises(SystemExit) as ended:
        run("reference", "--op", "deform")
    assert ended.value.code == 2


def test_nothing_checked_is_status_2(run):
    status, out, _ = run("kernels:right", "--law", "backward_is_exact", *FAST)
    assert status == 2
    assert "NOTHING CHECKED" in out


def test_all_operators_of_a_known_target(run, tmp_path):
    status, out, _ = run("reference", "--op", "all", "--examples", "1", "--json", "r.json",
                         "--dtype", "float32")  # fmt: skip
    assert status == 0
    assert out.count(": OK, 0 of") == 8
    assert (tmp_path / "r-deform_roi_pool.json").exists()


@pytest.mark.parametrize(
    ("what", "names"),
    [("targets", peers.PEERS), ("laws", ["forward_is_exact"]), ("words", ["uneven padding"])],
)
def test_lists(run, what, names):
    status, out, _ = run("--list", what)
    assert status == 0
    assert set(names) <= set(out.splitlines())


def test_quiet_prints_only_what_is_broken(run):
    assert run("kernels:right", "--quiet", *FAST, "--law", "forward_is_exact") == (0, "", "")
    assert "BROKEN" in run("kernels:x_first", "--quiet", *FAST, "--law", "forward_is_exact")[1]


def test_nothing_is_left_in_the_folder(tmp_path):
    """Hypothesis writes a folder of its own; in another process, whose Hypothesis is new."""
    (tmp_path / "mine.py").write_text(KERNELS)
    words = ["mine:right", *FAST, "--law", "forward_is_exact"]
    command = [sys.executable, "-m", "deformable_convnets.reference.oracle", *words]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    assert {p.name for p in tmp_path.iterdir()} - {"__pycache__"} == {"mine.py"}


def test_it_is_a_module_too():
    command = [sys.executable, "-m", "deformable_convnets.reference.oracle", "--list", "laws"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "forward_is_exact" in done.stdout


def test_importing_the_reference_or_the_oracle_does_not_import_hypothesis():
    code = (
        "import sys, deformable_convnets.reference as r, deformable_convnets.reference.oracle;"
        "sys.exit('hypothesis' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_interrupt_is_one_line(run, monkeypatch):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("deformable_convnets.reference.oracle.cli.verify", interrupted)
    status, _, err = run("reference")
    assert status == 130
    assert err.strip() == "dcn-verify: interrupted"


@pytest.mark.parametrize(
    "words",
    [
        ("--dtype", "float32,float64", "kernels:right"),
        ("kernels:right", "--dtype", "float32, float64"),
        ("kernels:right", "--dtype", "float32", "float64"),  # as it once was
    ],
)
def test_dtypes_have_commas_between_them(run, words):
    status, out, err = run(*words, "--law", "forward_is_exact", "--examples", "2")
    assert (status, err) == (0, "")
    assert "forward alone; float32, float64; " in out


def test_one_dtype_may_stand_before_the_target(run):
    status, out, _ = run(*FAST, "kernels:right", "--law", "forward_is_exact")
    assert status == 0
    assert "forward alone; float32; " in out


@pytest.mark.parametrize(
    ("words", "op"),
    [
        (["kernels:deform_conv3d"], "deform_conv3d"),
        (["kernels.py:deform_conv3d"], "deform_conv3d"),
        (["kernels:reference.deform_conv3d"], "deform_conv3d"),
        (["kernels:right"], "deform_conv2d"),
        (["kernels:deform_conv3d", "--op", "deform_conv2d"], "deform_conv2d"),
    ],
)
def test_a_callable_with_the_name_of_an_operator_is_that_operator(run, words, op):
    law = "forward_is_exact"
    status, out, _ = run(*words, *FAST, "--law", law)
    assert out.startswith(f"{op} of {words[0]}: ")
    assert status == ("--op" in words)


@pytest.mark.parametrize("law", ["forward_is_exact", "volume_forward_is_exact"])
def test_a_law_of_volumes_may_be_named_as_that_of_maps(run, law):
    status, out, _ = run("kernels:deform_conv3d", *FAST, "--law", law)
    assert status == 0
    assert out.endswith("kept, on 5 examples each:\n  volume_forward_is_exact\n")


@pytest.mark.parametrize(
    "words",
    [["reference", *FAST, "--law", "forward_is_exact"], ["--list", "laws"], ["--help"]],
)
def test_a_reader_who_has_read_enough_is_no_error(words, monkeypatch):
    """As in `dcn-verify ... | head`: here nobody reads at all."""
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)  # argparse drops what it cannot write
    reads, writes = os.pipe()
    os.close(reads)
    command = [sys.executable, "-m", "deformable_convnets.reference.oracle", *words]
    done = subprocess.run(command, stdout=writes, stderr=subprocess.PIPE, text=True)
    os.close(writes)
    assert (done.returncode, done.stderr) == (141, "")
