"""The door of `receptive_fields`: like `checks`, for stacks of layers on one image."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy import ndarray as Array

from .bilinear import computed
from .checks import Call, one_of
from .geometry import Geometry, Pair, output_size, pair, sides
from .offset_checks import check_offset

if TYPE_CHECKING:
    from .receptive_fields import ConvLayer

CONTROLS = ("vectors", "lengths")


class Checked(NamedTuple):
    """A checked layer: its numbers, the map that it reads, its arrays in the common dtype."""

    geometry: Geometry  # its output is (0, 0) where that is not known
    size: Pair | None  # of its input
    offset: Array | None
    weight: Array | None
    offset_group: int


def check_stack(layers: Any, size: Any = None, offset_group: Any = 0) -> list[Checked]:
    """The layers from the input up, with the sizes of their maps where they can be known."""
    if not isinstance(layers, Sequence) or isinstance(layers, str):
        raise TypeError(f"layers is of type {type(layers).__name__}, expected a list of ConvLayer")
    if not layers:
        raise ValueError("layers is empty, expected 1 ConvLayer or more")
    groups = _groups(offset_group, len(layers))
    read = None if size is None else pair("size", size, at_least=1)
    checked = []
    for i, (layer, group) in enumerate(zip(layers, groups, strict=True)):
        entry = _layer(f"layers[{i}]", layer, read, group)
        checked.append(entry)
        read = None if entry.geometry.output == (0, 0) else entry.geometry.output
    arrays: dict[str, Any] = {
        f"layers[{i}].{name}": a
        for i, entry in enumerate(checked)
        for name, a in (("offset", entry.offset), ("weight", entry.weight))
        if a is not None
    }
    Call(**arrays).check_arrays({})
    return [
        entry._replace(
            offset=None if entry.offset is None else computed(entry.offset),
            weight=None if entry.weight is None else computed(entry.weight),
        )
        for entry in checked
    ]


def dtype_of(stack: list[Checked]) -> Any:
    """The dtype of the arithmetic: that of the arrays, or float64 where there are none."""
    arrays = [a for entry in stack for a in (entry.offset, entry.weight) if a is not None]
    return arrays[0].dtype if arrays else np.dtype(np.float64)


def check_points(p: Any, dtype: Any) -> Array:
    """Points (..., 2) as an array; numbers in a tuple or list are as good."""
    try:
        points = np.asarray(p)
    except ValueError:  # rows of different lengths
        points = np.asarray(None)
    if points.dtype.kind not in "iuf":
        raise TypeError(f"p is {p!r:.60}, expected real numbers (y, x) or an array (..., 2)")
    if points.ndim == 0 or points.shape[-1] != 2:
        raise ValueError(f"p has shape {points.shape}, expected (..., 2): y and x")
    return points.astype(dtype)


def check_pixel(p: Any, size: Pair) -> Pair:
    """One pixel (y, x) of a map."""
    y, x = pair("p", tuple(p) if isinstance(p, np.ndarray) else p, at_least=0)
    if y >= size[0] or x >= size[1]:
        raise ValueError(f"p is {(y, x)}, expected a pixel of the output, which has {size} pixels")
    return y, x


def check_channels(i: int, weight: Array, C: int) -> None:
    """Whether a layer's weight, O C/groups kh kw, fits the C channels of the layer below."""
    O, each = weight.shape[:2]
    if C % each or O % (C // each):
        raise ValueError(
            f"layers[{i}].weight has shape {weight.shape}, which does not fit the {C} channels of"
            f" layers[{i - 1}]: expected O, C/groups, kh, kw"
        )


def check_influence(influence: Any, power: Any) -> int:
    """`influence_spread`; returns the power."""
    call = Call(influence=influence)
    call.check_arrays({})
    if influence.ndim < 2:
        call.fail(f"influence has {influence.ndim} dimensions, expected 2 or more: ... H W")
    if power not in (1, 2) or isinstance(power, bool):
        call.fail(f"power is {power!r}, expected 1 or 2")
    return int(power)


def check_control(offset: Any, kernel_size: Any, rng: Any, keep: Any) -> Geometry:
    """`disordered_offset`."""
    geometry = check_offset(offset, kernel_size, 1, 0, 1)
    call = Call(offset=offset)
    if not isinstance(rng, np.random.Generator):
        call.fail(f"rng is of type {type(rng).__name__}, expected a numpy Generator", TypeError)
    one_of(call, "keep", keep, CONTROLS)
    return geometry


def check_grid(offset: Any, kernel_size: Any, dilation: Any) -> Geometry:
    """`grid_fit`: two taps or more, so that the grid has a size."""
    geometry = check_offset(offset, kernel_size, 1, 0, dilation)
    if geometry.kernel == (1, 1):
        Call(offset=offset).fail(f"kernel_size is {kernel_size!r}, expected 2 taps or more")
    return geometry


def _layer(name: str, layer: "ConvLayer", size: Pair | None, group: int) -> Checked:
    if not hasattr(layer, "kernel_size"):
        raise TypeError(f"{name} is of type {type(layer).__name__}, expected a ConvLayer")
    try:
        geometry = _geometry(layer, size)
        _weight(layer, geometry)
    except (TypeError, ValueError) as error:
        message, kind = f"{name}.{error}", type(error)
    else:
        if layer.offset is not None and group >= geometry.offset_groups:
            raise ValueError(
                f"offset_group is {group} for {name}, expected less than its"
                f" {geometry.offset_groups} offset groups"
            )
        return Checked(geometry, size, layer.offset, layer.weight, group)
    raise kind(message)


def _geometry(layer: "ConvLayer", size: Pair | None) -> Geometry:
    kernel, offset = pair("kernel_size", layer.kernel_size, at_least=1), layer.offset
    stride = pair("stride", layer.stride, at_least=1)
    padding = sides("padding", layer.padding)
    dilation = pair("dilation", layer.dilation, at_least=1)
    output = (0, 0)
    if size is not None:
        Ho, Wo = map(output_size, size, kernel, stride, padding, dilation)
        output = (Ho, Wo)
        if min(output) < 1:
            raise ValueError(f"kernel_size is {kernel}, too large for its input of {size} pixels")
    if offset is None:
        return Geometry(kernel, stride, padding, dilation, output, 1, 1)
    of_offset = check_offset(offset, kernel, stride, padding, dilation)
    if offset.shape[0] != 1:
        raise ValueError(f"offset has {offset.shape[0]} images, expected 1: offset[n : n + 1]")
    if size is not None and of_offset.output != output:
        raise ValueError(
            f"offset has {of_offset.output} pixels, expected {output}, the output of an input of"
            f" {size}"
        )
    if min(of_offset.output) < 1:
        raise ValueError(f"offset has {of_offset.output} pixels, expected 1 x 1 or more")
    return of_offset


def _weight(layer: "ConvLayer", geometry: Geometry) -> None:
    if layer.weight is not None:
        call = Call(weight=layer.weight)
        call.check_arrays({"weight": "O C/groups kh kw"})
        if layer.weight.shape[2:] != geometry.kernel or min(layer.weight.shape) < 1:
            call.fail(f"weight has shape {layer.weight.shape}, expected O, C/groups and kernel"
                      f" {geometry.kernel}")  # fmt: skip


def _groups(offset_group: Any, count: int) -> list[int]:
    each = list(offset_group) if isinstance(offset_group, tuple | list) else [offset_group] * count
    if len(each) != count or not all(
        isinstance(g, int | np.integer) and not isinstance(g, bool) and g >= 0 for g in each
    ):
        raise ValueError(
            f"offset_group is {offset_group!r}, expected an int >= 0, or one for each of the"
            f" {count} layers"
        )
    return [int(g) for g in each]
