"""The other end of `peers.Torchvision`: run under a Python that has torch, torchvision and NumPy.

Reads one JSON request a line from standard input and answers each with one line.
"""

import json
import sys
import time
from typing import Any

import numpy as np
import torch
import torchvision

CALL: dict[str, Any] = {}


def load(path: str, geometry: dict[str, Any]) -> dict[str, Any]:
    with np.load(path) as file:
        arrays = {name: torch.from_numpy(array) for name, array in file.items()}
    CALL.clear()
    CALL.update(grad_output=arrays.pop("grad_output"), arrays=arrays, geometry=geometry)
    return {}


def call(arrays: dict[str, Any]) -> Any:
    return torchvision.ops.deform_conv2d(
        arrays["x"], arrays["offset"], arrays["weight"], arrays.get("bias"),
        mask=arrays.get("mask"), **CALL["geometry"],
    )  # fmt: skip


def differentiated() -> tuple[Any, dict[str, Any]]:
    arrays = {name: a.clone().requires_grad_() for name, a in CALL["arrays"].items()}
    y = call(arrays)
    y.backward(CALL["grad_output"])
    return y, arrays


def results(path: str) -> dict[str, Any]:
    y, arrays = differentiated()
    np.savez(path, y=y.detach().numpy(), **{name: a.grad.numpy() for name, a in arrays.items()})
    return {}


def forward() -> dict[str, Any]:
    start = time.perf_counter()
    with torch.no_grad():
        call(CALL["arrays"])
    return {"seconds": time.perf_counter() - start}


def backward() -> dict[str, Any]:
    start = time.perf_counter()
    differentiated()
    return {"seconds": time.perf_counter() - start}


def versions() -> dict[str, Any]:
    return {"torch": torch.__version__, "torchvision": torchvision.__version__}


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[1]))
    requests = {f.__name__: f for f in (load, results, forward, backward, versions)}
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(requests[request.pop("do")](**request)), flush=True)
