"""Arrays in and out of a call: the only file that knows device memory, DLPack and streams.

In: arrays of NumPy, CuPy, Numba, PyTorch and JAX, and whatever has `__cuda_array_interface__` or
DLPack. What is on the device stays there, without a copy; what is on the CPU is copied to the
device and back. Out: an array like x, of the same framework on the same device. A framework is
imported only if an array of the call is one of its own, or a backend needs it. Gradients are not
recorded: a PyTorch tensor that requires them is detached.

Streams: the call is launched on the stream that is current in the framework of x (Numba: that x
brings), where its results can be used, so nothing waits. If other arrays bring another stream, and
for JAX, whose streams are its own, it waits for the device, before and after.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

from deformable_convnets.reference import checks

from . import frameworks
from .frameworks import framework

CPU = "the CPU"
SOME_GPU = "a GPU"  # an array that says no more than that


class Place(NamedTuple):
    """Where a call runs: GPU, or None for arrays of the CPU; raw stream; whether the call waits.

    of_torch  whether CuPy's memory comes from PyTorch's pool, so that there is no second one
    """

    device: int | None
    stream: int = 0
    wait: bool = False
    of_torch: bool = False

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.stream  # the protocol's version, and the stream

    def memory(self) -> AbstractContextManager[None]:
        """Where CuPy's memory comes from in the call."""
        if self.device is None or not self.of_torch:
            return nullcontext()
        return frameworks.memory_of_torch(f"cuda:{self.device}")


def readable(name: str, a: Any) -> Any:
    """The array itself; if DLPack is all that it has, NumPy's view of it, or a TypeError.

    A tensor that requires a gradient does not say that it has the CUDA array interface.
    """
    if framework(a) == "torch":
        return a.detach()
    said = hasattr(a, "__cuda_array_interface__") or (hasattr(a, "shape") and hasattr(a, "dtype"))
    if said or not _is_array(a):
        return a
    if _device(a) == CPU:
        try:
            return np.from_dlpack(a)
        except (BufferError, RuntimeError) as error:
            raise TypeError(f"{name} has DLPack that NumPy cannot read: {error}") from None
    raise TypeError(f"{name} has DLPack alone, not on the CPU, expected shape and dtype beside it")


def described(a: Any) -> Any:
    """What `checks` has to know of an array: itself if NumPy's, or if it is no array at all."""
    if isinstance(a, np.ndarray):
        strange = a.dtype.kind == "V" and a.dtype.name == "bfloat16"
        return checks.Described(a.shape, a.dtype) if strange else a
    if not _is_array(a):
        return a
    if hasattr(a, "shape") and hasattr(a, "dtype"):
        dtype = frameworks.dtype(str(a.dtype).split(".")[-1])
        return checks.Described(tuple(map(int, a.shape)), dtype)
    interface = a.__cuda_array_interface__
    return checks.Described(tuple(interface["shape"]), frameworks.dtype(interface["typestr"]))


def place(given: dict[str, Any]) -> Place:
    """The one place where all arrays of a call are, and the stream of x; ValueError if no such."""
    where = {name: _device(a) for name, a in given.items()}
    exact = set(where.values()) - {SOME_GPU}
    if len(exact) > 1 or (CPU in exact and SOME_GPU in where.values()):
        places = ", ".join(f"{name} on {device}" for name, device in where.items())
        call = checks.Call(**{name: described(a) for name, a in given.items()})
        call.fail(f"the arrays are in different places, {places}, expected all in one")
    device = exact.pop() if exact else "cuda:0"
    if device == CPU:
        return Place(None)
    if not device.startswith("cuda:"):
        raise ValueError(f"the arrays are on {device}, expected {CPU} or a CUDA device")
    number = int(device.removeprefix("cuda:"))
    streams = {name: _stream(a, number) for name, a in given.items()}
    wait = len(set(streams.values())) > 1 or "jax" in map(framework, given.values())
    return Place(number, streams["x"], wait, framework(given["x"]) == "torch")


def like(result: Any, x: Any, place: Place) -> Any:
    """A result of a backend as an array like x: of the same framework, on the same device."""
    kind = framework(x)
    if kind == "torch":
        on_cpu = x.device.type == "cpu"
        return frameworks.torch_of(to_numpy(result) if on_cpu else result, x)
    if kind == "jax":
        return _to_jax(result, x)
    if place.device is None:
        return to_numpy(result)
    if kind == "numba":
        return to_numba(result).bind(x.stream)  # the stream itself, which lives as long as this
    return to_cupy(result) if kind == "cupy" else result


def to_numpy(a: Any) -> Any:
    """In host memory, by a copy if it is not there."""
    kind = framework(a)
    if kind == "torch":
        return frameworks.torch_as_numpy(a)
    if kind == "cupy":
        return a.get()
    if kind == "numba":
        host = a.copy_to_host()
        if a.stream != 0:
            a.stream.synchronize()
        return host
    return np.asarray(a) if kind in ("numpy", "jax") else np.from_dlpack(a)


def to_numba(a: Any) -> Any:
    """As a Numba device array: a view of what is on the device, a copy of what is not."""
    from .numba_kernels import launch
    from .numba_kernels.shim import cuda

    if framework(a) == "numba":
        return a
    if _device(a) == CPU:
        host = np.ascontiguousarray(to_numpy(a))
        if host.size == 0:
            return launch.empty(host.shape, host.dtype)
        return cuda.to_device(host, stream=launch.stream())
    a = a.detach() if framework(a) == "torch" else a
    if not hasattr(a, "__cuda_array_interface__"):
        a = to_cupy(a)  # DLPack, which Numba does not read
    return cuda.as_cuda_array(a, sync=False)


def to_cupy(a: Any) -> Any:
    """As a CuPy array: a view of what is on the device, a copy of what is not."""
    import cupy

    if framework(a) == "cupy":
        return a
    if _device(a) == CPU:
        return cupy.asarray(to_numpy(a))
    if framework(a) == "torch":
        return frameworks.torch_as_cupy(a)
    a = a.bind(0) if framework(a) == "numba" else a  # with a stream, CuPy would wait
    return cupy.asarray(a) if hasattr(a, "__cuda_array_interface__") else cupy.from_dlpack(a)


def numba_missing() -> str | None:
    """Why the Numba kernels cannot run, or None."""
    if _absent("numba") or (_absent("numba_cuda") and _absent("numba.cuda")):
        return "numba-cuda is not installed"
    from .numba_kernels import shim

    return shim.missing()


def cupy_missing() -> str | None:
    """Why the CuPy array programs cannot run, or None."""
    if _absent("cupy"):
        return "CuPy is not installed"
    import cupy

    if not cupy.cuda.is_available():
        return "CuPy finds no CUDA device"
    try:  # CuPy is installed without them, and would fail at its first kernel
        from cupy.cuda import cublas, nvrtc  # noqa: F401

        nvrtc.getVersion()
    except Exception as error:
        return f"CuPy cannot load NVRTC and cuBLAS ({str(error).splitlines()[0]})"
    return None


def simulated() -> bool:
    """Whether Numba's simulator has been asked for; says so without importing Numba."""
    numba = sys.modules.get("numba")
    if numba is not None:
        return bool(numba.config.ENABLE_CUDASIM)
    return os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0")


@contextmanager
def on_numba(place: Place) -> Iterator[None]:
    """Numba launches go to the device and stream of the call."""
    from .numba_kernels import launch, shim

    with ExitStack() as stack:
        if place.device is not None:
            stack.enter_context(shim.cuda.gpus[place.device])
        if place.wait:
            shim.cuda.synchronize()
        stream = shim.cuda.external_stream(place.stream) if place.stream else 0
        stack.enter_context(launch.on_stream(stream))
        yield
        if place.wait:
            shim.cuda.synchronize()


@contextmanager
def on_cupy(place: Place) -> Iterator[None]:
    """CuPy launches go to the device and stream of the call."""
    import cupy

    if place.device is None:
        with _told_of_memory():
            yield  # arrays of the CPU go to the device and stream that are current
        return
    with cupy.cuda.Device(place.device) as device:
        if place.wait:
            device.synchronize()
        of_cupy = cupy.cuda.Stream
        stream = of_cupy.from_external(place) if place.stream else of_cupy.null
        with stream, place.memory(), _told_of_memory():
            yield
        if place.wait:
            device.synchronize()


@contextmanager
def _told_of_memory() -> Iterator[None]:
    """CuPy's error, which says how many bytes were wanted, as a MemoryError."""
    import cupy

    try:
        yield
    except cupy.cuda.memory.OutOfMemoryError as error:
        raise MemoryError(f"{error}; a smaller workspace_limit may help") from error


def _is_array(a: Any) -> bool:
    has_protocol = hasattr(type(a), "__dlpack__") or hasattr(a, "__cuda_array_interface__")
    return has_protocol or getattr(a, "__cuda_ndarray__", False) is True  # the simulator's


def _device(a: Any) -> str:
    """Where an array is: the CPU, "cuda:0", or another name with a number."""
    if isinstance(a, np.ndarray):
        return CPU
    if framework(a) == "numba":
        return f"cuda:{0 if simulated() else a.gpu_data.context.device.id}"
    if not hasattr(type(a), "__dlpack_device__"):
        return SOME_GPU
    kind, number = map(int, a.__dlpack_device__())
    if kind in (1, 3):  # kDLCPU, kDLCUDAHost
        return CPU
    return f"cuda:{number}" if kind in (2, 13) else f"device {kind}:{number}"  # kDLCUDA, managed


def _stream(a: Any, device: int) -> int:
    """The raw stream on which the array was or is being made; 0 is the default one."""
    kind = framework(a)
    if kind == "torch":
        return int(sys.modules["torch"].cuda.current_stream(device).cuda_stream)
    if kind == "cupy":
        return int(sys.modules["cupy"].cuda.get_current_stream(device).ptr)
    if kind == "jax":
        a.block_until_ready()
        return 0
    if kind == "numba":
        return 0 if simulated() or a.stream == 0 else int(a.stream)
    return int(getattr(a, "__cuda_array_interface__", {}).get("stream") or 0)


def _to_jax(result: Any, x: Any) -> Any:
    """Numba has no DLPack, so its arrays go through CuPy, or host memory where that is missing."""
    jax, (device, *_) = sys.modules["jax"], x.devices()
    if framework(result) == "numba" and device.platform != "cpu" and cupy_missing() is None:
        from .numba_kernels.shim import cuda

        cuda.synchronize()
        result = to_cupy(result)
    if framework(result) == "cupy" and device.platform != "cpu":
        sys.modules["cupy"].cuda.get_current_stream().synchronize()
        return jax.dlpack.from_dlpack(result)
    return jax.device_put(to_numpy(result), device)


def _absent(module: str) -> bool:
    try:
        return find_spec(module) is None
    except (ImportError, ValueError):
        return True
