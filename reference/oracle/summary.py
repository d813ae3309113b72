"""What the picture of a failure shows, in a sentence; it heads the picture on the page."""

from typing import Any

import numpy as np

from . import pictures
from .probes import Heat, Seen

ELSEWHERE = "Every pixel has the right weight: the fault is in what is added to them"


def summary(seen: Seen) -> str:
    """What the picture shows, in a sentence."""
    if len(seen.heats) > 1 and seen.what == "y":
        return f"The element belongs to {seen.heats[0].plane} and reads {seen.heats[1].plane}"
    if seen.what == "y" and all(map(_same, seen.heats)):
        return ELSEWHERE
    if seen.site is not None and seen.went is not None:
        return _of_points(seen.site.points, seen.went)
    if seen.middle is not None and (said := _of_bin(*seen.middle)):
        return said
    for heat in seen.heats:
        wrong = [h for h in seen.heats if not _same(h)]
        cells = sum(int((~_near(h)).sum()) for h in wrong)
        of = sum(h.expected.size for h in seen.heats)
        kind = {"axis": "number", "output": "number"}.get(heat.cells, heat.cells)
        if seen.what == "y":
            return f"{cells} of {of} pixels have the wrong weight"
        numbers = "numbers" if len(seen.heats) > 1 else f"{kind}s"
        return f"{cells} of {of} {numbers} are wrong"
    return ""


def _of_points(points: Any, went: Any) -> str:
    astray = [k for k in range(len(points)) if pictures.moved(points[k], went[k])]
    one = len(points) == 1
    if not astray:
        return "The samples are taken where they belong; their weights are wrong"
    many = "The sample" if one else f"{len(astray)} of {len(points)} taps"
    k = ([k for k in astray if np.isfinite(went[k]).all()] + astray)[0]
    reads = "reads nothing" if np.isnan(went[k]).any() else f"reads at {pictures.place(went[k])}"
    who = "It" if one else f"Tap {k}"
    return (
        f"{many} read{'s' * (one or len(astray) == 1)} elsewhere."
        f" {who} belongs at (y, x) = {pictures.place(points[k])} and {reads}"
    )


def _of_bin(p: Any, q: Any) -> str:
    if np.isfinite(p).all() and np.isnan(q).any():
        return f"The bin belongs around (y, x) = {pictures.place(p)} and reads nothing"
    if np.isfinite(p).all() and pictures.moved(p, q):
        belongs = f"The bin belongs around (y, x) = {pictures.place(p)}"
        return f"{belongs} and reads around {pictures.place(q)}"
    return ""


def _near(heat: Heat) -> Any:
    most = np.abs(np.nan_to_num([heat.expected, heat.found])).max(initial=0)
    return np.isclose(heat.expected, heat.found, rtol=0, atol=1e-5 * most, equal_nan=True)


def _same(heat: Heat) -> bool:
    return bool(_near(heat).all())
