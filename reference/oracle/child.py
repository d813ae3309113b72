"""An implementation in a process of its own: what it prints, breaks or waits for harms nothing.

    with Child("torchvision_child", python="…/bin/python") as child:      a script of `peers`
    Child({"deform_conv2d": "kernels:forward"}, arrays="torch:cuda")      callables, by name
    Child({"deform_conv2d": function})                                    or by themselves

`peers/serve.py` is the other end. The first two start a Python, which may be another one than ours;
the last forks this one, so that a closure can be called (a library that runs threads or a GPU may
not survive the fork: name the callable instead). A process that hung or died is started anew by the
next call. POSIX only. Not for several threads at once.
"""

import inspect
import os
import socket
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import deformable_convnets.reference as reference

from . import processes
from .failures import Failed, Refused
from .peers import serve

KINDS = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
    inspect.Parameter.VAR_POSITIONAL,
    inspect.Parameter.KEYWORD_ONLY,
    inspect.Parameter.VAR_KEYWORD,
)


class CannotStart(RuntimeError):
    """There is no such Python, or it lacks the package, or the target cannot be imported."""


class Child:
    """One process, for a `with` statement or with `close`. It starts at once.

    target       the name of a script in `peers`, or callables by operator, or "module:callable"s
    name         of what is tested, for messages
    python       the Python to start, this one unless given; not with callables
    variant      which of a script's operators
    arrays       what the callables named take: "torch", "torch:cuda", "cupy", "jax"; NumPy's else
    threads      how many a library may use
    time_limit   seconds for a call
    start_limit  seconds for importing everything
    hint         what to do where it cannot start
    """

    def __init__(
        self,
        target: str | Mapping[str, str] | Mapping[str, Callable[..., Any]],
        *,
        name: str = "",
        python: str | Path | None = None,
        variant: str = "",
        arrays: str | None = None,
        threads: int | None = None,
        time_limit: float = 60.0,
        start_limit: float = 300.0,
        hint: str = "",
    ):
        self.target, self.name, self.hint = target, name or _name(target), hint
        self.python = str(python or sys.executable)
        self.options: dict[str, Any] = {"variant": variant, "arrays": arrays, "threads": threads}
        self.time_limit, self.start_limit = time_limit, start_limit
        self._finalizer: Callable[[], Any] | None = None
        self._start()

    def close(self) -> None:
        """End the process; a call would start another one."""
        if self._finalizer is not None:
            self._finalizer()
            self._finalizer = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, t: TracebackType | None
    ) -> None:
        self.close()

    def call(self, operator: str, arguments: Mapping[str, Any]) -> Any:
        """The result for these arguments, by the reference's names: an array, or gradients by name.

        What it writes to an argument is written here too. Raises Failed where it raises, hangs,
        dies or returns something else, and Refused where it raises NotImplementedError.
        """
        about = {"do": "call", "operator": operator}
        header, value = self._ask(about, _split(operator, arguments))
        for place, written in value["wrote"].items():
            name = _positional(operator)[int(place)] if place.isdigit() else place
            arguments[name][...] = written
        if header["several"]:
            return named(operator, value["result"], arguments)
        return value["result"]

    def function(self, operator: str) -> "Remote":
        """The operator as a callable with the reference's signature."""
        return Remote(self, operator)

    def timer(self, operator: str, arguments: Mapping[str, Any]) -> Callable[[], float]:
        """A function that runs this call once and returns the seconds that it took, in there."""
        about = {"do": "load", "operator": operator}
        _, key = self._ask(about, _split(operator, arguments))
        return lambda: float(self._ask({"do": "seconds", "operator": operator}, key)[1])

    def _ask(self, header: dict[str, Any], value: Any) -> tuple[dict[str, Any], Any]:
        """A request and its answer."""
        operator = header["operator"]
        if self._finalizer is None:
            self._start()
        self.since = os.fstat(self.printed.fileno()).st_size
        try:
            serve.send(self.connection, header, value)
            answer, result = self._answer(self.time_limit)
        except TimeoutError:
            self.close()
            limit = f"{self.time_limit:g} s"
            raise Failed("hung", f"{operator} did not return within {limit}") from None
        except (EOFError, OSError):
            raise Failed("died", f"{operator}: the process {self._last_words()}") from None
        if answer.get("lacking"):
            raise Refused(answer["message"] or "NotImplementedError")
        if "raised" in answer:
            what, place = f"{answer['raised']}: {answer['message']}", answer["where"]
            at = f"  [{place}]" if place else ""
            raise Failed("raised", f"{operator} raised {what}{at}")
        if "type" in answer:
            expected = "arrays by name" if operator.endswith("_backward") else "a NumPy array"
            raise Failed("type", f"{operator} returned {answer['type']}, expected {expected}")
        return answer, result

    def _answer(self, limit: float) -> tuple[dict[str, Any], Any]:
        if not self.connection.poll(limit):
            raise TimeoutError
        return serve.receive(self.connection)

    def _start(self) -> None:
        if not hasattr(os, "fork"):
            raise CannotStart("a child process needs POSIX: Linux, macOS or WSL")
        ours, theirs = socket.socketpair()
        self.connection = Connection(ours.detach())
        self.printed = tempfile.TemporaryFile()  # noqa: SIM115
        processes.OPEN.add(self.connection)
        self.since = 0  # where in `printed` the words of this call begin
        with theirs:
            try:
                self.process = self._process(theirs.fileno())
            except OSError as error:
                self.connection.close()
                self.printed.close()
                raise self._cannot(f"cannot run {self.python}: {error.strerror}") from None
        about = (self.process, self.connection, self.printed, os.getpid())
        self._finalizer = weakref.finalize(self, processes.end, *about)
        try:
            header, _ = self._answer(self.start_limit)
        except TimeoutError:
            self.close()
            raise self._cannot(f"did not start within {self.start_limit:g} s") from None
        except (EOFError, OSError):
            raise self._cannot(f"the process {self._last_words()}") from None
        if "cannot" in header:
            self.close()
            raise self._cannot(header["cannot"])
        self.versions: dict[str, str] = header["versions"]
        self.takes: dict[str, Any] = header["takes"]
        self.operators = sorted(self.takes)

    def _process(self, fd: int) -> Any:
        target = self.target
        if isinstance(target, str):
            options: dict[str, Any] = {"script": target, **self.options}
        elif all(isinstance(f, str) for f in target.values()):
            options = {"targets": dict(target), **self.options}
        else:
            return processes.Fork(target, fd, self.printed)  # type: ignore[arg-type]
        return processes.spawn(self.python, options, fd, self.printed)

    def _last_words(self) -> str:
        """How the process ended; it is gone after this."""
        words = processes.last_words(self.process, self.printed, self.since)
        self.close()
        return words

    def _cannot(self, why: str) -> CannotStart:
        return CannotStart("; ".join(filter(None, [f"{self.name}: {why}", self.hint])))


class Remote:
    """An operator in a child, called as the reference is; its signature is the callable's own."""

    def __init__(self, child: Child, operator: str):
        self.child, self.operator = child, operator
        takes = child.takes[operator]
        if takes is not None:
            found = [inspect.Parameter(name, KINDS[kind]) for name, kind in takes]
            self.__signature__ = inspect.Signature(found)

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        bound = inspect.signature(getattr(reference, self.operator)).bind(*args, **keywords)
        return self.child.call(self.operator, bound.arguments)


def close(functions: Iterable[Any]) -> None:
    """End the processes behind the callables that are Remote, such as `implementation.call`'s."""
    for function in functions:
        if isinstance(function, Remote):
            function.child.close()


def named(operator: str, result: tuple[Any, ...], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """A tuple of gradients by name: of every differentiable argument, or of those that were given.

    The order is the reference's. Raises Failed where there are more or fewer.
    """
    grads = inspect.signature(getattr(reference, operator)).return_annotation
    names = getattr(grads, "_fields", ())
    given = [name for name in names if arguments.get(name) is not None]
    for fitting in (names, given):
        if fitting and len(fitting) == len(result):
            return dict(zip(fitting, result, strict=True))
    expected = f"gradients of {', '.join(names)}" if names else "a NumPy array"
    raise Failed("type", f"{operator} returned a tuple of {len(result)}, expected {expected}")


def _positional(operator: str) -> list[str]:
    """The arguments that the reference takes by position, for its operators."""
    function = getattr(reference, operator, None)
    parameters = inspect.signature(function).parameters.values() if function else ()
    return [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]


def _split(operator: str, arguments: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """By position what the reference takes so, for a callable may name it otherwise."""
    rest, args = dict(arguments), []
    for name in _positional(operator):
        if name not in rest:
            break
        args.append(rest.pop(name))
    return args, rest


def _name(target: Any) -> str:
    if isinstance(target, str):
        return target.removesuffix("_child")
    first = next(iter(target.values()))
    return first if isinstance(first, str) else getattr(first, "__name__", type(first).__name__)
