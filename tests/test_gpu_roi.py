"""RoI pooling of `gpu`: every version against the reference, bit for bit, and what a call takes."""

import warnings

import devices
import numpy as np
import pytest

from deformable_convnets import gpu, reference
from deformable_convnets.gpu import registry
from deformable_convnets.gpu.cupy_kernels import array_program, roi_program

needs_numba = pytest.mark.skipif(bool(devices.numba_missing()), reason=devices.numba_missing())
VERSIONS = [
    pytest.param("numba", "v1", marks=needs_numba),
    pytest.param("numba", "v2", marks=needs_numba),
    ("numpy", "v1"),
]
RULES = ("paper", "mxnet", "align")
SETTINGS = {
    "roi_pool": {},
    "deform_roi_pool": {"gamma": 0.25},
    "ps_roi_pool": {"group_size": (1, 2)},
    "deform_ps_roi_pool": {"gamma": 0.25, "group_size": (3, 2), "part_size": (1, 3)},
}
OUTPUT = (2, 3)
EXAMPLES = 2 if devices.simulated() else 10


@pytest.fixture(autouse=True)
def numpy_backend(monkeypatch):
    """The array program on NumPy, in the place of CuPy; a RoI or two at a time."""
    backend = registry.Backend(lambda: {"v1": array_program.operators(np)})
    monkeypatch.setitem(registry.BACKENDS, "numpy", backend)
    monkeypatch.setattr(roi_program, "NUMBERS", 200)


def problem(name, rule, dtype=np.float32, seed=0, R=4):
    """Dyadic numbers with sums that are exact: the arguments and keywords of an operator.

    RoIs on two images in any order, whole, partly outside, far outside, empty and inverted.
    """
    rng, (kh, kw) = np.random.default_rng(seed), OUTPUT
    groups, parts = SETTINGS[name].get("group_size", (1, 1)), SETTINGS[name].get("part_size")
    scale = rng.choice([0.5, 1, 2])
    size = [kw, kh] * 2.0 ** rng.integers(0, 3, (R, 2)) - (rule == "mxnet")
    size *= rng.choice([1, 1, 0, -1], (R, 2))
    start = rng.integers(-8, 12, (R, 2)) / (1 if rule == "mxnet" else 2)
    image = rng.integers(0, 2, (R, 1))
    x = rng.integers(-8, 9, (2, 4 * groups[0] * groups[1], 4, 5))
    given = {"x": x.astype(dtype), "rois": np.hstack([image, start, start + size]).astype(dtype)}
    if "deform" in name:
        offset = rng.integers(-8, 9, (R, 2 * 2, *(parts or OUTPUT))) / 4
        given["offset"] = offset.astype(dtype)
    settings = {"spatial_scale": float(scale), "bins": rule} | SETTINGS[name]
    if rule != "paper":
        settings["samples"] = int(rng.integers(1, 3))
    grad_output = rng.integers(-4, 5, (R, 4, kh, kw)).astype(dtype)
    return given, settings, grad_output


def called(name, given, settings, grad_output=None, module=gpu, **choice):
    arguments = [*given.values(), OUTPUT]
    if grad_output is None:
        return getattr(module, name)(*arguments, **settings, **choice)
    return getattr(module, f"{name}_backward")(grad_output, *arguments, **settings, **choice)


def sides(name):
    return ({"side": "right"}, {"side": "left"}) if "deform" in name else ({},)


def assert_equals_reference(name, given, settings, grad_output, backend, version):
    choice = {"backend": backend, "version": version}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # infinity times 0
        if version != "v2":
            y = called(name, given, settings, **choice)
            expected = called(name, given, settings, module=reference)
            np.testing.assert_array_equal(y, expected, strict=True)
        for side in sides(name):
            found = called(name, given, settings | side, grad_output, **choice)
            wanted = called(name, given, settings | side, grad_output, reference)
            assert type(found) is type(wanted)
            for field, grad in wanted._asdict().items():
                np.testing.assert_array_equal(getattr(found, field), grad, field, strict=True)


@pytest.mark.parametrize(("backend", "version"), VERSIONS)
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equals_the_reference(name, rule, backend, version, dtype):
    for seed in range(EXAMPLES):
        given, settings, grad_output = problem(name, rule, dtype, seed)
        assert_equals_reference(name, given, settings, grad_output, backend, version)


@pytest.mark.parametrize(("backend", "version"), VERSIONS)
@pytest.mark.parametrize("rule", RULES)
def test_offsets_that_are_not_finite(rule, backend, version):
    """NaN makes NaN of its bins and of its gradient, and none of x; infinity reads nothing."""
    given, settings, grad_output = problem("deform_roi_pool", rule)
    given["offset"].flat[[1, 10, 20, 30, 40]] = np.nan, np.inf, -np.inf, 1e30, -1e30
    assert_equals_reference("deform_roi_pool", given, settings, grad_output, backend, version)
    grads = called(
        "deform_roi_pool", given, settings, grad_output, backend=backend, version=version
    )
    assert np.isnan(grads.offset).any()
    assert np.isfinite(grads.x).all()


@pytest.mark.parametrize(("backend", "version"), VERSIONS)
@pytest.mark.parametrize("name", SETTINGS)
def test_no_rois_and_huge_rois(name, backend, version):
    given, settings, grad_output = problem(name, "paper", R=0)
    assert_equals_reference(name, given, settings, grad_output, backend, version)
    given, settings, grad_output = problem(name, "align", R=1)
    given["rois"][0, 1:] = -1e9, 2.0**30, 2.0**30, 1e9
    if "offset" in given:
        given["offset"][:] = 0
    assert_equals_reference(name, given, settings, grad_output, backend, version)


@pytest.mark.parametrize(("backend", "version"), VERSIONS)
def test_float16_with_rois_and_offsets_in_float32(backend, version):
    given, settings, grad_output = problem("deform_roi_pool", "align")
    given["x"], grad_output = given["x"].astype(np.float16), grad_output.astype(np.float16)
    assert_equals_reference("deform_roi_pool", given, settings, grad_output, backend, version)


@pytest.mark.parametrize("backend", [pytest.param("numba", marks=needs_numba), "numpy"])
@pytest.mark.parametrize("name", SETTINGS)
def test_wrt_and_no_offset(name, backend):
    given, settings, grad_output = problem(name, "align")
    expected = called(name, given, settings, grad_output, reference)
    for field in expected._fields:
        grads = called(name, given, settings, grad_output, backend=backend, wrt=field)
        assert [f for f in grads._fields if getattr(grads, f) is not None] == [field]
        np.testing.assert_array_equal(getattr(grads, field), getattr(expected, field))
    if "offset" in given:
        given["offset"] = None
        settings.pop("part_size", None)
        assert_equals_reference(name, given, settings, grad_output, backend, "v1")
        assert called(name, given, settings, grad_output, backend=backend).offset is None


@needs_numba
def test_deterministic_takes_v1():
    versions = registry.BACKENDS["numba"].versions()
    for name in SETTINGS:
        for deterministic, expected in ((False, "v2"), (True, "v1")):
            choice = registry.Choice("numba", None, "exact", deterministic)
            chosen = registry.choose(choice, f"{name}_backward")[1]
            assert chosen is versions[expected][f"{name}_backward"]


@needs_numba
def test_arrays_of_numba_come_back():
    """The RoIs of a device array are checked by value too."""
    from numba import cuda

    given, settings, _ = problem("deform_roi_pool", "align")
    expected = called("deform_roi_pool", given, settings, module=reference)
    taken = {name: cuda.to_device(np.asfortranarray(a)) for name, a in given.items()}
    y = called("deform_roi_pool", taken, settings, backend="numba")
    assert type(y) is type(taken["x"])
    np.testing.assert_array_equal(y.copy_to_host(), expected, strict=True)
    given["rois"][1, 0] = 2
    taken["rois"] = cuda.to_device(given["rois"])
    with pytest.raises(ValueError, match=r"rois\[1, 0\] is 2, expected a batch index"):
        called("deform_roi_pool", taken, settings, backend="numba")


BAD = [
    {"x": None},
    {"rois": None},
    {"rois": [[0, 1, 1, 2, 2]]},
    {"rois": np.ones((4, 4), np.float32)},
    {"rois": np.full((4, 5), 2, np.float32)},
    {"rois": np.full((4, 5), np.nan, np.float32)},
    {"rois": np.ones((4, 5), np.float64)},
    {"offset": np.ones((4, 3, 1, 3), np.float32)},
    {"offset": np.ones((4, 4, 2, 3), np.float32)},
    {"group_size": 7},
    {"part_size": 0},
    {"bins": "round"},
    {"samples": 0},
    {"gamma": np.inf},
    {"spatial_scale": -1},
]


@pytest.mark.parametrize("change", BAD, ids=lambda change: next(iter(change)))
@pytest.mark.parametrize("backward", [False, True])
def test_messages_are_those_of_the_reference(change, backward):
    name = "deform_ps_roi_pool"
    given, settings, grad_output = problem(name, "align")
    for key, value in change.items():
        (given if key in given else settings)[key] = value
    before = grad_output if backward else None
    with pytest.raises((ValueError, TypeError)) as expected:
        called(name, given, settings, before, reference)
    with pytest.raises(expected.type) as found:
        called(name, given, settings, before, backend="numpy")
    assert str(found.value) == str(expected.value)


class OnCPU:
    """Has DLPack, on the CPU, and is no array that anyone knows."""

    def __init__(self, a):
        self.a, self.shape, self.dtype = a, a.shape, a.dtype

    def __dlpack_device__(self):
        return self.a.__dlpack_device__()

    def __dlpack__(self, **keywords):
        return self.a.__dlpack__(**keywords)


def test_rois_that_are_not_numpys_are_checked_by_value():
    given, settings, _ = problem("roi_pool", "paper")
    expected = called("roi_pool", given, settings, module=reference)
    wrapped = {name: OnCPU(a) for name, a in given.items()}
    y = called("roi_pool", wrapped, settings, backend="numpy")
    np.testing.assert_array_equal(y, expected, strict=True)
    given["rois"][2, 3] = np.inf
    with pytest.raises(ValueError, match=r"rois\[2, 3\] is inf, expected a finite number"):
        called("roi_pool", wrapped, settings, backend="numpy")
