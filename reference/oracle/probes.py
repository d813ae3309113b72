"""Where the samples of a failure should go, and where they went: the numbers behind the pictures.

Every operator is linear in x. So x = 1 at one pixel and 0 elsewhere gives the weight of this pixel
in an element of the result, whatever is inside the implementation; in the same way a map of ones,
of rows and of columns gives, for one tap of the kernel, the point where it reads. What is expected
are the gradient of x and the points of equation (2), (5) or (6) in the reference.

The smallest problem of a failure is often too small to look at; then a larger one is asked for.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray as Array

import deformable_convnets.reference as reference
from deformable_convnets.reference import bilinear
from deformable_convnets.reference.geometry import Pair

from . import sites, stages
from .calls import Record
from .diagnosis import Case, Evidence, cases
from .failures import Failed
from .sites import Site

CALLS = 400  # of the implementation, for one picture
ENOUGH = 0.75  # of the points are on the map, for a picture
PATIENCE = 1.0  # seconds, the same
WIDE = 12  # pixels of a map that are shown along an axis


class Heat(NamedTuple):
    """Numbers expected and found on a grid of pixels, taps, parts or coordinates.

    cells   "pixel", "tap", "part", "axis" or "output"
    origin  the coordinates of the first pixel
    plane   the pixels' image and channel, as in x[0, 1]
    """

    says: str
    expected: Array
    found: Array
    cells: str = "pixel"
    origin: Pair = (0, 0)
    plane: str = ""


class Seen(NamedTuple):
    """What is drawn for one wrong element of a result.

    site   its sampling points, or None where it has none
    went   where the implementation reads each of them, NaN where it reads nothing; or None
    middle the centre of what a bin should read, and of what it reads; or None
    slopes the gradient of each point, expected and found; or None
    code   Python of the problem, if it is not that of the failure
    """

    operator: str
    what: str
    at: tuple[int, ...]
    expected: float
    found: float
    heats: tuple[Heat, ...]
    site: Site | None = None
    went: Array | None = None
    middle: tuple[Array, Array] | None = None
    slopes: tuple[Array, Array] | None = None
    code: str = ""


def seen(evidence: Evidence) -> Seen | None:
    """The picture of a failure, or None: no result, of volumes, no time, no difference."""
    wrong = evidence.wrong
    if wrong is None or wrong.result is None or wrong.arguments["x"].ndim == 5:
        return None
    for candidate in (_staged, _as_it_is) if stages.too_small(wrong) else (_as_it_is, _staged):
        try:
            with np.errstate(all="ignore"):
                found = candidate(evidence, wrong)
        except Failed as error:
            if error.fatal:
                return None
        except Exception:  # a picture is never a reason to fail
            continue
        else:
            if found is not None:
                return found
    return None


def _as_it_is(evidence: Evidence, wrong: Record) -> Seen | None:
    """The failure's own problem, and the element that its message names, if it is one of these."""
    said = getattr(evidence.found.error, "what", ""), getattr(evidence.found.error, "at", None)
    for name, case in cases(wrong):
        places = _places(case)
        if places:
            what = name if name == "y" else f"grads.{name}"
            at = said[1] if said[0] == what and said[1] in places else places[0]
            return _look(evidence, wrong.operator, name, case, at)
    return None


def _staged(evidence: Evidence, wrong: Record) -> Seen | None:
    """A larger problem that goes wrong too: the element with most of its points on the map."""
    best: tuple[Any, Any] = ((), None)
    names, until, tried = [n for n, c in cases(wrong) if _places(c)], time.perf_counter(), 0
    for code, arguments in stages.stages(evidence, wrong):
        if time.perf_counter() - until > PATIENCE or tried == 3:
            break
        result = _tried(evidence.i.call[wrong.operator], arguments)
        if result is None:
            continue
        for name, case in cases(Record(wrong.operator, arguments, result)):
            places = _places(case) if name in names[:1] else []
            tried += bool(places)
            for at in places[:: 1 + len(places) // 24]:
                site = sites.site(wrong.operator, arguments, name, at)
                on = 0.0 if site is None else min(site.inside(), ENOUGH)
                far = abs(float(case.result[at]) - float(case.right[at]))
                score = bool(case.result[at]), on, far  # 0 often means that nothing is read
                if score > best[0]:
                    best = score, (name, case, at, code)
    if best[1] is None:
        return None
    name, case, at, code = best[1]
    return _look(evidence, wrong.operator, name, case, at)._replace(code=code)


def _tried(function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """The result, or None where the call gives none."""
    try:
        return function(**arguments)
    except Failed as error:
        if error.fatal:
            raise
        return None


def _places(case: Case) -> list[tuple[int, ...]]:
    """The wrong elements, in order; rounding is none."""
    got, right = np.asarray(case.result), np.asarray(case.right)
    if got.shape != right.shape:
        return []
    largest = np.abs(right[np.isfinite(right)]).max(initial=0)
    near = np.isclose(got, right, rtol=0, atol=64 * np.finfo(got.dtype).eps * largest,
                      equal_nan=True)  # fmt: skip
    return [tuple(map(int, at)) for at in np.argwhere(~near)]


def _look(evidence: Evidence, operator: str, name: str, case: Case, at: tuple[int, ...]) -> Seen:
    site = sites.site(operator, case.arguments, name, at)
    look = Seen(
        operator, name if name == "y" else f"grads.{name}", at,
        float(case.right[at]), float(case.result[at]), (), site,
    )  # fmt: skip
    if name == "y":
        assert site is not None
        return _probed(look, site, evidence.i.call[operator], case.arguments)
    if name in ("offset", "p"):
        e, f = (sites.slopes(case.arguments, v, at) for v in (case.right, case.result))
        one = site is not None and len(site.points) == len(e)  # not all the points of a RoI's bin
        look = look._replace(slopes=(e, f) if one else None)
    return look._replace(heats=_of_gradient(name, case, at))


def _of_gradient(name: str, case: Case, at: tuple[int, ...]) -> tuple[Heat, ...]:
    """The gradient around one of its elements, by pixel, tap or part."""
    e, f = case.right, case.result
    if name != "x":
        grids = sites.grids(case.arguments, name, at)
        return tuple(Heat(says, pick(e), pick(f), cells) for says, cells, pick in grids)
    rows, columns = _window(e.shape[-2:], np.array([at[-2:]]))
    e, f = (a[at[:-2]][rows, columns] for a in (e, f))
    says = f"grads.x[{', '.join(map(str, at[:-2]))}] by pixel"
    return (Heat(says, e, f, "pixel", (rows.start, columns.start)),)


class Asked:
    """One element of the result of a call, for other maps and weights, as long as there is time."""

    def __init__(self, function: Callable[..., Any], a: dict[str, Any], at: tuple[int, ...]):
        self.function, self.a, self.at = function, a, at
        self.until, self.zero = time.perf_counter() + PATIENCE, 0.0
        self.zero = self(np.zeros_like(a["x"]))

    def __call__(self, x: Array, **changes: Any) -> float:
        if time.perf_counter() > self.until:
            raise TimeoutError
        return float(self.function(**{**self.a, **changes, "x": x})[self.at]) - self.zero


def _probed(look: Seen, site: Site, function: Callable[..., Any], a: dict[str, Any]) -> Seen:
    """The weight of every pixel in an element of y, and where its taps read."""
    ask = Asked(function, a, look.at)
    right, shape = _expected(look.operator, ask.a, look.at), a["x"].shape
    rows, columns = _window(site.size, site.points)
    each = (rows.stop - rows.start) * (columns.stop - columns.start)
    planes = sorted(np.ndindex(shape[:-2]), key=lambda plane: (plane != site.plane, plane))
    if each > CALLS:
        raise TimeoutError
    heats = []
    for plane in planes[: CALLS // each]:
        got = np.zeros((rows.stop - rows.start, columns.stop - columns.start))
        for y, x in np.ndindex(got.shape):
            one = np.zeros_like(a["x"])
            one[(*plane, rows.start + y, columns.start + x)] = 1
            got[y, x] = ask(one)
        where = f"x[{', '.join(map(str, plane))}]"
        says = f"The weight of each pixel of {where} in y[{', '.join(map(str, look.at))}]"
        expected = right[plane][rows, columns]
        heats.append(Heat(says, expected, got, "pixel", (rows.start, columns.start), where))
    chosen = _chosen(heats)
    look = look._replace(heats=chosen, went=_went(ask, site, chosen[0]))
    several = site.kernel is None and len(site.points) > 1
    return look._replace(middle=_middles(chosen) if several else None)


def _chosen(heats: list[Heat]) -> tuple[Heat, ...]:
    """The first plane of x that differs; if it is not read, also one that is read instead."""
    different = [h for h in heats if not np.allclose(h.expected, h.found, atol=1e-4)]
    first = (different + heats)[0]
    instead = [h for h in different if h.found.any() and not h.expected.any()]
    return (first, *instead[:1]) if first.expected.any() and not first.found.any() else (first,)


def _expected(operator: str, a: dict[str, Any], at: tuple[int, ...]) -> Array:
    """The weight of every pixel of x: the gradient of x of this element, in float64."""
    a = {n: v.astype("f8") if isinstance(v, np.ndarray) else v for n, v in a.items()}
    y = getattr(reference, operator)(**a)
    one = np.zeros_like(y)
    one[at] = 1
    return getattr(reference, f"{operator}_backward")(one, **a).x


def _window(size: Pair, points: Array) -> tuple[slice, slice]:
    """The part of a map that is shown: all of it, or what is around the points."""
    inside = np.clip(np.nan_to_num(points), 0, np.subtract(size, 1))
    middle = np.median(inside, axis=0) if len(inside) else (0, 0)
    first = [
        int(np.clip(m - WIDE // 2, 0, max(n - WIDE, 0))) for m, n in zip(middle, size, strict=True)
    ]
    y, x = (slice(f, min(f + WIDE, n)) for f, n in zip(first, size, strict=True))
    return y, x


def _went(ask: Asked, site: Site, heat: Heat) -> Array | None:
    """Where each point is read, as the centre of the pixels that it reads."""
    H, W = site.size
    maps = [np.ones((H, W)), *np.indices((H, W))]
    if site.kernel is None:
        if len(site.points) != 1:
            return None
        shown = [m[_cut(heat)] for m in maps]
        got = np.array([[(heat.found * m).sum() for m in shown]])
    else:
        got = np.array([[_tap(ask, site, k, m) for m in maps] for k in range(len(site.points))])
    return _centres(got, site, maps)


def _middles(heats: tuple[Heat, ...]) -> tuple[Array, Array]:
    """The centres of the pixels that should be read, and of those that are; NaN where none is."""
    at = np.moveaxis(np.indices(heats[0].found.shape), 0, -1) + heats[0].origin
    both = (np.abs(v) for v in (heats[0].expected, heats[-1].found))
    e, f = (np.einsum("yx,yxd->d", v, at) / v.sum() for v in both)
    return e, f


def _cut(heat: Heat) -> tuple[slice, slice]:
    (y, x), (height, width) = heat.origin, heat.found.shape
    return slice(y, y + height), slice(x, x + width)


def _tap(ask: Asked, site: Site, k: int, values: Array) -> float:
    """y where tap k alone has the weight 1, on one map of these values."""
    weight, x = np.zeros_like(ask.a["weight"]), np.zeros_like(ask.a["x"])
    weight[(*site.filter, *np.unravel_index(k, weight.shape[2:]))] = 1
    x[site.plane] = values
    mask = ask.a.get("mask")
    return ask(x, weight=weight, **({} if mask is None else {"mask": np.ones_like(mask)}))


def _centres(got: Array, site: Site, maps: list[Array]) -> Array:
    """The sums of g, g y and g x of each point as points; those that are right where they belong.

    Outside the map nothing is read, so a point that is partly outside has no centre of its own:
    it is the expected point if the sums are the expected ones.
    """
    G = bilinear.G(site.points, site.size, border=site.border)
    right = G @ np.stack([m.ravel() for m in maps], axis=1)
    centre, wanted = (s[:, 1:] / s[:, :1] for s in (got, right))
    nothing, should_not = (np.abs(s[:, :1]) < 1e-6 for s in (got, right))
    near = np.isclose(centre, wanted, atol=1e-3).all(axis=1, keepdims=True)
    whole = np.isclose(right[:, :1], 1)
    near &= whole | np.isclose(got[:, :1], right[:, :1])
    as_it_should = np.where(nothing | should_not, nothing & should_not, near)
    return np.where(as_it_should, site.points, np.where(nothing, np.nan, centre))
