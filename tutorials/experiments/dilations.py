"""Effective dilation by where a filter's centre lies (Table 2), and what has to stand beside it.

It grows with disorder as with scale, and a tap outside the map reads zeros. So next to it: its
random control, the scale of the grid that fits best, and the share of samples outside the map.
"""

from typing import Any

import numpy as np

from deformable_convnets.reference import (
    R,
    disordered_offset,
    effective_dilation,
    grid_fit,
    sampling_points,
)

KERNEL = (3, 3)


class Dilations:
    """Sums over the filters of each layer and place."""

    def __init__(self, layers: tuple[str, ...]):
        self.layers = sorted(layers)  # res4a to res5c: the order in which the network calls them
        self.values: dict[tuple[str, str, str], list[Any]] = {}
        self.rng = np.random.default_rng(0)
        self.map_size: tuple[int, ...] = ()

    def add(self, offsets: list[Any], places: dict[str, Any]) -> None:
        """The offsets of all layers for some pictures; places: name -> N H W of booleans."""
        for layer, (offset, dilation) in zip(self.layers, offsets, strict=True):
            self.map_size = offset.shape[2:]
            for name, values in _statistics(offset, dilation, self.rng).items():
                for place, here in places.items():
                    self.values.setdefault((layer, place, name), []).append(values[here])

    def summary(self) -> dict[str, Any]:
        """layer -> place -> mean, std, and the means of the control, the scale and outside."""
        found: dict[str, Any] = {}
        for (layer, place, name), parts in self.values.items():
            values = np.concatenate(parts)
            row = found.setdefault(layer, {}).setdefault(place, {"filters": values.size})
            row[name] = float(values.mean()) if values.size else None
            if name == "mean":
                row["std"] = float(values.std()) if values.size else None
        return {"map_size": list(self.map_size), "layers": found} if found else {}


def _statistics(offset: Any, dilation: Any, rng: np.random.Generator) -> dict[str, Any]:
    """Each N H W."""
    H, W = offset.shape[2:]
    y, x = np.moveaxis(
        sampling_points(offset, KERNEL, padding=dilation, dilation=dilation)[:, 0], -1, 0
    )
    outside = (y <= -1) | (y >= H) | (x <= -1) | (x >= W)
    rows, columns = np.indices((H, W))
    r, c = (dilation * R(KERNEL)[:, i, None, None] for i in (0, 1))
    rigid = (rows + r < 0) | (rows + r >= H) | (columns + c < 0) | (columns + c >= W)
    control = disordered_offset(offset, KERNEL, rng, keep="lengths")
    return {
        "mean": effective_dilation(offset, KERNEL, dilation=dilation)[:, 0],
        "control": effective_dilation(control, KERNEL, dilation=dilation)[:, 0],
        "scale": grid_fit(offset, KERNEL, dilation=dilation).scale[:, 0],
        "outside": outside.mean(axis=1),
        "rigid": np.broadcast_to(rigid.mean(axis=0), (len(outside), H, W)),
    }
