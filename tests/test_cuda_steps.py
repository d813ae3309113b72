"""How the launches of CUDA C++ go: chunks, memory, layouts, index types, repeatable sums.

The device is that of the tests, which counts what it is asked for.
"""

import weakref

import numpy as np
import pytest
from cuda_on_cpu import builds
from cuda_on_cpu.cpu_device import CpuDevice

from deformable_convnets import gpu, reference
from deformable_convnets.gpu import registry
from deformable_convnets.gpu.cupy_kernels import (
    cuda_program,
    deform_conv,
    deform_conv_backward,
)

WRT = ("x", "offset", "weight", "bias", "mask")


class Counting(CpuDevice):
    """Keeps the names of kernels, the most bytes that were alive, and the builds."""

    def __init__(self, **options):
        super().__init__(**options)
        self.kernels, self.builds, self.alive, self.most = [], set(), 0, 0
        self.packings = 0

    def empty(self, shape, dtype):
        a = super().empty(shape, dtype)
        size = a.nbytes
        self.alive += size
        self.most = max(self.most, self.alive)
        weakref.finalize(a, self._free, size)
        return a

    def _free(self, size):
        self.alive -= size

    def zeros(self, shape, dtype):
        a = self.empty(shape, dtype)
        a[...] = 0
        return a

    def packed(self, a):
        if a is None or a.flags.c_contiguous:
            return a
        self.packings += 1
        made = self.empty(a.shape, a.dtype)
        made[...] = a
        return made

    def run_blocks(self, source, kernel, build, *rest):
        self.kernels.append(kernel)
        self.builds.add(build)
        super().run_blocks(source, kernel, build, *rest)


@pytest.fixture
def offered(monkeypatch):
    """A function that registers a device as the backend "counted"; returns the device."""
    if builds.missing():
        pytest.skip(builds.missing())

    def register(**options):
        device = Counting(**options)
        versions = {"v2": cuda_program.operators(device)}
        monkeypatch.setitem(registry.BACKENDS, "counted", registry.Backend(lambda: versions))
        return device

    return register


def problem(*, dtype="float32", N=3, C=8, size=(7, 9), O=6, groups=1, G=1, exact=True, seed=0):
    """The arguments of a call, with whole numbers and eighths, or with any numbers."""
    rng = np.random.default_rng(seed)

    def whole(limit, *shape):
        a = rng.integers(-limit, limit + 1, shape)
        return (a if exact else a + rng.normal(size=shape) / 2).astype(dtype)

    given = {
        "x": whole(3, N, C, *size), "offset": whole(20, N, G * 18, *size) / np.dtype(dtype).type(8),
        "weight": whole(3, O, C // groups, 3, 3), "bias": whole(3, O),
        "mask": abs(whole(4, N, G * 9, *size)) / np.dtype(dtype).type(4), "padding": 1,
    }  # fmt: skip
    return given, whole(2, N, O, *size)


def both(given, grad, **options):
    """y and the gradients, by the counted device."""
    limit = {k: v for k, v in options.items() if k == "workspace_limit"}
    y = gpu.deform_conv2d(**given, backend="counted", **limit)
    grads = gpu.deform_conv2d_backward(grad, **given, backend="counted", **options)
    return {"y": y, **grads._asdict()}


def assert_right(found, given, grad):
    expected = {"y": reference.deform_conv2d(**given)}
    expected |= reference.deform_conv2d_backward(grad, **given)._asdict()
    for name, a in expected.items():
        np.testing.assert_array_equal(found[name], a, err_msg=name)


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("limit", [1, 100_000, None])
def test_chunks_of_any_size(offered, monkeypatch, limit, deterministic):
    monkeypatch.setattr(deform_conv, "SMALLEST_CHUNK", 20)
    device = offered()
    given, grad = problem()
    found = both(given, grad, workspace_limit=limit, deterministic=deterministic)
    assert_right(found, given, grad)
    chunks = device.kernels.count("columns"), device.kernels.count("grad_points")
    assert chunks[0] >= {1: 9, 100_000: 2, None: 1}[limit]
    assert (chunks == (1, 1)) == (limit is None)


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("usual", [False, True])
def test_memory_stays_below_its_limit(offered, monkeypatch, usual, channels_last, deterministic):
    """All that is alive at once beside the results; usual: the limit where none is asked for."""
    monkeypatch.setattr(deform_conv, "ENOUGH", 20)
    given, grad = problem(N=4, C=16, size=(20, 20), O=8)
    if channels_last:
        given["x"] = last(given["x"])
    for limit in (400_000, 1_000_000):
        monkeypatch.setattr(deform_conv, "WORKSPACE", limit if usual else 1)
        monkeypatch.setattr(deform_conv_backward, "BACKWARD_WORKSPACE", limit if usual else 1)
        asked = {} if usual else {"workspace_limit": limit}
        for forward in (True, False):
            device = offered()
            if forward:
                results = gpu.deform_conv2d(**given, backend="counted", **asked).nbytes
            else:
                grads = gpu.deform_conv2d_backward(
                    grad, **given, backend="counted", deterministic=deterministic, **asked
                )
                results = sum(a.nbytes for a in grads)
            assert limit / 4 < device.most - results <= limit
            assert len(device.kernels) > 5


def last(a):
    """The same array, channels last in memory."""
    return np.ascontiguousarray(a.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def test_channels_last_is_used_as_it_is(offered):
    given, grad = problem(dtype="float64")
    device = offered()
    assert_right(both(given, grad), given, grad)
    turned = device.kernels.count("to_rows")
    device = offered()
    found = both(given | {"x": last(given["x"])}, last(grad))
    assert_right(found, given, grad)
    assert device.kernels.count("to_rows") == turned - 3  # x twice and grad_output; weight is left
    for name in ("y", "x"):
        assert found[name].transpose(0, 2, 3, 1).flags.c_contiguous


def test_rows_that_are_not_aligned_are_copied(offered, monkeypatch):
    """Wide loads need 16 bytes; the watch sees it where nothing is copied."""
    given, grad = problem(N=1, C=8, size=(4, 4))
    flat = np.empty(1 * 4 * 4 * 8 + 4, np.float32)
    start = 1 if flat.ctypes.data % 16 == 0 else 4 - flat.ctypes.data % 16 // 4 + 1
    memory = flat[start : start + 128].reshape(1, 4, 4, 8)
    memory[...] = given["x"].transpose(0, 2, 3, 1)
    given["x"] = memory.transpose(0, 3, 1, 2)
    assert given["x"].ctypes.data % 16 == 4
    offered(watched=True)
    assert_right(both(given, grad), given, grad)
    monkeypatch.setattr(Counting, "address", lambda self, a: 0)
    with pytest.raises(AssertionError, match="a misaligned access by thread"):
        both(given, grad)


def test_a_gradient_with_gaps_is_copied_once(offered):
    device = offered()
    given, grad = problem()
    expanded = np.broadcast_to(grad[:1, :1, :1, :1], grad.shape)
    found = both(given, expanded, workspace_limit=1)
    assert device.kernels.count("grad_points") > 1
    assert device.packings == 1
    assert_right(found, given, np.ascontiguousarray(expanded))


@pytest.mark.parametrize("per_group", [64, 72, 160])
def test_a_team_of_a_warp(offered, per_group):
    device = offered(watched=True, most_lanes=32)
    given, grad = problem(N=1, C=per_group, size=(3, 4), O=2)
    for deterministic in (False, True):
        assert_right(both(given, grad, deterministic=deterministic), given, grad)
    assert {b.lanes for b in device.builds} >= {16 if per_group == 64 else 32}


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize(
    ("C", "groups", "G", "vec"),
    [(8, 1, 1, 4), (6, 3, 1, 2), (9, 3, 3, 1), (12, 2, 3, 2), (4, 4, 4, 1)],
)  # fmt: skip
def test_vectors_and_indices(offered, monkeypatch, C, groups, G, vec, wide):
    monkeypatch.setattr(deform_conv, "LARGEST", 1 if wide else 2**30)
    device = offered(watched=True)
    given, grad = problem(N=2, C=C, size=(4, 5), O=12, groups=groups, G=G)
    assert_right(both(given, grad), given, grad)
    assert_right(both(given, grad, deterministic=True), given, grad)
    assert {(b.vec, b.wide) for b in device.builds if b.lanes > 0} == {(vec, wide), (1, wide)}


def test_more_numbers_than_32_bits_count(offered):
    """Only the choice: such arrays do not fit here."""
    device = offered()
    at = reference.checks.check_deform_conv2d
    for H, wide in ((2**13, False), (2**14, True)):
        x = np.broadcast_to(np.float32(0), (2, 2**6, H, 2**9))
        offset = np.broadcast_to(np.float32(0), (2, 2, H, 2**9))
        weight = np.zeros((1, 2**6, 1, 1), np.float32)
        geometry = at(x, offset, weight, None, 1, 0, 1, None, "zero")
        device.packed = lambda a: a
        call = deform_conv.Convolution(
            device, x, offset, weight, None, geometry=geometry, border="zero"
        )
        assert call.build.wide == wide


@pytest.mark.parametrize("name", ["x", "offset", "weight", "bias", "mask"])
def test_what_is_not_wanted_is_not_done(offered, name):
    device = offered()
    given, grad = problem()
    grads = gpu.deform_conv2d_backward(grad, **given, backend="counted", wrt=name)
    assert [n for n, a in grads._asdict().items() if a is not None] == [name]
    expected = getattr(reference.deform_conv2d_backward(grad, **given), name)
    np.testing.assert_array_equal(getattr(grads, name), expected)
    ran = set(device.kernels)
    assert ("grad_points" in ran) == (name in ("x", "offset", "mask"))
    assert ("columns" in ran) == (name == "weight")
    assert ("sum_rows" in ran) == (name == "bias")


def test_deterministic_sums_repeat_in_any_order_of_threads(offered):
    given, grad = problem(exact=False)
    repeated, free = [], []
    for order in (0, 1, 9):
        offered(order=order)
        repeated.append(both(given, grad, deterministic=True))
        free.append(both(given, grad))
    for name in repeated[0]:
        for other in repeated[1:]:
            np.testing.assert_array_equal(repeated[0][name], other[name], err_msg=name)
    assert (free[0]["x"] != free[1]["x"]).any()  # by atomics, in another order
    for name in ("y", "offset", "weight", "bias", "mask"):
        np.testing.assert_array_equal(free[0][name], free[1][name], err_msg=name)


def test_many_points_on_one_pixel(offered):
    given, grad = problem(N=1, C=4, size=(6, 6), O=2)
    taps = np.stack(np.meshgrid(range(6), range(6), indexing="ij"))
    k = np.stack(np.meshgrid(range(-1, 2), range(-1, 2), indexing="ij")).reshape(2, 9)
    offset = 2.5 - taps[:, None] - k[:, :, None, None]
    given["offset"] = offset.transpose(1, 0, 2, 3).reshape(1, 18, 6, 6).astype("float32")
    offered(watched=True)
    for deterministic in (False, True):
        assert_right(both(given, grad, deterministic=deterministic), given, grad)
