"""A stand-in for CuPy: arrays that compute on the CPU, and refuse NumPy's as CuPy's do.

They have what CuPy's have (`get`, `__cuda_array_interface__`, the library of their name), and raise
TypeError where CuPy does: mixed with an array of NumPy, or taken for one. `OPS` stands for `gpu`:
the array program on what is inside.
"""

import functools
import operator

import numpy as np

from deformable_convnets import gpu
from deformable_convnets.gpu import registry
from deformable_convnets.gpu.cupy_kernels import array_program


def inside(a):
    """What NumPy may compute with: of an array of this library, or a number."""
    if isinstance(a, ndarray):
        return a.inside
    if isinstance(a, np.ndarray):
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    if isinstance(a, tuple | list):
        return type(a)(map(inside, a))
    return a


def outside(a):
    """All arrays of a result as arrays of this library: sums too, of shape ()."""
    if isinstance(a, np.ndarray | np.generic):
        return ndarray(np.asarray(a))
    return a


class ndarray:
    """An array of the device."""

    __array_priority__ = 100

    def __init__(self, a):
        self.inside = a

    def __array__(self, *args, **options):
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        """Of a number of NumPy, on the left; np.isfinite and its like."""
        return outside(getattr(ufunc, method)(*map(inside, inputs), **options))

    def __array_function__(self, function, types, args, options):
        raise TypeError(f"{function.__name__} of NumPy on an array of the device")

    @property
    def __cuda_array_interface__(self):
        return {"shape": self.shape, "typestr": self.dtype.str, "data": (0, False), "version": 3}

    def __getattr__(self, name):
        if name.startswith("__"):  # else NumPy would find its own interface, and look inside
            raise AttributeError(name)
        found = getattr(object.__getattribute__(self, "inside"), name)
        if not callable(found):
            return outside(found)
        return lambda *args, **options: outside(found(*map(inside, args), **options))

    def get(self):
        return self.inside.copy()

    def __deepcopy__(self, memo):
        return ndarray(self.inside.copy())

    def __getitem__(self, at):
        return outside(self.inside[inside(at)])

    def __setitem__(self, at, value):
        self.inside[inside(at)] = inside(value)

    def __len__(self):
        return len(self.inside)

    def __bool__(self):
        return bool(self.inside)

    def __int__(self):
        return int(self.inside)

    def __float__(self):
        return float(self.inside)

    def __neg__(self):
        return outside(-self.inside)

    def __invert__(self):
        return outside(~self.inside)

    def __abs__(self):
        return outside(abs(self.inside))


def _straight(name):
    found = getattr(operator, f"__{name}__")
    return lambda a, b: outside(found(inside(a), inside(b)))


def _swapped(name):
    found = getattr(operator, f"__{name}__")
    return lambda a, b: outside(found(inside(b), inside(a)))


def _in_place(name):
    found = getattr(operator, f"__i{name}__")

    def run(a, b):
        a.inside = found(a.inside, inside(b))
        return a

    return run


for _name in ("add", "sub", "mul", "truediv", "pow", "matmul", "and", "or"):
    setattr(ndarray, f"__{_name}__", _straight(_name))
    setattr(ndarray, f"__r{_name}__", _swapped(_name))
    setattr(ndarray, f"__i{_name}__", _in_place(_name))
for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(ndarray, f"__{_name}__", _straight(_name))


def asarray(a, dtype=None):
    """To the device, from NumPy or a number; CuPy's refuses nothing here."""
    return ndarray(np.asarray(a.inside if isinstance(a, ndarray) else a, dtype))


def asnumpy(a):
    """From the device."""
    return a.get()


def __getattr__(name):
    """The functions of NumPy, for arrays of this library and numbers alone."""
    found = getattr(np, name)

    def computed(*args, **options):
        options = {key: inside(value) for key, value in options.items()}
        return outside(found(*map(inside, args), **options))

    return functools.wraps(found)(computed) if callable(found) else found


registry.BACKENDS.setdefault("numpy", registry.Backend(lambda: {"v1": array_program.operators(np)}))


class Ops:
    """`gpu`, on the NumPy array program, for arrays of this library; `called` counts its calls."""

    def __init__(self):
        self.called = {}

    def __getattr__(self, name):
        found = getattr(gpu, name)

        @functools.wraps(found)
        def run(*args, **options):
            self.called[name] = self.called.get(name, 0) + 1
            options = {key: inside(value) for key, value in options.items()}
            made = found(*map(inside, args), **options, backend="numpy")
            if isinstance(made, tuple):
                return type(made)(*map(outside, made))
            return outside(made)

        return run
