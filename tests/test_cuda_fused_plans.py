"""How the fused kernel shares out a call: tiles, split sums, memory, and its launch on a device."""

import sys
import weakref
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from cuda_on_cpu import builds
from fused_on_cpu import Counting, arguments, make, offer

from deformable_convnets import gpu, reference
from deformable_convnets.gpu.cupy_kernels import device, fused, tiles
from deformable_convnets.gpu.cupy_kernels.build import Build
from deformable_convnets.reference.oracle.shapes import Shape

H100 = SimpleNamespace(processors=132, block_bytes=232_448, tiles=tiles.TILES)
SMALL = SimpleNamespace(processors=28, block_bytes=101_376, tiles=tiles.TILES)  # sm_86


def plan(on=H100, *, itemsize=4, operands=2, C=512, G=1, groups=1, K=9, N=1, S=2394, O=512,
         image_bytes=0, limit=24 * 2**20):  # fmt: skip
    task = tiles.Task(
        itemsize, operands, N, S, C // groups, O // groups, K, groups, C // G, image_bytes
    )
    return tiles.plan(on, task, limit)


def blocks(of, pixels=2394, O=512):
    return -(-pixels // of.tile.rows) * -(-O // of.tile.columns) * of.sums


def test_a_small_map_fills_the_device():
    """conv5 of one image, 38 x 63: 76 tiles of 128 x 128 for 132 multiprocessors."""
    for operands in (1, 2):
        of = plan(operands=operands)
        assert blocks(of) > 100
        assert of.depth_bytes == 64
    large = plan(N=40)
    assert large.sums == 1
    assert large.tile == tiles.TILES[2][0]


def test_few_output_channels_take_narrow_tiles():
    assert plan(O=20, N=40).tile.columns == 64
    assert plan(O=20, S=40).tile.rows == 64


def test_sums_stay_within_their_memory():
    one, weights = 4 * 300 * 512, 512 * 512 * 9 * 4
    for memory in (0, one, 2 * one, 5 * one, 100 * one):
        of = plan(S=300, limit=weights + memory)
        assert of.sums == 1 or of.sums * one <= memory
    assert plan(S=300).sums > 2


def test_images_are_copied_as_many_as_fit():
    weights, image = 512 * 512 * 9 * 4, 512 * 2394 * 4
    for room, images in ((0, 1), (1, 1), (2, 2), (7, 7), (9, 8)):
        assert plan(N=8, image_bytes=image, limit=weights + room * image).images == images
    assert plan(N=8, limit=1).images == 8


@pytest.mark.parametrize("on", [H100, SMALL])
@pytest.mark.parametrize("K", [1, 9, 25, 49, 81, 200])
def test_a_block_has_room(on, K):
    for operands, itemsize in ((1, 2), (1, 4), (2, 4)):
        of = plan(on, operands=operands, itemsize=itemsize, K=K)
        if of is None:
            assert min(t.block_bytes(K, 64) for t in tiles.TILES[operands]) > on.block_bytes
        else:
            assert of.tile.block_bytes(K, of.depth_bytes) <= on.block_bytes
    assert plan(on, K=9) is not None


@pytest.mark.parametrize(
    ("itemsize", "C", "G", "groups", "depth"),
    [(4, 16, 1, 1, 64), (4, 8, 1, 1, 32), (4, 24, 1, 1, 32), (4, 12, 1, 1, None),
     (4, 48, 2, 1, 32), (4, 32, 4, 1, 32), (4, 32, 1, 4, 32), (4, 32, 8, 1, None),
     (2, 32, 1, 1, 64), (2, 48, 1, 1, 32), (2, 8, 1, 1, None), (2, 64, 2, 4, 32)],
)  # fmt: skip
def test_a_step_has_channels_of_one_group(itemsize, C, G, groups, depth):
    of = plan(itemsize=itemsize, operands=1, C=C, G=G, groups=groups)
    assert (of and of.depth_bytes) == depth


class Measured(Counting):
    """Keeps the most bytes that were alive at once."""

    alive = most = 0

    def empty(self, shape, dtype):
        a = super().empty(shape, dtype)
        self.alive += a.nbytes
        self.most = max(self.most, self.alive)
        weakref.finalize(a, self._free, a.nbytes)
        return a

    def _free(self, size):
        self.alive -= size


def test_memory_stays_below_its_limit(monkeypatch):
    """Copies of x and of the weights, and sums: all that is alive at once beside y."""
    if builds.missing():
        pytest.skip(builds.missing())
    shape = Shape(N=4, channels=32, outputs=24, kernel=(3, 3), padding=((1, 1), (1, 1)),
                  at_least=(9, 8))  # fmt: skip
    p, launches = make("narrow", shape), []
    for limit in (10_000, 60_000, 100_000, 300_000):
        on = offer(monkeypatch, Measured(processors=100))
        y = gpu.deform_conv2d(**arguments(p), backend="fused", workspace_limit=limit)
        np.testing.assert_array_equal(y, reference.deform_conv2d(**arguments(p)))
        assert on.most - y.nbytes <= max(limit, 47_000)  # weights and an image, at the least
        launches.append((on.kernels.count("fused"), "add_sums" in on.kernels))
    assert launches[0] == (4, False)
    assert launches[-1] == (1, True)
    monkeypatch.setattr(fused, "WORKSPACE", 60_000)  # of a call that says nothing
    on = offer(monkeypatch, Measured(processors=100))
    gpu.deform_conv2d(**arguments(p), backend="fused")
    assert on.kernels.count("fused") == launches[1][0]


@pytest.fixture
def cupy(monkeypatch):
    """A CuPy that is made up, whose kernels say how they are launched."""
    made, cuda, calls = ModuleType("cupy"), ModuleType("cupy.cuda"), []

    class Module:
        def load(self, code):
            calls.append(code)

        def get_function(self, name):
            return Kernel()

    class Kernel:
        ptr = 7

        def __call__(self, *arguments):
            calls.append(arguments)

    cuda.function = SimpleNamespace(Module=Module)
    cuda.driver = SimpleNamespace(
        CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES=8,
        funcSetAttribute=lambda *arguments: calls.append(arguments), CUDADriverError=RuntimeError,
    )  # fmt: skip
    cuda.runtime = SimpleNamespace(
        getDevice=lambda: 0, cudaDevAttrMultiProcessorCount=16,
        cudaDevAttrMaxSharedMemoryPerBlockOptin=97,
        deviceGetAttribute=lambda attribute, number: {16: 132, 97: 232_448}[attribute],
    )  # fmt: skip
    cuda.Device = lambda number: SimpleNamespace(compute_capability="90")
    made.cuda = cuda
    for name, module in (("cupy", made), ("cupy.cuda", cuda)):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(device.compiler, "cubin", lambda *a: b"cubin")
    caches = (device._capability, device._module, device.function, device._attribute)
    for cached in caches:
        cached.cache_clear()
    yield calls
    for cached in caches:
        cached.cache_clear()


@pytest.mark.parametrize(("size", "told"), [(0, []), (40_000, []), (90_000, [(7, 8, 90_000)])])
def test_a_launch_asks_for_shared_memory(cupy, size, told):
    """More than 48 KiB only where the kernel was told before, once."""
    built = Build("float32", "float32", 4, block_bytes=size)
    for _ in range(2):
        device.CudaDevice().run_blocks("fused.cu", "fused", built, 3, (256,), 1, 2)
    shared = (size,) if size else ()
    assert cupy == [b"cubin", *told, *[((3,), (256,), (1, 2), *shared)] * 2]
    cupy.clear()
    device.CudaDevice().run("fused.cu", "pack", built, 100, 1)
    assert cupy[-1] == ((1,), (256,), (1,))


def test_what_a_device_is(cupy):
    assert device.CudaDevice().processors == 132
    assert device.CudaDevice().block_bytes == 232_448
