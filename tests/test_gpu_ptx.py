"""The Numba kernels compiled to PTX, with no GPU: what instructions are in them.

A float32 kernel holds no float64 one, and a kernel in which threads add to the same number holds an
atomic one, since a lost addition does not show in the simulator.

A child process compiles, because the simulator, in which the other tests run, makes no PTX; it is
this file, run as a program.
"""

import inspect
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from itertools import product
from types import SimpleNamespace

import pytest

NO_NVVM = 3
CAPABILITIES = {"float32": ((7, 5), (9, 0)), "float16": ((9, 0),), "float64": ((9, 0),)}


ATOMIC = {
    "deform_conv_columns.grad_x",
    "roi_pool.grad_x_scattered",
    "sample.grad_x_scattered",
}


@pytest.fixture(scope="module")
def counted(request):
    """(kernel, dtype, compute capability) -> how many float64 and atomic instructions it has."""
    required = "numba" in request.config.getoption("--require")
    without = pytest.fail if required else pytest.skip
    if find_spec("numba") is None:
        without("Numba is not installed")
    child = subprocess.run(
        [sys.executable, __file__],
        env=os.environ | {"NUMBA_ENABLE_CUDASIM": "0"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    if child.returncode == NO_NVVM:
        without(f"the nvidia-nvvm wheel is not installed: {child.stdout.strip()}")
    assert child.returncode == 0, child.stderr
    rows = [line.split() for line in child.stdout.splitlines()]
    return {(name, dtype, cc): tuple(map(int, counts)) for name, dtype, cc, *counts in rows}


@pytest.fixture
def compiled(counted):
    """(kernel, dtype, compute capability) -> how often its PTX says .f64."""
    return {key: doubles for key, (doubles, _) in counted.items()}


def test_every_float32_kernel_is_free_of_float64(compiled):
    found = {key: n for key, n in compiled.items() if key[1] == "float32" and "." in key[0]}
    assert {cc for _, _, cc in found} == {"7.5", "9.0"}
    assert len(found) >= 2 * 20
    assert {key: n for key, n in found.items() if n} == {}


def test_every_kernel_compiles_for_the_other_dtypes(compiled):
    names = {name for name, dtype, _ in compiled if dtype == "float32" and "." in name}
    for other in ("float16", "float64"):
        assert {name for name, dtype, _ in compiled if dtype == other} == names


def test_float16_kernels_compute_in_float32(compiled):
    assert {key: n for key, n in compiled.items() if key[1] == "float16" and n} == {}


def test_the_count_sees_float64(compiled):
    """A constant that is float64 shows, and so does a kernel on float64 arrays."""
    assert compiled["with_a_float64_constant", "float32", "9.0"] > 0
    assert compiled["deform_conv.forward", "float64", "9.0"] > 0


def test_rounding_is_free_of_float64(compiled):
    """The last step of a float16 gradient, whatever the rank of the array and its strides."""
    found = {key: n for key, n in compiled.items() if "->" in key[1]}
    assert {dtype for _, dtype, _ in found} == {"float32->float16", "float16->float32"}
    assert {name for name, _, _ in found} == {f"copy_of_rank_{rank}" for rank in (1, 3, 4)}
    assert {key: n for key, n in found.items() if n} == {}


def test_threads_that_add_to_one_number_do_it_by_atomics(counted):
    """These kernels, in every dtype, and no other of the package."""
    atomic = {key for key, (_, atomics) in counted.items() if atomics and "." in key[0]}
    assert atomic == {key for key in counted if key[0] in ATOMIC}
    assert {dtype for _, dtype, _ in atomic} == {"float16", "float32", "float64"}


def test_the_count_sees_that_an_atomic_is_missing(counted):
    """One kernel, with `+=` and with an atomic; shared memory is no reduction."""
    assert counted["adds_by_atomics", "float32", "9.0"][1] > 0
    assert counted["adds_by_itself", "float32", "9.0"][1] == 0
    assert atomics("ld.shared.f32 %f1, [%rd1];") == 0


# What follows runs in the child process.


def main():
    import numba.cuda.dispatcher
    from numba import types
    from numba.cuda.cudadrv.nvvm import NVVM

    try:
        NVVM()
    except Exception as error:
        print(str(error).splitlines()[0])
        return NO_NVVM
    # A device function asks the driver which GPU it is called on; here there is none to ask.
    here = SimpleNamespace(compute_capability=(9, 0))
    numba.cuda.dispatcher.get_current_device = lambda: here
    widths = {
        "float16": (types.float16, types.float32),
        "float32": (types.float32, types.float32),
        "float64": (types.float64, types.float64),
    }
    for (label, kernel, ranks), (dtype, (of, computed)) in product(kernels(), widths.items()):
        for cc in CAPABILITIES[dtype]:
            arguments = types.void(*argument_types(types, kernel, ranks, of, computed))
            print(label, dtype, "{}.{}".format(*cc), *counts(kernel.py_func, arguments, cc))
    for label, dtype, kernel, arguments in others(types):
        print(label, dtype, "9.0", *counts(kernel, types.void(*arguments)))
    return 0


def others(types):
    """Kernels that are there to be counted, and `copy` from one dtype to another."""
    from numba import cuda

    from deformable_convnets.gpu.numba_kernels.launch import copy

    def with_a_float64_constant(x, zero):
        x[0] = x[0] * 0.1 + zero

    def adds_by_itself(x, value):
        x[0] += value

    def adds_by_atomics(x, value):
        cuda.atomic.add(x, 0, value)

    for kernel in (with_a_float64_constant, adds_by_itself, adds_by_atomics):
        yield kernel.__name__, "float32", kernel, (types.float32[:], types.float32)
    half, single = types.float16, types.float32
    for rank in (1, 3, 4):
        for one, other in ((single, half), (half, single)):
            arrays = types.Array(one, rank, "A"), types.Array(other, 1, "C")
            yield f"copy_of_rank_{rank}", f"{one}->{other}", copy.py_func, arrays


def kernels():
    """Every kernel of the package by name, and the ranks of its arrays."""
    from deformable_convnets.gpu.numba_kernels import (
        convolution,
        deform_conv,
        deform_conv_columns,
        launch,
        roi_pool,
        sample,
        volumes,
    )

    images = ["x", "y", "offset", "mask", "weight", "grad_output", "columns", "grad_columns"]
    images += ["grad_x", "grad_offset", "grad_mask", "grad_weight"]
    ranks = dict.fromkeys(images, 4) | {"bias": 1, "grad_bias": 1}
    points = {"x": 3, "grad_x": 3, "p": 2, "samples": 2, "grad_output": 2, "grad_p": 2}
    flat = {"a": 1, "result": 1}
    modules = {convolution: ranks, deform_conv: ranks, deform_conv_columns: ranks}
    modules[roi_pool] = ranks | {"rois": 2}
    modules[volumes] = dict.fromkeys(images, 3) | {"x": 5, "bias": 1}
    for module, of in (modules | {sample: points, launch: flat}).items():
        for name, f in vars(module).items():
            options = getattr(f, "targetoptions", None)
            if options and not options.get("device") and f.py_func.__module__ == module.__name__:
                yield f"{module.__name__.rsplit('.', 1)[1]}.{name}", f, of


def argument_types(types, kernel, ranks, of, computed):
    """One type per parameter, by its name; an array that v2 makes is of the computed dtype."""
    whole = {"grid": types.UniTuple(types.int64, 6), "bins": types.UniTuple(types.int64, 9)}
    if ranks.get("x") == 5:
        whole |= {"grid": types.UniTuple(types.int64, 13), "size": types.UniTuple(types.int64, 3)}
    whole |= dict.fromkeys(("offset_groups", "kw"), types.int64)
    whole |= dict.fromkeys(("zero", "value", "scale", "gamma"), computed)
    made = {"columns", "grad_columns"}
    if "scatter(" in inspect.getsource(kernel.py_func):
        made.add("grad_x")
    for name in inspect.signature(kernel.py_func).parameters:
        if name in ranks:
            yield (computed if name in made else of)[(slice(None),) * ranks[name]]
        else:
            yield whole.get(name, types.boolean)


def counts(function, arguments, cc=(9, 0)):
    """How many float64 and how many atomic instructions are in the PTX of a kernel."""
    from numba import cuda

    ptx, _ = cuda.compile_ptx(function, arguments, cc=cc)
    assert ".entry" in ptx
    return ptx.count(".f64"), atomics(ptx)


def atomics(ptx):
    return len(re.findall(r"\b(?:atom|red)\.", ptx))


if __name__ == "__main__":
    sys.exit(main())
