"""Every call that a law makes of an implementation, made with care.

What the implementation lacks is never asked of it; it gets copies of the arguments; what it gives
must be arrays of the promised shape and dtype. The memory that it may find is filled before, once
with NaN and once with 1e30, so that what it never wrote shows in a second call.
"""

import inspect
import traceback
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

import deformable_convnets.reference as reference
from deformable_convnets.reference.geometry import both_sides, output_size, pair, per_axis

from . import features
from .compare import ABSENT
from .failures import Failed, NotSupported, Refused
from .implementation import Implementation
from .peers.serve import poison

GRADS: dict[str, Any] = {
    "sample": reference.SampleGrads,
    "conv2d": reference.ConvGrads,
    "deform_conv2d": reference.DeformConvGrads,
    "deform_conv3d": reference.DeformConvGrads,
    "roi_pool": reference.RoiPoolGrads,
    "ps_roi_pool": reference.RoiPoolGrads,
    "deform_roi_pool": reference.DeformRoiPoolGrads,
    "deform_ps_roi_pool": reference.DeformRoiPoolGrads,
}
WITHOUT_KEYWORD = {  # what a callable lacks that does not take a keyword of the reference
    "mask": ("mask",),
    "stride": ("stride",),
    "padding": ("padding", "uneven padding"),
    "dilation": ("dilation",),
    "side": ("the left derivative",),
    "bias": ("bias",),
    "offset": ("offset",),
    "spatial_scale": ("spatial_scale",),
    "samples": ("samples",),
    "group_size": ("maps unlike bins",),
    "part_size": ("parts unlike bins",),
}


@dataclass
class Record:
    """One call: the arguments by name, as the reference has them, and what came of it."""

    operator: str
    arguments: dict[str, Any]
    result: Any = None


@dataclass
class Careful:
    """An operator of an implementation, called with care; a law calls it as the reference's.

    log   where the calls are noted
    bare  whether the arguments themselves are given, not copies
    """

    operator: str
    function: Callable[..., Any]
    lacks: frozenset[str]
    log: list[Record]
    bare: bool = False
    memory: Any = field(default_factory=lambda: cycle([np.nan, 1e30]))

    def __call__(self, *args: Any, **options: Any) -> Any:
        a = arguments(self.operator, args, options)
        lacking = features.of(self.operator, a) & self.lacks
        if lacking:
            raise NotSupported(*sorted(lacking))
        record = Record(self.operator, a)
        self.log.append(record)
        record.result = self._judged(self._called(a), a)
        return record.result

    def _called(self, a: dict[str, Any]) -> Any:
        own = self._own(a)
        args, options = taken(self.operator, self.function, own)
        poison([(s, d) for s, d in promised(self.operator, a).values()], next(self.memory))
        try:
            return self.function(*args, **options)
        except (NotSupported, Failed):
            raise
        except NotImplementedError as error:
            raise Refused(str(error) or "NotImplementedError") from error
        except (Exception, SystemExit, GeneratorExit) as error:
            kind, place = type(error).__name__, innermost(error)
            message = f"{self.operator} raised {kind}: {error}  [{place}]"
            raise Failed("raised", message) from error

    def _own(self, a: dict[str, Any]) -> dict[str, Any]:
        """The arguments, copied where they could be written to."""
        return {
            name: v.copy() if isinstance(v, np.ndarray) and v.flags.writeable and not self.bare
            else v for name, v in a.items()
        }  # fmt: skip

    def _judged(self, result: Any, a: dict[str, Any]) -> Any:
        wanted = promised(self.operator, a)
        if not self.operator.endswith("_backward"):
            return _checked(f"the result of {self.operator}", result, *wanted["y"])
        grads = GRADS[self.operator.removesuffix("_backward")]
        found = _by_name(result, grads._fields, self.operator)
        for name in grads._fields:
            if f"the gradient of {name}" in self.lacks:
                found[name] = ABSENT
            elif name not in wanted:  # of an argument that was not given: nothing is promised
                found[name] = None
            elif found[name] is None:
                said = f"grads.{name} is missing; if it is not given, say lacks="
                raise Failed("type", f"{said}['the gradient of {name}']")
            else:
                found[name] = _checked(f"grads.{name}", found[name], *wanted[name])
        return grads(**found)


def careful(i: Implementation, log: list[Record], *, bare: bool = False) -> Implementation:
    """The implementation with every operator `Careful`."""
    call: dict[str, Any] = {
        name: Careful(name, f, i.lacks, log, bare) for name, f in i.call.items()
    }
    return replace(i, call=call)


def arguments(operator: str, args: tuple[Any, ...], options: dict[str, Any]) -> dict[str, Any]:
    """A call's arguments by name, with the defaults of the reference."""
    bound = inspect.signature(getattr(reference, operator)).bind(*args, **options)
    bound.apply_defaults()
    return dict(bound.arguments)


def lacking(
    operator: str, function: Callable[..., Any], rules: Mapping[str, Collection[str]]
) -> frozenset[str]:
    """What a callable lacks by its signature: a mask, where it takes no `mask`.

    rules  what it lacks where it takes no `border`, or no `bins`
    """
    takes = _parameters(operator, function)
    if takes is None:
        return frozenset()
    names = inspect.signature(getattr(reference, operator)).parameters
    known = {**WITHOUT_KEYWORD, **rules}
    return frozenset(w for name in names if name not in takes for w in known.get(name, ()))


def taken(
    operator: str, function: Callable[..., Any], a: dict[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """The arguments that a callable takes, in the way of the reference: by place or by name."""
    takes, args, options = _parameters(operator, function), [], {}
    for name, parameter in inspect.signature(getattr(reference, operator)).parameters.items():
        if takes is not None and name not in takes and name in (*WITHOUT_KEYWORD, "border", "bins"):
            continue  # the call does not need it, or it was not made
        if parameter.kind is parameter.KEYWORD_ONLY:
            options[name] = a[name]
        else:
            args.append(a[name])
    return args, options


def _parameters(operator: str, function: Callable[..., Any]) -> set[str] | None:
    """What a callable takes, by the names of the reference; None if it takes all, or is silent.

    Arguments by place may have other names: they are counted.
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    theirs = inspect.signature(getattr(reference, operator)).parameters.values()
    by_place = [p.name for p in theirs if p.kind is not p.KEYWORD_ONLY]
    by_name = {p.name for p in theirs if p.kind is p.KEYWORD_ONLY}
    places = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    count = sum(p.name not in by_name for p in places)
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        count = len(by_place)
    named = by_name if any(p.kind is p.VAR_KEYWORD for p in parameters) else set()
    return named | {p.name for p in parameters if p.name in by_name} | set(by_place[:count])


def promised(operator: str, a: dict[str, Any]) -> dict[str, tuple[tuple[int, ...], Any]]:
    """The shape and dtype of "y", or of every gradient."""
    x = a["x"]
    if operator.endswith("_backward"):
        fields = GRADS[operator.removesuffix("_backward")]._fields
        return {n: (a[n].shape, a[n].dtype) for n in fields if a.get(n) is not None}
    if operator == "sample":
        return {"y": ((len(x), *a["p"].shape[:-1]), x.dtype)}
    if operator.endswith("roi_pool"):
        size = pair("output_size", a["output_size"], at_least=1)
        group = size if a.get("group_size", 1) is None else a.get("group_size", 1)
        gh, gw = pair("group_size", group, at_least=1)
        return {"y": ((len(a["rois"]), x.shape[1] // (gh * gw), *size), x.dtype)}
    d = x.ndim - 2
    stride, dilation = (per_axis(n, a[n], d, at_least=1) for n in ("stride", "dilation"))
    padding = both_sides("padding", a["padding"], d)
    each = (x.shape[2:], a["weight"].shape[2:], stride, padding, dilation)
    return {"y": ((len(x), len(a["weight"]), *map(output_size, *each)), x.dtype)}


def _by_name(result: Any, names: tuple[str, ...], operator: str) -> dict[str, Any]:
    """Gradients given as a named tuple, a dict, or in the order of the reference."""
    if hasattr(result, "_asdict"):
        result = result._asdict()
    if isinstance(result, dict):
        return {name: result.get(name) for name in names}
    if isinstance(result, tuple | list) and len(result) == len(names):
        return dict(zip(names, result, strict=True))
    raise Failed(
        "type", f"{operator} gave {_kind(result)}, expected {', '.join(names)} by name or in order"
    )


def _checked(what: str, a: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    if not isinstance(a, np.ndarray) or isinstance(a, np.ma.MaskedArray):
        raise Failed("type", f"{what} is {_kind(a)}, expected a NumPy array")
    if a.shape != shape:
        raise Failed("shape", f"{what} has shape {a.shape}, expected {shape}")
    if a.dtype != dtype:
        raise Failed("dtype", f"{what} has dtype {a.dtype}, expected {dtype}")
    return np.array(a)  # ours: the next call may write to the same memory


def _kind(value: Any) -> str:
    return "None" if value is None else f"of type {type(value).__name__}"


def innermost(error: BaseException) -> str:
    """Where an exception was raised, as file:line in function."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(last.filename).name}:{last.lineno} in {last.name}"
