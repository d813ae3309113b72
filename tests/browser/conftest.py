"""Chromium, JupyterLab and its pages; the pictures and the record of a run of `make test-browser`.

Without BROWSER_RECORD, which names the file of the record, no test of this folder is collected.
"""

import datetime
import io
import json
import os
import platform
import shutil
from importlib import metadata
from pathlib import Path

import pytest

RECORD = os.environ.get("BROWSER_RECORD")
collect_ignore_glob = [] if RECORD else ["test_*.py"]
SCREENSHOTS = Path(__file__).resolve().parent / "screenshots"
PACKAGES = ("jupyterlab", "anywidget", "ipywidgets", "ipykernel", "playwright", "numpy")
NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
OPTIONS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
]
OUTCOMES = ("passed", "failed", "error", "skipped")
MADE = {"chromium": None, "did": []}


def chromium():
    """The path of the browser; the run ends here where there is none."""
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if path is None or not os.access(path, os.X_OK):
        pytest.exit(
            f"no Chromium ({path or ', '.join(NAMES)}): apt install chromium, or say where it is: "
            "make test-browser CHROMIUM=/path/to/it. Nothing has been tested.", 1,
        )  # fmt: skip
    return path


@pytest.fixture(scope="session")
def browser():
    path = chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        window = playwright.chromium.launch(executable_path=path, args=OPTIONS)
        MADE["chromium"] = window.version
        yield window
        window.close()


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    chromium()
    from browser.lab import running

    with running(tmp_path_factory.mktemp("lab")) as server:
        yield server


@pytest.fixture
def page(browser):
    """A new window. What a test did is its docstring, once it has passed."""
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    context.set_default_timeout(60_000)
    yield context.new_page()
    context.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.when == "call" and report.passed:
        words = " ".join(item.function.__doc__.split())
        MADE["did"].append(f"{item.name}: {words}")
    return report


@pytest.fixture
def picture():
    """Keeps a screenshot, in 128 colours."""

    def keep(target, name):
        from PIL import Image

        SCREENSHOTS.mkdir(exist_ok=True)
        image = Image.open(io.BytesIO(target.screenshot())).convert("RGB").quantize(128)
        image.save(SCREENSHOTS / f"{name}.png", optimize=True)
        assert (SCREENSHOTS / f"{name}.png").stat().st_size <= 150_000

    return keep


def pytest_terminal_summary(terminalreporter):
    counts = {name: len(terminalreporter.stats.get(name, ())) for name in OUTCOMES}
    if not RECORD or MADE["chromium"] is None:
        return
    versions = {"python": platform.python_version(), "chromium": MADE["chromium"]}
    made = {
        "date": datetime.date.today().isoformat(),
        "versions": versions | {name: metadata.version(name) for name in PACKAGES},
        "tests": counts,
        "did": MADE["did"],
    }
    Path(RECORD).write_text(json.dumps(made, indent=2, ensure_ascii=False) + "\n")
