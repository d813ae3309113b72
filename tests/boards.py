"""Boards of the tutorials, and what each of them has to show, from the library alone."""

import numpy as np
import pytest
from scipy.spatial import cKDTree
from tutorial_files import helper

from deformable_convnets.reference import ConvLayer, R, equations, roi_pool, sample

pytest.importorskip("anywidget")
widgets, figures = helper("widgets"), helper("figures")
rng = np.random.default_rng(0)
x = np.array([[1.0, 2, 0, 3], [4, 1, 2, 0], [0, 5, 1, 2]])
crop, edge = rng.uniform(size=(7, 9)), np.array([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])
face, roi = rng.uniform(size=(40, 48)), np.array([0.0, 10, 8, 34, 32])
stack = [ConvLayer(3, rng.normal(size=(1, 18, 40, 48)), padding=2, dilation=2) for _ in "abc"]
BOARDS = {
    "drag_p": lambda: widgets.drag_p(x),
    "drag_taps": lambda: widgets.drag_taps(crop, edge, (3, 4)),
    "drag_bins": lambda: widgets.drag_bins(face, roi),
    "click_activation": lambda: widgets.click_activation(face, stack, (20, 20)),
    "turn_grid": lambda: widgets.turn_grid(face, (20, 22), 6, 30),
}


def words(scene):
    return [w for shape in scene.shapes if shape["kind"] == "texts" for w in shape["words"]]


def points(scene, kind, colour):
    """All places of the shapes of a kind and colour."""
    found = [s["points"] for s in scene.shapes if (s["kind"], s["colour"]) == (kind, colour)]
    return np.array([p for each in found for p in each])


def number(scene, label):
    return float(dict(scene.readout)[label].split()[0])


def check_p(board, p, border="zero"):
    """drag_p at p: equations (3) and (4) in their literal form, slopes by one-sided differences."""
    scene, p = board.scene([p], border=border), np.array(p, float)
    step = 2.0**-20
    value = sample(x[None], p[None], border=border)[0, 0]
    assert number(scene, "x(p)") == pytest.approx(value, abs=5e-4)
    for axis, label in enumerate(("∂x/∂p_y", "∂x/∂p_x")):
        beyond = p + step * np.eye(2)[axis]
        slope = (sample(x[None], beyond[None], border=border)[0, 0] - value) / step
        assert number(scene, label) == pytest.approx(slope, abs=0.006)
    if border == "zero":
        weights = {q: float(equations.G(q, p)) for q in np.ndindex(x.shape)}
        shown = {f"{w:.2f}" for w in weights.values() if w > 0.005}
        assert shown <= set(words(scene))
        assert value == pytest.approx(float(equations.sample(x, p)))
        assert number(scene, "sum of the weights") == pytest.approx(
            sum(weights.values()), abs=0.006
        )
    return scene


def check_taps(board, handles):
    """drag_taps: the sum over nine samples."""
    scene, p0, taps = board.scene(handles), handles[0], handles[1:]
    values = sample(crop[None], np.array(taps, float))[0]
    products = edge.ravel() * values
    assert number(scene, "y(p₀)") == pytest.approx(products.sum(), abs=6e-4)
    table = np.array(words(scene)[5:50]).reshape(9, 5)
    assert table[:, 3].astype(float) == pytest.approx(values, abs=6e-4)
    assert table[:, 4].astype(float) == pytest.approx(products, abs=6e-4)
    assert np.allclose(points(scene, "dots", figures.PN), np.add(p0, R(3)))
    assert np.allclose(points(scene, "arrows", figures.P)[:, 2:], taps)


def check_bins(board, moves):
    """drag_bins: each value is the mean of the samples at the moved pixels of its bin."""
    scene = board.scene(board.start + moves)
    y = [float(w) for w in words(scene)[12:21]]
    for (i, j), move, shown in zip(np.ndindex(3, 3), moves, y, strict=True):
        rows, cols = (np.array(equations.bin_range(b, 3, 24)) for b in (i, j))
        pixels = np.stack(np.meshgrid(8.0 + rows, 10.0 + cols, indexing="ij"), axis=-1)
        assert shown == pytest.approx(sample(face[None], pixels + move).mean(), abs=6e-4)
    plain = roi_pool(face[None, None], roi[None], 3)[0, 0].ravel()
    assert [float(w) for w in words(scene)[3:12]] == pytest.approx(plain, abs=6e-4)
    start = np.array(next(s["points"] for s in scene.shapes if s["kind"] == "boxes"))
    assert np.allclose(points(scene, "boxes", figures.P) - start, np.pad(moves, ((0, 0), (0, 2))))
    return scene


def check_activation(board, p, n):
    """click_activation: the points one tap after the other, by equation (2) at each of them."""

    def below(places, layer):
        field = sample(layer.offset[0], places).reshape(9, 2, -1)
        return (places[:, None] + 2 * R(3) + field.transpose(2, 0, 1)).reshape(-1, 2)

    expected = np.array([p], float)
    for layer in reversed(stack[:n]):
        expected = below(expected, layer)
    scene = board.scene([p], points=9**n)
    green, yellow = points(scene, "dots", figures.P), points(scene, "dots", figures.ARROW)
    shown = np.concatenate([a.reshape(-1, 2) for a in (green, yellow)])
    assert shown.shape == (9**n, 2)
    for some, others in ((shown, expected), (expected, shown)):
        assert cKDTree(some).query(others)[0].max() < 1e-9
    inside = ((expected >= 0) & (expected <= (39, 47))).all(axis=1)
    assert number(scene, "on padding") >= (~inside).sum()
    return scene


def check_grid(board, dilation, degrees):
    """turn_grid: the grid that a place of the last tap means."""
    a = np.deg2rad(degrees)
    turn = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    expected = np.array([20, 22]) + dilation * R(3) @ turn.T
    scene = board.scene([(20, 22), expected[8]])
    assert np.allclose(points(scene, "dots", figures.PN), expected)
    assert number(scene, "dilation") == pytest.approx(dilation, abs=0.06)
    assert dict(scene.readout)["turned by"] == f"{degrees:.0f}°"
    values = [float(w) for w in words(scene)[1:]]
    assert values == pytest.approx(sample(face[None], expected)[0], abs=6e-3)
