"""The authors' DeformablePSROIPooling in MXNet 1.9.1, for `child.Child`.

Needs Python 3.11 or older and NumPy 1.23, the last with `np.bool`, which MXNet wants.
"""

from typing import Any

import numpy as np
from serve import Server, serve

for name, builtin in {"bool": bool, "object": object, "int": int, "float": float}.items():
    setattr(np, name, builtin)

import mxnet  # noqa: E402


class MXNet(Server):
    def prepare(self, operator: str, arrays: dict[str, Any], options: dict[str, Any]) -> None:
        self.call, self.options = getattr(mxnet.nd.contrib, operator), options
        self.arrays = {name: mxnet.nd.array(a, dtype="float32") for name, a in arrays.items()}
        self.grad_output = self.arrays.pop("grad_output")

    def run(self) -> dict[str, Any]:
        differentiable = {name: a for name, a in self.arrays.items() if name != "rois"}
        for a in differentiable.values():
            a.attach_grad()
        with mxnet.autograd.record():
            y = self.call(*self.arrays.values(), **self.options)
        y.backward(self.grad_output)
        return {"y": y.asnumpy(), **{name: a.grad.asnumpy() for name, a in differentiable.items()}}

    def versions(self) -> dict[str, str]:
        return {"mxnet": mxnet.__version__}


if __name__ == "__main__":
    serve(MXNet())
