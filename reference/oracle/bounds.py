"""How large results can be, and how far an honest float result may be from the exact one.

`magnitudes` is the operator on absolute values: it certifies exact problems. `tolerances` is a
bound, element by element, for a result computed in floating point with unit roundoff u:

    |computed - exact| <= u ((4 terms + 8) size + 2 moved) + jumped

size    the sum of the absolute values of the terms, of which there are `terms`, each the sum over
        the four corners of a cell, added up in any order; 8 is for the roundings inside a term
moved   what the same sum changes by when every coordinate moves by |p| + 1 units of u: p itself is
        rounded once, and g is 1-Lipschitz
jumped  what it changes by when every p within 2u(|p| + 1) of a whole number is that number, with
        the derivative of either side: slopes jump there, and at the edges of "dcnv1" so does x(p)

In float64 the exact result is itself the reference's in float64, so the bound is doubled.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray as Array

from deformable_convnets.reference import layout
from deformable_convnets.reference.bilinear import cells
from deformable_convnets.reference.deform_conv import locations
from deformable_convnets.reference.geometry import Geometry


class Magnitudes(NamedTuple):
    """One array per result of `deform_conv2d` and its backward."""

    y: Array
    x: Array
    offset: Array
    weight: Array
    bias: Array | None
    mask: Array | None


def geometry(problem: Any) -> Geometry:
    s = problem.shape
    return Geometry(s.kernel, s.stride, s.padding, s.dilation, s.output, s.groups, s.G)


def magnitudes(problem: Any) -> Magnitudes:
    """Every result with every factor replaced by its absolute value."""
    p = locations(problem.offset.astype(np.float64), geometry(problem))
    at = cells(p, problem.shape.size, problem.border)
    y, x, weight, mask = _absolute(problem, abs(at.G))
    bias = None if problem.bias is None else np.abs(problem.grad_output).sum(axis=(0, 2, 3))
    offset = _absolute_offset(problem, [abs(at.G_y), abs(at.G_x)])
    y = y if problem.bias is None else y + np.abs(problem.bias)[:, None, None]
    return Magnitudes(y, x, offset, weight, bias, mask if problem.mask is not None else None)


def tolerances(problem: Any, dtype: str) -> Magnitudes:
    """The bound above for every result in `dtype` (float32 or float64)."""
    u, s, size = float(np.finfo(dtype).eps) / 2, problem.shape, magnitudes(problem)
    K, (Ho, Wo), per_group = s.kernel[0] * s.kernel[1], s.output, s.O // s.groups
    p = locations(problem.offset.astype(np.float64), geometry(problem))
    moved, bent = _changes(p, s.size, problem.border, u)
    y, x, weight, mask = _absolute(problem, moved)
    slack = 1 if dtype == "float32" else 2

    def bound(terms: int, of: Array, change: Any = 0) -> Array:
        return slack * (u * (4 * terms + 8) * of + change)

    return Magnitudes(
        bound(s.C // s.groups * K + 1, size.y, y),
        bound(per_group * K * Ho * Wo, size.x, x),
        bound(
            per_group * (s.C // s.G),
            _absolute_offset(problem, _differences(p, s.size, problem.border)),
            _absolute_offset(problem, bent),
        ),
        bound(s.N * Ho * Wo, size.weight, weight),
        None if size.bias is None else bound(s.N * Ho * Wo, size.bias),
        None if size.mask is None else bound(per_group * s.C // s.G, size.mask, mask),
    )


def _differences(p: Array, size: Any, border: Any) -> list[Any]:
    """|dG/dp_y| and |dG/dp_x|, the far corner added where it is the near one again.

    A slope is a difference of corners. Along a replicated axis of "dcnv1" both are one pixel, and
    it is 0; but whoever multiplies each by its weight before subtracting has rounded twice.
    """
    at = cells(p, size, border)
    flat: list[Any] = [a.g.any(axis=-1) & ~a.dg.any(axis=-1) for a in (at.y, at.x)]
    dg_y, dg_x = (
        np.where(f[..., None], 2 * (a.g != 0), np.abs(a.dg))
        for f, a in zip(flat, (at.y, at.x), strict=True)
    )
    return [at.matrix(dg_y, at.x.g), at.matrix(at.y.g, dg_x)]


def _changes(p: Array, size: Any, border: Any, u: float) -> tuple[Any, list[Any]]:
    """2u moved + jumped, as a matrix in place of G, and two in place of dG/dp_y and dG/dp_x."""
    at, moves = cells(p, size, border), 2 * u * (np.abs(p.reshape(-1, 2)) + 1)
    near = np.abs(p - np.round(p)) <= 2 * u * (np.abs(p) + 1)
    whole = np.where(near, np.round(p), p)
    right, left = (cells(whole, size, border, side) for side in ("right", "left"))
    corner = at.matrix(np.abs(at.y.dg), np.abs(at.x.dg))
    moved = _scaled(at.G_y, moves[:, 0]) + _scaled(at.G_x, moves[:, 1]) + abs(right.G - at.G)
    return moved, [
        _scaled(corner, moves[:, 1]) + abs(right.G_y - at.G_y) + abs(left.G_y - at.G_y),
        _scaled(corner, moves[:, 0]) + abs(right.G_x - at.G_x) + abs(left.G_x - at.G_x),
    ]


def _absolute(problem: Any, G: Any) -> tuple[Array, Array, Array, Array]:
    """y and the gradients of x, weight and mask, with G in place of the sampling matrix."""
    at, s = geometry(problem), problem.shape
    x, weight, grad, m = _absolutes(problem)
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
    at, s = geometry(problem), problem.shape
    x, weight, grad, m = _absolutes(problem)
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
    m = layout.points(np.abs(problem.mask).astype(np.float64), geometry(problem))
    return x, weight, grad, m.reshape(-1, 1)


def _scaled(matrix: Any, rows: Array) -> Any:
    return abs(matrix).multiply(rows[:, None]).tocsr()
