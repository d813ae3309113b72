"""Memory that PyTorch lends to CuPy: with a CuPy that is made up, on the CPU."""

import sys
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from deformable_convnets.gpu import frameworks

torch = pytest.importorskip("torch", reason="torch is in no extra; `make test-torch` installs it")


class Array:
    """What `frameworks` has to know of a CuPy array."""

    def __init__(self, memory, shape, dtype, skipped=0):
        self.dtype, self.shape = np.dtype(dtype), shape
        self.itemsize = self.dtype.itemsize
        self.strides = np.empty(shape, dtype).strides
        start = memory + skipped * self.itemsize
        self.data = SimpleNamespace(ptr=start, mem=SimpleNamespace(ptr=memory))


Array.__module__ = "cupy"


class OutOfMemoryError(Exception):
    pass


@pytest.fixture
def allocator(monkeypatch):
    """The two functions that CuPy is given, inside the block."""
    functions, cupy = [], ModuleType("cupy")

    class PythonFunctionAllocator:
        def __init__(self, allocate, free):
            functions.extend([allocate, free])
            self.malloc = "malloc"

    @contextmanager
    def using_allocator(malloc):
        assert malloc == "malloc"
        yield

    memory = SimpleNamespace(
        PythonFunctionAllocator=PythonFunctionAllocator, OutOfMemoryError=OutOfMemoryError
    )
    cupy.cuda = SimpleNamespace(memory=memory, using_allocator=using_allocator)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    with frameworks.memory_of_torch("cpu"):
        yield functions
    assert frameworks.LENT.get() == {}


@pytest.mark.parametrize(("dtype", "skipped"), [("float32", 0), ("float64", 3), ("float16", 2)])
def test_a_result_is_a_tensor_of_the_same_memory(allocator, dtype, skipped):
    allocate, free = allocator
    memory = allocate(300, 0)
    result = Array(memory, (2, 3, 4), dtype, skipped)
    tensor = frameworks.torch_of(result, torch.empty(0))
    assert (tensor.shape, tensor.dtype) == ((2, 3, 4), getattr(torch, dtype))
    assert tensor.data_ptr() == result.data.ptr
    assert tensor.stride() == (12, 4, 1)
    tensor.fill_(7)
    free(memory, 0)  # CuPy's array goes; the tensor keeps the memory
    assert frameworks.LENT.get() == {}
    other = torch.empty(300, dtype=torch.uint8)
    assert (tensor == 7).all()
    assert other.data_ptr() != memory


def test_no_memory(allocator, monkeypatch):
    def empty(*args, **options):
        raise torch.cuda.OutOfMemoryError("no")

    monkeypatch.setattr(torch, "empty", empty)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 5)
    with pytest.raises(OutOfMemoryError, match=r"\(100, 5\)"):
        allocator[0](100, 0)
