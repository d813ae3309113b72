"""How a right call becomes a wrong one: the changes of which the tables of `mistakes` are made.

A `Call` holds the right operator and its arguments. A wrong operator is a function of a `Call`: it
runs the right one on other arguments, or changes what it returns. It may be the call of a forward
or of a backward, and must run on any valid arguments: no images, one pixel, points at infinity.
"""

import inspect
import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from numpy import ndarray as Array

from .. import checks, volume_checks
from ..geometry import Geometry, centres, regular_grid


class Call:
    """One call of the right operator. `call.x` is an argument; `call(x=...)` runs it, changed."""

    def __init__(self, op: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]):
        bound = inspect.signature(op).bind(*args, **options)
        bound.apply_defaults()
        self.op, self.arguments = op, bound.arguments

    def __getattr__(self, name: str) -> Any:
        return self.arguments[name]

    def __call__(self, **changes: Any) -> Any:
        return self.op(**{**self.arguments, **changes})

    @property
    def backward(self) -> bool:
        """Whether gradients are asked for."""
        return "grad_output" in self.arguments

    @cached_property
    def layer(self) -> Any:
        """The geometry of the convolution that is called, of maps or volumes."""
        given = {n: v for n, v in self.arguments.items() if n not in ("grad_output", "side")}
        check: Any = checks.check_deform_conv2d if "offset" in given else checks.check_conv2d
        return (volume_checks.check_deform_conv3d if self.x.ndim == 5 else check)(**given)

    @cached_property
    def field(self) -> Array:
        """The offset as N G K 2 Ho Wo; of volumes, N G K 3 Do Ho Wo."""
        return by_tap(self.offset, self.layer)

    @property
    def points(self) -> Array:
        """p = p0 + p_n + Delta p_n as N G K 2 Ho Wo."""
        return self.field + grid(self.layer)


Wrong = dict[str, Callable[[Call], Any]]


def by_tap(field: Array, layer: Geometry) -> Array:
    """An offset as N G K 2 Ho Wo; of volumes, N G K 3 Do Ho Wo."""
    K, d = math.prod(layer.kernel), len(layer.kernel)
    return field.reshape(len(field), field.shape[1] // (d * K), K, d, *layer.output)


def by_channel(field: Array) -> Array:
    """N G K 2 Ho Wo as an offset again."""
    return field.reshape(len(field), math.prod(field.shape[1:4]), *field.shape[4:])


def grid(layer: Geometry) -> Array:
    """p0 + p_n as K 2 Ho Wo."""
    p0, pn = np.moveaxis(centres(layer), -1, 0), regular_grid(layer.kernel, layer.dilation)
    return p0 + pn.reshape(*pn.shape, *(1,) * len(layer.kernel))


def yx(values: Any) -> Array:
    """A number for each axis, to be added to a field N G K 2 Ho Wo, or to that of volumes."""
    return np.reshape(values, (-1, *(1,) * len(values)))


def size(c: Call) -> Array:
    """(H, W) or (D, H, W), for a field."""
    return yx(c.x.shape[2:])


def first(c: Call) -> Array:
    """The padding before the map, for a field."""
    return yx([before for before, _ in c.layer.padding])


def last(c: Call) -> Array:
    """The padding after the map, for a field."""
    return yx([after for _, after in c.layer.padding])


def steps(c: Call) -> Array:
    """The row and column of every tap, for a field."""
    return np.stack([yx(tap) for tap in np.ndindex(c.layer.kernel)])


def pixels(c: Call) -> Array:
    """The row and column of every output pixel, for a field."""
    return np.indices(c.layer.output)


def columns(a: Array) -> Array:
    """The last two axes, read column by column."""
    return a.swapaxes(-1, -2).reshape(a.shape)


def by_columns(taps: Array, layer: Geometry) -> Array:
    """Axis 2, the K taps, in the order in which a reader by columns would find them."""
    kh, kw = layer.kernel
    return taps[:, :, np.arange(kh * kw).reshape(kw, kh).T.ravel()]


def moved(c: Call, name: str, a: Array) -> Any:
    """Run on other offsets or points, in float32 or more; their gradient in its own dtype."""
    like = c.arguments[name].dtype
    found = c(**{name: np.ascontiguousarray(a, np.result_type(like, np.float32))})
    if not c.backward:
        return found
    return found._replace(**{name: getattr(found, name).astype(like)})


def with_offset(change: Callable[[Call], Array]) -> Callable[[Call], Any]:
    """Run on another offset, given as N G K 2 Ho Wo."""
    return lambda c: moved(c, "offset", by_channel(change(c)))


def with_points(change: Callable[[Array, Call], Array]) -> Callable[[Call], Any]:
    """Run with every p = p0 + p_n + Delta p_n (N G K 2 Ho Wo) moved elsewhere."""
    return with_offset(lambda c: change(c.points, c) - grid(c.layer))


def gathered(change: Callable[[Array, Geometry], Array]) -> Callable[[Call], Any]:
    """Run on the numbers of the offset in another order, N G K 2 Ho Wo; the gradient follows."""

    def wrong(c: Call) -> Any:
        offset = np.ascontiguousarray(by_channel(change(c.field, c.layer)))
        if not c.backward:
            return c(offset=offset)
        index = by_tap(np.arange(c.offset.size).reshape(c.offset.shape), c.layer)
        return gathered_back(c(offset=offset), c.offset, change(index, c.layer))

    return wrong


def gathered_back(grads: Any, offset: Array, index: Array) -> Any:
    """The gradient of an offset that was gathered by this index, added to where it was read."""
    back = np.zeros(offset.size, offset.dtype)
    np.add.at(back, index.ravel(), grads.offset.ravel())
    return grads._replace(offset=back.reshape(offset.shape))


def scaled(factor: Callable[[Call], Any]) -> Callable[[Call], Any]:
    """Run on the offset times something, N G K 2 Ho Wo; the gradient follows."""

    def wrong(c: Call) -> Any:
        times = factor(c)
        found = moved(c, "offset", by_channel(c.field * times))
        if not c.backward:
            return found
        grad = by_channel(by_tap(found.offset, c.layer) * times)
        return found._replace(offset=grad.astype(c.offset.dtype))

    return wrong


def split(field: Array) -> Array:
    """The channels of every offset group read as all of one coordinate, then all of the other."""
    N, G, K, d, *output = field.shape
    return field.reshape(N, G, d, K, *output).swapaxes(2, 3)


def tap_by_tap(field: Array) -> Array:
    """The pairs read as those of all groups for a tap, then for the next tap."""
    N, G, K, _, Ho, Wo = field.shape
    return field.reshape(N, K, G, 2, Ho, Wo).swapaxes(1, 2)


def repeated(a: Array, axis: int) -> Array:
    """What is first along an axis, everywhere along it."""
    return np.take(a, np.zeros(a.shape[axis], int), axis)


def with_mask(change: Callable[[Array, Call], Array]) -> Callable[[Call], Any]:
    """Run on another mask, given as N G K Ho Wo; where there is none, there is no mistake."""

    def wrong(c: Call) -> Any:
        if c.mask is None:
            return c()
        K, m = math.prod(c.layer.kernel), c.mask
        field = m.reshape(len(m), m.shape[1] // K, K, *c.layer.output)
        return c(mask=change(field, c).reshape(m.shape).astype(m.dtype))

    return wrong


def with_bias(times: Callable[[Call], int]) -> Callable[[Call], Any]:
    """Run with the bias added several times."""
    return lambda c: c(bias=None if c.bias is None else c.bias * c.bias.dtype.type(times(c)))


def taps(c: Call) -> int:
    return math.prod(c.weight.shape[2:])


def softmax(a: Array, axis: int) -> Array:
    powers = np.exp(a - a.max(axis, keepdims=True, initial=0))
    return powers / powers.sum(axis, keepdims=True)


def weight_by_columns(c: Call) -> Array:
    by_tap = c.weight.reshape(*c.weight.shape[:2], -1)
    return by_columns(by_tap, c.layer).reshape(c.weight.shape)


def weight_inside_out(c: Call) -> Array:
    """The memory of the weight read as C/groups O kh kw."""
    O, I, *kernel = c.weight.shape
    return np.ascontiguousarray(c.weight.reshape(I, O, *kernel).swapaxes(0, 1))


def with_channels(order: Callable[[Any], Array]) -> Callable[[Any], Any]:
    """Run on the channels of x in another order; their gradient follows."""

    def wrong(c: Any) -> Any:
        index = order(c).ravel()
        found = c(x=c.x[:, index])
        if not c.backward:
            return found
        back = np.zeros_like(c.x)
        at: Any = (slice(None), index)
        np.add.at(back, at, found.x)
        return found._replace(x=back)

    return wrong


def every_other(c: Call) -> Array:
    """Group i takes channels i, i + groups, ... and not a block of neighbours."""
    C, groups = c.x.shape[1], c.layer.groups
    return np.arange(C).reshape(C // groups, groups).T


def strided_outputs(c: Call) -> Any:
    """Group i makes the output channels i, i + groups, ... and not a block of neighbours."""
    O = len(c.weight)
    order = np.arange(O).reshape(O // c.layer.groups, c.layer.groups).T.ravel()
    y = c(weight=c.weight[order], bias=None if c.bias is None else c.bias[order])
    return y[:, np.argsort(order)]


def strided_offset_groups(c: Call) -> Any:
    """Channel c reads with offset group c mod G; written as one offset group per channel."""
    C, G = c.x.shape[1], c.layer.offset_groups
    fields = {"offset": c.offset} if c.mask is None else {"offset": c.offset, "mask": c.mask}
    split = {n: f.reshape(len(f), G, f.shape[1] // G, *f.shape[2:]) for n, f in fields.items()}
    spread = {n: f[:, np.arange(C) % G] for n, f in split.items()}
    return c(**{n: f.reshape(len(f), C * f.shape[2], *f.shape[3:]) for n, f in spread.items()})


def only_channels(c: Call, kept: Array) -> Any:
    """Run on some channels of x alone; the others are 0."""
    return c(x=c.x * kept.reshape(-1, *(1,) * (c.x.ndim - 2)).astype(c.x.dtype))


def last_of(groups: int, channels: int) -> Array:
    """Which channels are the last of their group."""
    return np.arange(channels) % (channels // groups) == channels // groups - 1


def last_group(c: Call) -> Any:
    """The channels of the last offset group alone."""
    C, G = c.x.shape[1], c.layer.offset_groups
    return only_channels(c, np.arange(C) >= C - C // G)


def enlarged(**steps: Callable[[Geometry], Any]) -> Callable[[Call], Any]:
    """(1) with another stride, padding or dilation: Ho x Wo pixels, on more zeros at the end."""

    def wrong(c: Call) -> Any:
        layer = c.layer
        sizes = {n: getattr(layer, n) for n in ("stride", "padding", "dilation")}
        sizes |= {name: step(layer) for name, step in steps.items()}
        before = [side[0] for side in sizes["padding"]]
        need = [
            (o - 1) * s + d * (k - 1) + 1
            for o, s, d, k in zip(
                layer.output, sizes["stride"], sizes["dilation"], layer.kernel, strict=True
            )
        ]
        after = np.maximum(0, np.subtract(need, c.x.shape[2:]) - before).tolist()
        y = c(**sizes | {"padding": tuple(zip(before, after, strict=True))})
        return np.ascontiguousarray(y[(..., *map(slice, layer.output))])

    return wrong
