"""The fused kernel of CUDA C++, unmodified, on the CPU: exact problems, laws, falling back.

Its sums are made by tensor cores that keep 24 bits and cut off the rest (tests/cuda_on_cpu), and
its copies as late as they may be. Mutants are in test_cuda_fused_mutants.
"""

import numpy as np
import pytest
from cuda_on_cpu import builds
from fused_on_cpu import (
    SHAPE,
    SMALL,
    TWO_WARPS,
    Counting,
    arguments,
    lifted,
    make,
    offer,
    with_mask,
    wrong,
)  # fmt: skip

from deformable_convnets import gpu, reference
from deformable_convnets.gpu.cupy_kernels import fused
from deformable_convnets.gpu.cupy_kernels.tiles import TILES
from deformable_convnets.reference.oracle import bounds, problems, verify
from deformable_convnets.reference.oracle.shapes import Shape

bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
KINDS = {  # the keywords of a call, and families whose samples its products hold
    "exact": ({}, ("base", "kinks", "wide-x", "wide-w", "edge", "huge")),
    "tf32": ({"precision": "tf32"}, ("narrow", "edge")),
    "float16": ({"dtype": np.float16}, ("base", "kinks", "edge")),
    "bfloat16": ({"dtype": bfloat16, "positions": np.float32}, ("narrow",)),
}


@pytest.fixture(autouse=True)
def needs_gxx():
    if builds.missing():
        pytest.skip(builds.missing())


@pytest.fixture
def on(monkeypatch):
    """A function that offers the kernel on a device with these options; returns the device."""
    return lambda **options: offer(monkeypatch, Counting(**options))


@pytest.mark.parametrize("border", ["zero", "dcnv1"])
@pytest.mark.parametrize("kind", KINDS)
def test_exact_problems_are_exact(on, kind, border):
    """Groups, offset groups, a mask, a bias, stride, dilation and padding that is not the same."""
    device, (keywords, families) = on(processors=40), KINDS[kind]
    shape = SHAPE.limited(channels=32) if kind.endswith("16") else SHAPE  # two steps, two sums
    for family in families:
        p = make(family, shape, seed=1, border=border)
        assert wrong(with_mask(p) if family == "base" else p, **keywords) == 0, family
    assert set(device.kernels) >= {"pack", "fused", "add_sums"}
    assert "columns" not in device.kernels


@pytest.mark.parametrize("order", [0, 1, 6])
@pytest.mark.parametrize("kind", KINDS)
def test_any_order_of_threads(on, kind, order):
    """Watched: no races, nothing out of bounds, no copy that is used before it is waited for."""
    keywords, families = KINDS[kind]
    on(order=order, watched=True, processors=40)
    assert wrong(make(families[0], seed=2), **keywords) == 0


@pytest.mark.parametrize("options", [
    {"tiles": (TWO_WARPS,)}, {"tiles": (TWO_WARPS,), "processors": 100}, {"specialises": True},
])  # fmt: skip
def test_other_tiles(on, options):
    on(watched=True, **options)
    assert wrong(make("wide-x")) + wrong(with_mask(make())) == 0


@pytest.mark.parametrize(("operands", "tile"), [(n, t) for n in TILES for t in TILES[n]], ids=str)
def test_the_tiles_of_a_gpu(on, operands, tile):
    """Blocks of 256 threads, with more than one tile in each direction, as a GPU has them."""
    on(tiles=(tile,), specialises=True)
    shape = Shape(N=2, channels=16, outputs=tile.columns + 3, kernel=(1, 2), at_least=(7, 10))
    precision = {1: "tf32", 2: "exact"}[operands]
    assert wrong(make("narrow" if operands == 1 else "wide-w", shape), precision=precision) == 0


@pytest.mark.parametrize("channels", [8, 16, 24])
def test_steps_of_32_bytes_and_one_step(on, channels):
    device = on(watched=True)
    shape = Shape(N=1, channels=channels, outputs=3, kernel=(1, 1), at_least=(3, 5))
    assert wrong(make(shape=shape)) == 0
    assert "fused" in device.kernels


@pytest.mark.parametrize("border", ["zero", "dcnv1"])
def test_points_that_are_not_numbers(on, border):
    """NaN, infinite and huge coordinates: what the staged kernels make of them."""
    on(watched=True)
    p = make(border=border)
    p = p.with_(offset=problems.strange_numbers(3, p.offset))
    y = gpu.deform_conv2d(**arguments(p), backend="fused")
    np.testing.assert_array_equal(y, reference.deform_conv2d(**arguments(p)))
    assert np.isnan(y).any()
    assert np.isfinite(y).any()


def test_the_laws_of_a_forward(on):
    """Every law of the operator, on all shapes of the oracle: channels are multiplied by eight."""
    device = on()

    def call(*arrays, **options):
        return gpu.deform_conv2d(*arrays, **options, backend="fused")

    report = verify(lifted(call), dtype="float32", border=("zero", "dcnv1"), examples=6)
    report.assert_ok()
    assert device.kernels.count("fused") > 80
    assert device.kernels.count("columns") > 0  # maps of one row or column


@pytest.mark.parametrize("outputs", [10, 9])
@pytest.mark.parametrize("processors", [1, 40])
def test_channels_last_is_used_as_it_is(on, processors, outputs):
    """Then nothing is copied but the weights, and y is channels last too."""
    p = make(shape=SHAPE.limited(outputs=outputs))
    expected = reference.deform_conv2d(**arguments(p))
    device = on(processors=processors, watched=True)
    last = np.ascontiguousarray(p.x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    w = np.ascontiguousarray(p.weight.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    y = gpu.deform_conv2d(**arguments(p) | {"x": last, "weight": w}, backend="fused")
    np.testing.assert_array_equal(y, expected)
    assert y.transpose(0, 2, 3, 1).flags.c_contiguous
    assert device.kernels == ["pack", "fused", "add_sums"][: 2 + (processors > 1)]


def test_few_bytes_take_an_image_at_a_time(on):
    device = on(processors=40)
    assert wrong(make(), workspace_limit=1) == 0
    assert device.kernels.count("fused") == SHAPE.N
    assert device.kernels.count("add_sums") == 0


def ordinary(seed=0):
    rng = np.random.default_rng(seed)
    shape = Shape(N=1, channels=64, outputs=24, kernel=(3, 3), padding=((1, 1), (1, 1)),
                  at_least=(6, 7))  # fmt: skip
    p = make(shape=shape)
    return p.with_(
        x=rng.normal(size=p.x.shape).astype("f4"), bias=None, mask=None,
        weight=rng.normal(size=p.weight.shape).astype("f4"),
        offset=rng.normal(0, 2, p.offset.shape).astype("f4"),
    )  # fmt: skip


def error(p, **options):
    """The error of y in the 2-norm, and the largest as a part of the derived bound."""
    exact = reference.deform_conv2d(**arguments(p, np.float64))
    y = gpu.deform_conv2d(**arguments(p), backend="fused", **options)
    bound = bounds.tolerances(p, "float32").y
    return np.linalg.norm(y - exact) / np.linalg.norm(exact), (abs(y - exact) / bound).max()


def test_ordinary_floats_are_within_the_bound_of_float32(on):
    """The bound of the oracle, element by element; the promise in the 2-norm; TF32 keeps neither.

    Two numbers of TF32 hold 22 bits of a factor, and lo lo is left out: 3 / 2**22 of a product.
    """
    on(tiles=(TWO_WARPS,))
    norm, part = error(ordinary())
    assert norm < 3 * 2.0**-22
    assert part < 1
    norm, _ = error(ordinary(), precision="tf32")
    assert norm > 2e-5


def test_results_repeat_bit_for_bit(on):
    """Whatever the order of threads and blocks, the order of each sum is the same."""
    found = []
    for order in (0, 1, 9):
        device = on(order=order, processors=40, tiles=(SMALL, TWO_WARPS))
        found.append(gpu.deform_conv2d(**arguments(ordinary()), backend="fused"))
        assert "add_sums" in device.kernels
    for other in found[1:]:
        np.testing.assert_array_equal(found[0], other)


ODD = {
    "float64": ({"dtype": np.float64}, SHAPE),
    "seven channels": ({}, Shape(channels=7, outputs=3, kernel=(3, 3), at_least=(4, 4))),
    "eight of 16 bits": ({"dtype": np.float16}, Shape(channels=8, outputs=3, at_least=(4, 4))),
    "offset groups of four": ({}, Shape(channels=4, G=4, outputs=2, at_least=(3, 3))),
    "one row": ({}, Shape(channels=16, outputs=3, kernel=(1, 3), at_least=(1, 4))),
    "one column": ({}, Shape(channels=16, outputs=3, kernel=(3, 1), at_least=(4, 1))),
    "too many taps": ({}, Shape(channels=16, outputs=3, kernel=(18, 19), padding=((9, 9), (9, 9)),
                                at_least=(2, 3))),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_what_does_not_fit_falls_back(on, name):
    keywords, shape = ODD[name]
    device, p = on(), make(shape=shape)
    if name == "too many taps":
        p = p.with_(offset=np.zeros_like(p.offset))
    assert wrong(p, **keywords) == 0
    assert "columns" in device.kernels
    assert "fused" not in device.kernels


def test_fits_says_what_runs(on):
    device = on()
    for keywords, shape in [*ODD.values(), ({}, SHAPE), ({"dtype": np.float16}, SHAPE)]:
        p, runs = make(shape=shape), shape is SHAPE and keywords.get("dtype") != np.float64
        given = arguments(p, keywords.get("dtype"))
        at = reference.checks.check_deform_conv2d(
            *(given[n] for n in ("x", "offset", "weight", "bias", "stride", "padding", "dilation",
                                 "mask", "border"))
        )  # fmt: skip
        found = fused.fits(device, given["x"], given["offset"], given["weight"], geometry=at)
        assert found == runs


def test_a_plain_convolution(on):
    device, p = on(), make(shape=Shape(N=2, channels=16, outputs=5, kernel=(3, 3), at_least=(4, 5)))
    y = gpu.conv2d(p.x, p.weight, p.bias, padding=1, backend="fused")
    np.testing.assert_array_equal(y, reference.conv2d(p.x, p.weight, p.bias, padding=1))
    assert device.kernels[-1] == "fused"
