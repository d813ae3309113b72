"""The one door: every rejection of `reference` and `gpu` is written here, so both say the same.

A message names the argument, what it was, the rule with the numbers put in, and, in brackets, the
shapes of the call. Shapes and values are a `ValueError`, what is no real floating array a
`TypeError`. `gpu` passes `Described` in place of arrays that are not NumPy's.
"""

from dataclasses import replace
from functools import cache
from math import prod
from typing import Any, NamedTuple, NoReturn

import numpy as np

from .geometry import AnyGeometry, Geometry, Pair, Sides, output_size, pair, sides

BORDERS = ("zero", "dcnv1")
NOT_A_BACKWARD = object()  # in place of grad_output, where there is none to check
SIDES = ("right", "left")
DTYPES = ("float16", "float32", "float64")
AXES = {2: (("kh", "kw"), "Ho, Wo"), 3: (("kd", "kh", "kw"), "Do, Ho, Wo")}  # of weight and y
# Arrays whose arithmetic is another: one hides some of its numbers, one is always of rank 2.
NOT_PLAIN = (np.ma.MaskedArray, np.matrix)


class Described(NamedTuple):
    """All that a check has to know of an array that is not NumPy's."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class Call:
    """The arrays of one call by name, in its order of arguments.

    optional  names of those that may be None, and are left out then
    """

    def __init__(self, optional: tuple[str, ...] = (), **arrays: Any):
        self.arrays = {
            name: a
            for name, a in arrays.items()
            if a is not NOT_A_BACKWARD and not (a is None and name in optional)
        }

    def __str__(self) -> str:
        given = {name: a for name, a in self.arrays.items() if a is not None}
        return ", ".join(f"{name} {_shape(a)}" for name, a in given.items())

    def fail(self, problem: str, error: type[Exception] = ValueError) -> NoReturn:
        raise error(f"{problem}  [{self}]" if self.arrays else problem)

    def pair(self, name: str, value: Any, *, at_least: int) -> Pair:
        """`geometry.pair`, with the shapes of the call in its errors."""
        return self.told(pair, name, value, at_least=at_least)

    def sides(self, name: str, value: Any) -> Sides:
        """`geometry.sides`, with the shapes of the call in its errors."""
        return self.told(sides, name, value)

    def told(self, parse: Any, *args: Any, **options: Any) -> Any:
        """What `parse` makes of these, with the shapes of the call in its errors."""
        try:
            return parse(*args, **options)
        except (TypeError, ValueError) as error:
            message, kind = str(error), type(error)
        self.fail(message, kind)

    def check_arrays(self, ranks: dict[str, str], *, may_be_float32: tuple[str, ...] = ()) -> None:
        """All real floating arrays of one dtype, that of the first, and of the right ranks."""
        for name, a in self.arrays.items():
            if a is None:
                self.fail(f"{name} is None, expected an array", TypeError)
            if not isinstance(a, np.ndarray | Described) or isinstance(a, NOT_PLAIN):
                self.fail(
                    f"{name} is of type {type(a).__name__}, expected an array of {_either(DTYPES)}",
                    TypeError,
                )
            self._check_dtype(name, a.dtype, may_be_float32, isinstance(a, Described))
            axes = ranks.get(name)
            if axes is not None and len(a.shape) != len(axes.split()):
                self.fail(
                    f"{name} has {len(a.shape)} dimensions, expected {len(axes.split())}: {axes}"
                )

    def _check_dtype(
        self, name: str, dtype: np.dtype[Any], may_be_float32: tuple[str, ...], on_gpu: bool
    ) -> None:
        if dtype.kind == "f" and not dtype.isnative:
            self.fail(
                f"{name} has dtype {dtype.str}, not in this machine's byte order, expected"
                f" {dtype.newbyteorder('=')}",
                TypeError,
            )
        if _name(dtype) not in DTYPES and not (_name(dtype) == "bfloat16" and on_gpu):
            self.fail(f"{name} has dtype {dtype}, expected {_either(DTYPES)}", TypeError)
        first, x = next(iter(self.arrays.items()))
        allowed = [_name(x.dtype)]
        if x.dtype.itemsize == 2 and name in may_be_float32:
            allowed.append("float32")
        if _name(dtype) not in allowed:
            self.fail(
                f"{name} has dtype {dtype}, expected {_either(allowed)}, the dtype of {first} being"
                f" {x.dtype}",
                TypeError,
            )

    def check_not_empty(self, name: str, axes: dict[str, int]) -> None:
        if min(axes.values()) < 1:
            sizes = ", ".join(f"{axis} = {size}" for axis, size in axes.items())
            self.fail(f"{name} has {sizes}, expected 1 or more of each")

    def check_shape(self, name: str, letters: str, expected: tuple[int, ...]) -> None:
        a = self.arrays.get(name)
        if a is not None and tuple(a.shape) != expected:
            self.fail(f"{name} has shape {tuple(a.shape)}, expected ({letters}) = {expected}")


def check_conv2d(
    x: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    *,
    grad_output: Any = NOT_A_BACKWARD,
) -> Geometry:
    """`conv2d` and its backward; returns the geometry of the call."""
    call = Call(("bias",), x=x, weight=weight, bias=bias, grad_output=grad_output)
    call.check_arrays({"x": "N C H W", "weight": "O C/groups kh kw", "bias": "O"})
    geometry = _convolution(call, stride, padding, dilation)
    call.check_shape("grad_output", "N, O, Ho, Wo", (x.shape[0], weight.shape[0], *geometry.output))
    return geometry


def check_deform_conv2d(
    x: Any, offset: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any,
    mask: Any, border: Any, *, grad_output: Any = NOT_A_BACKWARD, side: Any = "right",
) -> Geometry:  # fmt: skip
    """`deform_conv2d` and its backward; returns the geometry of the call."""
    arrays = {"x": x, "weight": weight, "offset": offset, "bias": bias, "mask": mask}
    call = Call(("bias", "mask"), **arrays, grad_output=grad_output)
    call.check_arrays(
        {"x": "N C H W", "weight": "O C/groups kh kw", "offset": "N 2*G*K Ho Wo", "bias": "O"},
        may_be_float32=("offset",),
    )
    geometry = _convolution(call, stride, padding, dilation)
    G = offset_groups(call, geometry)
    one_of(call, "border", border, BORDERS)
    one_of(call, "side", side, SIDES)
    return replace(geometry, offset_groups=G)


def check_sample(
    x: Any, p: Any, border: Any, *, grad_output: Any = NOT_A_BACKWARD, side: Any = "right"
) -> None:
    """`sample` and its backward."""
    call = Call(x=x, p=p, grad_output=grad_output)
    call.check_arrays({"x": "C H W"}, may_be_float32=("p",))
    call.check_not_empty("x", dict(zip("CHW", x.shape, strict=True)))
    _points(call, p)
    call.check_shape("grad_output", "C, ...", (x.shape[0], *p.shape[:-1]))
    one_of(call, "border", border, BORDERS)
    one_of(call, "side", side, SIDES)


def check_matrix(p: Any, size: Any, border: Any, side: Any = "right") -> Pair:
    """`G` and `dG`; returns the size (H, W) of the map."""
    call = Call(p=p)
    call.check_arrays({})
    _points(call, p)
    one_of(call, "border", border, BORDERS)
    one_of(call, "side", side, SIDES)
    return call.pair("size", size, at_least=1)


def check_module(
    x: Any, offset_weight: Any, offset_bias: Any, weight: Any, bias: Any,
    stride: Any, padding: Any, dilation: Any, border: Any, *,
    grad_output: Any = NOT_A_BACKWARD, side: Any = "right",
) -> None:  # fmt: skip
    """`deform_conv_module` and its backward: the branch belongs to the layer."""
    arrays = {"x": x, "weight": weight, "offset_weight": offset_weight, "offset_bias": offset_bias}
    call = Call(("bias",), **arrays, bias=bias, grad_output=grad_output)
    axes = {"x": "N C H W", "weight": "O C/groups kh kw", "offset_weight": "2*G*K C kh kw"}
    call.check_arrays(axes)
    geometry = _convolution(call, stride, padding, dilation)
    (N, C), (kh, kw), channels = x.shape[:2], geometry.kernel, offset_weight.shape[0]
    if channels == 0 or channels % (2 * kh * kw) or C % (channels // (2 * kh * kw)):
        call.fail(
            f"offset_weight has {channels} output channels, expected a multiple of"
            f" 2 * kh * kw = {2 * kh * kw} by a divisor of C = {C}"
        )
    call.check_shape("offset_weight", "2 * G * kh * kw, C, kh, kw", (channels, C, kh, kw))
    call.check_shape("offset_bias", "2 * G * kh * kw,", (channels,))
    call.check_shape("grad_output", "N, O, Ho, Wo", (N, weight.shape[0], *geometry.output))
    one_of(call, "border", border, BORDERS)
    one_of(call, "side", side, SIDES)


def check_branch(weight: Any, in_channels: Any, offset_groups: Any) -> tuple[int, int]:
    """`zero_offset_branch`; returns C and G."""
    call = Call(weight=weight)
    call.check_arrays({"weight": "O C/groups kh kw"})
    call.check_not_empty("weight", dict(zip(("kh", "kw"), weight.shape[2:], strict=True)))
    return call.pair("(in_channels, offset_groups)", (in_channels, offset_groups), at_least=1)


def _convolution(call: Call, stride: Any, padding: Any, dilation: Any) -> Geometry:
    """The geometry of a convolution of maps, with one offset group."""
    groups = channel_groups(call, "HW")
    stride = call.pair("stride", stride, at_least=1)
    padding = call.sides("padding", padding)
    dilation = call.pair("dilation", dilation, at_least=1)
    kernel, output = output_sizes(call, "HW", stride, padding, dilation)
    return Geometry(kernel, stride, padding, dilation, output, groups, 1)


def channel_groups(call: Call, axes: str) -> int:
    """groups, from the channels of x and weight; their last axes, such as "HW", are not empty."""
    x, weight = call.arrays["x"], call.arrays["weight"]
    C, (O, C_per_group) = x.shape[1], weight.shape[:2]
    call.check_not_empty("x", dict(zip(("C", *axes), x.shape[1:], strict=True)))
    names = ("O", "C/groups", *AXES[len(axes)][0])
    call.check_not_empty("weight", dict(zip(names, weight.shape, strict=True)))
    if C % C_per_group:
        call.fail(f"weight has {C_per_group} input channels, expected a divisor of C = {C}")
    groups = int(C // C_per_group)
    if O % groups:
        call.fail(
            f"weight has {O} output channels, expected a multiple of groups = C // (C/groups) ="
            f" {C} // {C_per_group} = {groups}"
        )
    return groups


def output_sizes(call: Call, axes: str, stride: Any, padding: Any, dilation: Any) -> Any:
    """The kernel, and the size of y along each axis, 1 or more; a bias is of its channels."""
    x, weight = call.arrays["x"], call.arrays["weight"]
    each = list(zip(x.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True))
    output = tuple(output_size(*one) for one in each)
    if min(output) < 1:
        axis = next(i for i, made in enumerate(output) if made < 1)
        size, k, s, (before, after), d = each[axis]
        call.fail(
            f"y would have {_by(output)} pixels, expected {_by([1] * len(axes))} or more: along"
            f" {axes[axis]} it has (size + padding - dilation * (k - 1) - 1) // stride + 1 ="
            f" ({size} + {before} + {after} - {d} * ({k} - 1) - 1) // {s} + 1"
        )
    call.check_shape("bias", "O,", (weight.shape[0],))
    return tuple(weight.shape[2:]), output


def offset_groups(call: Call, geometry: AnyGeometry) -> int:
    """G, from the channels of the offset; the shapes of offset, mask and grad_output are right."""
    (N, C), O = call.arrays["x"].shape[:2], call.arrays["weight"].shape[0]
    d, K, channels = len(geometry.kernel), prod(geometry.kernel), call.arrays["offset"].shape[1]
    taps, sizes = " * ".join(AXES[d][0]), AXES[d][1]
    if channels == 0 or channels % (d * K):
        call.fail(f"offset has {channels} channels, expected a multiple of {d} * {taps} = {d * K}")
    G = int(channels // (d * K))
    if C % G:
        call.fail(
            f"offset has {channels} channels, {G} offset groups of {d} * {taps} = {d * K}, expected"
            f" a divisor of C = {C} groups"
        )
    call.check_shape("offset", f"N, {d} * G * {taps}, {sizes}", (N, channels, *geometry.output))
    call.check_shape("mask", f"N, G * {taps}, {sizes}", (N, G * K, *geometry.output))
    call.check_shape("grad_output", f"N, O, {sizes}", (N, O, *geometry.output))
    return G


def _points(call: Call, p: Any) -> None:
    if len(p.shape) == 0 or p.shape[-1] != 2:
        call.fail(f"p has shape {tuple(p.shape)}, expected (..., 2): y and x")


def one_of(call: Call, name: str, value: Any, allowed: tuple[str, ...]) -> None:
    if not (isinstance(value, str) and value in allowed):
        call.fail(f"{name} is {value!r}, expected {_either(map(repr, allowed))}")


@cache
def _name(dtype: Any) -> str:
    """NumPy makes the name anew each time, which takes as long as the rest of a check."""
    return str(dtype.name)


def _either(words: Any) -> str:
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else str(last)


def _by(sizes: Any) -> str:
    return " x ".join(map(str, sizes))


def _shape(a: Any) -> str:
    return str(tuple(a.shape)) if hasattr(a, "shape") else type(a).__name__
