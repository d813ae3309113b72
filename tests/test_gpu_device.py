"""Arrays that live on a GPU, in and out, on streams that are not the default one.

Each call finds its input late: the stream first idles, then copies the numbers over zeros. Whatever
runs on another stream, or looks at a result too early, sees zeros. Calls are chained, with nothing
that waits between them, and run twice, since the first run compiles. The problems are exact, so
the results equal the reference bit for bit. Without a GPU only Numba's default stream is here, in
the simulator.
"""

import importlib
import warnings
from contextlib import nullcontext

import devices
import numpy as np
import pytest
from implementations import ENTRIES, OFFERED

from deformable_convnets import gpu, reference
from deformable_convnets.reference.oracle import problems

IDLE_MS = 50
CYCLES = 10**8  # about as long


class OfCupy:
    step = -2

    def __init__(self):
        import cupy

        self.cupy = cupy
        code = """extern "C" __global__ void idle(long long cycles) {
            long long start = clock64();
            while (clock64() - start < cycles) {}
        }"""
        self.kernel = cupy.RawKernel(code, "idle")

    def stream(self, default):
        return self.cupy.cuda.Stream.null if default else self.cupy.cuda.Stream(non_blocking=True)

    def on(self, stream):
        return stream

    def upload(self, a):
        on_device = self.cupy.asarray(a)
        self.cupy.cuda.Device().synchronize()
        return on_device

    def idle(self, stream):
        self.kernel((1,), (1,), (np.int64(CYCLES),))

    def late(self, a, stream):
        """A copy that the stream makes when it comes to it."""
        copy = self.upload(np.zeros(a.shape, a.dtype))
        with stream:
            copy[...] = a
        return copy

    def host(self, a, stream):
        stream.synchronize()
        return self.cupy.asnumpy(a, stream=stream)


class OfNumba:
    step = -2

    def __init__(self):
        from deformable_convnets.gpu.numba_kernels.shim import cuda

        @cuda.jit
        def idle(milliseconds):
            for _ in range(milliseconds):
                cuda.nanosleep(1_000_000)

        self.cuda, self.kernel = cuda, idle

    def stream(self, default):
        if default:
            return 0
        from cuda.bindings import driver

        self.cuda.current_context()
        error, handle = driver.cuStreamCreate(driver.CUstream_flags.CU_STREAM_NON_BLOCKING.value)
        assert error == driver.CUresult.CUDA_SUCCESS
        return self.cuda.external_stream(int(handle))

    def on(self, stream):
        return nullcontext()

    def upload(self, a):
        on_device = self.cuda.to_device(a)
        self.cuda.synchronize()
        return on_device

    def idle(self, stream):
        if not devices.simulated():
            self.kernel[1, 1, stream](IDLE_MS)

    def late(self, a, stream):
        copy = self.upload(np.zeros(a.shape, a.dtype)).bind(stream)
        copy.copy_to_device(a, stream=stream)
        return copy

    def host(self, a, stream):
        """On the stream that the array itself names, which has to be the one of the call."""
        assert a.stream == stream if stream == 0 else int(a.stream) == int(stream)
        return a.copy_to_host()


class OfTorch:
    step = 2  # it has no negative strides

    def __init__(self):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.torch = importlib.import_module("torch")

    def stream(self, default):
        cuda = self.torch.cuda
        return cuda.default_stream() if default else cuda.Stream()  # of the pool: non-blocking

    def on(self, stream):
        return self.torch.cuda.stream(stream)

    def upload(self, a):
        on_device = self.torch.from_numpy(np.array(a)).cuda()
        self.torch.cuda.synchronize()
        return on_device

    def idle(self, stream):
        self.torch.cuda._sleep(CYCLES)

    def late(self, a, stream):
        copy = self.torch.zeros_like(a)
        copy.copy_(a)
        return copy

    def host(self, a, stream):
        stream.synchronize()
        return a.cpu().numpy()


FRAMEWORKS = {"cupy": OfCupy, "numba": OfNumba, "torch": OfTorch}


@pytest.fixture(params=FRAMEWORKS)
def arrays_of(request, runnable):
    """A framework, whose arrays are on the GPU."""
    if request.param == "torch":
        if not devices.has_gpu():
            pytest.skip("no GPU")
        pytest.importorskip("torch", reason="torch is not installed")
        if not OfTorch().torch.cuda.is_available():
            pytest.skip("torch finds no GPU")
    else:
        runnable(ENTRIES[f"{request.param} v1"])
    return FRAMEWORKS[request.param]()


@pytest.fixture(params=[key for key in OFFERED if key[0] in ("numba", "cupy")], ids=" ".join)
def implementation(request, runnable):
    runnable(ENTRIES[" ".join(request.param)])
    return request.param


@pytest.fixture(params=["default", "non-blocking"])
def stream(request, arrays_of):
    if request.param == "non-blocking" and not devices.has_gpu():
        pytest.skip("no GPU: the simulator has one stream")
    return arrays_of.stream(default=request.param == "default")


def call(implementation, name, *arrays, **options):
    """An operator of `gpu`, in the version where it is offered there."""
    backend, version = implementation
    version = version if name in OFFERED[implementation] else None
    return getattr(gpu, name)(*arrays, **options, backend=backend, version=version)


def late(arrays_of, stream, given):
    """The arrays of the call, on the device, where the stream writes them after a while."""
    uploaded = {name: arrays_of.upload(a) for name, a in given.items() if a is not None}
    with arrays_of.on(stream):
        arrays_of.idle(stream)
        made = {name: arrays_of.late(a, stream) for name, a in uploaded.items()}
    return dict.fromkeys(given) | made, uploaded


def assert_same(arrays_of, stream, x, found, expected):
    for name, right in expected.items():
        if right is None:
            assert found[name] is None
        else:
            assert type(found[name]) is type(x)
            on_host = arrays_of.host(found[name], stream)
            np.testing.assert_array_equal(on_host, right, name, strict=True)


def some(dtype):
    """Of the shapes that have an image."""
    count = 6 if devices.has_gpu() else 2
    return [p for p in problems.some(count, "base", "kinks", dtype=dtype) if p.x.size]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_chain_of_convolutions(arrays_of, implementation, stream, dtype):
    """x and grad_output come out of a convolution with 1, and y goes into one."""
    for problem in some(dtype):
        given = {n: getattr(problem, n) for n in ("x", "offset", "weight", "bias", "mask")}
        options = problem.options | {"border": problem.border}
        one = {
            f"one_{letter}": np.eye(size, dtype=dtype).reshape(size, size, 1, 1)
            for letter, size in (("C", problem.shape.C), ("O", problem.shape.O))
        }
        for _ in range(2):
            whole = given | one | {"grad": problem.grad_output}
            a, kept = late(arrays_of, stream, whole)
            with arrays_of.on(stream):
                x = call(implementation, "conv2d", a["x"], a["one_C"])
                grad = call(implementation, "conv2d", a["grad"], a["one_O"])
                more = {n: a[n] for n in ("offset", "weight", "bias", "mask")} | options
                y = call(implementation, "deform_conv2d", x, **more)
                grads = call(implementation, "deform_conv2d_backward", grad, x, **more)
                y = call(implementation, "conv2d", y, a["one_O"])
            found = {"y": y} | grads._asdict()
            expected = {"y": reference.deform_conv2d(**given, **options)}
            expected |= reference.deform_conv2d_backward(
                problem.grad_output, **given, **options
            )._asdict()
            assert_same(arrays_of, stream, a["x"], found, expected)
            del kept


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_samples_at_points_with_gaps(arrays_of, implementation, stream, dtype):
    """p and grad_output are views of every second row, backwards where there is such a view."""
    step = arrays_of.step

    def wide(a):
        return np.ascontiguousarray(np.repeat(a, 2, axis=0)[:: step // 2])

    for problem in some(dtype):
        x, p = problem.x[0], problem.points.astype(dtype)
        size = (len(x), *p.shape[:-1])
        grad = np.random.default_rng(0).integers(-4, 5, size).astype(dtype)
        for _ in range(2):
            a, kept = late(arrays_of, stream, {"x": x, "p": wide(p), "grad": wide(grad)})
            p_view, grad_view = a["p"][::step], a["grad"][::step]
            with arrays_of.on(stream):
                y = call(implementation, "sample", a["x"], p_view)
                grads = call(implementation, "sample_backward", grad_view, a["x"], p_view)
            expected = reference.sample_backward(grad, x, p)._asdict()
            expected["y"] = reference.sample(x, p)
            assert_same(arrays_of, stream, a["x"], grads._asdict() | {"y": y}, expected)
            del kept


def test_arrays_of_numba_that_bring_two_streams(implementation, runnable):
    """The call waits for the weight, which another stream writes; its result is on that of x."""
    runnable(ENTRIES["numba v1"])
    if not devices.has_gpu():
        pytest.skip("no GPU: the simulator has one stream")
    of_numba = OfNumba()
    streams = [of_numba.stream(default=False) for _ in range(2)]
    x, weight = np.ones((1, 2, 4, 5), np.float32), np.ones((3, 2, 2, 2), np.float32)
    for _ in range(2):
        a, kept_x = late(of_numba, streams[0], {"x": x})
        b, kept_weight = late(of_numba, streams[1], {"weight": weight})
        y = call(implementation, "conv2d", a["x"], b["weight"])
        assert_same(of_numba, streams[0], a["x"], {"y": y}, {"y": reference.conv2d(x, weight)})
        del kept_x, kept_weight
