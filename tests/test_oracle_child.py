"""An implementation in a process of its own: what arrives, and what is said where nothing does."""

import gc
import inspect
import os
import shutil
import signal
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deformable_convnets import reference
from deformable_convnets.reference.oracle import child, problems
from deformable_convnets.reference.oracle.child import CannotStart, Child, Remote
from deformable_convnets.reference.oracle.failures import Failed, NotSupported
from deformable_convnets.reference.oracle.peers import arrays
from deformable_convnets.reference.oracle.peers.serve import poison

X = np.arange(12.0).reshape(3, 4)
MODULE = """
import numpy as np

def forward(image, points, *, border="zero"):
    if border == "dcnv1":
        raise NotImplementedError("the dcnv1 border")
    print("much" * 1_000_000)
    return image.sum(axis=(1, 2))[:, None] * np.ones(len(points), image.dtype)

def backward(grad_output, image, points, *, border="zero", side="right"):
    return 2 * image, points
"""


def sampled(x: Any, p: Any, *, border: str = "zero") -> Any:
    """What `border` names is done to the process, as if it were a bug."""
    if border == "raise":
        raise ZeroDivisionError("no room")
    if border == "hang":
        time.sleep(60)
    if border == "kill":
        os.kill(os.getpid(), signal.SIGSEGV)
    if border == "exit":
        os._exit(3)
    if border == "leave":
        sys.exit(4)
    if border == "lack":
        raise NotImplementedError("the dcnv1 border")
    if border == "write":
        x[0, 0] = 100
    results = {"list": [1.0], "none": None, "float": 1.0, "objects": np.array([{}])}
    return results.get(border, x)


@pytest.fixture(scope="module")
def running() -> Any:
    with Child({"sample": sampled}, name="sampled", time_limit=1) as started:
        yield started


def call(running: Child, border: str, x: Any = X) -> Any:
    return running.call("sample", {"x": x, "p": X, "border": border})


@pytest.mark.parametrize(
    ("border", "kind", "message"),
    [
        ("raise", "raised", r"sample raised ZeroDivisionError: no room  \[.*test_oracle_child.py:"),
        ("hang", "hung", "^sample did not return within 1 s$"),
        ("kill", "died", r"^sample: the process ended with signal 11 \(SIGSEGV\): File .*sampled$"),
        ("exit", "died", "^sample: the process ended with status 3$"),
        ("leave", "raised", "sample raised SystemExit: 4"),
        ("list", "type", "^sample returned a list, expected a NumPy array$"),
        ("none", "type", "^sample returned a NoneType, expected a NumPy array$"),
        ("float", "type", "^sample returned a float, expected a NumPy array$"),
        ("objects", "type", "^sample returned an array of dtype object, expected a NumPy array$"),
    ],
)
def test_a_failure_is_told(running: Child, border: str, kind: str, message: str) -> None:
    with pytest.raises(Failed, match=message) as failure:
        call(running, border)
    assert failure.value.kind == kind
    assert (call(running, "zero") == X).all()


def test_what_is_not_implemented_is_no_failure(running: Child) -> None:
    with pytest.raises(NotSupported) as lacking:
        call(running, "lack")
    assert lacking.value.lacks == ("the dcnv1 border",)


def test_what_is_written_to_an_argument_is_seen(running: Child) -> None:
    x = X.copy()
    call(running, "zero", x)
    assert (x == X).all()
    call(running, "write", x)
    assert x[0, 0] == 100
    x.flags.writeable = False
    with pytest.raises(Failed, match="read-only"):
        call(running, "write", x)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f8", "int64", "bool"])
def test_arrays_arrive_right(running: Child, dtype: str) -> None:
    rng = np.random.default_rng(0)
    whole = rng.integers(0, 9, (4, 6, 2)).astype(dtype)
    for x in (whole, whole.T, whole[::2, 1::3], whole[:0], np.array(whole[0, 0, 0])):
        y = call(running, "zero", x)
        assert (y.dtype, y.shape) == (x.dtype, x.shape)
        assert (y == x).all()
    odd = np.array([np.nan, np.inf, -0.0])
    assert call(running, "zero", odd).tobytes() == odd.tobytes()


def test_strides_and_protection_arrive() -> None:
    def flags(x: Any, p: Any) -> Any:
        return np.array([x.flags.c_contiguous, x.flags.writeable])

    protected = X.copy()
    protected.flags.writeable = False
    with Child({"sample": flags}) as running:
        for x in (X, X.T, X[:, ::2], protected):
            told = running.call("sample", {"x": x, "p": X})
            assert told.tolist() == [x.flags.c_contiguous, x.flags.writeable]


def test_memory_that_was_never_written_differs_between_two_calls() -> None:
    def forgets(x: Any, p: Any) -> Any:
        return np.empty(np.add(x.shape, 1), x.dtype)

    with Child({"sample": forgets}) as running:
        for x in (X, X.astype("f4")):
            _, a, b = (running.call("sample", {"x": x, "p": X}).ravel() for _ in range(3))
            values = {value.item() for value in np.concatenate([a, b]) if np.isfinite(value)}
            assert np.isnan(a).any() != np.isnan(b).any()
            assert x.dtype.type(1e30).item() in values
    poison([((3,), np.dtype("f2")), ((), np.dtype("i4"))], 1e30)


def test_gradients_are_told_by_name() -> None:
    problem = problems.some(1, "base", dtype="float64")[0]
    about = {"x": problem.x, "offset": problem.offset, "weight": problem.weight,
             "bias": problem.bias, "mask": problem.mask, **problem.options,
             "grad_output": problem.grad_output}  # fmt: skip
    right = reference.deform_conv2d_backward

    def given(*args: Any, **options: Any) -> Any:
        return tuple(a for a in right(*args, **options) if a is not None)

    def some(*args: Any, **options: Any) -> Any:
        return {"x": right(*args, **options).x}

    for function, expected in ((right, 5), (given, 5), (some, 1), (partial(right), 5)):
        with Child({"deform_conv2d_backward": function}) as running:
            grads = running.function("deform_conv2d_backward")(**about)
        assert len(grads) == expected or function is given
        for name, grad in grads.items():
            wanted = getattr(right(**about), name)
            assert grad is wanted is None or (grad == wanted).all()
    with pytest.raises(Failed, match="tuple of 2, expected gradients of x, offset, weight, bias"):
        child.named("deform_conv2d_backward", (X, X), {})


def test_a_callable_is_imported_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kernels.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    targets = {"sample": "kernels:forward", "sample_backward": "kernels:backward"}
    with Child(targets) as running:
        assert running.operators == ["sample", "sample_backward"]
        sample, backward = map(running.function, running.operators)
        assert sample(np.ones((2, 3, 4)), np.zeros((5, 2))).tolist() == [[12.0] * 5] * 2
        with pytest.raises(NotSupported, match="the dcnv1 border"):
            sample(np.ones((2, 3, 4)), np.zeros((5, 2)), border="dcnv1")
        grads = backward(np.ones((2, 5)), np.ones((2, 3, 4)), np.zeros((5, 2)))
        assert (grads["x"] == 2).all()
        assert grads["p"].shape == (5, 2)
    with Child({"sample": f"{tmp_path}/kernels.py:forward"}, arrays="numpy") as running:
        assert set(running.versions) == {"python", "numpy"}
        with pytest.raises(Failed, match=r"kernels.py:8\]$"):
            running.call("sample", {"x": X, "p": X})


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ({"sample": "missing:forward"}, {}, "no module named 'missing' in "),
        (
            {"sample": "json:forward"},
            {},
            "AttributeError: module 'json' has no attribute 'forward'",
        ),
        (
            {"sample": "json:loads"},
            {"arrays": "rope"},
            "ValueError: arrays is 'rope', expected one",
        ),
        ("no_child", {}, "no: no module named 'oracle_peers.no_child'"),
        ({"sample": "json:loads"}, {"python": "/no/python"}, "cannot run /no/python: No such file"),
        ({"sample": "json:loads"}, {"python": shutil.which("false")}, "ended with status 1; do so"),
    ],
)
def test_what_cannot_start_says_why(target: Any, options: Any, message: str) -> None:
    with pytest.raises(CannotStart, match=message):
        Child(target, **options, hint="do so")


def test_a_process_ends_with_its_child() -> None:
    with Child({"sample": sampled}) as left:
        process = left.process
    running = Child({"sample": sampled})
    kept = running.process
    remote: Any = Remote(running, "sample")
    assert (remote(X, X) == X).all()
    child.close([remote, len])
    assert process.returncode is not None
    assert kept.returncode is not None
    assert (remote(X, X) == X).all()
    again = running.process
    del running, remote
    gc.collect()
    assert again.returncode is not None


def test_the_signature_is_that_of_the_callable() -> None:
    def sample(image: Any, p: Any, *others: Any, border: str = "zero") -> Any:
        return image

    with Child({"sample": sample, "conv2d": max}) as running:
        own = inspect.signature(running.function("sample")).parameters
        assert [(p.name, p.kind) for p in own.values()] == [
            (p.name, p.kind) for p in inspect.signature(sample).parameters.values()
        ]
        assert "keywords" in inspect.signature(running.function("conv2d")).parameters


def test_a_call_is_timed_in_the_process(running: Child) -> None:
    seconds = running.timer("sample", {"x": X, "p": X})
    assert 0 < seconds() < 1
    with pytest.raises(Failed, match="did not return"):
        running.timer("sample", {"x": X, "p": X, "border": "hang"})()


def test_forks_beside_a_thread_warn_of_nothing() -> None:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    with Child({"sample": sampled}) as running:
        assert (call(running, "zero") == X).all()
    stop.set()
    thread.join()


@pytest.mark.parametrize("name", ["numpy", "torch", "jax"])
def test_arrays_of_other_libraries(name: str) -> None:
    pytest.importorskip(name, reason=f"{name} is in no extra")
    kind = arrays.of(name)
    for a in (X, X.T, X[:, ::2].astype("f4"), X[:0]):
        assert (kind.back(kind.to(a)) == a).all()
        assert kind.back(kind.to(a)).dtype == a.dtype
    both = kind.wrapped(lambda x, *, k: (x + k, {"not": "an array"}))(X, k=1)
    assert (both[0] == X + 1).all()
    assert kind.back({"x": kind.to(X)}).keys() == {"x"}
