"""How long the networks of Table 4 take at full size, beside PyTorch's ResNet-101 where it is.

    make bench-networks [PEERS=torchvision]

Medians of `--rounds` forward passes in one process on two threads, all in turn: images 600 x 1000,
random weights, offsets of about a pixel. OpenBLAS chooses its kernels by the name of the
processor, and takes those of AVX2 for one that it does not know; where AVX-512 is there and not
taken, all is measured again with OPENBLAS_CORETYPE=SkylakeX. The results go to
`results/full_networks.json`, and with PyTorch into the README.
"""

import argparse
import json
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from deformable_convnets.reference.networks import count, runtime
from deformable_convnets.reference.networks.tape import Tape

from . import report
from .cpu import THREADS, machine

RESULTS = Path(__file__).parent / "results" / "full_networks.json"
SIZE = (600, 1000)
ROWS = ("DeepLab, 21 classes", "Faster R-CNN", "R-FCN, as released")
DEEPLAB, TORCH = "DeepLab, 21 classes", "PyTorch, ResNet-101 up to res5"


def own_kernels() -> str:
    """The name of the processor whose kernels OpenBLAS has taken, or "unknown"."""
    import ctypes

    folder = Path(np.__file__).parent.parent / "numpy.libs"
    for path in sorted(folder.glob("*openblas*")):
        asked = getattr(ctypes.CDLL(str(path)), "scipy_openblas_get_corename64_", None)
        if asked is not None:
            asked.restype = ctypes.c_char_p
            return str(asked().decode())
    return "unknown"


def has_avx512() -> bool:
    """Whether the processor has what SkylakeX's kernels need."""
    info = Path("/proc/cpuinfo")
    return info.exists() and "avx512vl" in info.read_text()


def calls(size: tuple[int, int] = SIZE, rows: tuple[str, ...] = ROWS) -> dict[str, runtime.Call]:
    """What is timed: net forward and runtime of each row, plain and deformable."""
    found: dict[str, runtime.Call] = {}
    for row in count.ROWS:
        if row.name in rows:
            plain = row.make(np.random.default_rng(0))
            for kind, net in (("plain", plain), ("deformable", count.converted(row, plain))):
                forward, whole = runtime.works(runtime.with_offsets(net), size)
                found |= {f"{row.name}, {kind}, net forward": forward,
                          f"{row.name}, {kind}, runtime": whole}  # fmt: skip
    return found


def torch_trunk(size: tuple[int, int] = SIZE) -> runtime.Call:
    """ResNet-101 of torchvision without its head, res5 of stride 16 and dilation 2."""
    import torch
    from torchvision.models import resnet101

    torch.set_num_threads(THREADS)
    net = resnet101(weights=None, replace_stride_with_dilation=[False, False, True]).eval()
    body = torch.nn.Sequential(*list(net.children())[:-2])
    image = torch.randn(1, 3, *size)

    def forward() -> object:
        with torch.inference_mode():
            return body(image)

    return forward


def gigabytes(build: Callable[[], Any], size: tuple[int, int] = SIZE) -> float:
    """The peak of NumPy's memory while a network is built and called once, weights included."""
    tracemalloc.start()
    build()(Tape(), np.zeros((1, 3, *size), np.float32))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return round(peak / 1e9, 2)


def deformable_deeplab() -> Any:
    """The network whose memory is measured."""
    row = next(row for row in count.ROWS if row.name == DEEPLAB)
    return count.converted(row, row.make(np.random.default_rng(0)))


def child(rounds: int) -> dict[str, Any]:
    """All of one process: with the kernels that OpenBLAS takes in it."""
    wanted = calls()
    if find_spec("torch") and find_spec("torchvision"):
        wanted[TORCH] = torch_trunk()
    taken = runtime.timed(wanted, rounds)
    seconds, least = (
        {name: round(of(each), 3) for name, each in taken.items()} for of in (median, min)
    )
    return {"kernels": own_kernels(), "seconds": seconds, "least": least,
            "targets": targets(seconds)}  # fmt: skip


def targets(seconds: dict[str, float]) -> list[dict[str, Any]]:
    """The ratios that are asked for; without PyTorch the first is not measured."""
    plain, ours = (seconds[f"{DEEPLAB}, {kind}, net forward"] for kind in ("plain", "deformable"))
    ratios = [("DeepLab, plain / PyTorch's trunk", 1.5, plain / seconds[TORCH])] if (
        TORCH in seconds) else []  # fmt: skip
    ratios.append(("DeepLab, deformable / plain", 1.1, ours / plain))
    return [
        {"what": what, "at most": most, "measured": round(ratio, 3), "met": ratio <= most}
        for what, most, ratio in ratios
    ]


def measured(rounds: int, kernels: str | None) -> dict[str, Any]:
    """`child` in a process of its own, with chosen kernels."""
    threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), str(THREADS))
    chosen = {"OPENBLAS_CORETYPE": kernels} if kernels else {}
    words = [sys.executable, "-m", "bench.full_networks", "--child", "--rounds", str(rounds)]
    done = subprocess.run(
        words, env=os.environ | threads | chosen, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m bench.full_networks")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(child(given.rounds)))
        return
    load = round(os.getloadavg()[0], 2)
    runs = [measured(given.rounds, None)]
    if has_avx512() and runs[0]["kernels"] != "SkylakeX":
        runs.append(measured(given.rounds, "SkylakeX"))
    packages = ["numpy", "scipy", *(name for name in ("torch", "torchvision") if find_spec(name))]
    results = {
        "load before": load, "rounds": given.rounds, "image": SIZE, "runs": runs,
        "peak GB, deformable DeepLab": gigabytes(deformable_deeplab),
    } | machine(None, *packages)  # fmt: skip
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    if find_spec("torch") and find_spec("torchvision"):
        report.write_section("networks", results)
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
