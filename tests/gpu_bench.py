"""What the tests of the benchmark share: a registry in which only NumPy runs, made-up records."""

import copy

import numpy as np

from deformable_convnets.gpu import bench_cases, bench_contestants, bench_record, registry
from deformable_convnets.gpu.bench_cases import BACKWARD, FORWARD, PRECISIONS, ROI, SHAPES, Case
from deformable_convnets.gpu.cupy_kernels import array_program

OURS, REPEATABLE, STAGED = "cupy v3", "cupy v3 deterministic", "cupy v2"
TOY = Case("deform_conv2d", FORWARD, bench_cases.TOY, "float32")


def register(monkeypatch, change=lambda operators: operators, name="numpy"):
    backend = registry.Backend(lambda: {"v1": change(array_program.operators(np))})
    monkeypatch.setitem(registry.BACKENDS, name, backend)


def wrong(name):
    """Operators of which one adds a little to its result."""

    def change(operators):
        def run(**keywords):
            out = operators[name].run(**keywords)
            if isinstance(out, dict):
                return {n: a + 2.0**-10 for n, a in out.items()}
            return out + 2.0**-10

        return operators | {name: operators[name]._replace(run=run)}

    return change


def contestant(repeatable=""):
    found = bench_contestants.is_running(bench_contestants.field(toy=True))
    return found["numpy v1" + repeatable]


def timed(contestant, ms, default=False, **case):
    return case | {
        "contestant": contestant, "default": default, "median_ms": ms, "device_ms": ms / 2,
        "quartiles_ms": [ms, ms], "workspace_bytes": 20 * 2**20,
    }  # fmt: skip


def good():
    """A record that meets every target: we take 1 ms, the others 5."""
    rows, errors = [], []
    for shape in SHAPES:
        for precision in PRECISIONS:
            for part in (FORWARD, BACKWARD):
                case = {"operator": "deform_conv2d", "part": part, "shape": shape.name}
                case["precision"] = precision
                rows.append(timed(OURS, 1.0, True, **case) | {"workspace_bytes": 0})
                rows.append(timed(STAGED, 2.0, **case))
                rows.append(timed("cupy v1", 50.0, **case))
                if part == FORWARD:
                    rows.append(timed("cuDNN conv2d", 2.0, **case))
                if part == BACKWARD:
                    rows.append(timed(REPEATABLE, 1.0, True, **case))
                if precision != "bfloat16":
                    rows.append(timed("torchvision", 5.0, **case))
    for precision in ("float32", "float16"):
        for part in (FORWARD, BACKWARD):
            case = {"operator": "deform_roi_pool", "part": part, "shape": ROI.name}
            case["precision"] = precision
            rows += [timed(OURS, 1.0, True, **case), timed("roi_align", 5.0, **case)]
    for precision in PRECISIONS:
        for part, results in ((FORWARD, "y"), (BACKWARD, ("grad x", "grad offset", "grad weight"))):
            for result in results:
                case = {"operator": "deform_conv2d", "part": part, "precision": precision}
                case |= {"result": result, "relative_error": 1e-6, "default": True}
                names = [OURS] if part == FORWARD else [OURS, REPEATABLE]
                errors += [case | {"contestant": name} for name in names]
    return {
        "device": "NVIDIA H200", "driver": "580.1", "commit": "abc", "date": "2026-11-22T22:32:42",
        "clock": "CuPy events", "format": bench_record.FORMAT, "complete": True, "quick": False,
        "path": "elsewhere/h200.json", "rows": rows, "errors": errors,
        "versions": {"torchvision": "0.26.0", "torch": "2.11.0", "cupy-cuda13x": "14.2.0"},
    }  # fmt: skip


def changed(record, kind="rows", *, entry, to, **columns):
    """The record with an entry of the first of these rows changed; to None: without the row."""
    record = copy.deepcopy(record)
    row = next(r for r in record[kind] if all(r.get(n) == v for n, v in columns.items()))
    if to is None:
        record[kind].remove(row)
    else:
        row[entry] = to
    return record
