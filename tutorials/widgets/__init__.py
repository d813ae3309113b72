"""Things to touch: boards whose points can be dragged, while the library computes what follows.

    board = drag_p(x)      what can be touched, and where it starts
    board.figure()         that start, as a figure: needs no kernel and no browser
    board.play()           the same, live in JupyterLab

The front end draws and reports where the handles are; every number and place comes from Python.
"""

from .bins import drag_bins
from .board import Board
from .grid import turn_grid
from .point import drag_p
from .stack import click_activation
from .taps import drag_taps

__all__ = ["Board", "click_activation", "drag_bins", "drag_p", "drag_taps", "turn_grid"]
