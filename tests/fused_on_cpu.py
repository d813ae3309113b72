"""The fused kernel on the CPU: devices that count its launches, and problems that its tiles fit."""

from functools import partial

import numpy as np
from cuda_on_cpu.cpu_device import CpuDevice

from deformable_convnets import gpu, reference
from deformable_convnets.gpu import registry
from deformable_convnets.gpu.cupy_kernels import cuda_program, fused, tiles
from deformable_convnets.gpu.cupy_kernels.tiles import Tile
from deformable_convnets.reference.oracle import problems
from deformable_convnets.reference.oracle.shapes import Shape

SMALL, TWO_WARPS = Tile(16, 16, 1, 1, 1, 10000), Tile(32, 64, 1, 2, 1, 20000)
SHAPE = Shape(N=2, channels=16, outputs=10, groups=2, G=2, kernel=(3, 2), stride=(1, 2),
              padding=((1, 2), (0, 1)), dilation=(2, 1), at_least=(5, 4))  # fmt: skip


class Counting(CpuDevice):
    """Keeps the kernels' names and builds; `processors` are many where sums shall be split."""

    def __init__(self, *, processors=1, tiles=(SMALL,), **options):
        super().__init__(tiles=tiles, **options)
        self.processors, self.kernels, self.builds = processors, [], set()

    def run_blocks(self, source, kernel, build, *rest):
        self.kernels.append(kernel)
        self.builds.add((kernel, build))
        super().run_blocks(source, kernel, build, *rest)


def offer(monkeypatch, device):
    """Registers the kernel on this device as the only version of the backend "fused"."""
    run = {"deform_conv2d": fused.deform_conv2d, "conv2d": fused.conv2d}
    versions = {
        name: registry.Version(partial(f, device), True, cuda_program.TAKES, cuda_program.DTYPES)
        for name, f in run.items()
    }
    monkeypatch.setattr(tiles, "LEAST_STEPS", 1)  # so that short sums are split too
    tiles._plan.cache_clear()
    monkeypatch.setitem(registry.BACKENDS, "fused", registry.Backend(lambda: {"v3": versions}))
    return device


def arguments(p, dtype=None, positions=None):
    """The arguments of a problem in these dtypes."""
    given = {n: getattr(p, n) for n in ("x", "offset", "weight", "bias", "mask")}
    if dtype is not None:
        given = {n: None if a is None else a.astype(dtype) for n, a in given.items()}
        given["offset"] = p.offset.astype(positions or dtype)
    return given | p.options | {"border": p.border}


def make(family="base", shape=SHAPE, seed=0, border="zero", dtype="float32"):
    return problems.make(family, shape, seed, border=border).cast(dtype)


def with_mask(p):
    """A problem of the same family that has a mask and a bias."""
    seed = p.seed
    while p.mask is None or p.bias is None:
        seed += 1
        p = make(p.family, p.shape, seed, p.border)
    return p


def wrong(p, *, dtype=None, positions=None, backend="fused", **options):
    """How many numbers of y are not those of the reference, in float64 and rounded once."""
    expected = reference.deform_conv2d(**arguments(p, np.float64))
    y = gpu.deform_conv2d(**arguments(p, dtype, positions), backend=backend, **options)
    assert y.dtype == (p.x.dtype if dtype is None else dtype)
    return int((y != expected.astype(y.dtype)).sum())


def lifted(call, channels=8):
    """The operator on any channels, by a call on `channels` times as many, most of them zero."""

    def run(x, offset, weight, bias=None, **options):
        of_group = max(weight.shape[1], 1)
        wide = [_spread(a, channels, of_group) for a in (x, weight)]
        return call(wide[0], offset, wide[1], bias, **options)

    return run


def _spread(a, channels, of_group):
    N, C, *size = a.shape
    wide = np.zeros((N, C, channels, *size), a.dtype)
    for c in range(C):
        wide[:, c, c % of_group % channels] = a[:, c]
    return wide.reshape(N, C * channels, *size)
