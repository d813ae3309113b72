"""The processes behind `child.Child`: how one starts, ends, and what is said of its end. POSIX."""

import json
import os
import signal
import subprocess
import sys
import time
import warnings
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import IO, Any

from .peers import serve

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
LINES = 3  # of what the process printed last, quoted when it died
OPEN: "weakref.WeakSet[Connection]" = weakref.WeakSet()  # our ends of all sockets


def spawn(
    python: str, options: dict[str, Any], fd: int, printed: IO[bytes]
) -> "subprocess.Popen[bytes]":
    """`serve.py` under this Python, in a process group of its own."""
    threads = options.get("threads")
    limits = dict.fromkeys(THREADS, str(threads)) if threads else {}
    return subprocess.Popen(
        [python, serve.__file__, str(fd), json.dumps(options)],
        pass_fds=[fd], stdin=subprocess.DEVNULL, stdout=printed, stderr=printed,
        start_new_session=True, env=os.environ | limits,
    )  # fmt: skip


class Fork:
    """This process again, serving callables; as much of Popen as is needed."""

    def __init__(self, functions: Mapping[str, Callable[..., Any]], fd: int, printed: IO[bytes]):
        self.returncode: int | None = None
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*multi-threaded.*fork", DeprecationWarning)
            self.pid = os.fork()
        if self.pid == 0:
            try:
                self._serve(functions, fd, printed)
            finally:
                os._exit(0)

    @staticmethod
    def _serve(functions: Mapping[str, Callable[..., Any]], fd: int, printed: IO[bytes]) -> None:
        os.setsid()
        with open(os.devnull) as nothing:
            os.dup2(nothing.fileno(), 0)
        for number in (1, 2):
            os.dup2(printed.fileno(), number)
        sys.stdout = sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
        for connection in list(OPEN):  # or no process would see that we closed its socket
            connection.close()
        serve.answer(Connection(fd), functions, {})

    def wait(self, timeout: float = 3600) -> int:
        """The exit status, or less the number of the signal."""
        end = time.monotonic() + timeout
        while self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > end:
                raise subprocess.TimeoutExpired("fork", timeout)
            else:
                time.sleep(0.001)
        return self.returncode


def end(process: Any, connection: Connection, printed: IO[bytes], owner: int) -> None:
    """Kill the whole group, if it is the `owner`, and no fork of it, who asks."""
    if os.getpid() != owner:
        return
    connection.close()
    with suppress(ProcessLookupError, PermissionError):  # it has ended by itself
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    printed.close()


def last_words(process: Any, printed: IO[bytes], since: int, patience: float = 5.0) -> str:
    """How it ended, the last lines that it printed `since` then, and where Python was."""
    try:
        status = process.wait(patience)
    except subprocess.TimeoutExpired:
        return "closed its socket"
    printed.seek(0, os.SEEK_END)
    printed.seek(max(since, printed.tell() - 20_000))
    text, _, fatal = printed.read().decode(errors="replace").partition("Fatal Python error:")
    places = [line.strip() for line in fatal.splitlines() if line.lstrip().startswith("File ")]
    lines = [line.strip() for line in text.splitlines() if line.strip()][-LINES:]
    return ": ".join([_how(status), *filter(None, [" | ".join(lines), *places[:1]])])


def _how(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    names = {s.value: s.name for s in signal.Signals}
    return f"ended with signal {-status} ({names.get(-status, 'unknown')})"
