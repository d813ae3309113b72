"""The smallest problems that there are: tried after Hypothesis has shrunk what it found.

Hypothesis makes one number after the other smaller, and stops where the failure needs two changes
at once, such as another family and another seed. These are few, so all of them can be tried.
"""

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from .draws import FAMILIES
from .law import Law
from .problems import Recipe, Scope
from .roi_problems import RoiRecipe, RoiShape
from .shapes import Shape
from .volume_shapes import FIXED, deepened

SEEDS = 6
KERNELS = ((1, 1), (1, 2), (2, 1), (2, 2))
OUTPUTS = ((1, 1), (1, 2), (2, 2))
EXTRA: tuple[dict[str, Any], ...] = (
    {}, {"channels": 2}, {"outputs": 2}, {"groups": 2}, {"G": 2}, {"N": 2}, {"rest": (1, 1)},
    {"stride": (1, 2)}, {"stride": (2, 2)}, {"dilation": (1, 2)}, {"dilation": (2, 2)},
    {"padding": ((1, 1), (1, 1))}, {"padding": ((1, 0), (0, 1))},
)  # fmt: skip
SHAPES = tuple(
    Shape(kernel=kernel, at_least=at_least).limited(**extra)
    for kernel, at_least, extra in product(KERNELS, OUTPUTS, EXTRA)
)
PLAIN = RoiShape(1, (2, 2), 1, (1, 1), (1, 1), (1, 1), 1, 1)
ROI_EXTRA: tuple[dict[str, Any], ...] = (
    {}, {"channels": 2}, {"classes": 2}, {"rois": 2}, {"N": 2}, {"part": (1, 2)},
    {"group": (1, 2)}, {"group": (2, 2)}, {"size": (3, 4)},
)  # fmt: skip
ROI_SHAPES = tuple(
    PLAIN.limited(output=output, part=output).limited(**extra)
    for output, extra in product(OUTPUTS, ROI_EXTRA)
)


def smaller(than: Any, law: Law, dtype: str, scope: Scope) -> Iterator[Any]:
    """Problems that the law is about, from the smallest on, that are smaller than this one."""
    limit = numbers(than.shape)
    by_size = sorted(
        ((numbers(shape), shape) for shape in _shapes(law, scope)), key=lambda each: each[0]
    )
    for size, shape in by_size:
        if size >= limit:
            return
        for recipe in _recipes(than.family, shape, law, dtype, scope):
            yield recipe.problem(dtype)


def numbers(shape: Shape | RoiShape) -> int:
    """How many there are to look at, in x, the offsets, the weight and the result."""
    size, output = int(np.prod(shape.size)), int(np.prod(shape.output))
    if isinstance(shape, RoiShape):
        maps, part = int(np.prod(shape.group)) * shape.Cout, int(np.prod(shape.part))
        each = 5 + 2 * shape.classes * part + shape.Cout * output
        return shape.N * maps * size + shape.rois * each
    weight = shape.O * shape.channels * shape.G * int(np.prod(shape.kernel))
    fields = (shape.axes + 1) * shape.fields  # of the offset and the mask
    return shape.N * (shape.C * size + (fields + shape.O) * output) + weight


def _shapes(law: Law, scope: Scope) -> list[Any]:
    """Every small shape that the law and the scope allow, once."""
    if scope.fixed_shapes and not law.pools:
        return []
    small: tuple[Any, ...] = ROI_SHAPES if law.pools else SHAPES
    limits = dict(law.limits)
    if limits.pop("axes", 2) == 3:
        small = tuple(map(deepened, small))
    return list(dict.fromkeys(s.limited(**limits).without(scope.without) for s in small))


def _recipes(family: str, shape: Any, law: Law, dtype: str, scope: Scope) -> Iterator[Any]:
    """The family of the failure first, for another may not show it."""
    families = [f for f in dict.fromkeys((family, *law.families)) if f in law.families]
    if law.pools:
        rules = [rule for rule in law.rules if rule in scope.bins]
        for name, seed, rule in product(families, range(SEEDS), rules):
            yield RoiRecipe(name, shape, seed, rule, scope.without)
        return
    drawn = [f for f in families if dtype in FAMILIES[f].dtypes and f not in FIXED[2]]
    for name, seed, border in product(drawn[:3], range(SEEDS), scope.borders):
        yield Recipe(name, shape, seed, border, scope.without)
