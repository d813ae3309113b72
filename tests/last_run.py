"""The record of a run of tests beside `make test`: when, of what, with what, and how it went."""

import datetime
import json
import platform
import subprocess
from importlib import metadata
from pathlib import Path

OUTCOMES = ("passed", "failed", "error", "skipped")


def versions(packages):
    """The version of each package that is installed."""
    found = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit():
    """The commit of this checkout, and whether files of it had changed since."""

    def git(*words):
        return subprocess.run(
            ["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + " and changes" * bool(git("diff", "HEAD"))
    except (OSError, subprocess.CalledProcessError):
        return "no git"


def write(path, terminalreporter, packages, gpu):
    """The reports of a run are complete when the terminal's summary is written."""
    made = {
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
        "versions": versions(packages),
        "GPU": gpu,
        "tests": {name: len(terminalreporter.stats.get(name, ())) for name in OUTCOMES},
    }
    Path(path).write_text(json.dumps(made, indent=2) + "\n")
