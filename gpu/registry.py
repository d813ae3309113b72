"""Which backends exist, which versions they offer, and the choice among them for one call.

Here is no arithmetic and no import of a framework: a backend's modules are imported by the call
that needs them. To add a backend, register it by name; with only its versions given it works on
NumPy arrays in host memory:

    BACKENDS["numpy"] = Backend(lambda: {"v1": array_program.operators(numpy)})
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

from . import arrays


class Version(NamedTuple):
    """One implementation of one operator. Deterministic: the gradient of x repeats bit for bit."""

    run: Callable[..., Any]
    deterministic: bool = True


Versions = dict[str, dict[str, Version]]  # by name of version, naive to fast, and of operator


class Backend(NamedTuple):
    """How to reach a backend: its versions, why it cannot run, its arrays and its streams."""

    versions: Callable[[], Versions]
    missing: Callable[[], str | None] = lambda: None
    take: Callable[[Any], Any] = arrays.to_numpy
    on: Callable[[arrays.Place], AbstractContextManager[Any]] = lambda place: nullcontext()


class Choice(NamedTuple):
    """The keywords of a call that choose its implementation."""

    backend: str | None
    version: str | None
    precision: str
    deterministic: bool = False


def _numba_versions() -> Versions:
    from . import numba_kernels

    return numba_kernels.VERSIONS


def _cupy_versions() -> Versions:
    import cupy

    from .cupy_kernels import array_program

    return {"v1": array_program.operators(cupy)}


BACKENDS: dict[str, Backend] = {
    "cupy": Backend(_cupy_versions, arrays.cupy_missing, arrays.to_cupy, arrays.on_cupy),
    "numba": Backend(_numba_versions, arrays.numba_missing, arrays.to_numba, arrays.on_numba),
}

INSTALL = (
    'Install with pip install "deformable-convnets[gpu]" for CUDA 13, or'
    ' pip install "deformable-convnets[gpu-cuda12]" for CUDA 12, on a machine with an NVIDIA GPU'
    " and its driver; or install numba-cuda alone and set NUMBA_ENABLE_CUDASIM=1 before Python"
    " starts, to run the Numba kernels,"
    " slowly, in a simulator on the CPU"
)


def check(choice: Choice) -> None:
    """Rejects what is wrong whatever the machine has."""
    if not isinstance(choice.deterministic, bool):
        raise TypeError(f"deterministic is {choice.deterministic!r}, expected True or False")
    if not (isinstance(choice.precision, str) and choice.precision == "exact"):
        raise ValueError(
            f"precision is {choice.precision!r}, expected 'exact': no registered version computes"
            " in another one yet"
        )
    if not (choice.backend is None or _names_one(choice.backend, BACKENDS)):
        raise ValueError(
            f"backend is {choice.backend!r}, expected {either(BACKENDS)} or None, the fastest that"
            " can run"
        )
    if not (choice.version is None or isinstance(choice.version, str)):
        raise ValueError(
            f"version is {choice.version!r}, expected a name such as 'v1' or None, the fastest"
        )


def choose(choice: Choice, operator: str) -> tuple[Backend, Version]:
    """The backend and version of one call; RuntimeError if there is none that can run here."""
    name = _first_usable(choice, operator) if choice.backend is None else choice.backend
    backend = BACKENDS[name]
    if (reason := backend.missing()) is not None:
        raise RuntimeError(f"the backend {name!r} cannot run: {reason}. {INSTALL}")
    offered = _offered(name, operator)
    if choice.version is not None:
        if choice.version not in offered:
            raise ValueError(
                f"version is {choice.version!r}, expected {either(offered)} for {operator} of"
                f" {name!r}"
            )
        offered = _allowed(choice, name, operator)
    if choice.deterministic and not (repeatable := _repeatable(offered)):
        raise ValueError(
            f"deterministic is True, but the gradient of x of {operator} is not repeatable in"
            f" {either(offered)} of {name!r}: it is added up by atomics"
        )
    return backend, list((repeatable if choice.deterministic else offered).values())[-1]


def _offered(name: str, operator: str) -> dict[str, Version]:
    versions = BACKENDS[name].versions()
    return {v: operators[operator] for v, operators in versions.items() if operator in operators}


def _repeatable(offered: dict[str, Version]) -> dict[str, Version]:
    return {v: version for v, version in offered.items() if version.deterministic}


def _names_one(name: Any, registered: dict[str, Any]) -> bool:
    return isinstance(name, str) and name in registered


def either(words: Any) -> str:
    """'a', 'b' or 'c'."""
    *most, last = map(repr, words)
    return f"{', '.join(most)} or {last}" if most else last


def _first_usable(choice: Choice, operator: str) -> str:
    """CuPy where it can run, else Numba; Numba first if its simulator has been asked for.

    One that has the version asked for goes first, and among these one that is deterministic where
    that is asked for.
    """
    order = ("numba", "cupy") if arrays.simulated() else ("cupy", "numba")
    reasons = {name: BACKENDS[name].missing() for name in order}
    usable = [name for name in order if reasons[name] is None]
    if not usable:
        why = "; ".join(map(str, reasons.values()))
        raise RuntimeError(f"no GPU backend can run: {why}. {INSTALL}")
    if choice.version is not None:
        usable = [n for n in usable if choice.version in _offered(n, operator)] or usable
    if choice.deterministic:
        usable = [n for n in usable if _repeatable(_allowed(choice, n, operator))] or usable
    return usable[0]


def _allowed(choice: Choice, name: str, operator: str) -> dict[str, Version]:
    offered = _offered(name, operator)
    return {v: offered[v] for v in offered if choice.version in (None, v)}
