"""The boards of the notebooks: what a browser shows after a drag is what the library says."""

import numpy as np

from browser.notebooks import opened, variables
from deformable_convnets.reference import (
    deform_conv2d,
    deform_roi_pool,
    sample,
    sample_backward,
    stacked_points,
)


def test_drag_p(page, lab, picture):
    """Notebook 2: p dragged, past a grid line, onto one with the keys, and out of the map."""
    x = variables(lab, "02_bilinear_sampling")["x"]

    def shown(state):
        p = np.array(state["handles"], float)
        value = sample(x[None], p)[0, 0]
        slopes = sample_backward(np.ones((1, 1)), x[None], p).p[0]
        says = state["readout"]
        assert float(says["x(p)"]) == round(value, 3)
        for name, slope in zip(("∂x/∂p_y", "∂x/∂p_x"), slopes, strict=True):
            assert abs(float(says[name].split()[0]) - slope) < 0.0051
        return p[0]

    with opened(page, lab, "02_bilinear_sampling") as board:
        start = shown(board.state())
        assert tuple(start) == (0.6, 1.2)
        moved = shown(board.drag(0, 70, 50))
        assert moved[1] > 2
        assert moved[0] > 1
        picture(board.root, "drag_p")
        state = board.click(0, 3, columns=4)
        assert tuple(shown(state)) == (0, 3)
        assert "left" in state["readout"]["∂x/∂p_x"]  # on a kink: two slopes
        outside = shown(board.press(0, *["ArrowRight"] * 2, "ArrowUp"))
        assert tuple(outside.round(6)) == (-0.25, 3.5)
        board.root.get_by_label("dcnv1").check()
        assert board.state()["readout"]["x(p)"] == "0.000"


def test_drag_a_tap(page, lab, picture):
    """Notebook 3: a tap dragged, then p0 moved by a click, and its taps with it."""
    scope = variables(lab, "03_deformable_convolution")
    board_x, edge = scope["crop"][2:11, 3:12], scope["edge"]

    def shown(state):
        p0, *taps = np.array(state["handles"], float)
        offset = np.zeros((1, 18, *board_x.shape))
        regular = p0 + np.moveaxis(np.indices((3, 3)), 0, -1).reshape(9, 2) - 1
        offset[0, :, *p0.astype(int)] = np.ravel(taps - regular)
        y = deform_conv2d(board_x[None, None], offset, edge[None, None], padding=1)
        value = y[0, 0, *p0.astype(int)]
        assert abs(float(state["readout"]["y(p₀)"]) - value) < 6e-4
        assert f"{value:.3f}" in state["words"]
        return np.array(state["handles"], float), value

    with opened(page, lab, "03_deformable_convolution") as board:
        before, first = shown(board.state())
        after, second = shown(board.drag(3, 60, -40))
        assert first != second
        assert (after != before).any(axis=1).tolist() == [n == 3 for n in range(10)]
        picture(board.root, "drag_a_tap")
        clicked, _ = shown(board.click(7, 6, columns=9))
        assert tuple(clicked[0]) == (7, 6)
        assert np.allclose(clicked[1:] - clicked[0], after[1:] - after[0])


def test_drag_a_bin(page, lab, picture):
    """Notebook 7: a bin of a RoI dragged; its value, and the normalised offset of each bin."""
    scope = variables(lab, "07_roi_pooling")
    face, roi, centres = scope["face"], scope["roi"], scope["centres"].reshape(9, 2)

    def shown(state):
        moves = (np.array(state["handles"], float) - centres) / 6  # gamma times 60
        offset = np.moveaxis(moves.reshape(3, 3, 2), -1, 0)
        y = deform_roi_pool(face, roi, offset[None], 3)[0, 0]
        assert [f"{v:.3f}" for v in y.ravel()] == state["words"][12:21]
        pairs = [f"{dy:+.1f} {dx:+.1f}" for dy, dx in offset.reshape(2, 9).T + 0.0]
        assert pairs == state["words"][21:30] or "0 0" in state["words"]
        return y

    with opened(page, lab, "07_roi_pooling") as board:
        before = shown(board.state())
        after = shown(board.drag(4, 55, 38))
        assert (before != after).ravel().tolist() == [n == 4 for n in range(9)]
        picture(board.root, "drag_a_bin")
        again = shown(board.press(4, "Shift+ArrowLeft", "ArrowDown"))
        assert (again != after).ravel().tolist() == [n == 4 for n in range(9)]


def test_turn_the_grid(page, lab, picture):
    """Notebook 1: the last tap dragged; the dilation, the angle and the nine values."""
    face = variables(lab, "01_convolution_is_sampling")["face"]
    with opened(page, lab, "01_convolution_is_sampling") as board:
        assert board.state()["readout"]["dilation"] == "12.0"
        state = board.drag(1, 30, 20)
        points = (np.array(state["circles"]) - (26, 46)) / (584 / (1.54 * 128)) - 0.5
        values = sample(face[None], points)[0]
        assert np.allclose(points[8], state["handles"][1], atol=0.5)
        assert state["words"][1:10] == [f"{v:.2f}" for v in values]
        picture(board.root, "turn_the_grid")


def test_click_an_activation(page, lab, picture):
    """Notebook 6: an activation clicked; its 729, 81 and 9 points are drawn where they are."""
    scope = variables(lab, "06_receptive_fields")
    layers, shape = scope["three"], scope["image"].shape

    def shown(state, n):
        (p,) = np.array(state["handles"], float)
        expected = stacked_points(p, layers[:n]).reshape(-1, 2)
        scale = 584 / (shape[1] + 11)  # 6 pixels of room on each side
        drawn = (np.array(state["circles"])[: 9**n] - (26, 46)) / scale - 6
        assert np.allclose(drawn, expected, atol=1e-6)  # none of them is on padding
        assert state["readout"]["points"] == str(9**n)
        return p

    with opened(page, lab, "06_receptive_fields") as board:
        shown(board.state(), 3)
        clicked = shown(board.click(18, 74, columns=shape[1]), 3)
        assert tuple(clicked) == (18, 74)
        shown(board.click(30, 33, columns=shape[1]), 3)
        picture(board.root, "click_an_activation")
        for n in (2, 1):
            board.root.get_by_label(f"{9**n}", exact=True).check()
            shown(board.state(), n)


def test_start_again_and_two_views(page, lab):
    """A board shown twice: both follow a drag of one; `Start again` puts all back."""
    with opened(page, lab, "02_bilinear_sampling") as board:
        start = board.state()["handles"]
        page.evaluate("() => window.jupyterapp.commands.execute('notebook:create-output-view')")
        page.wait_for_function("() => document.querySelectorAll('.dcn-board').length === 2")
        board.root = board.root.first
        moved = board.drag(0, 40, 40)["handles"]
        assert moved != start
        page.wait_for_function(
            "() => new Set([...document.querySelectorAll('.dcn-board .readout')]"
            ".map(e => e.textContent)).size === 1"
        )
        board.root.get_by_role("button", name="Start again").click()
        assert board.state()["handles"] == start
