"""The options of our operators as other libraries take them; standalone, see `serve`.

What a library cannot express is a NotImplementedError, in the words of `features.WORDS`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Pair = tuple[int, int]


def refuse(**words: bool) -> None:
    """Raise for the first word that is true: `refuse(uneven_padding=True)`."""
    for word, true in words.items():
        if true:
            raise NotImplementedError(word.replace("_", " "))


def only_border(border: str, allowed: str = "zero") -> None:
    if border != allowed:
        raise NotImplementedError(f"the {border} border")


def only_right(side: str) -> None:
    refuse(the_left_derivative=side != "right")


def pair(value: Any) -> Pair:
    """An int or two as (y, x)."""
    y, x = value if isinstance(value, (tuple, list)) else (value, value)
    return int(y), int(x)


def sides(padding: Any) -> tuple[Pair, Pair]:
    """((top, bottom), (left, right))."""
    y, x = padding if isinstance(padding, (tuple, list)) else (padding, padding)
    return pair(y), pair(x)


def even(padding: Any) -> Pair:
    """(y, x), for a library that pads before and after alike."""
    (top, bottom), (left, right) = sides(padding)
    refuse(uneven_padding=top != bottom or left != right)
    return top, left


def groups(x: Any, offset: Any, weight: Any) -> Pair:
    """The number of weight groups and of offset groups."""
    taps = weight.shape[2] * weight.shape[3]
    return x.shape[1] // weight.shape[1], offset.shape[1] // (2 * taps)


def refuse_outputs(weight: Any, offset_groups: int) -> None:
    """For a library that checks this, though nothing needs it."""
    if weight.shape[0] % offset_groups:
        raise NotImplementedError("outputs that the offset groups do not divide")


def rule(bins: str, samples: Any, allowed: str) -> int:
    """The number of samples, for a library that knows one rule."""
    if bins != allowed:
        raise NotImplementedError(f"bins {bins}")
    return 4 if samples is None else int(samples)


def squares(output_size: Any, group_size: Any, part_size: Any) -> dict[str, int]:
    """The sizes of RoI pooling, for a library that has one number for both axes."""
    output = pair(output_size)
    given = {"output_size": output_size, "group_size": group_size, "part_size": part_size}
    pairs = {name: output if size is None else pair(size) for name, size in given.items()}
    refuse(unequal_axes=any(y != x for y, x in pairs.values()))
    return {name: y for name, (y, _) in pairs.items()}


def planes(offset: Any) -> Any:
    """The planes dy, dx of each class as dx, dy, or back."""
    if offset is None:
        return None
    R, channels, h, w = offset.shape
    swapped = offset.reshape(R, channels // 2, 2, h, w)[:, :, ::-1]
    return np.ascontiguousarray(swapped).reshape(offset.shape)
