"""A notebook up to its widget: in the page, and once more here, for what must be shown."""

import contextlib
import io
import sys

import nbformat

from browser.board import PageBoard, quiet


def before_widget(notebook):
    """The code cells in front of the first widget that can be run again without a learner."""
    cells = notebook.cells[: position(notebook)]
    code = [c for c in cells if c.cell_type == "code"]
    return [c for c in code if "timing" not in c.metadata.get("tags", ())]


def position(notebook):
    """The number of the first widget cell."""
    tags = [c.metadata.get("tags", ()) for c in notebook.cells]
    return next(i for i, t in enumerate(tags) if "widget" in t)


def variables(lab, name):
    """What the cells in front of the widget leave behind, run in this process."""
    notebook = nbformat.read(lab.folder / f"{name}.ipynb", as_version=4)
    scope = {"display": lambda *_: None}
    sys.path.insert(0, str(lab.folder))
    try:
        with contextlib.chdir(lab.folder), contextlib.redirect_stdout(io.StringIO()):
            for cell in before_widget(notebook):
                exec(cell.source, scope)
    finally:
        sys.path.remove(str(lab.folder))
    return scope


@contextlib.contextmanager
def opened(page, lab, name):
    """The board of a notebook, after all cells up to it have been run; the console stays empty."""
    notebook = nbformat.read(lab.folder / f"{name}.ipynb", as_version=4)
    with quiet(page):
        page.goto(lab.url(f"lab/tree/{name}.ipynb") + "&reset")
        ready(page, name)
        page.evaluate(
            """async i => {
              const app = window.jupyterapp;
              app.shell.currentWidget.content.activeCellIndex = i;
              await app.commands.execute('notebook:run-all-above');
              app.shell.currentWidget.content.activeCellIndex = i;
              await app.commands.execute('notebook:run-cell');
            }""",
            position(notebook),
        )
        board = PageBoard(page)
        board.root.scroll_into_view_if_needed()
        yield board
        page.evaluate("() => window.jupyterapp.commands.execute('kernelmenu:shutdown')")


def ready(page, name):
    """Until the notebook is in front and its kernel idle."""
    page.wait_for_function(
        """name => {
          const panel = window.jupyterapp?.shell.currentWidget;
          const kernel = panel?.sessionContext?.session?.kernel;
          return panel?.context?.path === name && kernel?.status === 'idle';
        }""",
        arg=f"{name}.ipynb",
    )
