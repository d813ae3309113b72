"""The live board: places come from the browser, and a Scene goes back."""

from pathlib import Path
from typing import Any

import anywidget
import traitlets

from .board import Board

HERE = Path(__file__).resolve().parent


class Live(anywidget.AnyWidget):
    """A Board in JupyterLab. The browser owns `handles` and `options`, Python owns `scene`."""

    _esm = HERE / "board.js"
    _css = HERE / "board.css"
    fixed = traitlets.Dict().tag(sync=True)
    handles = traitlets.List().tag(sync=True)
    options = traitlets.Dict().tag(sync=True)
    scene = traitlets.Dict().tag(sync=True)

    def __init__(self, board: Board) -> None:
        self.board = board
        start, chosen = board.start.tolist(), board.chosen
        scene = answer(board, start, chosen)
        super().__init__(fixed=board.fixed(), handles=start, options=chosen, scene=scene)
        self.observe(self.follow, ["handles", "options"])

    def follow(self, _change: Any) -> None:
        """A handle has been moved or an option chosen."""
        self.scene = answer(self.board, self.handles, self.options)


def answer(board: Board, handles: list[list[float]], options: dict[str, Any]) -> dict[str, Any]:
    """The Scene for the front end; an error becomes a line of text, and the board lives on."""
    asked = {"handles": handles, "options": options}
    try:
        return asked | board.scene(handles, **options)._asdict()
    except Exception as error:
        return asked | {"error": f"{type(error).__name__}: {error}"}
