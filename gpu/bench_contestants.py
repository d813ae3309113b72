"""Who takes part in `bench`: every version of every backend, and what `bench_torch` has.

A contestant says what it cannot do before it is asked to; what it then fails to do is in the record
with its error.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

from deformable_convnets import gpu

from . import bench_arrays, bench_torch, registry
from .bench_cases import BACKWARD, FORWARD, SMALL, Case, Named, RoiShape, call, dtype
from .cupy_kernels.choices import FUSED, STAGED
from .registry import Choice

REPEATABLE = " deterministic"  # what follows the name of a version that repeats bit for bit
SLOW = ("numba",)  # backends that are measured on small layers alone


class Contestant(NamedTuple):
    """One implementation.

    lacks      why it has no part in a case, or None
    prepare    a case and its arrays as a call that returns the results by name
    default    whether it is what a call of `gpu` chooses by itself
    judged     whether its results are compared with the reference
    last       whether it may take minutes for its first call, and so comes after all others
    equals     the name of another, whose results it must have on an exact problem of each layer
    """

    name: str
    arrays: bench_arrays.Arrays
    lacks: Callable[[Case], str | None]
    prepare: Callable[[Case, Named], Callable[[], Named]]
    default: Callable[[Case], bool] = lambda case: False
    judged: bool = True
    last: bool = False
    equals: str | None = None


Field = dict[str, Contestant | str]  # by name; a reason in the place of one that cannot run


def field(*, toy: bool = False, quick: bool = False) -> Field:
    """All contestants, ours first."""
    return of_backends(toy=toy, quick=quick) | ({} if toy else theirs(quick=quick))


def of_backends(*, toy: bool = False, quick: bool = False) -> Field:
    """Every version of every backend."""
    found: Field = {}
    for name, backend in registry.BACKENDS.items():
        if (missing := backend.missing()) is not None:
            found[name] = missing
            continue
        if quick and name in SLOW:
            found[name] = "it is not part of --quick"
            continue
        arrays = bench_arrays.of_backend(name, toy=toy)
        for version in backend.versions():
            for repeatable in (False, True):
                made = _ours(name, version, arrays, repeatable=repeatable)
                found[made.name] = made
    return found


def _ours(
    backend: str, version: str, arrays: bench_arrays.Arrays, *, repeatable: bool
) -> Contestant:
    def choice(case: Case) -> dict[str, Any]:
        made: dict[str, Any] = {"backend": backend, "version": version}
        if case.precision == "tf32":
            made["precision"] = "tf32"
        return made | ({"deterministic": True} if repeatable else {})

    def lacks(case: Case) -> str | None:
        if backend in SLOW and not _is_small(case):
            return "it is measured on one image of a small layer"
        return _lacks(backend, version, case, repeatable)

    return Contestant(
        f"{backend} {version}" + REPEATABLE * repeatable, arrays, lacks,
        lambda case, given: call(gpu, case, given, **choice(case)),
        lambda case: (backend, version) == chosen(case, repeatable=repeatable),
        equals=f"{backend} {STAGED}" if version == FUSED else None,
    )  # fmt: skip


def _is_small(case: Case) -> bool:
    at = case.shape
    return isinstance(at, RoiShape) or (at.N == 1 and at.flops <= SMALL)


def _operators(case: Case) -> list[str]:
    """The functions that a case calls."""
    forward = [] if case.part == BACKWARD else [case.operator]
    return forward + ([] if case.part == FORWARD else [f"{case.operator}_backward"])


def _lacks(backend: str, version: str, case: Case, repeatable: bool) -> str | None:
    """What the registry knows of one version; None is for a case that it has."""
    if repeatable and case.part != BACKWARD:
        return "only the gradients have a deterministic version"
    if dtype(case.precision) is None:
        return "NumPy has no bfloat16 without the package ml_dtypes"
    offered = registry.BACKENDS[backend].versions()[version]
    for operator in _operators(case):
        if operator not in offered:
            return f"{version} has no {operator}"
        here = offered[operator]
        if repeatable and "deterministic" not in here.takes:
            return "deterministic or not, it does the same"
        if (missing := here.lacks(_choice(case, backend, version, repeatable))) is not None:
            return f"it has no {missing}"
        if (missing := here.missing(None)) is not None:
            return missing
    return None


def _choice(case: Case, backend: str | None, version: str | None, repeatable: bool) -> Choice:
    precision = "tf32" if case.precision == "tf32" else "exact"
    return Choice(backend, version, precision, repeatable, None, dtype(case.precision).name)


def chosen(case: Case, *, repeatable: bool = False) -> tuple[str, str] | None:
    """The backend and version that a call takes which names none; None where no one can."""
    if dtype(case.precision) is None:
        return None

    def chooses(backend: str | None, version: str | None) -> registry.Backend | None:
        wanted = _choice(case, backend, version, repeatable)
        try:
            return registry.choose(wanted, _operators(case)[-1])[0]
        except (RuntimeError, ValueError):
            return None

    taken = chooses(None, None)
    for name, backend in registry.BACKENDS.items():
        if taken is not None and backend is taken:
            can = [v for v in backend.versions() if chooses(name, v) is not None]
            return name, _dispatched(case, backend, can[-1])  # the last is what `choose` takes
    return None


def _dispatched(case: Case, backend: registry.Backend, version: str) -> str:
    """The version itself, or the one that it leaves a case to."""
    operator = _operators(case)[-1]
    here = backend.versions()[version][operator]
    if here.chooses is None or isinstance(case.shape, RoiShape):
        return version
    at = case.shape
    return here.chooses(operator, case.precision, at.C, at.C, at.N * at.H * at.W)


def theirs(*, quick: bool = False, device: str = "cuda") -> Field:
    """What PyTorch brings, by name."""
    names = [name for name in bench_torch.CONTESTANTS if not (quick and name == "deformops")]
    try:
        torch = import_module("torch")
    except ImportError as error:
        return dict.fromkeys(names, str(error))
    if device == "cuda" and not torch.cuda.is_available():
        return dict.fromkeys(names, "PyTorch finds no CUDA device")
    arrays = bench_arrays.of_torch(device)
    found: Field = {}
    for name in names:
        offer = bench_torch.CONTESTANTS[name]
        try:
            function = offer.function()
        except Exception as error:  # a package that is there and broken must not end the run
            found[name] = f"{type(error).__name__}: {error}"
            continue
        found[name] = Contestant(
            name, arrays, offer.lacks, bench_torch.prepare(offer, function),
            judged=offer.judged, last=offer.last,
        )  # fmt: skip
    return found


def is_running(found: Field) -> dict[str, Contestant]:
    """Those that can run."""
    return {name: c for name, c in found.items() if isinstance(c, Contestant)}


def reasons(found: Field) -> dict[str, str]:
    """Why the others cannot."""
    return {name: c for name, c in found.items() if isinstance(c, str)}


def is_ours(name: str) -> bool:
    return name.split(" ")[0] in registry.BACKENDS
