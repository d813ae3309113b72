"""A device that is not there is no fault of the kernel: nothing is checked, and it is said why.

The library is a small one named torch, whose tensors are NumPy's arrays and whose cuda is missing.
"""

import sys

import numpy as np
import pytest

from deformable_convnets import reference
from deformable_convnets.reference.oracle import check, problems, shapes, verify
from deformable_convnets.reference.oracle.cli import main
from deformable_convnets.reference.oracle.peers import arrays

TORCH = """
import numpy as np

__version__ = "0"


class Tensor:
    def __init__(self, array):
        self.array = array

    def to(self, device):
        if device != "cpu":
            raise AssertionError("Torch not compiled with CUDA enabled\\nRead on for more.")
        return self

    detach = cpu = lambda self: self

    def numpy(self):
        return self.array


def from_numpy(array):
    return Tensor(array)


def stack(tensors, dim):
    return Stacked(np.stack([t.array for t in tensors], dim))


class Stacked(Tensor):
    def __getitem__(self, at):
        return Tensor(self.array[at])
"""
KERNEL = """
import torch
from deformable_convnets import reference

def right(x, offset, weight, bias=None, **options):
    options = {n: v.numpy() if isinstance(v, torch.Tensor) else v for n, v in options.items()}
    given = [a if a is None else a.numpy() for a in (x, offset, weight, bias)]
    return torch.from_numpy(reference.deform_conv2d(*given, **options))
"""
SAID = "arrays is 'torch:cuda', which cannot be made here: Torch not compiled with CUDA enabled"
ONE = ("forward_is_exact",)


@pytest.fixture
def right(tmp_path, monkeypatch):
    """A right kernel on such tensors, in a folder where a child finds it too."""
    (tmp_path / "torch.py").write_text(TORCH)
    (tmp_path / "kernels.py").write_text(KERNEL)
    for name in [n for n in sys.modules if n.partition(".")[0] in ("torch", "kernels")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    import kernels

    yield kernels.right
    for name in ("torch", "kernels"):
        sys.modules.pop(name, None)


def dcn_verify(kind):
    words = ["--arrays", kind, "--law", *ONE, "--dtype", "float32", "--examples", "5"]
    return main(["kernels:right", *words])


def test_the_shell_says_so_in_one_line(right, capsys):
    assert dcn_verify("torch:cuda") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("dcn-verify: kernels:right: ")
    assert SAID in err
    assert dcn_verify("torch") == 0


@pytest.mark.parametrize("isolated", [False, True])
def test_verify_raises(right, isolated):
    about = {"dtype": "float32", "laws": ONE, "examples": 5, "isolated": isolated}
    with pytest.raises(RuntimeError, match=SAID):
        verify(right, **about, arrays="torch:cuda")
    assert verify(right, **about, arrays="torch").ok


@pytest.mark.parametrize("isolated", [False, True])
def test_check_raises_no_assertion(right, isolated):
    problem = problems.make("base", shapes.Shape(), 0, border="zero").cast("float32")
    with pytest.raises(RuntimeError, match=SAID):
        check(right, *ONE, problem, arrays="torch:cuda", isolated=isolated)
    check(right, *ONE, problem, arrays="torch", isolated=isolated)


def test_a_wrong_kernel_on_arrays_that_are_there_is_still_broken(right):
    def wrong(*args, **options):
        raise AssertionError("Torch not compiled with CUDA enabled")

    report = verify(wrong, dtype="float32", laws=ONE, examples=5, arrays="torch")
    assert [failure.kind for failure in report.failures] == ["raised"]


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(ModuleNotFoundError, match="cupy"):
        verify(reference.deform_conv2d, dtype="float32", examples=5, arrays="cupy")


def test_numpy_is_there():
    arrays.of("numpy").assert_there()
    assert arrays.of("numpy").to(np.zeros(1)).shape == (1,)
