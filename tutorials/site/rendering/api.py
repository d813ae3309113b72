"""The pages of the public names, in the order of the packages' own lists."""

import importlib
import importlib.util
import inspect
import re
from functools import cache
from pathlib import Path

PACKAGE = "deformable_convnets"
ROOT = Path(__file__).resolve().parents[3]
PACKAGES = {  # with __all__: a section for each module that defines names of it
    "reference": "For a reader of the paper, and for CPUs.",
    "reference.oracle": "Laws that every implementation must keep; for authors of kernels.",
    "gpu": "The same names, on NVIDIA GPUs.",
    "gpu.torch": "The operators in PyTorch, with gradients.",
    "gpu.jax": "The operators in JAX, with gradients.",
}
MODULES = {  # all their names, on one page
    "reference.equations": "The equations as plain loops.",
    "reference.volume_equations": "Those of volumes.",
    "gpu.onnx": "Layers as ONNX models.",
}
FOLDERS = {
    "reference.networks": "Small networks of the paper's layers; a page for each module.",
    "reference.networks.annotations": "Readers of VOC, Cityscapes and COCO.",
}
MOCKED = ("torch", "jax", "jaxlib", "onnx")  # where they are not installed
TABLE = ["| | |", "|---|---|"]


def there(name):
    """Whether a package or module of ours is in this tree."""
    path = ROOT.joinpath(*name.split("."))
    return (path / "__init__.py").is_file() or path.with_suffix(".py").is_file()


def missing():
    """The packages that docstrings are read without."""
    return [name for name in MOCKED if importlib.util.find_spec(name) is None]


def load(name):
    """A package or module of ours, also where what it imports is not installed."""
    from sphinx.ext.autodoc.mock import _MockObject, mock

    _MockObject.__or__ = lambda self, other: self  # as in `Tensor | None`
    with mock(missing()):
        return importlib.import_module(f"{PACKAGE}.{name}")


def modules(folder):
    """The modules of a package that have public names, in alphabetical order."""
    files = sorted(ROOT.joinpath(*folder.split(".")).glob("*.py"))
    names = [f"{folder}.{f.stem}" for f in files if not f.stem.startswith("_")]
    return [name for name in names if defined(name)]


def defined(module):
    """The public functions and classes that a module defines and describes."""
    found = load(module)
    return [
        name for name, value in vars(found).items()
        if not name.startswith("_") and (inspect.isfunction(value) or inspect.isclass(value))
        and value.__module__ == found.__name__ and value.__doc__
    ]  # fmt: skip


@cache
def documented():
    """Every name that has a place on the site, in full."""
    names = set()
    for package in filter(there, PACKAGES):
        found = load(package)
        names |= {package, *(f"{package}.{name}" for name in found.__all__ if own(found, name))}
        names |= {m.removeprefix(f"{PACKAGE}.") for m, _ in sections(found)}
    for module in [*filter(there, MODULES), *FOLDERS, *(m for f in FOLDERS for m in modules(f))]:
        names |= {module, *(f"{module}.{name}" for name in defined(module))}
    return frozenset(f"{PACKAGE}.{name}" for name in names)


def full_name(word, near):
    """What a word in the docstring of `near` names, in full, if it stands elsewhere."""
    if not re.fullmatch(r"[A-Za-z][\w.]*", word):
        return None
    parts = near.split(".")
    homes = [".".join(parts[:i]) for i in range(len(parts), 0, -1)]
    candidates = [f"{home}.{word}" for home in [*homes, f"{PACKAGE}.reference"]]
    return next((c for c in candidates if c in documented() - set(homes)), None)


def own(package, name):
    """Whether a package describes a name of its list; those of other packages stand there."""
    home = getattr(getattr(package, name), "__module__", package.__name__)
    return f"{home}.".startswith(f"{package.__name__}.") or not home.startswith(PACKAGE)


def sections(package):
    """(module, its names in `__all__`), the modules in the order of the package's imports."""
    found = {}
    for name in filter(lambda name: own(package, name), package.__all__):
        value = getattr(package, name)
        is_code = inspect.isfunction(value) or inspect.isclass(value)
        found.setdefault(value.__module__ if is_code else package.__name__, []).append(name)
    order = {module: i for i, module in enumerate(vars_in_order(package))}
    return sorted(found.items(), key=lambda item: order.get(item[0], len(order)))


def vars_in_order(package):
    """The modules that a package imports from, in the order of its source."""
    source = inspect.getsource(package)
    return [f"{package.__name__}.{m}" for m in re.findall(r"^from \.(\w+) import", source, re.M)]


def directive(package, name):
    value = getattr(package, name)
    if inspect.isfunction(value):
        return f".. autofunction:: {name}"
    if inspect.isclass(value):
        members = "" if issubclass(value, tuple) else "\n   :members:"
        return f".. autoclass:: {name}{members}"
    if inspect.ismodule(value):
        return ""  # has a page of its own
    return f".. autodata:: {name}\n   :no-value:"


def rst(*lines):
    return "```{eval-rst}\n" + "\n\n".join(filter(None, lines)) + "\n```\n"


def package_page(package):
    found = load(package)
    out = [f"# {package}\n", f"`{found.__name__}`\n", rst(f".. automodule:: {found.__name__}")]
    for module, names in sections(found):
        head = [f".. currentmodule:: {found.__name__}"]
        if module != found.__name__:
            word = module.removeprefix(f"{found.__name__}.")
            out.append(f"## {word}\n")
            taken = "\n   :no-index:" if word in found.__all__ else ""  # roi_pool is a function too
            head.insert(0, f".. automodule:: {module}{taken}")
        out.append(rst(*head, *(directive(found, name) for name in names)))
    others = [getattr(found, n) for n in found.__all__ if not own(found, n)]
    links = [f"{{py:obj}}`~{PACKAGE}.reference.{value.__name__}`" for value in others]
    return "\n".join([*out, "Of the reference: " + ", ".join(links) + ".\n" if links else ""])


def module_page(module, folder=None):
    """All names of a module; one of a folder is not in the list beside every page."""
    full = f"{PACKAGE}.{module}"
    text = f"# {module}\n\n`{full}`"
    if folder:
        text = f"---\norphan: true\n---\n\n{text}, of [{folder}]({folder}.md)"
    members = "   :members:\n   :member-order: bysource"
    return text + "\n\n" + rst(f".. automodule:: {full}\n{members}")


def folder_page(folder):
    inner = modules(folder)
    rows = [f"| [{m.removeprefix(folder + '.')}]({m}.md) | {first_line(m)} |" for m in inner]
    head = rst(f".. automodule:: {PACKAGE}.{folder}")
    return f"# {folder}\n\n{head}\n" + "\n".join(TABLE + rows) + "\n"


def first_line(module):
    first = (load(module).__doc__ or "").strip().split("\n")[0]
    return re.sub(r"([|*])", r"\\\1", first)


def pages():
    """The text of each page, by its name."""
    made = {name: package_page(name) for name in PACKAGES if there(name)}
    made |= {name: module_page(name) for name in MODULES if there(name)}
    listed = {**PACKAGES, **MODULES, **FOLDERS}
    order = sorted((n for n in listed if there(n)), key=lambda n: (not n.startswith("ref"), n))
    for folder in FOLDERS:
        made |= {folder: folder_page(folder)} | {m: module_page(m, folder) for m in modules(folder)}
    rows = [f"| [{name}]({name}.md) | {listed[name]} |" for name in order]
    toctree = "```{toctree}\n:hidden:\n\n" + "\n".join(order) + "\n```\n"
    text = f"# The packages\n\nNames are imported from `{PACKAGE}`.\n\n"
    return {"index": text + "\n".join(TABLE + rows) + "\n\n" + toctree, **made}
