"""One call of an operator: its arrays, what it is to be run by, and the way there and back."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from deformable_convnets.reference import checks, roi_checks
from deformable_convnets.reference.geometry import AnyGeometry, RoiGeometry

from . import arrays, registry
from .registry import Choice

Shape = tuple[int, ...]


class Call:
    """One call: its arrays by name, each also an attribute, described as `checks` wants it."""

    def __init__(self, operator: str, choice: Choice, **given: Any):
        self.operator, self.choice = operator, choice
        self.given = {name: arrays.readable(name, a) for name, a in given.items()}
        self.arrays = {name: a for name, a in self.given.items() if a is not None}

    def __getattr__(self, name: str) -> Any:
        return arrays.described(self.given[name])

    def output_shape(self, geometry: AnyGeometry) -> Shape:
        return self.x.shape[0], self.weight.shape[0], *geometry.output

    def forward(self, shape: Shape, **settings: Any) -> Any:
        """Runs the operator, whose result has this shape and the dtype of x."""
        self.check_choice()
        return self._run({"y": (shape, self.x.dtype)}, settings)["y"]

    def backward(self, fields: Any, wrt: Iterable[str] | None, **settings: Any) -> dict[str, Any]:
        """Runs the operator for the gradients `wrt` names; those not wanted or given are None."""
        self.check_choice()
        names = _names(wrt, fields._fields)
        wanted = tuple(n for n in fields._fields if n in names and n in self.arrays)
        if "x" not in wanted:  # the others repeat bit for bit in every version
            self.choice = self.choice._replace(deterministic=False)
        results = {name: (getattr(self, name).shape, getattr(self, name).dtype) for name in wanted}
        grads = self._run(results, settings | {"wrt": wanted}) if wanted else {}
        return dict.fromkeys(fields._fields) | grads

    def check_choice(self) -> None:
        self.choice = self.choice._replace(dtype=self.x.dtype.name)
        registry.check(self.choice)

    def _run(self, results: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
        """To device, launch, back. Where an array is empty all sums are: nothing is launched."""
        place, x = arrays.place(self.arrays), self.given["x"]
        choice = self.choice._replace(device=place.device)
        backend, version = registry.choose(choice, self.operator)
        with backend.on(place):
            if any(0 in arrays.described(a).shape for a in self.arrays.values()):
                made = {n: backend.take(np.zeros(*result)) for n, result in results.items()}
            else:
                taken = {n: None if a is None else backend.take(a) for n, a in self.given.items()}
                chosen = {n: getattr(self.choice, n) for n in version.takes}
                out = version.run(**taken, **settings, **chosen)
                made = out if isinstance(out, dict) else {"y": out}
            return {name: arrays.like(a, x, place) for name, a in made.items()}


class RoiCall(Call):
    """One call of a RoI operator."""

    def check(self, output_size: Any, **settings: Any) -> RoiGeometry:
        """The geometry of the call, by the checks of the reference."""
        given = {name: getattr(self, name) for name in self.given if name not in ("x", "rois")}
        if isinstance(self.rois, checks.Described):
            settings["roi_values"] = _HostCopy(self)
        return roi_checks.check_roi_pool(self.x, self.rois, output_size, **given, **settings)

    def pooled(self, at: RoiGeometry) -> Any:
        """Runs a forward operator, whose result is R Cout kh kw."""
        return self.forward((self.rois.shape[0], at.channels, *at.output), geometry=at)


class _HostCopy:
    """RoIs that are not NumPy's, copied to host memory once a check asks for their values."""

    def __init__(self, call: RoiCall):
        self.call = call

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        rois = self.call.given["rois"]
        place = arrays.place({"x": rois})
        if place.device is not None and not arrays.framework(rois):  # a protocol, no method to copy
            self.call.check_choice()
            backend, _ = registry.choose(self.call.choice, self.call.operator)
            with backend.on(place):
                return np.asarray(arrays.to_numpy(backend.take(rois)), dtype)
        return np.asarray(arrays.to_numpy(rois), dtype)


def _names(wrt: Any, fields: tuple[str, ...]) -> tuple[str, ...]:
    """The gradients that `wrt` asks for: all for None, one for a string."""
    if wrt is not None and not isinstance(wrt, Iterable):
        raise TypeError(
            f"wrt is {wrt!r}, expected None or an iterable of names among {registry.either(fields)}"
        )
    names = fields if wrt is None else (wrt,) if isinstance(wrt, str) else tuple(wrt)
    for name in names:
        if not (isinstance(name, str) and name in fields):
            raise ValueError(f"wrt has {name!r}, expected names among {registry.either(fields)}")
    return names
