"""The public face: each function is check, to device, choose, launch, back.

reference               here                              why it differs
numpy.ndarray           any array of `arrays`             an array like x comes back
same arguments          and backend, version, precision   to choose an implementation by name
every gradient          wrt, deterministic                work that is not wanted is not done

Checks and messages are the reference's own; its arithmetic is not used. The keywords of them all:

    backend        "cupy" or "numba"; None takes the first that can run and has what is asked for
    version        "v1", "v2", ... of that backend; None takes the fastest
    precision      "exact": all arithmetic in the dtype of x, float32 for float16
    wrt            of a backward: the gradients wanted, by name, None for all; others are None
    deterministic  of a backward: True takes a version whose gradient of x repeats bit for bit; the
                   faster versions add to it by atomics, in no defined order

Raises what the reference raises, RuntimeError where no backend can run, and ValueError where the
arrays of a call are in different places or a keyword names what does not exist.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from deformable_convnets.reference import checks
from deformable_convnets.reference.bilinear import Border, SampleGrads, Side
from deformable_convnets.reference.convolution import ConvGrads
from deformable_convnets.reference.deform_conv import DeformConvGrads
from deformable_convnets.reference.geometry import Geometry, Pair, Sides

from . import arrays, registry
from .registry import Choice

Array = Any
Shape = tuple[int, ...]


def sample(
    x: Array,
    p: Array,
    *,
    border: Border = "zero",
    backend: str | None = None,
    version: str | None = None,
    precision: str = "exact",
) -> Array:
    """Equation (3): x(p) = sum over q of G(q, p) x(q).

    x C H W and p ... 2, as in `reference.sample`; returns C ... . Keywords: the head of this file.
    """
    call = _Call("sample", Choice(backend, version, precision), x=x, p=p)
    checks.check_sample(call.x, call.p, border)
    return call.forward((call.x.shape[0], *call.p.shape[:-1]), border=border)


def sample_backward(
    grad_output: Array,
    x: Array,
    p: Array,
    *,
    border: Border = "zero",
    side: Side = "right",
    backend: str | None = None,
    version: str | None = None,
    precision: str = "exact",
    wrt: Iterable[str] | None = None,
    deterministic: bool = False,
) -> SampleGrads:
    """The gradients of `sample`, given grad_output C ..., as in `reference.sample_backward`.

    The gradient of x is not deterministic but for deterministic=True.
    """
    choice = Choice(backend, version, precision, deterministic)
    call = _Call("sample_backward", choice, grad_output=grad_output, x=x, p=p)
    checks.check_sample(call.x, call.p, border, grad_output=call.grad_output, side=side)
    return SampleGrads(**call.backward(SampleGrads, wrt, border=border, side=side))


def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: int | Pair = 1,
    padding: int | Pair | Sides = 0,
    dilation: int | Pair = 1,
    backend: str | None = None,
    version: str | None = None,
    precision: str = "exact",
) -> Array:
    """Equation (1): y(p0) = sum over p_n of w(p_n) x(p0 + p_n).

    The arrays are those of `reference.conv2d`; returns N O Ho Wo. Keywords: the head of this file.
    """
    call = _Call("conv2d", Choice(backend, version, precision), x=x, weight=weight, bias=bias)
    geometry = checks.check_conv2d(call.x, call.weight, call.bias, stride, padding, dilation)
    return call.forward(call.output_shape(geometry), geometry=geometry)


def conv2d_backward(
    grad_output: Array,
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: int | Pair = 1,
    padding: int | Pair | Sides = 0,
    dilation: int | Pair = 1,
    backend: str | None = None,
    version: str | None = None,
    precision: str = "exact",
    wrt: Iterable[str] | None = None,
    deterministic: bool = False,
) -> ConvGrads:
    """The gradients of `conv2d`, given grad_output N O Ho Wo, as in `reference.conv2d_backward`."""
    choice = Choice(backend, version, precision, deterministic)
    call = _Call("conv2d_backward", choice, grad_output=grad_output, x=x, weight=weight, bias=bias)
    geometry = checks.check_conv2d(
        call.x, call.weight, call.bias, stride, padding, dilation, grad_output=call.grad_output
    )
    return ConvGrads(**call.backward(ConvGrads, wrt, geometry=geometry))


def deform_conv2d(
    x: Array,
    offset: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: int | Pair = 1,
    padding: int | Pair | Sides = 0,
    dilation: int | Pair = 1,
    mask: Array | None = None,
    border: Border = "zero",
    backend: str | None = None,
    version: str | None = None,
    precision: str = "exact",
) -> Array:
    """Equation (2): y(p0) = sum over p_n of w(p_n) x(p0 + p_n + Delta p_n).

    The arrays are those of `reference.deform_conv2d`, the mask (DCNv2, Zhu et al. 2019; not in this
    paper) among them; returns N O Ho Wo. Keywords: see the head of this file.
    """
    call = _Call(
        "deform_conv2d", Choice(backend, version, precision),
        x=x, offset=offset, weight=weight, bias=bias, mask=mask,
    )  # fmt: skip
    geometry = checks.check_deform_conv2d(
        call.x, call.offset, call.weight, call.bias, stride, padding, dilation, call.mask, border
    )
    return call.forward(call.output_shape(geometry), geometry=geometry, border=border)


def deform_conv2d_backward(
    grad_output: Array,
    x: Array,
    offset: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: int | Pair = 1,
    padding: int | Pair | Sides = 0,
    dilation: int | Pair = 1,
    mask: Array | None = None,
    border: Border = "zero",
    side: Side = "right",
    backend: str | None = None,
    version: str | None = None,
    precision: str = "exact",
    wrt: Iterable[str] | None = None,
    deterministic: bool = False,
) -> DeformConvGrads:
    """Equation (7), and the gradients of x, weight, bias and mask, given grad_output N O Ho Wo.

    The arrays are those of `reference.deform_conv2d_backward`. The gradient of x is not
    deterministic but for deterministic=True; the others always are.
    """
    call = _Call(
        "deform_conv2d_backward", Choice(backend, version, precision, deterministic),
        grad_output=grad_output, x=x, offset=offset, weight=weight, bias=bias, mask=mask,
    )  # fmt: skip
    geometry = checks.check_deform_conv2d(
        call.x, call.offset, call.weight, call.bias, stride, padding, dilation, call.mask, border,
        grad_output=call.grad_output, side=side,
    )  # fmt: skip
    settings = {"geometry": geometry, "border": border, "side": side}
    return DeformConvGrads(**call.backward(DeformConvGrads, wrt, **settings))


class _Call:
    """One call: its arrays by name, each also an attribute, described as `checks` wants it."""

    def __init__(self, operator: str, choice: Choice, **given: Any):
        self.operator, self.choice = operator, choice
        self.given = {name: arrays.readable(name, a) for name, a in given.items()}
        self.arrays = {name: a for name, a in self.given.items() if a is not None}

    def __getattr__(self, name: str) -> Any:
        return arrays.described(self.given[name])

    def output_shape(self, geometry: Geometry) -> Shape:
        return self.x.shape[0], self.weight.shape[0], *geometry.output

    def forward(self, shape: Shape, **settings: Any) -> Any:
        """Runs the operator, whose result has this shape and the dtype of x."""
        registry.check(self.choice)
        return self._run({"y": (shape, self.x.dtype)}, settings)["y"]

    def backward(self, fields: Any, wrt: Iterable[str] | None, **settings: Any) -> dict[str, Any]:
        """Runs the operator for the gradients `wrt` names; those not wanted or given are None."""
        registry.check(self.choice)
        names = _names(wrt, fields._fields)
        wanted = tuple(n for n in fields._fields if n in names and n in self.arrays)
        if "x" not in wanted:  # the others repeat bit for bit in every version
            self.choice = self.choice._replace(deterministic=False)
        results = {name: (getattr(self, name).shape, getattr(self, name).dtype) for name in wanted}
        grads = self._run(results, settings | {"wrt": wanted}) if wanted else {}
        return dict.fromkeys(fields._fields) | grads

    def _run(self, results: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
        """To device, launch, back. Where an array is empty all sums are: nothing is launched."""
        place, x = arrays.place(self.arrays), self.given["x"]
        backend, version = registry.choose(self.choice, self.operator)
        with backend.on(place):
            if any(0 in arrays.described(a).shape for a in self.arrays.values()):
                made = {n: backend.take(np.zeros(*result)) for n, result in results.items()}
            else:
                taken = {n: None if a is None else backend.take(a) for n, a in self.given.items()}
                out = version.run(**taken, **settings)
                made = out if isinstance(out, dict) else {"y": out}
            return {name: arrays.like(a, x, place) for name, a in made.items()}


def _names(wrt: Any, fields: tuple[str, ...]) -> tuple[str, ...]:
    """The gradients that `wrt` asks for: all for None, one for a string."""
    if wrt is not None and not isinstance(wrt, Iterable):
        raise TypeError(
            f"wrt is {wrt!r}, expected None or an iterable of names among {registry.either(fields)}"
        )
    names = fields if wrt is None else (wrt,) if isinstance(wrt, str) else tuple(wrt)
    for name in names:
        if not (isinstance(name, str) and name in fields):
            raise ValueError(f"wrt has {name!r}, expected names among {registry.either(fields)}")
    return names
