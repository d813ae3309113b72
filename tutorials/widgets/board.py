"""A board: a map, handles that can be moved, and what the library makes of their places."""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.ticker import MaxNLocator
from PIL import Image as Pillow

from .shapes import Shape

MISSING = (
    "To drag this, install the package anywidget (pip install anywidget), start the kernel again "
    "and reload the page. Until then, the figure:"
)


class Scene(NamedTuple):
    """What is to be seen for one state of the handles."""

    shapes: list[Shape]
    readout: list[tuple[str, str]]
    note: str = ""


class Handle(NamedTuple):
    """Something that can be moved: where it starts, in pixels of the map, and its looks."""

    label: str
    y: float
    x: float
    colour: str
    text: str = ""
    whole: bool = False  # goes to whole pixels of the map only


Draw = Callable[[np.ndarray, dict[str, Any]], Scene]


@dataclass(frozen=True)
class Board:
    """`draw(handles, options)` turns places (n, 2) and options into a Scene, with the library.

    view    y0, x0, y1, x1: what is seen, in pixels of the map
    limits  the same, of where the handles may go; the whole map unless given
    snap    the step of the handles' places, 1 for those that are `whole`
    carry   whether the other handles go along when the first one moves
    click   whether a click on the map brings the first handle there
    """

    title: str
    image: np.ndarray
    view: tuple[float, float, float, float]
    handles: Sequence[Handle]
    draw: Draw
    options: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    limits: tuple[float, float, float, float] | None = None
    snap: float = 0.05
    carry: bool = False
    click: bool = True
    help: str = ""
    colours: Any = "gray"
    colour_range: tuple[float, float] = (0, 1)
    ticks: tuple[Sequence[float], Sequence[float]] | None = None

    @property
    def start(self) -> np.ndarray:
        """Where the handles start, (n, 2)."""
        return np.array([(h.y, h.x) for h in self.handles], float)

    @property
    def chosen(self) -> dict[str, Any]:
        """The first choice of each option."""
        return {name: choices[0] for name, choices in self.options.items()}

    def scene(self, handles: Any = None, **options: Any) -> Scene:
        """What is to be seen with the handles at these places; at the start unless given."""
        places = self.start if handles is None else np.asarray(handles, float).reshape(-1, 2)
        return self.draw(places, self.chosen | options)

    def figure(self, handles: Any = None, **options: Any) -> Any:
        """The board as a figure, a PNG: the same shapes, drawn by matplotlib."""
        from .still import figure

        return figure(self, self.start if handles is None else handles, options)

    def play(self) -> Any:
        """The board as a widget for JupyterLab; without anywidget, the figure and a word on it."""
        try:
            from .live import Live
        except ModuleNotFoundError as error:
            if error.name != "anywidget":
                raise
            print(MISSING)
            return self.figure()
        return Live(self)

    def fixed(self) -> dict[str, Any]:
        """What does not change while it is played with, for the front end."""
        H, W = self.image.shape
        return {
            "title": self.title, "view": self.view, "limits": self.limits or (0, 0, H - 1, W - 1),
            "snap": self.snap, "carry": self.carry, "click": self.click, "help": self.help,
            "image": {"url": self.url(), "height": H, "width": W}, "ticks": self.marks(),
            "handles": [h._asdict() | {"y": float(h.y), "x": float(h.x)} for h in self.handles],
            "options": {name: list(choices) for name, choices in self.options.items()},
        }  # fmt: skip

    def pixels(self) -> np.ndarray:
        """The map in its colours, H W 3 of bytes."""
        low, high = self.colour_range
        scaled = np.clip((self.image - low) / (high - low), 0, 1)
        return matplotlib.colormaps.get_cmap(self.colours)(scaled, bytes=True)[..., :3]

    def url(self) -> str:
        """The map as a PNG, one pixel each, in a data URL."""
        file = io.BytesIO()
        Pillow.fromarray(self.pixels()).save(file, format="png", optimize=True)
        return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()

    def marks(self) -> dict[str, list[float]]:
        """The numbers along the axes."""
        H, W = self.image.shape
        nice = MaxNLocator(7, integer=True)
        y, x = self.ticks or (nice.tick_values(0, H - 1), nice.tick_values(0, W - 1))
        (y0, x0), (y1, x1) = self.view[:2], self.view[2:]
        if self.ticks is None:
            y1, x1 = min(y1, H - 0.5), min(x1, W - 0.5)
        inside = [(y, y0, y1), (x, x0, x1)]
        return {
            axis: [float(t) for t in at if low <= t <= high]
            for axis, (at, low, high) in zip("yx", inside, strict=True)
        }
