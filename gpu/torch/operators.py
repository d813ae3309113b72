"""The operators as PyTorch registers them, each with its gradient: plumbing, without arithmetic.

apply      a call of a function: checked, its settings as a schema has them, given to the operator
Operator   an operator and its gradient: what they compute, shapes, derivative, autocast
_run       what computes: the function of that name in `reference` or in `gpu`
"""

import re
from collections.abc import Iterable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, library
from torch.autograd import forward_ad

from deformable_convnets import gpu, reference
from deformable_convnets.reference import checks, geometry, roi_checks, volume_checks

from .. import arrays, registry

LIBRARY = library.Library("deformable_convnets", "FRAGMENT")
DEVICES = ("cpu", "cuda")
PER_AXIS = ("stride", "dilation", "output_size", "group_size", "part_size")
VOLUMES = "deform_conv3d"
CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
COORDINATES = ("offset", "rois")  # stay in float32, for what 16 bits cannot say of a position
CAST = (torch.float16, torch.bfloat16, torch.float32)
CHOICE = {"backend": "str?", "version": "str?", "precision": "str", "workspace_limit": "int?"}

Named = dict[str, Any]


class Bfloat16(NamedTuple):
    """What `checks` asks of a dtype."""

    name: str = "bfloat16"
    itemsize: int = 2
    kind: str = "V"

    def __str__(self) -> str:
        return self.name


def apply(name: str, given: Named, settings: Named, choice: tuple[Any, ...]) -> Tensor:
    """Calls an operator as its function in `reference` or `gpu` is called, and with its errors.

    given, settings  its tensors and its other arguments, in the order of the schema
    choice           the values of CHOICE
    While torch.compile traces, there are no checks but the operator's, of the shapes it is given.
    """
    if not torch.compiler.is_compiling():
        _check_types(given)
        _check_tangents(name, given)
        _checked(name, given, settings)
        _check_places({a: tensor for a, tensor in given.items() if tensor is not None})
        named = dict(zip(CHOICE, choice, strict=True))
        registry.check(registry.Choice(**named, dtype=_described("x", given["x"]).dtype.name))
    packed = [_packed(name, key, value) for key, value in settings.items()]
    return OPERATORS[name].forward(*given.values(), *packed, *choice)


class Operator:
    """An operator and its gradient as two of PyTorch; their schemas have no defaults."""

    def __init__(self, name: str, tensors: str, settings: str):
        self.name = name
        choice = ", ".join(f"{kind} {keyword}" for keyword, kind in CHOICE.items())
        schema = f"{tensors}, {settings}, {choice}"
        self.names = re.findall(r"\w+(?=,|$)", schema)
        self.tensors = self.names[: len(tensors.split(","))]
        self.forward = self._define("", f"({schema}) -> Tensor", self._forward)
        self.forward.register_fake(self._fake)
        self.forward.register_autograd(self._differentiate, setup_context=self._remember)
        for device in DEVICES:
            LIBRARY.impl(name, partial(self._autocast, device), f"Autocast{device.upper()}")
        schema = f"(Tensor grad_output, {schema}, str[] wrt) -> Tensor[]"
        self.backward = self._define("_backward", schema, self._backward)
        self.backward.register_fake(self._fake_backward)
        self.backward.register_autograd(self._refuse)

    def _define(self, suffix: str, schema: str, run: Any) -> Any:
        return library.custom_op(
            f"deformable_convnets::{self.name}{suffix}", run,
            mutates_args=(), device_types=DEVICES, schema=schema,
        )  # fmt: skip

    def _split(self, args: Iterable[Any]) -> tuple[Named, Named]:
        """The tensors, and the other arguments as the functions take them, by name."""
        named = dict(zip(self.names, args, strict=True))
        if "padding" in named:
            ends = named["padding"]
            named["padding"] = tuple(zip(ends[::2], ends[1::2], strict=True))
        return {name: named.pop(name) for name in self.tensors}, named

    def _forward(self, *args: Any) -> Tensor:
        given, settings = self._split(args)
        return _result(_run(self.name, given, settings), given["x"])

    def _fake(self, *args: Any) -> Tensor:
        given, settings = self._split(args)
        choice = {name: settings.pop(name) for name in CHOICE}
        registry.check(registry.Choice(**choice, dtype=_named(given["x"])))
        shape = _output_shape(given, _checked(self.name, given, settings))
        return _empty(shape, given["x"])

    def _autocast(self, device: str, *args: Any) -> Any:
        given = dict(zip(self.tensors, args, strict=False))
        cast = [None if a is None else a.to(_dtype(name, a)) for name, a in given.items()]
        with torch.autocast(device, enabled=False):
            return self.forward(*cast, *args[len(cast) :])

    def _backward(self, grad_output: Tensor, *args: Any) -> list[Tensor]:
        *inputs, wrt = args
        given, settings = self._split(inputs)
        together = {"grad_output": grad_output, **given}
        grads = _run(f"{self.name}_backward", together, settings, wrt=tuple(wrt))
        return [_result(getattr(grads, name), given[name]) for name in wrt]

    def _fake_backward(self, grad_output: Tensor, *args: Any) -> list[Tensor]:
        *inputs, wrt = args
        given, _ = self._split(inputs)
        return [_empty(given[name].shape, given[name]) for name in wrt]

    def _remember(self, ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[: len(self.tensors)])
        ctx.settings = inputs[len(self.tensors) :]

    def _differentiate(self, ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients that are needed, those of RoIs apart, in the order of the arguments."""
        needed = dict(zip(self.names, ctx.needs_input_grad, strict=True))
        wrt = [name for name in self.tensors if needed[name] and name != "rois"]
        grads = self.backward(grad_output, *ctx.saved_tensors, *ctx.settings, wrt) if wrt else ()
        named = dict(zip(wrt, grads, strict=True))
        return tuple(named.get(name) for name in self.names)

    def _refuse(self, ctx: Any, *grads: Any) -> None:
        raise RuntimeError(
            f"the gradient of {self.name} was to be differentiated: second derivatives are not"
            " offered"
        )


def _run(function: str, given: Named, settings: Named, **backward: Any) -> Any:
    """What `gpu` computes of the tensors, if one is there or it is asked for, or `reference`.

    bfloat16 goes through float32 where nothing else can compute with it.
    """
    choice = {name: settings.pop(name) for name in CHOICE}
    given = {name: None if a is None else a.detach() for name, a in given.items()}
    on_gpu = any(a is not None and a.is_cuda for a in given.values())
    on_gpu = on_gpu or choice["backend"] is not None or choice["version"] is not None
    if on_gpu and backward:
        backward["deterministic"] = torch.are_deterministic_algorithms_enabled()
    if given["x"].dtype is torch.bfloat16 and not (
        on_gpu
        and registry.takes_bfloat16(
            registry.Choice(**choice, device=given["x"].device.index), function
        )
    ):
        given = {name: None if a is None else a.float() for name, a in given.items()}
    if on_gpu:
        return getattr(gpu, function)(**given, **settings, **choice, **backward)
    given = {name: None if a is None else a.numpy() for name, a in given.items()}
    return getattr(reference, function)(**given, **settings)


def _result(a: Any, like: Tensor) -> Tensor:
    """A result in the dtype and the memory format of its argument, or of x."""
    tensor = torch.from_numpy(a) if isinstance(a, np.ndarray) else a
    return tensor.to(like.dtype).contiguous(memory_format=_format(tensor.ndim, like))


def _empty(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """What `_result` returns, without its numbers."""
    return like.new_empty(shape).contiguous(memory_format=_format(len(shape), like))


def _format(ndim: int, like: Tensor) -> torch.memory_format:
    """Channels last where the tensor is and C order is not, C order where both are true."""
    last = CHANNELS_LAST.get(ndim)
    if last is None or like.ndim != ndim or like.is_contiguous():
        return torch.contiguous_format
    return last if like.is_contiguous(memory_format=last) else torch.contiguous_format


def _named(a: Tensor) -> str:
    """The dtype as the registry names it."""
    return str(a.dtype).removeprefix("torch.")


def _output_shape(given: Named, at: Any) -> tuple[int, ...]:
    if isinstance(at, geometry.RoiGeometry):
        return given["rois"].shape[0], at.channels, *at.output
    return given["x"].shape[0], given["weight"].shape[0], *at.output


def _dtype(name: str, a: Tensor) -> torch.dtype:
    """The dtype that torch.autocast wants, but float32 for coordinates; float64 stays."""
    kind = a.device.type
    if kind not in DEVICES or a.dtype not in CAST or not torch.is_autocast_enabled(kind):
        return a.dtype
    return torch.float32 if name in COORDINATES else torch.get_autocast_dtype(kind)


def _packed(operator: str, name: str, value: Any) -> Any:
    """A setting as the schemas have it."""
    axes = 3 if operator == VOLUMES else 2
    if name == "padding":
        return [n for ends in geometry.both_sides(name, value, axes) for n in ends]
    if name in PER_AXIS:
        return None if value is None else list(geometry.per_axis(name, value, axes, at_least=1))
    return float(value) if name in ("spatial_scale", "gamma") else value


def _check_types(given: Named) -> None:
    for name, a in given.items():
        if not (a is None or isinstance(a, Tensor)):
            kind = f"{name} is of type {type(a).__name__}, expected a torch.Tensor"
            checks.Call(**given).fail(kind, TypeError)


def _check_tangents(operator: str, given: Named) -> None:
    """Refuses forward mode, in which PyTorch would take the derivative of a custom_op for 0."""
    for name, a in given.items():
        if a is not None and forward_ad.unpack_dual(a).tangent is not None:
            raise RuntimeError(
                f"{operator} was to be differentiated in forward mode, by {name}: only reverse mode"
                " is offered"
            )


def _checked(name: str, given: Named, settings: Named) -> Any:
    """The geometry of a call by the checks of `reference`; values of RoIs are checked later."""
    described = {n: None if a is None else _described(n, a) for n, a in given.items()}
    if "rois" in given:
        return roi_checks.check_roi_pool(**described, **settings, roi_values=np.empty((0, 5)))
    if name == VOLUMES:
        return volume_checks.check_deform_conv3d(**described, **settings)
    return checks.check_deform_conv2d(**described, **settings)


def _described(name: str, a: Tensor) -> checks.Described:
    """As `arrays.described`, after autocast; a symbolic shape stays one."""
    wanted = _dtype(name, a)
    if wanted is torch.bfloat16:  # known by name, without the package that `arrays` needs for it
        known: Any = Bfloat16()
    else:
        known = arrays.described(torch.empty(0, dtype=wanted)).dtype
    return checks.Described(tuple(a.shape), known)


def _check_places(given: Named) -> None:
    """All on the CPU, on one GPU, or on "meta", which has shapes alone."""
    devices = {a.device for a in given.values()}
    for device in devices:
        if device.type not in DEVICES and (device.type != "meta" or len(devices) > 1):
            checks.Call(**given).fail(
                f"the arrays are on {', '.join(sorted(map(str, devices)))}, expected"
                f" {arrays.CPU} or a CUDA device"
            )
    if len(devices) > 1:
        arrays.place(given)


_CONVOLUTION = (
    "Tensor x, Tensor offset, Tensor weight, Tensor? bias, Tensor? mask",
    "int[] stride, int[] padding, int[] dilation, str border",
)
_SIZES = "int[] output_size, float spatial_scale"
_RULE = "str bins, int? samples"
OPERATORS = {
    name: Operator(name, tensors, settings)
    for name, tensors, settings in (
        ("deform_conv2d", *_CONVOLUTION),
        (VOLUMES, *_CONVOLUTION),
        ("roi_pool", "Tensor x, Tensor rois", f"{_SIZES}, {_RULE}"),
        (
            "deform_roi_pool",
            "Tensor x, Tensor rois, Tensor? offset",
            f"{_SIZES}, float gamma, {_RULE}",
        ),
        ("ps_roi_pool", "Tensor x, Tensor rois", f"{_SIZES}, int[]? group_size, {_RULE}"),
        (
            "deform_ps_roi_pool",
            "Tensor x, Tensor rois, Tensor? offset",
            f"{_SIZES}, float gamma, int[]? group_size, int[]? part_size, {_RULE}",
        ),
    )
}
