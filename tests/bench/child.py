"""Another library in a child process, under the Python of an environment of its own.

`serve.py` is the other end of the pipe: one line of JSON is a request, the next one its answer.
Arrays travel in .npz files. `make test-peers` makes the environments.
"""

import json
import os
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy import ndarray as Array

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = {
    "torchvision": ".venv-peers",
    "mxnet": ".venv-mxnet",
    "openvino": ".venv-openvino",
}


def python_of(peer: str) -> Path:
    """The Python that has this library, if it is there: TORCHVISION_PYTHON names another one."""
    own = ROOT / ENVIRONMENTS[peer] / "bin" / "python"
    return Path(os.environ.get(f"{peer.upper()}_PYTHON", own))


class Child:
    """One process, for use in a `with` statement.

    peer  the library: `<peer>_child.py` is what runs
    """

    def __init__(self, peer: str, python: str | Path | None = None, threads: int = 1):
        self.peer, script = peer, Path(__file__).with_name(f"{peer}_child.py")
        self.folder = tempfile.TemporaryDirectory()
        self.process = subprocess.Popen(
            [str(python or python_of(peer)), str(script), str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            self.versions = self._ask("versions")
        except RuntimeError:
            self.close()
            raise

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with suppress(BrokenPipeError):  # what a dead child did not read
            self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(60)
        self.folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, t: TracebackType | None
    ) -> None:
        self.close()

    def put(self, operator: str, arrays: dict[str, Array | None], **options: Any) -> None:
        """Make this the call that `results` and `seconds` are about; None is not sent."""
        path = Path(self.folder.name) / "call.npz"
        given = {name: a for name, a in arrays.items() if a is not None}
        np.savez(path, allow_pickle=False, **given)
        self._ask("load", path=str(path), operator=operator, options=options)

    def results(self) -> dict[str, Array]:
        """The output "y" and the gradients, by the name of their argument."""
        path = Path(self.folder.name) / "results.npz"
        self._ask("results", path=str(path))
        with np.load(path) as file:
            return dict(file)

    def seconds(self, what: str) -> float:
        """What one "forward", or one "backward" with its forward, takes inside the child."""
        return float(self._ask(what)["seconds"])

    def _ask(self, what: str, **about: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            print(json.dumps({"do": what, **about}), file=self.process.stdin, flush=True)
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            status = self.process.wait(60)
            raise RuntimeError(f"the process of {self.peer} ended with status {status}")
        return dict(json.loads(answer))
