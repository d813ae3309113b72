"""JupyterLab as `make lab` starts it, on a copy of the tutorials, and with settings of its own."""

import contextlib
import json
import os
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[2]
TUTORIALS = ROOT / "tutorials"
HOMES = {
    "HOME": "home", "JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data",
    "JUPYTER_RUNTIME_DIR": "runtime", "JUPYTERLAB_SETTINGS_DIR": "settings",
    "JUPYTERLAB_WORKSPACES_DIR": "workspaces", "IPYTHONDIR": "ipython",
}  # fmt: skip


class Lab:
    """A running JupyterLab: its address, its secret and the folder that it serves."""

    def __init__(self, port, folder):
        self.address, self.folder = f"http://127.0.0.1:{port}", folder
        self.token = secrets.token_hex(16)

    def forget(self):
        """The tabs that were open."""
        for workspace in (self.folder.parent / HOMES["JUPYTERLAB_WORKSPACES_DIR"]).iterdir():
            workspace.unlink()

    def url(self, path=""):
        return f"{self.address}/{path}?token={self.token}"


def copied(to):
    """A copy of the tutorials, its notebooks made anew from their sources and not executed."""
    ignored = shutil.ignore_patterns("*.ipynb", "__pycache__", ".*")
    shutil.copytree(TUTORIALS, to, ignore=ignored)
    sys.path.insert(0, str(to))
    try:
        import build
    finally:
        sys.path.remove(str(to))
    for source in sorted((to / "src").glob("*.py")):
        nbformat.write(build.read(source), to / f"{source.stem}.ipynb")
    return to


def command(lab, port):
    """What `make lab` runs, with this Python and on that copy."""
    listed = subprocess.run(
        ["make", "--no-print-directory", "-n", "lab"], cwd=ROOT, capture_output=True, text=True,
        check=True,
    ).stdout  # fmt: skip
    recipe = listed.replace("\\\n", " ").strip().splitlines()[-1]
    before, after = recipe.split("/bin/jupyter lab ")
    before = before.rsplit(" ", 1)[0]
    options = f"--no-browser --allow-root --ServerApp.port={port} --ServerApp.port_retries=0"
    options += f" --IdentityProvider.token={lab.token} --LabApp.expose_app_in_browser=True"
    after = after.replace("tutorials", shlex.quote(str(lab.folder)))
    return f"{before} exec {shlex.quote(sys.executable)} -m jupyter lab {options} {after}"


@contextlib.contextmanager
def running(folder):
    """JupyterLab on a free port, in folders of its own; it ends with the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    lab = Lab(port, copied(folder / "tutorials"))
    homes = {name: str(folder / at) for name, at in HOMES.items()}
    for home in homes.values():
        Path(home).mkdir()
    env = {k: v for k, v in os.environ.items() if not k.startswith("JUPYTER")} | homes
    with open(folder / "log", "w") as log:
        words = ["sh", "-c", command(lab, port)]
        process = subprocess.Popen(words, cwd=ROOT, env=env, stdout=log, stderr=log)
        try:
            wait(lab, process, folder / "log")
            yield lab
        finally:
            process.terminate()
            process.wait(30)


def wait(lab, process, log, seconds=60):
    """Until it answers."""
    for _ in range(4 * seconds):
        if process.poll() is not None:
            break
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            with urllib.request.urlopen(lab.url("api/status")) as answer:
                json.load(answer)
            return
        time.sleep(0.25)
    raise RuntimeError(f"JupyterLab does not answer:\n{log.read_text()[-2000:]}")
