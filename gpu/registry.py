"""Which backends exist, which versions they offer, and the choice among them for one call.

Here is no arithmetic and no import of a framework: a backend's modules are imported by the call
that needs them. To add a backend, register it by name; with only its versions given it works on
NumPy arrays in host memory:

    BACKENDS["numpy"] = Backend(lambda: {"v1": array_program.operators(numpy)})
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any, NamedTuple

from deformable_convnets.reference import checks

from . import arrays, frameworks


class Version(NamedTuple):
    """One implementation of one operator.

    deterministic  whether its gradient of x repeats bit for bit, where that is asked for
    takes    the keywords that it has beside those of the operator, of "precision", "deterministic"
             and "workspace_limit"
    dtypes   of x
    missing  why it cannot run on the device of a call, or None
    chooses  the version that it leaves a call to which names none, by operator, precision, C, O
             and N Ho Wo; None where it does all by itself
    """

    run: Callable[..., Any]
    deterministic: bool = True
    takes: frozenset[str] = frozenset()
    dtypes: tuple[str, ...] = checks.DTYPES
    missing: Callable[[int | None], str | None] = lambda device: None
    chooses: Callable[[str, str, int, int, int], str] | None = None

    def lacks(self, choice: "Choice", *, of_chance: bool = True) -> str | None:
        """Why it is not what is asked for, or None; but for its chance results, if so told."""
        if choice.precision != "exact" and "precision" not in self.takes:
            return f"precision {choice.precision!r}"
        if choice.workspace_limit is not None and "workspace_limit" not in self.takes:
            return "workspace_limit"
        if choice.dtype not in (None, *self.dtypes):
            return f"dtype {choice.dtype}"
        if choice.deterministic and of_chance and not self.can_repeat:
            return "deterministic"
        return None

    @property
    def can_repeat(self) -> bool:
        """Whether its gradient of x repeats bit for bit if asked to."""
        return self.deterministic or "deterministic" in self.takes


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
    workspace_limit: int | None = None
    dtype: str | None = None  # of x
    device: int | None = None  # where the arrays are; None for those of the CPU


def _numba_versions() -> Versions:
    from . import numba_kernels

    return numba_kernels.VERSIONS


@cache
def _cupy_versions() -> Versions:
    import cupy

    from .cupy_kernels import array_program, cuda_program, dispatch
    from .cupy_kernels.device import CudaDevice, machine, missing

    return {
        "v1": array_program.operators(cupy),
        "v2": cuda_program.operators(CudaDevice(), missing),
        "v3": dispatch.operators(CudaDevice(), missing, machine),
    }


BACKENDS: dict[str, Backend] = {
    "cupy": Backend(_cupy_versions, arrays.cupy_missing, arrays.to_cupy, arrays.on_cupy),
    "numba": Backend(_numba_versions, arrays.numba_missing, arrays.to_numba, arrays.on_numba),
}

PRECISIONS = ("exact", "tf32")
INSTALL = (
    "In a checkout, install with pip install '.[gpu]' for CUDA 13, or"
    " pip install '.[gpu-cuda12]' for CUDA 12, on a machine with an NVIDIA GPU"
    " and its driver"
)
INSTALL_ANY = (
    f"{INSTALL}; or install numba-cuda alone and set NUMBA_ENABLE_CUDASIM=1 before Python starts,"
    " to run the Numba kernels, slowly, in a simulator on the CPU"
)


def check(choice: Choice) -> None:
    """Rejects what is wrong whatever the machine has."""
    if not isinstance(choice.deterministic, bool):
        raise TypeError(f"deterministic is {choice.deterministic!r}, expected True or False")
    if not (isinstance(choice.precision, str) and choice.precision in PRECISIONS):
        raise ValueError(f"precision is {choice.precision!r}, expected {either(PRECISIONS)}")
    if choice.precision == "tf32" and choice.dtype not in (None, "float32"):
        raise ValueError(
            f"precision is 'tf32' and x has dtype {choice.dtype}, expected float32: tf32 is"
            " what the numbers of its products are rounded to"
        )
    limit = choice.workspace_limit
    if not (
        limit is None or (isinstance(limit, int) and not isinstance(limit, bool) and limit > 0)
    ):
        raise ValueError(f"workspace_limit is {limit!r}, expected bytes, 1 or more, or None")
    if not (choice.backend is None or _names_one(choice.backend, BACKENDS)):
        raise ValueError(
            f"backend is {choice.backend!r}, expected {either(BACKENDS)} or None, the first that"
            " can run and has what is asked for"
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
        raise RuntimeError(f"the backend {name!r} cannot run: {reason}. {INSTALL_ANY}")
    offered = _offered(name, operator)
    if not offered:
        raise _not_offered(name, operator)
    if choice.version is not None and choice.version not in offered:
        said = f"version is {choice.version!r}, expected {either(offered)}"
        said += f" for {operator} of {name!r}"
        others = (n for n in BACKENDS if n != name and choice.backend is None)
        absent = [f"; {n!r} cannot run: {why}" for n in others if (why := BACKENDS[n].missing())]
        raise ValueError(said + "".join(absent))
    allowed = _allowed(choice, name, operator)
    can = {v: a for v, a in allowed.items() if a.lacks(choice, of_chance=False) is None}
    if not can:
        said = "; ".join(f"{v!r} has no {a.lacks(choice)}" for v, a in allowed.items())
        raise ValueError(f"no version of {operator} of {name!r} does what is asked for: {said}")
    repeatable = {v: a for v, a in can.items() if a.lacks(choice) is None}
    if not repeatable:
        raise ValueError(
            f"deterministic is True, but the gradient of x of {operator} is not repeatable in"
            f" {either(can)} of {name!r}: it is added up by atomics"
        )
    here = [a for a in repeatable.values() if a.missing(choice.device) is None]
    if not here:
        why = list(repeatable.values())[-1].missing(choice.device)
        raise RuntimeError(f"{operator} of {name!r} cannot run: {why}")
    return backend, here[-1]


def takes_bfloat16(choice: Choice, operator: str) -> bool:
    """Whether a version that can run here computes with bfloat16 itself."""
    if frameworks.bfloat16() is None:
        return False
    try:
        choose(choice._replace(dtype="bfloat16"), operator)
    except (RuntimeError, ValueError):
        return False
    return True


def _offered(name: str, operator: str) -> dict[str, Version]:
    versions = BACKENDS[name].versions()
    return {v: operators[operator] for v, operators in versions.items() if operator in operators}


def _not_offered(name: str, operator: str) -> Exception:
    """The error for a backend that can run but lacks the operator."""
    reasons = {other: backend.missing() for other, backend in BACKENDS.items()}
    having = [other for other, why in reasons.items() if why is None and _offered(other, operator)]
    if having:
        said = f"backend is {name!r}, which has no {operator}, expected {either(having)}"
        return ValueError(said)
    why = "; ".join(filter(None, reasons.values()))
    said = f"the backend {name!r} has no {operator}, and no other can run: {why}"
    return RuntimeError(f"{said}. {INSTALL_ANY}")


def _names_one(name: Any, registered: dict[str, Any]) -> bool:
    return isinstance(name, str) and name in registered


def either(words: Any) -> str:
    """'a', 'b' or 'c'."""
    *most, last = map(repr, words)
    return f"{', '.join(most)} or {last}" if most else last


def _first_usable(choice: Choice, operator: str) -> str:
    """CuPy where it can run, else Numba; Numba first if its simulator has been asked for.

    One that has the version asked for goes first, and among these one that does all that is asked.
    """
    order = ("numba", "cupy") if arrays.simulated() else ("cupy", "numba")
    reasons = {name: BACKENDS[name].missing() for name in order}
    usable = [name for name in order if reasons[name] is None]
    if not usable:
        why = "; ".join(map(str, reasons.values()))
        raise RuntimeError(f"no GPU backend can run: {why}. {INSTALL_ANY}")
    if choice.version is not None:
        usable = [n for n in usable if choice.version in _offered(n, operator)] or usable
    able = [
        n for n in usable
        if any(v.lacks(choice) is None for v in _allowed(choice, n, operator).values())
    ]  # fmt: skip
    return (able or usable)[0]


def _allowed(choice: Choice, name: str, operator: str) -> dict[str, Version]:
    offered = _offered(name, operator)
    return {v: offered[v] for v in offered if choice.version in (None, v)}
