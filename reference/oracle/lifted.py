"""`roi_pool`, `deform_roi_pool` and `ps_roi_pool` as the special cases of `deform_ps_roi_pool`
that they are, so that one set of laws is about all four."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from deformable_convnets.reference.geometry import pair

from .calls import GRADS
from .failures import NotSupported
from .implementation import Implementation

WITHOUT = {  # what the other operators cannot do
    "roi_pool": ("offset", "class groups", "score maps", "parts unlike bins"),
    "deform_roi_pool": ("score maps", "parts unlike bins"),
    "ps_roi_pool": ("offset", "class groups", "parts unlike bins"),
}


def lifted(i: Implementation, operator: str) -> Implementation:
    """An implementation of one operator as one of `deform_ps_roi_pool`, less what it cannot do."""
    if operator not in WITHOUT:
        return i
    call: dict[str, Callable[..., Any]] = {}
    for end in ("", "_backward"):
        if i.offers(operator + end):
            call[f"deform_ps_roi_pool{end}"] = _lifted(operator, i.call[operator + end])
    return replace(i, call=i.call | call, lacks=i.lacks | set(WITHOUT[operator]))


def _lifted(operator: str, function: Callable[..., Any]) -> Callable[..., Any]:
    plain = operator in ("roi_pool", "ps_roi_pool")

    def call(*args: Any, gamma: Any, group_size: Any, part_size: Any, **options: Any) -> Any:
        *arrays, offset, size = args
        if plain and offset is not None:
            raise NotSupported("offset")
        if offset is not None and part_size not in (None, size):
            raise NotSupported("parts unlike bins")
        if operator == "ps_roi_pool":
            options["group_size"] = group_size
        elif pair("group_size", group_size, at_least=1) != (1, 1):
            raise NotSupported("score maps")
        if not plain:
            return function(*arrays, offset, size, gamma=gamma, **options)
        if options.pop("side", None) is None:
            return function(*arrays, size, **options)
        return GRADS["deform_roi_pool"](function(*arrays, size, **options).x, None)

    return call
