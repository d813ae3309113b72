"""The other end of `child.Child`: a process that imports an implementation and answers calls.

    python serve.py FD OPTIONS     FD is a socket that the parent left open, OPTIONS is JSON:

    script, variant   a file of this folder, "torchvision_child", and which of its operators
    targets           or {operator: "module:callable"}, looked for from the current folder
    arrays            what the targets take, if not NumPy's: "torch:cuda", ...; see `arrays`
    threads           how many a library may use

It runs by its path under any Python from 3.9 on that has NumPy, so it imports nothing of ours. A
message is a header in JSON and then its arrays as .npy; nothing is pickled. POSIX only.
"""

from __future__ import annotations

import faulthandler
import importlib
import inspect
import io
import json
import os
import sys
import time
import traceback
import types
from collections.abc import Callable, Iterable, Mapping
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

FOLDER = os.path.dirname(os.path.abspath(__file__))
NUMBERS = (bool, int, float, str, type(None))


def poison(shapes: Iterable[tuple[tuple[int, ...], Any]], value: float) -> None:
    """Leave `value` in freed memory of these (shape, dtype), where np.empty may find it.

    A result that was never written then differs between two calls poisoned with two values. It is
    sure below 1 kB, which NumPy keeps by size; a larger block may come from elsewhere.
    """
    with np.errstate(over="ignore"):  # 1e30 in float16
        held = [np.full(shape, value, dtype) for shape, dtype in shapes if dtype.kind == "f"]
    del held


def send(connection: Connection, header: dict[str, Any], value: Any = None) -> None:
    """One message; raises TypeError for what is neither a number, a word, an array nor of these."""
    arrays: list[Any] = []
    body = _encoded(value, arrays)
    flags = [(bool(a.flags.c_contiguous), bool(a.flags.writeable)) for a in arrays]
    parts = [_npy(a) for a in arrays]
    connection.send_bytes(json.dumps({**header, "value": body, "flags": flags}).encode())
    for part in parts:
        connection.send_bytes(part)


def receive(connection: Connection) -> tuple[dict[str, Any], Any]:
    """The header and value of one message. Lists have become tuples.

    An array that was not contiguous, or read-only, is so again.
    """
    header = json.loads(connection.recv_bytes())
    arrays = []
    for contiguous, writeable in header.pop("flags"):
        a = np.load(io.BytesIO(connection.recv_bytes()), allow_pickle=False)
        if not contiguous:
            apart = np.empty((*a.shape, 2), a.dtype)[..., 0]
            apart[...] = a
            a = apart
        a.flags.writeable = writeable
        arrays.append(a)
    return header, _decoded(header.pop("value"), arrays)


def _npy(a: Any) -> Any:
    file = io.BytesIO()
    try:
        np.save(file, a, allow_pickle=False)
    except ValueError as error:
        raise TypeError(f"an array of dtype {a.dtype}") from error
    return file.getbuffer()


def _encoded(value: Any, arrays: list[Any]) -> Any:
    if isinstance(value, np.ndarray):
        arrays.append(value)
        return {"array": len(arrays) - 1}
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, NUMBERS):
        return value
    if isinstance(value, (tuple, list)):
        return [_encoded(v, arrays) for v in value]
    if isinstance(value, Mapping):
        return {"names": {str(name): _encoded(v, arrays) for name, v in value.items()}}
    raise TypeError(f"a {_kind(value)}")


def _decoded(body: Any, arrays: list[Any]) -> Any:
    if isinstance(body, list):
        return tuple(_decoded(v, arrays) for v in body)
    if not isinstance(body, dict):
        return body
    if "array" in body:
        return arrays[body["array"]]
    return {name: _decoded(v, arrays) for name, v in body["names"].items()}


def _kind(value: Any) -> str:
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


class Server:
    """Answers one request after the other, until the other end closes."""

    def __init__(self, functions: Mapping[str, Callable[..., Any]]):
        self.functions, self.calls = functions, 0
        self.sizes: list[tuple[tuple[int, ...], Any]] = []  # of the last results
        self.timed: list[Callable[[], Any]] = []

    def serve(self, connection: Connection) -> None:
        while True:
            try:
                header, value = receive(connection)
            except (EOFError, OSError):
                return
            answer: tuple[dict[str, Any], Any]
            try:
                answer = getattr(self, header["do"])(header, value)
            except BaseException as error:
                answer = self.raised(error, header), None
            try:
                send(connection, *answer)
            except TypeError as error:
                send(connection, {"type": str(error)})

    def call(self, header: dict[str, Any], value: Any) -> tuple[dict[str, Any], Any]:
        """The result, of the type it had, but a named tuple is a dict; and changed arguments."""
        function, (args, keywords) = self.functions[header["operator"]], value
        given = {**dict(enumerate(args)), **keywords}
        before = {n: a.tobytes() for n, a in given.items() if isinstance(a, np.ndarray)}
        sizes = [(given[n].shape, given[n].dtype) for n in before] + self.sizes
        self.calls += 1
        poison(sizes, float("nan") if self.calls % 2 else 1e30)
        result = function(*args, **keywords)
        wrote = {n: given[n] for n, old in before.items() if given[n].tobytes() != old}
        if hasattr(result, "_asdict"):
            result = result._asdict()
        parts = _parts(result)
        self.sizes = [(a.shape, a.dtype) for a in parts if isinstance(a, np.ndarray)]
        nothing = result is None or not parts
        odd = [a for a in parts if not (isinstance(a, np.ndarray) or a is None)]
        if isinstance(result, list) or odd or nothing:
            return {"type": f"a {_kind(odd[0] if odd else result)}"}, None
        return {"several": isinstance(result, tuple)}, {"result": result, "wrote": wrote}

    def load(self, header: dict[str, Any], value: Any) -> tuple[dict[str, Any], Any]:
        """Keep this call for `seconds`."""
        function, (args, keywords) = self.functions[header["operator"]], value
        self.timed.append(lambda: function(*args, **keywords))
        return {}, len(self.timed) - 1

    def seconds(self, header: dict[str, Any], value: Any) -> tuple[dict[str, Any], Any]:
        start = time.perf_counter()
        self.timed[value]()
        return {}, time.perf_counter() - start

    def raised(self, error: BaseException, header: dict[str, Any]) -> dict[str, Any]:
        function = self.functions.get(header.get("operator", ""))
        return {
            "raised": type(error).__name__, "message": str(error),
            "lacking": isinstance(error, NotImplementedError), "where": where(error, function),
        }  # fmt: skip


def _parts(result: Any) -> list[Any]:
    if isinstance(result, dict):
        return list(result.values())
    return list(result) if isinstance(result, tuple) else [result]


def where(error: BaseException, function: Any) -> str:
    """file:line of the innermost frame in the folder of the function, else of the innermost."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename != __file__]
    while hasattr(function, "func") or hasattr(function, "__wrapped__"):
        function = getattr(function, "func", None) or function.__wrapped__
    code = getattr(function, "__code__", None)
    folder = os.path.dirname(code.co_filename) if code else None
    own = [f for f in frames if os.path.dirname(f.filename) == folder]
    return "{0.filename}:{0.lineno}".format((own or frames)[-1]) if frames else ""


def parameters(function: Any) -> list[tuple[str, int]] | None:
    """What a function takes: name and kind of each; None where it does not say."""
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    return [(p.name, int(p.kind)) for p in found]


def sibling(name: str) -> types.ModuleType:
    """A module of this folder, without the folder on the path: its names could hide others."""
    if "oracle_peers" not in sys.modules:
        package = types.ModuleType("oracle_peers")
        package.__path__ = [FOLDER]
        sys.modules["oracle_peers"] = package
    return importlib.import_module("oracle_peers." + name)


def targeted(target: str) -> Callable[..., Any]:
    """The callable named by "module:callable" or "folder/module.py:callable"."""
    path, _, name = target.rpartition(":")
    folder, file = os.path.split(path)
    if file.endswith(".py"):
        sys.path.insert(0, os.path.abspath(folder))
        path = file[: -len(".py")]
    found: Any = importlib.import_module(path)
    for word in name.split("."):
        found = getattr(found, word)
    if not callable(found):
        raise TypeError(f"{target} is of type {type(found).__name__}, expected a callable")
    return found


def imported(options: dict[str, Any]) -> tuple[dict[str, Callable[..., Any]], dict[str, str]]:
    """The functions of a script or of targets by operator, and the versions of what they use."""
    if "script" in options:
        script = sibling(options["script"])
        if options.get("threads") and hasattr(script, "threads"):
            script.threads(options["threads"])
        return script.operators(options.get("variant", "")), script.versions()
    sys.path.insert(0, os.getcwd())
    functions = {name: targeted(target) for name, target in options["targets"].items()}
    versions = {"python": "{}.{}.{}".format(*sys.version_info[:3]), "numpy": np.__version__}
    if options.get("arrays"):
        kind = sibling("arrays").of(options["arrays"])
        kind.assert_there()
        functions = {name: kind.wrapped(function) for name, function in functions.items()}
        versions[kind.package] = kind.version()
    return functions, versions


def cannot(error: BaseException) -> str:
    """In one line, why an import failed."""
    if isinstance(error, ModuleNotFoundError):
        return f"no module named {error.name!r} in {sys.executable}"
    message = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {message} (in {sys.executable})"


def answer(
    connection: Connection, functions: Mapping[str, Callable[..., Any]], versions: dict[str, str]
) -> None:
    """Say that all is ready, then serve."""
    faulthandler.enable(2)
    takes = {name: parameters(function) for name, function in functions.items()}
    send(connection, {"versions": versions, "takes": takes})
    Server(functions).serve(connection)


def main(fd: int, options: dict[str, Any]) -> None:
    os.set_inheritable(fd, False)
    own = (FOLDER, os.path.dirname(os.path.realpath(__file__)))
    sys.path[:] = [folder for folder in sys.path if os.path.realpath(folder) not in own]
    connection = Connection(fd)
    try:
        functions, versions = imported(options)
    except BaseException as error:
        traceback.print_exc()
        send(connection, {"cannot": cannot(error)})
        return
    answer(connection, functions, versions)


if __name__ == "__main__":
    main(int(sys.argv[1]), json.loads(sys.argv[2]))
