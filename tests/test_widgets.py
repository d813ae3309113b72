"""The boards without a browser: every number and place that they show is the library's."""

import json
import re
import sys

import numpy as np
import pytest
from boards import (
    BOARDS,
    check_activation,
    check_bins,
    check_grid,
    check_p,
    check_taps,
    crop,
    edge,
    face,
    figures,
    rng,
    roi,
    stack,
    widgets,
    words,
    x,
)
from tutorial_files import LESSONS, TUTORIALS, helper

from deformable_convnets import reference
from deformable_convnets.reference import sample

PLACES = [(0.6, 1.2), (1, 2), (0, 0), (2, 3), (1.5, 1), (-0.4, 3.5), (2.75, -0.3), (-1.4, 4.4)]
boards = pytest.mark.parametrize("name", BOARDS)


@pytest.mark.parametrize("p", PLACES)
@pytest.mark.parametrize("border", ["zero", "dcnv1"])
def test_drag_p(p, border):
    check_p(widgets.drag_p(x), p, border)


def test_a_kink_has_two_slopes_and_no_jump():
    scene = check_p(widgets.drag_p(x), (1, 1.5))
    assert dict(scene.readout)["∂x/∂p_y"] == "+1.50 (left +0.50)"  # 5 + 1 - 3 and 3 - 2, halved
    assert (
        "At y = 1 the slope along y jumps from +0.50 to +1.50; the value does not jump"
        in scene.note
    )


def test_the_border_of_the_authors_jumps():
    board = widgets.drag_p(x)
    assert "the value jumps from 0.00 to 4.00" in board.scene([(1, 0.1)], border="dcnv1").note
    assert "the value jumps" not in board.scene([(1, 0.1)]).note


def test_the_profiles_pass_through_the_pixels():
    scene = widgets.drag_p(x).scene([(1, 2)])
    row, column = (np.array(s["points"]) for s in scene.shapes if s["kind"] == "line"
                   and s["colour"] == figures.Q)  # fmt: skip
    base, width = row[:, 0].max(), column[:, 1].min()
    up = {t: base - row[np.isclose(row[:, 1], t)][0, 0] for t in range(4)}
    right = {t: column[np.isclose(column[:, 0], t)][0, 1] - width for t in range(3)}
    scale = up[0] / 4  # x(1, 0) is 4
    assert [up[t] / scale for t in range(4)] == pytest.approx(x[1])
    assert [right[t] / scale for t in range(3)] == pytest.approx(x[:, 2])


def test_drag_taps():
    board = widgets.drag_taps(crop, edge, (3, 4))
    assert "plain convolution" in board.scene().note
    check_taps(board, board.start)
    moved = board.start.copy()
    moved[3] += (-1.25, 2.4)
    check_taps(board, moved)
    for p0 in ((0, 0), (6, 8), (2, 5)):  # whose taps read beyond the edge
        check_taps(board, moved - moved[0] + p0)
    assert "Tap 2 has moved furthest" in board.scene(moved).note
    assert "channels 4 (dy) and 5 (dx)" in board.scene(moved).note


def test_drag_bins():
    board, moves = widgets.drag_bins(face, roi), np.zeros((9, 2))
    assert "plain RoI pooling" in check_bins(board, moves).note
    moves[4] = -3.25, 7.5
    note = check_bins(board, moves).note
    assert "Bin (1, 1)" in note
    assert "(-3.25, +7.50) pixels" in note
    check_bins(board, moves + np.array((30, -20)))  # partly outside the map
    offset = rng.normal(size=(1, 2, 3, 3))
    start = widgets.drag_bins(face, roi, offset=offset).start - board.start
    assert np.allclose(start, 2.4 * np.moveaxis(offset[0], 0, -1).reshape(9, 2))


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("p", [(20, 20), (0, 0), (39, 47)])
def test_click_activation(p, n):
    check_activation(widgets.click_activation(face, stack, (20, 20)), p, n)


@pytest.mark.parametrize(("dilation", "degrees"), [(6, 30), (12, -45), (1, 0), (30, 170)])
def test_turn_grid(dilation, degrees):
    check_grid(widgets.turn_grid(face, (20, 22)), dilation, degrees)


def swapped(p):
    return p[..., ::-1].copy()


WRONG = {  # board, what is put in place of what, and the check that must see it
    "slopes swapped": ("point", "sample_backward", lambda *a, **k: reference.SampleGrads(
        (g := reference.sample_backward(*a, **k)).x, swapped(g.p)),
        lambda b: check_p(b, (0.6, 1.2))),
    "the left slope": ("point", "sample_backward", lambda *a, side="right", **k:
        reference.sample_backward(*a, side="left", **k), lambda b: check_p(b, (1, 2))),
    "the nearest pixel": ("point", "sample", lambda x, p, **k: sample(x, np.round(p), **k),
        lambda b: check_p(b, (0.6, 1.2))),
    "the mask of a tap": ("taps", "deform_conv2d", lambda x, o, w, **k:
        reference.deform_conv2d(x, 0 * o, w, **k), lambda b: check_taps(b, b.start + TAP)),
    "points x first": ("taps", "sampling_points", lambda *a, **k:
        swapped(reference.sampling_points(*a, **k)), lambda b: check_taps(b, b.start + TAP)),
    "bins left alone": ("bins", "deform_roi_pool", lambda x, r, o, k, **kw:
        reference.deform_roi_pool(x, r, 0 * o, k, **kw), lambda b: check_bins(b, BIN)),
    "offset x first": ("bins", "deform_roi_pool", lambda x, r, o, k, **kw:
        reference.deform_roi_pool(x, r, o[:, ::-1].copy(), k, **kw), lambda b: check_bins(b, BIN)),
    "the top layer first": ("stack", "stacked_points", lambda p, layers, **k:
        reference.stacked_points(p, layers[::-1], **k),
        lambda b: check_activation(b, (20, 20), 3)),
    "turned the other way": ("grid", "sample", lambda x, p, **k: sample(x, swapped(p), **k),
        lambda b: check_grid(b, 6, 30)),
}  # fmt: skip
TAP, BIN = np.zeros((10, 2)), np.zeros((9, 2))
TAP[3], BIN[4] = (0.5, -1.25), (2.5, -1)
MODULES = dict(zip(("point", "taps", "bins", "stack", "grid"), BOARDS, strict=True))


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_board_is_seen(case, monkeypatch):
    module, name, wrong, check = WRONG[case]
    check(BOARDS[MODULES[module]]())
    monkeypatch.setattr(sys.modules[f"widgets.{module}"], name, wrong)
    with pytest.raises(AssertionError):
        check(BOARDS[MODULES[module]]())


@boards
def test_the_live_board_follows(name):
    board = BOARDS[name]()
    live = board.play()
    to = (board.start + 0.5 * (board.snap < 1)).tolist()
    live.handles = to
    assert live.scene["handles"] == to
    assert live.scene["shapes"] == board.scene(to).shapes
    state = {k: live.get_state()[k] for k in ("fixed", "handles", "options", "scene")}
    assert json.loads(json.dumps(state, allow_nan=False))["handles"] == to
    live.handles = live.fixed["handles"][:0]  # what no front end sends
    assert re.match(r"\w+Error: ", live.scene["error"])
    live.handles = to
    assert "error" not in live.scene


def test_an_option_is_chosen():
    live = BOARDS["click_activation"]().play()
    assert dict(live.scene["readout"])["points"] == "729"
    live.options = {"points": 81}
    assert dict(live.scene["readout"])["points"] == "81"


@boards
def test_the_figure_shows_the_same(name, monkeypatch):
    """All marks of the scene are in the figure, at their places, and so are the handles."""
    board = BOARDS[name]()
    png = board.figure().data
    assert png.startswith(b"\x89PNG")
    assert len(png) < 100_000
    still = sys.modules["widgets.still"]
    monkeypatch.setattr(still, "show", lambda fig: fig)
    fig = board.figure()
    (ax,), scene = fig.axes, board.scene()
    drawn = np.concatenate([c.get_offsets() for c in ax.collections])[:, ::-1]
    dots = [p for s in scene.shapes if s["kind"] == "dots" for p in s["points"]]
    assert np.allclose(drawn, [*dots, *board.start.tolist()])
    boxes = [p for s in scene.shapes if s["kind"] == "boxes" for p in s["points"]]
    patches = [(*p.get_xy()[::-1], p.get_height(), p.get_width()) for p in ax.patches]
    assert np.allclose(np.reshape(patches, (-1, 4)), np.reshape(boxes, (-1, 4)))
    assert set(words(scene)) <= {t.get_text() for t in ax.texts}
    said = " ".join(" ".join(t.get_text() for t in fig.texts).split())
    assert all(f"{label} {value}" in said for label, value in scene.readout)
    figures.plt.close(fig)


def test_without_anywidget(monkeypatch, capsys):
    """One line that says what to install, and the figure; the notebook goes on."""
    monkeypatch.setitem(sys.modules, "anywidget", None)
    monkeypatch.delitem(sys.modules, "widgets.live", raising=False)
    shown = BOARDS["drag_p"]().play()
    assert "pip install anywidget" in capsys.readouterr().out
    assert shown.data.startswith(b"\x89PNG")


def test_another_missing_package_is_not_hidden(monkeypatch):
    monkeypatch.setitem(sys.modules, "traitlets", None)
    monkeypatch.delitem(sys.modules, "widgets.live", raising=False)
    with pytest.raises(ModuleNotFoundError, match="traitlets"):
        BOARDS["drag_p"]().play()


def test_the_two_drawings_agree():
    """board.js and still.py: the same margins, the same kinds of shapes; nothing from a network."""
    script = (TUTORIALS / "widgets" / "board.js").read_text()
    BOARDS["drag_p"]().figure()
    still = sys.modules["widgets.still"]
    margins = dict(re.findall(r"\b([A-Z]+) = (\d+)\b", script.split("\nconst KEYS")[0]))
    assert {k: int(v) for k, v in margins.items()} == {
        k: getattr(still, k) for k in ("WIDTH", "LEFT", "RIGHT", "TOP", "BOTTOM")
    }
    kinds = re.findall(r"^  (\w+)\(g, shape, at\)", script, re.MULTILINE)
    assert set(kinds) == set(still.DRAW)
    assert re.findall(r"https?://\S+|^import .*|fetch\(", script, re.MULTILINE) == [
        'http://www.w3.org/2000/svg";'
    ]


def test_the_times_of_the_index():
    """Each notebook has a row with its times, and the sum is theirs; `times.py` writes them."""
    times, text = helper("times"), (TUTORIALS / "README.md").read_text()
    rows = re.findall(r"^\|.*\((\w+)\.ipynb\).*\| (\d+) min \| (\d+) s \|$", text, re.MULTILINE)
    assert [stem for stem, _, _ in rows] == [s.stem for s in LESSONS]
    for stem, minutes, seconds in rows:
        notebook = helper("build").read(TUTORIALS / "src" / f"{stem}.py")
        assert abs(int(minutes) - times.reading(notebook)) <= 10
        assert 0 < int(seconds) <= 480
    assert f"at most {sum(int(s) for *_, s in rows)} s together" in text
    changed = times.written(text, rows[1][0], 61, 4.2)
    assert changed.replace("| 65 min | 5 s |", f"| {rows[1][1]} min | {rows[1][2]} s |") == text
    with pytest.raises(ValueError, match="0 rows for 99_none, expected 1"):
        times.written(text, "99_none", 1, 1)
