"""Figures made of parts: the same limbs in one pose, or with every joint turned at random.

A figure is a trunk and four segments of limbs, always of the same length and width; the classes
differ in where those are. So neither a pose nor an area tells the class. The worlds "rigid" and
"articulated" draw the same random numbers: picture by picture they have the same classes, sizes,
places and noise, and only the poses differ.
"""

from math import cos, pi, sin
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray as Array

from deformable_convnets.reference.networks.scale_world import Scene, limits, noisy, place

CLASSES = ("background", "arms", "legs", "stride", "short")
SEGMENT = 0.6  # of a limb, in r
TRUNK, WIDTH = 1.4 * SEGMENT, 0.7 * SEGMENT
REACH = 1.76  # no point of a figure in any pose is further from its centre, in r
SHOULDER = (0.25 * pi, 0.6 * pi)  # the angles of a first segment, from the trunk's axis outwards
FOREARM = (0.05 * pi, 0.95 * pi)  # those of a second one, which does not cross the axis
BEND = 0.5 * pi  # at most from the one to the other
REST = ((0.4 * pi, 0.1 * pi),) * 4  # the one pose of the rigid figures
# The limbs of a class: the trunk's end (-1 top, 1 bottom), the side, and the number of segments.
LIMBS = (
    ((-1, -1, 2), (-1, 1, 2)),
    ((1, -1, 2), (1, 1, 2)),
    ((-1, -1, 2), (1, 1, 2)),
    ((-1, -1, 1), (-1, 1, 1), (1, -1, 1), (1, 1, 1)),
)
CENTRE = (-0.3, 0.3, 0.0, 0.0)  # where on the trunk the centre is, from -1 to 1


class Figure(NamedTuple):
    """A figure: its class from 1 to 4, its centre, its r, its turn, and the angles of its joints.

    r is half the side of the box that it fills, on average over classes and poses.
    """

    kind: int
    y: float
    x: float
    r: float
    turn: float
    pose: tuple[tuple[float, float], ...] = REST

    @property
    def reach(self) -> float:
        """No point of the figure is further from its centre, in whatever pose."""
        return REACH * self.r

    def parts(self) -> Array:
        """The trunk and the segments from joint to joint: 5 2 2, in r from the centre."""
        ends = {s: np.array((s * TRUNK / 2, 0.0)) for s in (-1, 1)}
        made = [(ends[-1], ends[1])]
        for (end, side, segments), angles in zip(LIMBS[self.kind - 1], self.pose, strict=False):
            joint = ends[end]
            for angle in angles[:segments]:
                tip = joint + SEGMENT * np.array((end * cos(angle), side * sin(angle)))
                made.append((joint, tip))
                joint = tip
        return np.array(made) - (CENTRE[self.kind - 1] * TRUNK / 2, 0)

    def covers(self, y: Any, x: Any) -> Any:
        """Whether the figure covers these places."""
        y, x = np.broadcast_arrays(y, x)
        near = (abs(y - self.y) <= self.reach) & (abs(x - self.x) <= self.reach)
        found = np.zeros(near.shape, bool)
        c, s = np.cos(self.turn), np.sin(self.turn)
        dy, dx = (y[near] - self.y) / self.r, (x[near] - self.x) / self.r
        v, u = c * dy - s * dx, s * dy + c * dx
        found[near] = _distance(self.parts(), v, u) <= WIDTH / 2
        return found


def _distance(parts: Array, v: Array, u: Array) -> Array:
    """From each place to the nearest of the segments."""
    best = np.full(v.shape, np.inf)
    for (v0, u0), (v1, u1) in parts:
        dv, du = v1 - v0, u1 - u0
        along = ((v - v0) * dv + (u - u0) * du) / (dv * dv + du * du)
        along = np.clip(along, 0, 1)
        np.minimum(best, (v - v0 - along * dv) ** 2 + (u - u0 - along * du) ** 2, out=best)
    return np.sqrt(best)


def scene(
    rng: np.random.Generator, size: int = 64, *, articulated: bool = True,
    radius: tuple[float, float] | None = None, noise: float = 0.3, turn: float = 0.35,
) -> Scene:  # fmt: skip
    """A new picture; articulated: every joint is turned at random, otherwise all poses are REST.

    Other arguments and errors as of `scale_world.scene`.
    """
    bounds = limits(size, radius or (4 * size / 64, 24 * size / 64))
    things = place(rng, size, lambda: _figure(rng, size, bounds, turn))
    if not articulated:
        things = tuple(thing._replace(pose=REST) for thing in things)
    image, (rows, columns) = np.zeros((size, size), bool), np.indices((size, size))
    for thing in things:
        image |= thing.covers(rows, columns)
    return noisy(rng, image, things, noise)


def _figure(
    rng: np.random.Generator, size: int, radius: tuple[float, float], turn: float
) -> Figure:
    """A figure without a place, drawn again until there is room for it in the picture."""
    while True:
        r = float(np.exp(rng.uniform(*np.log(radius))))
        turned, kind = float(rng.uniform(-turn, turn)), int(rng.integers(1, 5))
        new = Figure(kind, 0.0, 0.0, r, turned, tuple(_angles(rng) for _ in range(4)))
        if new.reach <= (size - 1) / 2:
            return new


def _angles(rng: np.random.Generator) -> tuple[float, float]:
    """Of a shoulder, and of what is beyond the elbow."""
    shoulder = float(rng.uniform(*SHOULDER))
    low, high = max(FOREARM[0], shoulder - BEND), min(FOREARM[1], shoulder + BEND)
    return shoulder, float(rng.uniform(low, high))
