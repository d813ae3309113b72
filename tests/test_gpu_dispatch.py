"""What a call of v3 takes: by the table of a device, by the user's version, by what fits.

The devices and their times are made up.
"""

import sys
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from cuda_on_cpu import builds
from cuda_on_cpu.cpu_device import CpuDevice
from made_up_tables import H100, empty_folders, put, times

from deformable_convnets import gpu, reference
from deformable_convnets.gpu import bench_cases, bench_contestants, registry
from deformable_convnets.gpu.cupy_kernels import array_program, choices, device, dispatch
from deformable_convnets.gpu.cupy_kernels.choices import FUSED, STAGED, Entry, Machine, Task

FORWARD, BACKWARD = choices.OPERATORS


@pytest.fixture(autouse=True)
def folders(monkeypatch, tmp_path):
    yield from empty_folders(monkeypatch, tmp_path)


class Ran:
    """In the place of a module of kernels: says that it ran, and leaves the work to NumPy."""

    def __init__(self, name, ran):
        self.name, self.ran = name, ran

    def __getattr__(self, operator):
        def run(device, *arrays, precision, workspace_limit, geometry, border="zero", **options):
            self.ran.append(self.name)
            options.pop("deterministic", None)
            names = ("x", "offset", "weight", "bias", "mask")
            names = ("x", "weight", "bias") if operator == "conv2d" else names
            names = ("grad_output", *names) if operator.endswith("backward") else names
            given = dict(zip(names, arrays, strict=True))
            if given.get("offset") is None:
                given = {name: a for name, a in given.items() if name not in ("offset", "mask")}
                operator_of = operator.removeprefix("deform_")
                options.pop("side", None)
            else:
                operator_of, options = operator, options | {"border": border}
            run = array_program.operators(np)[operator_of].run
            return run(**given, geometry=geometry, **options)

        return run


@pytest.fixture
def ran(monkeypatch):
    """What ran, of calls of the backend "made up"."""
    done = []
    for name, module in ((STAGED, "cuda_program"), (FUSED, "fused"), (FUSED, "fused_backward")):
        fake = Ran(name, done)
        if module == "cuda_program":
            fake.TAKES, fake.DTYPES = dispatch.cuda_program.TAKES, dispatch.cuda_program.DTYPES
        monkeypatch.setattr(dispatch, module, fake)
    versions = {STAGED: {}, FUSED: dispatch.operators(None, machine=lambda: H100)}
    monkeypatch.setitem(registry.BACKENDS, "made up", registry.Backend(lambda: versions))
    return done


def problem():
    rng = np.random.default_rng(0)
    shapes = {"x": (1, 2, 4, 5), "offset": (1, 18, 4, 5), "weight": (3, 2, 3, 3)}
    given = {name: rng.integers(-4, 5, s).astype(np.float32) for name, s in shapes.items()}
    return given, rng.integers(-4, 5, (1, 3, 4, 5)).astype(np.float32)


HERE = Task(FORWARD, "float32", 2, 3, 20)


@pytest.mark.parametrize("plain", [False, True])
def test_a_call_takes_what_the_table_says(folders, ran, plain):
    """A plain convolution too, by the figures of the deformable one."""
    entries = [Entry(HERE, times(1, 2)), Entry(HERE._replace(operator=BACKWARD), times(2, 1))]
    put(folders / "packaged", *entries)
    given, grad = problem()
    name = "conv2d" if plain else "deform_conv2d"
    if plain:
        del given["offset"]
    y = getattr(gpu, name)(**given, padding=1, backend="made up")
    grads = getattr(gpu, f"{name}_backward")(grad, **given, padding=1, backend="made up")
    assert ran == [STAGED, FUSED]
    np.testing.assert_array_equal(y, getattr(reference, name)(**given, padding=1))
    expected = getattr(reference, f"{name}_backward")(grad, **given, padding=1)
    np.testing.assert_array_equal(grads.weight, expected.weight)


def test_a_users_version_wins(folders, ran):
    put(folders / "packaged", Entry(HERE, times(1, 2)))
    given, _ = problem()
    call = partial(gpu.deform_conv2d, **given, padding=1, backend="made up")
    call(), call(version=FUSED)
    assert ran == [STAGED, FUSED]


def test_one_product_of_matrices_is_left_to_cublas(folders, ran):
    """A table has figures of 3 x 3 taps alone; whoever names v3 gets it."""
    one = HERE._replace(O=2, pixels=20)
    put(folders / "packaged", Entry(one, times(2, 1)))
    given, _ = problem()
    x, weight = given["x"], given["weight"]
    call = partial(gpu.conv2d, x, weight[:2, :, :1, :1], backend="made up")
    call(), call(version=FUSED), call(stride=2)
    half = partial(gpu.conv2d, x.astype("f2"), weight[:2, :, :1, :1].astype("f2"))
    half(backend="made up")
    assert ran == [STAGED, FUSED, FUSED, STAGED]  # nothing is measured in float16


def test_a_users_version_reads_no_table(folders, ran, caplog):
    path = put(folders / "packaged", Entry(HERE, times(1, 2)))
    path.write_text("{")
    given, _ = problem()
    call = partial(gpu.deform_conv2d, **given, padding=1, backend="made up")
    call(version=FUSED)
    assert caplog.messages == []
    call(), call()
    assert ran == [FUSED, STAGED, STAGED]
    assert len(caplog.messages) == 1
    assert "cannot be read as JSON" in caplog.text


@pytest.mark.parametrize("version", [None, FUSED])
def test_what_does_not_fit_is_staged(folders, monkeypatch, version):
    """float64 and three channels, by the kernels themselves, on the CPU."""
    if builds.missing():
        pytest.skip(builds.missing())
    put(folders / "packaged", Entry(HERE, times(2, 1)))
    versions = {STAGED: {}, FUSED: dispatch.operators(CpuDevice(), machine=lambda: H100)}
    monkeypatch.setitem(registry.BACKENDS, "made up", registry.Backend(lambda: versions))
    given, grad = problem()
    given = {name: a.astype(np.float64) for name, a in given.items()}
    options = {"padding": 1, "backend": "made up", "version": version}
    y = gpu.deform_conv2d(**given, **options)
    np.testing.assert_array_equal(y, reference.deform_conv2d(**given, padding=1))
    grad = grad.astype(np.float64)
    grads = gpu.deform_conv2d_backward(grad, **given, **options)
    expected = reference.deform_conv2d_backward(grad, **given, padding=1)
    for name, a in grads._asdict().items():
        np.testing.assert_array_equal(a, getattr(expected, name))


def test_without_a_device_all_is_staged(ran, monkeypatch):
    versions = {FUSED: dispatch.operators(None)}
    monkeypatch.setitem(registry.BACKENDS, "made up", registry.Backend(lambda: versions))
    given, _ = problem()
    gpu.deform_conv2d(**given, padding=1, backend="made up")
    assert ran == [STAGED]
    assert versions[FUSED]["deform_conv2d"].chooses("deform_conv2d", "tf32", 2, 3, 20) == STAGED


def test_the_task_of_a_call(ran):
    given, _ = problem()
    given["offset"] = given["offset"][:, :, :2, :3]
    at = reference.checks.check_deform_conv2d(*given.values(), None, 2, 1, 1, None, "zero")
    x, weight = given["x"], given["weight"]
    task = dispatch.task_of(FORWARD, x, weight, at, "exact")
    assert task == Task(FORWARD, "float32", 2, 3, 6)
    assert dispatch.task_of(FORWARD, x, weight, at, "tf32") == task._replace(precision="tf32")


def test_the_benchmark_knows_what_a_call_takes(folders, monkeypatch):
    """The row of the version that is chosen by itself is the default's."""
    put(
        folders / "packaged",
        Entry(Task(FORWARD, "tf32", 512, 512, 2394), times(1, 2)),
        Entry(Task(BACKWARD, "tf32", 512, 512, 2394), times(2, 1)),
        Entry(Task(FORWARD, "float32", 512, 512, 2394), times(2, 1)),
    )
    on_device = dispatch.operators(None, machine=lambda: H100)
    versions = {STAGED: {n: v._replace(chooses=None) for n, v in on_device.items()}}
    versions[FUSED] = on_device
    monkeypatch.setattr(registry, "BACKENDS", {"cupy": registry.Backend(lambda: versions)})
    monkeypatch.setattr(registry.arrays, "simulated", lambda: False)
    monkeypatch.setitem(registry.BACKENDS, "numba", registry.Backend(dict, lambda: "not here"))
    layer = bench_cases.SHAPES[0]
    found = {
        (part, p): bench_contestants.chosen(bench_cases.Case(FORWARD, part, layer, p))
        for part in (bench_cases.FORWARD, bench_cases.BACKWARD) for p in ("tf32", "float32")
    }  # fmt: skip
    assert found == {
        (bench_cases.FORWARD, "tf32"): ("cupy", STAGED),
        (bench_cases.BACKWARD, "tf32"): ("cupy", FUSED),
        (bench_cases.FORWARD, "float32"): ("cupy", FUSED),
        (bench_cases.BACKWARD, "float32"): ("cupy", STAGED),
    }


def test_the_device_is_known_by_its_name(monkeypatch):
    runtime = SimpleNamespace(
        getDevice=lambda: 3, getDeviceProperties=lambda number: {"name": b"GPU %d" % number}
    )
    cupy = SimpleNamespace(cuda=SimpleNamespace(runtime=runtime))
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    device._machine.cache_clear()
    assert device.machine() == Machine("GPU 3")
    device._machine.cache_clear()
