"""The one door: every rejection of `reference` and `gpu` is written here, so both say the same.

A message names the argument, what it was, the rule with the numbers put in, and, in brackets, the
shapes of the call. Shapes and values are a `ValueError`, what is no real floating array a
`TypeError`. `gpu` passes `Described` in place of arrays that are not NumPy's.
"""

from typing import Any, NamedTuple, NoReturn

import numpy as np

from .geometry import Geometry, Pair, output_size, pair, sides

BORDERS = ("zero", "dcnv1")
SIDES = ("right", "left")
DTYPES = ("float16", "float32", "float64")


class Described(NamedTuple):
    """All that a check has to know of an array that is not NumPy's."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class Call:
    """The arrays of one call by name, in its order of arguments; `None` is left out."""

    def __init__(self, **arrays: Any):
        self.arrays = {name: a for name, a in arrays.items() if a is not None}

    def __str__(self) -> str:
        return ", ".join(f"{name} {_shape(a)}" for name, a in self.arrays.items())

    def fail(self, problem: str, error: type[Exception] = ValueError) -> NoReturn:
        raise error(f"{problem}  [{self}]")

    def check_arrays(self, ranks: dict[str, str], *, may_be_float32: tuple[str, ...] = ()) -> None:
        """All real floating arrays of one dtype, that of the first, and of the right ranks."""
        for name, a in self.arrays.items():
            if not isinstance(a, np.ndarray | Described):
                self.fail(
                    f"{name} is of type {type(a).__name__}, expected an array of {_either(DTYPES)}",
                    TypeError,
                )
            self._check_dtype(name, a.dtype, may_be_float32)
            axes = ranks.get(name)
            if axes is not None and len(a.shape) != len(axes.split()):
                self.fail(
                    f"{name} has {len(a.shape)} dimensions, expected {len(axes.split())}: {axes}"
                )

    def _check_dtype(
        self, name: str, dtype: np.dtype[Any], may_be_float32: tuple[str, ...]
    ) -> None:
        if dtype.kind == "f" and not dtype.isnative:
            self.fail(
                f"{name} has dtype {dtype.str}, not in this machine's byte order, expected"
                f" {dtype.newbyteorder('=')}",
                TypeError,
            )
        if dtype.name not in DTYPES:
            self.fail(f"{name} has dtype {dtype}, expected {_either(DTYPES)}", TypeError)
        first, x = next(iter(self.arrays.items()))
        allowed = [x.dtype.name]
        if x.dtype.name == "float16" and name in may_be_float32:
            allowed.append("float32")
        if dtype.name not in allowed:
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
    grad_output: Any = None,
) -> Geometry:
    """`conv2d` and its backward; returns the geometry of the call."""
    call = Call(x=x, weight=weight, bias=bias, grad_output=grad_output)
    call.check_arrays({"x": "N C H W", "weight": "O C/groups kh kw", "bias": "O"})
    geometry = _convolution(call, stride, padding, dilation)
    call.check_shape("grad_output", "N, O, Ho, Wo", (x.shape[0], weight.shape[0], *geometry.output))
    return geometry


def check_deform_conv2d(
    x: Any, offset: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any,
    mask: Any, border: Any, *, grad_output: Any = None, side: Any = "right",
) -> Geometry:  # fmt: skip
    """`deform_conv2d` and its backward; returns the geometry of the call."""
    call = Call(x=x, weight=weight, offset=offset, bias=bias, mask=mask, grad_output=grad_output)
    if offset is None:
        call.fail("offset is None, expected an array", TypeError)
    call.check_arrays(
        {"x": "N C H W", "weight": "O C/groups kh kw", "offset": "N 2*G*K Ho Wo", "bias": "O"},
        may_be_float32=("offset",),
    )
    geometry = _convolution(call, stride, padding, dilation)
    (N, C), K, (Ho, Wo) = x.shape[:2], geometry.kernel[0] * geometry.kernel[1], geometry.output
    channels = offset.shape[1]
    if channels == 0 or channels % (2 * K):
        call.fail(f"offset has {channels} channels, expected a multiple of 2 * kh * kw = {2 * K}")
    G = channels // (2 * K)
    if C % G:
        call.fail(
            f"offset has {channels} channels, {G} offset groups of 2 * kh * kw = {2 * K}, expected"
            f" a divisor of C = {C} groups"
        )
    call.check_shape("offset", "N, 2 * G * kh * kw, Ho, Wo", (N, channels, Ho, Wo))
    call.check_shape("mask", "N, G * kh * kw, Ho, Wo", (N, G * K, Ho, Wo))
    call.check_shape("grad_output", "N, O, Ho, Wo", (N, weight.shape[0], Ho, Wo))
    one_of(call, "border", border, BORDERS)
    one_of(call, "side", side, SIDES)
    kernel, output, groups = geometry.kernel, geometry.output, geometry.groups
    return Geometry(kernel, geometry.stride, geometry.padding, geometry.dilation, output, groups, G)


def check_sample(
    x: Any, p: Any, border: Any, *, grad_output: Any = None, side: Any = "right"
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
    return pair("size", size, at_least=1)


def check_offset(
    offset: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any
) -> Geometry:
    """The functions of an offset field alone; its own Ho and Wo are taken as they are."""
    call = Call(offset=offset)
    call.check_arrays({"offset": "N 2*G*K Ho Wo"})
    kernel = pair("kernel_size", kernel_size, at_least=1)
    channels, taps = offset.shape[1], kernel[0] * kernel[1]
    if channels == 0 or channels % (2 * taps):
        call.fail(
            f"offset has {channels} channels, expected a multiple of 2 * kh * kw = {2 * taps}"
        )
    return Geometry(
        kernel=kernel,
        stride=pair("stride", stride, at_least=1),
        padding=sides("padding", padding),
        dilation=pair("dilation", dilation, at_least=1),
        output=(offset.shape[2], offset.shape[3]),
        groups=1,
        offset_groups=channels // (2 * taps),
    )


def _convolution(call: Call, stride: Any, padding: Any, dilation: Any) -> Geometry:
    """Channels, groups and output size, which all convolutions share."""
    x, weight = call.arrays["x"], call.arrays["weight"]
    (_, C, H, W), (O, C_per_group, kh, kw) = x.shape, weight.shape
    call.check_not_empty("x", {"C": C, "H": H, "W": W})
    call.check_not_empty("weight", {"O": O, "C/groups": C_per_group, "kh": kh, "kw": kw})
    if C % C_per_group:
        call.fail(f"weight has {C_per_group} input channels, expected a divisor of C = {C}")
    groups = C // C_per_group
    if O % groups:
        call.fail(
            f"weight has {O} output channels, expected a multiple of groups = C // (C/groups) ="
            f" {C} // {C_per_group} = {groups}"
        )
    try:
        stride = pair("stride", stride, at_least=1)
        padding = sides("padding", padding)
        dilation = pair("dilation", dilation, at_least=1)
    except (TypeError, ValueError) as error:
        call.fail(str(error), type(error))
    Ho, Wo = map(output_size, (H, W), (kh, kw), stride, padding, dilation)
    if min(Ho, Wo) < 1:
        axis, size, k, s, (before, after), d = list(
            zip("HW", (H, W), (kh, kw), stride, padding, dilation, strict=True)
        )[0 if Ho < 1 else 1]
        call.fail(
            f"y would have {Ho} x {Wo} pixels, expected 1 x 1 or more: along {axis} it has (size +"
            f" padding - dilation * (k - 1) - 1) // stride + 1 ="
            f" ({size} + {before} + {after} - {d} * ({k} - 1) - 1) // {s} + 1"
        )
    call.check_shape("bias", "O,", (O,))
    return Geometry((kh, kw), stride, padding, dilation, (Ho, Wo), groups, 1)


def _points(call: Call, p: Any) -> None:
    if len(p.shape) == 0 or p.shape[-1] != 2:
        call.fail(f"p has shape {tuple(p.shape)}, expected (..., 2): y and x")


def one_of(call: Call, name: str, value: Any, allowed: tuple[str, ...]) -> None:
    if not (isinstance(value, str) and value in allowed):
        call.fail(f"{name} is {value!r}, expected {_either(map(repr, allowed))}")


def _either(words: Any) -> str:
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else str(last)


def _shape(a: Any) -> str:
    return str(tuple(a.shape)) if hasattr(a, "shape") else type(a).__name__
