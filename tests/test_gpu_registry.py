"""The choice of an implementation, and every registered one against the reference, briefly."""

import inspect

import numpy as np
import pytest
from implementations import ENTRIES

from deformable_convnets import gpu, reference
from deformable_convnets.gpu import bench, registry

ROI_OPERATORS = ("roi_pool", "deform_roi_pool", "ps_roi_pool", "deform_ps_roi_pool")
OPERATORS = [
    f"{name}{b}"
    for name in ("sample", "conv2d", "deform_conv2d", *ROI_OPERATORS)
    for b in ("", "_backward")
]
VOLUMES = ["deform_conv3d", "deform_conv3d_backward"]  # of Numba alone
VERSIONS = {"numba": ("v1", "v2"), "numpy": ("v1",)}


@pytest.fixture(autouse=True)
def numba_runs(runnable):
    """Beside Numba is the array program on NumPy, in the place of CuPy."""
    runnable(ENTRIES["numba v1"])


@pytest.mark.parametrize("backend", VERSIONS)
def test_what_is_registered(backend):
    versions = registry.BACKENDS[backend].versions()
    assert tuple(versions) == VERSIONS[backend]
    known = OPERATORS + VOLUMES if backend == "numba" else OPERATORS
    assert sorted(versions["v1"]) == sorted(known)
    for operators in versions.values():
        assert set(operators) <= set(known)
        for name, version in operators.items():
            keywords = inspect.signature(version.run).parameters
            assert ("wrt" in keywords) == name.endswith("_backward")


def test_the_default_is_the_last_version():
    for operator, expected in (("conv2d", "v1"), ("deform_conv2d", "v2")):
        versions = registry.BACKENDS["numba"].versions()
        choice = registry.Choice("numba", None, "exact")
        assert registry.choose(choice, operator)[1] is versions[expected][operator]


def test_deterministic_takes_a_version_without_atomics():
    versions = registry.BACKENDS["numba"].versions()
    choice = registry.Choice("numba", None, "exact", deterministic=True)
    for operator in ("sample_backward", "deform_conv2d_backward"):
        assert not versions["v2"][operator].deterministic
        assert registry.choose(choice, operator)[1] is versions["v1"][operator]


def test_deterministic_takes_a_backend_that_has_it(monkeypatch):
    """Where CuPy could run, which comes first otherwise."""
    monkeypatch.setitem(registry.BACKENDS, "cupy", registry.BACKENDS["numpy"])
    monkeypatch.setattr(registry.arrays, "simulated", lambda: False)
    for deterministic, expected in ((False, "cupy"), (True, "numba")):
        choice = registry.Choice(None, None, "exact", deterministic)
        backend, _ = registry.choose(choice, "deform_conv2d_backward")
        assert backend is registry.BACKENDS[expected]


def test_a_version_takes_a_backend_that_has_it(monkeypatch):
    """Where CuPy could run, which comes first otherwise."""
    monkeypatch.setitem(registry.BACKENDS, "cupy", registry.BACKENDS["numpy"])
    monkeypatch.setattr(registry.arrays, "simulated", lambda: False)
    for version, expected in (("v1", "cupy"), ("v2", "numba"), (None, "cupy")):
        choice = registry.Choice(None, version, "exact")
        backend, _ = registry.choose(choice, "deform_conv2d")
        assert backend is registry.BACKENDS[expected]
    choice = registry.Choice(None, "v2", "exact", deterministic=True)
    with pytest.raises(ValueError, match="not repeatable in 'v2' of 'numba'"):
        registry.choose(choice, "deform_conv2d_backward")
    choice = registry.Choice(None, "v1", "exact", deterministic=True)
    assert registry.choose(choice, "deform_conv2d_backward")[0] is registry.BACKENDS["numba"]
    with pytest.raises(ValueError, match="version is 'v2', expected 'v1' for conv2d of 'cupy'"):
        registry.choose(registry.Choice(None, "v2", "exact"), "conv2d")


def test_deterministic_without_the_gradient_of_x_takes_any():
    a, offset = np.ones((1, 1, 1, 1), np.float32), np.ones((1, 2, 1, 1), np.float32)
    grads = gpu.deform_conv2d_backward(
        a, a, offset, a, backend="numpy", deterministic=True, wrt=("offset", "weight")
    )
    assert grads.x is None


def test_deterministic_gradient_repeats():
    """On numbers that round, v1 gives the same bits in every run."""
    rng = np.random.default_rng(0)
    x, offset, weight, grad_output = (
        rng.normal(size=s).astype(np.float32)
        for s in ((1, 2, 5, 5), (1, 18, 5, 5), (2, 2, 3, 3), (1, 2, 5, 5))
    )
    runs = [
        gpu.deform_conv2d_backward(
            grad_output, x, offset, weight, padding=1, backend="numba", wrt="x", deterministic=True
        ).x
        for _ in range(2)
    ]
    np.testing.assert_array_equal(*runs)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"backend": "tpu"}, "backend is 'tpu', expected 'cupy', 'numba'"),
        (
            {"backend": "numba", "version": "v9"},
            "version is 'v9', expected 'v1' or 'v2' for deform",
        ),
        ({"precision": "tf16"}, "precision is 'tf16', expected 'exact' or 'tf32'"),
        (
            {"backend": "numba", "precision": "tf32"},
            "no version of deform_conv2d_backward of 'numba' does what is asked for: 'v1' has no"
            " precision 'tf32'; 'v2' has no precision 'tf32'",
        ),
        (
            {"backend": "numba", "version": "v1", "workspace_limit": 2**20},
            "'numba' does what is asked for: 'v1' has no workspace_limit",
        ),
        ({"workspace_limit": 0}, "workspace_limit is 0, expected bytes, 1 or more, or None"),
        ({"backend": "numba", "version": "v2", "deterministic": True}, "not repeatable in 'v2' of"),
        ({"backend": "numpy", "deterministic": True}, "not repeatable in 'v1' of 'numpy'"),
    ],
)
def test_choices_that_do_not_exist(keywords, message):
    a = np.ones((1, 1, 1, 1), np.float32)
    with pytest.raises(ValueError, match=message):
        gpu.deform_conv2d_backward(a, a, np.ones((1, 2, 1, 1), np.float32), a, **keywords)


WRONG_KINDS = [
    ({"backend": "tpu"}, ValueError, "backend is 'tpu', expected 'cupy', 'numba'"),
    ({"backend": ["numba"]}, ValueError, r"backend is \['numba'\], expected 'cupy', 'numba'"),
    ({"version": ["v1"]}, ValueError, r"version is \['v1'\], expected a name such as 'v1' or None"),
    ({"version": 1}, ValueError, "version is 1, expected a name such as 'v1' or None"),
    ({"precision": ["exact"]}, ValueError, r"precision is \['exact'\], expected 'exact'"),
    ({"workspace_limit": 1.5}, ValueError, "workspace_limit is 1.5, expected bytes, 1 or more"),
    ({"workspace_limit": True}, ValueError, "workspace_limit is True, expected bytes, 1 or more"),
    ({"deterministic": 1}, TypeError, "deterministic is 1, expected True or False"),
    ({"deterministic": None}, TypeError, "deterministic is None, expected True or False"),
]


@pytest.mark.parametrize("wrt", [None, (), "bias"])
@pytest.mark.parametrize(("keywords", "error", "message"), WRONG_KINDS)
def test_choices_are_checked_whatever_is_wanted(keywords, error, message, wrt):
    a = np.ones((1, 1, 1, 1), np.float32)
    with pytest.raises(error, match=message):
        gpu.conv2d_backward(a, a, a, wrt=wrt, **keywords)


def test_version_that_lacks_an_operator():
    a = np.ones((1, 1, 1, 1), np.float32)
    with pytest.raises(ValueError, match="version is 'v2', expected 'v1' for conv2d of 'numba'"):
        gpu.conv2d(a, a, backend="numba", version="v2")


@pytest.mark.parametrize(("backend", "version"), [(b, v) for b in VERSIONS for v in VERSIONS[b]])
@pytest.mark.parametrize("border", ["zero", "dcnv1"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equals_the_reference(backend, version, border, dtype):
    """Groups, a mask, kinks, the border, NaN and infinity, bit for bit."""
    rng = np.random.default_rng(0)

    def draw(*size, scale=1):
        return (rng.integers(-8, 9, size) / scale).astype(dtype)

    given = {
        "x": draw(2, 4, 4, 6), "offset": draw(2, 2 * 2 * 6, 2, 5, scale=4),
        "weight": draw(6, 2, 3, 2), "bias": draw(6), "mask": draw(2, 2 * 6, 2, 5, scale=4),
        "stride": (2, 1), "padding": ((1, 0), (0, 2)), "dilation": (1, 3), "border": border,
    }  # fmt: skip
    given["offset"].flat[[3, 50, 90, 130]] = np.nan, np.inf, -np.inf, 1e30
    choice = {"backend": backend, "version": version}
    expected = reference.deform_conv2d(**given)
    y = gpu.deform_conv2d(**given, **choice)
    np.testing.assert_array_equal(y, expected, strict=True)
    assert np.isnan(y).any()
    for side in ("right", "left"):
        grad_output = draw(*y.shape)
        wanted = reference.deform_conv2d_backward(grad_output, **given, side=side)
        found = gpu.deform_conv2d_backward(grad_output, **given, side=side, **choice)
        for name in wanted._fields:
            np.testing.assert_array_equal(
                getattr(found, name), getattr(wanted, name), name, strict=True
            )


def test_launches_of_few_threads_are_no_mistake():
    """Numba would warn of each one; the setting is made where Numba is imported."""
    from numba import config

    registry.BACKENDS["numba"].versions()
    assert config.CUDA_LOW_OCCUPANCY_WARNINGS == 0


def test_bench_runs_at_toy_size(tmp_path, capsys, monkeypatch):
    monkeypatch.delitem(registry.BACKENDS, "numba-on-cpu")  # compiled for a minute
    assert bench.main(["--toy", "--repeats", "1", "--output", str(tmp_path / "toy.json")]) == 0
    record = (tmp_path / "toy.json").read_text()
    assert '"numba v2"' in record
    assert "every version equals the reference" in capsys.readouterr().out
