"""Chromium without a network, and the record of a run of `make test-site`.

Without SITE, the folder of the site's pages, no test of this folder is collected.
"""

import datetime
import io
import json
import os
import platform
from importlib import metadata
from pathlib import Path

import pytest
from browser.conftest import OPTIONS, OUTCOMES, chromium

SITE = os.environ.get("SITE")
RECORD = os.environ.get("SITE_RECORD")
collect_ignore_glob = [] if SITE else ["test_*.py"]
COMMITTED = Path(__file__).resolve().parent / "screenshots"
SHOWN = {  # the pages whose screenshots are committed
    "index.html": "index", "equations.html": "equations",
    "tutorials/07_roi_pooling.html": "notebook", "api/reference.html": "reference",
    "sources/gpu/cupy_kernels/deform_conv.cu.html": "kernel",
}  # fmt: skip
PACKAGES = ("sphinx", "myst-nb", "furo", "sphinx-mathjax-offline", "playwright")
MADE = {"chromium": None, "pages": 0}


@pytest.fixture(scope="session")
def site():
    return Path(SITE).resolve()


@pytest.fixture(scope="session")
def context():
    """A browser that is offline: only files of this machine are seen."""
    path = chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        window = playwright.chromium.launch(executable_path=path, args=OPTIONS)
        MADE["chromium"] = window.version
        context = window.new_context(offline=True, color_scheme="light")
        context.set_default_timeout(60_000)
        yield context
        window.close()


@pytest.fixture(scope="session")
def keep(site):
    """Keeps a screenshot of every page beside the site, and of a few here, in 64 colours."""
    from PIL import Image

    folder = site.parent / "screenshots"

    def keep(name, page, size):
        to = folder / f"{name.replace('/', '.').removesuffix('.html')}.{size}.png"
        to.parent.mkdir(exist_ok=True)
        picture = page.screenshot()
        to.write_bytes(picture)
        MADE["pages"] += 1
        if RECORD and name in SHOWN:
            COMMITTED.mkdir(exist_ok=True)
            image = Image.open(io.BytesIO(picture)).convert("RGB").quantize(64)
            image.save(COMMITTED / f"{SHOWN[name]}_{size}.png", optimize=True)

    return keep


def pytest_terminal_summary(terminalreporter):
    if not RECORD or MADE["chromium"] is None:
        return
    counts = {name: len(terminalreporter.stats.get(name, ())) for name in OUTCOMES}
    versions = {"python": platform.python_version(), "chromium": MADE["chromium"]}
    made = {
        "date": datetime.date.today().isoformat(),
        "versions": versions | {name: metadata.version(name) for name in PACKAGES},
        "built": json.loads((Path(SITE).parent / "built.json").read_text()),
        "screenshots": MADE["pages"],
        "tests": counts,
    }
    Path(RECORD).write_text(json.dumps(made, indent=2) + "\n")
