"""Gradients of x in which the shares of samples overwrite each other are told by a clue."""

import numpy as np
import pytest
from test_oracle_diagnosis import diagnosis

from deformable_convnets import reference
from deformable_convnets.reference.oracle import (
    lost_writes,
    problems,
    wrong_calls,
    wrong_gradients,
)


def entries(G):
    found = G.tocoo()
    kept = found.data != 0
    return found.row[kept], found.col[kept], found.data[kept]


def by_corner(G, grads):
    """One `+=` for each of the corners, as NumPy programs have it."""
    out, corners = np.zeros((len(grads), G.shape[1]), grads.dtype), np.diff(G.indptr)[0]
    for corner in range(corners):
        column, value = G.indices[corner::corners], G.data[corner::corners]
        out[:, column] += value * grads
    return out


def first_written(G, grads):
    row, column, value = (a[::-1] for a in entries(G))
    out = np.zeros((len(grads), G.shape[1]), grads.dtype)
    out[:, column] = value * grads[:, row]
    return out


def shuffled(G, grads):
    row, column, value = entries(G)
    order = np.random.default_rng(len(row)).permutation(len(row))
    out = np.zeros((len(grads), G.shape[1]), grads.dtype)
    out[:, column[order]] += (value * grads[:, row])[:, order]
    return out


def losing(op, write):
    right = getattr(reference, op)
    return lambda *args, **options: wrong_gradients.deform_last_written(
        wrong_calls.Call(right, args, options), write
    )


CLUE = "grads.x is right where one sample reads the pixel, and wrong only where several do"


@pytest.mark.parametrize("write", [by_corner, first_written, shuffled])
@pytest.mark.parametrize("op", ["deform_conv2d_backward", "deform_conv3d_backward"])
def test_lost_writes_are_told_in_whatever_order(op, write):
    assert diagnosis(op, losing(op, write)).startswith(CLUE)


def test_lost_writes_of_samples_are_told():
    def backward(grad_output, x, p, *, border="zero", side="right"):
        G = reference.G(p, x.shape[1:], border=border)
        grads = reference.sample_backward(grad_output, x, p, border=border, side=side)
        lost = by_corner(G, grad_output.reshape(len(x), -1)).reshape(x.shape)
        return grads._replace(x=lost.astype(x.dtype))

    assert diagnosis("sample_backward", backward).startswith(CLUE)


def part(x, change):
    """The gradient with a part of it multiplied, the rest as it is."""
    found = x.copy()
    change(found)
    return found


def first_image(g):
    g[:1] *= 2


def last_channel(g):
    g[:, -1:] *= 0


def last_row(g):
    g[..., -1, :] *= 2


def without_the_last_row(g):
    g[..., -1, :] = 0


def everywhere(g):
    g /= 2


@pytest.mark.parametrize(
    "change", [first_image, last_channel, last_row, without_the_last_row, everywhere]
)
@pytest.mark.parametrize("op", ["deform_conv2d_backward", "deform_conv3d_backward"])
def test_what_is_wrong_under_a_single_sample_is_no_lost_write(op, change):
    right = getattr(reference, op)

    def wrong(*args, **options):
        grads = right(*args, **options)
        return grads._replace(x=part(grads.x, change))

    found = diagnosis(op, wrong)
    assert found.startswith("grads.x ")
    assert "overwrite" not in found


@pytest.mark.parametrize("name", ["deform_conv2d_backward", "deform_conv3d_backward"])
def test_the_samples_that_read_a_pixel_are_counted(name):
    """One by one; none that reads a pixel is missing among those that may touch it."""
    axes = 3 if "3d" in name else 2
    drawn = problems.some(12, "base", "edge", dtype="float64", axes=axes)
    for p in (p for p in drawn if p.x.size):
        names = ("grad_output", "x", "offset", "weight", "bias", "mask")
        a = {n: getattr(p, n) for n in names} | p.options
        points = wrong_calls.Call(getattr(reference, name), (), a).points
        at = np.moveaxis(points, 3, -1).reshape(*points.shape[:2], -1, axes)  # N G points axes
        found = lost_writes.readers(name, a)
        each = p.x.shape[1] // at.shape[1]
        for n, c, *q in np.ndindex(p.x.shape):
            reads = (np.abs(at[n, c // each] - q) < 1).all(axis=1)
            assert found.reads[n, c, *q] == reads.sum()
        assert (found.touches >= found.reads).all()


def test_samples_off_the_map_may_touch_its_edge():
    p = np.array([[1.0, 1.5], [-9, 1.5], [np.nan, 9]])
    a = {"x": np.ones((1, 3, 4)), "p": p, "grad_output": np.ones((1, 3))}
    found = lost_writes.readers("sample_backward", a)
    assert found.reads[0].tolist() == [[0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    assert found.touches[0].tolist() == [[1, 2, 3, 1], [0, 2, 2, 0], [0, 1, 1, 0]]


def test_of_convolution_and_pooling_nothing_is_counted():
    a = {"x": np.ones((1, 1, 2, 2)), "weight": np.ones((1, 1, 1, 1))}
    assert lost_writes.readers("conv2d_backward", a) is None
    assert lost_writes.readers("roi_pool_backward", {**a, "rois": np.zeros((1, 5))}) is None
