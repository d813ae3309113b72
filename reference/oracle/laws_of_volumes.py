"""The laws of `deform_conv3d`: each law of `deform_conv2d`, on problems with one axis more.

The extension to 3-D is straightforward, as section 2 of the paper says, and so is that of what its
equations promise. The checks are the same functions; these are drawn other problems.
"""

from dataclasses import replace
from typing import Any

from . import laws_of_memory, laws_of_structure  # noqa: F401  (they register laws of maps)
from .law import LAWS, laws_of

LIMITS: dict[str, Any] = {  # as of the law of maps, for three axes
    "whole_offset_is_shift": {"padding": ((1, 1), (2, 1), (1, 2))},
    "dcnv1_repeats_the_edge": {"padding": ((0, 1), (1, 1), (2, 1))},
}
SAYS = {
    "zero_offset_is_convolution": "With zero offset (2) is (1), and so are its gradients.",
    "axes_are_alike": "Turning z, y, x into x, z, y in every argument does so in every result.",
}

for of_maps in laws_of("deform_conv2d"):
    name = f"volume_{of_maps.name}"
    LAWS[name] = replace(
        of_maps,
        name=name,
        says=SAYS.get(of_maps.name, of_maps.says),
        operator="deform_conv3d",
        limits={**of_maps.limits, **LIMITS.get(of_maps.name, {}), "axes": 3},
    )
