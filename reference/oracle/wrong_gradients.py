"""Wrong gradients: the right ones, but for one of them, which is changed or run on other arguments.

How a forward goes wrong is in `wrong_calls`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import ndarray as Array

from .. import bilinear, convolution, deform_conv, layout, trilinear
from .wrong_calls import Call, Wrong, by_tap, last_of, only_channels


def turned(
    field: str, change: Callable[[Array, Any], Array], of: Callable[[Any], Any] = lambda c: c()
) -> Callable[[Any], Any]:
    """The right gradients, or those `of` another mistake, but for one field, which is changed."""

    def wrong(c: Any) -> Any:
        grads = of(c)
        right = getattr(grads, field)
        if right is None:
            return grads
        moved = np.asarray(change(right, c)).reshape(right.shape)
        return grads._replace(**{field: moved.astype(right.dtype)})

    return wrong


def run_on(field: str, **changes: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The right gradients but for one field, which comes from a call with other arguments."""
    return turned(
        field, lambda a, c: getattr(c(**{n: change(c) for n, change in changes.items()}), field)
    )


def twice(field: str) -> Callable[[Any], Any]:
    return turned(field, lambda a, c: 2 * a)


def sides(field: str) -> Wrong:
    """What can be returned in place of the derivative of the side that was asked for."""

    def of(side: str) -> Callable[[Array, Call], Array]:
        return lambda a, c: getattr(c(side=side), field)

    def opposite(c: Call) -> Array:
        return getattr(c(side="left" if c.side == "right" else "right"), field)

    return {
        "the derivative of the other side": turned(field, lambda a, c: opposite(c)),
        "the right-hand derivative, whatever the side": turned(field, of("right")),
        "the left-hand derivative, whatever the side": turned(field, of("left")),
        "the mean of both sides (a central difference at a kink)": turned(
            field, lambda a, c: (a + opposite(c)) / 2
        ),
    }


def at_kinks(field: str, points: Callable[[Call], Array]) -> Wrong:
    """What happens to a derivative at whole points; `points` has y and x on its axis 3 or last."""

    def flat(a: Array, c: Call) -> Array:
        p = points(c)
        return np.where(p == np.floor(p), 0, a.reshape(p.shape))

    def gated(a: Array, c: Call) -> Array:
        p = points(c)
        lost = (p == -1).any(axis=3 if p.ndim == 6 else -1, keepdims=True)
        return np.where(lost, 0, getattr(c(side="right"), field).reshape(p.shape))

    return {
        "a derivative of 0 at whole p (the sign of 0)": turned(field, flat),
        "the right-hand derivative, but 0 at p = -1 (mmcv's)": turned(field, gated),
    }


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


def deform_last_written(c: Call, write: Callable[[Any, Array], Array] = last_written) -> Any:
    """The gradients of maps or volumes, that of x by `write`, which loses what should be added."""
    layer, w = c.layer, layout.weights(c.weight, c.layer.groups)
    columns = layout.outputs(c.grad_output, layer.groups).swapaxes(1, 2) @ w
    grads = layout.from_columns(columns, len(c.x), layer)
    if c.mask is not None:
        grads = grads * layout.points(c.mask, layer).reshape(-1, 1)
    maps = deform_conv.locations(c.offset, layer)
    if not len(maps):
        return c()
    cells: Any = trilinear.cells if c.x.ndim == 5 else bilinear.cells
    at = [cells(bilinear.computed(p[None]), c.x.shape[2:], c.border) for p in maps]
    each = zip(at, np.split(grads, len(maps)), strict=True)
    lost = [write(cell.G, g.T) for cell, g in each]
    return c()._replace(x=np.reshape(lost, c.x.shape).astype(c.x.dtype))


def last_image(c: Call) -> Any:
    """The gradients of the last image alone."""
    batched = ("grad_output", "x", "offset", "mask")
    return c(**{n: v[-1:] for n, v in c.arguments.items() if n in batched and v is not None})


def first_inputs(c: Call) -> Any:
    """The gradients as if only the first channel of each offset group were there."""
    C, G = c.x.shape[1], c.layer.offset_groups
    return only_channels(c, np.arange(C) % (C // G) == 0)


def last_outputs(c: Call) -> Any:
    """The gradients of the last output channel of each group alone."""
    kept = last_of(c.layer.groups, len(c.weight))
    kept = kept.reshape(-1, *(1,) * (c.x.ndim - 2)).astype(c.grad_output.dtype)
    return c(grad_output=c.grad_output * kept)


def of_first_group(a: Array, c: Call) -> Array:
    """The gradient of the first offset group, and 0 for the others."""
    field = by_tap(a, c.layer)
    return np.concatenate([field[:, :1], np.zeros_like(field[:, 1:])], axis=1)


def images(c: Call) -> int:
    return max(len(c.x), 1)


def branch_term(c: Call) -> Array:
    """What the offset branch of Figure 2 adds to the gradient of x."""
    a = {n: v for n, v in c.arguments.items() if not n.startswith("offset")}
    sizes = {n: a[n] for n in ("stride", "padding", "dilation")}
    offset = convolution.conv2d(c.x, c.offset_weight, c.offset_bias, **sizes)
    return c().x - deform_conv.deform_conv2d_backward(**a, offset=offset).x
