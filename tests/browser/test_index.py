"""What `make lab` opens."""

import json
import re

from browser.board import quiet
from browser.lab import TUTORIALS


def test_the_index(page, lab, picture):
    """The index opens as a rendered page; its links are the notebooks, and the first one opens."""
    links = re.findall(r"\((\d\d_\w+\.ipynb)\)", (TUTORIALS / "README.md").read_text())
    lab.forget()
    with quiet(page):
        page.goto(lab.url())
        index = page.locator(".jp-MarkdownViewer")
        index.locator("h1").wait_for()
        assert "/lab/tree/README.md" in page.url
        anchors = index.locator("a[href*='.ipynb']")
        assert anchors.count() >= len(links)
        picture(page, "index")
        anchors.first.click()
        page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-MarkdownOutput h1").first.wait_for()
    named = page.evaluate("() => window.jupyterapp.shell.currentWidget.context.path")
    assert named == links[0]


def test_the_first_screen_is_clean(page, lab):
    """No question about news covers the index, and the settings of the user stay as they were."""
    lab.forget()
    page.goto(lab.url())
    page.locator(".jp-MarkdownViewer h1").wait_for()
    page.wait_for_timeout(1500)
    assert page.locator(".Toastify__toast").count() == 0
    overrides = json.loads((TUTORIALS / "labconfig/default_setting_overrides.json").read_text())
    assert set(overrides) == {
        "@jupyterlab/docmanager-extension:plugin", "@jupyterlab/apputils-extension:notification",
    }  # fmt: skip
