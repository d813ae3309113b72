"""Make the notebooks from their sources: `python tutorials/build.py [name ...]`.

The sources are `src/*.py`. Every `NN_name.ipynb` is executed in this folder and written so that it
depends on nothing but the source and the library: no times, no machine, fixed cell names.
"""

import os
import sys
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

# On arrays this small a second thread of OpenBLAS costs more than it does, and on a busy machine
# one that waits for it can take minutes. The kernels inherit it.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

HERE = Path(__file__).resolve().parent
SOURCES = sorted((HERE / "src").glob("*.py"))
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def read(source):
    """The notebook of a source, not executed."""
    notebook = jupytext.reads(Path(source).read_text(encoding="utf-8"), fmt="py:percent")
    notebook.metadata = nbformat.from_dict(METADATA)
    for i, cell in enumerate(notebook.cells):
        cell.id = f"cell-{i}"
        cell.metadata = nbformat.from_dict({k: v for k, v in cell.metadata.items() if k == "tags"})
    return notebook


def tagged(cell, *tags):
    return bool(set(tags) & set(cell.metadata.get("tags", ())))


def execute(notebook, skip=()):
    """Run all cells but those with one of the tags `skip`; an error in a cell raises."""
    for cell in notebook.cells:
        if cell.cell_type == "code" and tagged(cell, *skip):
            cell.metadata.setdefault("tags", []).append("skip-execution")
    options = {"timeout": 120, "record_timing": False, "coalesce_streams": True}
    NotebookClient(notebook, resources={"metadata": {"path": str(HERE)}}, **options).execute()
    return notebook


def main(names):
    for source in SOURCES:
        if names and source.stem not in names:
            continue
        notebook = execute(read(source), skip=("widget",))
        for cell in notebook.cells:
            if tagged(cell, "skip-execution"):
                cell.metadata["tags"].remove("skip-execution")
        notebook.metadata = nbformat.from_dict(METADATA)
        nbformat.write(notebook, HERE / f"{source.stem}.ipynb")
        print(f"{source.stem}: {len(notebook.cells)} cells")


if __name__ == "__main__":
    main(sys.argv[1:])
