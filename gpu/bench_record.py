"""The record of a run of `bench`: a JSON file, written anew after each case.

So a run that is killed leaves what it had; its record says "complete": false.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from . import arrays
from .clocks import Clock
from .cupy_kernels import choices

FOLDER = Path("gpu/results")
FORMAT = 2
PACKAGES = (
    "deformable-convnets numpy scipy numba numba-cuda cupy-cuda13x cupy-cuda12x ml_dtypes torch"
    " torchvision deformops triton nvidia-cublas nvidia-cudnn-cu13 nvidia-cuda-nvrtc"
)
CLOCKS = (
    "clocks.sm clocks.mem clocks.max.sm temperature.gpu power.draw utilization.gpu memory.used"
    " pstate"
)
Run = Callable[[list[str]], str | None]  # a command's output, or None where it fails
Data = dict[str, Any]


class Record:
    """`data`, and the file that it is kept in."""

    def __init__(self, path: Path, data: Data):
        self.path = path
        self.data: Data = {"format": FORMAT, "complete": False, **data, "rows": [], "errors": []}

    def add(self, kind: str, rows: Iterable[Data]) -> None:
        """Rows of a kind, "rows" or "errors"."""
        self.data[kind].extend(rows)
        self.write()

    def write(self) -> None:
        """Whole or not at all."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_suffix(f".{os.getpid()}.part")
        beside.write_text(json.dumps(self.data, indent=1) + "\n")
        os.replace(beside, self.path)


def path_of(output: Path, device: str, date: str) -> Path:
    """A file of its own for each run, but where one is named."""
    if output.suffix == ".json":
        return output
    slug = re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")
    return output / f"{slug}-{date[:19].replace(':', '')}.json"


def newest_of_each(folder: Path = FOLDER) -> list[Data]:
    """The newest record of each device in a folder, by the device's name; or that of a file."""
    paths = [folder] if folder.is_file() else sorted(folder.glob("*.json"))
    records = [json.loads(path.read_text()) | {"path": path.as_posix()} for path in paths]
    good = [r for r in records if r.get("format") == FORMAT and r["clock"] != "wall clock"]
    latest = {r["device"]: r for r in sorted(good, key=lambda r: str(r["date"]))}
    return [latest[device] for device in sorted(latest)]


def newest(folder: Path = FOLDER) -> Data | None:
    """The newest record of any device; None where there is none."""
    return max(newest_of_each(folder), key=lambda r: str(r["date"]), default=None)


def output_of(command: list[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def environment(clock: Clock, run: Run = output_of) -> Data:
    """What a reader needs to judge or repeat the numbers."""
    driver = run(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"])
    return {
        "device": clock.device,
        "clock": clock.kind,
        "simulator": arrays.simulated(),
        "choices": choices.origin(clock.device),
        "driver": driver.splitlines()[0] if driver else None,
        "cuda_runtime": _cuda_runtime(),
        "python": sys.version.split()[0],
        "versions": {package: _version(package) for package in PACKAGES.split()},
        "commit": commit(run),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "before": state(run),
    }


def commit(run: Run = output_of) -> str | None:
    """Of this checkout, "and changes" where files of gpu/ or reference/ differ from it."""
    git = ["git", "-C", str(Path(__file__).resolve().parents[1])]
    found = run([*git, "rev-parse", "--short=12", "HEAD"])
    if not found:
        return None
    changed = run([*git, "status", "--porcelain", "gpu", "reference"])
    return found + (" and changes" if changed else "")


def state(run: Run = output_of) -> Data:
    """The clocks of the device and the load of the machine, now."""
    said = run(["nvidia-smi", f"--query-gpu={','.join(CLOCKS.split())}", "--format=csv,noheader"])
    values = said.splitlines()[0].split(", ") if said else []
    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    return {"load": load} | dict(zip(CLOCKS.split(), values, strict=False))


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cuda_runtime() -> int | None:
    cupy = sys.modules.get("cupy")
    try:
        return None if cupy is None else int(cupy.cuda.runtime.runtimeGetVersion())
    except Exception:  # no device, or no runtime: the record says null
        return None
