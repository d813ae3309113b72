"""The sources of the site: a copy of the project's pages, with links between pages."""

import json
import shutil
from pathlib import Path

from rendering import api, equations, sources, table
from rendering.links import Links

HERE = Path(__file__).resolve().parents[1]
ROOT = HERE.parents[1]
DOCUMENTS = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "reference/oracle/README.md",
             "reference/oracle/VECTORS.md", "tutorials/experiments/README.md"]  # fmt: skip
SOURCES = ["reference/*.py", "gpu/numba_kernels/*.py", "gpu/cupy_kernels/*", "gpu/torch/*.py"]
SHOWN = (".py", ".cu", ".cuh")
BELOW = """
```{{toctree}}
:hidden:

{0}
```
"""


def documents(root):
    """The project's pages in Markdown, from the root; those of tutorials/ come in by themselves."""
    tutorials = sorted(p.relative_to(root).as_posix() for p in (root / "tutorials").glob("*.md"))
    return [d for d in DOCUMENTS if (root / d).is_file()] + tutorials


def notebooks(root):
    return sorted(p.relative_to(root).as_posix() for p in (root / "tutorials").glob("*.ipynb"))


def write(root, to):
    """All pages of the tree `root`, in the folder `to`, which is made anew."""
    shutil.rmtree(to, ignore_errors=True)
    rows, texts = table.read(), {}
    links = Links(root, [*documents(root), *notebooks(root)])
    for name in documents(root):
        texts[name] = links.rewrite((root / name).read_text(), name)
    texts["tutorials/README.md"] += BELOW.format("\n".join(_below_tutorials(root)))
    for name in notebooks(root):
        texts[name] = _notebook(root, name, links, rows)
    texts["equations.md"] = equations.page(rows, root)
    first = (HERE / "index.md").read_text()
    texts["index.md"] = first.replace("<!-- equations -->", equations.overview(rows))
    texts |= {f"api/{name}.md": text for name, text in api.pages().items()}
    files = links.wanted | equations.files(rows, root) | _shown(root)
    texts |= _source_pages(root, sorted(files), rows)
    for name, text in texts.items():
        path = to / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for name in links.images:
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / name, to / name)
    return texts


def _below_tutorials(root):
    """What stands below the tutorials, from their folder: notebooks, then the other pages."""
    names = [*notebooks(root), *documents(root)]
    inner = [n.removeprefix("tutorials/") for n in names if n.startswith("tutorials/")]
    return [n.rsplit(".", 1)[0] for n in inner if n != "README.md"]


def _notebook(root, name, links, rows):
    """A notebook with its links rewritten, and under its title what it is about."""
    notebook = json.loads((root / name).read_text())
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = links.rewrite("".join(cell["source"]), name)
        for output in cell.get("outputs", ()):
            if alt := output.get("metadata", {}).get("image/png", {}).get("alt"):
                cell["metadata"]["mystnb"] = {"image": {"alt": alt}}
    title, _, rest = notebook["cells"][0]["source"].partition("\n")
    note = equations.note(rows, Path(name).stem, root)
    notebook["cells"][0]["source"] = f"{title}\n\n{note}\n{rest}"
    return json.dumps(notebook)


def _shown(root):
    """The files that the site shows whether linked to or not."""
    found = [p for pattern in SOURCES for p in root.glob(pattern)]
    return {p.relative_to(root).as_posix() for p in found if p.suffix in SHOWN}


def _source_pages(root, files, rows):
    computed = equations.of_function(rows, root)
    texts, folders = {}, {}
    for file in files:

        def notes(name, file=file):
            these = computed.get((file, name))
            return equations.numbers(these) + "." if these else ""

        texts[f"{sources.docname(file)}.md"] = sources.page(root, file, notes)
        folders.setdefault(str(Path(file).parent), []).append(Path(file).name)
    texts["sources/index.md"] = _index("Sources", folders.pop(".", []), folders)
    for folder, names in folders.items():
        texts[f"sources/{folder}/index.md"] = _index(f"`{folder}`", names)
    return texts


def _index(title, files, folders=()):
    """The page of a folder. Its files are not in the list beside every page: they are many."""
    listed = "\n".join(
        [f"* [{f}]({f}/index.md)" for f in folders] + [f"* [{f}]({f}.md)" for f in files]
    )
    below = "\n".join(f"{f} <{f}/index>" for f in folders)
    return f"# {title}\n\n{listed}\n" + (BELOW.format(below) if folders else "")
