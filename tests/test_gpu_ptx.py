"""The Numba kernels compiled to PTX, with no GPU: a float32 kernel holds no float64 instruction.

A child process compiles, because the simulator, in which the other tests run, makes no PTX; it is
this file, run as a program.
"""

import inspect
import os
import subprocess
import sys
from importlib.util import find_spec
from itertools import product
from types import SimpleNamespace

import pytest

NO_NVVM = 3
CAPABILITIES = {"float32": ((7, 5), (9, 0)), "float16": ((9, 0),), "float64": ((9, 0),)}


@pytest.fixture(scope="module")
def compiled():
    """(kernel, dtype, compute capability) -> how often its PTX says .f64."""
    if find_spec("numba") is None:
        pytest.skip("Numba is not installed")
    child = subprocess.run(
        [sys.executable, __file__],
        env=os.environ | {"NUMBA_ENABLE_CUDASIM": "0"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    if child.returncode == NO_NVVM:
        pytest.skip(f"the nvidia-nvvm wheel is not installed: {child.stdout.strip()}")
    assert child.returncode == 0, child.stderr
    rows = [line.split() for line in child.stdout.splitlines()]
    return {(name, dtype, cc): int(count) for name, dtype, cc, count in rows}


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
            print(label, dtype, "{}.{}".format(*cc), count_f64(kernel, arguments, cc))
    from numba import cuda

    @cuda.jit
    def with_a_float64_constant(x, zero):
        x[0] = x[0] * 0.1 + zero

    arguments = types.void(types.float32[:], types.float32)
    print("with_a_float64_constant float32 9.0", count_f64(with_a_float64_constant, arguments))
    return 0


def kernels():
    """Every kernel of the package by name, and the ranks of its arrays."""
    from deformable_convnets.gpu.numba_kernels import (
        convolution,
        deform_conv,
        deform_conv_columns,
        launch,
        roi_pool,
        sample,
    )

    images = ["x", "y", "offset", "mask", "weight", "grad_output", "columns", "grad_columns"]
    images += ["grad_x", "grad_offset", "grad_mask", "grad_weight"]
    ranks = dict.fromkeys(images, 4) | {"bias": 1, "grad_bias": 1}
    points = {"x": 3, "grad_x": 3, "p": 2, "samples": 2, "grad_output": 2, "grad_p": 2}
    flat = {"a": 1, "result": 1}
    modules = {convolution: ranks, deform_conv: ranks, deform_conv_columns: ranks}
    modules[roi_pool] = ranks | {"rois": 2}
    for module, of in (modules | {sample: points, launch: flat}).items():
        for name, f in vars(module).items():
            options = getattr(f, "targetoptions", None)
            if options and not options.get("device") and f.py_func.__module__ == module.__name__:
                yield f"{module.__name__.rsplit('.', 1)[1]}.{name}", f, of


def argument_types(types, kernel, ranks, of, computed):
    """One type per parameter, by its name; an array that v2 makes is of the computed dtype."""
    whole = {"grid": types.UniTuple(types.int64, 6), "bins": types.UniTuple(types.int64, 9)}
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


def count_f64(kernel, arguments, cc=(9, 0)):
    from numba import cuda

    ptx, _ = cuda.compile_ptx(kernel.py_func, arguments, cc=cc)
    assert ".entry" in ptx
    return ptx.count(".f64")


if __name__ == "__main__":
    sys.exit(main())
