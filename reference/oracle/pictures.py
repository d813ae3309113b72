"""The pictures of a report's page, as inline SVG: sampling points, and numbers on grids.

Colours are classes, so that the page can be light or dark. Blue is what is expected, orange is what
was found.
"""

from collections.abc import Iterable, Iterator
from html import escape
from typing import Any

import numpy as np
from numpy import ndarray as Array

from .probes import Heat, Seen
from .sites import Site

MINUS = "\N{MINUS SIGN}"
UNIT = 58  # of the picture, for a pixel of the map
CELL = 46  # the same, where a number is in it
AROUND = 3  # pixels beyond the map that are drawn
MANY = 16  # points that are numbered, at most
LARGEST = 16  # pixels along an axis, so that the picture can be read


def heats(heat: Heat) -> list[tuple[str, str]]:
    """Expected, found and the difference, each with its name."""
    e, f = (np.asarray(a, np.float64) for a in (heat.expected, heat.found))
    most = float(np.abs(np.nan_to_num([e, f], posinf=0, neginf=0)).max(initial=0))
    difference = np.where(_near(e, f, most), 0, f - e)
    wrong = difference != 0
    named = (("expected", e), ("found", f), ("difference", difference))
    return [
        (name, _heat(f"{name}: {heat.says}", values, most, wrong & (name == "found"), heat))
        for name, values in named
    ]


def _near(e: Array, f: Array, most: float) -> Array:
    return np.isclose(e, f, rtol=0, atol=1e-5 * most, equal_nan=True)


def _heat(says: str, values: Array, most: float, wrong: Array, heat: Heat) -> str:
    height, width = values.shape
    parts = list(_axes(heat, width, height))
    for y, x in np.ndindex(values.shape):
        at, value = (x * CELL, y * CELL), values[y, x]
        parts.append(_rect(at, CELL, CELL, "cell"))
        if value:
            share = min(1.0, float(abs(value)) / most) if most and np.isfinite(value) else 1.0
            sign = "neg" if value < 0 else "pos"
            parts.append(_rect(at, CELL, CELL, sign, f' fill-opacity="{0.12 + 0.88 * share:.2f}"'))
            text = number(value)
            kind = "long" if len(text) > 5 else "value"
            parts.append(_text(text, at[0] + CELL / 2, at[1] + CELL / 2, kind))
    for y, x in np.argwhere(wrong):
        parts.append(_rect((x * CELL + 1.5, y * CELL + 1.5), CELL - 3, CELL - 3, "wrong"))
    edge = 22
    return _svg(says, (-edge, -edge, width * CELL + edge + 4, height * CELL + edge + 4), parts)


def _axes(heat: Heat, width: int, height: int) -> Iterator[str]:
    """The coordinates of the rows and columns."""
    top, left = heat.origin
    names: Any = {"axis": ("dy", "dx")}.get(heat.cells, range(left, left + width))
    for x, name in enumerate(names):
        yield _text(str(name), x * CELL + CELL / 2, -10, "axis")
    for y in range(height if heat.cells not in ("axis", "output") else 0):
        yield _text(str(top + y), -11, y * CELL + CELL / 2, "axis")


def points(seen: Seen) -> str:
    """The map as a grid of pixels, where the samples should be taken, and where they are."""
    site = seen.site
    assert site is not None
    window = top, left, bottom, right = _frame(seen)
    parts = [
        _rect(_at((y - 0.5, x - 0.5)), UNIT, UNIT, "pixel")
        for y, x in np.ndindex(site.size)
        if top < y < bottom and left < x < right
    ]
    parts += [
        _text(str(v), *(_at((top + 0.3, v)) if along else _at((v, left + 0.3))), "axis")
        for along, n, low, high in ((1, site.size[1], left, right), (0, site.size[0], top, bottom))
        for v in range(n) if low < v < high
    ]  # fmt: skip
    parts += _tint(seen, window)
    parts += _boxes(site)
    if site.pixel is not None:
        y, x = site.pixel
        parts.append(_rect(_at((y - 0.5, x - 0.5)), UNIT, UNIT, "centre"))
    inside = [_shown(p, window) for p in site.points]
    parts += _grid(site, inside)
    parts += _samples(seen, inside, window)
    parts += _slopes(seen, inside)
    parts += _middle(seen)
    size = (right - left) * UNIT, (bottom - top) * UNIT
    corner = _at((top, left))
    return _svg("the sampling points on the map", (*corner, *size), parts)


def _frame(seen: Seen) -> tuple[float, float, float, float]:
    """Top, left, bottom and right of what is drawn: the map, and the points that are near it."""
    site = seen.site
    assert site is not None
    all_ = [p for p in (site.points, site.grid, seen.went) if p is not None]
    near = np.concatenate(all_).reshape(-1, 2)
    ends = []
    for d, n in enumerate(site.size):
        v = near[:, d]
        v = v[(v > -AROUND) & (v < n - 1 + AROUND)]
        low, high = min(v.min(initial=0), 0), max(v.max(initial=0), n - 1)
        if high - low > LARGEST:  # a map too large for a picture: what is around the points
            middle = float(np.median(v)) if len(v) else 0.0
            low, high = max(low, middle - LARGEST / 2), min(high, middle + LARGEST / 2)
        ends.append((float(low) - 1.05, float(high) + 0.75))
    (top, bottom), (left, right) = ends
    return top, left, bottom, right


def _shown(p: Iterable[float], frame: tuple[float, float, float, float]) -> bool:
    (y, x), (top, left, bottom, right) = p, frame
    return bool(top < y < bottom and left < x < right)


def _boxes(site: Site) -> Iterator[str]:
    for (top, left, bottom, right), kind in zip(site.boxes, ("roi", "bin"), strict=False):
        y, x = sorted((top, bottom)), sorted((left, right))
        yield _rect(_at((y[0], x[0])), (x[1] - x[0]) * UNIT, (y[1] - y[0]) * UNIT, kind)


def _tint(seen: Seen, frame: tuple[float, float, float, float]) -> Iterator[str]:
    """Of a bin, whose points cannot be asked for each: the pixels that are read, in orange."""
    if seen.middle is None:
        return
    heat = seen.heats[-1]
    most = np.abs(heat.found).max(initial=0)
    for (y, x), value in np.ndenumerate(heat.found):
        p = heat.origin[0] + y - 0.5, heat.origin[1] + x - 0.5
        if value and _shown(p, frame):
            opacity = 0.1 + 0.35 * abs(value) / most
            yield _rect(_at(p), UNIT, UNIT, "found", f' fill-opacity="{opacity:.2f}"')


def _middle(seen: Seen) -> Iterator[str]:
    """The centres of what should be read, and of what is."""
    if seen.middle is None:
        return
    p, q = seen.middle
    if np.isfinite([p, q]).all() and moved(p, q):
        yield _line(p, q, "astray")
    for at, kind in ((p, "expected"), (q, "found")):
        if np.isfinite(at).all():
            x, y = _at(at)
            yield f'<path d="M{x:g} {y - 13:g}l13 13l-13 13l-13 -13z" class="{kind} middle"/>'


def _grid(site: Site, inside: list[bool]) -> Iterator[str]:
    """p0 + p_n, and the arrows from there."""
    if site.grid is None:
        return
    for start, end, shown in zip(site.grid, site.points, inside, strict=True):
        yield _circle(start, 3.5, "grid")
        if shown:
            yield _arrow(start, end, "offset", short=9)


def _samples(
    seen: Seen, inside: list[bool], frame: tuple[float, float, float, float]
) -> Iterator[str]:
    """Blue points where the samples belong; orange rings there, or diamonds where they are."""
    site = seen.site
    assert site is not None
    few = len(site.points) <= MANY
    for k, (p, shown) in enumerate(zip(site.points, inside, strict=True)):
        label = str(k) if few and site.kernel and len(site.points) > 1 else ""
        if shown:
            yield _circle(
                p, 8 if site.kernel else 5, "expected", f"{label or 'point'} at {place(p)}"
            )
            yield _text(label, *_at(p), "number")
        if seen.went is None:
            if site.marked == k and shown:
                yield _circle(p, 12.5, "ring")
            continue
        q = seen.went[k]
        if np.isnan(q).any():
            yield _cross(p) if shown else ""
        elif moved(p, q):
            yield _line(p, q, "astray") if shown else ""
            yield _diamond(q, label) if _shown(q, frame) else ""
        elif shown:
            yield _circle(p, 12, "ring")


def moved(p: Array, q: Array) -> bool:
    """Whether a sample is taken elsewhere; both may be not finite."""
    return not np.allclose(p, q, atol=1e-3, equal_nan=True)


def _slopes(seen: Seen, inside: list[bool]) -> Iterator[str]:
    """The gradients of the points as arrows, the longest of them of 1.5 pixels."""
    if seen.slopes is None or seen.site is None:
        return
    longest = max(float(np.abs(np.nan_to_num(s)).max(initial=0)) for s in seen.slopes)
    if not longest:
        return
    for kind, by in zip(("slope-expected", "slope-found"), seen.slopes, strict=True):
        for p, v, shown in zip(seen.site.points, by, inside, strict=True):
            if shown and np.isfinite(v).all() and v.any():
                yield _arrow(p, p + 1.5 * v / longest, kind)


def place(p: Iterable[float]) -> str:
    """(y, x), each to a thousandth."""
    far = [number(v) if abs(v) >= 1e5 or v != v else f"{v:.3f}".rstrip("0").rstrip(".") for v in p]
    return f"({', '.join(far)})".replace("-", MINUS)


def number(value: Any) -> str:
    """A number in the room of a cell: 0.5, -1.25, 0.047, 1.2e6."""
    value = float(value)
    if not np.isfinite(value):
        return {"inf": "∞", "-inf": f"{MINUS}∞"}.get(str(value), "NaN")
    if value == 0 or 0.01 <= abs(value) < 1e4:
        digits = max(0, 3 - len(str(int(abs(value)))))
        text = f"{value:.{digits}f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
    else:
        text = f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")
    return text.replace("-", MINUS)


def _at(p: Iterable[float]) -> tuple[float, float]:
    """(y, x) of the map as the picture's x and y."""
    y, x = p
    return float(x) * UNIT, float(y) * UNIT


def _svg(says: str, box: tuple[float, float, float, float], parts: Iterable[str]) -> str:
    view = " ".join(f"{v:g}" for v in box)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{view}" width="{box[2]:g}" role="img">'
        f"<title>{escape(says)}</title>{''.join(parts)}</svg>"
    )


def _rect(at: tuple[float, float], width: float, height: float, kind: str, more: str = "") -> str:
    x, y = at
    size = f'width="{width:g}" height="{height:g}"'
    return f'<rect x="{x:g}" y="{y:g}" {size} class="{kind}"{more}/>'


def _text(text: str, x: float, y: float, kind: str) -> str:
    return f'<text x="{x:g}" y="{y:g}" class="{kind}">{escape(text)}</text>' if text else ""


def _circle(p: Iterable[float], r: float, kind: str, says: str = "") -> str:
    x, y = _at(p)
    title = f"<title>{escape(says)}</title>" if says else ""
    return f'<circle cx="{x:g}" cy="{y:g}" r="{r:g}" class="{kind}">{title}</circle>'


def _line(p: Iterable[float], q: Iterable[float], kind: str) -> str:
    (x1, y1), (x2, y2) = _at(p), _at(q)
    return f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" class="{kind}"/>'


def _cross(p: Iterable[float]) -> str:
    x, y = _at(p)
    return f'<path d="M{x - 12:g} {y - 12:g}l24 24m0 -24l-24 24" class="nothing"/>'


def _diamond(p: Iterable[float], label: str) -> str:
    x, y = _at(p)
    mark = f'<path d="M{x:g} {y - 11:g}l11 11l-11 11l-11 -11z" class="found"/>'
    return mark + _text(label, x, y, "number")


def _arrow(p: Iterable[float], q: Iterable[float], kind: str, *, short: float = 0) -> str:
    """From p to q, less so much of its end; nothing where there is no room."""
    a, b = np.array(_at(p)), np.array(_at(q))
    length = float(np.hypot(*(b - a)))
    if not np.isfinite(length) or length <= short + 4:
        return ""
    along = (b - a) / length
    b, across = b - short * along, np.array((-along[1], along[0]))
    head = " ".join(f"{x:.1f},{y:.1f}" for x, y in (b, b - 8 * along + 4 * across,
                                                    b - 8 * along - 4 * across))  # fmt: skip
    (x1, y1), (x2, y2) = a, b - 6 * along
    line = f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'
    return f'{line}<polygon points="{head}" class="{kind} head"/>'
