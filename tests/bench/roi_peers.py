"""Three other libraries that pool RoIs, their arrays in our order. Nothing here judges.

    MXNet         the authors' operator, DeformablePSROIPooling, with gradients     bins="mxnet"
    OpenVINO      the same operator, forward only                                   bins="mxnet"
    torchvision   roi_align (aligned=True) and ps_roi_align, with the x gradient    bins="align"

MXNet and OpenVINO compute in float32, torchvision in float64. The offsets of the first two are
planes dx, dy of each class. PSROIPooling, of either, lays points by a rule that is none of ours.
"""

from typing import Any, Protocol

from numpy import ndarray as Array

from deformable_convnets.reference import from_layout, to_layout

from .agreement import error
from .child import Child
from .roi_cases import RoiCase


class Peer(Protocol):
    def answers(self, case: RoiCase) -> dict[str, Array]:
        """ "y", and the gradients by the name of their argument; not what the library lacks."""


class MXNet(Child):
    def __init__(self) -> None:
        super().__init__("mxnet")

    def answers(self, case: RoiCase) -> dict[str, Array]:
        own = case.options
        self.put(
            "DeformablePSROIPooling", _authors_arrays(case), **_authors_options(case),
            pooled_size=case.output_size[0], sample_per_part=own["samples"],
            no_trans=case.offset is None,
        )  # fmt: skip
        found = self.results()
        found["x"] = found.pop("data")
        if "trans" in found:
            found["offset"] = from_layout(found.pop("trans"), "mxnet-roi").offset
        return found


class OpenVINO(Child):
    """Its bins are its groups."""

    def __init__(self) -> None:
        super().__init__("openvino")

    def answers(self, case: RoiCase) -> dict[str, Array]:
        samples = case.options["samples"]
        self.put(
            "deformable_psroi_pooling", _authors_arrays(case), **_authors_options(case),
            spatial_bins_x=samples, spatial_bins_y=samples,
        )  # fmt: skip
        return self.results()


class RoiAlign(Child):
    """ps_roi_align where there are as many groups as bins, else roi_align."""

    def __init__(self) -> None:
        super().__init__("torchvision")

    def answers(self, case: RoiCase) -> dict[str, Array]:
        own, arrays = case.options, {"x": case.x, "rois": case.rois}
        plain = own["group_size"] == (1, 1)
        self.put(
            "roi_align" if plain else "ps_roi_align", arrays | {"grad_output": case.grad_output},
            output_size=case.output_size, spatial_scale=own["spatial_scale"],
            sampling_ratio=own["samples"], **({"aligned": True} if plain else {}),
        )  # fmt: skip
        return self.results()


def _authors_arrays(case: RoiCase) -> dict[str, Array | None]:
    trans = None if case.offset is None else to_layout(case.offset, "mxnet-roi")
    return {"data": case.x, "rois": case.rois, "trans": trans, "grad_output": case.grad_output}


def _authors_options(case: RoiCase) -> dict[str, Any]:
    own = case.options
    return {
        "spatial_scale": own["spatial_scale"], "output_dim": case.grad_output.shape[1],
        "group_size": own["group_size"][0], "trans_std": own["gamma"],
        "part_size": own.get("part_size", case.output_size)[0],
    }  # fmt: skip


def errors(cases: list[RoiCase], peer: Peer) -> dict[str, float]:
    """The largest error of the forward pass and of each gradient that the peer has."""
    worst: dict[str, float] = {}
    for case in cases:
        ours = {"y": case.ours(), **case.our_gradients()._asdict()}
        for name, theirs in peer.answers(case).items():
            worst[name] = max(worst.get(name, 0.0), error(ours[name], theirs))
    return worst
