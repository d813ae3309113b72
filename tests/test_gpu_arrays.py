"""Where the arrays of a call are, on which stream, and arrays that have no more than a protocol.

Stand-ins say that they are on a GPU, so that the choice of place and stream is tested without one.
"""

import sys
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
from implementations import ENTRIES

from deformable_convnets import gpu, reference
from deformable_convnets.gpu import arrays


def small():
    """x and weight of a conv2d; dyadic numbers, so that any order of summation agrees."""
    rng = np.random.default_rng(0)
    shapes = {"x": (1, 2, 4, 5), "weight": (2, 2, 2, 2)}
    return {name: (rng.integers(-8, 9, s) / 4).astype(np.float32) for name, s in shapes.items()}


class OnGPU:
    """Says that it is on a GPU, and has no memory to show: enough to be refused, or not."""

    def __init__(self, a, number=None, stream=None):
        self.__cuda_array_interface__ = {
            "shape": a.shape, "typestr": a.dtype.str, "data": (0, False), "version": 3,
            "stream": stream,
        }  # fmt: skip
        self.number = number


class OnNumberedGPU(OnGPU):
    def __dlpack_device__(self):
        return 2, self.number


class OnlyDLPack:
    """No shape and no dtype: all that is known of it is in its DLPack, on the CPU."""

    def __init__(self, a):
        self.a = a

    def __dlpack_device__(self):
        return self.a.__dlpack_device__()

    def __dlpack__(self, **keywords):
        return self.a.__dlpack__(**keywords)


class OnCPU(OnlyDLPack):
    """DLPack on the CPU beside a shape and a dtype, and no array that anyone knows."""

    def __init__(self, a):
        self.a, self.shape, self.dtype = a, a.shape, a.dtype


class OnlyDLPackOfGPU(OnlyDLPack):
    def __dlpack_device__(self):
        return 2, 0


class Unreadable(OnlyDLPack):
    def __dlpack__(self, **keywords):
        raise BufferError("it holds bfloat16")


def test_arrays_of_numba_in_two_places(runnable):
    runnable(ENTRIES["numba v1"])
    from numba import cuda

    given = small()
    given["weight"] = cuda.to_device(given["weight"])
    with pytest.raises(ValueError, match=r"x on the CPU, weight on cuda:0, .* in one  \[x \("):
        gpu.conv2d(**given, backend="numba")


@pytest.mark.parametrize(
    ("weight", "places"),
    [
        (OnGPU, "x on the CPU, weight on a GPU"),
        (lambda a: OnNumberedGPU(a, 1), "x on the CPU, weight on cuda:1"),
    ],
)
def test_arrays_in_two_places(weight, places):
    given = small()
    with pytest.raises(ValueError, match="different places") as caught:
        gpu.conv2d(given["x"], weight(given["weight"]), backend="numpy")
    assert str(caught.value) == (
        f"the arrays are in different places, {places}, expected all in one"
        "  [x (1, 2, 4, 5), weight (2, 2, 2, 2)]"
    )


def test_arrays_on_two_gpus():
    x, weight = (OnNumberedGPU(a, i) for i, a in enumerate(small().values()))
    with pytest.raises(ValueError, match="x on cuda:0, weight on cuda:1"):
        gpu.conv2d(x, weight, backend="numpy")


def test_place_of_arrays_on_one_gpu():
    """An array that only says that it is on a GPU goes with one that says on which."""
    x, weight = OnGPU(small()["x"]), OnNumberedGPU(small()["weight"], 1)
    assert arrays.place({"x": x, "weight": weight}) == arrays.Place(1)
    assert arrays.place({"x": x}) == arrays.Place(0)


def test_the_stream_is_that_of_x():
    """Wherever x stands among the arguments; another stream beside it is waited for."""
    x, other = small()["x"], small()["weight"]
    on_7, on_8, default = OnGPU(x, stream=7), OnGPU(other, stream=8), OnGPU(other)
    assert arrays.place({"x": on_7}) == arrays.Place(0, 7)
    assert arrays.place({"grad_output": OnGPU(x, stream=7), "x": on_7}) == arrays.Place(0, 7)
    assert arrays.place({"grad_output": on_8, "x": on_7}) == arrays.Place(0, 7, wait=True)
    assert arrays.place({"grad_output": on_8, "x": default}) == arrays.Place(0, 0, wait=True)
    assert arrays.place({"x": on_7, "weight": default}) == arrays.Place(0, 7, wait=True)


def test_arrays_of_jax_are_waited_for(monkeypatch):
    """Its buffers belong to streams of its own, and might be used again before the launch."""
    x = OnGPU(small()["x"])
    monkeypatch.setattr(arrays, "framework", lambda a: "jax" if a is not x else "")
    weight = OnNumberedGPU(small()["weight"], 0)
    weight.block_until_ready = lambda: None
    assert arrays.place({"x": x, "weight": weight}) == arrays.Place(0, 0, wait=True)


@pytest.fixture(params=["numba", "cupy"])
def told(request, monkeypatch, runnable):
    """The context of a backend on stand-ins for its streams, and what they were told."""
    log = []

    @contextmanager
    def entered(word):
        log.append(f"enter {word}")
        yield SimpleNamespace(synchronize=lambda: log.append("synchronise"))
        log.append(f"leave {word}")

    if request.param == "cupy":
        cuda = SimpleNamespace(
            Device=lambda number: entered(f"device {number}"),
            Stream=SimpleNamespace(
                null=entered("stream 0"),
                from_external=lambda a: entered("stream {1}".format(*a.__cuda_stream__())),
            ),
        )
        monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=cuda))
        return arrays.on_cupy, log
    runnable(ENTRIES["numba v1"])
    from deformable_convnets.gpu.numba_kernels import launch, shim

    cuda = SimpleNamespace(
        gpus={0: entered("device 0")},
        synchronize=lambda: log.append("synchronise"),
        external_stream=lambda stream: f"stream {stream}",
    )
    monkeypatch.setattr(shim, "cuda", cuda)
    monkeypatch.setattr(launch, "on_stream", lambda s: entered(s if s else "stream 0"))
    return arrays.on_numba, log


@pytest.mark.parametrize("stream", [0, 7])
@pytest.mark.parametrize("wait", [False, True])
def test_a_call_waits_before_and_after(told, stream, wait):
    """For streams that differ; the launches are between, on the stream of x."""
    on, log = told
    with on(arrays.Place(0, stream, wait)):
        log.append("launch")
    waited = ["synchronise"] * wait
    launched = [f"enter stream {stream}", "launch"]
    assert [word for word in log if not word.startswith(("leave", "enter device"))] == [
        *waited, *launched, *waited,
    ]  # fmt: skip
    assert log[0] == "enter device 0"
    assert log[-1] == "leave device 0"


def test_cupy_knows_the_stream_of_a_place():
    """CuPy itself, which needs no GPU to wrap a stream; a call that is deprecated would raise."""
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    assert cupy.cuda.Stream.from_external(arrays.Place(0, 7)).ptr == 7


def test_new_arrays_belong_to_the_stream_of_the_launches(runnable, monkeypatch):
    """Through every way of making one: Numba copies to the host on the stream of the array."""
    runnable(ENTRIES["numba v1"])
    from deformable_convnets.gpu.numba_kernels import launch

    monkeypatch.setattr(launch, "launch", lambda *arguments: None)
    stream = object()
    with launch.on_stream(stream):
        strided = launch.cuda.to_device(np.ones((3, 4), np.float32))[::-1, ::2]
        made = [
            launch.empty((2, 3), np.float32),
            launch.zeros((2, 3), np.float32),
            launch.rounded(launch.cuda.to_device(np.ones(3, np.float32)), np.float16),
            launch.reshaped(launch.empty((2, 3), np.float32), (3, 2)),
            launch.reshaped(strided, (6,)),
        ]
    assert [a.stream is stream for a in made] == [True] * len(made)
    assert launch.empty((1,), np.float32).stream == 0


def test_reshaping_copies_what_has_gaps(runnable):
    """Backwards, in another order, and of any rank; what is contiguous stays where it is."""
    runnable(ENTRIES["numba v1"])
    from numba import cuda

    from deformable_convnets.gpu.numba_kernels import launch

    a = np.arange(48, dtype=np.float32).reshape(2, 3, 4, 2)
    for order in (np.ascontiguousarray, np.asfortranarray):
        on_device = cuda.to_device(order(a))
        for where in (np.s_[:], np.s_[::-1], np.s_[:, :, ::-2], np.s_[1, :, :, 0], np.s_[0]):
            found = launch.reshaped(on_device[where], (a[where].size // 2, 2))
            np.testing.assert_array_equal(found.copy_to_host(), a[where].reshape(-1, 2))
    whole = cuda.to_device(a)
    launch.launch(launch.fill, 48, launch.reshaped(whole, (48,)), np.float32(5))
    assert (whole.copy_to_host() == 5).all()


@pytest.mark.parametrize("wrap", [OnCPU, OnlyDLPack])
def test_dlpack_of_the_cpu(wrap):
    given = small()
    y = gpu.conv2d(**{name: wrap(a) for name, a in given.items()}, backend="numpy")
    np.testing.assert_array_equal(y, reference.conv2d(**given), strict=True)


@pytest.mark.parametrize(
    ("wrap", "message"),
    [
        (
            OnlyDLPackOfGPU,
            "weight has DLPack alone, not on the CPU, expected shape and dtype",
        ),
        (Unreadable, "weight has DLPack that NumPy cannot read: it holds bfloat16"),
    ],
)
def test_dlpack_that_says_too_little(wrap, message):
    given = small()
    with pytest.raises(TypeError, match=message):
        gpu.conv2d(given["x"], wrap(given["weight"]), backend="numpy")


@pytest.mark.parametrize("wrap", [OnGPU, OnCPU, OnlyDLPack])
def test_messages_on_other_arrays(wrap):
    given = small() | {"weight": np.ones((2, 3, 2, 2), np.float32)}
    with pytest.raises(ValueError, match="input channels") as expected:
        reference.conv2d(**given)
    with pytest.raises(ValueError, match="input channels") as found:
        gpu.conv2d(**{name: wrap(a) for name, a in given.items()})
    assert str(found.value) == str(expected.value)


def test_dtype_that_numpy_does_not_know():
    x, weight = map(OnCPU, small().values())
    x.dtype = "torch.float8_e4m3fn"
    with pytest.raises(TypeError, match="x has dtype float8_e4m3fn, expected float16, float32 or"):
        gpu.conv2d(x, weight)
