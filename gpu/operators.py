"""The public face: each function is check, to device, choose, launch, back.

reference               here                              why it differs
numpy.ndarray           any array of `arrays`             an array like x comes back
same arguments          and backend, version, precision   to choose an implementation by name
every gradient          wrt, deterministic                work that is not wanted is not done

Checks and messages are the reference's own; its arithmetic is not used. The keywords of them all:

    backend        "cupy" or "numba"; None takes the first that can run and has what is asked for
    version        "v1", "v2", ... of that backend; None takes the fastest, which between "v2" and
                   "v3" of "cupy" depends on the device and the shape (see `tune`)
    precision      "exact": sums in the dtype of x, float32 for float16 and bfloat16, whose samples
                   "v2" and "v3" of "cupy" round to 16 bits before their products, while "v3"
                   makes those of float32 to 3 / 2**22 of each; "tf32": float32 operands of
                   products are rounded to 10 bits of mantissa
    workspace_limit  bytes of device memory that "v2" and "v3" of "cupy" may need beside their
                   results, if possible, and beside copies of arguments with gaps or backwards
                   axes; None: 24 MiB, 64 MiB for a backward, if one image and 512 pixels
                   fit (RoI pooling: beside copies of x)
    wrt            of a backward: the gradients wanted, by name, None for all; others are None
    deterministic  of a backward: True takes a version whose gradient of x repeats bit for bit, for
                   the same call on the same device; the faster versions add to it by atomics, in
                   no defined order

Raises what the reference raises, RuntimeError where no backend can run, and ValueError where the
arrays of a call are in different places or a keyword names what does not exist.
"""

from collections.abc import Iterable
from typing import Any

from deformable_convnets.reference import checks
from deformable_convnets.reference.bilinear import Border, SampleGrads, Side
from deformable_convnets.reference.convolution import ConvGrads
from deformable_convnets.reference.deform_conv import DeformConvGrads
from deformable_convnets.reference.geometry import Pair, Sides

from .calls import Call
from .registry import Choice

Array = Any


def sample(
    x: Array,
    p: Array,
    *,
    border: Border = "zero",
    backend: str | None = None,
    version: str | None = None,
    precision: str = "exact",
    workspace_limit: int | None = None,
) -> Array:
    """Equation (3): x(p) = sum over q of G(q, p) x(q).

    x C H W and p ... 2, as in `reference.sample`; returns C ... . Keywords: the head of this file.
    """
    call = Call(
        "sample", Choice(backend, version, precision, workspace_limit=workspace_limit), x=x, p=p
    )
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
    workspace_limit: int | None = None,
    wrt: Iterable[str] | None = None,
    deterministic: bool = False,
) -> SampleGrads:
    """The gradients of `sample`, given grad_output C ..., as in `reference.sample_backward`.

    The gradient of x is not deterministic but for deterministic=True.
    """
    choice = Choice(backend, version, precision, deterministic, workspace_limit)
    call = Call("sample_backward", choice, grad_output=grad_output, x=x, p=p)
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
    workspace_limit: int | None = None,
) -> Array:
    """Equation (1): y(p0) = sum over p_n of w(p_n) x(p0 + p_n).

    The arrays are those of `reference.conv2d`; returns N O Ho Wo. Keywords: the head of this file.
    """
    call = Call(
        "conv2d",
        Choice(backend, version, precision, workspace_limit=workspace_limit),
        x=x,
        weight=weight,
        bias=bias,
    )
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
    workspace_limit: int | None = None,
    wrt: Iterable[str] | None = None,
    deterministic: bool = False,
) -> ConvGrads:
    """The gradients of `conv2d`, given grad_output N O Ho Wo, as in `reference.conv2d_backward`."""
    choice = Choice(backend, version, precision, deterministic, workspace_limit)
    call = Call("conv2d_backward", choice, grad_output=grad_output, x=x, weight=weight, bias=bias)
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
    workspace_limit: int | None = None,
) -> Array:
    """Equation (2): y(p0) = sum over p_n of w(p_n) x(p0 + p_n + Delta p_n).

    The arrays are those of `reference.deform_conv2d`, the mask (DCNv2, Zhu et al. 2019; not in this
    paper) among them; returns N O Ho Wo. Keywords: see the head of this file.
    """
    call = Call(
        "deform_conv2d", Choice(backend, version, precision, workspace_limit=workspace_limit),
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
    workspace_limit: int | None = None,
    wrt: Iterable[str] | None = None,
    deterministic: bool = False,
) -> DeformConvGrads:
    """Equation (7), and the gradients of x, weight, bias and mask, given grad_output N O Ho Wo.

    The arrays are those of `reference.deform_conv2d_backward`. The gradient of x is not
    deterministic but for deterministic=True; the others always are.
    """
    choice = Choice(backend, version, precision, deterministic, workspace_limit)
    call = Call(
        "deform_conv2d_backward", choice,
        grad_output=grad_output, x=x, offset=offset, weight=weight, bias=bias, mask=mask,
    )  # fmt: skip
    geometry = checks.check_deform_conv2d(
        call.x, call.offset, call.weight, call.bias, stride, padding, dilation, call.mask, border,
        grad_output=call.grad_output, side=side,
    )  # fmt: skip
    settings = {"geometry": geometry, "border": border, "side": side}
    return DeformConvGrads(**call.backward(DeformConvGrads, wrt, **settings))
