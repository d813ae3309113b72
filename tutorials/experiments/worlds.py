"""The worlds of the experiments by name: pictures, the class of every cell, boxes, and sizes."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy import ndarray as Array

from deformable_convnets.reference.networks import scale_world
from deformable_convnets.reference.networks.scale_world import Scene
from experiments import digits_world, figures_world

SIZES = ("small", "medium", "large")
BOUNDS = (7.3, 13.2)  # r of the smallest medium and of the smallest large thing, of 64 pixels
SMALLEST = 48  # pixels of a picture; in less, limbs of figures would be thinner than a pixel
BRIGHT, DARK = (3, 9), (6, 20)  # the narrowest and the widest band, and gap between bands


class World(NamedTuple):
    """A kind of pictures: `scene(rng, size)` makes one, of classes the first of which is none."""

    CLASSES: tuple[str, ...]
    scene: Callable[[np.random.Generator, int], Scene]
    held_out: str  # the world of the pictures for the test


def bands(rng: np.random.Generator, size: int) -> Array:
    """A background S S of bands of 1 on 0, straight or bent, from edge to edge of the picture.

    A band is as bright as a shape and as wide as a small one. A cell in it has to see how its edges
    go on to tell that no shape is there; flat background needs no such context.
    """
    turn, bend = rng.uniform(0, np.pi), rng.uniform(-1, 1) / size
    y, x = np.indices((size, size)) - (size - 1) / 2
    along, across = np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x
    limits = np.array([DARK, BRIGHT] * 20) * size / 64
    widths = np.exp(rng.uniform(*np.log(limits.T)))
    edges = np.cumsum(widths) - 2 * size - rng.uniform(0, size / 2)
    return (np.searchsorted(edges, across + bend * along**2) % 2).astype(float)


WORLDS = {
    "scale": World(scale_world.CLASSES, scale_world.scene, "scale"),
    "structured": World(
        scale_world.CLASSES, partial(scale_world.scene, background=bands), "structured"
    ),
    "rigid": World(figures_world.CLASSES, partial(figures_world.scene, articulated=False), "rigid"),
    "articulated": World(figures_world.CLASSES, figures_world.scene, "articulated"),
    "digits": World(digits_world.CLASSES, digits_world.scene, "digits-test"),
    "digits-test": World(
        digits_world.CLASSES, partial(digits_world.scene, split="test"), "digits-test"
    ),
}


def named(world: str) -> World:
    """The world of this name."""
    if world not in WORLDS:
        raise ValueError(f"world is {world!r}, expected one of {', '.join(WORLDS)}")
    return WORLDS[world]


def held_out(world: str) -> str:
    """The world of the pictures that test what learned in this one; itself, but for digits."""
    return named(world).held_out


def batch(
    world: str, rng: np.random.Generator, count: int, size: int = 64, stride: int = 4
) -> tuple[Array, Array, list[Scene]]:
    """Pictures N 1 S S in float32, labels N S/stride S/stride, and the scenes they are of."""
    if count < 1 or stride < 1 or size < SMALLEST or size % stride:
        raise ValueError(
            f"{count} pictures of {size} pixels in cells of {stride}: expected at least one "
            f"picture, of {SMALLEST} pixels or more, and whole cells"
        )
    draw = named(world).scene
    scenes = [draw(rng, size) for _ in range(count)]
    labels = np.stack([scene.labels(stride) for scene in scenes])
    return np.stack([scene.image for scene in scenes]), labels, scenes


def size_bin(r: float, size: int) -> str:
    """Whether a thing of this r is small, medium or large in a picture of this size."""
    if not r > 0:
        raise ValueError(f"r is {r}, expected more than 0")
    return SIZES[int(np.digitize(r * 64 / size, BOUNDS))]


def places(radii: Array, size: int) -> dict[str, Array]:
    """Where the things of each size are, and the background, which is where r is NaN."""
    bins = np.where(np.isnan(radii), len(SIZES), np.digitize(radii * 64 / size, BOUNDS))
    return {name: bins == i for i, name in enumerate((*SIZES, "background"))}
