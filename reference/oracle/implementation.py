"""What is tested: an implementation of the operators, as callables on NumPy arrays."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import deformable_convnets.reference as reference

OPERATORS = (
    "sample",
    "conv2d",
    "deform_conv2d",
    "roi_pool",
    "deform_roi_pool",
    "ps_roi_pool",
    "deform_ps_roi_pool",
)
NAMES = tuple(name + end for name in OPERATORS for end in ("", "_backward"))
VOLUMES = ("deform_conv3d",)  # (2) with one axis more: what is verified beside OPERATORS
VOLUME_NAMES = ("conv3d", "conv3d_backward", "deform_conv3d", "deform_conv3d_backward")


@dataclass(frozen=True)
class Implementation:
    """Callables with the signatures of the reference, and what they can do and afford.

    call      the callables by name; every law asks for the ones it needs
    dtypes    the dtypes that are supported
    lacks     what is not supported, in the words of `features.WORDS`; it is listed, never tried
    examples  how many problems a law may draw: 200 for a fast one, 5 for a simulated one
    fixed_shapes  whether only the eight shapes of `shapes.SHAPES`, or `volume_shapes`, are drawn
    versions  of the libraries that it is made of
    """

    name: str
    call: dict[str, Callable[..., Any]] = field(repr=False)
    dtypes: tuple[str, ...] = ("float32", "float64", "float16")
    lacks: frozenset[str] = frozenset()
    examples: int = 200
    fixed_shapes: bool = False
    versions: dict[str, str] = field(default_factory=dict)

    def offers(self, *operators: str) -> bool:
        """Whether it has all of these operators."""
        return set(operators) <= set(self.call)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        call = self.__dict__.get("call", {})  # not there while a copy is being made
        if name not in call:
            raise AttributeError(f"{self.__dict__.get('name')} has no operator {name!r}")
        return call[name]


REFERENCE = Implementation(
    "reference", {name: getattr(reference, name) for name in NAMES + VOLUME_NAMES}
)
