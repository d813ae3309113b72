"""The other end of `child.Child`: what the scripts `*_child.py` share, under any Python.

Reads one JSON request a line from standard input and answers each with one line.
"""

import json
import sys
import time
from typing import Any

import numpy as np


class Server:
    """One call of one operator at a time; a library fills in the three functions below."""

    def load(self, path: str, operator: str, options: dict[str, Any]) -> dict[str, Any]:
        with np.load(path) as file:
            arrays = dict(file)
        self.prepare(operator, arrays, options)
        return {}

    def results(self, path: str) -> dict[str, Any]:
        np.savez(path, **self.run())
        return {}

    def forward(self) -> dict[str, Any]:
        return {"seconds": seconds(self.only_forward)}

    def backward(self) -> dict[str, Any]:
        return {"seconds": seconds(self.run)}

    def prepare(self, operator: str, arrays: dict[str, Any], options: dict[str, Any]) -> None:
        """Take over the call."""
        raise NotImplementedError

    def run(self) -> dict[str, Any]:
        """y and the gradients, as NumPy arrays by name."""
        raise NotImplementedError

    def only_forward(self) -> None:
        """The forward pass alone, for its time."""
        raise NotImplementedError

    def versions(self) -> dict[str, str]:
        raise NotImplementedError


def seconds(call: Any) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def serve(server: Server) -> None:
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(getattr(server, request.pop("do"))(**request)), flush=True)
