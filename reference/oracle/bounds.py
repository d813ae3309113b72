"""How large results can be, and how far an honest float result may be from the exact one.

`magnitudes` is the operator on absolute values: it certifies exact problems. `tolerances` is a
bound, element by element, for a result computed in floating point with unit roundoff u:

    |computed - exact| <= u ((4 terms + 8) size + 2 moved) + jumped

size    the sum of the absolute values of the terms, of which there are `terms`, each the sum over
        the four corners of a cell, added up in any order; 8 is for the roundings inside a term.
        In a volume a cell has eight corners, and one factor more: 8 terms + 10
moved   what the same sum changes by when every coordinate moves by |p| + 1 units of u: p itself is
        rounded once, and g is 1-Lipschitz
jumped  what it changes by when every p within 2u(|p| + 1) of a whole number is that number, with
        the derivative of either side: slopes jump there, and at the edges of "dcnv1" so does x(p)

In float64 the exact result is itself the reference's in float64, so the bound is doubled.
"""

from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray as Array

from deformable_convnets.reference import bilinear, layout, trilinear
from deformable_convnets.reference.deform_conv import locations


class Magnitudes(NamedTuple):
    """One array per result of `deform_conv2d` and its backward."""

    y: Array
    x: Array
    offset: Array
    weight: Array
    bias: Array | None
    mask: Array | None


def magnitudes(problem: Any) -> Magnitudes:
    """Every result with every factor replaced by its absolute value."""
    s = problem.shape
    at = cells(locations(problem.offset.astype(np.float64), s.geometry), s.size, problem.border)
    y, x, weight, mask = _absolute(problem, abs(at.G))
    offset, bias = _absolute_offset(problem, [abs(matrix) for matrix in at.dG]), None
    if problem.bias is not None:
        bias = np.abs(problem.grad_output).sum(axis=(0, *range(2, y.ndim)))
        y = y + np.abs(problem.bias).reshape(-1, *(1,) * s.axes)
    return Magnitudes(y, x, offset, weight, bias, mask if problem.mask is not None else None)


def tolerances(problem: Any, dtype: str) -> Magnitudes:
    """The bound above for every result in `dtype` (float32 or float64)."""
    u, s, size = float(np.finfo(dtype).eps) / 2, problem.shape, magnitudes(problem)
    K, P, per_group = prod(s.kernel), prod(s.output), s.O // s.groups
    p = locations(problem.offset.astype(np.float64), s.geometry)
    moved, bent = _changes(p, s.size, problem.border, u)
    y, x, weight, mask = _absolute(problem, moved)
    slack = 1 if dtype == "float32" else 2

    def bound(terms: int, of: Array, change: Any = 0) -> Array:
        return slack * (u * (2**s.axes * terms + 4 + 2 * s.axes) * of + change)

    return Magnitudes(
        bound(s.C // s.groups * K + 1, size.y, y),
        bound(per_group * K * P, size.x, x),
        bound(
            per_group * (s.C // s.G),
            _absolute_offset(problem, _differences(p, s.size, problem.border)),
            _absolute_offset(problem, bent),
        ),
        bound(s.N * P, size.weight, weight),
        None if size.bias is None else bound(s.N * P, size.bias),
        None if size.mask is None else bound(per_group * s.C // s.G, size.mask, mask),
    )


def cells(p: Array, size: tuple[int, ...], border: Any, side: Any = "right") -> Any:
    """The cells of points on maps, or in volumes."""
    of: Any = bilinear if len(size) == 2 else trilinear
    return of.cells(p, size, border, side)


def _matrices(at: Any, slopes: dict[int, Array]) -> Any:
    """The matrix like G, with these factors in place of g along some axes."""
    return at.matrix(*(slopes.get(i, axis.g) for i, axis in enumerate(at.axes)))


def _differences(p: Array, size: Any, border: Any) -> list[Any]:
    """|dG/dp_y| and |dG/dp_x|, the far corner added where it is the near one again.

    A slope is a difference of corners. Along a replicated axis of "dcnv1" both are one pixel, and
    it is 0; but whoever multiplies each by its weight before subtracting has rounded twice.
    """
    at = cells(p, size, border)
    flat: list[Any] = [a.g.any(axis=-1) & ~a.dg.any(axis=-1) for a in at.axes]
    dg = [
        np.where(f[..., None], 2 * (a.g != 0), np.abs(a.dg))
        for f, a in zip(flat, at.axes, strict=True)
    ]
    return [_matrices(at, {i: slope}) for i, slope in enumerate(dg)]


def _changes(p: Array, size: Any, border: Any, u: float) -> tuple[Any, list[Any]]:
    """2u moved + jumped, as a matrix in place of G, and one in place of each of dG/dp_y, dG/dp_x.

    dG/dp_y changes with p_x, and with no coordinate of its own inside a cell.
    """
    at, d = cells(p, size, border), len(size)
    moves = 2 * u * (np.abs(p.reshape(-1, d)) + 1)
    near = np.abs(p - np.round(p)) <= 2 * u * (np.abs(p) + 1)
    whole = np.where(near, np.round(p), p)
    right, left = (cells(whole, size, border, side) for side in ("right", "left"))
    dg, each = [np.abs(axis.dg) for axis in at.axes], range(d)
    moved = abs(right.G - at.G)
    slopes = zip(at.dG, right.dG, left.dG, strict=True)
    bent = [abs(after - here) + abs(before - here) for here, after, before in slopes]
    for j in each:
        moved = moved + _scaled(_matrices(at, {j: dg[j]}), moves[:, j])
        for i in set(each) - {j}:
            bent[i] = bent[i] + _scaled(_matrices(at, {i: dg[i], j: dg[j]}), moves[:, j])
    return moved, bent


def _absolute(problem: Any, G: Any) -> tuple[Array, Array, Array, Array]:
    """y and the gradients of x, weight and mask, with G in place of the sampling matrix."""
    s = problem.shape
    at, (x, weight, grad, m) = s.geometry, _absolutes(problem)
    samples = G @ layout.pixels(x, s.G)
    w, grad_y = layout.weights(weight, s.groups), layout.outputs(grad, s.groups)
    columns = layout.columns(samples * m, s.N, at)
    grad_samples = layout.from_columns(grad_y.swapaxes(1, 2) @ w, s.N, at)
    grad_x = layout.from_pixels(G.T @ (grad_samples * m), s.G, x.shape)
    grad_weight = layout.from_weights(grad_y @ columns, weight.shape)
    grad_m = np.einsum("pc,pc->p", grad_samples, samples)
    mask = layout.from_points(grad_m, at, (s.N, s.fields, *s.output))
    return layout.from_outputs(w @ columns.swapaxes(1, 2), s.N, at), grad_x, grad_weight, mask


def _absolute_offset(problem: Any, slopes: list[Any]) -> Array:
    """The gradient of the offset, with these in place of dG/dp_y and dG/dp_x."""
    s = problem.shape
    at, (x, weight, grad, m) = s.geometry, _absolutes(problem)
    w, grad_y = layout.weights(weight, s.groups), layout.outputs(grad, s.groups)
    grad_samples = layout.from_columns(grad_y.swapaxes(1, 2) @ w, s.N, at) * m
    pixels = layout.pixels(x, s.G)
    grad_p = [np.einsum("pc,pc->p", grad_samples, slope @ pixels) for slope in slopes]
    return layout.from_points(np.stack(grad_p, axis=-1), at, problem.offset.shape)


def _absolutes(problem: Any) -> tuple[Array, Array, Array, Any]:
    x, weight, grad = (
        np.abs(a).astype(np.float64) for a in (problem.x, problem.weight, problem.grad_output)
    )
    if problem.mask is None:
        return x, weight, grad, 1.0
    m = layout.points(np.abs(problem.mask).astype(np.float64), problem.shape.geometry)
    return x, weight, grad, m.reshape(-1, 1)


def _scaled(matrix: Any, rows: Array) -> Any:
    return abs(matrix).multiply(rows[:, None]).tocsr()
