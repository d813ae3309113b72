"""The fused kernels (v3) on a GPU, on problems that fit them; and the same tests on the CPU.

The oracle's problems have few channels, which v3 gives to the staged kernels. Here each tile of
`tiles.TILES` is forced, channels are many, and a test fails if no fused kernel was launched. On the
CPU the tiles are small ones. Not run on a GPU.
"""

from functools import partial

import numpy as np
import pytest
from cuda_on_cpu.cpu_device import CpuDevice
from fused_gradients import DTYPES, GROUPED, ODD, WIDE, problem
from fused_gradients import expected as right_gradients
from fused_gradients import wrong as wrong_gradients
from fused_on_cpu import SHAPE, SMALL, TWO_WARPS, arguments, lifted, make, with_mask, wrong
from implementations import ENTRIES
from test_cuda_fused import KINDS

from deformable_convnets import gpu, reference
from deformable_convnets.gpu import registry
from deformable_convnets.gpu.cupy_kernels import dispatch, fused_backward, tiles
from deformable_convnets.gpu.cupy_kernels.device import CudaDevice
from deformable_convnets.gpu.cupy_kernels.tiles import TILES
from deformable_convnets.reference.oracle import problems, verify
from deformable_convnets.reference.oracle.shapes import Shape

OFFERS = ("cupy", "on-cpu")
OF_CPU = {"exact": (SMALL, TWO_WARPS), "tf32": (SMALL,), "float16": (SMALL,), "bfloat16": (SMALL,)}
OF_GPU = {kind: TILES[2 if kind == "exact" else 1] for kind in KINDS}
EACH = [
    pytest.param(offer, kind, tile, id=f"{offer}-{kind}-{tile.rows}x{tile.columns}")
    for offer, of_kind in zip(OFFERS, (OF_GPU, OF_CPU), strict=True)
    for kind, offered in of_kind.items()
    for tile in offered
]


class Fused:
    """v3 of a backend, its tiles, and the kernels and builds of its launches.

    kind   the class of its device, whose launches are noted
    holds  what holds the tiles that it may take: this class, or one device
    """

    def __init__(self, monkeypatch, backend, kind, holds):
        self.monkeypatch, self.kind, self.holds = monkeypatch, kind, holds
        self.choice = {"backend": backend, "version": "v3"}
        self.kernels, self.builds = set(), set()
        for name in ("run", "run_blocks"):
            monkeypatch.setattr(kind, name, self._noted(getattr(kind, name)))
        monkeypatch.setattr(tiles, "LEAST_STEPS", 1)  # so that short sums are split too

    def _noted(self, run):
        def noted(device, source, kernel, build, *rest):
            self.kernels.add(kernel)
            self.builds.add((kernel, build))
            run(device, source, kernel, build, *rest)

        return noted

    def force(self, tile, *, split=False):
        """Every call takes this tile; its sums are split where a step seems dear."""
        tile = tile._replace(clocks=10**6 if split else 1)
        self.monkeypatch.setattr(self.holds, "tiles", {1: (tile,), 2: (tile,)})

    def forward(self, *arrays, **options):
        return gpu.deform_conv2d(*arrays, **options, **self.choice)

    def backward(self, grad, given, name="float32", **options):
        """The gradients of a problem of `fused_gradients`, by name."""
        options["precision"] = "tf32" if name == "tf32" else "exact"
        found = gpu.deform_conv2d_backward(grad, **given, padding=1, **options, **self.choice)
        return {n: a for n, a in found._asdict().items() if a is not None}

    def has(self, kernel, **macros):
        """Whether a kernel was launched whose build has these macros."""
        more = [dict(build.more) for name, build in self.builds if name == kernel]
        return any(all(m[n] == value for n, value in macros.items()) for m in more)


@pytest.fixture
def v3(request, monkeypatch, runnable):
    """On a GPU ("cupy") or on the CPU."""
    if request.param == "cupy":
        runnable(ENTRIES["cupy v3"])
        yield Fused(monkeypatch, "cupy", CudaDevice, CudaDevice)
    else:
        runnable(ENTRIES["cuda-on-cpu v2"])
        device = CpuDevice(watched=True)
        monkeypatch.setattr(device, "processors", 40, raising=False)
        backend = registry.Backend(lambda: {"v3": dispatch.operators(device)})
        monkeypatch.setitem(registry.BACKENDS, "on-cpu", backend)
        yield Fused(monkeypatch, "on-cpu", CpuDevice, device)
    tiles._plan.cache_clear()


on_both = pytest.mark.parametrize("v3", OFFERS, indirect=True)


@pytest.mark.parametrize("split", [False, True], ids=["one-sum", "sums"])
@pytest.mark.parametrize(("v3", "kind", "tile"), EACH, indirect=["v3"])
def test_every_tile_is_exact(v3, kind, tile, split):
    """Groups, offset groups, a mask, a bias, and more than one tile in each direction."""
    v3.force(tile, split=split)
    keywords, families = KINDS[kind]
    channels = 32 if kind.endswith("16") else 16
    for family in families:
        for border in ("zero", "dcnv1"):
            p = make(family, SHAPE.limited(channels=channels), seed=1, border=border)
            p = with_mask(p) if family == "base" else p
            assert wrong(p, **v3.choice, **keywords) == 0, (family, border)
    more = Shape(N=2, channels=32, outputs=tile.columns + 3, kernel=(1, 2), at_least=(7, 10))
    assert wrong(make(families[0], more), **v3.choice, **keywords) == 0
    assert v3.has("fused", ROWS=tile.rows, COLUMNS=tile.columns)
    assert ("add_sums" in v3.kernels) == split
    assert "columns" not in v3.kernels


@on_both
@pytest.mark.parametrize("channels", [8, 16, 24])
def test_steps_of_32_bytes_and_one_step(v3, channels):
    shape = Shape(N=1, channels=channels, outputs=3, kernel=(1, 1), at_least=(3, 5))
    v3.force(SMALL if v3.kind is CpuDevice else TILES[2][-1])
    assert wrong(make(shape=shape), **v3.choice) == 0
    assert v3.has("fused", DEPTH=16 if channels == 16 else 8)


@on_both
def test_points_that_are_not_numbers(v3):
    """NaN, infinite and huge coordinates."""
    for border in ("zero", "dcnv1"):
        p = make(border=border)
        p = p.with_(offset=problems.strange_numbers(3, p.offset))
        found = v3.forward(**arguments(p))
        np.testing.assert_array_equal(found, reference.deform_conv2d(**arguments(p)))
        assert np.isnan(found).any()
    assert "fused" in v3.kernels


@pytest.mark.parametrize(("dtype", "channels"), [("float32", 8), ("float16", 16)])
@on_both
def test_the_laws_of_a_forward(v3, dtype, channels, monkeypatch):
    """On all shapes of the oracle, by builds for any shape: channels are multiplied."""
    monkeypatch.setattr(v3.holds, "specialises", False)
    fewer = v3.kind is CpuDevice
    report = verify(
        lifted(v3.forward, channels), dtype=dtype, border="zero" if fewer else ("zero", "dcnv1"),
        examples=(2 if dtype == "float32" else 20) if fewer else 40,
    )  # fmt: skip
    report.assert_ok()
    assert v3.has("fused", DEPTH=8 if dtype == "float32" else 16)


SHAPES = {"wide": WIDE, "groups": GROUPED, "odd": ODD,
          "tiles": {"C": 136, "O": 136, "N": 1, "size": (6, 11)}}  # fmt: skip
BACKWARD = [
    pytest.param(offer, name, shape, id=f"{offer}-{name}-{shape}")
    for offer in OFFERS
    for name in DTYPES
    for shape in SHAPES
    if offer == "cupy" or shape == "wide"
]


@pytest.mark.parametrize(("v3", "name", "shape"), BACKWARD, indirect=["v3"])
def test_gradients_are_exact(v3, name, shape):
    """Where C and O are multiples of 8: loads of 16 bytes, sums by four numbers at once."""
    given, grad = problem(name, **SHAPES[shape])
    for border, deterministic in (("zero", True), ("zero", False), ("dcnv1", False)):
        found = v3.backward(grad, given, name, border=border, deterministic=deterministic)
        assert wrong_gradients(found, given, grad, border=border) == [], (border, deterministic)
    points, weight = (
        of[name != "float32"] if shape in ("wide", "tiles") else fused_backward.NARROW
        for of in (fused_backward.OF_POINTS, fused_backward.OF_WEIGHT)
    )
    exact = int(name == "float32")
    assert v3.has("grad_of_points", TILE_P=points.rows, TILE_C=points.channels, EXACT=exact)
    assert v3.has("grad_weight", TILE_O=weight.rows, TILE_C=weight.channels, EXACT=exact)


@on_both
@pytest.mark.parametrize("deterministic", [False, True])
def test_gradients_repeat(v3, deterministic):
    """All but the gradient of x, which does so if asked to; of numbers whose sums are rounded."""
    given, grad = problem(**WIDE, exact=False)
    again = partial(v3.backward, grad, given, deterministic=deterministic)
    first, right = again(), right_gradients(given, grad)
    for other in (again(), again()):
        for name, a in first.items():
            if name != "x" or deterministic:
                np.testing.assert_array_equal(a, other[name])
    for name, a in first.items():
        assert 0 < np.linalg.norm(a - right[name]) < 2e-6 * np.linalg.norm(right[name])
    assert "grad_weight" in v3.kernels
    assert ("grad_of_points" in v3.kernels) != deterministic
    assert ("grad_x_gathered" in v3.kernels) == deterministic


@pytest.mark.parametrize("v3", ["on-cpu"], indirect=True)
def test_what_falls_back_is_seen(v3):
    """What these tests would say of a device that launches no fused kernel."""
    v3.force(SMALL._replace(rows=10**6))  # which no block has room for
    assert wrong(make(), **v3.choice) == 0
    assert not v3.has("fused")
    assert "columns" in v3.kernels
