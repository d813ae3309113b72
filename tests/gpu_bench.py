"""What the tests of the benchmark share: a registry in which only NumPy runs, right or wrong."""

import numpy as np

from deformable_convnets.gpu import bench_cases, bench_contestants, registry
from deformable_convnets.gpu.bench_cases import FORWARD, Case
from deformable_convnets.gpu.cupy_kernels import array_program

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
