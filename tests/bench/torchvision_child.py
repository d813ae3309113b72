"""torchvision's operators for `child.Child`; needs torch, torchvision and NumPy."""

import sys
from typing import Any

import torch
import torchvision
from serve import Server, serve

ARGUMENTS = {
    "deform_conv2d": ("x", "offset", "weight", "bias"),
    "roi_align": ("x", "rois"),
    "ps_roi_align": ("x", "rois"),
}


class Torchvision(Server):
    def prepare(self, operator: str, arrays: dict[str, Any], options: dict[str, Any]) -> None:
        self.operator, self.options = operator, options
        self.arrays = {name: torch.from_numpy(array) for name, array in arrays.items()}
        self.grad_output = self.arrays.pop("grad_output")

    def call(self, arrays: dict[str, Any]) -> Any:
        given = [arrays.get(name) for name in ARGUMENTS[self.operator]]
        keywords = {name: a for name, a in arrays.items() if name not in ARGUMENTS[self.operator]}
        return getattr(torchvision.ops, self.operator)(*given, **keywords, **self.options)

    def run(self) -> dict[str, Any]:
        arrays = {name: a.clone() for name, a in self.arrays.items()}
        differentiable = {name: a for name, a in arrays.items() if name != "rois"}
        for a in differentiable.values():
            a.requires_grad_()
        y = self.call(arrays)
        y.backward(self.grad_output)
        return {"y": y.detach().numpy(), **{n: a.grad.numpy() for n, a in differentiable.items()}}

    def only_forward(self) -> None:
        with torch.no_grad():
            self.call(self.arrays)

    def versions(self) -> dict[str, str]:
        return {"torch": torch.__version__, "torchvision": torchvision.__version__}


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[1]))
    serve(Torchvision())
