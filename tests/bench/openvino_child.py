"""OpenVINO's operators of RoI pooling, for `child.Child`; forward only."""

from typing import Any

import numpy as np
import openvino
from openvino import opset1
from serve import Server, serve


class OpenVINO(Server):
    def prepare(self, operator: str, arrays: dict[str, Any], options: dict[str, Any]) -> None:
        del arrays["grad_output"]
        self.arrays = [a.astype(np.float32) for a in arrays.values()]
        inputs = [opset1.parameter(a.shape, np.float32) for a in self.arrays]
        named = {"offsets": inputs[2]} if len(inputs) == 3 else {}
        node = getattr(opset1, operator)(*inputs[:2], **options, **named)
        # left to itself, it computes in bfloat16 where the processor can
        exact = {"INFERENCE_PRECISION_HINT": "f32"}
        self.model = openvino.compile_model(openvino.Model([node], inputs), "CPU", exact)

    def run(self) -> dict[str, Any]:
        return {"y": self.model(self.arrays)[0]}

    def versions(self) -> dict[str, str]:
        return {"openvino": openvino.__version__.split("-")[0]}


if __name__ == "__main__":
    serve(OpenVINO())
