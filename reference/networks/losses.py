"""The losses of section 4: softmax and smooth L1, each a number of shape ()."""

from typing import Any

from numpy import ndarray as Array

from .. import checks
from .door import described, entered, namespace
from .primitives import XGrads


def softmax_loss(x: Array, labels: Array, *, ignored: int = -1) -> Array:
    """The mean of -log softmax(x)[label] over all places whose label is not `ignored`.

    x       N classes ...: scores, for images or for each pixel of a map
    labels  N ...: whole numbers from 0 to classes - 1
    No place is left: 0. Raises ValueError or TypeError.
    """
    log, chosen, count = _softmax(x, labels, ignored)
    return _number(x, (-log * chosen).sum() / count)


def softmax_loss_backward(
    grad_output: Array, x: Array, labels: Array, *, ignored: int = -1
) -> XGrads:
    """softmax(x), less 1 at the label."""
    log, chosen, count = _softmax(x, labels, ignored)
    counted = chosen.any(axis=1, keepdims=True)
    return XGrads((namespace(x).exp(log) * counted - chosen) * (grad_output / count))


def _softmax(x: Array, labels: Array, ignored: int) -> tuple[Array, Array, Any]:
    """log softmax(x), True at the class of each place, and how many places count."""
    entered({"x": "N classes ..."}, x=x)
    if not hasattr(labels, "dtype"):
        raise TypeError(f"labels is of type {type(labels).__name__}, expected an array like x's")
    xp, call = namespace(x), checks.Call(x=described(x), labels=described(labels))
    call.check_shape("labels", "as x, without its classes", (x.shape[0], *x.shape[2:]))
    if labels.dtype.kind not in "iu":
        call.fail(f"labels has dtype {labels.dtype}, expected whole numbers", TypeError)
    wrong = labels[((labels < 0) | (labels >= x.shape[1])) & (labels != ignored)]
    if wrong.size:
        call.fail(
            f"a label is {int(wrong.ravel()[0])}, expected 0 to {x.shape[1] - 1}, or {ignored},"
            " which is ignored"
        )
    shifted = x - x.max(axis=1, keepdims=True)
    log = shifted - xp.log(xp.exp(shifted).sum(axis=1, keepdims=True))
    classes = xp.arange(x.shape[1]).reshape(-1, *(1,) * (x.ndim - 2))
    chosen = (labels[:, None] == classes) & (labels[:, None] != ignored)
    return log, chosen, x.dtype.type(max(int(chosen.sum()), 1))


def smooth_l1(
    x: Array, target: Array, weight: Array | None = None, *, count: int | None = None
) -> Array:
    """The sum of weight s(x - target), divided by `count`: the loss of boxes (Girshick 2015).

    x, target, weight  of one shape; weight None: 1
    count              what the sum is divided by, 1 or more; None: the number of rows of x, or 1
    """
    each = s(_difference(x, target, weight))
    total = each.sum() if weight is None else (each * weight).sum()
    return _number(x, total / _count(x, count))


def s(d: Array) -> Array:
    """d^2 / 2 where |d| < 1, else |d| - 1/2."""
    return namespace(d).where(abs(d) < 1, d * d / 2, abs(d) - d.dtype.type(0.5))


def smooth_l1_backward(
    grad_output: Array, x: Array, target: Array, weight: Array | None = None, *,
    count: int | None = None,
) -> XGrads:  # fmt: skip
    """The difference, clipped to -1 ... 1."""
    slope = namespace(x).clip(_difference(x, target, weight), -1, 1)
    slope = slope if weight is None else slope * weight
    return XGrads(slope * (grad_output / _count(x, count)))


def _difference(x: Array, target: Array, weight: Array | None) -> Array:
    call = entered({"x": "N ..."}, ("weight",), x=x, target=target, weight=weight)
    for name in ("target", "weight"):
        call.check_shape(name, "as x", x.shape)
    return x - target


def _count(x: Array, count: int | None) -> Any:
    if count is not None and count < 1:
        checks.Call(x=described(x)).fail(f"count is {count}, expected 1 or more")
    return x.dtype.type(max(x.shape[0], 1) if count is None else count)


def _number(x: Array, value: Any) -> Array:
    """A value as an array of shape () and of x's dtype."""
    return namespace(x).asarray(value, dtype=x.dtype).reshape(())
