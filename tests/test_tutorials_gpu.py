"""Notebook 11: what `puzzles` counts, and that it sees what is wrong."""

import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba.cuda")
nbformat = pytest.importorskip("nbformat")

from deformable_convnets.gpu import bench_record  # noqa: E402
from deformable_convnets.gpu.numba_kernels import deform_conv, deform_conv_columns  # noqa: E402
from deformable_convnets.gpu.numba_kernels.bilinear import sample  # noqa: E402
from deformable_convnets.gpu.numba_kernels.shim import cuda  # noqa: E402
from deformable_convnets.reference import deform_conv2d, deform_conv2d_backward  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tutorials"))
try:
    puzzles = importlib.import_module("puzzles")
finally:
    sys.path.remove(str(ROOT / "tutorials"))
NAN = np.float32(np.nan)


def numbers(*shape):
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def double(x, y):
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        y[i] = 2 * x[i]


def test_the_counts_of_a_map():
    x = numbers(70)
    run = puzzles.launch(double, (2, 32), x, np.full(70, NAN))
    assert np.array_equal(run["y"], 2 * x)
    assert run.reads == {"x": 70}
    assert run.writes == {"y": 70}
    assert not run.atomics
    assert not run.races
    assert [len(r) for r in run.requests("x")] == [32, 6, 32]  # thread 0 goes twice, then block 1
    assert run.sectors("x") == (4 + 1 + 4) / 3
    assert str(run).splitlines()[1].split() == ["x", "70", "1.094", "0", "0", "3"]


def test_parts_of_arrays_are_counted_where_they_are():
    def corner(x, y):
        part = x[1]
        y[cuda.grid(1)] = part[:, 2][cuda.grid(1)] + len(part) + part.shape[1] + x[0, 0, 0]

    x = numbers(2, 3, 4)
    run = puzzles.launch(corner, (1, 3), x, np.zeros(3, np.float32))
    assert np.array_equal(run["y"], x[1, :, 2] + 3 + 4)
    assert sorted(i for r in run.requests("x") for i in r) == [0, 0, 0, 14, 18, 22]


@pytest.mark.parametrize(
    ("step", "dtype", "expected"),
    [(0, "f4", 1), (1, "f4", 4), (2, "f4", 8), (8, "f4", 32), (3, "f4", 12), (1, "f8", 8)],
)
def test_sectors(step, dtype, expected):
    def strided(x, step):
        x[step * cuda.grid(1)]

    run = puzzles.watch(strided, (1, 32), np.zeros(1000, dtype), step)
    assert run.sectors("x") == expected


def test_sectors_see_through_device_functions():
    """Every request is of a whole warp, from the first on; channels last is what is coalesced."""

    def planes(x, p, y):
        t = cuda.grid(1)
        y[t % 8, t // 8] = sample(x[t % 8], p[t // 8, 0], p[t // 8, 1], False)

    def pixels(x, p, y):
        t = cuda.grid(1)
        y[t // 8, t % 8] = sample(x[:, :, t % 8], p[t // 8, 0], p[t // 8, 1], False)

    rng = np.random.default_rng(0)
    x, p = numbers(8, 9, 16), rng.integers(0, 8, (16, 2)).astype(np.float32) + np.float32(0.5)
    by_plane = puzzles.watch(planes, (2, 64), x, p, np.zeros((8, 16), np.float32))
    last = np.ascontiguousarray(np.moveaxis(x, 0, -1))
    by_pixel = puzzles.watch(pixels, (2, 64), last, p, np.zeros((16, 8), np.float32))
    assert [len(r) for r in by_pixel.requests("x")] == [32] * 16
    assert by_plane.reads == by_pixel.reads
    assert by_pixel.sectors("x") <= 4 < 20 < by_plane.sectors("x")


def without_guard(x, y):
    i = cuda.grid(1)
    y[i] = 2 * x[i]


@pytest.mark.parametrize("index", [-1, 12, (3, 0), (0, -2)])
def test_out_of_bounds(index):
    def writes(x):
        x[index] = 0

    a = numbers(3, 5) if isinstance(index, tuple) else numbers(12)
    with pytest.raises(IndexError, match=r"thread 0 of 1 writes x\[-?\d+(, -?\d+)?\], of shape"):
        puzzles.launch(writes, (1, 1), a)


def test_a_missing_guard():
    x, y = numbers(11), np.full(11, NAN)
    with pytest.raises(IndexError, match=r"thread 11 of 12 reads x\[11\], of shape \(11,\)"):
        puzzles.launch(without_guard, (3, 4), x, y)
    assert np.isnan(y).all()  # what is given is never written
    assert puzzles.launch(without_guard, (1, 11), x, y).writes["y"] == 11


def plain_sum(x, total):
    total[0] += x[cuda.grid(1)]


def atomic_sum(x, total):
    cuda.atomic.add(total, 0, x[cuda.grid(1)])


def test_a_lost_update():
    x, total = numbers(32) + 1, np.zeros(1, np.float32)
    lost = puzzles.watch(plain_sum, (1, 32), x, total, together=True)
    in_turn = puzzles.watch(plain_sum, (1, 32), x, total)
    atomic = puzzles.launch(atomic_sum, (1, 32), x, total)
    together = puzzles.watch(atomic_sum, (1, 32), x, total, together=True)
    assert (lost["total"], in_turn["total"]) == ([32], [528])
    assert lost.races == in_turn.races == {"total": 1}
    assert atomic["total"] == together["total"] == 528
    assert not atomic.races
    assert atomic.atomics == {"total": 32}


def test_a_thread_sees_its_own_writes():
    def twice(x):
        i = cuda.grid(1)
        x[i] += 1
        x[i] *= 2

    run = puzzles.watch(twice, (1, 4), numbers(4), together=True)
    assert np.array_equal(run["x"], 2 * (numbers(4) + 1))
    assert not run.races


def test_a_read_of_what_another_writes_is_a_race():
    def neighbour(x):
        i = cuda.grid(1)
        x[i] = x[(i + 1) % x.size]

    assert puzzles.watch(neighbour, (1, 5), numbers(5)).races == {"x": 5}


def test_cuda_is_put_back():
    def wrong(x, y):
        y[0] = sample(x, 0, 0, False) / 0

    before = dict(sample.py_func.__globals__)
    puzzles.watch(without_guard, (1, 2), numbers(2), numbers(2))
    with pytest.raises(IndexError):
        puzzles.watch(wrong, (1, 1), numbers(3), numbers(1))
    assert without_guard.__globals__["cuda"] is wrong.__globals__["cuda"] is cuda
    assert wrong.__globals__["sample"] is sample
    assert sample.py_func.__globals__ == before


def test_blocks_and_threads():
    def places(y):
        i = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
        y[cuda.grid(1)] = i + 100 * cuda.gridDim.x

    for run in (puzzles.watch, puzzles.launch):
        y = run(places, (3, 4), np.zeros(12, np.float32))["y"]
        assert np.array_equal(y, numbers(12) + 300)


def test_a_loop_without_end(monkeypatch):
    def endless(x):
        while x[0] == 0:
            x[1] = 1

    monkeypatch.setattr(puzzles, "MOST", 1000)
    with pytest.raises(RuntimeError, match="thread 0 of 8 makes access 1000 of all"):
        puzzles.watch(endless, (2, 4), numbers(2))


@pytest.fixture(scope="module")
def layer():
    """x, offset, weight and grad_output of a 3x3 layer; some points are outside the map."""
    rng = np.random.default_rng(0)
    shapes = (1, 2, 5, 6), (1, 18, 3, 4), (3, 2, 3, 3), (1, 3, 3, 4)
    x, offset, weight, grad_output = (rng.integers(-7, 8, s).astype(np.float32) for s in shapes)
    return x, offset / np.float32(4), weight, grad_output


GIVEN = np.zeros(1, np.float32), False, np.zeros((1, 1, 1, 1), np.float32), False
LAYOUT, ZERO = (1, 1, 0, 0, 1, 1), np.float32(0)


def test_the_kernels_of_the_library(layer):
    """Watched they compute what Numba computes, and read what their loops say."""
    x, offset, weight, _ = layer
    y, columns = np.full((1, 3, 3, 4), NAN), np.full((1, 2, 9, 12), NAN)
    arguments = x, offset, weight, *GIVEN, y, LAYOUT, 1, False, ZERO
    for run in (puzzles.watch, puzzles.launch):
        v1 = run(deform_conv.forward, (2, 8), *arguments)
        assert np.array_equal(v1["y"], deform_conv2d(x, offset, weight))
        assert v1.reads["offset"] == 2 * v1.reads["weight"] == 2 * y.size * 2 * 9
        assert v1.reads["x"] < 4 * y.size * 2 * 9
    shared = puzzles.launch(
        deform_conv_columns.sample_columns, (2, 8), x, offset, *GIVEN[2:], columns, 3, LAYOUT, 1,
        False, ZERO,
    )  # fmt: skip
    assert shared.reads["offset"] == offset.size
    assert v1.reads["x"] == 3 * shared.reads["x"]


@pytest.mark.parametrize("racy", [False, True])
def test_the_scatter_of_the_library(layer, racy, monkeypatch):
    """By atomics it is right together too; with += in their place it is not."""
    x, offset, weight, grad_output = layer
    if racy:
        monkeypatch.setattr(puzzles.Watch, "add", lambda self, a, i, v: a.__setitem__(i, a[i] + v))
    through = np.einsum("nohw,ock->nckhw", grad_output, weight.reshape(3, 2, 9)).reshape(
        1, 2, 9, -1
    )
    run = puzzles.watch(
        deform_conv_columns.grad_x, (2, 64), through, offset, *GIVEN[2:], np.zeros_like(x), 3,
        LAYOUT, 1, False, ZERO, together=True,
    )  # fmt: skip
    right = deform_conv2d_backward(grad_output, x, offset, weight).x
    assert np.array_equal(run["grad_x"], right) == (not racy)
    assert bool(run.races) == racy


def test_the_other_notebooks_need_no_numba():
    code = "import sys, exercises; sys.exit('numba' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT / "tutorials", check=True, timeout=60)


def test_the_notebook_says_what_is_recorded():
    """No time but a recorded one."""
    (notebook,) = (ROOT / "tutorials").glob("11_*.ipynb")
    cells = nbformat.read(notebook, as_version=4).cells
    (text,) = (
        c.outputs[0].text for c in cells if "newest(" in c.source and "import" not in c.source
    )
    record = bench_record.newest(ROOT / bench_record.FOLDER)
    if record is None:
        assert text == "not yet measured on a GPU\n"
    else:
        assert record["device"] in text
        assert record["date"][:10] in text


def test_arrays_are_handed_over_in_c_order(monkeypatch):
    """Those that are counted and those that are launched: a row is 4 sectors of 8, not 32."""
    handed, given = [], puzzles.cuda.to_device

    def row(x, y):
        y[cuda.grid(1)] = x[0, cuda.grid(1)]

    def noted(a):
        handed.append(a.flags.c_contiguous)
        return given(a)

    monkeypatch.setattr(puzzles.cuda, "to_device", noted)
    x = np.asfortranarray(numbers(9, 32))
    run = puzzles.launch(row, (1, 32), x, np.zeros(32, np.float32))
    assert run.sectors("x") == 4
    assert handed == [True, True]
    assert np.array_equal(run["y"], x[0])


def test_an_array_that_nobody_reads():
    run = puzzles.watch(double, (1, 8), numbers(6), np.zeros(6, np.float32))
    run.arrays["z"] = numbers(3)
    assert run.sectors("z") == 0


def test_a_thread_sees_its_own_atomic():
    def adds(x, y):
        cuda.atomic.add(x, 0, 1)
        y[cuda.grid(1)] = x[0]

    run = puzzles.watch(adds, (1, 3), np.zeros(1), np.zeros(3), together=True)
    assert run["y"].tolist() == [1, 2, 3]
