"""How a right call becomes a wrong one: the changes of which `mistakes` makes its table.

A `Call` holds the right operator and its arguments. A wrong operator is a function of a `Call`: it
runs the right one on other arguments, or changes one of the gradients that it returns.
"""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import ndarray as Array

from .. import bilinear, checks, convolution, deform_conv, layout
from ..geometry import Geometry, R, centres


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
    def layer(self) -> Geometry:
        """The geometry of the convolution that is called."""
        given = {n: v for n, v in self.arguments.items() if n not in ("grad_output", "side")}
        check: Any = checks.check_deform_conv2d if "offset" in given else checks.check_conv2d
        return check(**given)

    @property
    def field(self) -> Array:
        """The offset as N G K 2 Ho Wo."""
        return by_tap(self.offset, self.layer)


Wrong = dict[str, Callable[[Call], Any]]


def by_tap(offset: Array, layer: Geometry) -> Array:
    K = layer.kernel[0] * layer.kernel[1]
    return offset.reshape(len(offset), -1, K, 2, *layer.output)


def grid(layer: Geometry) -> Array:
    """p0 + p_n as K 2 Ho Wo."""
    p0 = np.moveaxis(centres(layer), -1, 0)
    return p0 + R(layer.kernel, dilation=layer.dilation)[:, :, None, None]


def by_columns(taps: Array, layer: Geometry) -> Array:
    """Axis 2, the K taps, in the order in which a reader by columns would find them."""
    kh, kw = layer.kernel
    return taps[:, :, np.arange(kh * kw).reshape(kw, kh).T.ravel()]


def with_offset(change: Callable[[Call], Array]) -> Callable[[Call], Any]:
    """Run on another offset, given as N G K 2 Ho Wo."""
    return lambda c: c(
        offset=change(c).reshape(len(c.x), -1, *c.layer.output).astype(c.offset.dtype)
    )


def with_points(change: Callable[[Array, Call], Array]) -> Callable[[Call], Any]:
    """Run with every p = p0 + p_n + Delta p_n (N G K 2 Ho Wo) moved elsewhere."""
    return with_offset(lambda c: change(c.field + grid(c.layer), c) - grid(c.layer))


def split(field: Array) -> Array:
    """The channels of every offset group read as all of one coordinate, then all of the other."""
    N, G, K, _, Ho, Wo = field.shape
    return field.reshape(N, G, 2, K, Ho, Wo).swapaxes(2, 3)


def yx(values: Any) -> Array:
    """Two numbers, for y and x, to be added to a field N G K 2 Ho Wo."""
    return np.reshape(values, (2, 1, 1))


def weight_by_columns(c: Call) -> Array:
    by_tap = c.weight.reshape(*c.weight.shape[:2], -1)
    return by_columns(by_tap, c.layer).reshape(c.weight.shape)


def strided_groups(c: Call) -> Any:
    """Group i takes channels i, i + groups, ... and not a block of neighbours."""
    N, C, H, W = c.x.shape
    x = c.x.reshape(N, C // c.layer.groups, c.layer.groups, H, W).swapaxes(1, 2)
    return c(x=np.ascontiguousarray(x).reshape(c.x.shape))


def strided_offset_groups(c: Call) -> Any:
    """Channel c reads with offset group c mod G; written as one offset group per channel."""
    (N, C), G = c.x.shape[:2], c.layer.offset_groups
    fields = {"offset": c.offset} if c.mask is None else {"offset": c.offset, "mask": c.mask}
    split = {n: f.reshape(N, G, -1, *c.layer.output) for n, f in fields.items()}
    spread = {n: f[:, np.arange(C) % G] for n, f in split.items()}
    return c(**{n: f.reshape(N, -1, *c.layer.output) for n, f in spread.items()})


def last_written(G: Any, grad_samples: Array) -> Array:
    """G^T grad_samples (C points -> C pixels) in which a pixel keeps the last value only."""
    entries = G.tocoo()
    row, column = (i[entries.data != 0] for i in (entries.row, entries.col))
    out = np.zeros((len(grad_samples), G.shape[1]), grad_samples.dtype)
    out[:, column] = entries.data[entries.data != 0] * grad_samples[:, row]
    return out


def sample_last_written(c: Call) -> Any:
    G = bilinear.G(c.p, c.x.shape[1:], border=c.border)
    lost = last_written(G, c.grad_output.reshape(len(c.x), -1))
    return c()._replace(x=lost.reshape(c.x.shape).astype(c.x.dtype))


def deform_last_written(c: Call) -> Any:
    layer, w = c.layer, layout.weights(c.weight, c.layer.groups)
    columns = layout.outputs(c.grad_output, layer.groups).swapaxes(1, 2) @ w
    grads = layout.from_columns(columns, len(c.x), layer)
    if c.mask is not None:
        grads = grads * layout.points(c.mask, layer).reshape(-1, 1)
    maps = deform_conv.locations(c.offset, layer)
    each = zip(maps, np.split(grads, len(maps)), strict=True)
    lost = [last_written(bilinear.G(p, c.x.shape[2:], border=c.border), g.T) for p, g in each]
    return c()._replace(x=np.reshape(lost, c.x.shape).astype(c.x.dtype))


def turned(field: str, change: Callable[[Array, Call], Array]) -> Callable[[Call], Any]:
    """The right gradients but for one field, which is changed."""

    def wrong(c: Call) -> Any:
        grads = c()
        right = getattr(grads, field)
        if right is None:
            return grads
        moved = np.asarray(change(right, c)).reshape(right.shape)
        return grads._replace(**{field: moved.astype(right.dtype)})

    return wrong


def sides(field: str) -> Wrong:
    """What can be returned in place of the derivative of the side that was asked for."""

    def opposite(c: Call) -> Array:
        return getattr(c(side="left" if c.side == "right" else "right"), field)

    mean = "the mean of both sides (a central difference at a kink)"
    return {
        "the derivative of the other side": turned(field, lambda a, c: opposite(c)),
        mean: turned(field, lambda a, c: (a + opposite(c)) / 2),
    }


def last_image(c: Call) -> Any:
    batched = ("grad_output", "x", "offset", "mask")
    one = {n: v[-1:] for n, v in c.arguments.items() if n in batched and v is not None}
    return c(**one).weight


def branch_term(c: Call) -> Array:
    """What the offset branch of Figure 2 adds to the gradient of x."""
    a = {n: v for n, v in c.arguments.items() if not n.startswith("offset")}
    sizes = {n: a[n] for n in ("stride", "padding", "dilation")}
    offset = convolution.conv2d(c.x, c.offset_weight, c.offset_bias, **sizes)
    return c().x - deform_conv.deform_conv2d_backward(**a, offset=offset).x
