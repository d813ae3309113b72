"""These tests can fail: a board that is broken on purpose, an error in the console, no kernel."""

import nbformat
import numpy as np
import pytest

from browser.board import quiet
from browser.notebooks import opened
from deformable_convnets.reference import sample

BROKEN = """
from dataclasses import replace
import numpy as np
from widgets import drag_p

whole = drag_p(np.arange(12.0).reshape(3, 4))

def raises(handles, options):
    if handles[0, 1] > 2:
        raise ValueError("broken on purpose")
    return whole.draw(handles, options)

def forgets(handles, options):
    return whole.draw(whole.start, options)
"""


@pytest.fixture
def written(lab):
    """A notebook with a board whose `draw` is the function of this name."""
    made = []

    def write(name):
        new = nbformat.v4.new_code_cell
        cells = [new(BROKEN), new(f"replace(whole, draw={name}).play()")]
        cells[1].metadata["tags"] = ["widget"]
        notebook = nbformat.v4.new_notebook(cells=cells)
        notebook.metadata["kernelspec"] = {"display_name": "Python 3", "name": "python3"}
        nbformat.write(notebook, lab.folder / f"{name}.ipynb")
        made.append(lab.folder / f"{name}.ipynb")
        return name

    yield write
    for path in made:
        path.unlink()


def test_a_callback_that_raises_is_reported(page, lab, written):
    """A callback that raises: its error is shown, fails a test, and goes with the next move."""
    with opened(page, lab, written("raises")) as board:
        board.state()
        with pytest.raises(AssertionError, match="ValueError: broken on purpose"):
            board.drag(0, 100, 0)
        p = np.array(board.drag(0, -100, 0)["handles"], float)
        assert p[0, 1] < 2


def test_a_callback_that_forgets_is_seen(page, lab, written):
    """A callback that does not use the place: the value on the board is not the library's."""
    x = np.arange(12.0).reshape(1, 3, 4)
    with opened(page, lab, written("forgets")) as board:
        for right, is_right in ((0, True), (60, False)):
            state = board.drag(0, right, 0)
            value = sample(x, np.array(state["handles"], float))[0, 0]
            assert (abs(float(state["readout"]["x(p)"]) - value) < 6e-4) == is_right


def test_an_error_in_the_console_is_seen(page):
    """An error in the console of the browser, and an exception of a script, each fail a test."""

    def heard(script):
        with quiet(page):
            page.evaluate(script)
            page.wait_for_timeout(200)

    for script in ("console.error('spoilt')", "setTimeout(() => { throw Error('spoilt') })"):
        with pytest.raises(AssertionError, match="spoilt"):
            heard(script)


def test_a_kernel_that_is_busy_is_mentioned(page, lab, written):
    """While the kernel is busy the board says so after five seconds, and catches up later."""
    with opened(page, lab, written("forgets")) as board:
        page.evaluate(
            """() => {
              const {content, sessionContext} = window.jupyterapp.shell.currentWidget;
              sessionContext.session.kernel.requestExecute({code: 'import time; time.sleep(9)'});
            }"""
        )
        board.handle(0).focus()
        page.keyboard.press("ArrowRight")
        board.root.get_by_text("The kernel does not answer").wait_for()
        assert board.state()["error"] == ""
